//! The inventory of the catalogues of MySQL and MariaDB: what of a server is compared, what is reported, what has no
//! meaning for a migration. A table that is missing here fails a test; a column that is not left out by name is compared.

pub(crate) mod catalogues;
pub mod reading;
pub mod record;
mod sequences;

use crate::mysql::client::Version;

pub use catalogues::INVENTORY;

/// What is done about a table of `information_schema` or `mysql`.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "it stands in one table, and is never moved")]
pub enum Treatment {
    /// What it shows is carried, and both sides are compared, column by column.
    Compared(Class),
    /// A check of the precheck reports it: the check's name.
    Reported(&'static str),
    /// It has no meaning for a migration: the reason.
    Meaningless(&'static str),
}

/// Which servers have it: those of MySQL from a version and before another, and those of MariaDB.
#[derive(Clone, Copy, Debug)]
pub struct On {
    /// Versions of MySQL: from, and before.
    pub mysql: (Number, Number),
    /// Versions of MariaDB: from, and before.
    pub mariadb: (Number, Number),
}

/// A version's number.
pub type Number = (u16, u16, u16);

impl On {
    /// Whether a server of this version has it.
    pub fn has(self, version: Version) -> bool {
        let (from, before) = if version.is_mariadb() { self.mariadb } else { self.mysql };
        from <= version.number && version.number < before
    }
}

/// Which rows belong to what moves.
#[derive(Clone, Copy, Debug)]
pub enum Among {
    /// All of them.
    Server,
    /// Those of the databases that move; the column that names the database.
    Databases(&'static str),
    /// The same, where the column holds a pattern.
    Patterns(&'static str),
}

/// Whose definition a row is a part of: it is printed together with the rest of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Of nothing else.
    Alone,
    /// Of a table, view or sequence; the columns that name its database and itself.
    Relation(&'static str, &'static str),
    /// Of a function or procedure.
    Routine(&'static str, &'static str),
    /// Of an event.
    Event(&'static str, &'static str),
}

/// How the rows of a table are compared.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// How people call such an object.
    pub called: &'static str,
    /// Which rows belong to what moves.
    pub among: Among,
    /// A further condition; empty where there is none.
    pub only: &'static str,
    /// The columns that make an object's name; of accounts these are the user and the host.
    pub named_by: &'static [&'static str],
    /// The object is an account's, and is called by the account.
    pub of_accounts: bool,
    /// What it is a part of.
    pub part: Part,
    /// Columns that are left out, with the reason.
    pub without: &'static [(&'static str, &'static str)],
    /// Columns whose changes are seen, but that need not be the same on both sides, with the reason.
    pub apart: &'static [(&'static str, &'static str)],
    /// The privilege without which the server leaves them out in silence; empty where it leaves nothing out.
    pub shown_to: &'static str,
    /// Columns that are asked for where a server's table lacks them.
    pub derived: &'static [(&'static str, On, &'static str)],
    /// What the other family calls columns of this table.
    pub renamed: &'static [(&'static str, &'static str)],
    /// The table in which the other family has it; empty where it has the same, or nothing.
    pub counterpart: &'static str,
    /// Why nothing is missing where the target's server has no such table; empty where something is.
    pub alone: &'static str,
    /// Why the target may have more of them; empty where it may not.
    pub more_on_target: &'static str,
    /// Why the target has none before the switch; empty where it has them.
    pub later: &'static str,
}

/// A class of the server's own that nothing more is said of.
const CLASS: Class = Class {
    called: "",
    among: Among::Server,
    only: "",
    named_by: &[],
    of_accounts: false,
    part: Part::Alone,
    without: &[],
    apart: &[],
    shown_to: "",
    derived: &[],
    renamed: &[],
    counterpart: "",
    alone: "",
    more_on_target: "",
    later: "",
};

impl Class {
    /// The table under which both families' rows are compared.
    pub fn place(&self, table: &'static str) -> &'static str {
        if self.counterpart.is_empty() { table } else { self.counterpart }
    }
}
