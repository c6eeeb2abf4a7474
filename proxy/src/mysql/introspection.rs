//! What a cluster's own account can tell of another account's session, which may not ask for it itself.
//!
//! One connection for each cluster answers for all sessions that move: whoever comes while it is busy is answered
//! together with all others who came meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::{FromRow, Queryable};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, oneshot};
use tokio::time::Instant;

use super::own_account::OwnAccount;
use super::session_tracking::{Named, SessionTracking};
use crate::config::Config;
use crate::per_cluster::PerCluster;

/// Stored programs are read again after this long.
const PROGRAMS_AGE_MAX: Duration = Duration::from_secs(10);

/// A server keeps so many bytes of the text of a prepared statement; a text of this length may have been cut.
const KEPT_TEXT_BYTES: usize = 1024;

/// No session has this number.
const NOBODY: i64 = 0;

/// Schemas of the server itself, whose programs no application calls.
const OWN_SCHEMAS: &str = "('sys', 'mysql', 'information_schema', 'performance_schema')";

/// Whether the list of prepared statements can be relied on.
const ALL_PREPARED: &str = "SELECT @@performance_schema_max_prepared_statements_instances <> 0 \
    AND (SELECT VARIABLE_VALUE FROM performance_schema.global_status \
        WHERE VARIABLE_NAME = 'Performance_schema_prepared_statements_lost') = '0' \
    AND (SELECT ENABLED FROM performance_schema.setup_instruments WHERE NAME = 'statement/sql/prepare_sql') = 'YES'";

/// What stored programs may do to a session that calls them.
#[derive(Debug, Default)]
pub struct Programs {
    /// The user variables that they name.
    pub learned: SessionTracking,
    /// Not all of them can be read.
    pub unreadable: bool,
    /// Some create temporary tables that may be of another engine than InnoDB.
    pub engines: bool,
}

/// What is known of one session. What the server does not tell is `None`.
#[derive(Clone, Debug, Default)]
pub struct SessionInfo {
    /// The names of its user variables.
    pub variables: Option<BTreeSet<Vec<u8>>>,
    /// The statements that it prepared by SQL.
    pub prepared: Option<Vec<Named>>,
    /// Its temporary tables in InnoDB.
    pub temporary: Option<u64>,
    /// The cluster's stored programs.
    pub programs: Option<Arc<Programs>>,
}

/// A session's number, a statement's name and text.
type PreparedRow = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// All clusters' witnesses.
pub struct Witnesses(PerCluster<Introspection>);

impl fmt::Debug for Witnesses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.all().keys()).finish()
    }
}

impl Witnesses {
    /// Asks nothing yet.
    pub fn new(config: &Config) -> Self {
        Self(PerCluster::new(config, introspection(config)))
    }

    /// Knows the clusters of another configuration.
    pub fn renew(&self, config: &Config) {
        self.0.renew(config, introspection(config));
    }

    /// Opens the connection to `cluster` ahead, and reads what takes longer.
    pub async fn prepare(&self, cluster: &str) {
        if let Some(introspection) = self.0.get(cluster) {
            let preparing = async {
                let mut line = introspection.line.lock().await;
                if line.fresh_programs().is_none() {
                    line.ask(&introspection.account, &BTreeSet::from([NOBODY])).await;
                }
            };
            // Whoever needs it meets the failure again.
            drop(tokio::time::timeout(introspection.timeout, preparing).await);
        }
    }

    /// What is known of the session that `cluster` calls `thread`. Nothing is where the cluster cannot be asked.
    pub async fn ask(&self, cluster: &str, thread: i64) -> SessionInfo {
        let Some(introspection) = self.0.get(cluster) else {
            return SessionInfo::default();
        };
        tokio::time::timeout(introspection.timeout, introspection.ask(thread)).await.unwrap_or_default()
    }
}

fn introspection(config: &Config) -> impl Fn(&str, &crate::config::Cluster) -> Introspection {
    let timeout = config.limits.connect_timeout;
    move |_, cluster| Introspection {
        account: OwnAccount::on(cluster),
        timeout,
        waiting: Mutex::default(),
        line: Turn::default(),
    }
}

/// One cluster's.
struct Introspection {
    account: OwnAccount,
    timeout: Duration,
    waiting: Mutex<Vec<(i64, oneshot::Sender<SessionInfo>)>>,
    line: Turn<Line>,
}

#[derive(Default)]
struct Line {
    conn: Option<Conn>,
    programs: Option<(Instant, Arc<Programs>)>,
}

impl Introspection {
    async fn ask(&self, thread: i64) -> SessionInfo {
        loop {
            let (sender, mut receiver) = oneshot::channel();
            self.waiting.lock().push((thread, sender));
            let mut line = tokio::select! {
                biased;
                reported = &mut receiver => match reported {
                    Ok(reported) => return reported,
                    // Whoever asked for us gave up.
                    Err(_) => continue,
                },
                line = self.line.lock() => line,
            };
            if let Ok(reported) = receiver.try_recv() {
                return reported;
            }
            let asked = std::mem::take(&mut *self.waiting.lock());
            let threads: BTreeSet<i64> = asked.iter().map(|(thread, _)| *thread).collect();
            let mut reported = line.ask(&self.account, &threads).await;
            drop(line);
            let own = reported.get(&thread).cloned().unwrap_or_default();
            for (thread, sender) in asked {
                // Who does not listen any more has given up.
                drop(sender.send(reported.remove(&thread).unwrap_or_default()));
            }
            return own;
        }
    }
}

impl Line {
    /// Opens the connection where there is none that answers.
    async fn ready(&mut self, account: &OwnAccount) -> mysql_async::Result<()> {
        if let Some(mut conn) = self.conn.take()
            && conn.ping().await.is_ok()
        {
            self.conn = Some(conn);
            return Ok(());
        }
        let mut conn = account.open().await?;
        // The lists of names are exact, whatever the default collation is.
        conn.query_drop("SET NAMES utf8mb4").await?;
        self.conn = Some(conn);
        Ok(())
    }

    fn fresh_programs(&self) -> Option<Arc<Programs>> {
        let (read, programs) = self.programs.as_ref()?;
        (read.elapsed() < PROGRAMS_AGE_MAX).then(|| Arc::clone(programs))
    }

    async fn ask(&mut self, account: &OwnAccount, threads: &BTreeSet<i64>) -> BTreeMap<i64, SessionInfo> {
        if self.ready(account).await.is_err() {
            return BTreeMap::new();
        }
        // A caller that gives up leaves a connection behind that is in the middle of an answer: it is not put back.
        let Some(mut conn) = self.conn.take() else {
            return BTreeMap::new();
        };
        let reported = self.question(&mut conn, threads).await;
        match reported {
            Ok(reported) => {
                self.conn = Some(conn);
                reported
            }
            Err(_) => BTreeMap::new(),
        }
    }

    async fn question(
        &mut self,
        conn: &mut Conn,
        threads: &BTreeSet<i64>,
    ) -> mysql_async::Result<BTreeMap<i64, SessionInfo>> {
        let all: Vec<String> = threads.iter().map(i64::to_string).collect();
        let all = all.join(", ");
        let programs = if let Some(programs) = self.fresh_programs() {
            Some(programs)
        } else {
            let read = programs(conn).await?.map(Arc::new);
            let now = Instant::now();
            self.programs = read.as_ref().map(|read| (now, Arc::clone(read)));
            read
        };
        let mut reported: BTreeMap<i64, SessionInfo> = BTreeMap::new();
        for &thread in threads {
            let programs = programs.clone();
            reported.insert(thread, SessionInfo { programs, ..SessionInfo::default() });
        }
        // A session that the server does not instrument has no row at all.
        let variables: Option<Vec<(i64, Option<Vec<u8>>)>> = maybe(
            conn,
            &format!(
                "SELECT t.PROCESSLIST_ID, v.VARIABLE_NAME FROM performance_schema.threads t \
                 LEFT JOIN performance_schema.user_variables_by_thread v ON v.THREAD_ID = t.THREAD_ID \
                 WHERE t.PROCESSLIST_ID IN ({all})"
            ),
        )
        .await?;
        for (thread, name) in variables.into_iter().flatten() {
            if let Some(one) = reported.get_mut(&thread) {
                one.variables.get_or_insert_default().extend(name);
            }
        }
        let complete: Option<Vec<Option<i64>>> = maybe(conn, ALL_PREPARED).await?;
        let complete = complete.and_then(|rows| rows.into_iter().next().flatten()) == Some(1);
        let prepared: Option<Vec<PreparedRow>> = if complete {
            maybe(
                conn,
                &format!(
                    "SELECT t.PROCESSLIST_ID, p.STATEMENT_NAME, p.SQL_TEXT FROM performance_schema.threads t \
                     LEFT JOIN performance_schema.prepared_statements_instances p \
                     ON p.OWNER_THREAD_ID = t.THREAD_ID AND p.STATEMENT_NAME IS NOT NULL \
                     WHERE t.PROCESSLIST_ID IN ({all})"
                ),
            )
            .await?
        } else {
            None
        };
        for (thread, name, text) in prepared.into_iter().flatten() {
            if let Some(one) = reported.get_mut(&thread) {
                let list = one.prepared.get_or_insert_default();
                let text = text.filter(|text| text.len() < KEPT_TEXT_BYTES);
                list.extend(name.map(|name| Named { name, text }));
            }
        }
        let temporary: Option<Vec<(i64, i64)>> = maybe(
            conn,
            &format!(
                "SELECT s.ID, COUNT(*) FROM information_schema.INNODB_TEMP_TABLE_INFO t \
                 JOIN information_schema.INNODB_SESSION_TEMP_TABLESPACES s ON s.SPACE = t.SPACE \
                 WHERE s.ID IN ({all}) GROUP BY s.ID"
            ),
        )
        .await?;
        if let Some(rows) = temporary {
            let counts: BTreeMap<i64, i64> = rows.into_iter().collect();
            for (thread, one) in &mut reported {
                let count = counts.get(thread).copied().unwrap_or_default();
                one.temporary = u64::try_from(count).ok();
            }
        }
        Ok(reported)
    }
}

/// The rows; `None` where the server has no such table, or not for us.
async fn maybe<T: FromRow + Send + 'static>(conn: &mut Conn, sql: &str) -> mysql_async::Result<Option<Vec<T>>> {
    match conn.query(sql).await {
        Ok(rows) => Ok(Some(rows)),
        Err(mysql_async::Error::Server(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the stored programs of applications hold that may stay behind in a session.
async fn programs(conn: &mut Conn) -> mysql_async::Result<Option<Programs>> {
    let telling = |text: &str| {
        format!(
            "({text} IS NULL OR {text} LIKE '%@%' OR LOWER({text}) LIKE '%get\\_lock%' \
             OR LOWER({text}) LIKE '%temporary%')"
        )
    };
    let sql = format!(
        "SELECT ROUTINE_DEFINITION FROM information_schema.ROUTINES \
         WHERE ROUTINE_SCHEMA NOT IN {OWN_SCHEMAS} AND {} \
         UNION ALL SELECT ACTION_STATEMENT FROM information_schema.TRIGGERS \
         WHERE TRIGGER_SCHEMA NOT IN {OWN_SCHEMAS} AND {}",
        telling("ROUTINE_DEFINITION"),
        telling("ACTION_STATEMENT")
    );
    let Some(bodies) = maybe::<Option<Vec<u8>>>(conn, &sql).await? else {
        return Ok(None);
    };
    let mut programs = Programs::default();
    for body in bodies {
        let Some(body) = body else {
            programs.unreadable = true;
            continue;
        };
        // What a backslash meant when it was created is not known.
        programs.learned.learn(&body, true);
        programs.learned.learn(&body, false);
        let lower = body.to_ascii_lowercase();
        let has = |word: &str| memchr::memmem::find(&lower, word.as_bytes()).is_some();
        programs.learned.user_lock |= has("get_lock");
        if has("temporary") {
            programs.engines |= has("engine") || has("like");
        }
    }
    Ok(Some(programs))
}
