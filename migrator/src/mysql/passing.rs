//! Who passes the fence: accounts by what they may do, by themselves, through a role, or by being taken for another one,
//! compared with what Headgate's own account may do; and procedures that run as such an account.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;

use super::Mysql;
use super::accounts::{self, Account};
use super::catalogue::{ask, variable};
use super::client::{self, Version};
use super::sql::{qualified, quote_ident};
use crate::error::{Error, Kind, Result};
use crate::preflight::{Findings, Level};

const NAME: &str = "fence_accounts";
const LISTED_MAX: usize = 100;
const UNKNOWN: &str = "who passes the source's fence cannot be known";

/// What keeps the writers out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// `read_only`, which the server keeps.
    ReadOnly,
    /// Locks on the tables, which a session keeps, until the accounts are locked.
    Accounts,
}

type Name = (String, String);

/// Why an account passes: what it holds, and the statement that takes it away; empty where none does.
type Way = (String, String);

/// Accounts that hold one of some rights.
pub(super) struct Holders {
    /// Roles among them that everybody has.
    for_all: Vec<Name>,
    accounts: Vec<(Account, Vec<Way>)>,
}

impl Holders {
    /// The accounts of the server that come to one of `rights`, by whichever way.
    pub(super) async fn read(
        session: &mut Conn,
        version: Version,
        rights: &[&str],
    ) -> Result<Self> {
        let accounts = accounts::all(session)
            .await
            .map_err(|error| unknown(&error))?;
        let mut held = granted(session, &accounts).await?;
        if version.is_mariadb() {
            granted_to_roles(session, &accounts, &mut held).await?;
        }
        let mut direct: BTreeMap<Name, BTreeSet<String>> = BTreeMap::new();
        for (name, all) in held {
            let passing: BTreeSet<String> = all
                .into_iter()
                .filter(|one| rights.contains(&one.as_str()))
                .collect();
            if !passing.is_empty() {
                direct.insert(name, passing);
            }
        }
        let edges = edges(session, version).await?;
        let holders = closure(&direct, &edges);
        let for_all = for_all(session, version).await?;
        let is_mariadb = version.is_mariadb();
        let accounts = accounts
            .into_iter()
            .filter(|account| holders.contains(&name_of(account)))
            .map(|account| {
                let ways = ways(&account, &direct, &edges, &holders, is_mariadb);
                (account, ways)
            })
            .collect();
        Ok(Self {
            for_all: for_all
                .into_iter()
                .filter(|role| holders.contains(role))
                .collect(),
            accounts,
        })
    }

    fn holds(&self, user: &str) -> bool {
        !self.for_all.is_empty()
            || self
                .accounts
                .iter()
                .any(|(account, _)| account.user == user)
    }

    /// Those that can log in, for people.
    pub(super) fn named(&self, max: usize) -> String {
        if !self.for_all.is_empty() {
            return "everybody".to_owned();
        }
        let open = self
            .accounts
            .iter()
            .filter(|(account, _)| !account.is_role && !account.locked);
        let mut names: Vec<String> = open.map(|(account, _)| account.quoted()).collect();
        let more = names.len().saturating_sub(max);
        names.truncate(max);
        let names = names.join(", ");
        if more == 0 {
            names
        } else {
            format!("{names} and {more} more")
        }
    }
}

/// Who passes a fence.
pub(super) struct Passing {
    means: Means,
    own: String,
    holders: Holders,
}

impl Passing {
    /// By the rights of Headgate's account: who passes the fence that it can put up.
    pub(super) async fn read(mysql: &Mysql, session: &mut Conn) -> Result<Self> {
        let version = client::version(session).await?;
        let own = own_rights(session).await?;
        let means = means(&own, version);
        Ok(Self {
            means,
            own: mysql.source().user.clone(),
            holders: Holders::read(session, version, passing_rights(&own, version, means)).await?,
        })
    }

    /// By what this fence would keep the writers out.
    pub(super) fn means(&self) -> Means {
        self.means
    }

    /// Whether a session of this user passes. Headgate's own account does; somebody else may use it.
    pub(super) fn passes(&self, user: &str) -> bool {
        user == self.own || self.holders.holds(user)
    }

    /// The accounts that applications could log in by, each with the ways by which it passes.
    fn of_applications(&self) -> impl Iterator<Item = &(Account, Vec<Way>)> {
        self.holders.accounts.iter().filter(|(account, _)| {
            !account.locked
                && !account.is_role
                && !is_administrators(&account.user)
                && account.user != self.own
        })
    }

    /// Accounts that Headgate could neither lock nor end the sessions of.
    pub(super) fn refuse_accounts(&self) -> Result<()> {
        if self.means == Means::ReadOnly {
            return Ok(());
        }
        let named: Vec<String> = self
            .of_applications()
            .map(|(account, _)| account.quoted())
            .take(LISTED_MAX)
            .collect();
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
    pub(super) fn tell(&self, findings: &mut Findings) {
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
                found.push((
                    format!("every account {what}: all have the role {role} ({how})"),
                    fix.clone(),
                ));
            }
        }
        found.truncate(LISTED_MAX);
        findings.each(
            NAME,
            level,
            &found,
            remedy,
            "no account of an application passes the fence",
        );
    }

    /// Procedures that let whoever may call them write in spite of `read_only`.
    pub(super) async fn tell_of_procedures(
        &self,
        session: &mut Conn,
        findings: &mut Findings,
    ) -> Result<()> {
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
        let definers: BTreeSet<String> = self
            .holders
            .accounts
            .iter()
            .map(|(account, _)| format!("{}@{}", account.user, account.host))
            .collect();
        let found: Vec<(String, String)> = rows
            .iter()
            .filter(|row| !self.holders.for_all.is_empty() || definers.contains(row.text(2)))
            .take(LISTED_MAX)
            .map(|row| {
                let name = qualified(row.text(0), row.text(1));
                (
                    format!(
                        "the procedure {name} runs as {}, whom read_only does not stop",
                        row.text(2)
                    ),
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

const SIGHT: &str = "GRANT SELECT ON mysql.* to Headgate's account on the source";

fn unknown(error: &Error) -> Error {
    let text = format!("{UNKNOWN}: {}", error.full_text());
    if error.kind() == Kind::Transient {
        Error::transient(text)
    } else {
        Error::refused(text).remedy(SIGHT)
    }
}

/// Administrators of a server, whom nobody takes for an application.
fn is_administrators(user: &str) -> bool {
    matches!(
        user,
        "root" | "mariadb.sys" | "debian-sys-maint" | "rdsadmin"
    ) || user.starts_with("mysql.")
}

fn name_of(account: &Account) -> Name {
    (account.user.clone(), account.host.clone())
}

fn literal(account: &Account) -> String {
    format!("'{}'@'{}'", account.user, account.host)
}

/// A right's name as this module compares it; servers write some in two ways.
fn normal(right: &str) -> String {
    right
        .trim()
        .to_ascii_uppercase()
        .replace("READ ONLY ADMIN", "READ_ONLY ADMIN")
}

/// What a list of `SHOW GRANTS` grants on everything.
fn on_everything<'a>(grants: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    grants
        .filter_map(|grant| grant.split_once(" ON *.* "))
        .flat_map(|(rights, _)| {
            rights
                .trim_start_matches("GRANT ")
                .split(',')
                .map(normal)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// What Headgate's session may do everywhere, through its active roles too.
pub(super) async fn own_rights(session: &mut Conn) -> Result<BTreeSet<String>> {
    let rows = ask(
        session,
        "SHOW GRANTS",
        "cannot read the grants of Headgate's account",
    )
    .await?;
    Ok(on_everything(rows.iter().map(|row| row.text(0))))
}

fn has(rights: &BTreeSet<String>, names: &[&str]) -> bool {
    rights.contains("ALL PRIVILEGES") || names.iter().any(|name| rights.contains(*name))
}

fn means(own: &BTreeSet<String>, version: Version) -> Means {
    let may = if version.is_mysql_from(8, 0, 0) {
        has(own, &["SYSTEM_VARIABLES_ADMIN", "SUPER"])
    } else if version.is_mariadb() && version.number >= (10, 11, 0) {
        has(own, &["READ_ONLY ADMIN"])
    } else {
        has(own, &["SUPER", "READ_ONLY ADMIN"])
    };
    if may || !version.locks_accounts() {
        Means::ReadOnly
    } else {
        Means::Accounts
    }
}

/// The rights by which an account passes.
fn passing_rights(
    own: &BTreeSet<String>,
    version: Version,
    means: Means,
) -> &'static [&'static str] {
    match means {
        Means::ReadOnly if version.is_mysql_from(8, 0, 0) => &["SUPER", "CONNECTION_ADMIN"],
        // MariaDB took this right away from SUPER.
        Means::ReadOnly if version.is_mariadb() && version.number >= (10, 11, 0) => {
            &["READ_ONLY ADMIN", "ALL PRIVILEGES"]
        }
        Means::ReadOnly => &["SUPER", "READ_ONLY ADMIN", "ALL PRIVILEGES"],
        // Such an account can be locked, and its sessions ended, only by one of its kind.
        Means::Accounts if version.is_mysql_from(8, 0, 16) && !has(own, &["SYSTEM_USER"]) => {
            &["SYSTEM_USER"]
        }
        Means::Accounts => &[],
    }
}

/// What each account holds by itself. The server tells only what its caller may see, without a word of the rest.
async fn granted(
    session: &mut Conn,
    accounts: &[Account],
) -> Result<BTreeMap<Name, BTreeSet<String>>> {
    let rows = ask(
        session,
        "SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES",
        UNKNOWN,
    )
    .await?;
    let mut by_grantee: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in &rows {
        by_grantee
            .entry(row.text(0))
            .or_default()
            .insert(normal(row.text(1)));
    }
    let mut held = BTreeMap::new();
    for account in accounts.iter().filter(|account| !account.is_role) {
        let Some(rights) = by_grantee.remove(literal(account).as_str()) else {
            return Err(Error::refused(format!(
                "{UNKNOWN}: the server does not show what {} may do",
                account.quoted()
            ))
            .remedy(SIGHT));
        };
        held.insert(name_of(account), rights);
    }
    Ok(held)
}

/// MariaDB lists the rights of accounts only.
async fn granted_to_roles(
    session: &mut Conn,
    accounts: &[Account],
    held: &mut BTreeMap<Name, BTreeSet<String>>,
) -> Result<()> {
    for role in accounts.iter().filter(|account| account.is_role) {
        let name = if role.user == "PUBLIC" {
            "PUBLIC".to_owned()
        } else {
            quote_ident(&role.user)
        };
        let rows = ask(session, &format!("SHOW GRANTS FOR {name}"), UNKNOWN).await?;
        held.insert(
            name_of(role),
            on_everything(rows.iter().map(|row| row.text(0))),
        );
    }
    Ok(())
}

/// How one account comes to what another one may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Role,
    Proxy,
}

type Edge = (Name, Name, By);

/// Which account has which as a role, active or not, and which may be taken for which.
async fn edges(session: &mut Conn, version: Version) -> Result<Vec<Edge>> {
    let mut edges = Vec::new();
    let roles = if version.is_mysql_from(8, 0, 0) {
        "SELECT FROM_USER, FROM_HOST, TO_USER, TO_HOST FROM mysql.role_edges"
    } else if version.is_mariadb() {
        "SELECT Role, '', User, Host FROM mysql.roles_mapping"
    } else {
        ""
    };
    let proxies = "SELECT Proxied_user, Proxied_host, User, Host FROM mysql.proxies_priv";
    for (query, by) in [(roles, By::Role), (proxies, By::Proxy)] {
        if query.is_empty() {
            continue;
        }
        let rows = ask(session, query, UNKNOWN)
            .await
            .map_err(|error| unknown(&error))?;
        for row in rows.iter().filter(|row| !row.text(0).is_empty()) {
            edges.push((
                (row.owned(0), row.owned(1)),
                (row.owned(2), row.owned(3)),
                by,
            ));
        }
    }
    Ok(edges)
}

/// The roles that everybody has.
async fn for_all(session: &mut Conn, version: Version) -> Result<Vec<Name>> {
    if version.is_mariadb() {
        return Ok(vec![("PUBLIC".to_owned(), String::new())]);
    }
    let Some(roles) = variable(session, "mandatory_roles").await? else {
        return Ok(Vec::new());
    };
    let bare = |text: &str| text.trim().trim_matches(['`', '\'', '"']).to_owned();
    let role = |text: &str| match text.rsplit_once('@') {
        Some((user, host)) => (bare(user), bare(host)),
        None => (bare(text), "%".to_owned()),
    };
    Ok(roles
        .split(',')
        .filter(|role| !role.trim().is_empty())
        .map(role)
        .collect())
}

/// Everybody who has such a right, or comes to one over however many steps.
fn closure(direct: &BTreeMap<Name, BTreeSet<String>>, edges: &[Edge]) -> BTreeSet<Name> {
    let mut passers: BTreeSet<Name> = direct.keys().cloned().collect();
    loop {
        let more: Vec<Name> = edges
            .iter()
            .filter(|(from, to, _)| passers.contains(from) && !passers.contains(to))
            .map(|(_, to, _)| to.clone())
            .collect();
        if more.is_empty() {
            return passers;
        }
        passers.extend(more);
    }
}

fn ways(
    account: &Account,
    direct: &BTreeMap<Name, BTreeSet<String>>,
    edges: &[Edge],
    passers: &BTreeSet<Name>,
    is_mariadb: bool,
) -> Vec<Way> {
    let (name, quoted) = (name_of(account), account.quoted());
    let mut ways = Vec::new();
    if let Some(rights) = direct.get(&name) {
        let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
        let rights = rights.join(", ");
        ways.push((
            rights.clone(),
            format!("REVOKE {rights} ON *.* FROM {quoted}"),
        ));
    }
    for (from, to, by) in edges {
        if *to != name || !passers.contains(from) {
            continue;
        }
        let other = format!("{}@{}", quote_ident(&from.0), quote_ident(&from.1));
        ways.push(match by {
            By::Role => {
                let role = if is_mariadb {
                    quote_ident(&from.0)
                } else {
                    other
                };
                (
                    format!("through the role {role}"),
                    format!("REVOKE {role} FROM {quoted}"),
                )
            }
            By::Proxy => (
                format!("as a proxy of {other}"),
                format!("REVOKE PROXY ON {other} FROM {quoted}"),
            ),
        });
    }
    ways
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{By, closure, on_everything};

    #[test]
    fn what_is_granted_on_everything_is_told_from_what_is_granted_on_a_database() {
        let grants = [
            "GRANT SELECT, SUPER ON *.* TO `a`@`%` WITH GRANT OPTION",
            "GRANT READ ONLY ADMIN ON *.* TO `a`@`%`",
            "GRANT INSERT ON `shop`.* TO `a`@`%`",
        ];
        let rights: Vec<String> = on_everything(grants.into_iter()).into_iter().collect();
        assert_eq!(rights, ["READ_ONLY ADMIN", "SELECT", "SUPER"]);
    }

    #[test]
    fn a_right_comes_over_any_number_of_roles_and_proxies_even_in_a_ring() {
        let name = |user: &str| (user.to_owned(), "%".to_owned());
        let direct = BTreeMap::from([(name("r"), BTreeSet::from(["SUPER".to_owned()]))]);
        let edge = |from, to, by| (name(from), name(to), by);
        let edges = [
            edge("q", "p", By::Proxy),
            edge("r", "q", By::Role),
            edge("p", "r", By::Role),
            edge("x", "y", By::Role),
        ];
        let passers: Vec<String> = closure(&direct, &edges)
            .into_iter()
            .map(|(user, _)| user)
            .collect();
        assert_eq!(passers, ["p", "q", "r"]);
    }
}
