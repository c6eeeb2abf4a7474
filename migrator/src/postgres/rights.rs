//! What the migrator's roles need, on the source and on the target: the one table that is printed and checked.

mod table;

use tokio_postgres::Client;

use super::client::failed;
use super::plan::OURS_TO_MOVE;
use super::sql::{quote_ident, quote_literal};
use crate::error::Result;
use crate::postgres::check::inventory::HIDDEN_OPTIONS;
use crate::rights::{self, Grant, Need, Side};
use table::{RIGHTS, Right};

/// The oldest version that a migration begins with.
pub const OLDEST: i32 = 14;
/// The newest version that is known.
pub const NEWEST: i32 = 18;

/// Relations that move, `c`, with their schema `n` and owner `o`.
const MOVING: &str = "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_roles o ON o.oid = c.relowner WHERE ";

/// Whose rights, and to what.
#[derive(Clone, Copy, Debug)]
pub struct For<'a> {
    /// The role.
    pub user: &'a str,
    /// The database that moves, or that gets it.
    pub database: &'a str,
    /// The schemas that move; all where none is named.
    pub schemas: &'a [String],
}

impl For<'_> {
    /// The template with names in their places.
    pub(super) fn fill(&self, template: &str) -> String {
        let user = quote_ident(self.user);
        let schemas: Vec<String> = self.schemas.iter().map(|name| quote_literal(name)).collect();
        let moving =
            format!("{MOVING}{OURS_TO_MOVE}").replace("$1::text[]", &format!("ARRAY[{}]::text[]", schemas.join(", ")));
        template
            .replace("{moving}", &moving)
            .replace("{hidden_options}", HIDDEN_OPTIONS)
            .replace("{name}", &quote_literal(self.user))
            .replace("{user_text}", &quote_literal(&user))
            .replace("{user}", &user)
            .replace("{database}", &quote_ident(self.database))
    }

    fn grant(&self, right: &Right) -> Grant {
        Grant {
            check: right.check,
            what: right.what,
            without: right.without,
            need: right.need,
            statement: self.fill(right.statement),
        }
    }
}

fn of(side: Side, major: i32) -> impl Iterator<Item = &'static Right> {
    RIGHTS.iter().filter(move |right| right.side == side && right.versions.contains(&major))
}

/// What a new role needs on a server of this major version, the role itself first. Its password is psql's variable
/// `password`: the statement is refused where nobody has set it.
pub fn grants(side: Side, major: i32, whose: For<'_>) -> Vec<Grant> {
    let login = Grant {
        check: "",
        what: "log in",
        without: "nothing is possible",
        need: Need::Always,
        statement: whose.fill("CREATE ROLE {user} LOGIN PASSWORD :'password'"),
    };
    std::iter::once(login).chain(of(side, major).map(|right| whose.grant(right))).collect()
}

/// The statement that grants what this check asks for; empty where no server of this version has such a right.
pub(super) fn statement(side: Side, major: i32, check: &str, whose: For<'_>) -> String {
    of(side, major).find(|right| right.check == check).map_or_else(String::new, |right| whose.fill(right.statement))
}

/// The same as a script for `psql`.
pub fn script(side: Side, major: i32, whose: For<'_>) -> String {
    let database = quote_ident(whose.database);
    let mut head = vec![
        format!(
            "The least that Headgate's role needs on the {} of a migration, PostgreSQL {major}. A superuser has it all.",
            side.name()
        ),
        format!(
            "Run it as a superuser in the database {database} itself, which keeps the privileges on its functions and catalogues:"
        ),
        "psql -v password=... -v ON_ERROR_STOP=1 -f FILE DATABASE".to_owned(),
    ];
    if side == Side::Target {
        head.push(format!(
            "Where it is not there yet: CREATE DATABASE {database} TEMPLATE template0, with the source's encoding and collation."
        ));
    }
    rights::script(&head, ("BEGIN;\n", "\nCOMMIT;\n"), &grants(side, major, whose))
}

/// What the session's role lacks of all rights that this side may need.
pub(super) async fn lacking(session: &Client, side: Side, major: i32, whose: For<'_>) -> Result<Vec<Grant>> {
    let cannot = |error| failed("cannot read what Headgate's role may do", error);
    let all = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let row = session.query_one(all, &[]).await.map_err(cannot)?;
    if row.try_get(0).map_err(cannot)? {
        return Ok(Vec::new());
    }
    let rights: Vec<&Right> = of(side, major).collect();
    let held: Vec<String> = rights.iter().map(|right| format!("({})", whose.fill(right.held))).collect();
    let row = session.query_one(&format!("SELECT {}", held.join(", ")), &[]).await.map_err(cannot)?;
    let mut lacking = Vec::new();
    for (column, right) in rights.into_iter().enumerate() {
        if !row.try_get::<_, bool>(column).map_err(cannot)? {
            lacking.push(whose.grant(right));
        }
    }
    Ok(lacking)
}
