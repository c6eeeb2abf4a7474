//! Rebuilds a live session on another server, or says why that is not possible.
//!
//! The old server session is asked for the truth; nothing is guessed from the text of statements that went by.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use protocol::postgres::frame;
use protocol::postgres::handshake::Startup;
use protocol::postgres::reply::ParameterStatus;

use super::internal_query::{Answer, ask, query};
use super::not_movable::NotMovable;
use super::server_login::{self, Credential, ServerSession};
use super::sql_text;
use super::state::{
    ENCODING, OBJECTS, SessionState, TIMEOUT, literal, settings_of, settings_query, text, types_query, understand,
};
use super::wire::{PostgresWire, Unnamed};
use crate::route::Cluster;
use crate::session::prewarmed::{self, PrewarmedSession};
use crate::upstream::{Origin, Upstream};

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
    /// What proves it, where there is something.
    pub credential: Option<&'a Credential>,
    /// Whose the session is.
    pub origin: Origin,
}

/// The first object identifier that is not the system's own; below it, types are the same on every server.
const FIRST_USER_OID: u32 = 16_384;

/// Moves the session to `cluster`. The session must be at a boundary. On failure the old server session is as it was,
/// or gone.
pub(crate) async fn hand_over(
    old: &mut Upstream,
    cluster: &Cluster,
    identity: Identity<'_>,
    wire: &PostgresWire,
    prewarmed: Option<PrewarmedSession<ServerSession>>,
) -> Result<Moved, NotMovable> {
    if !wire.is_gated() {
        return Err(NotMovable::Replication);
    }
    if wire.custom().are_unknown() {
        return Err(NotMovable::CustomSetting);
    }
    tokio::time::timeout(cluster.connect_timeout, rebuild(old, cluster, identity, wire, prewarmed))
        .await
        .unwrap_or(Err(NotMovable::Late))
}

async fn rebuild(
    old: &mut Upstream,
    cluster: &Cluster,
    identity: Identity<'_>,
    wire: &PostgresWire,
    prewarmed: Option<PrewarmedSession<ServerSession>>,
) -> Result<Moved, NotMovable> {
    let settings = settings_query(wire.custom().names());
    let unnamed = match wire.unnamed() {
        Unnamed::Parse(frame) => Some(UnnamedParse::parse(frame)?),
        Unnamed::TooLarge => return Err(NotMovable::PreparedStatement),
        Unnamed::None => None,
    };
    let types = types_query(unnamed.as_ref().map_or(&[], |parse| &parse.types));
    let question = query(&format!("{ENCODING} {settings} {TIMEOUT} {OBJECTS} {types}"));
    let Identity { startup, database, credential, origin } = identity;
    let login = server_login::login(cluster, origin, startup, database, credential);
    let opening = prewarmed::take_or(prewarmed, cluster, login);
    let mut unread = BytesMut::new();
    let (reported, opened) = tokio::join!(ask(old, &mut unread, &question), opening);
    let mut reported = reported.map_err(NotMovable::SourceGone)?;
    let state = understand(&reported)?;
    reported.keep_notifications(&mut unread);
    let mut target = Target { session: opened.map_err(NotMovable::TargetRefused)?, asides: BytesMut::new() };

    let oids = target_oids(&mut target, &state).await?;
    let login_user = identity.startup.user().unwrap_or_default();
    let login_user = String::from_utf8_lossy(&login_user);
    target.ask(&restore(&state, &login_user, escapes(wire), &oids)?).await?;
    let shown = target.ask(&query(&settings)).await?;
    if settings_of(&shown, &shown.results)? != state.settings {
        return Err(NotMovable::State("the new server shows other settings".to_owned()));
    }
    target.ask(&query(&set("client_encoding", &state.encoding))).await?;
    if let Some(parse) = &unnamed {
        let refused = target.try_ask(&parse.for_target(&state.unnamed_types, &oids)?).await?.error;
        if let Some(error) = refused {
            // Where the old server had refused it too, the client saw that and will not bind it.
            let question = parse.parse_again(&state.encoding)?;
            let again = ask(old, &mut unread, &question).await;
            if again.map_err(NotMovable::SourceGone)?.error.is_none() {
                return Err(NotMovable::State(error));
            }
        }
    }
    let Target { session, asides } = target;
    let mut changed = reported.asides;
    changed.unsplit(asides);
    changed.unsplit(changes(wire.parameters(), &session.parameters));
    Ok(Moved { session, changed })
}

/// The new server session while it is being made like the old one.
struct Target {
    session: ServerSession,
    /// Notifications that came meanwhile.
    asides: BytesMut,
}

impl Target {
    /// Asks, and remembers what the client must know of the answer.
    async fn try_ask(&mut self, question: &[u8]) -> Result<Answer, NotMovable> {
        let ServerSession { stream, buffer, parameters, .. } = &mut self.session;
        let mut answer = ask(stream, buffer, question).await.map_err(NotMovable::TargetRefused)?;
        self.asides.unsplit(std::mem::take(&mut answer.asides));
        for (name, value) in answer.parameters.drain(..) {
            match parameters.iter_mut().find(|(known, _)| *known == name) {
                Some(entry) => entry.1 = value,
                None => parameters.push((name, value)),
            }
        }
        Ok(answer)
    }

    /// The same, where an error means that the session cannot be rebuilt.
    async fn ask(&mut self, question: &[u8]) -> Result<Answer, NotMovable> {
        let answer = self.try_ask(question).await?;
        match answer.error {
            Some(error) => Err(NotMovable::State(error)),
            None => Ok(answer),
        }
    }
}

/// The ParameterStatus frames that bring a client from `before` to `after`.
fn changes(before: &[(Bytes, Bytes)], after: &[(Bytes, Bytes)]) -> BytesMut {
    let mut out = BytesMut::new();
    for (name, value) in after.iter().filter(|pair| !before.contains(pair)) {
        ParameterStatus { name: name.clone(), value: value.clone() }.encode(&mut out);
    }
    out
}

/// The last unnamed Parse of the client, taken apart.
struct UnnamedParse<'a> {
    /// Its text, in the client's encoding.
    text: &'a [u8],
    /// The types that the client gave its parameters, in the old server's numbers.
    types: Vec<u32>,
}

impl<'a> UnnamedParse<'a> {
    fn parse(frame: &'a [u8]) -> Result<Self, NotMovable> {
        let cut = || {
            let body = frame.get(frame::HEADER_BYTES..)?.strip_prefix(b"\0")?;
            let (text, rest) = body.split_at_checked(memchr::memchr(0, body)?)?;
            let (_, types) = rest.get(1..)?.split_at_checked(2)?;
            let types = types.chunks_exact(4).filter_map(|oid| oid.try_into().ok());
            let types = types.map(u32::from_be_bytes).collect();
            Some(Self { text, types })
        };
        cut().ok_or(NotMovable::PreparedStatement)
    }

    /// The batch that prepares it on the new server, with the types as they are numbered there.
    fn for_target(&self, names: &[(u32, String)], oids: &[(String, u32)]) -> Result<BytesMut, NotMovable> {
        let types = self.types.iter().map(|oid| {
            let name = names.iter().find(|(known, _)| known == oid);
            let name = name.map(|(_, name)| name.as_str());
            target_oid(*oid, name, oids)
        });
        let types: Vec<u32> = types.collect();
        let mut out = BytesMut::new();
        parse(b"", self.text, &types, &mut out)?;
        frame::put(&mut out, b'S', |_| {});
        Ok(out)
    }

    /// The batch that prepares it once more on the old server, whose session speaks another encoding by now.
    fn parse_again(&self, encoding: &str) -> Result<BytesMut, NotMovable> {
        let mut out = BytesMut::new();
        execute(&set("client_encoding", encoding), &mut out)?;
        parse(b"", self.text, &self.types, &mut out)?;
        frame::put(&mut out, b'S', |_| {});
        Ok(out)
    }
}

/// The number of a type on the target: its own where it is user-defined, the same everywhere else.
fn target_oid(oid: u32, name: Option<&str>, oids: &[(String, u32)]) -> u32 {
    let found = oids.iter().find(|(known, _)| Some(known.as_str()) == name);
    found.map_or(oid, |(_, oid)| *oid)
}

/// Whether backslashes are escapes in the client's literals.
fn escapes(wire: &PostgresWire) -> bool {
    let mut parameters = wire.parameters().iter();
    parameters.any(|(name, value)| *name == "standard_conforming_strings" && *value == "off")
}

/// What the target calls the user-defined parameter types, by name.
async fn target_oids(target: &mut Target, state: &SessionState) -> Result<Vec<(String, u32)>, NotMovable> {
    let by_protocol = state.prepared.iter().filter(|statement| !statement.by_sql);
    let names: BTreeSet<&str> = by_protocol
        .flat_map(|statement| &statement.types)
        .chain(&state.unnamed_types)
        .filter(|(oid, _)| *oid >= FIRST_USER_OID)
        .map(|(_, name)| name.as_str())
        .collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let columns: Vec<String> =
        names.iter().map(|name| format!("{}::pg_catalog.regtype::pg_catalog.oid", literal(name))).collect();
    let answer = target.ask(&query(&format!("SELECT {}", columns.join(", ")))).await?;
    let row = answer.results.first().and_then(|rows| rows.first());
    let found = names.iter().enumerate().map(|(at, name)| {
        let oid = row.and_then(|row| text(row, at)).and_then(|oid| oid.parse().ok());
        oid.map(|oid| ((*name).to_owned(), oid))
    });
    found
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| NotMovable::State("a parameter's type is missing on the target".to_owned()))
}

/// The frames that rebuild `state`: one extended batch, so that the answer ends in one ReadyForQuery.
fn restore(
    state: &SessionState,
    login_user: &str,
    escapes: bool,
    oids: &[(String, u32)],
) -> Result<BytesMut, NotMovable> {
    let mut out = BytesMut::new();
    execute(&set("client_encoding", "UTF8"), &mut out)?;
    // A time limit of the client's must not end the rebuilding.
    let (limits, others): (Vec<_>, Vec<_>) =
        state.settings.values.iter().partition(|(name, _)| name.ends_with("_timeout"));
    for (name, value) in others.into_iter().chain(limits) {
        execute(&set(name, value), &mut out)?;
    }
    if state.settings.session_user != login_user {
        execute(&format!("SET SESSION AUTHORIZATION {}", identifier(&state.settings.session_user)), &mut out)?;
    }
    if state.settings.role != "none" {
        execute(&format!("SET ROLE {}", identifier(&state.settings.role)), &mut out)?;
    }
    for channel in &state.channels {
        execute(&format!("LISTEN {}", identifier(channel)), &mut out)?;
    }
    for prepared in &state.prepared {
        if prepared.by_sql {
            // The server keeps the whole text that the statement stood in.
            let one = sql_text::preparation(&prepared.statement, &prepared.name, escapes);
            execute(one.ok_or(NotMovable::PreparedStatement)?, &mut out)?;
            continue;
        }
        let types = prepared.types.iter();
        let types: Vec<u32> = types.map(|(oid, name)| target_oid(*oid, Some(name), oids)).collect();
        let (name, text) = (prepared.name.as_bytes(), prepared.statement.as_bytes());
        parse(name, text, &types, &mut out)?;
    }
    frame::put(&mut out, b'S', |_| {});
    Ok(out)
}

/// One statement through the unnamed statement and portal, so that all of them share one Sync.
fn execute(sql: &str, out: &mut BytesMut) -> Result<(), NotMovable> {
    parse(b"", sql.as_bytes(), &[], out)?;
    frame::put(out, b'B', |out| out.extend_from_slice(&[0; 8]));
    frame::put(out, b'E', |out| out.extend_from_slice(&[0; 5]));
    Ok(())
}

fn parse(name: &[u8], sql: &[u8], types: &[u32], out: &mut BytesMut) -> Result<(), NotMovable> {
    let count = u16::try_from(types.len()).map_err(|_| NotMovable::PreparedStatement)?;
    frame::put(out, b'P', |out| {
        out.extend_from_slice(name);
        out.extend_from_slice(b"\0");
        out.extend_from_slice(sql);
        out.extend_from_slice(b"\0");
        out.extend_from_slice(&count.to_be_bytes());
        for oid in types {
            out.extend_from_slice(&oid.to_be_bytes());
        }
    });
    Ok(())
}

/// The statement that sets one setting for the session.
fn set(name: &str, value: &str) -> String {
    format!("SELECT pg_catalog.set_config({}, {}, false)", literal(name), literal(value))
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
            (Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes()))
        };
        let before = [pair("server_version", "14.23"), pair("TimeZone", "UTC")];
        let after = [pair("server_version", "18.4"), pair("TimeZone", "UTC")];
        let reported = changes(&before, &after);
        assert!(reported.windows(4).any(|piece| piece == b"18.4"));
        assert!(!reported.windows(3).any(|piece| piece == b"UTC"));
        assert!(changes(&after, &after).is_empty());
    }

    #[test]
    fn quotes_and_backslashes_stay_inside_their_literal() {
        assert_eq!(literal(r"a'b\c"), r"E'a''b\\c'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
