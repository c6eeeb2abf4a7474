"""asyncpg, which prepares every statement and keeps it; see staying.py."""

import asyncio
import datetime
import ssl
import sys

import asyncpg

import staying

INSERT = "insert into taken (%s) values (%s)" % (staying.COLUMNS, ", ".join("$%d" % at for at in range(1, 11)))
MOMENT = staying.MOMENT.replace(tzinfo=datetime.timezone.utc)


def context(case):
    if case.tls == "disable":
        return False
    if case.tls == "require":
        return "require"
    verifying = ssl.create_default_context(cafile=case.authority)
    if case.tls == "certificate":
        verifying.load_cert_chain(case.certificate, case.key)
    return verifying


class Session:
    """Each session has a thread and a loop of its own."""

    def __init__(self, case, at):
        self.case, self.at = case, at
        self.loop = asyncio.new_event_loop()
        login = dict(host=case.host, port=int(case.port), user=case.user, password=case.password or None, database=case.database)
        connecting = asyncpg.connect(**login, ssl=context(case), direct_tls=case.tls == "direct")
        self.connection = self.loop.run_until_complete(asyncio.wait_for(connecting, 60))

    async def transaction(self, number):
        row = staying.values(self.case, self.at, number, MOMENT)
        connection = self.connection
        async with connection.transaction():
            await connection.execute(INSERT, *row)
            try:
                async with connection.transaction():
                    await connection.execute(INSERT, *row)
                raise AssertionError("the same row twice")
            except asyncpg.UniqueViolationError:
                pass
            cursor = connection.cursor("select id, body from many where id > $1 order by id", 0, prefetch=60)
            assert [row["id"] async for row in cursor] == list(range(1, staying.MANY + 1))
            mine = "select count(*) from taken where driver = $1 and session = $2"
            assert await connection.fetchval(mine, *row[:2]) == number
            last = "select amount, body, moment from taken where driver = $1 and session = $2 and number = $3"
            assert tuple(await connection.fetchrow(last, *row[:3])) == (row[3], row[6], row[8])

    def work(self, number):
        self.loop.run_until_complete(self.transaction(number))

    def close(self):
        self.loop.run_until_complete(self.connection.close())


staying.stay(staying.Case(*sys.argv[1:]), Session)
