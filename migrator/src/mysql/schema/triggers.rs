//! The triggers of the moving tables: they must not fire while changes are applied, so they come with the switch.

pub(crate) mod set_aside;
mod statements;

use mysql_async::Conn;

use super::archive::{Archive, Kind, Program};
use crate::error::Result;
use crate::model::leg::Leg;
use crate::mysql::Mysql;
use statements::{create_missing, drop_one, drop_present};

/// Creates those that the target lacks. It runs while writers wait: `target` is open already, more are opened only
/// for many triggers.
pub async fn create(mysql: &Mysql, target: &mut Conn) -> Result<()> {
    let archive = if mysql.leg() == Leg::FIRST {
        Archive::open(mysql, target).await?
    } else {
        match set_aside::kept(mysql, target).await? {
            Some(kept) => kept.archive,
            None => return Ok(()),
        }
    };
    create_missing(mysql, &archive, target).await
}

/// Proves that they can be created: creates each and drops it again.
pub async fn prove(mysql: &Mysql, archive: &Archive, target: &mut Conn) -> Result<()> {
    let translation = archive.translation(target).await?;
    let all: Vec<&Program> = archive.of(Kind::Trigger).collect();
    drop_present(mysql, archive, target).await?;
    for trigger in all {
        trigger.run(target, &translation, &trigger.create).await.map_err(|error| {
            error.remedy(
                "create on the target what the trigger needs, such as its definer, then start the migration again",
            )
        })?;
        drop_one(trigger, target).await?;
    }
    Ok(())
}

/// Drops those that the migration has created, or has set aside and created again; finds nothing to do where there is
/// none.
pub async fn remove(mysql: &Mysql) -> Result<()> {
    let mut target = mysql.connect_target("triggers").await?;
    let archive = if mysql.leg() == Leg::FIRST {
        Archive::kept(mysql, &mut target).await?
    } else {
        set_aside::kept(mysql, &mut target).await?.map(|kept| kept.archive)
    };
    match archive {
        Some(archive) => drop_present(mysql, &archive, &mut target).await,
        None => Ok(()),
    }
}

/// Sees to it that none fires while changes are applied. Those that the target had by itself are written down there
/// before they are dropped.
pub async fn make_way(mysql: &Mysql) -> Result<()> {
    let made = if mysql.leg() == Leg::FIRST { remove(mysql).await } else { set_aside::run(mysql).await };
    if made.is_ok() {
        mysql.fires().out_of_the_way();
    }
    made
}
