//! Runs `pg_dump` and `pg_restore`: no shell, no password on a command line, no plain-text script.

use crate::postgres::client::failed;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use transport::Tls;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::postgres::client;
use crate::postgres::client::Endpoint;
use crate::postgres::session;

/// A schema with a hundred thousand objects takes minutes; one that takes longer than this is stuck.
const TIMEOUT: Duration = Duration::from_hours(6);
const TOLD_MAX: usize = 2000;

/// Runs a program against a database, under the `application_name` `headgate <purpose>` and with more `-c` settings
/// of its session, and returns what it wrote to its standard output.
pub async fn run(
    program: &Path,
    endpoint: &Endpoint,
    purpose: &str,
    settings: &str,
    arguments: &[OsString],
) -> Result<Vec<u8>> {
    let shown = program.display();
    let output = end(program, endpoint, purpose, settings, arguments).await?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let reported = String::from_utf8_lossy(&output.stderr);
    // What follows may quote a row, or a secret such as a user mapping's.
    let reported = ["DETAIL:", "Command was:"]
        .iter()
        .fold(reported.as_ref(), |reported, end| reported.split(end).next().unwrap_or_default());
    let reported: String = reported.trim().chars().take(TOLD_MAX).collect();
    let text = format!("{shown} failed against {endpoint:?}: {reported}");
    let lost = ["server closed the connection", "could not connect", "connection to server", "terminating connection"];
    Err(if lost.iter().any(|sign| reported.contains(sign)) { Error::transient(text) } else { Error::fatal(text) })
}

/// Runs `pg_restore`, which goes on after errors, and returns what it wrote about them to its standard error. Fails where
/// it did not come to its end.
pub async fn run_through(program: &Path, endpoint: &Endpoint, purpose: &str, arguments: &[OsString]) -> Result<String> {
    let output = end(program, endpoint, purpose, "", arguments).await?;
    let reported = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() || reported.contains("errors ignored on restore") {
        return Ok(reported);
    }
    let last = reported.lines().last().unwrap_or_default();
    let shown = program.display();
    Err(Error::transient(format!("{shown} did not come to its end against {endpoint:?}: {last}")))
}

/// Runs a program to its end, whatever that is.
async fn end(
    program: &Path,
    endpoint: &Endpoint,
    purpose: &str,
    settings: &str,
    arguments: &[OsString],
) -> Result<Output> {
    let shown = program.display();
    let session = client::connect_plainly(endpoint, purpose).await?;
    let options = session::options(&session).await;
    let options = options.map_err(|error| failed("cannot read the settings that a session inherits", error))?;
    let settings = format!("{options} {settings}");
    drop(session);
    let password = endpoint.read_password().await?;
    let trusted = Trusted::of(&endpoint.tls)?;
    let tunnel = endpoint.tunnel().await;
    let tunnel = tunnel.map_err(|error| Error::transient(format!("cannot open a port for {shown}")).because(error))?;
    let mut running = command(program, (endpoint, password), trusted.path(), purpose, &settings);
    if let Some(tunnel) = &tunnel {
        // The name of the host stays the one that its certificate must have.
        running.env("PGHOSTADDR", "127.0.0.1").env("PGPORT", tunnel.port().to_string());
    }
    let running = running.args(arguments).output();
    tokio::time::timeout(TIMEOUT, running)
        .await
        .map_err(|_| Error::fatal(format!("{shown} did not end within {} s", TIMEOUT.as_secs())))?
        .map_err(|error| {
            Error::fatal(format!("cannot run {shown}"))
                .because(error)
                .remedy("install PostgreSQL's client programs, or configure where they are")
        })
}

/// The major version of a program, such as 18.
pub async fn major(program: &Path) -> Result<u32> {
    let unknown = || Error::fatal(format!("{} is not there or does not tell its version", program.display()));
    let asking = Command::new(program).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(10), asking)
        .await
        .map_err(|_| unknown())?
        .map_err(|error| unknown().because(error))?;
    let reported = String::from_utf8_lossy(&output.stdout);
    reported
        .split_whitespace()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .and_then(|version| version.split(|character: char| !character.is_ascii_digit()).next())
        .and_then(|major| major.parse().ok())
        .ok_or_else(unknown)
}

/// A database's name as `--dbname` takes it, where a bare name could be read as a connection string.
pub fn database_argument(endpoint: &Endpoint) -> OsString {
    let name = endpoint.database.replace('\\', "\\\\").replace('\'', "\\'");
    format!("--dbname=dbname='{name}'").into()
}

/// The authorities that a server's certificate must be of, as a file: libpq knows those of the system since version 16 only, and
/// for `verify-full` alone.
enum Trusted<'a> {
    Nobody,
    File(&'a Path),
    Written(PathBuf),
}

impl<'a> Trusted<'a> {
    fn of(tls: &'a Tls) -> Result<Self> {
        let settings = tls.settings();
        if !settings.mode.verifies() {
            return Ok(Self::Nobody);
        }
        if let Some(file) = &settings.authorities {
            return Ok(Self::File(file));
        }
        let path = std::env::temp_dir().join(format!("headgate-authorities-{:032x}.pem", rand::random::<u128>()));
        let cannot = |error| Error::fatal(format!("cannot write {}", path.display())).because(error);
        std::fs::write(&path, tls.trusted_pem()).map_err(cannot)?;
        Ok(Self::Written(path))
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Nobody => None,
            Self::File(path) => Some(path),
            Self::Written(path) => Some(path),
        }
    }
}

impl Drop for Trusted<'_> {
    fn drop(&mut self) {
        if let Self::Written(path) = self {
            drop(std::fs::remove_file(path));
        }
    }
}

/// The connection goes through the environment; everything else of ours is kept out of it.
fn command(
    program: &Path,
    (endpoint, password): (&Endpoint, Option<Zeroizing<String>>),
    trusted: Option<&Path>,
    purpose: &str,
    settings: &str,
) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
        .env("PGHOST", &endpoint.host)
        .env("PGPORT", endpoint.port.to_string())
        .env("PGUSER", &endpoint.user)
        .env("PGDATABASE", &endpoint.database)
        .env("PGAPPNAME", format!("headgate {purpose}"))
        .env("PGCONNECT_TIMEOUT", "10")
        .env("PGSSLMODE", endpoint.tls.mode().word())
        .env("PGGSSENCMODE", "disable")
        .env("PGOPTIONS", format!("{settings} -c statement_timeout=0 -c lock_timeout=0 -c client_min_messages=warning"))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(password) = password {
        command.env("PGPASSWORD", password.as_str());
    }
    let tls = endpoint.tls.settings();
    // Where the server need not prove itself, a file in this user's home must not make it.
    command.env("PGSSLROOTCERT", trusted.unwrap_or(Path::new("/nonexistent/none")));
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
        command.env("PGSSLCERT", certificate).env("PGSSLKEY", key);
    }
    command
}
