//! What a server session says of itself: everything that must be rebuilt where it moves, and what cannot be.

use std::collections::BTreeSet;

use super::internal_query::{Answer, Row};
use super::not_movable::NotMovable;
use crate::registry::Movable;

/// Asks for the client's encoding, and sets the one in which everything else is told.
pub(super) const ENCODING: &str = "SELECT pg_catalog.current_setting('client_encoding'); \
    SELECT pg_catalog.set_config('client_encoding', 'UTF8', false);";

/// Asks for the settings, and as whom the session acts. The encoding is a matter of its own, and the settings of the
/// application's own making are listed by nobody: `custom` has their names.
pub(super) fn settings_query(custom: &BTreeSet<String>) -> String {
    let names: Vec<String> = custom
        .iter()
        .map(|name| {
            let name = literal(name);
            format!(" UNION ALL SELECT {name}, pg_catalog.current_setting({name}, true)")
        })
        .collect();
    let names = names.concat();
    format!(
        "SELECT name, setting FROM pg_catalog.pg_settings \
           WHERE source = 'session' AND name <> 'client_encoding'{names}; \
         SELECT pg_catalog.current_setting('session_authorization'), pg_catalog.current_setting('role');"
    )
}

/// Lets the questions that follow take their time.
pub(super) const TIMEOUT: &str = "SELECT pg_catalog.set_config('statement_timeout', '0', false);";

/// What keeps a session where it is, as one row of truths.
macro_rules! blockers {
    () => {
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()) \
           OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.pg_my_temp_schema()), \
           EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable), \
           EXISTS (SELECT FROM pg_catalog.pg_locks \
             WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())"
    };
}

/// The name of the statement by which a session is asked ahead of a switch what keeps it where it is.
pub(super) const AHEAD_NAME: &[u8] = b"headgate: what keeps this session";

/// Limits the time of [`AHEAD`], for the one transaction that both are in.
pub(super) const AHEAD_LIMIT: &str = "SELECT pg_catalog.set_config('statement_timeout', '1s', true)";

/// Asks ahead of a switch what keeps a session where it is.
pub(super) const AHEAD: &str = blockers!();

/// Reads the answer to [`AHEAD`].
pub(super) fn movable(row: &Row) -> Movable {
    match refuse_blockers(row) {
        Ok(()) => Movable::Yes,
        Err(why) => Movable::No(why.reason()),
    }
}

/// Asks for the prepared statements, the channels, and what keeps a session where it is.
pub(super) const OBJECTS: &str = concat!(
    "SELECT p.name, p.statement, p.from_sql, \
      pg_catalog.array_to_string(ARRAY(SELECT pg_catalog.concat(u.oid::pg_catalog.oid, ' ', \
        pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(t.typname)) \
        FROM pg_catalog.unnest(p.parameter_types) WITH ORDINALITY AS u(oid, place) \
        JOIN pg_catalog.pg_type t ON t.oid = u.oid::pg_catalog.oid \
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace ORDER BY u.place), pg_catalog.chr(31)) \
      FROM pg_catalog.pg_prepared_statements p WHERE p.name <> 'headgate: what keeps this session' \
      ORDER BY p.prepare_time; SELECT pg_catalog.pg_listening_channels(); ",
    blockers!(),
    ";"
);

/// Asks what the user-defined ones of these types are called.
pub(super) fn types_query(oids: &[u32]) -> String {
    let oids: Vec<String> = oids.iter().map(u32::to_string).collect();
    format!(
        "SELECT t.oid, pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(t.typname)) \
           FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
           WHERE t.oid = ANY ('{{{}}}'::pg_catalog.oid[]);",
        oids.join(",")
    )
}

/// Settings that the server lists as set by the session, although they are the transaction's.
const OF_A_TRANSACTION: [&str; 3] = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];

/// A prepared statement of the session.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) name: String,
    pub(super) statement: String,
    pub(super) by_sql: bool,
    /// Each parameter's type: the old server's identifier, and the name.
    pub(super) types: Vec<(u32, String)>,
}

/// The settings of a session, and as whom it acts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) values: BTreeSet<(String, String)>,
    pub(super) session_user: String,
    pub(super) role: String,
}

/// Everything that the old server says of the session.
#[derive(Debug)]
pub(super) struct SessionState {
    /// The client's encoding.
    pub(super) encoding: String,
    pub(super) settings: Settings,
    pub(super) prepared: Vec<Prepared>,
    pub(super) channels: Vec<String>,
    /// The types that the unnamed statement names: the old server's identifier, and the name.
    pub(super) unnamed_types: Vec<(u32, String)>,
}

/// Reads the answer to [`settings_query`].
pub(super) fn settings_of(answer: &Answer, results: &[Vec<Row>]) -> Result<Settings, NotMovable> {
    if let Some(error) = &answer.error {
        return Err(NotMovable::State(error.clone()));
    }
    let [settings, users] = results else {
        return Err(odd());
    };
    // A setting that was never made has no value and is not there.
    let values = settings
        .iter()
        .filter_map(|row| Some((text(row, 0)?.to_owned(), text(row, 1)?.to_owned())))
        .filter(|(name, _)| !OF_A_TRANSACTION.contains(&name.as_str()))
        .collect();
    let user = users.first().ok_or_else(odd)?;
    let session_user = text(user, 0).ok_or_else(odd)?.to_owned();
    let role = text(user, 1).ok_or_else(odd)?.to_owned();
    Ok(Settings { values, session_user, role })
}

fn odd() -> NotMovable {
    NotMovable::State("the server's answer was not understood".to_owned())
}

/// Reads the answer to [`ENCODING`], [`settings_query`], [`TIMEOUT`], [`OBJECTS`] and [`types_query`], in this order;
/// fails where the session cannot be moved.
pub(super) fn understand(answer: &Answer) -> Result<SessionState, NotMovable> {
    if let Some(error) = &answer.error {
        return Err(NotMovable::State(error.clone()));
    }
    let [encoding, _, settings @ .., _, prepared, channels, blockers, types] = answer.results.as_slice() else {
        return Err(odd());
    };
    let settings = settings_of(answer, settings)?;
    let encoding = encoding.first().and_then(|row| text(row, 0)).ok_or_else(odd)?.to_owned();
    refuse_blockers(blockers.first().ok_or_else(odd)?)?;
    let prepared = prepared.iter().map(|row| prepared_of(row).ok_or_else(odd)).collect::<Result<_, _>>()?;
    let channels = channels.iter().filter_map(|row| text(row, 0).map(str::to_owned)).collect();
    let unnamed_types = types
        .iter()
        .map(|row| Some((text(row, 0)?.parse().ok()?, text(row, 1)?.to_owned())))
        .collect::<Option<_>>()
        .ok_or_else(odd)?;
    Ok(SessionState { encoding, settings, prepared, channels, unnamed_types })
}

fn refuse_blockers(blockers: &Row) -> Result<(), NotMovable> {
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
    Ok(())
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

/// A value of a row, unless it is NULL.
pub(super) fn text(row: &Row, at: usize) -> Option<&str> {
    row.get(at)?.as_deref()
}

/// A string literal that means the same whatever `standard_conforming_strings` says. Only in UTF-8.
pub(super) fn literal(value: &str) -> String {
    format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}
