//! The programs that people use with MySQL and MariaDB, and the drivers that applications use.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::mysql::disposable::{Kind, find};
use tokio::process::Command;

use crate::wait::within;

/// Who connects, and where, by one of the programs that come with a server.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// The loopback port.
    pub port: u16,
    /// The account.
    pub user: &'a str,
    /// Its password; empty for none.
    pub password: &'a str,
    /// The database.
    pub database: &'a str,
}

impl Login<'_> {
    /// `mysql`, the client of MySQL 9.7, with these arguments besides.
    pub fn mysql(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(Kind::Mysql97, "mysql");
        command.args(arguments).arg(self.database);
        command
    }

    /// `mariadb`, the client of MariaDB, with these arguments besides.
    pub fn mariadb(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(Kind::Mariadb1011, "mariadb");
        command.args(arguments).arg(self.database);
        command
    }

    /// `mysqldump` of MySQL 9.7 or `mariadb-dump`, with these arguments besides.
    pub fn dump(&self, kind: Kind, arguments: &[&str]) -> Command {
        let mut command = match kind {
            Kind::Mariadb1011 => self.program(kind, "mariadb-dump"),
            Kind::Mysql97 | Kind::Mysql56 => self.program(Kind::Mysql97, "mysqldump"),
        };
        command.args(arguments).arg(self.database);
        command
    }

    /// `sysbench` with these arguments besides, the last of which is what it shall do.
    pub fn sysbench(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("sysbench");
        command.args([
            "--db-driver=mysql",
            "--mysql-host=127.0.0.1",
            &format!("--mysql-port={}", self.port),
            &format!("--mysql-user={}", self.user),
            &format!("--mysql-password={}", self.password),
            &format!("--mysql-db={}", self.database),
        ]);
        command.args(arguments);
        ready(command)
    }

    fn program(&self, kind: Kind, name: &str) -> Command {
        let binaries = find(kind).unwrap_or_else(|error| panic!("{error}"));
        let mut command = Command::new(binaries.program(name));
        command.args([
            "--no-defaults",
            "--protocol=tcp",
            "--host=127.0.0.1",
            &format!("--port={}", self.port),
            &format!("--user={}", self.user),
        ]);
        command.env("MYSQL_PWD", self.password);
        ready(command)
    }
}

fn ready(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a program to its end within the limit; panics unless it ended well. Returns what it wrote.
pub async fn finish(what: &str, limit: Duration, mut command: Command) -> String {
    let output =
        within(what, limit, command.output()).await.unwrap_or_else(|error| panic!("{what} cannot be run: {error}"));
    assert!(output.status.success(), "{what}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    let bytes = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Python with the drivers of both engines, to run a script.
pub fn python() -> Command {
    driver("python")
}

/// Node with the drivers of both engines, whose folder is in `HEADGATE_NODE_MODULES`, to run a script.
pub fn node() -> Command {
    driver("node")
}

/// Java with the drivers of both engines, to run a program in one file.
pub fn java() -> Command {
    driver("java")
}

fn driver(name: &str) -> Command {
    let own =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let drivers = own.join("../target/servers/drivers/bin");
    let program = drivers
        .join(name)
        .canonicalize()
        .unwrap_or_else(|error| panic!("{name} with its drivers; run tests/servers/fetch: {error}"));
    ready(Command::new(program))
}
