//! What a server session says of itself: everything that must be rebuilt where it moves, and what cannot be.

use std::collections::{BTreeMap, BTreeSet};

use protocol::mysql::handshake::Capabilities;

use super::internal_query::{Answer, Questions, first_row, odd, rows, text};
use super::introspection::{Programs, SessionInfo};
use super::not_movable::NotMovable;
use super::session_tracking::{Named, SessionTracking};
use super::statements::{Statement, Statements};
use super::user_variables::quoted;
use super::variables::{self, Variables};

/// User variables of Headgate's own, which keep what must be changed before anything can be asked.
const OWN_VARIABLES: &str = "headgate_";
/// One of them, which is there whenever the server lists any.
const OWN_VARIABLE: &str = "headgate_client";

/// What must be known of the session before its character sets and limits are put aside.
const PUT_ASIDE: &str = "SET @headgate_client = @@session.character_set_client, \
    @headgate_results = @@session.character_set_results, \
    @headgate_connection = @@session.character_set_connection, \
    @headgate_collation = @@session.collation_connection, \
    @headgate_limit = @@session.sql_select_limit, @headgate_big = @@session.sql_big_selects";

/// Questions, in the order in which [`understand`] reads their answers.
const BASICS: &str = "SELECT @headgate_client, @headgate_results, @headgate_connection, @headgate_collation, \
    @headgate_limit, DATABASE(), LAST_INSERT_ID(), @@session.timestamp, @headgate_big";
const COUNTERS: &str = "SHOW SESSION STATUS WHERE Variable_name IN ('Com_create_table', \
    'Com_create_temporary_table', 'Com_drop_temporary_table', 'Com_ha_open', 'Com_ha_close', 'Com_prepare_sql', \
    'Com_dealloc_sql', 'Com_execute_immediate')";
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
    all.query("SET SESSION sql_select_limit = DEFAULT, sql_big_selects = 1");
    all.query("SHOW SESSION VARIABLES");
    all.query("SHOW GLOBAL VARIABLES");
    // From here on a limit of the client's must not end the questions. One of the two is unknown to every server.
    all.query("SET SESSION max_execution_time = 0");
    all.query("SET SESSION max_statement_time = 0");
    all.query(BASICS);
    all.query("SELECT @@session.timestamp");
    all.query(COUNTERS);
    all.query("SELECT CURRENT_ROLE()");
    all.query(if is_mariadb { NAMES_MARIADB } else { NAMES_MYSQL });
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
    /// The statements that it prepared by SQL.
    pub(super) named: Vec<Named>,
}

/// In which character sets the session speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Charset {
    pub(super) client: String,
    pub(super) results: Option<String>,
    pub(super) connection: String,
    pub(super) collation: String,
}

/// Reads the answer to SHOW VARIABLES.
pub(super) fn variables_of(answer: &Answer) -> Result<Variables, NotMovable> {
    let pairs = rows(answer)?.iter().filter_map(|row| Some((text(row, 0)?, text(row, 1).unwrap_or_default())));
    Ok(variables::by_present_names(pairs.collect()))
}

/// Reads the answers to [`questions`]; fails where the session cannot be moved.
pub(super) fn understand(
    answers: &[Answer],
    learned: &SessionTracking,
    statements: &Statements,
    reported: &SessionInfo,
) -> Result<SessionState, NotMovable> {
    let [aside, names, limit, session, global, _, _, basics, clock, counters, role, used, locks, temporary] = answers
    else {
        return Err(odd());
    };
    for answer in [aside, names, limit] {
        rows(answer)?;
    }
    let mut session = variables_of(session)?;
    let global = variables_of(global)?;
    let counts = Counts::of(counters)?;
    let known = Known { learned, reported, counts: &counts };
    refuse_blockers(&session, &counts, learned, statements)?;
    known.refuse_temporary(&session, temporary)?;
    known.refuse_locks(locks)?;
    let names = known.names(used)?;
    let named = known.named()?;
    let basics = first_row(basics)?;
    let needed = |at| text(basics, at).ok_or_else(odd);
    let timestamp = needed(7)?;
    let big = if needed(8)? == "0" { "OFF" } else { "ON" };
    session.insert(variables::BIG_SELECTS.to_owned(), big.to_owned());
    let frozen = text(first_row(clock)?, 0).is_some_and(|later| later == timestamp);
    let role =
        role.rows.first().filter(|_| role.error.is_none()).map(|row| text(row, 0).unwrap_or_else(|| "NONE".to_owned()));
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
        names,
        named,
    })
}

/// What the server counted of the session.
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn of(answer: &Answer) -> Result<Self, NotMovable> {
        let counts = rows(answer)?.iter().filter_map(|row| Some((text(row, 0)?, text(row, 1)?.parse().ok()?)));
        Ok(Self(counts.collect()))
    }

    fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// All that is known of a session beside what it says itself.
struct Known<'a> {
    learned: &'a SessionTracking,
    reported: &'a SessionInfo,
    counts: &'a Counts,
}

impl Known<'_> {
    /// Whether statements ran whose texts nobody knows.
    fn unknown_text(&self) -> bool {
        self.learned.blind.partial
            || self.counts.get("Com_execute_immediate") > 0
            || !self.learned.knows_prepared(self.counts.get("Com_prepare_sql"))
    }

    /// The stored programs, where with them the texts of statements tell all.
    fn programs(&self) -> Result<&Programs, NotMovable> {
        let programs = self.reported.programs.as_deref();
        let Some(programs) = programs.filter(|programs| !programs.unreadable) else {
            return Err(NotMovable::Untold("its cluster's own account cannot read the stored programs"));
        };
        if self.unknown_text() {
            return Err(NotMovable::Untold("it ran a statement whose text is not wholly known"));
        }
        Ok(programs)
    }

    /// The names of the user variables: as a server lists them, or else as statements and stored programs have them.
    fn names(&self, listed: &Answer) -> Result<BTreeSet<Vec<u8>>, NotMovable> {
        let own: BTreeSet<Vec<u8>> = listed.rows.iter().filter_map(|row| row.first().cloned().flatten()).collect();
        // A server whose performance schema is off, or has no room for this session, lists nothing, and no error.
        let listed = Some(own).filter(|own| own.contains(OWN_VARIABLE.as_bytes()));
        let listed: Option<BTreeSet<Vec<u8>>> = listed.or_else(|| self.reported.variables.clone());
        let mut names = if let Some(names) = listed {
            names
        } else {
            let programs = self.programs()?;
            if self.learned.has_too_many() || programs.learned.has_too_many() {
                return Err(NotMovable::UserVariable);
            }
            let all = self.learned.names() | programs.learned.names();
            // Names mean the same in either case.
            let mut seen = BTreeSet::new();
            all.into_iter().filter(|name| seen.insert(name.to_ascii_lowercase())).collect()
        };
        names.retain(|name| !name.starts_with(OWN_VARIABLES.as_bytes()));
        Ok(names)
    }

    /// The statements that were prepared by SQL.
    fn named(&self) -> Result<Vec<Named>, NotMovable> {
        let (made, gone) = (self.counts.get("Com_prepare_sql"), self.counts.get("Com_dealloc_sql"));
        if made == 0 {
            return Ok(Vec::new());
        }
        self.reported
            .prepared
            .clone()
            .filter(|all| all.iter().all(|named| named.text.is_some()))
            .or_else(|| self.learned.named(made, gone))
            .ok_or(NotMovable::SqlPrepared)
    }

    fn refuse_temporary(&self, session: &Variables, listed: &Answer) -> Result<(), NotMovable> {
        let listed = listed.rows.first().and_then(|row| text(row, 0));
        let listed = listed.and_then(|count| count.parse::<u64>().ok()).or(self.reported.temporary);
        let programs = self.reported.programs.as_deref();
        let by_program =
            |is: fn(&Programs) -> bool| programs.is_none_or(|programs| programs.unreadable || is(programs));
        let made = self.counts.get("Com_create_table") > 0;
        let has = match listed {
            Some(1..) => true,
            // The list is InnoDB's.
            Some(0) => {
                let engine = session.get("default_tmp_storage_engine");
                made && (engine.is_some_and(|engine| engine != "InnoDB")
                    || self.learned.blind.other_engine
                    || self.unknown_text()
                    || by_program(|programs| programs.engines))
            }
            // What the session's own texts do not explain was created by a routine, or by text that was put together.
            None if self.counts.0.contains_key("Com_create_temporary_table") => {
                let created = self.counts.get("Com_create_temporary_table");
                created > u64::from(self.learned.marks.temporary_created) || self.learned.marks.temporary > 0
            }
            None => {
                self.counts.get("Com_create_table") > u64::from(self.learned.marks.tables_created)
                    || self.learned.marks.temporary > 0
            }
        };
        if has {
            return Err(NotMovable::TemporaryTable);
        }
        Ok(())
    }

    fn refuse_locks(&self, released: &Answer) -> Result<(), NotMovable> {
        let released = released.rows.first().and_then(|row| text(row, 0));
        match released.as_deref() {
            Some("0") => Ok(()),
            Some(_) => Err(NotMovable::UserLock),
            None if self.learned.user_lock => Err(NotMovable::UserLock),
            None if self.programs()?.learned.user_lock => {
                Err(NotMovable::Untold("a stored program of its cluster takes locks of GET_LOCK"))
            }
            None => Ok(()),
        }
    }
}

/// The prepared statements that cannot be taken along.
pub(super) fn refuse_statements(learned: &SessionTracking, statements: &Statements) -> Result<(), NotMovable> {
    let strange = |statement: &Statement| statement.database != learned.database();
    if statements.iter().any(|(_, statement)| strange(statement)) {
        // It goes on to mean the tables of the database that it was prepared in.
        return Err(NotMovable::PreparedStatement);
    }
    if statements.iter().any(|(_, statement)| statement.cursor) {
        return Err(NotMovable::Cursor);
    }
    Ok(())
}

fn refuse_blockers(
    session: &Variables,
    counts: &Counts,
    learned: &SessionTracking,
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
        return Err(NotMovable::State("FLUSH STATUS hid what it has created".to_owned()));
    }
    refuse_statements(learned, statements)?;
    if counts.get("Com_ha_open") > counts.get("Com_ha_close") {
        return Err(NotMovable::Handler);
    }
    Ok(())
}

/// Prepares by SQL what was prepared by SQL.
pub(super) fn prepare(named: &Named, charset: &Charset, questions: &mut Questions) -> Result<(), NotMovable> {
    let text = named.text.as_deref().ok_or(NotMovable::SqlPrepared)?;
    // Texts in other character sets are known as the bytes that the client or the server wrote.
    if !text.is_ascii() && !charset.client.starts_with("utf8") {
        return Err(NotMovable::SqlPrepared);
    }
    let text = String::from_utf8(text.to_vec()).map_err(|_| NotMovable::SqlPrepared)?;
    let text = variables::bytes(&text);
    questions.query(&format!("SET @headgate_text = {text}"));
    questions.query(&format!("PREPARE {} FROM @headgate_text", quoted(&named.name)));
    questions.query("SET @headgate_text = NULL");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_server_that_lists_not_even_our_own_variables_is_not_believed() {
        let mut learned = SessionTracking::default();
        learned.learn(b"set @mine = 1", true);
        let listed = |names: &[&str]| Answer {
            rows: names.iter().map(|name| vec![Some(name.as_bytes().to_vec())]).collect(),
            ..Answer::default()
        };
        let counts = Counts(BTreeMap::new());
        let names = |listed: &Answer, reported: &SessionInfo| {
            let known = Known { learned: &learned, reported, counts: &counts };
            known.names(listed)
        };
        let set = |name: &[u8]| BTreeSet::from([name.to_vec()]);
        let nothing = SessionInfo::default();
        let own = names(&listed(&["headgate_client", "theirs"]), &nothing);
        assert_eq!(own.expect("listed"), set(b"theirs"));
        assert!(names(&listed(&[]), &nothing).is_err(), "a procedure may have set others");
        let reported = SessionInfo { variables: Some(set(b"witnessed")), ..SessionInfo::default() };
        assert_eq!(names(&listed(&[]), &reported).expect("told"), set(b"witnessed"));
        let mut programs = Programs::default();
        programs.learned.learn(b"set @theirs = 1, @MINE = 2", true);
        let reported = SessionInfo { programs: Some(Arc::new(programs)), ..SessionInfo::default() };
        let all = names(&listed(&[]), &reported).expect("learned");
        assert_eq!(all.len(), 2, "{all:?}");
    }
}
