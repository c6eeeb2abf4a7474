"""What the scripts of Python's drivers that stay connected share.

    SCRIPT NAME HOST PORT USER PASSWORD DATABASE TLS AUTHORITY CERTIFICATE KEY

TLS is disable, require, verify-full, or more than that one: bound (SCRAM is bound to the certificate), direct (TLS from
the first byte on) or certificate (the client shows one). AUTHORITY, CERTIFICATE and KEY are files, or empty.

Each session makes one transaction after another and counts those whose commit was answered. The script writes `ready`
once every session has made some, and `progress` for each line `progress` on its standard input, once every session has
begun and ended one since. The line `stop` has it end, and `acknowledged N, errors E` is its last word. An error that is
not part of the work is written, counted, and the end of its session.
"""

import collections
import datetime
import decimal
import sys
import threading
import time

SESSIONS = 3
# So many that a driver which prepares what it has seen some times has done so.
READY = 7
# The rows of the table `many`.
MANY = 500
# What an application does besides, in seconds.
THINKS = 0.3

Case = collections.namedtuple("Case", "name host port user password database tls authority certificate key")


def values(case, session, number, moment):
    """One row of the table `taken`: values of several types, each of which follows from the number."""
    return (
        case.name,
        session,
        number,
        decimal.Decimal(number) * decimal.Decimal("1.25"),
        number / 4,
        number % 2 == 0,
        number.to_bytes(4, "big"),
        "zwölf %d" % number,
        moment + datetime.timedelta(seconds=number),
        None,
    )


MOMENT = datetime.datetime(2024, 2, 29, 12)
COLUMNS = "driver, session, number, amount, ratio, even, body, note, moment, absent"


def stay(case, open_session):
    """`open_session` makes a session from the case and its own number; its `work` is one transaction."""
    lock = threading.Lock()
    counts, errors, stop = [0] * SESSIONS, [0], threading.Event()
    target = [[READY] * SESSIONS, "ready"]

    def live(at):
        try:
            session = open_session(case, at)
            while not stop.is_set():
                session.work(counts[at] + 1)
                with lock:
                    counts[at] += 1
                    if target[1] and all(count >= least for count, least in zip(counts, target[0])):
                        print(target[1], flush=True)
                        target[1] = None
                time.sleep(THINKS)
            session.close()
        except BaseException as error:
            with lock:
                errors[0] += 1
                print("error in transaction %d of session %d: %r" % (counts[at] + 1, at, error), flush=True)

    threads = [threading.Thread(target=live, args=(at,)) for at in range(SESSIONS)]
    for thread in threads:
        thread.start()
    for line in sys.stdin:
        if line == "stop\n":
            break
        with lock:
            # The one that is under way may have begun before.
            target[:] = [[count + 2 for count in counts], "progress"]
    stop.set()
    for thread in threads:
        thread.join()
    print("acknowledged %d, errors %d" % (sum(counts), errors[0]), flush=True)
