//! Who passes the fence: accounts by what they may do, by themselves, through a role, or by being taken for another one,
//! compared with what Headgate's own account may do; and procedures that run as such an account.

mod holders;

use std::collections::BTreeSet;

use mysql_async::Conn;

use crate::error::{Error, Result};
use crate::mysql::Mysql;
use crate::mysql::catalogue::ask;
use crate::mysql::client;
use crate::mysql::client::Version;
use crate::mysql::schema::accounts::account::Account;
use crate::mysql::service;
use crate::mysql::sql::qualified;
use crate::preflight::{Findings, Level};
pub(crate) use holders::Holders;
use holders::{GrantPath, Name, literal, name_of, on_everything};

const NAME: &str = "fence_accounts";
const LISTED_MAX: usize = 100;

/// What keeps the writers out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// `read_only`, which the server keeps.
    ReadOnly,
    /// Locks on the tables, which a session keeps, until the accounts are locked.
    Accounts,
}

/// Who passes a fence.
pub(crate) struct Passing {
    means: Means,
    own: String,
    holders: Holders,
}

impl Passing {
    /// By the rights of Headgate's account: who passes the fence that it can put up.
    pub(crate) async fn read(mysql: &Mysql, session: &mut Conn) -> Result<Self> {
        let version = client::version(session).await?;
        let own = own_rights(session).await?;
        let means = means(&own, version);
        Ok(Self {
            means,
            own: mysql.source().user.clone(),
            holders: Holders::read(session, version, passing_rights(&own, version, means)).await?,
        })
    }

    /// Whether this very account has such a right, by whichever way, and not only because everybody has.
    pub(crate) fn holds_it(&self, account: &Name) -> bool {
        let mut holders = self.holders.accounts.iter();
        holders.any(|(holder, _)| name_of(holder) == *account)
    }

    /// By what this fence would keep the writers out.
    pub(crate) fn means(&self) -> Means {
        self.means
    }

    /// Whether a session of this user passes. Headgate's own account does; somebody else may use it.
    pub(crate) fn passes(&self, user: &str) -> bool {
        user == self.own || self.holders.holds(user)
    }

    /// The accounts that applications could log in by, each with the ways by which it passes.
    fn of_applications(&self) -> impl Iterator<Item = &(Account, Vec<GrantPath>)> {
        self.holders.accounts.iter().filter(|(account, _)| {
            !account.locked && !account.is_role && !is_administrators(&account.user) && account.user != self.own
        })
    }

    /// Accounts that Headgate could neither lock nor end the sessions of.
    pub(crate) fn refuse_accounts(&self) -> Result<()> {
        if self.means == Means::ReadOnly {
            return Ok(());
        }
        let named: Vec<String> = self.of_applications().map(|(account, _)| account.quoted()).take(LISTED_MAX).collect();
        if named.is_empty() && self.holders.for_all.is_empty() {
            return Ok(());
        }
        Err(Error::refused(format!(
            "the fence locks accounts, and Headgate's account can neither lock these nor end their sessions: {}",
            named.join(", ")
        ))
        .remedy("take SYSTEM_USER away from them, or lock them until the migration has switched"))
    }

    /// One finding for each way by which an account of an application passes.
    pub(crate) fn tell(&self, findings: &mut Findings) {
        let (level, what, remedy) = match self.means {
            Means::ReadOnly => (
                Level::Warning,
                "may write to the source in spite of read_only",
                "no application may use it while the migration is cut over: take the right away",
            ),
            Means::Accounts => (
                Level::Error,
                "cannot be locked out by Headgate's account, and its sessions cannot be ended",
                "what it writes during and after the cutover would be lost: take the right away, or lock the account \
                 until the migration has switched",
            ),
        };
        let mut found = Vec::new();
        for (account, ways) in self.of_applications() {
            for (how, fix) in ways {
                found.push((format!("{} {what} ({how})", literal(account)), fix.clone()));
            }
        }
        let for_all = |account: &Account| self.holders.for_all.contains(&name_of(account));
        for (role, ways) in &self.holders.accounts {
            for (how, fix) in ways.iter().filter(|_| for_all(role)) {
                let role = role.quoted();
                found.push((format!("every account {what}: all have the role {role} ({how})"), fix.clone()));
            }
        }
        found.truncate(LISTED_MAX);
        findings.each(NAME, level, &found, remedy, "no account of an application passes the fence");
    }

    /// Procedures that let whoever may call them write in spite of `read_only`.
    pub(crate) async fn tell_of_procedures(&self, session: &mut Conn, findings: &mut Findings) -> Result<()> {
        const NAME: &str = "fence_procedures";
        if self.means == Means::Accounts {
            return Ok(());
        }
        let rows = ask(
            session,
            "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, DEFINER FROM information_schema.ROUTINES
             WHERE SECURITY_TYPE = 'DEFINER' AND ROUTINE_TYPE = 'PROCEDURE' AND SQL_DATA_ACCESS <> 'NO SQL'
               AND ROUTINE_SCHEMA NOT IN ('sys', 'mysql', 'information_schema', 'performance_schema')
             ORDER BY ROUTINE_SCHEMA, ROUTINE_NAME",
            "cannot read the source's procedures",
        )
        .await?;
        let definers: BTreeSet<String> =
            self.holders.accounts.iter().map(|(account, _)| format!("{}@{}", account.user, account.host)).collect();
        let found: Vec<(String, String)> = rows
            .iter()
            .filter(|row| !self.holders.for_all.is_empty() || definers.contains(row.text(2)))
            .take(LISTED_MAX)
            .map(|row| {
                let name = qualified(row.text(0), row.text(1));
                (
                    format!("the procedure {name} runs as {}, whom read_only does not stop", row.text(2)),
                    format!("ALTER PROCEDURE {name} SQL SECURITY INVOKER"),
                )
            })
            .collect();
        findings.each(
            NAME,
            Level::Warning,
            &found,
            "whoever calls it on the old source, around Headgate, writes there after the switch too: let nobody, give it \
             another definer, or let it run as its caller, who then needs its rights",
            "no procedure runs as somebody who passes the fence",
        );
        Ok(())
    }
}

/// Administrators of a server, whom nobody takes for an application.
pub(crate) fn is_administrators(user: &str) -> bool {
    matches!(user, "root" | "mariadb.sys" | "debian-sys-maint")
        || user.starts_with("mysql.")
        || service::is_services(user)
}

/// What Headgate's session may do everywhere, through its active roles too.
pub(crate) async fn own_rights(session: &mut Conn) -> Result<BTreeSet<String>> {
    let rows = ask(session, "SHOW GRANTS", "cannot read the grants of Headgate's account").await?;
    Ok(on_everything(rows.iter().map(|row| row.text(0))))
}

/// Whether it may do one of these.
pub(crate) fn has(rights: &BTreeSet<String>, names: &[&str]) -> bool {
    rights.contains("ALL PRIVILEGES") || names.iter().any(|name| rights.contains(*name))
}

/// By what an account with these rights would keep the writers out.
pub(crate) fn means(own: &BTreeSet<String>, version: Version) -> Means {
    let may = if version.is_mysql_from(8, 0, 0) {
        has(own, &["SYSTEM_VARIABLES_ADMIN", "SUPER"])
    } else if version.is_mariadb() && version.number >= (10, 11, 0) {
        has(own, &["READ_ONLY ADMIN"])
    } else {
        has(own, &["SUPER", "READ_ONLY ADMIN"])
    };
    if may || !version.locks_accounts() { Means::ReadOnly } else { Means::Accounts }
}

/// The rights by which an account passes.
fn passing_rights(own: &BTreeSet<String>, version: Version, means: Means) -> &'static [&'static str] {
    match means {
        Means::ReadOnly if version.is_mysql_from(8, 0, 0) => &["SUPER", "CONNECTION_ADMIN"],
        // MariaDB took this right away from SUPER.
        Means::ReadOnly if version.is_mariadb() && version.number >= (10, 11, 0) => {
            &["READ_ONLY ADMIN", "ALL PRIVILEGES"]
        }
        Means::ReadOnly => &["SUPER", "READ_ONLY ADMIN", "ALL PRIVILEGES"],
        // Such an account can be locked, and its sessions ended, only by one of its kind.
        Means::Accounts if version.is_mysql_from(8, 0, 16) && !has(own, &["SYSTEM_USER"]) => &["SYSTEM_USER"],
        Means::Accounts => &[],
    }
}
