"""What an application does with a Python driver, told line by line, with one pause in the middle.

    dbapi.py DRIVER HOST PORT USER PASSWORD DATABASE FILE

DRIVER is pymysql, mysqlclient or connector. FILE holds rows for LOCAL INFILE. Everything that it prints must be the
same whether it talks to a server or through something that claims to be one; at the line PAUSE it waits for a line on
its standard input. An error that is not part of the script ends it.
"""

import decimal
import sys
import threading
import time


class Driver:
    """The three drivers under one roof, as far as the script needs them."""

    def __init__(self, name, host, port, user, password, database):
        self.name = name
        self.login = dict(host=host, port=int(port), user=user, password=password, database=database)

    def connect(self, autocommit):
        if self.name == "pymysql":
            import pymysql

            flag = pymysql.constants.CLIENT.MULTI_STATEMENTS
            return pymysql.connect(**self.login, autocommit=autocommit, local_infile=True, client_flag=flag)
        if self.name == "mysqlclient":
            import MySQLdb

            return MySQLdb.connect(**self.login, autocommit=autocommit, local_infile=1, charset="utf8mb4")
        import mysql.connector

        return mysql.connector.connect(**self.login, autocommit=autocommit, allow_local_infile=True, use_pure=True)

    def prepared(self, connection):
        """A cursor that uses the binary protocol, where the driver has one."""
        if self.name == "connector":
            return connection.cursor(prepared=True)
        return connection.cursor()

    def results(self, connection, cursor, procedure):
        """Every row of every result of a procedure."""
        if self.name == "connector":
            cursor.callproc(procedure)
            return [row for result in cursor.stored_results() for row in result.fetchall()]
        cursor.execute("CALL " + procedure + "()")
        rows = list(cursor.fetchall())
        while cursor.nextset():
            rows.extend(cursor.fetchall() if cursor.description else ())
        return rows

    def identity(self, connection):
        if self.name == "connector":
            return connection.connection_id
        return connection.thread_id()

    def change_user(self, connection):
        if self.name == "pymysql":
            return False
        user, password, database = (self.login[key] for key in ("user", "password", "database"))
        if self.name == "connector":
            connection.cmd_change_user(user, password, database)
        else:
            connection.change_user(user, password, database)
        return True


def plain(value):
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return str(value)
    return value


def tell(what, rows):
    print(what, [tuple(plain(value) for value in row) for row in rows], flush=True)


def ask(connection, what, sql, values=None, cursor=None):
    cursor = cursor or connection.cursor()
    cursor.execute(sql, values) if values is not None else cursor.execute(sql)
    if cursor.description:
        tell(what, cursor.fetchall())
    else:
        tell(what, [(cursor.rowcount, cursor.lastrowid)])


def kill_a_query(driver, connection):
    """Ends a long statement from another connection, and tells how it ended."""
    other = driver.connect(True)
    ended = []

    def run():
        try:
            cursor = connection.cursor()
            cursor.execute("SELECT SLEEP(20) FROM drv_many WHERE id < 20")
            ended.append(("rows", len(cursor.fetchall())))
        except Exception as error:
            ended.append(("error", error.args[0]))

    thread = threading.Thread(target=run)
    thread.start()
    begin = time.monotonic()
    # The statement must be under way before it can be ended; killing a session that is idle does nothing.
    while not ended and time.monotonic() - begin < 15:
        cursor = other.cursor()
        cursor.execute("KILL QUERY %d" % driver.identity(connection))
        thread.join(0.05)
    thread.join()
    other.close()
    print("killed", ended, flush=True)
    # What was pending may hit the next statement of the same session.
    for _ in range(3):
        try:
            cursor = connection.cursor()
            cursor.execute("SELECT 1")
            cursor.fetchall()
        except Exception as error:
            if error.args[0] != 1317:
                raise


def half(driver, auto, manual, prepared, number):
    """Everything once; `number` tells the halves apart."""
    ask(auto, "text", "SELECT %s + 1, 'é', NULL, CAST(1.50 AS DECIMAL(6,2))", (number,))
    ask(auto, "insert", "INSERT INTO drv_rows (half, note) VALUES (%s, %s)", (number, "one"))
    ask(auto, "id", "SELECT LAST_INSERT_ID() > 0")
    for value in (1, 2):
        ask(auto, "prepared", "SELECT half, note FROM drv_rows WHERE half <= %s ORDER BY id", (number,), cursor=prepared)
        ask(auto, "bound", "SELECT %s, %s", (value, "zwölf"), cursor=driver.prepared(auto))
    tell("results", driver.results(auto, auto.cursor(), "drv_two_results"))
    ask(manual, "inside", "INSERT INTO drv_rows (half, note) VALUES (%s, 'kept')", (number,))
    ask(manual, "seen", "SELECT COUNT(*) FROM drv_rows WHERE half = %s", (number,))
    manual.commit()
    ask(manual, "undone", "INSERT INTO drv_rows (half, note) VALUES (%s, 'lost')", (number,))
    manual.rollback()
    ask(auto, "loaded", "LOAD DATA LOCAL INFILE '%s' INTO TABLE drv_loaded (half, text)" % FILE)
    ask(auto, "counted", "SELECT COUNT(*), SUM(half), MAX(text) FROM drv_loaded")
    kill_a_query(driver, auto)


def main(name, host, port, user, password, database):
    driver = Driver(name, host, port, user, password, database)
    auto, manual = driver.connect(True), driver.connect(False)
    prepared = driver.prepared(auto)
    ask(auto, "state", "SET @mine = 'remembered', SESSION group_concat_max_len = 4711")
    half(driver, auto, manual, prepared, 1)
    ask(manual, "ended", "COMMIT")
    print("PAUSE", flush=True)
    sys.stdin.readline()
    ask(auto, "kept", "SELECT @mine, @@group_concat_max_len, DATABASE()")
    half(driver, auto, manual, prepared, 2)
    if driver.change_user(auto):
        ask(auto, "changed", "SELECT @mine, DATABASE(), SUBSTRING_INDEX(CURRENT_USER(), '@', 1)")
    ask(auto, "all", "SELECT half, note FROM drv_rows ORDER BY half, note")
    auto.close()
    manual.close()
    print("END", flush=True)


FILE = sys.argv[7]
main(*sys.argv[1:7])
