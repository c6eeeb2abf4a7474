//! The accounts of the source that the target lacks, with their hashes and grants.

pub(crate) mod account;
pub(crate) mod options;
pub(crate) mod refused;

use std::collections::BTreeSet;

use mysql_async::Conn;
use options::Options;
use protocol::mysql::auth::native;

use super::beside;
use super::grants;
use super::grants::NotAllowed;
use crate::error::{Error, Result};
use crate::model::definitions::named;
use crate::mysql::Mysql;
use crate::mysql::catalogue;
use crate::mysql::catalogue::{TextRow, ask, run};
use crate::mysql::client::Version;
use crate::mysql::refusal::ACCOUNT;
use crate::mysql::sql::quote_literal;
use crate::mysql::tokens::placed_words;
use account::{Account, is_own};

const NATIVE: &str = "mysql_native_password";
/// The accounts of a server, in the order of their names, without the server's and Headgate's own.
pub async fn read(mysql: &Mysql, session: &mut Conn) -> Result<Vec<Account>> {
    let mut all = all(session).await?;
    all.retain(|account| !is_own(mysql, account));
    Ok(all)
}

/// As [`read`], on the target as it is without the refusal of an earlier leg, which may have locked accounts there.
pub async fn read_target(mysql: &Mysql, target: &mut Conn) -> Result<Vec<Account>> {
    let mut all = read(mysql, target).await?;
    let locked = refused::read(mysql, target).await?;
    for account in all.iter_mut().filter(|one| locked.contains(&(one.user.clone(), one.host.clone()))) {
        account.locked = false;
    }
    Ok(all)
}

/// All accounts of a server, in the order of their names.
pub async fn all(session: &mut Conn) -> Result<Vec<Account>> {
    let version = catalogue::prepare(session).await?;
    let (proof, locked, role) = if version.is_mariadb() {
        // The view tells nothing of locks, which came with the table behind it.
        let locked = if version.locks_accounts() {
            "(SELECT JSON_VALUE(g.Priv, '$.account_locked') FROM mysql.global_priv g
              WHERE g.User = user.User AND g.Host = user.Host)"
        } else {
            "'N'"
        };
        ("HEX(authentication_string)", locked, "is_role")
    } else if version.is_mysql_from(5, 7, 6) {
        ("HEX(authentication_string)", "account_locked", "'N'")
    } else {
        ("HEX(IF(COALESCE(authentication_string, '') = '', Password, authentication_string))", "'N'", "'N'")
    };
    let query = format!("SELECT User, Host, plugin, {proof}, {locked}, {role} FROM mysql.user ORDER BY User, Host");
    let rows = ask(session, &query, "cannot read a server's accounts").await?;
    Ok(rows.iter().map(account).collect())
}

fn account(row: &TextRow) -> Account {
    let plugin = if row.text(2).is_empty() { NATIVE } else { row.text(2) };
    Account {
        user: row.owned(0),
        host: row.owned(1),
        plugin: plugin.to_owned(),
        proof: row.owned(3),
        locked: row.is_on(4),
        is_role: row.is_on(5),
    }
}

/// The ways to log in that a server offers.
pub async fn plugins(session: &mut Conn) -> Result<BTreeSet<String>> {
    let query = "SELECT LOWER(PLUGIN_NAME) FROM information_schema.PLUGINS
        WHERE PLUGIN_TYPE = 'AUTHENTICATION' AND PLUGIN_STATUS = 'ACTIVE'";
    let rows = ask(session, query, "cannot read a server's plugins").await?;
    Ok(rows.iter().map(|row| row.owned(0)).collect())
}

/// Creates what the target lacks and can have, and grants what the source grants as far as it concerns the databases
/// that move. An account that cannot be created now is left out; [`missing`] names it.
pub async fn create(mysql: &Mysql, source: &mut Conn, target: &mut Conn) -> Result<()> {
    let there = read(mysql, source).await?;
    let made = create_these(mysql, &there, source, target).await?;
    for one in made.refused {
        tracing::warn!(statement = one.statement, refused = one.message, "the target refuses a grant");
    }
    Ok(())
}

/// The accounts that were created, and what they may do and Headgate's account may not grant them.
struct MadeAccounts {
    created: Vec<Account>,
    refused: Vec<NotAllowed>,
}

async fn create_these(mysql: &Mysql, there: &[Account], source: &mut Conn, target: &mut Conn) -> Result<MadeAccounts> {
    let here: BTreeSet<_> = read(mysql, target).await?.iter().map(Account::key).collect();
    let offered = plugins(target).await?;
    let versions = (catalogue::prepare(source).await?, catalogue::prepare(target).await?);
    if versions.0.is_mysql_from(8, 0, 17) {
        let hex = "SET SESSION print_identified_with_as_hex = ON";
        run(source, hex, "cannot ask for hashes as digits").await?;
    }
    let demanded = options::read(mysql, source).await?;
    let mut defaults = Vec::new();
    let mut created = Vec::new();
    for account in there {
        let demands = demanded.get(&account.key()).cloned().unwrap_or_default();
        let (statement, role) = statement(mysql, (account, &demands), source, versions, &offered).await?;
        defaults.extend(role);
        let Some(statement) = statement.filter(|_| !here.contains(&account.key())) else {
            continue;
        };
        match run(target, &statement, "cannot create an account").await {
            Ok(()) => created.push(account.clone()),
            Err(failure) => {
                tracing::warn!(account = account.quoted(), %failure, "the target refuses an account");
            }
        }
    }
    options::complete(mysql, &created, &demanded, target).await?;
    beside::carry_second_passwords(there, source, target, versions).await?;
    let mut granted = grants::read(mysql, source, there, versions).await?;
    granted.extend(defaults);
    let refused = grants::carry_over(target, &granted).await;
    Ok(MadeAccounts { created, refused })
}

/// Creates the accounts that became possible since, because a client has shown its password, with what they may do: all of
/// them, or none. An account with less than it has on the source would be found different for good.
pub async fn complete(mysql: &Mysql) -> Result<()> {
    let mut source = mysql.connect_source("accounts").await?;
    let mut target = mysql.connect_target("accounts").await?;
    let here: BTreeSet<_> = read(mysql, &mut target).await?.iter().map(Account::key).collect();
    let offered = plugins(&mut target).await?;
    let mut lacking = read(mysql, &mut source).await?;
    lacking.retain(|account| !here.contains(&account.key()) && is_possible(mysql, account, &offered));
    if lacking.is_empty() {
        return Ok(());
    }
    let made = create_these(mysql, &lacking, &mut source, &mut target).await?;
    let Some(first) = made.refused.first() else {
        return Ok(());
    };
    let account = ask(&mut target, ACCOUNT, "who we are").await?;
    let account = account.first().map_or("", |row| row.text(0));
    let fix = grants::lets_pass_on(&first.statement, &first.message, account);
    let by_hand = "create these accounts on the target yourself, with all that they may do";
    let remedy = fix.as_ref().map_or_else(|| by_hand.to_owned(), |fix| format!("{fix}; or {by_hand}"));
    for account in &made.created {
        let word = if account.is_role { "ROLE" } else { "USER" };
        let drop = format!("DROP {word} IF EXISTS {}", account.quoted());
        if let Err(failure) = run(&mut target, &drop, "cannot drop an account again").await {
            tracing::warn!(account = account.quoted(), %failure, "an account stays without all that it may do");
        }
    }
    let refused: Vec<String> = made.refused.iter().map(|one| format!("{}: {}", one.statement, one.message)).collect();
    Err(Error::refused(format!(
        "accounts of the source that the target lacks would have less rights there, because Headgate's account may not grant \
         them: {}",
        named(&refused)
    ))
    .remedy(remedy)
    .fix(fix.unwrap_or_default()))
}

/// Grants again what names things that were not there when the accounts were created.
pub async fn grant(mysql: &Mysql, target: &mut Conn) -> Result<()> {
    let mut source = mysql.connect_source("accounts").await?;
    create(mysql, &mut source, target).await
}

/// The accounts of the source that cannot log in on the target yet, each with the reason.
pub async fn missing(mysql: &Mysql) -> Result<Vec<String>> {
    let mut source = mysql.connect_source("accounts").await?;
    let mut target = mysql.connect_target("accounts").await?;
    let here: BTreeSet<_> = read(mysql, &mut target).await?.iter().map(Account::key).collect();
    let offered = plugins(&mut target).await?;
    let mut lacking = Vec::new();
    for account in read(mysql, &mut source).await? {
        if here.contains(&account.key()) || account.locked || account.is_role {
            continue;
        }
        let name = account.quoted();
        lacking.push(if is_possible(mysql, &account, &offered) {
            format!("{name} was not created on the target yet")
        } else {
            format!(
                "{name} logs in by {}, which the target does not have, and its password is not known",
                account.plugin
            )
        });
    }
    Ok(lacking)
}

/// Whether the account can be created on a target that offers these plugins.
pub fn is_possible(mysql: &Mysql, account: &Account, offered: &BTreeSet<String>) -> bool {
    account.is_role
        || offered.contains(&account.plugin.to_lowercase())
        || account.plugin == NATIVE && account.proof.is_empty()
        || mysql.secrets().password(&account.user).is_some()
}

/// The statement that creates the account, where there is one, and the one that sets its default roles.
pub(crate) async fn statement(
    mysql: &Mysql,
    (account, demands): (&Account, &Options),
    source: &mut Conn,
    versions: (Version, Version),
    offered: &BTreeSet<String>,
) -> Result<(Option<String>, Option<String>)> {
    let name = account.quoted();
    if account.is_role {
        return Ok((Some(format!("CREATE ROLE IF NOT EXISTS {name}")), None));
    }
    let reported =
        versions.0.flavor == versions.1.flavor && (versions.0.is_mariadb() || versions.0.is_mysql_from(5, 7, 6));
    let (shown, role) = if reported {
        let query = format!("SHOW CREATE USER {name}");
        let rows = ask(source, &query, "cannot read an account's definition").await?;
        split_role(rows.first().map_or("", |row| row.text(0)), &name)
    } else {
        (String::new(), None)
    };
    let create = format!("CREATE USER IF NOT EXISTS {name}");
    let options = demands.written(versions.1);
    let statement = if offered.contains(&account.plugin.to_lowercase()) && reported {
        shown
            .strip_prefix("CREATE USER ")
            .map(|rest| format!("CREATE USER IF NOT EXISTS {}{options}", identified(rest)))
    } else if account.plugin == NATIVE && account.proof.is_empty() {
        Some(format!("{create}{options}"))
    } else if offered.contains(&account.plugin.to_lowercase()) {
        let plugin = quote_literal(&account.plugin);
        Some(format!("{create} IDENTIFIED WITH {plugin} AS 0x{}{options}", account.proof))
    } else {
        mysql.secrets().password(&account.user).map(|password| {
            // MariaDB writes a statement to its binary log as it came, so it gets what it would keep of the password.
            let by = if versions.1.is_mariadb() {
                let kept = native::Key::of(password.as_bytes()).verifier().text();
                format!("PASSWORD {}", quote_literal(&kept))
            } else {
                quote_literal(&password)
            };
            format!("{create} IDENTIFIED BY {by}{options}")
        })
    };
    Ok((statement, role))
}

/// What stands before the options: servers do not always write these so that they could be read again.
fn identified(definition: &str) -> &str {
    let words = placed_words(definition);
    let before = |at: usize| at.checked_sub(1).and_then(|at| words.get(at)).map(|one| one.1);
    let first = words.iter().enumerate().find(|(at, (_, word))| match *word {
        "REQUIRE" | "ACCOUNT" => true,
        "WITH" => before(*at) != Some("IDENTIFIED"),
        "PASSWORD" => before(*at) != Some("BY"),
        _ => false,
    });
    let end = first.map_or(definition.len(), |(_, (at, _))| *at);
    definition.get(..end).unwrap_or(definition).trim_end()
}

/// Takes the default roles out of a definition: they must be there and be granted first.
fn split_role(shown: &str, account: &str) -> (String, Option<String>) {
    let words = placed_words(shown);
    let begins = words.windows(2).find(|pair| matches!(pair, [(_, "DEFAULT"), (_, "ROLE")]));
    let Some(&[(start, _), (list, _)]) = begins else {
        return (shown.to_owned(), None);
    };
    let end = words.iter().find(|(at, word)| *at > list && *word == "REQUIRE").map_or(shown.len(), |(at, _)| *at);
    let text = |from: usize, to: usize| shown.get(from..to).unwrap_or_default();
    let roles = text(list + "ROLE".len(), end).trim();
    (format!("{}{}", text(0, start), text(end, shown.len())), Some(format!("SET DEFAULT ROLE {roles} TO {account}")))
}

#[cfg(test)]
mod tests {
    use super::{identified, split_role};

    #[test]
    fn what_an_account_demands_does_not_belong_to_what_proves_it() {
        for (proof, options) in [
            ("`a`@`%` IDENTIFIED WITH 'x' AS '$A WITH'", " REQUIRE SUBJECT 'it's'"),
            ("`WITH`@`%` IDENTIFIED BY PASSWORD '*1'", " WITH MAX_USER_CONNECTIONS 7"),
            ("`a`@`%` IDENTIFIED VIA ed25519 USING 'x' OR y", " ACCOUNT LOCK PASSWORD EXPIRE"),
            ("`a`@`%`", " PASSWORD EXPIRE NEVER"),
            ("`a`@`%`", ""),
        ] {
            assert_eq!(identified(&format!("{proof}{options}")), proof);
        }
    }

    #[test]
    fn default_roles_are_set_once_they_are_granted() {
        let (create, role) = split_role(
            "CREATE USER `a`@`%` IDENTIFIED WITH 'x' AS 0x41 DEFAULT ROLE `r 1`@`%`,`s`@`%` REQUIRE NONE PASSWORD EXPIRE DEFAULT",
            "`a`@`%`",
        );
        assert_eq!(create, "CREATE USER `a`@`%` IDENTIFIED WITH 'x' AS 0x41 REQUIRE NONE PASSWORD EXPIRE DEFAULT");
        assert_eq!(role.as_deref(), Some("SET DEFAULT ROLE `r 1`@`%`,`s`@`%` TO `a`@`%`"));
        assert_eq!(split_role("CREATE USER `DEFAULT ROLE`@`%`", "").1, None);
    }
}
