//! Builds the rest of the schema on loaded tables: plain indexes as soon as a table's rows are there, the rest last.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::try_join_all;
use mysql_async::Conn;
use tokio_util::sync::CancellationToken;

use super::archive::{Archive, Kind as ProgramKind, Program};
use super::create_table::{Definition, Index, Kind, Translation};
use super::{accounts, beside, triggers};
use crate::error::{Error, Result};
use crate::model::plan::{Plan, Table};
use crate::model::progress::{Progress, Stage};
use crate::mysql::catalogue::{ask, listed, run};
use crate::mysql::records;
use crate::mysql::records::Part;
use crate::mysql::sql::{quote_ident, quote_literal, relation, title};
use crate::mysql::tokens::{placed_words, words};
use crate::mysql::{Mysql, client, schema};

/// Builds what is still missing of a loaded table's indexes that refuse no row. Nothing is lost when it fails: the
/// next call builds what is missing then.
pub async fn plain_indexes(mysql: &Mysql, target: &mut Conn, archive: &Archive, table: &Table) -> Result<()> {
    let translation = archive.translation(target).await?;
    let refuses_none = |index: &Index| matches!(index.kind, Kind::Plain | Kind::Fulltext);
    let what = "cannot set the session's mode";
    let mode = quote_literal(schema::MODE);
    run(target, &format!("SET @headgate_mode = @@SESSION.sql_mode, SESSION sql_mode = {mode}"), what).await?;
    let outcome = indexes(target, archive, &translation, table, refuses_none).await;
    let left = run(target, "SET SESSION sql_mode = @headgate_mode", what).await;
    tracing::debug!(migration = mysql.name(), table = title(table), "indexes are built");
    outcome.and(left)
}

async fn indexes(
    target: &mut Conn,
    archive: &Archive,
    translation: &Translation,
    table: &Table,
    wanted: impl Fn(&Index) -> bool,
) -> Result<()> {
    let Some(text) = archive.table(&table.schema, &table.name) else {
        return Ok(());
    };
    let definition = Definition::parse(&text.create)?;
    let later: Vec<&Index> = definition.later(table).into_iter().filter(|one| wanted(one)).collect();
    let mut refused: Option<(usize, Error)> = None;
    loop {
        let there = present_indexes(target, table).await?;
        let missing: Vec<&Index> =
            later.iter().filter(|index| !there.contains(&index.name.to_lowercase())).copied().collect();
        match refused {
            _ if missing.is_empty() => return Ok(()),
            // A statement of a run that was killed may have built meanwhile what we found missing.
            Some((before, failure)) if before == missing.len() => return Err(failure),
            _ => {}
        }
        match add_indexes(target, translation, table, &missing).await {
            Ok(()) => return Ok(()),
            Err(failure) => refused = Some((missing.len(), failure)),
        }
    }
}

/// One statement for all, but one more for each full-text index.
async fn add_indexes(target: &mut Conn, translation: &Translation, table: &Table, missing: &[&Index]) -> Result<()> {
    let what = format!("cannot build the indexes of {} on the target", title(table));
    let clause = |index: &&Index| translation.add_index(index);
    let (full, plain): (Vec<&Index>, Vec<&Index>) = missing.iter().partition(|index| index.kind == Kind::Fulltext);
    let together: Vec<String> = plain.iter().map(clause).collect();
    let alone: Vec<String> = full.iter().map(clause).collect();
    let together = (!together.is_empty()).then(|| together.join(", "));
    for clause in together.into_iter().chain(alone) {
        let statement = format!("ALTER TABLE {} {clause}", relation(table));
        run(target, &statement, &what).await?;
    }
    Ok(())
}

async fn present_indexes(target: &mut Conn, table: &Table) -> Result<BTreeSet<String>> {
    let query = format!(
        "SELECT DISTINCT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        quote_literal(&table.schema),
        quote_literal(&table.name)
    );
    let rows = ask(target, &query, "cannot read the target's indexes").await?;
    Ok(rows.iter().map(|row| row.text(0).to_lowercase()).collect())
}

/// Builds everything else once the target has caught up with its load: unique indexes, foreign keys, routines, views,
/// events that do not run yet, statistics, and the proof that the triggers can be created. Returns early, without
/// error, when `stop` was cancelled; what is built stays.
pub async fn rest(mysql: &Mysql, plan: &Plan, progress: &Arc<Progress>, stop: &CancellationToken) -> Result<()> {
    let mut target = schema::connect(mysql, "schema").await?;
    if records::part(mysql, &mut target, "post_data").await? != Part::Done {
        records::set_part(mysql, &mut target, "post_data", Part::Begun).await?;
        let archive = Archive::open(mysql, &mut target).await?;
        let translation = archive.translation(&mut target).await?;
        if !unique_indexes(mysql, plan, &archive, &translation, stop).await? {
            return Ok(());
        }
        foreign_keys(mysql, plan, &archive, &mut target).await?;
        programs(mysql, &archive, &translation, &mut target).await?;
        accounts::grant(mysql, &mut target).await?;
        triggers::prove(mysql, &archive, &mut target).await?;
        if stop.is_cancelled() {
            return Ok(());
        }
        analyze(mysql, plan).await?;
        histograms(mysql, &mut target).await?;
        records::set_part(mysql, &mut target, "post_data", Part::Done).await?;
    }
    records::set_part(mysql, &mut target, "settled", Part::Done).await?;
    for table in &plan.tables {
        progress.update(&title(table), |numbers| numbers.stage = Stage::Copied);
    }
    Ok(())
}

/// Shares the tables out to as many sessions as may copy.
fn shares<'a>(mysql: &Mysql, plan: &'a Plan) -> Vec<Vec<&'a Table>> {
    let count = mysql.settings().copy_workers.max(1);
    (0..count)
        .map(|first| plan.tables.iter().skip(first).step_by(count).collect::<Vec<_>>())
        .filter(|share| !share.is_empty())
        .collect()
}

/// Whether all were built before `stop` was cancelled.
async fn unique_indexes(
    mysql: &Mysql,
    plan: &Plan,
    archive: &Archive,
    translation: &Translation,
    stop: &CancellationToken,
) -> Result<bool> {
    let work = shares(mysql, plan).into_iter().map(|share| async move {
        let mut session = schema::connect(mysql, "schema").await?;
        for table in share {
            if stop.is_cancelled() {
                return Ok(false);
            }
            indexes(&mut session, archive, translation, table, |_| true).await?;
        }
        Ok::<bool, Error>(true)
    });
    Ok(try_join_all(work).await?.into_iter().all(|built| built))
}

/// One statement per table; a new key is not checked, because its rows are the source's.
async fn foreign_keys(mysql: &Mysql, plan: &Plan, archive: &Archive, target: &mut Conn) -> Result<()> {
    let query = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.TABLE_CONSTRAINTS
         WHERE CONSTRAINT_TYPE = 'FOREIGN KEY' AND TABLE_SCHEMA IN ({})",
        listed(mysql)
    );
    let rows = ask(target, &query, "cannot read the target's foreign keys").await?;
    let there: BTreeSet<(&str, &str, String)> =
        rows.iter().map(|row| (row.text(0), row.text(1), row.text(2).to_lowercase())).collect();
    for table in &plan.tables {
        let Some(text) = archive.table(&table.schema, &table.name) else {
            continue;
        };
        let definition = Definition::parse(&text.create)?;
        let missing: Vec<String> = definition
            .foreign_keys
            .iter()
            .filter(|key| !there.contains(&(table.schema.as_str(), table.name.as_str(), key.name.to_lowercase())))
            .map(|key| format!("ADD {}", key.text))
            .collect();
        if missing.is_empty() {
            continue;
        }
        let what = format!("cannot create the foreign keys of {} on the target", title(table));
        run(target, &format!("USE {}", quote_ident(&table.schema)), &what).await?;
        run(target, &format!("ALTER TABLE {} {}", relation(table), missing.join(", ")), &what).await?;
    }
    Ok(())
}

async fn programs(mysql: &Mysql, archive: &Archive, translation: &Translation, target: &mut Conn) -> Result<()> {
    let there = present_programs(mysql, target).await?;
    let is_missing = |program: &&Program| {
        !there.contains(&(program.kind.word().to_owned(), program.schema.clone(), program.name.clone()))
    };
    for kind in [
        ProgramKind::Library,
        ProgramKind::Package,
        ProgramKind::PackageBody,
        ProgramKind::Function,
        ProgramKind::Procedure,
    ] {
        for program in archive.of(kind).filter(is_missing) {
            program.run(target, translation, &program.create).await?;
        }
    }
    // A view can be created once what it reads is there: each round creates those that now can be.
    let mut waiting: Vec<&Program> = archive.of(ProgramKind::View).filter(is_missing).collect();
    while !waiting.is_empty() {
        let mut failed = Vec::new();
        let mut failure = None;
        for view in &waiting {
            if let Err(error) = view.run(target, translation, &view.create).await {
                failed.push(*view);
                failure.get_or_insert(error);
            }
        }
        match failure {
            Some(error) if failed.len() == waiting.len() => return Err(error),
            _ => waiting = failed,
        }
    }
    for event in archive.of(ProgramKind::Event).filter(is_missing) {
        event.run(target, translation, &disabled(&event.create)).await?;
    }
    Ok(())
}

async fn present_programs(mysql: &Mysql, target: &mut Conn) -> Result<BTreeSet<(String, String, String)>> {
    let databases = listed(mysql);
    let libraries = if client::version(target).await?.is_mysql_from(9, 2, 0) {
        format!(
            " UNION ALL SELECT 'LIBRARY', LIBRARY_SCHEMA, LIBRARY_NAME FROM information_schema.LIBRARIES
             WHERE LIBRARY_SCHEMA IN ({databases})"
        )
    } else {
        String::new()
    };
    let query = format!(
        "SELECT ROUTINE_TYPE, ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES
             WHERE ROUTINE_SCHEMA IN ({databases})
         UNION ALL SELECT 'VIEW', TABLE_SCHEMA, TABLE_NAME FROM information_schema.VIEWS
             WHERE TABLE_SCHEMA IN ({databases})
         UNION ALL SELECT 'EVENT', EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS
             WHERE EVENT_SCHEMA IN ({databases}){libraries}"
    );
    let rows = ask(target, &query, "cannot read the target's routines").await?;
    Ok(rows.iter().map(|row| (row.owned(0), row.owned(1), row.owned(2))).collect())
}

/// The same event, but one that does not run: everything up to the word that says whether it does is the server's own.
pub(crate) fn disabled(create: &str) -> String {
    let mut before = "";
    for (at, word) in placed_words(create) {
        if before == "PRESERVE" && word == "ENABLE" {
            let (head, tail) = create.split_at(at);
            return format!("{head}DISABLE{}", tail.strip_prefix("ENABLE").unwrap_or(tail));
        }
        before = word;
    }
    create.to_owned()
}

/// Refreshes what the target's planner knows of the loaded tables.
async fn analyze(mysql: &Mysql, plan: &Plan) -> Result<()> {
    let work = shares(mysql, plan).into_iter().map(|share| async move {
        let mut session = schema::connect(mysql, "schema").await?;
        for some in share.chunks(20) {
            let names: Vec<String> = some.iter().map(|table| relation(table)).collect();
            let statement = format!("ANALYZE NO_WRITE_TO_BINLOG TABLE {}", names.join(", "));
            ask(&mut session, &statement, "cannot refresh the statistics of loaded tables").await?;
        }
        Ok::<(), Error>(())
    });
    try_join_all(work).await.map(drop)
}

async fn histograms(mysql: &Mysql, target: &mut Conn) -> Result<()> {
    let mut source = mysql.connect_source("schema").await?;
    let versions = tokio::try_join!(client::version(&mut source), client::version(target))?;
    beside::carry_histograms(mysql, &mut source, target, versions).await
}

/// Lets the events run on the target that run on the source, after the switch. Finds nothing to do where they do.
pub async fn enable_events(mysql: &Mysql) -> Result<()> {
    let mut target = schema::connect(mysql, "events").await?;
    let archive = Archive::open(mysql, &mut target).await?;
    let translation = archive.translation(&mut target).await?;
    for event in archive.of(ProgramKind::Event).filter(|event| event.enabled) {
        // Whoever alters an event becomes its definer, unless another is named.
        let definer = words(&event.create).into_iter().find(|word| word.starts_with("DEFINER="));
        let statement = format!("ALTER {} EVENT {} ENABLE", definer.unwrap_or_default(), quote_ident(&event.name));
        event.run(&mut target, &translation, &statement).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::disabled;

    #[test]
    fn an_event_is_switched_off_by_its_own_word_and_no_other() {
        let create = "CREATE DEFINER=`PRESERVE ENABLE`@`%` EVENT `e` ON SCHEDULE EVERY 1 DAY STARTS '2027-01-01' \
            ON COMPLETION NOT PRESERVE ENABLE COMMENT 'PRESERVE ENABLE' DO SET @a = 'ENABLE'";
        let off = disabled(create);
        assert!(off.contains("NOT PRESERVE DISABLE COMMENT 'PRESERVE ENABLE' DO SET @a = 'ENABLE'"));
        assert!(off.starts_with("CREATE DEFINER=`PRESERVE ENABLE`@`%` EVENT"));
        assert_eq!(disabled(&off), off);
    }
}
