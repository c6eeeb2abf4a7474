//! Accounts that hold one of some rights: by themselves, through a role however many steps away, or by being taken for
//! another account; and the ways by which they do, each with the statement that closes it.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;

use crate::error::{Error, Kind, Result};
use crate::mysql::catalogue::{ask, variable};
use crate::mysql::client::Version;
use crate::mysql::rights::with_grants;
use crate::mysql::schema::accounts;
use crate::mysql::schema::accounts::account::Account;
use crate::mysql::sql::quote_ident;

const UNKNOWN: &str = "what the accounts of the source may do cannot be known";

pub(super) type Name = (String, String);

/// Why an account passes: what it holds, and the statement that takes it away; empty where none does.
pub(super) type GrantPath = (String, String);

/// What shows an account what others may do.
const SIGHT: &str = "SELECT ON `mysql`.*";

fn unknown(error: &Error) -> Error {
    let text = format!("{UNKNOWN}: {}", error.full_text());
    if error.kind() == Kind::Transient { Error::transient(text) } else { Error::refused(text) }
}

/// Accounts that hold one of some rights.
pub(crate) struct Holders {
    /// Roles among them that everybody has.
    pub(super) for_all: Vec<Name>,
    pub(super) accounts: Vec<(Account, Vec<GrantPath>)>,
}

impl Holders {
    /// The accounts of the server that come to one of `rights`, by whichever way.
    pub(crate) async fn read(session: &mut Conn, version: Version, rights: &[&str]) -> Result<Self> {
        match Self::shown(session, version, rights).await {
            Err(error) if error.kind() != Kind::Transient => Err(with_grants(error, session, &[SIGHT]).await),
            outcome => outcome,
        }
    }

    async fn shown(session: &mut Conn, version: Version, rights: &[&str]) -> Result<Self> {
        let accounts = accounts::all(session).await.map_err(|error| unknown(&error))?;
        let mut held = granted(session, &accounts).await?;
        if version.is_mariadb() {
            granted_to_roles(session, &accounts, &mut held).await?;
        }
        let mut direct: BTreeMap<Name, BTreeSet<String>> = BTreeMap::new();
        for (name, all) in held {
            let passing: BTreeSet<String> = all.into_iter().filter(|one| rights.contains(&one.as_str())).collect();
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
        Ok(Self { for_all: for_all.into_iter().filter(|role| holders.contains(role)).collect(), accounts })
    }

    /// Whether a session of this user may be of such an account.
    pub(super) fn holds(&self, user: &str) -> bool {
        !self.for_all.is_empty() || self.accounts.iter().any(|(account, _)| account.user == user)
    }

    /// Those that can log in, for people.
    pub(crate) fn named(&self, max: usize) -> String {
        if !self.for_all.is_empty() {
            return "everybody".to_owned();
        }
        let open = self.accounts.iter().filter(|(account, _)| !account.is_role && !account.locked);
        let mut names: Vec<String> = open.map(|(account, _)| account.quoted()).collect();
        let more = names.len().saturating_sub(max);
        names.truncate(max);
        let names = names.join(", ");
        if more == 0 { names } else { format!("{names} and {more} more") }
    }
}

pub(super) fn name_of(account: &Account) -> Name {
    (account.user.clone(), account.host.clone())
}

pub(super) fn literal(account: &Account) -> String {
    format!("'{}'@'{}'", account.user, account.host)
}

/// A right's name as this module compares it; servers write some in two ways.
fn normal(right: &str) -> String {
    right.trim().to_ascii_uppercase().replace("READ ONLY ADMIN", "READ_ONLY ADMIN")
}

/// What a list of `SHOW GRANTS` grants on everything.
pub(super) fn on_everything<'a>(grants: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    grants
        .filter_map(|grant| grant.split_once(" ON *.* "))
        .flat_map(|(rights, _)| rights.trim_start_matches("GRANT ").split(',').map(normal).collect::<Vec<_>>())
        .collect()
}

/// What each account holds by itself. The server tells only what its caller may see, without a word of the rest.
async fn granted(session: &mut Conn, accounts: &[Account]) -> Result<BTreeMap<Name, BTreeSet<String>>> {
    let rows = ask(session, "SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES", UNKNOWN).await?;
    let mut by_grantee: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in &rows {
        by_grantee.entry(row.text(0)).or_default().insert(normal(row.text(1)));
    }
    let mut held = BTreeMap::new();
    for account in accounts.iter().filter(|account| !account.is_role) {
        let Some(rights) = by_grantee.remove(literal(account).as_str()) else {
            return Err(Error::refused(format!(
                "{UNKNOWN}: the server does not show what {} may do",
                account.quoted()
            )));
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
        let name = if role.user == "PUBLIC" { "PUBLIC".to_owned() } else { quote_ident(&role.user) };
        let rows = ask(session, &format!("SHOW GRANTS FOR {name}"), UNKNOWN).await?;
        held.insert(name_of(role), on_everything(rows.iter().map(|row| row.text(0))));
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
        let rows = ask(session, query, UNKNOWN).await.map_err(|error| unknown(&error))?;
        for row in rows.iter().filter(|row| !row.text(0).is_empty()) {
            edges.push(((row.owned(0), row.owned(1)), (row.owned(2), row.owned(3)), by));
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
    Ok(roles.split(',').filter(|role| !role.trim().is_empty()).map(role).collect())
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
) -> Vec<GrantPath> {
    let (name, quoted) = (name_of(account), account.quoted());
    let mut ways = Vec::new();
    if let Some(rights) = direct.get(&name) {
        let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
        let rights = rights.join(", ");
        ways.push((rights.clone(), format!("REVOKE {rights} ON *.* FROM {quoted}")));
    }
    for (from, to, by) in edges {
        if *to != name || !passers.contains(from) {
            continue;
        }
        let other = format!("{}@{}", quote_ident(&from.0), quote_ident(&from.1));
        ways.push(match by {
            By::Role => {
                let role = if is_mariadb { quote_ident(&from.0) } else { other };
                (format!("through the role {role}"), format!("REVOKE {role} FROM {quoted}"))
            }
            By::Proxy => (format!("as a proxy of {other}"), format!("REVOKE PROXY ON {other} FROM {quoted}")),
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
        let edges =
            [edge("q", "p", By::Proxy), edge("r", "q", By::Role), edge("p", "r", By::Role), edge("x", "y", By::Role)];
        let passers: Vec<String> = closure(&direct, &edges).into_iter().map(|(user, _)| user).collect();
        assert_eq!(passers, ["p", "q", "r"]);
    }
}
