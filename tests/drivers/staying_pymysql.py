"""PyMySQL, which writes values into its statements; see staying.py."""

import ssl
import sys

import pymysql
import pymysql.cursors

import staying

INSERT = "INSERT INTO taken (%s) VALUES (%s)" % (staying.COLUMNS, ", ".join(["%s"] * 10))


def encryption(case):
    if case.tls == "disable":
        return {"ssl_disabled": True}
    context = ssl.create_default_context(cafile=case.authority)
    if case.tls == "require":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return {"ssl": context}


class Session:
    def __init__(self, case, at):
        self.case, self.at = case, at
        login = dict(host=case.host, port=int(case.port), user=case.user, password=case.password, database=case.database)
        self.connection = pymysql.connect(**login, **encryption(case), charset="utf8mb4")

    def work(self, number):
        row = staying.values(self.case, self.at, number, staying.MOMENT)
        with self.connection.cursor() as cursor:
            cursor.execute(INSERT, row)
            try:
                cursor.execute(INSERT, row)
                raise AssertionError("the same row twice")
            except pymysql.IntegrityError:
                pass
        with self.connection.cursor(pymysql.cursors.SSCursor) as cursor:
            cursor.execute("SELECT id, body FROM many WHERE id > %s ORDER BY id", (0,))
            assert [row[0] for row in cursor] == list(range(1, staying.MANY + 1))
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM taken WHERE driver = %s AND session = %s", row[:2])
            assert cursor.fetchone() == (number,)
            cursor.execute("SELECT amount, body, moment FROM taken WHERE driver = %s AND session = %s AND number = %s", row[:3])
            assert cursor.fetchone() == (row[3], row[6], row[8])
        self.connection.commit()

    def close(self):
        self.connection.close()


staying.stay(staying.Case(*sys.argv[1:]), Session)
