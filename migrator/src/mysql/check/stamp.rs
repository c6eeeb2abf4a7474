//! Sessions that read the definitions of both sides, quick enough to be asked again while clients are held: where a server
//! has run no statement since that could change a definition, none has changed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use mysql_async::{Conn, Error as Failure};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::differences::Sides;
use super::inventory::On;
use super::inventory::catalogues::{MARIADB, OLD, OLD_MYSQL};
use super::inventory::reading::{Catalogue, Seen};
use crate::error::{Kind, Result};
use crate::model::definitions::Fingerprint;
use crate::mysql::catalogue::ask;
use crate::mysql::client::failed;
use crate::mysql::schema::accounts::refused;
use crate::mysql::{Mysql, processlist};

/// Counters of statements that change no definition, by the beginnings of their names: what a version brings anew counts.
/// What these run in turn (a procedure, a prepared statement) is counted by itself.
const HARMLESS: &[&str] = &[
    "admin_commands",
    "begin",
    "binlog",
    "call_procedure",
    "change_db",
    "check",
    "commit",
    "compound_sql",
    "dealloc_sql",
    "delete",
    "do",
    "empty_query",
    "execute_",
    "explain",
    "get_diagnostics",
    "ha_",
    "help",
    "insert",
    "kill",
    "load",
    "lock_tables",
    "multi",
    "prepare_sql",
    "release_savepoint",
    "replace",
    "resignal",
    "rollback",
    "savepoint",
    "select",
    "set_option",
    "set_role",
    "show_",
    "signal",
    "stmt_",
    "unlock_tables",
    "update",
    "xa_",
];
/// On the target these are Headgate's own; its triggers are no part of what is looked at.
const OWN_ON_TARGET: &[&str] = &["create_trigger", "drop_trigger"];

const COUNTERS: &str = "SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Com\\_%'
    OR Variable_name IN ('Uptime', 'Uptime_since_flush_status')";
/// Statements under way that may change a definition, or whose text is not shown: they were counted when they began. Only
/// the first word behind a comment is looked at, because a text may be long.
const UNDER_WAY: &str = "SELECT COUNT(*) FROM (
        SELECT LTRIM(CASE WHEN INFO LIKE '/*%' AND INFO NOT LIKE '/*!%' AND INFO NOT LIKE '/*M!%'
            THEN SUBSTRING(INFO, LOCATE('*/', INFO) + 2) ELSE INFO END) AS begun
        FROM information_schema.PROCESSLIST
        WHERE ID <> CONNECTION_ID() AND COMMAND NOT IN ('Sleep', 'Daemon', 'Binlog Dump', 'Binlog Dump GTID', 'Connect',
            'Slave_IO', 'Slave_SQL', 'Slave_worker', 'Ping', 'Prepare', 'Close stmt', 'Reset stmt', 'Fetch', 'Long Data', 'Init DB', 'Field List', 'Statistics', 'Quit')
    ) AS statements
    WHERE begun IS NULL OR LOWER(LEFT(begun, 12)) NOT REGEXP
        '^[( ]*(select|insert|update|delete|replace|with|begin|start|commit|rollback|show|do|explain|xa)([^a-z_]|$)'";
/// How often it is asked whether such a statement is under way, and the pause before the next time.
const SETTLING_TRIES: u32 = 20;
const SETTLING_PAUSE: Duration = Duration::from_millis(10);
/// What some servers change under another counter, such as `SET PASSWORD`, or let people change by hand, in tables of their
/// own: a sum over all of it.
const IN_TABLES: &[(&str, On, &str)] = &[
    ("mysql.global_priv", MARIADB, "User, Host, Priv"),
    ("mysql.user", OLD_MYSQL, "User, Host, plugin, Password, authentication_string"),
    ("mysql.proc", OLD, "db, name, type, definer, sql_mode, security_type, comment, param_list, returns, body"),
    ("mysql.event", OLD, "db, name, definer, sql_mode, status, comment, body"),
];
const WHAT: &str = "cannot read what a server has counted";

/// A session on one side, what is asked there, and what it said last.
pub(crate) struct Side {
    pub(crate) session: Conn,
    pub(crate) catalogue: Catalogue,
    is_target: bool,
    last: Option<Last>,
}

/// What was read, and what had been counted before; nothing where that would prove nothing.
struct Last {
    counted: Option<String>,
    seen: Seen,
}

impl Side {
    async fn open(mysql: &Mysql, session: impl Future<Output = Result<Conn>>, is_target: bool) -> Result<Self> {
        let mut session = session.await?;
        let catalogue = Catalogue::open(mysql, &mut session).await?;
        Ok(Self { session, catalogue, is_target, last: None })
    }

    /// Whether no statement that could change a definition began since the last reading.
    pub(crate) async fn stands(&mut self) -> Result<bool> {
        let Some(Last { counted: Some(counted), .. }) = &self.last else {
            return Ok(false);
        };
        let counted = counted.clone();
        Ok(self.counted().await? == counted)
    }

    /// Reads the definitions, unless they stand; tells whether they did.
    async fn refresh(&mut self, databases: &[String]) -> Result<bool> {
        if self.stands().await? {
            return Ok(true);
        }
        let counted = self.settled().await?;
        let seen = self.catalogue.read(&mut self.session, databases).await?;
        self.last = Some(Last { counted, seen });
        Ok(false)
    }

    fn seen(&self) -> Seen {
        self.last.as_ref().map(|last| last.seen.clone()).unwrap_or_default()
    }

    /// What had been counted when nothing that was counted was still under way.
    async fn settled(&mut self) -> Result<Option<String>> {
        for _ in 0..SETTLING_TRIES {
            let counted = self.counted().await?;
            if counted.is_empty() || !self.catalogue.sees_sessions() {
                return Ok(None);
            }
            if self.nothing_is_under_way().await? {
                return Ok(Some(counted));
            }
            sleep(SETTLING_PAUSE).await;
        }
        Ok(None)
    }

    async fn nothing_is_under_way(&mut self) -> Result<bool> {
        match processlist::sessions(&mut self.session, UNDER_WAY).await {
            Ok(rows) => Ok(rows.first().and_then(|row| row.get::<u64, _>(0)) == Some(0)),
            // A statement that cannot be shown may be any.
            Err(Failure::Server(reported)) if reported.code == processlist::UNSHOWABLE => Ok(false),
            Err(error) => Err(failed(WHAT, error)),
        }
    }

    async fn counted(&mut self) -> Result<String> {
        let mut counted = String::new();
        let mut started = 0;
        for row in ask(&mut self.session, COUNTERS, WHAT).await? {
            let (name, value) = (row.text(0).to_lowercase(), row.number(1));
            match name.strip_prefix("com_") {
                None if name == "uptime" => started += i128::from(value),
                // Where this is set back, the counters may be too.
                None => started -= i128::from(value),
                Some(statement) => {
                    let harmless = HARMLESS.iter().any(|lead| statement.starts_with(lead))
                        || self.is_target && OWN_ON_TARGET.contains(&statement);
                    if !harmless {
                        let _ = write!(counted, "{statement}={value};");
                    }
                }
            }
        }
        if counted.is_empty() {
            return Ok(counted);
        }
        let _ = write!(counted, "{started}");
        let version = self.catalogue.version;
        let sums = IN_TABLES.iter().filter(|(_, on, _)| on.has(version));
        let sums = sums.map(|(table, _, columns)| {
            let row = format!("CONCAT_WS('|', {columns})");
            format!("SELECT CONCAT_WS(',', COUNT(*), SUM(CRC32({row})), SUM(CRC32(REVERSE({row})))) FROM {table}")
        });
        let sums = sums.collect::<Vec<_>>().join(" UNION ALL ");
        if !sums.is_empty() {
            match ask(&mut self.session, &sums, WHAT).await {
                Ok(rows) => counted.extend(rows.iter().map(|row| row.text(0))),
                // What may not be read is not known to stand.
                Err(failure) if failure.kind() == Kind::Fatal => counted.clear(),
                Err(failure) => return Err(failure),
            }
        }
        Ok(counted)
    }
}

/// Two sessions that read the definitions of both sides.
pub struct Stamp {
    pub(crate) source: Side,
    pub(crate) target: Side,
    databases: Vec<String>,
    /// Accounts that the target has locked only as long as the refusal of an earlier leg stands there.
    refused: BTreeSet<(String, String)>,
    /// The leg goes back to where the definitions came from.
    comes_back: bool,
    last: Option<Fingerprint>,
    quick: bool,
}

impl Stamp {
    /// Opens the sessions, and finds out how the definitions are read.
    pub async fn open(mysql: &Mysql) -> Result<Self> {
        let (source, mut target) = tokio::try_join!(
            Side::open(mysql, mysql.connect_source("look"), false),
            Side::open(mysql, mysql.connect_target("look"), true)
        )?;
        let refused = refused::read(mysql, &mut target.session).await?;
        let (databases, comes_back) = (mysql.databases(), mysql.leg().is_way_back());
        Ok(Self { source, target, databases, refused, comes_back, last: None, quick: false })
    }

    /// Whether the last reading was answered by counters alone.
    pub fn was_quick(&self) -> bool {
        self.quick
    }

    /// Whether both sides are still defined as they were when they were read last. That they are not proven to be does
    /// not mean that anything changed.
    pub async fn stands(&mut self) -> Result<bool> {
        let stand = tokio::try_join!(self.source.stands(), self.target.stands())?;
        Ok(stand == (true, true))
    }

    /// Every definition of both sides, as digests.
    pub async fn read(&mut self) -> Result<Fingerprint> {
        self.refresh().await?;
        Ok(self.last.clone().unwrap_or_default())
    }

    /// Every definition of both sides.
    pub(crate) async fn sides(&mut self) -> Result<Sides> {
        self.refresh().await?;
        Ok(self.seen())
    }

    /// Reads what does not stand.
    async fn refresh(&mut self) -> Result<()> {
        let databases = &self.databases;
        let stood = tokio::try_join!(self.source.refresh(databases), self.target.refresh(databases))?;
        self.quick = stood == (true, true);
        if !self.quick {
            self.last = Some(self.seen().fingerprint());
        }
        Ok(())
    }

    fn seen(&self) -> Sides {
        let mut target = self.target.seen();
        for record in &mut target.records {
            let is_refused = record.account.as_ref().is_some_and(|account| self.refused.contains(account));
            for (column, open) in [("account_locked", "N"), ("priv.account_locked", "false")] {
                if is_refused && let Some(locked) = record.values.get_mut(column) {
                    *locked = Some(open.to_owned());
                }
            }
        }
        Sides {
            source: self.source.seen(),
            target,
            catalogues: (self.source.catalogue.clone(), self.target.catalogue.clone()),
            comes_back: self.comes_back,
        }
    }

    /// The session on the source.
    pub(crate) fn source(&mut self) -> &mut Conn {
        &mut self.source.session
    }
}

/// As [`Stamp::read`], in sessions of its own.
pub(crate) async fn fingerprint(mysql: &Mysql) -> Result<Fingerprint> {
    Stamp::open(mysql).await?.read().await
}

/// A short text that changes with it.
pub(crate) fn short(fingerprint: &Fingerprint) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(format!("{fingerprint:?}")) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
