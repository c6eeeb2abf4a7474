"""psycopg 3, which prepares a statement on the server once it has run it some times; see staying.py."""

import datetime
import sys

import psycopg

import staying

INSERT = "insert into taken (%s) values (%s)" % (staying.COLUMNS, ", ".join(["%s"] * 10))
MOMENT = staying.MOMENT.replace(tzinfo=datetime.timezone.utc)


def parameters(case):
    if case.tls in ("disable", "require"):
        # What libpq would do by itself, were it not for the word.
        yield from {"sslmode": case.tls, "channel_binding": "disable"}.items()
        return
    yield from {"sslmode": "verify-full", "sslrootcert": case.authority}.items()
    if case.tls == "bound":
        yield "channel_binding", "require"
    if case.tls == "direct":
        yield "sslnegotiation", "direct"
    if case.tls == "certificate":
        yield from {"sslcert": case.certificate, "sslkey": case.key}.items()


class Session:
    def __init__(self, case, at):
        self.case, self.at = case, at
        self.connection = psycopg.connect(
            host=case.host,
            port=case.port,
            user=case.user,
            password=case.password or None,
            dbname=case.database,
            autocommit=True,
            gssencmode="disable",
            **dict(parameters(case)),
        )

    def work(self, number):
        row = staying.values(self.case, self.at, number, MOMENT)
        with self.connection.transaction():
            self.connection.execute(INSERT, row)
            try:
                with self.connection.transaction():
                    self.connection.execute(INSERT, row)
                raise AssertionError("the same row twice")
            except psycopg.errors.UniqueViolation:
                pass
            with self.connection.cursor(name="rows_of_many") as cursor:
                cursor.itersize = 60
                cursor.execute("select id, body from many where id > %s order by id", (0,))
                assert [row[0] for row in cursor] == list(range(1, staying.MANY + 1))
            with self.connection.pipeline():
                mine = "select count(*) from taken where driver = %s and session = %s"
                counted = self.connection.execute(mine, row[:2])
                last = self.connection.execute("select amount, body, moment from taken where driver = %s and session = %s and number = %s", row[:3])
            assert counted.fetchone() == (number,)
            assert last.fetchone() == (row[3], row[6], row[8])

    def close(self):
        self.connection.close()


staying.stay(staying.Case(*sys.argv[1:]), Session)
