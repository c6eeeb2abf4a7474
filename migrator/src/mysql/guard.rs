//! Tells whether others write to the target before the switch: the server counts what each table was written, and
//! leaves Headgate's own sessions out, so that every count is of somebody else.
//!
//! What was counted when both sides were compared is part of what was proved; another count inside the hold undoes the
//! cutover. MySQL has no way to refuse the writes of all others on some databases alone.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row};

use crate::error::{Error, Kind, Result};
use crate::model::definitions::{Definitions, named};
use crate::model::leg::Leg;
use crate::mysql::catalogue::text;
use crate::mysql::catalogue::{TextRow, ask, listed};
use crate::mysql::client;
use crate::mysql::client::failed;
use crate::mysql::processlist;
use crate::mysql::processlist::monitored;
use crate::mysql::schema::accounts::refused;
use crate::mysql::sql::{qualified, quote_literal};
use crate::mysql::{Mysql, rights};
use crate::preflight::{Check, Level};

const WHAT: &str = "cannot see whether others write to the target";
const UNKNOWN: &str = "whether others write to the target cannot be known";
const CHECK: &str = "foreign_writes";
/// Statements that empty or exchange tables without writing a row.
const WHOLESALE: [&str; 4] = ["truncate", "alter_table", "rename_table", "drop_table"];
/// Sessions of others, by what they ran.
const WRITING: [&str; 9] = [
    "insert",
    "insert_select",
    "update",
    "update_multi",
    "delete",
    "delete_multi",
    "replace",
    "replace_select",
    "load",
];

/// What the server counts of others.
enum Counted {
    /// By table, and what else counts.
    Known(Definitions),
    /// Why it counts nothing that could be relied upon, and what ends that: a setting, or else grants.
    Unknown { why: String, remedy: &'static str, grants: String },
}

async fn counted(mysql: &Mysql, session: &mut Conn) -> Result<Counted> {
    match read(mysql, session).await {
        Err(failure) if failure.kind() != Kind::Transient => {
            let version = client::version(session).await?;
            let whose = rights::Held::read(session).await?;
            let lacking = whose.lacking(crate::rights::Side::Target, version, &mysql.databases());
            let grants = lacking.into_iter().filter(|grant| grant.statement.contains("performance_schema"));
            let grants: Vec<String> = grants.map(|grant| grant.statement).collect();
            let grants = if grants.is_empty() { sight(&whose.account).join("; ") } else { grants.join("; ") };
            Ok(Counted::Unknown {
                why: failure.full_text(),
                remedy: "let Headgate's account on the target look",
                grants,
            })
        }
        outcome => outcome,
    }
}

/// What lets an account see it, and be left out.
fn sight(account: &str) -> [String; 2] {
    [
        format!("GRANT SELECT ON `performance_schema`.* TO {account}"),
        format!("GRANT UPDATE ON `performance_schema`.`threads` TO {account}"),
    ]
}

async fn read(mysql: &Mysql, session: &mut Conn) -> Result<Counted> {
    const ON: &str =
        "set performance_schema = ON in the target's configuration, with what it counts by default, and restart it";
    let unknown = |why: &str| Ok(Counted::Unknown { why: why.to_owned(), remedy: ON, grants: String::new() });
    let shown = ask(session, "SELECT @@GLOBAL.performance_schema", WHAT).await?;
    if shown.first().is_none_or(|row| row.text(0) != "1") {
        return unknown("performance_schema is off on the target");
    }
    let statements = wholesale();
    let gaps = format!(
        "SELECT CONCAT('setup_consumers: ', name) FROM performance_schema.setup_consumers
             WHERE name IN ('global_instrumentation', 'thread_instrumentation') AND enabled <> 'YES'
         UNION ALL SELECT CONCAT('setup_instruments: ', name) FROM performance_schema.setup_instruments
             WHERE name IN ('wait/io/table/sql/handler', {statements}) AND enabled <> 'YES'
         UNION ALL SELECT CONCAT('setup_objects: ', object_schema) FROM performance_schema.setup_objects
             WHERE object_type = 'TABLE' AND enabled <> 'YES'
               AND object_schema NOT IN ('mysql', 'performance_schema', 'information_schema')
         UNION ALL SELECT 'setup_actors' FROM performance_schema.setup_actors WHERE enabled <> 'YES'
         UNION ALL SELECT 'setup_actors' FROM (SELECT 1) AS one WHERE NOT EXISTS (
             SELECT 1 FROM performance_schema.setup_actors WHERE host = '%' AND user = '%')
         UNION ALL SELECT 'Headgate''s own sessions are counted' FROM performance_schema.threads
             WHERE processlist_id = CONNECTION_ID() AND instrumented <> 'NO'"
    );
    let gaps = ask(session, &gaps, WHAT).await?;
    if let Some(gap) = gaps.first() {
        let gap = gap.text(0);
        return if gap.starts_with("Headgate") {
            Err(Error::fatal(gap.to_owned()))
        } else {
            unknown(&format!("the target does not count all that others write ({gap})"))
        };
    }
    let query = counting(mysql, session).await?;
    counts(session, &query).await.map(Counted::Known)
}

/// A session that reads the counts alone, which is quick enough for the hold.
pub(crate) struct Counts {
    session: Conn,
    query: String,
    /// What was counted before the hold.
    before: Counted,
}

impl Counts {
    /// Looks before the hold.
    pub(crate) async fn open(mysql: &Mysql) -> Result<Self> {
        let mut session = mysql.connect_target("look").await?;
        let before = Box::pin(counted(mysql, &mut session)).await?;
        let query = counting(mysql, &mut session).await?;
        Ok(Self { session, query, before })
    }

    /// What was counted before the hold.
    pub(crate) fn before(&self) -> Definitions {
        self.before.reported()
    }

    /// What is counted now.
    pub(crate) async fn again(&mut self) -> Result<Definitions> {
        match &self.before {
            Counted::Known(_) => counts(&mut self.session, &self.query).await,
            unknown @ Counted::Unknown { .. } => Ok(unknown.reported()),
        }
    }
}

impl Counted {
    /// As it stands among the target's definitions.
    fn reported(&self) -> Definitions {
        match self {
            Self::Known(counts) => counts.clone(),
            Self::Unknown { .. } => {
                let what = "writes of others".to_owned();
                Definitions::from([(what, "cannot be known".to_owned())])
            }
        }
    }
}

fn wholesale() -> String {
    WHOLESALE.map(|name| quote_literal(&format!("statement/sql/{name}"))).join(", ")
}

/// The query for the counts.
async fn counting(mysql: &Mysql, session: &mut Conn) -> Result<String> {
    // Of one statement, so that both read the same clock: the difference is when the server was started. And of one row
    // set, because each asks every session of the server.
    let status = if client::version(session).await?.is_mariadb() {
        "information_schema.GLOBAL_STATUS"
    } else {
        "performance_schema.global_status"
    };
    Ok(format!(
        "SELECT '', IF(variable_name = 'Uptime', '', variable_name),
             IF(variable_name = 'Uptime', UNIX_TIMESTAMP() - variable_value, variable_value) FROM {status}
             WHERE variable_name IN ('Uptime', 'Performance_schema_table_instances_lost',
                 'Performance_schema_thread_instances_lost')
         UNION ALL SELECT '', 'statements', SUM(count_star) FROM performance_schema.events_statements_summary_global_by_event_name
             WHERE event_name IN ({})
         UNION ALL SELECT object_schema, object_name, count_write FROM performance_schema.table_io_waits_summary_by_table
             WHERE object_schema IN ({}) AND count_write > 0",
        wholesale(),
        listed(mysql)
    ))
}

async fn counts(session: &mut Conn, query: &str) -> Result<Definitions> {
    let mut found = Definitions::new();
    for row in ask(session, query, WHAT).await? {
        let what = match (row.text(0), row.text(1)) {
            ("", "") => "time since which writes of others are counted".to_owned(),
            ("", "statements") => "count of statements of others that empty, alter, rename or drop tables".to_owned(),
            ("", lost) => format!("count of what is not counted of others ({lost})"),
            (database, table) => {
                format!("count of writes of others to {}", qualified(database, table))
            }
        };
        found.insert(what, row.text(2).to_owned());
    }
    Ok(found)
}

/// What tells, among the target's definitions, whether others have written there.
pub(crate) async fn definitions(mysql: &Mysql, session: &mut Conn) -> Result<Definitions> {
    Ok(Box::pin(counted(mysql, session)).await?.reported())
}

/// Sessions of others with a write open in the databases that move: what they wrote is counted already and seen by
/// nobody. Nothing where the server does not tell.
async fn open(mysql: &Mysql, session: &mut Conn) -> Result<Vec<(String, String)>> {
    let version = client::version(session).await?;
    let query = if version.is_mysql_from(8, 0, 1) {
        format!(
            "SELECT DISTINCT CAST(t.processlist_id AS CHAR), t.processlist_user, t.processlist_host
             FROM performance_schema.data_locks AS l JOIN performance_schema.threads AS t ON t.thread_id = l.thread_id
             WHERE l.lock_type = 'TABLE' AND l.lock_mode IN ('IX', 'X') AND l.object_schema IN ({})
               AND t.processlist_id IS NOT NULL AND t.instrumented = 'YES'",
            listed(mysql)
        )
    } else {
        let Some(ids) = changed(session).await? else {
            return Ok(Vec::new());
        };
        format!(
            "SELECT CAST(processlist_id AS CHAR), processlist_user, processlist_host FROM performance_schema.threads
             WHERE processlist_id IN ({ids}) AND instrumented = 'YES'"
        )
    };
    let rows = match processlist::sessions(session, &query).await {
        Ok(rows) => rows,
        Err(Failure::Server(_)) => return Ok(Vec::new()),
        Err(error) => return Err(failed(WHAT, error)),
    };
    Ok(rows
        .into_iter()
        .map(TextRow::read)
        .map(|row| {
            let (id, user, host) = (row.text(0), row.text(1), row.text(2));
            (format!("session {id} of user {user} from {host}"), format!("KILL {id}"))
        })
        .collect())
}

/// The sessions whose transactions have changed something, by InnoDB's monitor: its table of transactions may be old.
async fn changed(session: &mut Conn) -> Result<Option<String>> {
    let shown = match session.query_first::<Row, _>("SHOW ENGINE INNODB STATUS").await {
        Ok(shown) => shown,
        Err(Failure::Server(_)) => return Ok(None),
        Err(error) => return Err(failed(WHAT, error)),
    };
    let status = shown.map(|row| text(&row, 2)).transpose()?;
    let Some(ids) = monitored(&status.unwrap_or_default()) else {
        return Err(Error::transient(format!(
            "{UNKNOWN}: there are too many transactions for InnoDB's monitor to print them all"
        ))
        .remedy("try again when the target has less to do"));
    };
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    Ok((!ids.is_empty()).then(|| ids.join(", ")))
}

/// Refuses where others have a write open on the target: nobody can say whether it was compared.
pub(crate) async fn refuse_open(mysql: &Mysql) -> Result<()> {
    let mut session = mysql.connect_target("guard").await?;
    let open: Vec<String> = open(mysql, &mut session).await?.into_iter().map(|(who, _)| who).collect();
    if open.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!("others have writes open on the target: {}", named(&open)))
        .remedy("let these transactions end, or end them, and check again"))
}

/// Who has run statements that write, of those that are connected: nobody tells any more who was.
async fn writers(session: &mut Conn) -> Result<Vec<String>> {
    let names = WRITING.map(|name| quote_literal(&format!("statement/sql/{name}")));
    let query = format!(
        "SELECT t.processlist_id, t.processlist_user, t.processlist_host, SUM(s.count_star)
         FROM performance_schema.threads AS t
         JOIN performance_schema.events_statements_summary_by_thread_by_event_name AS s ON s.thread_id = t.thread_id
         WHERE t.instrumented = 'YES' AND t.processlist_id IS NOT NULL AND s.event_name IN ({}) AND s.count_star > 0
         GROUP BY 1, 2, 3 ORDER BY 1 LIMIT 100",
        names.join(", ")
    );
    let rows = ask(session, &query, WHAT).await?;
    let who: BTreeSet<String> = rows
        .iter()
        .map(|row| {
            format!(
                "session {} of user {} from {} ran {} statements that write",
                row.text(0),
                row.text(1),
                row.text(2),
                row.text(3)
            )
        })
        .collect();
    Ok(who.into_iter().collect())
}

/// The target of a way back refuses others, so that only who passes its fence could write uncounted.
async fn refused_others(mysql: &Mysql, session: &mut Conn, uncounted: String) -> Result<Check> {
    let shown = ask(session, "SELECT @@GLOBAL.read_only = 1", WHAT).await?;
    let by_setting = shown.first().is_some_and(|row| row.is_on(0));
    let by_accounts = !refused::read(mysql, session).await?.is_empty();
    if by_setting || by_accounts {
        let remedy = "it refuses all others: let nobody who passes its fence write there before the switch";
        return Ok(Check::new(CHECK, Level::Warning, uncounted, remedy, ""));
    }
    let evidence = "the target accepts writes of others: read_only is OFF there";
    let remedy = "Headgate sets it again within seconds; find out who lifts it";
    Ok(Check::new(CHECK, Level::Error, evidence, remedy, ""))
}

/// Whether others write to the target, for the operator.
pub(crate) async fn findings(mysql: &Mysql) -> Result<Vec<Check>> {
    let mut session = mysql.connect_target("readiness").await?;
    if let Counted::Unknown { why, remedy, grants } = counted(mysql, &mut session).await? {
        let evidence = format!("{UNKNOWN}: {why}");
        if mysql.leg() != Leg::FIRST {
            return refused_others(mysql, &mut session, evidence).await.map(|check| vec![check]);
        }
        // Grants are given while all runs on; settings need a restart, which not everybody may have.
        let level = if grants.is_empty() { Level::Warning } else { Level::Error };
        return Ok(vec![Check::new(CHECK, level, evidence, remedy, grants)]);
    }
    let open = open(mysql, &mut session).await?;
    if !open.is_empty() {
        let rows = open.into_iter().map(|(who, fix)| {
            let evidence = format!("{who} has a write open on the target");
            let remedy = "let it end, or end it; then CHECK the migration again";
            Check::new(CHECK, Level::Error, evidence, remedy, fix)
        });
        return Ok(rows.collect());
    }
    let writers = writers(&mut session).await?;
    if writers.is_empty() {
        let evidence = "the target counts what others write, and nobody who is connected there has";
        return Ok(vec![Check::ok(CHECK, evidence)]);
    }
    Ok(vec![Check::new(
        CHECK,
        Level::Warning,
        format!("on the target, {}", named(&writers)),
        "what they write to the tables that move voids the proof: let nobody but Headgate write there before the switch",
        "",
    )])
}
