//! What a server session says of itself: everything that must be rebuilt where it moves, and what cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use protocol::mysql::handshake::Capabilities;
use protocol::mysql::reply::Column;

use super::connect::Refused;
use super::dialogue::{Answer, Questions, Row};
use super::learned::Learned;
use super::statements::{Statement, Statements};
use super::variables::{self, Variables};

/// Why a session cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum NotMovable {
    /// It has temporary tables.
    #[error("it has temporary tables")]
    TemporaryTable,
    /// It holds user-level locks.
    #[error("it holds locks of GET_LOCK")]
    UserLock,
    /// It has an open HANDLER.
    #[error("it has an open HANDLER")]
    Handler,
    /// It has an open cursor.
    #[error("it has an open cursor")]
    Cursor,
    /// It writes past the binary log, or under a chosen GTID.
    #[error("its writes are not in the binary log as others are: {0}")]
    BinaryLog(&'static str),
    /// It has user variables whose names or values cannot be learned.
    #[error("it has user variables that cannot be read")]
    UserVariable,
    /// It has statements that were prepared by SQL.
    #[error("it has statements that were prepared by SQL")]
    SqlPrepared,
    /// A prepared statement cannot be taken along: its text or its parameters are too large.
    #[error(
        "a prepared statement cannot be taken along: it is too large, or was prepared in another default database"
    )]
    PreparedStatement,
    /// It changed a variable that the new server does not have.
    #[error("it has changed the variable {0}, which the new server does not have")]
    Variable(String),
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
            Self::UserLock => "user lock",
            Self::Handler => "handler",
            Self::Cursor => "open cursor",
            Self::BinaryLog(_) => "binary log",
            Self::UserVariable => "user variable",
            Self::SqlPrepared | Self::PreparedStatement => "prepared statement",
            Self::Variable(_) => "session variable",
            Self::SourceGone(_) => "old server session gone",
            Self::TargetRefused(_) => "login on the new cluster",
            Self::State(_) => "state not rebuilt",
            Self::Late => "handover timeout",
        }
    }
}

/// User variables of Headgate's own, which keep what must be changed before anything can be asked.
const OWN_VARIABLES: &str = "headgate_";
/// One of them, which is there whenever the server lists any.
const OWN_VARIABLE: &str = "headgate_client";

/// What must be known of the session before its character sets and limits are put aside.
const PUT_ASIDE: &str = "SET @headgate_client = @@session.character_set_client, \
    @headgate_results = @@session.character_set_results, \
    @headgate_connection = @@session.character_set_connection, \
    @headgate_collation = @@session.collation_connection, \
    @headgate_limit = @@session.sql_select_limit";

/// Questions, in the order in which [`understand`] reads their answers.
const BASICS: &str = "SELECT @headgate_client, @headgate_results, @headgate_connection, @headgate_collation, \
    @headgate_limit, DATABASE(), LAST_INSERT_ID(), @@session.timestamp";
const COUNTERS: &str = "SHOW SESSION STATUS WHERE Variable_name IN ('Com_create_table', \
    'Com_create_temporary_table', 'Com_drop_temporary_table', 'Com_ha_open', 'Com_ha_close', 'Com_prepare_sql', \
    'Com_dealloc_sql', 'Com_call_procedure')";
const NAMES_MARIADB: &str = "SELECT VARIABLE_NAME FROM information_schema.USER_VARIABLES";
const NAMES_MYSQL: &str = "SELECT VARIABLE_NAME FROM performance_schema.user_variables_by_thread WHERE THREAD_ID = \
    (SELECT THREAD_ID FROM performance_schema.threads WHERE PROCESSLIST_ID = CONNECTION_ID())";
const TEMPORARY_TABLES: &str = "SELECT COUNT(*) FROM information_schema.INNODB_TEMP_TABLE_INFO t \
    JOIN information_schema.INNODB_SESSION_TEMP_TABLESPACES s ON s.SPACE = t.SPACE WHERE s.ID = CONNECTION_ID()";

/// Asks the old server session everything but the values of its user variables.
pub(super) fn questions(capabilities: Capabilities, is_mariadb: bool) -> Questions {
    let mut all = Questions::new(capabilities);
    all.query(PUT_ASIDE);
    all.query("SET NAMES utf8mb4");
    all.query("SET SESSION sql_select_limit = DEFAULT");
    all.query("SHOW SESSION VARIABLES");
    all.query("SHOW GLOBAL VARIABLES");
    // From here on a limit of the client's must not end the questions. One of the two is unknown to every server.
    all.query("SET SESSION max_execution_time = 0");
    all.query("SET SESSION max_statement_time = 0");
    all.query(BASICS);
    all.query("SELECT @@session.timestamp");
    all.query(COUNTERS);
    all.query("SELECT CURRENT_ROLE()");
    all.query(if is_mariadb {
        NAMES_MARIADB
    } else {
        NAMES_MYSQL
    });
    // Only a session that holds locks loses any by this, and such a session does not go on.
    all.query("SELECT RELEASE_ALL_LOCKS()");
    all.query(TEMPORARY_TABLES);
    all
}

/// What a session is like, beside its prepared statements and the values of its user variables.
#[derive(Debug)]
pub(super) struct SessionState {
    pub(super) charset: Charset,
    pub(super) select_limit: String,
    pub(super) database: Option<Vec<u8>>,
    pub(super) last_insert_id: String,
    /// The time that the session has stopped its clock at.
    pub(super) timestamp: Option<String>,
    pub(super) role: Option<String>,
    pub(super) session: Variables,
    pub(super) global: Variables,
    /// The names of its user variables.
    pub(super) names: BTreeSet<Vec<u8>>,
}

/// In which character sets the session speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Charset {
    pub(super) client: String,
    pub(super) results: Option<String>,
    pub(super) connection: String,
    pub(super) collation: String,
}

fn odd() -> NotMovable {
    NotMovable::State("the server's answer was not understood".to_owned())
}

/// The rows of an answer that must not be an error.
pub(super) fn rows(answer: &Answer) -> Result<&[Row], NotMovable> {
    match &answer.error {
        Some((_, error)) => Err(NotMovable::State(error.clone())),
        None => Ok(&answer.rows),
    }
}

/// A value of a row as text, unless it is NULL.
pub(super) fn text(row: &Row, at: usize) -> Option<String> {
    let value = row.get(at)?.as_deref()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Reads the answer to SHOW VARIABLES.
pub(super) fn variables_of(answer: &Answer) -> Result<Variables, NotMovable> {
    let pairs = rows(answer)?
        .iter()
        .filter_map(|row| Some((text(row, 0)?, text(row, 1).unwrap_or_default())));
    Ok(variables::by_present_names(pairs.collect()))
}

fn first_row(answer: &Answer) -> Result<&Row, NotMovable> {
    rows(answer)?.first().ok_or_else(odd)
}

/// Reads the answers to [`questions`]; fails where the session cannot be moved.
pub(super) fn understand(
    answers: &[Answer],
    learned: &Learned,
    statements: &Statements,
) -> Result<SessionState, NotMovable> {
    let [
        aside,
        names,
        limit,
        session,
        global,
        _,
        _,
        basics,
        clock,
        counters,
        role,
        used,
        locks,
        temporary,
    ] = answers
    else {
        return Err(odd());
    };
    for answer in [aside, names, limit] {
        rows(answer)?;
    }
    let session = variables_of(session)?;
    let global = variables_of(global)?;
    refuse_blockers(&session, counters, temporary, learned, statements)?;
    let called = counts_of(counters)?
        .get("Com_call_procedure")
        .is_some_and(|&count| count > 0);
    let released = locks.rows.first().and_then(|row| text(row, 0));
    let holds = released.map_or(learned.user_lock, |count| count != "0");
    if holds {
        return Err(NotMovable::UserLock);
    }
    let basics = first_row(basics)?;
    let needed = |at| text(basics, at).ok_or_else(odd);
    let timestamp = needed(7)?;
    let frozen = text(first_row(clock)?, 0).is_some_and(|later| later == timestamp);
    let role = role
        .rows
        .first()
        .filter(|_| role.error.is_none())
        .map(|row| text(row, 0).unwrap_or_else(|| "NONE".to_owned()));
    Ok(SessionState {
        charset: Charset {
            client: needed(0)?,
            results: text(basics, 1),
            connection: needed(2)?,
            collation: needed(3)?,
        },
        select_limit: needed(4)?,
        database: basics.get(5).cloned().flatten(),
        last_insert_id: needed(6)?,
        timestamp: frozen.then_some(timestamp),
        role,
        session,
        global,
        names: names_of(used, learned, called)?,
    })
}

/// The names of the user variables: as the server lists them, or else as statements told them, unless the session
/// `called` a procedure, which may have set others.
fn names_of(
    listed: &Answer,
    learned: &Learned,
    called: bool,
) -> Result<BTreeSet<Vec<u8>>, NotMovable> {
    let mut names: BTreeSet<Vec<u8>> = listed
        .rows
        .iter()
        .filter_map(|row| row.first().cloned().flatten())
        .collect();
    // A server whose performance schema is off, or has no room for this session, lists nothing, and no error.
    if !names.iter().any(|name| name == OWN_VARIABLE.as_bytes()) {
        if learned.has_too_many() || called {
            return Err(NotMovable::UserVariable);
        }
        names = learned.names().clone();
    }
    names.retain(|name| !name.starts_with(OWN_VARIABLES.as_bytes()));
    Ok(names)
}

/// Reads the answer to SHOW STATUS.
fn counts_of(answer: &Answer) -> Result<BTreeMap<String, u64>, NotMovable> {
    let counts = rows(answer)?
        .iter()
        .filter_map(|row| Some((text(row, 0)?, text(row, 1)?.parse().ok()?)));
    Ok(counts.collect())
}

fn refuse_blockers(
    session: &Variables,
    counters: &Answer,
    temporary: &Answer,
    learned: &Learned,
    statements: &Statements,
) -> Result<(), NotMovable> {
    let is = |name: &str, value: &str| session.get(name).is_some_and(|have| have == value);
    if is("sql_log_bin", "OFF") {
        return Err(NotMovable::BinaryLog("sql_log_bin is off"));
    }
    if session.contains_key("gtid_next") && !is("gtid_next", "AUTOMATIC") {
        return Err(NotMovable::BinaryLog("gtid_next is set"));
    }
    if learned.uncounted {
        return Err(NotMovable::State(
            "FLUSH STATUS hid what it has created".to_owned(),
        ));
    }
    let strange = |statement: &Statement| statement.database != learned.database();
    if statements.iter().any(|(_, statement)| strange(statement)) {
        // It goes on to mean the tables of the database that it was prepared in.
        return Err(NotMovable::PreparedStatement);
    }
    if statements.iter().any(|(_, statement)| statement.cursor) {
        return Err(NotMovable::Cursor);
    }
    let counts = counts_of(counters)?;
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    if count("Com_ha_open") > count("Com_ha_close") {
        return Err(NotMovable::Handler);
    }
    if count("Com_prepare_sql") > count("Com_dealloc_sql") {
        return Err(NotMovable::SqlPrepared);
    }
    // A server that lists its temporary tables is believed; of others only the count of what was created is known.
    let listed = temporary
        .rows
        .first()
        .and_then(|row| text(row, 0))
        .and_then(|count| count.parse::<u64>().ok());
    let has = match listed {
        Some(count) => count > 0,
        // What the session's own texts do not explain was created by a routine, or by text that was put together.
        None if counts.contains_key("Com_create_temporary_table") => {
            let unexplained =
                count("Com_create_temporary_table") > u64::from(learned.marks.temporary_created);
            unexplained || learned.marks.temporary > 0
        }
        None => {
            let unexplained = count("Com_create_table") > u64::from(learned.marks.tables_created);
            unexplained || learned.marks.temporary > 0
        }
    };
    if has {
        return Err(NotMovable::TemporaryTable);
    }
    Ok(())
}

/// A user variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserVariable {
    pub(super) name: Vec<u8>,
    pub(super) value: UserValue,
}

/// Its value, in the type that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UserValue {
    Null,
    Signed(String),
    Unsigned(String),
    Decimal(String),
    Double(String),
    /// The bytes as hexadecimal digits, the character set, the collation.
    Text(String, String, String),
}

/// Asks for the values of user variables.
pub(super) fn values_query(names: &BTreeSet<Vec<u8>>) -> String {
    let mut sql = String::from("SELECT ");
    for (at, name) in names.iter().enumerate() {
        let name = quoted(name);
        let comma = if at > 0 { ", " } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(
            sql,
            "{comma}@{name}, HEX(@{name}), CHARSET(@{name}), COLLATION(@{name})"
        );
    }
    sql
}

/// A name between backticks.
pub(super) fn quoted(name: &[u8]) -> String {
    format!("`{}`", String::from_utf8_lossy(name).replace('`', "``"))
}

/// The numbers of the types that are no strings.
const DECIMALS: [u8; 2] = [0, 246];
const DOUBLES: [u8; 2] = [4, 5];
const INTEGERS: [u8; 5] = [1, 2, 3, 8, 9];

/// Reads the answer to [`values_query`].
pub(super) fn values_of(
    names: &BTreeSet<Vec<u8>>,
    answer: &Answer,
) -> Result<Vec<UserVariable>, NotMovable> {
    let row = first_row(answer)?;
    let mut out = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let at = at * 4;
        let column = answer.columns.get(at).ok_or_else(odd)?;
        let value = match text(row, at) {
            None => UserValue::Null,
            Some(value) if INTEGERS.contains(&column.kind) => {
                if column.flags & Column::UNSIGNED != 0 {
                    UserValue::Unsigned(value)
                } else {
                    UserValue::Signed(value)
                }
            }
            Some(value) if DECIMALS.contains(&column.kind) => UserValue::Decimal(value),
            Some(value) if DOUBLES.contains(&column.kind) => UserValue::Double(value),
            Some(_) => {
                let part = |at| text(row, at).ok_or(NotMovable::UserVariable);
                let charset = variables::charset(&part(at + 2)?);
                UserValue::Text(part(at + 1)?, charset, variables::charset(&part(at + 3)?))
            }
        };
        out.push(UserVariable {
            name: name.clone(),
            value,
        });
    }
    Ok(out)
}

/// An exact number as an expression of that type: bare digits without a fraction would be an integer.
fn decimal(value: &str) -> String {
    let digits = value
        .bytes()
        .filter(u8::is_ascii_digit)
        .count()
        .clamp(1, 65);
    let fraction = value
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.len());
    format!("CAST({value} AS DECIMAL({digits},{fraction}))")
}

impl UserVariable {
    /// The assignment that makes it; `None` where it is as if it had never been.
    pub(super) fn assignment(&self) -> Option<String> {
        let value = match &self.value {
            UserValue::Null => return None,
            UserValue::Signed(value) => format!("CAST({value} AS SIGNED)"),
            UserValue::Unsigned(value) => format!("CAST({value} AS UNSIGNED)"),
            UserValue::Decimal(value) => decimal(value),
            UserValue::Double(value) if value.contains(['e', 'E']) => value.clone(),
            UserValue::Double(value) => format!("{value}e0"),
            UserValue::Text(hex, charset, _) if charset == "binary" => format!("_binary X'{hex}'"),
            UserValue::Text(hex, charset, collation) => {
                format!("_{charset} X'{hex}' COLLATE {collation}")
            }
        };
        Some(format!("@{} = {value}", quoted(&self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_number_stays_one() {
        assert_eq!(decimal("42"), "CAST(42 AS DECIMAL(2,0))");
        assert_eq!(decimal("-0.50"), "CAST(-0.50 AS DECIMAL(3,2))");
    }

    #[test]
    fn a_server_that_lists_not_even_our_own_variables_is_not_believed() {
        let mut learned = Learned::default();
        learned.learn(b"set @mine = 1", true);
        let listed = |names: &[&str]| Answer {
            rows: names
                .iter()
                .map(|name| vec![Some(name.as_bytes().to_vec())])
                .collect(),
            ..Answer::default()
        };
        let names = |listed: &Answer, called| names_of(listed, &learned, called);
        let expected = |name: &[u8]| BTreeSet::from([name.to_vec()]);
        let told = names(&listed(&["headgate_client", "theirs"]), true);
        assert_eq!(told.expect("listed"), expected(b"theirs"));
        let told = names(&listed(&[]), false);
        assert_eq!(told.expect("learned"), expected(b"mine"));
        assert!(names(&listed(&[]), true).is_err());
    }
}
