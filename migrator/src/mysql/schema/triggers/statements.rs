//! Creates the triggers of an archive that the target lacks, and drops those that it has.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use mysql_async::Conn;

use super::super::archive::{Archive, Kind, Program};
use super::super::create_table::Translation;
use crate::error::{Error, Result};
use crate::mysql::catalogue::{ask, listed, run};
use crate::mysql::sql::qualified;
use crate::mysql::{Mysql, schema};

/// Sessions that create triggers at the same time; below so many for each, another session is not worth opening.
const SESSIONS: usize = 4;
const WORTH_A_SESSION: usize = 10;

/// Creates those that are missing: `target` is open already, more are opened only for many triggers.
pub(super) async fn create_missing(mysql: &Mysql, archive: &Archive, target: &mut Conn) -> Result<()> {
    if archive.of(Kind::Trigger).next().is_none() {
        return Ok(());
    }
    let there = present(mysql, target).await?;
    let lacking: BTreeSet<(&str, &str)> = archive
        .of(Kind::Trigger)
        .filter(|one| !there.contains(&key(one)))
        .map(|one| (one.schema.as_str(), one.table.as_str()))
        .collect();
    // A new one fires after those that are there: a table that lacks some gets all of its triggers anew.
    let missing: Vec<&Program> =
        archive.of(Kind::Trigger).filter(|one| lacking.contains(&(one.schema.as_str(), one.table.as_str()))).collect();
    for trigger in missing.iter().filter(|one| there.contains(&key(one))) {
        drop_one(trigger, target).await?;
    }
    let translation = archive.translation(target).await?;
    create_all(mysql, &missing, &translation, target).await
}

fn key(trigger: &Program) -> (String, String) {
    (trigger.schema.clone(), trigger.name.clone())
}

async fn present(mysql: &Mysql, target: &mut Conn) -> Result<BTreeSet<(String, String)>> {
    let query = format!(
        "SELECT TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN ({})",
        listed(mysql)
    );
    let rows = ask(target, &query, "cannot read the target's triggers").await?;
    Ok(rows.iter().map(|row| (row.owned(0), row.owned(1))).collect())
}

/// Drops those that are there.
pub(super) async fn drop_present(mysql: &Mysql, archive: &Archive, target: &mut Conn) -> Result<()> {
    if archive.of(Kind::Trigger).next().is_none() {
        return Ok(());
    }
    let there = present(mysql, target).await?;
    for trigger in archive.of(Kind::Trigger).filter(|one| there.contains(&key(one))) {
        drop_one(trigger, target).await?;
    }
    Ok(())
}

/// Drops one, if it is there.
pub(super) async fn drop_one(trigger: &Program, target: &mut Conn) -> Result<()> {
    let name = qualified(&trigger.schema, &trigger.name);
    run(
        target,
        &format!("DROP TRIGGER IF EXISTS {name}"),
        &format!("cannot drop the trigger {}.{} on the target", trigger.schema, trigger.name),
    )
    .await
}

/// Those of one table follow one another in one session: each new one fires after those that are there.
async fn create_all(mysql: &Mysql, missing: &[&Program], translation: &Translation, target: &mut Conn) -> Result<()> {
    let count = (missing.len() / WORTH_A_SESSION).clamp(1, SESSIONS);
    let mut shares: Vec<Vec<&Program>> = vec![Vec::new(); count];
    let mut number = 0;
    let mut before: Option<&Program> = None;
    for trigger in missing {
        if before.is_some_and(|last| last.schema != trigger.schema || last.table != trigger.table) {
            number += 1;
        }
        before = Some(trigger);
        if let Some(share) = shares.get_mut(number % count) {
            share.push(trigger);
        }
    }
    let Some(own) = shares.pop() else {
        return Ok(());
    };
    let others = try_join_all(shares.into_iter().map(|share| async move {
        let mut session = schema::connect(mysql, "triggers").await?;
        create_in(&share, translation, &mut session).await
    }));
    let own = create_in(&own, translation, target);
    tokio::try_join!(others, own).map(drop)
}

async fn create_in(share: &[&Program], translation: &Translation, session: &mut Conn) -> Result<()> {
    for trigger in share {
        trigger.run(session, translation, &trigger.create).await?;
    }
    Ok::<(), Error>(())
}
