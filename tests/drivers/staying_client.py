"""The clients `mysql` and `mariadb`, as a person or a script writes to them; see staying.py.

    staying_client.py PROGRAM NAME HOST ..., where the name of PROGRAM says which of the two it is
"""

import os
import subprocess
import sys

import staying

PREPARE = "PREPARE put FROM 'INSERT INTO taken (%s) VALUES (%s)'" % (staying.COLUMNS, ", ".join("?" * 10))
PROGRAM = sys.argv[1]


def encryption(case):
    if os.path.basename(PROGRAM) == "mariadb":
        return {
            "disable": ["--skip-ssl"],
            "require": ["--ssl"],
            "verify-full": ["--ssl", "--ssl-ca=" + case.authority, "--ssl-verify-server-cert"],
        }[case.tls]
    return {
        # An account's password is sent under the server's key where nothing else hides it.
        "disable": ["--ssl-mode=DISABLED", "--get-server-public-key"],
        "require": ["--ssl-mode=REQUIRED"],
        "verify-full": ["--ssl-mode=VERIFY_IDENTITY", "--ssl-ca=" + case.authority],
    }[case.tls]


def literal(value):
    if value is None or isinstance(value, (bool, int, float)):
        return "NULL" if value is None else str(value)
    return "x'%s'" % value.hex() if isinstance(value, bytes) else "'%s'" % value


class Session:
    def __init__(self, case, at):
        self.case, self.at = case, at
        options = ["--no-defaults", "--protocol=tcp", "--batch", "--unbuffered", "--force", "--skip-column-names", "--skip-reconnect"]
        options += ["--default-character-set=utf8mb4", "--host=" + case.host, "--port=" + case.port, "--user=" + case.user]
        self.client = subprocess.Popen(
            [PROGRAM, *options, *encryption(case), case.database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "MYSQL_PWD": case.password},
            text=True,
            encoding="utf-8",
        )
        # The older server does not know the collation that the newer client logs in with, and takes another character set.
        assert self.answers("SET NAMES utf8mb4", PREPARE) == []

    def answers(self, *statements):
        """All that the client writes about these statements."""
        self.client.stdin.write("".join(statement + ";\n" for statement in (*statements, "SELECT 'answered'")))
        self.client.stdin.flush()
        lines = []
        for line in self.client.stdout:
            if line == "answered\n":
                return lines
            lines.append(line.rstrip("\n"))
        raise AssertionError("the client ended: %s" % lines[-3:])

    def work(self, number):
        row = staying.values(self.case, self.at, number, staying.MOMENT)
        names = ["@v%d" % at for at in range(len(row))]
        put = "EXECUTE put USING " + ", ".join(names)
        assigned = ", ".join("%s = %s" % pair for pair in zip(names, map(literal, row)))
        assert self.answers("BEGIN", "SET " + assigned, put) == []
        # One of them writes the statement, too.
        twice = [line for line in self.answers(put) if line.startswith("ERROR ")]
        assert len(twice) == 1 and twice[0].startswith("ERROR 1062 "), twice
        rows = self.answers("SELECT id, body FROM many WHERE id > 0 ORDER BY id")
        assert [row.split("\t")[0] for row in rows] == [str(at) for at in range(1, staying.MANY + 1)], rows
        counted = self.answers("SELECT COUNT(*) FROM taken WHERE driver = @v0 AND session = @v1")
        assert counted == [str(number)], counted
        assert self.answers("COMMIT") == []

    def close(self):
        self.client.stdin.close()
        assert self.client.wait() == 0


staying.stay(staying.Case(*sys.argv[2:]), Session)
