//! Checks of the accounts: who could not log in on the target, and whom the fence would not stop.

use std::collections::BTreeMap;

use super::super::Mysql;
use super::super::accounts::{self, Account};
use super::super::catalogue::ask;
use super::Side;
use crate::accounts::{self as neutral, Verdict};
use crate::error::Result;
use crate::preflight::{Findings, Level};

pub(super) async fn run(
    mysql: &Mysql,
    source: &mut Side,
    target: &mut Side,
    findings: &mut Findings,
) {
    match judge(mysql, source, target).await {
        Ok(accounts) => findings.checks.extend(neutral::early(&accounts)),
        Err(failure) => findings.ran("accounts", Err(failure)),
    }
    let outcome = passing(mysql, source, findings).await;
    findings.ran("fence_accounts", outcome);
}

/// Whether each account of the source can log in on the target once the cutover has created what is still to come.
pub(super) async fn judge(
    mysql: &Mysql,
    source: &mut Side,
    target: &mut Side,
) -> Result<Vec<neutral::Account>> {
    let there = accounts::read(mysql, &mut source.session).await?;
    let here: BTreeMap<_, Account> = accounts::read(mysql, &mut target.session)
        .await?
        .into_iter()
        .map(|account| (account.key(), account))
        .collect();
    let offered = accounts::plugins(&mut target.session).await?;
    let mut judged = Vec::new();
    for account in there.iter().filter(|account| !account.is_role) {
        let name = account.quoted();
        let verdict = match here.get(&account.key()) {
            Some(same) if same.plugin == account.plugin && same.proof != account.proof => {
                Verdict::Unproved {
                    why: "it has another password on the target".to_owned(),
                    remedy: "set the same password on the target".to_owned(),
                    fix: String::new(),
                }
            }
            Some(_) => Verdict::Proved("the same password on both sides"),
            None if accounts::is_possible(mysql, account, &offered) => {
                Verdict::Proved("created at the cutover with the same password")
            }
            None => Verdict::Unproved {
                why: format!(
                    "it logs in by {}, which {} does not have",
                    account.plugin, target.version
                ),
                remedy: "let Headgate keep the password that the client shows at its next login (login.capture_passwords), give it as users.NAME.password, or create the account on the target by hand".to_owned(),
                fix: format!("CREATE USER {name} IDENTIFIED BY '…'"),
            },
        };
        judged.push(neutral::Account { name, verdict });
    }
    Ok(judged)
}

/// `read_only` does not stop those who may write in spite of it.
async fn passing(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let rights = if source.version.is_mariadb() && source.version.number >= (10, 11, 0) {
        "'READ_ONLY ADMIN'"
    } else if source.version.is_mariadb() {
        "'SUPER', 'READ_ONLY ADMIN'"
    } else {
        "'SUPER', 'CONNECTION_ADMIN'"
    };
    let query = format!(
        "SELECT GRANTEE, GROUP_CONCAT(PRIVILEGE_TYPE ORDER BY 1 SEPARATOR ', ') FROM information_schema.USER_PRIVILEGES
         WHERE PRIVILEGE_TYPE IN ({rights}) GROUP BY GRANTEE ORDER BY GRANTEE"
    );
    let rows = ask(
        &mut source.session,
        &query,
        "cannot read who passes the fence",
    )
    .await?;
    let own = |grantee: &str| {
        let user = grantee
            .trim_start_matches('\'')
            .split("'@'")
            .next()
            .unwrap_or_default();
        matches!(user, "root" | "mariadb.sys" | "debian-sys-maint")
            || user.starts_with("mysql.")
            || user == mysql.source().user
    };
    let found: Vec<_> = rows
        .iter()
        .filter(|row| !own(row.text(0)))
        .take(100)
        .map(|row| {
            let (account, rights) = (row.text(0), row.text(1));
            (
                format!("{account} may write to the source in spite of read_only ({rights})"),
                format!("REVOKE {rights} ON *.* FROM {account}"),
            )
        })
        .collect();
    findings.each(
        "fence_accounts",
        Level::Warning,
        &found,
        "no application may use it while the migration is cut over: take the right away",
        "no account of an application passes the fence",
    );
    Ok(())
}
