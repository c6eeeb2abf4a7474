//! Every right that Headgate's accounts need on MySQL and MariaDB, with the servers that have it so.

use super::super::client::Version;
use crate::rights::Side::{Source, Target};
use crate::rights::{Need, Side};

use To::{Databases, Records, Scratch, Server, System, Tables};

/// What a right is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// Everything on the server.
    Server,
    /// Headgate's own database.
    Records,
    /// Databases in which a server prints definitions anew.
    Scratch,
    /// Each database that moves.
    Databases,
    /// A database of the server's own.
    System(&'static str),
    /// Tables of such a database.
    Tables(&'static str, &'static [&'static str]),
}

/// One right of one side.
#[derive(Clone, Copy)]
pub(super) struct Right {
    pub(super) side: Side,
    pub(super) check: &'static str,
    pub(super) need: Need,
    pub(super) to: To,
    /// The names under which servers have it: one of them is enough, the first is granted.
    pub(super) names: &'static [&'static str],
    pub(super) what: &'static str,
    pub(super) without: &'static str,
    /// Which servers have it in this form.
    pub(super) of: fn(Version) -> bool,
}

const NO_START: &str = "no migration starts";
const LESS: &str = "no migration starts where an account of the source has rights in the database";
/// Asked by the precheck alone.
const FOLLOWS: &str = "ask whether it follows another server";
const NO_WAY_BACK: &str = "a cutover has no way back";
const UNKNOWN: &str = "it cannot be known, and no migration starts";

fn every(_: Version) -> bool {
    true
}

fn mysql8(version: Version) -> bool {
    version.is_mysql_from(8, 0, 0)
}

fn before_mysql8(version: Version) -> bool {
    !version.is_mariadb() && !mysql8(version)
}

fn definers(version: Version) -> bool {
    version.is_mysql_from(8, 2, 0)
}

fn definers_before(version: Version) -> bool {
    mysql8(version) && !definers(version)
}

/// What is needed where no account has what lets changes come back.
pub(super) const WITHOUT_WAY_BACK: Need = Need::Where("what is for a way back is not granted");

impl Right {
    /// Whether its side's changes cannot be read without it, or changes not be applied and compared there, where all has
    /// been created.
    pub(super) fn is_for_changes(&self) -> bool {
        const TO_CREATE: [&str; 8] =
            ["CREATE", "DROP", "REFERENCES", "CREATE VIEW", "CREATE ROUTINE", "EVENT", "CREATE USER", "GRANT OPTION"];
        let name = self.names.first().copied().unwrap_or_default();
        let creates = TO_CREATE.contains(&name) && self.to != Records;
        match self.check {
            "source_rights" => self.what != FOLLOWS,
            "target_rights" => self.what != FOLLOWS && !creates,
            "target_writers" | "target_prints" => true,
            _ => false,
        }
    }

    /// Whether who is granted it has the other one too.
    pub(super) fn allows(&self, other: &Self) -> bool {
        self.to == other.to && self.names.first().is_some_and(|name| other.names.contains(name))
    }

    /// The same on the other side, where what has been switched may come back.
    pub(super) fn turned(self) -> Self {
        let (side, check) = match self.side {
            Source => (Target, "target_way_back"),
            Target => (Source, "source_way_back"),
        };
        let without = match self.check {
            "target_writers" => "it cannot be known whether others write there before one goes back",
            "target_prints" => self.without,
            _ => NO_WAY_BACK,
        };
        Self { side, check, need: Need::Helpful, without, ..self }
    }
}

/// MariaDB from the version on that takes writing past `read_only` away from SUPER.
fn mariadb_new(version: Version) -> bool {
    version.is_mariadb() && version.number >= (10, 11, 0)
}

/// MariaDB from the version on that takes all other rights away from SUPER.
fn mariadb11(version: Version) -> bool {
    version.is_mariadb() && version.number >= (11, 0, 1)
}

/// MariaDB with a right of its own for what SUPER allows too.
fn mariadb_before11(version: Version) -> bool {
    version.is_mariadb() && version.number >= (10, 5, 2) && !mariadb11(version)
}

/// MariaDB from the version on that tells apart who may ask what.
fn monitors(version: Version) -> bool {
    version.is_mariadb() && version.number >= (10, 5, 9)
}

fn not_monitors(version: Version) -> bool {
    !monitors(version)
}

fn not_mariadb(version: Version) -> bool {
    !version.is_mariadb()
}

fn mariadb(version: Version) -> bool {
    version.is_mariadb()
}

fn routines_shown(version: Version) -> bool {
    version.is_mysql_from(8, 0, 20)
}

fn sessions_shown(version: Version) -> bool {
    version.is_mysql_from(5, 7, 0)
}

fn before_mysql57(version: Version) -> bool {
    !version.is_mariadb() && !sessions_shown(version)
}

/// A right that no migration can do without.
const fn must(
    side: Side,
    to: To,
    names: &'static [&'static str],
    what: &'static str,
    of: fn(Version) -> bool,
) -> Right {
    Right {
        side,
        check: match side {
            Source => "source_rights",
            Target => "target_rights",
        },
        need: Need::Always,
        to,
        names,
        what,
        without: NO_START,
        of,
    }
}

const WATCHES: Right = Right {
    side: Target,
    check: "target_writers",
    need: Need::Always,
    to: System("performance_schema"),
    names: &["SELECT"],
    what: "see what others write to the tables before the switch",
    without: UNKNOWN,
    of: mysql8,
};

const SNAPSHOTS: Right = Right {
    check: "source_snapshots",
    need: Need::Helpful,
    without: "exact snapshots lock the tables one by one, and the server may end a client's transaction as a deadlock",
    ..must(Source, Server, &["RELOAD"], "hold all commits back for the moment of an exact snapshot", every)
};

/// MariaDB keeps a table's lock beyond a savepoint where the session writes to the log.
const PROVES: Right = Right {
    check: "target_proof",
    need: Need::Helpful,
    without: "it cannot be proved after the switch that both sides were equal",
    ..must(
        Target,
        Server,
        &["BINLOG ADMIN", "SUPER"],
        "prove the switch without a lock that lasts on tables of the target",
        mariadb_before11,
    )
};

pub(super) const RIGHTS: &[Right] = &[
    must(Source, Server, &["REPLICATION SLAVE"], "read the binary log", every),
    must(Source, Server, &["REPLICATION CLIENT", "SUPER"], "ask for the log's position", mysql8),
    must(Source, Server, &["BINLOG MONITOR"], "ask for the log's position, and for the statements in it", monitors),
    Right { without: UNKNOWN, ..must(Source, Server, &["PROCESS"], "see what other sessions do", every) },
    must(Source, Server, &["SLAVE MONITOR", "SUPER"], FOLLOWS, mariadb11),
    must(Source, Server, &["XA_RECOVER_ADMIN"], "see prepared transactions", mysql8),
    must(Source, Server, &["SYSTEM_VARIABLES_ADMIN", "SUPER"], "set read_only, the fence", mysql8),
    must(
        Source,
        Server,
        &["CONNECTION_ADMIN", "SUPER"],
        "write its marker behind the fence, and end sessions in its way",
        mysql8,
    ),
    must(Source, Server, &["READ_ONLY ADMIN"], "set read_only, the fence, and write its marker behind it", mariadb_new),
    must(Source, Server, &["SUPER"], "stop the event scheduler", mariadb_new),
    must(Source, Server, &["CONNECTION ADMIN"], "end sessions in its way", mariadb11),
    must(Source, Server, &["SUPER"], "set read_only, the fence, and write its marker behind it", before_fence_rights),
    SNAPSHOTS,
    Right {
        to: Tables("performance_schema", &["threads", "events_statements_current"]),
        names: &["SELECT"],
        what: "see that no statement runs for long, before it holds all commits back",
        of: before_mysql57,
        ..SNAPSHOTS
    },
    must(Source, Records, &["CREATE"], "create its records", every),
    must(Source, Records, &["DROP"], "remove them again", every),
    must(Source, Records, &["SELECT"], "read its records", every),
    must(Source, Records, &["INSERT"], "write its signals", every),
    must(Source, Records, &["UPDATE"], "keep its records", every),
    must(Source, Records, &["DELETE"], "forget them", every),
    must(Source, Databases, &["SELECT"], "read the rows", every),
    must(Source, Databases, &["LOCK TABLES"], "lock tables for a moment", every),
    must(Source, Databases, &["TRIGGER"], "read the triggers", every),
    must(Source, Databases, &["SHOW VIEW"], "read the views", every),
    must(Source, Databases, &["EXECUTE"], "see the columns of views that call functions", mariadb),
    must(Source, Databases, &["EVENT"], "see the events", every),
    must(Source, Server, &["SHOW_ROUTINE", "SELECT"], "read the routines of others", routines_shown),
    must(
        Source,
        System("mysql"),
        &["SELECT"],
        "read the accounts, their hashes and what they may do, and before MySQL 8 the routines of others",
        every,
    ),
    Right {
        check: "source_sessions",
        need: Need::Helpful,
        without: "sessions of which the server does not tell enough end at the switch, with the error of a lost connection",
        ..must(
            Source,
            System("performance_schema"),
            &["SELECT"],
            "see the state of the sessions that move",
            sessions_shown,
        )
    },
    Right {
        check: "source_left_behind",
        need: Need::Helpful,
        without: "it cannot be known which resource groups stay behind",
        ..must(Source, Server, &["RESOURCE_GROUP_USER", "RESOURCE_GROUP_ADMIN"], "see the resource groups", mysql8)
    },
    Right {
        check: "source_databases",
        need: Need::Helpful,
        without: "it cannot be known which other databases become read-only at the cutover",
        ..must(Source, Server, &["SHOW DATABASES", "SELECT"], "see the other databases", every)
    },
    Right {
        check: "source_refusal",
        need: Need::Helpful,
        without: "a restart of the old source after the switch lets direct writers in until Headgate sets read_only again",
        ..must(
            Source,
            Server,
            &["CREATE USER"],
            "keep accounts locked after the switch",
            // Servers that lock accounts and do not remember `read_only`.
            |version| version.locks_accounts() && !mysql8(version),
        )
    },
    Right {
        check: "target_definitions",
        without: UNKNOWN,
        ..must(Target, Databases, &["SHOW VIEW"], "compare views", every)
    },
    Right {
        check: "target_prints",
        need: Need::Helpful,
        without: "a definition that this server prints in other words than the other side cannot be compared",
        ..must(
            Target,
            Scratch,
            &[
                "CREATE, DROP, SELECT, INDEX, ALTER, REFERENCES, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT",
            ],
            "let it print the definitions of the other side",
            every,
        )
    },
    Right {
        check: "target_sessions",
        need: Need::Helpful,
        without: "clients are held longer at the cutover: all definitions of the target are read again",
        ..must(Target, Server, &["PROCESS"], "see that no session is changing a definition", every)
    },
    PROVES,
    Right { names: &["BINLOG ADMIN"], of: mariadb11, ..PROVES },
    must(Target, Records, &["CREATE"], "create its records", every),
    must(Target, Records, &["DROP"], "remove them again", every),
    must(Target, Records, &["SELECT"], "read its records", every),
    must(Target, Records, &["INSERT"], "keep its records", every),
    must(Target, Records, &["UPDATE"], "keep its records", every),
    must(Target, Records, &["DELETE"], "forget them", every),
    must(Target, Databases, &["SELECT"], "read the rows", every),
    must(Target, Databases, &["INSERT"], "write rows", every),
    Right {
        check: "schema_trial",
        without: LESS,
        ..must(Target, Databases, &["UPDATE"], "pass it on to the source's accounts that have it", every)
    },
    must(Target, Databases, &["DELETE"], "remove rows", every),
    must(Target, Databases, &["CREATE"], "create the database and its tables", every),
    must(Target, Databases, &["DROP"], "empty tables and start anew", every),
    must(Target, Databases, &["ALTER"], "build indexes and constraints", every),
    must(Target, Databases, &["REFERENCES"], "create foreign keys", not_mariadb),
    must(Target, Databases, &["CREATE VIEW"], "create views", every),
    must(Target, Databases, &["CREATE ROUTINE"], "create routines", every),
    Right {
        check: "schema_trial",
        without: LESS,
        ..must(Target, Databases, &["EXECUTE"], "pass it on to the source's accounts that have it", every)
    },
    must(Target, Databases, &["TRIGGER"], "create triggers", every),
    must(Target, Databases, &["EVENT"], "create events", every),
    Right {
        check: "schema_trial",
        without: LESS,
        ..must(
            Target,
            Databases,
            &["GRANT OPTION"],
            "pass on what the source's accounts may do there, as far as it may itself",
            every,
        )
    },
    must(Target, Server, &["SLAVE MONITOR", "SUPER"], FOLLOWS, monitors),
    must(Target, Server, &["REPLICATION CLIENT", "SUPER"], FOLLOWS, not_monitors),
    must(Target, Server, &["CREATE USER"], "create accounts", every),
    must(Target, Server, &["SET_ANY_DEFINER"], "create objects of other definers", definers),
    must(Target, Server, &["SET_USER_ID", "SUPER"], "create objects of other definers", definers_before),
    must(Target, Server, &["SET USER", "SUPER"], "create objects of other definers", mariadb),
    must(Target, Server, &["SUPER"], "create objects of other definers", before_mysql8),
    must(Target, System("mysql"), &["SELECT"], "compare the accounts and what they may do", every),
    must(Target, Server, &["SHOW_ROUTINE", "SELECT"], "compare the routines of others", routines_shown),
    WATCHES,
    Right {
        to: Tables("performance_schema", &["threads"]),
        names: &["UPDATE"],
        what: "have its own sessions left out of what the server counts",
        ..WATCHES
    },
];

fn before_fence_rights(version: Version) -> bool {
    !mysql8(version) && !mariadb_new(version)
}
