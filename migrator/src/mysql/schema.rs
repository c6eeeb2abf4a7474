//! Creates the target: its databases, the accounts, the tables without secondary indexes.

pub mod accounts;
pub mod archive;
pub(crate) mod beside;
pub mod create_table;
pub mod grants;
pub(crate) mod made;
pub(crate) mod post_cutover;
pub mod post_data;
pub mod triggers;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use mysql_async::Conn;

use super::Mysql;
use super::catalogue::{self, ask, listed, run};
use super::client;
use super::sql::{quote_ident, quote_literal, title};
use crate::error::{Error, Result};
use crate::model::plan::{Plan, Table};
use crate::mysql::heartbeat;
use crate::mysql::records;
use crate::mysql::records::Part;
use crate::mysql::schema::archive::{Archive, Database, Text};
use crate::mysql::schema::create_table::{Definition, Translation};

const PRE_DATA: &str = "pre_data";
/// The mode of sessions that change the target's schema: nothing is cut off in silence, and every default may come.
pub const MODE: &str = "STRICT_TRANS_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES";
/// What holds a table of the target longer than this is told; the work is tried again later.
const LOCK_SECONDS: u32 = 300;
/// Sessions that create tables at the same time.
const SESSIONS: usize = 4;

/// Does all of it, and finds nothing to do where it is done.
pub async fn prepare(mysql: &Mysql, plan: &Plan) -> Result<()> {
    let mut source = mysql.connect_source("prepare").await?;
    let mut target = connect(mysql, "prepare").await?;
    records::install_records(&mut target).await?;
    let part = records::part(mysql, &mut target, PRE_DATA).await?;
    if part == Part::Begun {
        made::take_back(mysql, &mut target).await?;
    }
    made::record(mysql, &mut source, &mut target).await?;
    heartbeat::install(&mut source).await?;
    if part == Part::Done {
        return Ok(());
    }
    // What was mended on the source since the last attempt is in a new one.
    let archive = Archive::anew(mysql, &mut target).await?;
    records::set_part(mysql, &mut target, PRE_DATA, Part::Begun).await?;
    create_databases(&archive, &mut target).await?;
    create_sequences(&archive, &mut target).await?;
    create_tables(mysql, plan, &archive, &mut target).await?;
    accounts::create(mysql, &mut source, &mut target).await?;
    beside::carry_servers(&mut source, &mut target).await;
    if let Some(lacking) = absent(mysql, plan, &mut target).await?.first() {
        return Err(Error::fatal(format!("the schema was created on the target, but {lacking} is not there")).remedy(
            "tables were created or renamed on the source meanwhile: start the migration again, which reads them anew",
        ));
    }
    records::set_part(mysql, &mut target, PRE_DATA, Part::Done).await
}

/// Whether the target has the schema as far as the load needs it.
pub(super) async fn is_there(mysql: &Mysql) -> Result<bool> {
    let mut target = mysql.connect_target("prepare").await?;
    Ok(records::are_there(&mut target).await? && records::part(mysql, &mut target, PRE_DATA).await? == Part::Done)
}

/// A session on the target that may create what the source has: foreign keys unchecked, nothing added by the server.
pub async fn connect(mysql: &Mysql, purpose: &str) -> Result<Conn> {
    let mut target = mysql.connect_target(purpose).await?;
    let version = client::version(&mut target).await?;
    let what = "cannot set up a session for the schema";
    let settings = format!(
        "SET SESSION sql_mode = {}, foreign_key_checks = 0, lock_wait_timeout = {LOCK_SECONDS}",
        quote_literal(MODE)
    );
    run(&mut target, &settings, what).await?;
    if version.is_mysql_from(8, 4, 0) {
        let name = "restrict_fk_on_non_standard_key";
        let rows = ask(&mut target, &format!("SELECT @@SESSION.{name}"), what).await?;
        if rows.first().is_some_and(|row| row.is_on(0)) {
            // Changing it takes a right; where that is lacking, the statement that needs it says what is wrong.
            let reported = run(&mut target, &format!("SET SESSION {name} = OFF"), what).await;
            if let Err(failure) = reported {
                tracing::warn!(setting = name, %failure, "the target keeps a setting on");
            }
        }
    }
    if version.is_mysql_from(8, 0, 27) {
        run(&mut target, "SET SESSION innodb_ddl_buffer_size = 67108864", what).await?;
    }
    Ok(target)
}

async fn create_databases(archive: &Archive, target: &mut Conn) -> Result<()> {
    let translation = archive.translation(target).await?;
    for database in &archive.databases {
        let name = quote_ident(&database.name);
        let what = format!("cannot create the database {} on the target", database.name);
        let defaults = defaults(database, &translation);
        run(target, &format!("CREATE DATABASE IF NOT EXISTS {name} {defaults}"), &what).await?;
        run(target, &format!("ALTER DATABASE {name} {defaults}"), &what).await?;
    }
    Ok(())
}

/// What a database gives to tables that say nothing themselves.
pub(super) fn defaults(database: &Database, translation: &Translation) -> String {
    let comment = if translation.target.is_mariadb() {
        format!(" COMMENT {}", quote_literal(&database.comment))
    } else {
        String::new()
    };
    format!(
        "CHARACTER SET {} COLLATE {}{comment}",
        translation.charset(&database.charset),
        translation.charset(&database.collation)
    )
}

async fn create_sequences(archive: &Archive, target: &mut Conn) -> Result<()> {
    for sequence in &archive.sequences {
        let what = format!("cannot create the sequence {}.{}", sequence.schema, sequence.name);
        run(target, &format!("USE {}", quote_ident(&sequence.schema)), &what).await?;
        run(target, &sequence_statement(sequence)?, &what).await?;
    }
    Ok(())
}

/// The statement that creates a sequence where it is not there.
pub(super) fn sequence_statement(sequence: &Text) -> Result<String> {
    let rest = sequence.create.strip_prefix("CREATE SEQUENCE ");
    let rest = rest.ok_or_else(|| {
        Error::fatal(format!("the definition of the sequence {}.{} cannot be read", sequence.schema, sequence.name))
    })?;
    Ok(format!("CREATE SEQUENCE IF NOT EXISTS {rest}"))
}

/// The statement that creates each table as it is loaded, in the plan's order.
pub(super) fn table_statements<'a>(
    plan: &'a Plan,
    archive: &Archive,
    translation: &Translation,
) -> Result<Vec<(&'a Table, String)>> {
    let mut taken: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut statements = Vec::with_capacity(plan.tables.len());
    for table in &plan.tables {
        let Some(text) = archive.table(&table.schema, &table.name) else {
            return Err(Error::fatal(format!("{} has no definition on the source", title(table)))
                .remedy("tables were created or renamed on the source meanwhile: start the migration again, which reads them anew"));
        };
        let definition = Definition::parse(&text.create)?;
        let taken = taken.entry(&table.schema).or_default();
        statements.push((table, definition.create(table, translation, taken)));
    }
    Ok(statements)
}

async fn create_tables(mysql: &Mysql, plan: &Plan, archive: &Archive, target: &mut Conn) -> Result<()> {
    let translation = archive.translation(target).await?;
    let statements = table_statements(plan, archive, &translation)?;
    let mut lists = vec![Vec::new(); SESSIONS];
    for (number, one) in statements.into_iter().enumerate() {
        if let Some(list) = lists.get_mut(number % SESSIONS) {
            list.push(one);
        }
    }
    let work = lists.into_iter().filter(|list| !list.is_empty()).map(|list| async move {
        let mut session = connect(mysql, "prepare").await?;
        for (table, statement) in list {
            let what = format!("cannot create {} on the target", title(table));
            let enter = format!("USE {}", quote_ident(&table.schema));
            run(&mut session, &enter, &what).await?;
            run(&mut session, &statement, &what).await?;
        }
        Ok::<(), Error>(())
    });
    try_join_all(work).await.map(drop)
}

/// The plan's tables that the target does not have.
pub async fn absent(mysql: &Mysql, plan: &Plan, target: &mut Conn) -> Result<Vec<String>> {
    catalogue::prepare(target).await?;
    let query = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({})",
        listed(mysql)
    );
    let rows = ask(target, &query, "cannot read the target's tables").await?;
    let there: BTreeSet<(&str, &str)> = rows.iter().map(|row| (row.text(0), row.text(1))).collect();
    Ok(plan
        .tables
        .iter()
        .filter(|table| !there.contains(&(table.schema.as_str(), table.name.as_str())))
        .map(title)
        .collect())
}
