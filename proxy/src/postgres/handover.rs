//! Rebuilds a live session on another server, or says why that is not possible.
//!
//! The old server session is asked for the truth; nothing is guessed from the text of statements that went by.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::postgres::frame;
use protocol::postgres::handshake::Startup;
use protocol::postgres::reply::ParameterStatus;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connect::{self, Refused, ServerSession};
use super::dialogue::{Answer, Row, ask, query};
use super::wire::{PostgresWire, Unnamed};
use crate::config::Secret;
use crate::registry::WarmOrder;
use crate::route::Cluster;
use crate::upstream::Upstream;

/// Why a session cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum NotMovable {
    /// It has temporary tables.
    #[error("it has temporary tables")]
    TemporaryTable,
    /// It has a cursor that outlives its transaction.
    #[error("it has a held cursor")]
    HeldCursor,
    /// It holds session-level advisory locks.
    #[error("it holds advisory locks")]
    AdvisoryLock,
    /// It streams replication.
    #[error("it is a replication session")]
    Replication,
    /// A prepared statement cannot be taken along: its text is not one statement, or it is too large.
    #[error("a prepared statement cannot be taken along")]
    PreparedStatement,
    /// The old server session broke before it told its state.
    #[error("its old server session is gone: {0}")]
    SourceGone(#[source] Refused),
    /// The new cluster cannot be reached, or refused the login.
    #[error("the new cluster did not let it in: {0}")]
    TargetRefused(#[source] Refused),
    /// The new server did not accept, or did not show, the same state.
    #[error("its state could not be rebuilt: {0}")]
    State(String),
    /// It took longer than the cluster's connect timeout.
    #[error("the handover took too long")]
    Late,
}

impl NotMovable {
    /// The reason by which such sessions are counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TemporaryTable => "temporary table",
            Self::HeldCursor => "held cursor",
            Self::AdvisoryLock => "advisory lock",
            Self::Replication => "replication",
            Self::PreparedStatement => "prepared statement",
            Self::SourceGone(_) => "old server session gone",
            Self::TargetRefused(_) => "login on the new cluster",
            Self::State(_) => "state not rebuilt",
            Self::Late => "handover timeout",
        }
    }
}

/// A session rebuilt on another server.
#[derive(Debug)]
pub struct Moved {
    /// The new server session, idle.
    pub session: ServerSession,
    /// What the client must be told, as whole frames: its last notifications, and changed parameter statuses.
    pub changed: BytesMut,
}

/// What of the login is needed to log in again.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The client's own startup packet.
    pub startup: &'a Startup,
    /// The database's name on the clusters.
    pub database: &'a str,
    /// The password, where the configuration has one.
    pub password: Option<&'a str>,
}

/// A server session that was opened on another cluster ahead of a switch.
#[derive(Debug)]
pub struct Spare {
    cluster: String,
    since: Instant,
    opening: JoinHandle<Option<ServerSession>>,
}

/// A spare that was not used for this long is not used at all: its server may have closed it.
const SPARE_AGE_MAX: Duration = Duration::from_secs(30);

impl Spare {
    /// Begins to open one, beside whatever the session does. A failure is left for the handover to meet again.
    pub fn open(
        order: WarmOrder,
        startup: Startup,
        database: String,
        password: Option<Secret>,
    ) -> Self {
        let cluster = order.cluster.name.clone();
        let opening = tokio::spawn(async move {
            let password = password.as_ref().map(Secret::reveal);
            let session = connect::login(&order.cluster, &startup, &database, password).await;
            drop(order.done);
            session.ok()
        });
        Self {
            cluster,
            since: Instant::now(),
            opening,
        }
    }

    /// Whether it is too old to be used.
    pub fn is_old(&self) -> bool {
        self.since.elapsed() > SPARE_AGE_MAX
    }

    async fn session(self) -> Option<ServerSession> {
        if self.is_old() {
            return None;
        }
        let session = self.opening.await.ok().flatten()?;
        // A server that hung up is seen here; then a fresh session is opened.
        session.stream.is_open().then_some(session)
    }
}

const SETTINGS: &str = "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'; \
    SELECT pg_catalog.current_setting('session_authorization'), pg_catalog.current_setting('role');";

const OBJECTS: &str = "SELECT p.name, p.statement, p.from_sql, \
      pg_catalog.array_to_string(ARRAY(SELECT pg_catalog.concat(u.oid::pg_catalog.oid, ' ', \
        pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(t.typname)) \
        FROM pg_catalog.unnest(p.parameter_types) WITH ORDINALITY AS u(oid, place) \
        JOIN pg_catalog.pg_type t ON t.oid = u.oid::pg_catalog.oid \
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace ORDER BY u.place), pg_catalog.chr(31)) \
      FROM pg_catalog.pg_prepared_statements p ORDER BY p.prepare_time; \
    SELECT pg_catalog.pg_listening_channels(); \
    SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()), \
      EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable), \
      EXISTS (SELECT FROM pg_catalog.pg_locks \
        WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid());";

/// The first object identifier that is not the system's own; below it, types are the same on every server.
const FIRST_USER_OID: u32 = 16_384;

/// A prepared statement of the session.
#[derive(Debug)]
struct Prepared {
    name: String,
    statement: String,
    by_sql: bool,
    /// Each parameter's type: the old server's identifier, and the name.
    types: Vec<(u32, String)>,
}

/// Everything that the old server says of the session.
#[derive(Debug)]
struct State {
    settings: BTreeSet<(String, String)>,
    session_user: String,
    role: String,
    prepared: Vec<Prepared>,
    channels: Vec<String>,
}

/// Moves the session to `cluster`. The session must be at a boundary. On failure the old server session is as it was,
/// or gone.
pub async fn hand_over(
    old: &mut Upstream,
    cluster: &Cluster,
    identity: Identity<'_>,
    wire: &PostgresWire,
    spare: Option<Spare>,
) -> Result<Moved, NotMovable> {
    if !wire.is_gated() {
        return Err(NotMovable::Replication);
    }
    tokio::time::timeout(
        cluster.connect_timeout,
        rebuild(old, cluster, identity, wire, spare),
    )
    .await
    .unwrap_or(Err(NotMovable::Late))
}

async fn rebuild(
    old: &mut Upstream,
    cluster: &Cluster,
    identity: Identity<'_>,
    wire: &PostgresWire,
    spare: Option<Spare>,
) -> Result<Moved, NotMovable> {
    let question = query(&format!("{SETTINGS} {OBJECTS}"));
    let opening = async {
        if let Some(spare) = spare.filter(|spare| spare.cluster == cluster.name)
            && let Some(session) = spare.session().await
        {
            return Ok(session);
        }
        connect::login(
            cluster,
            identity.startup,
            identity.database,
            identity.password,
        )
        .await
    };
    let (told, opened) = tokio::join!(ask(old, &question), opening);
    let told = told.map_err(NotMovable::SourceGone)?;
    let state = understand(&told)?;
    let mut session = opened.map_err(NotMovable::TargetRefused)?;

    let oids = target_oids(&mut session.stream, &state.prepared).await?;
    let login_user = identity.startup.user().unwrap_or_default();
    let question = restore(
        &state,
        &String::from_utf8_lossy(&login_user),
        wire.unnamed(),
        &oids,
    )?;
    let restored = ask(&mut session.stream, &question)
        .await
        .map_err(NotMovable::TargetRefused)?;
    if let Some(error) = restored.error {
        return Err(NotMovable::State(error));
    }
    let shown = ask(&mut session.stream, &query(SETTINGS))
        .await
        .map_err(NotMovable::TargetRefused)?;
    let (settings, session_user, role) = settings_of(&shown)?;
    if settings != state.settings || session_user != state.session_user || role != state.role {
        return Err(NotMovable::State(
            "the new server shows other settings".to_owned(),
        ));
    }
    if let Unnamed::Parse(parse) = wire.unnamed() {
        // Where the old server had refused this statement the new one does too, and the client, which saw that,
        // will not bind it.
        let mut question = BytesMut::from(parse);
        frame::put(&mut question, b'S', |_| {});
        ask(&mut session.stream, &question)
            .await
            .map_err(NotMovable::TargetRefused)?;
    }
    for (name, value) in restored.parameters.into_iter().chain(shown.parameters) {
        match session
            .parameters
            .iter_mut()
            .find(|(known, _)| *known == name)
        {
            Some(entry) => entry.1 = value,
            None => session.parameters.push((name, value)),
        }
    }
    let mut changed = told.asides;
    changed.unsplit(changes(wire.parameters(), &session.parameters));
    Ok(Moved { session, changed })
}

/// The ParameterStatus frames that bring a client from `before` to `after`.
fn changes(before: &[(Bytes, Bytes)], after: &[(Bytes, Bytes)]) -> BytesMut {
    let mut out = BytesMut::new();
    for (name, value) in after.iter().filter(|pair| !before.contains(pair)) {
        ParameterStatus {
            name: name.clone(),
            value: value.clone(),
        }
        .encode(&mut out);
    }
    out
}

fn settings_of(
    answer: &Answer,
) -> Result<(BTreeSet<(String, String)>, String, String), NotMovable> {
    let odd = || NotMovable::State("the server's answer was not understood".to_owned());
    if let Some(error) = &answer.error {
        return Err(NotMovable::State(error.clone()));
    }
    let [settings, users, ..] = answer.results.as_slice() else {
        return Err(odd());
    };
    let settings = settings
        .iter()
        .filter_map(|row| Some((text(row, 0)?.to_owned(), text(row, 1)?.to_owned())))
        .filter(|(name, _)| !name.starts_with("transaction_"))
        .collect();
    let user = users.first().ok_or_else(odd)?;
    let session_user = text(user, 0).ok_or_else(odd)?.to_owned();
    let role = text(user, 1).ok_or_else(odd)?.to_owned();
    Ok((settings, session_user, role))
}

fn understand(answer: &Answer) -> Result<State, NotMovable> {
    let odd = || NotMovable::State("the server's answer was not understood".to_owned());
    let (settings, session_user, role) = settings_of(answer)?;
    let [_, _, prepared, channels, blockers] = answer.results.as_slice() else {
        return Err(odd());
    };
    let blockers = blockers.first().ok_or_else(odd)?;
    let is_set = |at| text(blockers, at) == Some("t");
    if is_set(0) {
        return Err(NotMovable::TemporaryTable);
    }
    if is_set(1) {
        return Err(NotMovable::HeldCursor);
    }
    if is_set(2) {
        return Err(NotMovable::AdvisoryLock);
    }
    let prepared = prepared
        .iter()
        .map(|row| prepared_of(row).ok_or_else(odd))
        .collect::<Result<_, _>>()?;
    let channels = channels
        .iter()
        .filter_map(|row| text(row, 0).map(str::to_owned))
        .collect();
    Ok(State {
        settings,
        session_user,
        role,
        prepared,
        channels,
    })
}

fn prepared_of(row: &Row) -> Option<Prepared> {
    let types = text(row, 3)?
        .split('\u{1f}')
        .filter(|piece| !piece.is_empty())
        .map(|piece| {
            let (oid, name) = piece.split_once(' ')?;
            Some((oid.parse().ok()?, name.to_owned()))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Prepared {
        name: text(row, 0)?.to_owned(),
        statement: text(row, 1)?.to_owned(),
        by_sql: text(row, 2)? == "t",
        types,
    })
}

fn text(row: &Row, at: usize) -> Option<&str> {
    row.get(at)?.as_deref()
}

/// What the target calls the user-defined parameter types, by name.
async fn target_oids(
    target: &mut Upstream,
    prepared: &[Prepared],
) -> Result<Vec<(String, u32)>, NotMovable> {
    let names: BTreeSet<&str> = prepared
        .iter()
        .filter(|statement| !statement.by_sql)
        .flat_map(|statement| &statement.types)
        .filter(|(oid, _)| *oid >= FIRST_USER_OID)
        .map(|(_, name)| name.as_str())
        .collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let columns: Vec<String> = names
        .iter()
        .map(|name| format!("{}::pg_catalog.regtype::pg_catalog.oid", literal(name)))
        .collect();
    let answer = ask(target, &query(&format!("SELECT {}", columns.join(", "))))
        .await
        .map_err(NotMovable::TargetRefused)?;
    if let Some(error) = answer.error {
        return Err(NotMovable::State(error));
    }
    let row = answer.results.first().and_then(|rows| rows.first());
    let found = names.iter().enumerate().map(|(at, name)| {
        let oid = row
            .and_then(|row| text(row, at))
            .and_then(|oid| oid.parse().ok());
        oid.map(|oid| ((*name).to_owned(), oid))
    });
    found
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| NotMovable::State("a parameter's type is missing on the target".to_owned()))
}

/// The frames that rebuild `state`: one simple query, then the protocol-level statements and a Sync, so that the
/// answer ends in one ReadyForQuery for each; both are asked as one batch by wrapping the query into the pipeline.
fn restore(
    state: &State,
    login_user: &str,
    unnamed: Unnamed<'_>,
    oids: &[(String, u32)],
) -> Result<BytesMut, NotMovable> {
    if unnamed == Unnamed::TooLarge {
        return Err(NotMovable::PreparedStatement);
    }
    let mut out = BytesMut::new();
    for (name, value) in &state.settings {
        let sql = format!(
            "SELECT pg_catalog.set_config({}, {}, false)",
            literal(name),
            literal(value)
        );
        execute(&sql, &mut out)?;
    }
    if state.session_user != login_user {
        execute(
            &format!(
                "SET SESSION AUTHORIZATION {}",
                identifier(&state.session_user)
            ),
            &mut out,
        )?;
    }
    if state.role != "none" {
        execute(&format!("SET ROLE {}", identifier(&state.role)), &mut out)?;
    }
    for channel in &state.channels {
        execute(&format!("LISTEN {}", identifier(channel)), &mut out)?;
    }
    for prepared in &state.prepared {
        if prepared.by_sql {
            let one = prepared.statement.trim().trim_end_matches(';');
            if one.contains(';') {
                return Err(NotMovable::PreparedStatement);
            }
            execute(one, &mut out)?;
            continue;
        }
        let mut types = Vec::with_capacity(prepared.types.len());
        for (oid, name) in &prepared.types {
            let target = oids
                .iter()
                .find(|(known, _)| known == name)
                .map_or(*oid, |(_, oid)| *oid);
            types.push(target);
        }
        parse(&prepared.name, &prepared.statement, &types, &mut out)?;
    }
    frame::put(&mut out, b'S', |_| {});
    Ok(out)
}

/// One statement through the unnamed statement and portal, so that all of them share one Sync.
fn execute(sql: &str, out: &mut BytesMut) -> Result<(), NotMovable> {
    parse("", sql, &[], out)?;
    frame::put(out, b'B', |out| out.extend_from_slice(&[0; 8]));
    frame::put(out, b'E', |out| out.extend_from_slice(&[0; 5]));
    Ok(())
}

fn parse(name: &str, sql: &str, types: &[u32], out: &mut BytesMut) -> Result<(), NotMovable> {
    let count = u16::try_from(types.len()).map_err(|_| NotMovable::PreparedStatement)?;
    frame::put(out, b'P', |out| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\0");
        out.extend_from_slice(sql.as_bytes());
        out.extend_from_slice(b"\0");
        out.extend_from_slice(&count.to_be_bytes());
        for oid in types {
            out.extend_from_slice(&oid.to_be_bytes());
        }
    });
    Ok(())
}

/// A string literal that means the same whatever `standard_conforming_strings` says.
fn literal(value: &str) -> String {
    format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_parameters_are_told() {
        let pair = |name: &'static str, value: &'static str| {
            (
                Bytes::from_static(name.as_bytes()),
                Bytes::from_static(value.as_bytes()),
            )
        };
        let before = [pair("server_version", "14.23"), pair("TimeZone", "UTC")];
        let after = [pair("server_version", "18.4"), pair("TimeZone", "UTC")];
        let told = changes(&before, &after);
        assert!(told.windows(4).any(|piece| piece == b"18.4"));
        assert!(!told.windows(3).any(|piece| piece == b"UTC"));
        assert!(changes(&after, &after).is_empty());
    }

    #[test]
    fn quotes_and_backslashes_stay_inside_their_literal() {
        assert_eq!(literal(r"a'b\c"), r"E'a''b\\c'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
