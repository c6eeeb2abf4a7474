//! What a trial makes on the target: written down before it is made, so that it is taken away again whatever happens.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::super::super::catalogue::{TextRow, ask, run};
use super::super::super::client::failed;
use super::super::super::sql::{qualified, quote_ident, quote_literal};
use super::super::super::{Mysql, schema, stale_sessions};
use crate::error::Result;
use crate::mysql::context::RECORDS;
use crate::mysql::schema::archive::{Archive, Kind};

const PURPOSE: &str = "trial";
/// The trial waits for nobody for longer than this.
const LOCK_SECONDS: u32 = 10;
const STALE_SESSIONS_TIMEOUT: Duration = Duration::from_secs(10);
const TABLE: &str = "CREATE TABLE IF NOT EXISTS headgate.trials (
    migration VARCHAR(128) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    name VARCHAR(400) NOT NULL,
    PRIMARY KEY (migration, kind, name)) ENGINE=InnoDB";
const WHAT: &str = "cannot take away what a trial of the schema made on the target";
/// Tables that are looked at or dropped by one statement.
const TOGETHER: usize = 50;

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// A database, with what is in it.
    Database,
    /// What is in a database that was there.
    Objects,
    /// An account of the source's.
    Account,
    /// The account that is granted what others are to be granted.
    Grantee,
    /// A server to which tables may refer, under a name of the trial's own.
    Server,
}

impl Made {
    fn word(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Objects => "objects",
            Self::Account => "account",
            Self::Grantee => "grantee",
            Self::Server => "server",
        }
    }
}

/// A session that may create what the source has. Nothing of it goes to the target's log where that is permitted.
pub(super) async fn connect(mysql: &Mysql) -> Result<Conn> {
    let mut session = schema::connect(mysql, PURPOSE).await?;
    let wait = format!("SET SESSION lock_wait_timeout = {LOCK_SECONDS}");
    run(&mut session, &wait, "cannot set up a trial").await?;
    let quiet = session.query_drop("SET SESSION sql_log_bin = 0").await;
    if let Err(failure) = quiet {
        tracing::debug!(%failure, "the trial goes to the target's log");
    }
    Ok(session)
}

pub(super) async fn begin(session: &mut Conn) -> Result<()> {
    for statement in ["CREATE DATABASE IF NOT EXISTS headgate CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", TABLE] {
        run(session, statement, "cannot write down what a trial makes on the target").await?;
    }
    Ok(())
}

/// Writes down what will be made next.
pub(super) async fn note(mysql: &Mysql, session: &mut Conn, made: Made, name: &str) -> Result<()> {
    let statement = "REPLACE INTO headgate.trials (migration, kind, name) VALUES (?, ?, ?)";
    session
        .exec_drop(statement, (mysql.name(), made.word(), name))
        .await
        .map_err(|error| failed("cannot write down what a trial makes on the target", error))
}

/// Takes away what this migration's trials made: what is as they made it, and nothing else.
pub(super) async fn remove(mysql: &Mysql, archive: &Archive) -> Result<()> {
    let mut session = connect(mysql).await?;
    remove_in(mysql, archive, &mut session).await
}

/// As [`remove`], for what a run that was killed left behind.
pub(crate) async fn recover(mysql: &Mysql) -> Result<()> {
    let mut session = mysql.connect_target("precheck").await?;
    if !is_there(&mut session).await? {
        return Ok(());
    }
    stale_sessions::end(mysql, &mut session, PURPOSE, STALE_SESSIONS_TIMEOUT).await?;
    let archive = Archive::read(mysql).await?;
    remove(mysql, &archive).await
}

async fn is_there(session: &mut Conn) -> Result<bool> {
    let query = "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'headgate' AND TABLE_NAME = 'trials'";
    Ok(!ask(session, query, WHAT).await?.is_empty())
}

async fn remove_in(mysql: &Mysql, archive: &Archive, session: &mut Conn) -> Result<()> {
    let name = quote_literal(mysql.name());
    let query = format!("SELECT kind, name FROM headgate.trials WHERE migration = {name}");
    let noted = ask(session, &query, WHAT).await?;
    let of = |made: Made| -> Vec<&str> {
        let of_it = noted.iter().filter(|row| row.text(0) == made.word());
        of_it.map(|row| row.text(1)).collect()
    };
    for database in of(Made::Objects) {
        empty(archive, session, database).await?;
    }
    for database in of(Made::Database) {
        if empty(archive, session, database).await? {
            let drop = format!("DROP DATABASE IF EXISTS {}", quote_ident(database));
            run(session, &drop, WHAT).await?;
        }
    }
    // What they define must be gone before: a server refuses to drop a definer.
    for account in of(Made::Grantee) {
        run(session, &format!("DROP USER IF EXISTS {account}"), WHAT).await?;
    }
    for server in of(Made::Server) {
        // Whoever may not create one may not drop one either.
        let name = quote_literal(server);
        let query = format!("SELECT 1 FROM mysql.servers WHERE Server_name = {name}");
        if !ask(session, &query, WHAT).await?.is_empty() {
            let drop = format!("DROP SERVER IF EXISTS {}", quote_ident(server));
            run(session, &drop, WHAT).await?;
        }
    }
    for account in of(Made::Account) {
        drop_account(session, account).await?;
    }
    let forget = format!("DELETE FROM headgate.trials WHERE migration = {name}");
    run(session, &forget, WHAT).await?;
    let left = "SELECT 1 FROM headgate.trials LIMIT 1";
    if ask(session, left, WHAT).await?.is_empty() {
        run(session, "DROP TABLE IF EXISTS headgate.trials", WHAT).await?;
    }
    let others = format!("SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{RECORDS}' LIMIT 1");
    if ask(session, &others, WHAT).await?.is_empty() {
        run(session, "DROP DATABASE IF EXISTS headgate", WHAT).await?;
    }
    Ok(())
}

/// What a database holds: each thing's kind and name.
async fn holds(session: &mut Conn, database: &str) -> Result<Vec<TextRow>> {
    let name = quote_literal(database);
    let query = format!(
        "SELECT TABLE_TYPE, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {name}
         UNION ALL SELECT ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name}
         UNION ALL SELECT 'EVENT', EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name}"
    );
    ask(session, &query, WHAT).await
}

/// Drops what the source has too and what holds no row. Whether nothing is left.
async fn empty(archive: &Archive, session: &mut Conn, database: &str) -> Result<bool> {
    let known: BTreeSet<(&str, String)> = archive
        .tables
        .iter()
        .map(|one| ("TABLE", &one.schema, &one.name))
        .chain(archive.sequences.iter().map(|one| ("SEQUENCE", &one.schema, &one.name)))
        .chain(
            archive
                .programs
                .iter()
                .filter(|one| one.kind != Kind::Trigger)
                .map(|one| (one.kind.word(), &one.schema, &one.name)),
        )
        .filter(|(_, schema, _)| schema.eq_ignore_ascii_case(database))
        .map(|(word, _, name)| (word, name.to_lowercase()))
        .collect();
    let there = holds(session, database).await?;
    let mut tables = Vec::new();
    for one in &there {
        let word = match one.text(0) {
            "BASE TABLE" | "SYSTEM VERSIONED" => "TABLE",
            word => word,
        };
        if !known.contains(&(word, one.text(1).to_lowercase())) {
            continue;
        }
        let name = qualified(database, one.text(1));
        if word == "TABLE" {
            tables.push(name);
        } else {
            run(session, &format!("DROP {word} IF EXISTS {name}"), WHAT).await?;
        }
    }
    for some in tables.chunks(TOGETHER) {
        let looks: Vec<String> = some.iter().map(|name| format!("SELECT EXISTS(SELECT 1 FROM {name})")).collect();
        let rows = ask(session, &looks.join(" UNION ALL "), WHAT).await?;
        let without: Vec<&str> =
            some.iter().zip(&rows).filter(|(_, row)| row.text(0) == "0").map(|(name, _)| name.as_str()).collect();
        if !without.is_empty() {
            let drop = format!("DROP TABLE IF EXISTS {}", without.join(", "));
            run(session, &drop, WHAT).await?;
        }
    }
    Ok(holds(session, database).await?.is_empty())
}

/// Drops an account that is locked and may do nothing, or a role that may do nothing, as the trial made it.
async fn drop_account(session: &mut Conn, account: &str) -> Result<()> {
    let Ok(grants) = ask(session, &format!("SHOW GRANTS FOR {account}"), WHAT).await else {
        return Ok(());
    };
    if grants.iter().any(|row| !row.text(0).starts_with("GRANT USAGE ON *.* ")) {
        return Ok(());
    }
    let is_role = !account.contains('@');
    let locked = if is_role {
        true
    } else {
        let shown = ask(session, &format!("SHOW CREATE USER {account}"), WHAT).await?;
        shown.iter().any(|row| row.text(0).contains(" ACCOUNT LOCK"))
    };
    if locked {
        let word = if is_role { "ROLE" } else { "USER" };
        run(session, &format!("DROP {word} IF EXISTS {account}"), WHAT).await?;
    }
    Ok(())
}
