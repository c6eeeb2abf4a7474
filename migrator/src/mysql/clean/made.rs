//! Removes what a migration made on its target, by the record of that, and nothing else.

use crate::error::{Error, Result};
use crate::mysql::Mysql;
use crate::mysql::catalogue;
use crate::mysql::catalogue::{ask, listed};
use crate::mysql::client::failed;
use crate::mysql::schema::accounts;
use crate::mysql::schema::made::{ACCOUNT, DATABASE, Object, objects, recorded};
use crate::mysql::sql::{qualified, quote_ident};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::BTreeSet;
/// Drops what this migration made and nothing else, and all that [`super::run`] removes. Returns what had to stay.
pub(crate) async fn remove(mysql: &Mysql) -> Result<Vec<String>> {
    let mut target = mysql.connect_target("drop").await?;
    crate::mysql::stale_sessions::end_all(mysql, &mut target).await?;
    let made = recorded(mysql, &mut target).await?;
    // The server refuses what tables of others refer to.
    let checked = "SET SESSION foreign_key_checks = 1";
    let cannot = |error| failed("cannot drop what the migration made on the target", error);
    target.query_drop(checked).await.map_err(cannot)?;
    drop_keys(mysql, &mut target, &made).await?;
    drop_objects(mysql, &mut target, &made).await?;
    let mut stays = Vec::new();
    for (kind, place, name) in &made {
        match kind.as_str() {
            DATABASE => {
                let left = objects(mysql, &mut target).await?;
                let holds = |(kind, place, _): &Object| kind != DATABASE && place == name;
                if left.iter().any(holds) {
                    stays.push(format!("database {name}, which holds what others made"));
                    continue;
                }
                let statement = format!("DROP DATABASE IF EXISTS {}", quote_ident(name));
                target.query_drop(statement).await.map_err(cannot)?;
            }
            ACCOUNT => {
                let account = accounts::all(&mut target).await?.into_iter();
                let key = (name.clone(), place.to_lowercase());
                let is_it = |account: &accounts::account::Account| account.key() == key;
                let Some(account) = account.into_iter().find(is_it) else {
                    continue;
                };
                let kind = if account.is_role { "ROLE" } else { "USER" };
                let statement = format!("DROP {kind} {}", account.quoted());
                if let Err(error) = target.query_drop(statement).await {
                    let why = failed("it cannot be dropped", error);
                    stays.push(format!("account {} ({why})", account.quoted()));
                }
            }
            _ => {}
        }
    }
    drop(target);
    super::run(mysql).await?;
    Ok(stays)
}

/// Tables that refer to one another could not go one by one.
async fn drop_keys(mysql: &Mysql, target: &mut Conn, made: &BTreeSet<Object>) -> Result<()> {
    let what = "cannot drop the foreign keys of what was made on the target";
    let query = format!(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS
         WHERE CONSTRAINT_SCHEMA IN ({})",
        listed(mysql)
    );
    for key in ask(target, &query, what).await? {
        let table = ("table".to_owned(), key.owned(0), key.owned(1));
        if made.contains(&table) {
            let statement = format!(
                "ALTER TABLE {} DROP FOREIGN KEY {}",
                qualified(key.text(0), key.text(1)),
                quote_ident(key.text(2))
            );
            catalogue::run(target, &statement, what).await?;
        }
    }
    Ok(())
}

async fn drop_objects(mysql: &Mysql, target: &mut Conn, made: &BTreeSet<Object>) -> Result<()> {
    let present = objects(mysql, target).await?;
    let ours = present.iter().filter(|object| made.contains(*object));
    let ours = ours.filter(|(kind, ..)| kind != DATABASE);
    for (kind, place, name) in ours {
        let kind = kind.to_uppercase();
        let statement = format!("DROP {kind} IF EXISTS {}", qualified(place, name));
        target.query_drop(statement).await.map_err(|error| {
            Error::refused(
                failed(&format!("cannot drop what the migration made on the target: {place}.{name}"), error)
                    .full_text(),
            )
            .remedy("drop what others made upon it, or drop the migration without target_objects and clean up by hand")
        })?;
    }
    Ok(())
}
