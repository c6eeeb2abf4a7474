//! What a cluster's roles have to prove at a login, as the cluster's own catalogue has it.
//!
//! A role's verifier is read for each of its logins, with the account that the configuration has for the cluster: passwords
//! change. One session for each cluster reads them all, one after the other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::postgres::auth::{Md5Verifier, Verifier};
use protocol::postgres::frame::HEADER_BYTES;
use protocol::postgres::handshake::Startup;
use protocol::postgres::reply::ErrorFields;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info, warn};
use transport::Password;

use super::internal_query::{Row, ask, query};
use super::server_login::{self, Credential, Refused, ServerSession};
use super::state::literal;
use crate::config::{Cluster as Section, Config};
use crate::per_cluster::PerCluster;
use crate::route::Cluster;
use crate::upstream::Origin;

/// No limit of the server's ends our session in the middle of an answer, or between two. Versions know more or less of these.
const LASTING: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = ANY \
    ('{statement_timeout,lock_timeout,transaction_timeout,idle_session_timeout,idle_in_transaction_session_timeout}')";

/// What is asked where the configuration has no query of its own.
const CATALOGUE: &str = "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1";

/// After a failure the cluster is left alone for that long, so that logins do not wait for it.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// A session that no login needed for that long is closed: a database that somebody is connected to cannot be dropped.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// How a role's clients prove themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// By SCRAM-SHA-256.
    Scram(Verifier),
    /// By MD5.
    Md5(Md5Verifier),
    /// Nothing: there is no such role, or it has no password.
    Nobody,
}

/// The roles of all clusters.
#[derive(Debug)]
pub struct Accounts {
    clusters: PerCluster<Reader>,
}

/// How one cluster's are read.
#[derive(Debug)]
struct Reader {
    user: String,
    password: Option<Password>,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// Behind its login, with the query prepared.
    session: Option<(ServerSession, Asked)>,
    /// When that was last needed.
    used: Option<Instant>,
    /// Somebody looks at when that was.
    watched: bool,
    /// Since when the query is not answered, and which one it is.
    failed: Option<(Instant, Asked)>,
}

/// What is asked, and where that is not every database's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    query: String,
    database: Option<String>,
}

/// Why a role's verifier is not known.
#[derive(Debug, thiserror::Error)]
enum Unread {
    /// There is no session to ask on.
    #[error(transparent)]
    Session(#[from] Refused),
    /// The account may not ask that, or there is nothing of the kind: nobody's can be read.
    #[error("{0}")]
    Forbidden(String),
    /// There is none for this role: a function raises, or the name is none on this server.
    #[error("{0}")]
    OfRole(String),
    /// Something that passes.
    #[error("{0}")]
    Failed(String),
}

impl Unread {
    /// By the SQLSTATE and the text of the server.
    fn query(code: &[u8], text: String) -> Self {
        match code.get(..2) {
            Some(b"42" | b"3F") => Self::Forbidden(text),
            Some(b"02" | b"20" | b"21" | b"22" | b"P0") => Self::OfRole(text),
            _ => Self::Failed(text),
        }
    }
}

impl Accounts {
    /// Reads nothing yet.
    pub fn new(config: &Config) -> Self {
        Self { clusters: PerCluster::new(config, reader) }
    }

    /// Knows the clusters of another configuration.
    pub fn renew(&self, config: &Config) {
        self.clusters.renew(config, reader);
    }

    /// What that role proves on `cluster`, read in `database`, by `auth_query` where there is one; `None` where it cannot be known.
    /// Fails where the cluster cannot be reached.
    pub async fn find(
        &self,
        cluster: &Cluster,
        database: &str,
        auth_query: Option<&str>,
        role: &str,
    ) -> Result<Option<Account>, Refused> {
        let late = || Refused::Unreachable(io::ErrorKind::TimedOut.into());
        let Some(reader) = self.clusters.get(&cluster.name) else {
            return Ok(None);
        };
        let deadline = Instant::now() + cluster.connect_timeout;
        let mut line = timeout_at(deadline, reader.line.lock()).await.map_err(|_| late())?;
        let asked = Asked {
            query: auth_query.unwrap_or(CATALOGUE).to_owned(),
            // Roles are every database's; a function is one's.
            database: auth_query.map(|_| database.to_owned()),
        };
        if line.failed.as_ref().is_some_and(|(since, failed)| since.elapsed() < RETRY_AFTER && *failed == asked) {
            return Ok(None);
        }
        let reading = timeout_at(deadline, Box::pin(reader.read(&mut line, cluster, database, &asked, role)));
        match reading.await.unwrap_or_else(|_| Err(Unread::Session(late()))) {
            Ok(account) => {
                line.used = Some(Instant::now());
                if !std::mem::replace(&mut line.watched, true) {
                    tokio::spawn(close_when_idle(Arc::clone(&reader)));
                }
                if line.failed.take().is_some() {
                    info!(cluster = cluster.name, "the roles' verifiers can be read again");
                }
                Ok(Some(account))
            }
            Err(Unread::OfRole(error)) => {
                debug!(cluster = cluster.name, role, error, "this role has no verifier");
                Ok(Some(Account::Nobody))
            }
            Err(Unread::Forbidden(error)) => {
                if line.failed.is_none() {
                    warn!(
                        cluster = cluster.name,
                        account = reader.user,
                        error,
                        "the roles' verifiers cannot be read, so that every client is asked for its password itself, over TLS \
                         only; let the account read pg_authid, or set login.auth_query"
                    );
                }
                line.session = None;
                line.failed = Some((Instant::now(), asked));
                Ok(None)
            }
            // What the client's own database is refused for is the client's to hear; the rest is between us and the server.
            Err(Unread::Session(Refused::ByServer { frame, .. })) if is_no_database(&frame) => {
                Err(Refused::ByServer { frame, welcomed: false })
            }
            Err(Unread::Session(refused @ Refused::Unreachable(_))) => Err(refused),
            Err(error) => Err(Refused::Unreachable(io::Error::other(error.to_string()))),
        }
    }
}

/// Ends the session of `reader` once nobody has needed it for a while.
async fn close_when_idle(reader: Arc<Reader>) {
    loop {
        let used = reader.line.lock().await.used;
        let Some(used) = used else { break };
        sleep_until(used + IDLE_MAX).await;
        let mut line = reader.line.lock().await;
        if line.used == Some(used) {
            line.session = None;
            line.used = None;
            line.watched = false;
            break;
        }
    }
}

/// Whether a server refused because there is no such database.
fn is_no_database(frame: &Bytes) -> bool {
    let fields = ErrorFields::parse(frame.slice(HEADER_BYTES.min(frame.len())..));
    fields.code == b"3D000"[..]
}

fn reader(_: &str, cluster: &Section) -> Reader {
    Reader { user: cluster.user.clone(), password: cluster.own_password(), line: Mutex::default() }
}

impl Reader {
    async fn read(
        &self,
        line: &mut Line,
        cluster: &Cluster,
        database: &str,
        asked: &Asked,
        role: &str,
    ) -> Result<Account, Unread> {
        // A caller that gives up leaves a session in the middle of an answer: it is put back only behind that.
        let kept = line.session.take().filter(|(session, kept)| kept == asked && session.stream.is_open());
        let was_kept = kept.is_some();
        let mut session = match kept {
            Some((session, _)) => session,
            None => self.open(cluster, database, asked).await?,
        };
        let question = format!("EXECUTE headgate_role({})", literal(role));
        let mut answer = question_of(&mut session, &question).await;
        if was_kept && matches!(answer, Err(Unread::Session(_) | Unread::Failed(_))) {
            // The server may have closed it between two logins.
            session = self.open(cluster, database, asked).await?;
            answer = question_of(&mut session, &question).await;
        }
        if let Ok(_) | Err(Unread::OfRole(_)) = answer {
            line.session = Some((session, asked.clone()));
        }
        let account = account(role, &answer?);
        Ok(account)
    }

    async fn open(&self, cluster: &Cluster, database: &str, asked: &Asked) -> Result<ServerSession, Unread> {
        let owned = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let parameters =
            [("user", self.user.as_str()), ("application_name", "headgate logins"), ("client_encoding", "UTF8")];
        let startup = Startup {
            major: 3,
            minor: 0,
            parameters: parameters.iter().map(|(name, value)| (owned(name), owned(value))).collect(),
            protocol_options: Vec::new(),
        };
        let credential = match &self.password {
            Some(password) => {
                Some(Credential::password(password.read().await.map_err(Refused::Unreachable)?.as_bytes()))
            }
            None => None,
        };
        let mut session =
            server_login::login(cluster, Origin::Headgate, &startup, database, credential.as_ref()).await?;
        question_of(&mut session, LASTING).await?;
        question_of(&mut session, &format!("PREPARE headgate_role(text) AS {}", asked.query)).await?;
        Ok(session)
    }
}

async fn question_of(session: &mut ServerSession, sql: &str) -> Result<Vec<Row>, Unread> {
    let mut unread = BytesMut::new();
    let mut answer = ask(&mut session.stream, &mut unread, &query(sql)).await?;
    match answer.error.take() {
        Some(error) => Err(Unread::query(&answer.code, error)),
        None => Ok(answer.results.pop().unwrap_or_default()),
    }
}

/// What the query's answer says of that role: the name and the verifier.
fn account(role: &str, rows: &[Row]) -> Account {
    let stored = rows.iter().find_map(|row| match row.as_slice() {
        [Some(name), stored, ..] if name == role => stored.as_deref(),
        _ => None,
    });
    let scram = stored.and_then(Verifier::parse).map(Account::Scram);
    scram.or_else(|| stored.and_then(Md5Verifier::parse).map(Account::Md5)).unwrap_or(Account::Nobody)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, stored: Option<&str>) -> Row {
        vec![Some(name.to_owned()), stored.map(str::to_owned)]
    }

    #[test]
    fn only_what_nobody_may_ask_makes_all_clients_show_their_passwords() {
        let of = |code: &[u8]| Unread::query(code, String::new());
        for code in [&b"42501"[..], b"42883", b"42P01", b"3F000"] {
            assert!(matches!(of(code), Unread::Forbidden(_)));
        }
        for code in [&b"22P05"[..], b"P0001", b"P0002"] {
            assert!(matches!(of(code), Unread::OfRole(_)));
        }
        for code in [&b"57P01"[..], b"57P03", b"53300", b"53200", b"XX000", b"08006", b""] {
            assert!(matches!(of(code), Unread::Failed(_)));
        }
    }

    #[test]
    fn a_verifier_is_taken_for_the_role_that_it_is_of_and_for_no_other() {
        let scram = Verifier::from_password(b"p", b"salt", 1);
        let text = scram.to_string();
        assert_eq!(account("app", &[row("app", Some(&text))]), Account::Scram(scram));
        let md5 = "md5".to_owned() + &"0f".repeat(16);
        assert!(matches!(account("app", &[row("app", Some(&md5))]), Account::Md5(_)));
        for rows in [vec![], vec![row("app", None)], vec![row("web", Some(&text))], vec![row("app", Some("plain"))]] {
            assert_eq!(account("app", &rows), Account::Nobody, "{rows:?}");
        }
    }
}
