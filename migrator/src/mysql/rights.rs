//! What Headgate's accounts need, on the source and on the target: the one table that is printed and checked.

mod table;

use std::collections::BTreeSet;

use mysql_async::Conn;

use super::catalogue::ask;
use super::client::{self, Flavor, Version};
use super::service;
use super::sql::{qualified, quote_ident, quote_literal};
use crate::error::{Error, Result};
use crate::mysql::context::RECORDS;
use crate::mysql::context::SCRATCH;
use crate::mysql::schema::grants;
use crate::rights::{self, Grant, Need, Side};
use crate::service::Service;
use table::{RIGHTS, Right, To, WITHOUT_WAY_BACK};

/// Whose rights, and to what.
#[derive(Clone, Copy, Debug)]
pub struct For<'a> {
    /// The account, as SQL writes it.
    pub account: &'a str,
    /// The databases that move.
    pub databases: &'a [String],
}

/// An account as SQL writes it.
pub fn account(user: &str, host: &str) -> String {
    format!("{}@{}", quote_literal(user), quote_literal(host))
}

impl Right {
    /// The objects that it is to, as GRANT writes them, each with the database that it is of.
    fn objects(&self, databases: &[String]) -> Vec<(String, Option<String>)> {
        let whole = |name: &str| (pattern(name), Some(name.to_owned()));
        match self.to {
            To::Server => vec![("*.*".to_owned(), None)],
            To::Records => vec![whole(RECORDS)],
            To::Scratch => vec![(format!("`{}%`.*", SCRATCH.replace('_', "\\_")), Some(SCRATCH.to_owned()))],
            To::Databases => databases.iter().map(|name| whole(name)).collect(),
            To::System(name) => vec![(format!("{}.*", quote_ident(name)), Some(name.to_owned()))],
            To::Tables(database, tables) => {
                (tables.iter()).map(|table| (qualified(database, table), Some(database.to_owned()))).collect()
            }
        }
    }

    fn grant(&self, object: &str, account: &str) -> Grant {
        let name = self.names.first().copied().unwrap_or_default();
        Grant {
            check: self.check,
            what: self.what,
            without: self.without,
            need: self.need,
            statement: format!("GRANT {name} ON {object} TO {account}"),
        }
    }
}

/// A database's name where a grant takes a pattern.
fn pattern(database: &str) -> String {
    let plain = database.replace('\\', "\\\\");
    format!("{}.*", quote_ident(&plain.replace('_', "\\_").replace('%', "\\%")))
}

/// The rights of one side, and then what else it needs where the two change places: not what one of its own allows too.
/// What these allow in turn is needed only without them.
fn of(side: Side, version: Version) -> Vec<Right> {
    let there = RIGHTS.iter().copied().filter(|right| (right.of)(version));
    let (mut all, mut back): (Vec<Right>, Vec<Right>) = there.partition(|right| right.side == side);
    back.retain(|right| right.is_for_changes() && !all.iter().any(|one| one.allows(right)));
    for right in &mut all {
        if back.iter().any(|one| one.allows(right)) {
            right.need = WITHOUT_WAY_BACK;
        }
    }
    all.extend(back.into_iter().map(Right::turned));
    all
}

/// What a new account needs on a server of this version, the account itself first. What stands for its password is refused
/// by the server.
pub fn grants(side: Side, version: Version, whose: For<'_>) -> Vec<Grant> {
    let login = Grant {
        check: "",
        what: "log in",
        without: "nothing is possible",
        need: Need::Always,
        statement: format!("CREATE USER {} IDENTIFIED BY <password>", whose.account),
    };
    let rights = of(side, version).into_iter().flat_map(|right| {
        let objects = right.objects(whose.databases).into_iter();
        objects.map(move |(object, ..)| right.grant(&object, whose.account))
    });
    std::iter::once(login).chain(rights).collect()
}

/// What the fence by `read_only` needs, under the names that servers have for it, and locked accounts do not.
pub(super) const READ_ONLY_FENCE: [&str; 4] =
    ["SYSTEM_VARIABLES_ADMIN ON *.*", "CONNECTION_ADMIN ON *.*", "READ_ONLY ADMIN ON *.*", "SUPER ON *.*"];

/// The rights to everything with which accounts can be locked out in place of `read_only`: to lock them, to end their
/// sessions, and to see every event. Nothing where who has them may set `read_only` too.
fn account_fence(version: Version) -> Option<[&'static str; 3]> {
    let ends = if version.is_mysql_from(8, 0, 0) {
        "CONNECTION_ADMIN"
    } else if version.is_mariadb() && version.number >= (10, 5, 2) {
        "CONNECTION ADMIN"
    } else {
        return None;
    };
    version.locks_accounts().then_some(["CREATE USER", ends, "EVENT"])
}

/// Names beside a failure what the session's account lacks of these rights ("PROCESS ON *.*") of the source, as the
/// table has them for its server.
pub(super) async fn with_grants(error: Error, session: &mut Conn, rights: &[&str]) -> Error {
    let lacking = async {
        let version = client::version(session).await?;
        Ok::<_, Error>(Held::read(session).await?.grants(version, rights))
    };
    match lacking.await {
        Ok(statements) if !statements.is_empty() => error.remedy(statements.join("; ")),
        // What failed is another thing than a right.
        _ => error,
    }
}

/// The version that is meant by what an operator wrote; the newest known where nothing was written.
pub fn version(flavor: Flavor, written: Option<&str>) -> Option<Version> {
    let newest = match flavor {
        Flavor::Mysql => "9.7",
        Flavor::Mariadb => "10.11",
    };
    let mut numbers = written.unwrap_or(newest).split('.').map(|part| part.parse::<u16>().ok());
    let major = numbers.next()??;
    let minor = numbers.next().unwrap_or(Some(0))?;
    // Without a patch number the newest of these is meant.
    let patch = numbers.next().unwrap_or(Some(u16::MAX))?;
    Some(Version { flavor, number: (major, minor, patch) })
}

/// The same as a script for the server's client program.
pub fn script(side: Side, version: Version, whose: For<'_>) -> String {
    let head = [
        format!(
            "The least that Headgate's account needs on the {} of a migration, {} {}.{}.",
            side.name(),
            if version.is_mariadb() { "MariaDB" } else { "MySQL" },
            version.number.0,
            version.number.1
        ),
        "Put the password where <password> stands, in quotes: the server refuses the statement as it is.".to_owned(),
    ];
    rights::script(&head, ("", ""), &grants(side, version, whose))
}

/// What the session's account holds, by itself and by its active roles.
pub(super) struct Held {
    /// The account, as SQL writes it.
    pub(super) account: String,
    /// Who runs the server.
    pub(super) service: Service,
    /// Each object, and the names of the rights to it.
    rights: Vec<(String, BTreeSet<String>)>,
}

impl Held {
    /// Reads it.
    pub(super) async fn read(session: &mut Conn) -> Result<Self> {
        const WHAT: &str = "cannot read what Headgate's account may do";
        let rows = ask(session, "SELECT CURRENT_USER()", WHAT).await?;
        let current = rows.first().map_or("", |row| row.text(0));
        let (user, host) = current.rsplit_once('@').unwrap_or((current, "%"));
        let account = account(user, host);
        let rows = ask(session, "SHOW GRANTS", WHAT).await?;
        let rights = rows.iter().filter_map(|row| grants::held(row.text(0)));
        let rights = rights.collect();
        Ok(Self { account, service: service::of(session).await?, rights })
    }

    /// Whether one of these rights to everything is held.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        self.holds(names, |object| object == "*.*")
    }

    /// The statements for what it lacks of these rights of the source.
    pub(super) fn grants(&self, version: Version, rights: &[&str]) -> Vec<String> {
        let lacking = self.lacking(Side::Source, version, &[]).into_iter();
        let statements = lacking.map(|grant| grant.statement);
        statements
            .filter(|statement| rights.iter().any(|right| statement.starts_with(&format!("GRANT {right} TO "))))
            .collect()
    }

    /// The statements for what it lacks to lock accounts out in place of `read_only`; `None` where the server has no
    /// such fence.
    pub(super) fn account_fence_grants(&self, version: Version) -> Option<Vec<String>> {
        let rights = account_fence(version)?;
        let lacking = rights.into_iter().filter(|name| {
            let ends = name.starts_with("CONNECTION");
            // A service has a procedure for it.
            !(self.has(&[name]) || ends && (self.has(&["SUPER"]) || self.service.is_managed()))
        });
        Some(lacking.map(|name| format!("GRANT {name} ON *.* TO {}", self.account)).collect())
    }

    fn holds(&self, names: &[&str], wanted: impl Fn(&str) -> bool) -> bool {
        self.rights.iter().filter(|(object, _)| wanted(object)).any(|(_, held)| {
            let all = |list: &&str| list.split(", ").all(|name| held.contains(name));
            held.contains("ALL PRIVILEGES") || names.iter().any(all)
        })
    }

    /// Whether one of these rights to a whole database is held.
    pub(super) fn has_in(&self, database: &str, names: &[&str]) -> bool {
        self.holds(names, |object| {
            // What is held on a single table is not enough for a whole database.
            object.ends_with(".*") && grants::concerns(object, &[database.to_owned()])
        })
    }

    /// What it lacks of the rights of this side, as an account's that moves these databases.
    pub(super) fn lacking(&self, side: Side, version: Version, databases: &[String]) -> Vec<Grant> {
        self.lacking_of(of(side, version), databases)
    }

    /// The same of what applying changes on a target needs, where all has been created.
    pub(super) fn lacking_to_apply(&self, version: Version, databases: &[String]) -> Vec<Grant> {
        let mut rights = of(Side::Target, version);
        rights.retain(Right::is_for_changes);
        self.lacking_of(rights, databases)
    }

    fn lacking_of(&self, rights: Vec<Right>, databases: &[String]) -> Vec<Grant> {
        let mut lacking = Vec::new();
        for right in rights {
            for (object, database) in right.objects(databases) {
                let held = match database {
                    None => self.has(right.names),
                    Some(database) => {
                        self.has_in(&database, right.names) || self.holds(right.names, |held| *held == object)
                    }
                };
                if !held {
                    lacking.push(right.grant(&object, &self.account));
                }
            }
        }
        lacking
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Held, Service, Side, version};
    use crate::mysql::client::Flavor;

    #[test]
    fn what_lacks_is_asked_for_by_the_name_that_the_version_has() {
        let right = |object: &str, name: &str| (object.to_owned(), BTreeSet::from([name.to_owned()]));
        let held = Held {
            account: "'h'@'%'".to_owned(),
            service: Service::Own,
            rights: vec![right("*.*", "PROCESS"), right("`sh%`.*", "SELECT"), right("`shop`.`t`", "TRIGGER")],
        };
        let lacks = |flavor, written| -> Vec<String> {
            let version = version(flavor, Some(written)).expect("a version");
            let lacking = held.lacking(Side::Source, version, &["shop".to_owned()]).into_iter();
            lacking.map(|grant| grant.statement.replace(" TO 'h'@'%'", "")).collect()
        };
        let has = |list: &[String], grant: &str| list.iter().any(|one| one == grant);
        let (old, new) = (lacks(Flavor::Mysql, "5.6"), lacks(Flavor::Mysql, "9.7"));
        assert!(has(&old, "GRANT SUPER ON *.*") && !has(&new, "GRANT SUPER ON *.*"));
        assert!(has(&new, "GRANT CONNECTION_ADMIN ON *.*"));
        assert!(has(&lacks(Flavor::Mariadb, "10.11"), "GRANT READ_ONLY ADMIN ON *.*"));
        assert!(!has(&old, "GRANT PROCESS ON *.*") && !has(&old, "GRANT SELECT ON `shop`.*"));
        // A right to one table is none to all of them.
        assert!(has(&old, "GRANT TRIGGER ON `shop`.*"));
        assert!(has(&old, "GRANT SELECT ON `mysql`.*"));
    }

    #[test]
    fn a_database_is_named_so_that_no_other_is_meant() {
        assert_eq!(super::pattern("a_b%"), "`a\\_b\\%`.*");
        assert_eq!(version(Flavor::Mysql, Some("8.x")), None);
    }
}
