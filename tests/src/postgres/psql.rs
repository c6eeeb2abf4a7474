//! `psql` as a client of Headgate, with libpq's TLS and logins.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::wait::{SOON, within};
use crate::world::DATABASE;

/// libpq's own client.
#[derive(Clone, Debug)]
pub struct Psql {
    /// Where it connects to on this machine.
    pub port: u16,
    /// The role.
    pub user: &'static str,
    /// Its password, where it has one.
    pub password: Option<&'static str>,
    /// Parameters of the connection.
    pub parameters: String,
}

impl Psql {
    /// A client of this role, with more parameters of the connection.
    pub fn new(port: u16, user: &'static str, password: &'static str, parameters: &str) -> Self {
        Self { port, user, password: Some(password), parameters: parameters.to_owned() }
    }

    fn command(&self) -> Command {
        let Self { port, user, parameters, .. } = self;
        let url = format!("host=localhost port={port} user={user} dbname={DATABASE} connect_timeout=20 {parameters}");
        let mut command = Command::new("psql");
        command.args(["-X", "-A", "-t", "-q", "-w", &url]).kill_on_drop(true);
        command.env("PGGSSENCMODE", "disable").env_remove("PGPASSWORD");
        if let Some(password) = self.password {
            command.env("PGPASSWORD", password);
        }
        command
    }

    /// What a query gives, or what the client says instead.
    pub async fn ask(&self, query: &str) -> Result<String, String> {
        let mut command = self.command();
        let output = within("psql ends", SOON, command.args(["-c", query]).output()).await.expect("psql is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// A session that stays open.
    pub fn stay(&self) -> Staying {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("psql is installed");
        let to = child.stdin.take().expect("a pipe");
        let from = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Staying { _child: child, to, from }
    }
}

/// A session of [`Psql`] that stays open.
#[derive(Debug)]
pub struct Staying {
    _child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Staying {
    /// The first line of what a query gives.
    pub async fn ask(&mut self, query: &str) -> String {
        self.to.write_all(format!("{query};\n").as_bytes()).await.expect("psql listens");
        let line = within(query, SOON, self.from.next_line()).await.expect("a pipe");
        line.expect("the session stays")
    }
}
