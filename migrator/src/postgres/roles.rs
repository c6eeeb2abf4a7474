//! The roles that the source's database needs and the target lacks, with their verifiers, memberships and settings.

use std::fmt::Write as _;

use tokio_postgres::{Client, Row};

use super::Postgres;
use super::client::failed;
use super::sql::{quote_ident, quote_literal};
use crate::error::Result;

/// Settings whose stored value is a list of names, each to be written apart.
const LISTS: [&str; 5] = [
    "search_path",
    "temp_tablespaces",
    "session_preload_libraries",
    "local_preload_libraries",
    "shared_preload_libraries",
];

/// Creates what is missing; a role that is there already is left as it is, except for missing memberships.
pub async fn create_missing(postgres: &Postgres, source: &Client, target: &Client) -> Result<()> {
    let unreadable = |error| failed("cannot read the source's roles", error);
    let verifiers = source
        .query_one(
            "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')",
            &[],
        )
        .await
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(unreadable)?;
    let password = if verifiers { "a.rolpassword" } else { "NULL" };
    let catalogue = if verifiers {
        "pg_catalog.pg_authid"
    } else {
        "pg_catalog.pg_roles"
    };
    let needed = source
        .query(
            &format!(
                "WITH RECURSIVE here AS (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()),
                needed (oid) AS (
                    SELECT refobjid FROM pg_catalog.pg_shdepend, here
                    WHERE refclassid = 'pg_catalog.pg_authid'::regclass AND (dbid = here.oid
                        OR dbid = 0 AND classid = 'pg_catalog.pg_database'::regclass AND objid = here.oid)
                    UNION SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database()
                    UNION SELECT r.oid FROM pg_catalog.pg_roles r, here
                    WHERE r.rolcanlogin AND has_database_privilege(r.oid, here.oid, 'CONNECT')
                    UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN needed ON needed.oid = m.member)
                SELECT a.rolname::text, a.rolsuper, a.rolinherit, a.rolcreaterole, a.rolcreatedb, a.rolcanlogin,
                    a.rolreplication, a.rolbypassrls, a.rolconnlimit, {password}, a.rolvaliduntil::text,
                    coalesce((SELECT array_agg(g.rolname::text || CASE WHEN m.admin_option THEN '+' ELSE '-' END)
                        FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
                        WHERE m.member = a.oid), '{{}}'),
                    coalesce((SELECT s.setconfig FROM pg_catalog.pg_db_role_setting s
                        WHERE s.setrole = a.oid AND s.setdatabase = 0), '{{}}'),
                    coalesce((SELECT s.setconfig FROM pg_catalog.pg_db_role_setting s, here
                        WHERE s.setrole = a.oid AND s.setdatabase = here.oid), '{{}}')
                FROM {catalogue} a WHERE a.rolname !~ '^pg_' AND a.oid IN (SELECT oid FROM needed)
                ORDER BY a.rolname"
            ),
            &[],
        )
        .await
        .map_err(unreadable)?;
    let present: Vec<String> = target
        .query("SELECT rolname::text FROM pg_catalog.pg_roles", &[])
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(|error| failed("cannot read the target's roles", error))?;
    let mut creating = String::new();
    let mut granting = String::new();
    for row in &needed {
        let role = Role::read(row).map_err(unreadable)?;
        if present.contains(&role.name) {
            continue;
        }
        creating.push_str(&role.statement);
        for membership in &role.memberships {
            let (group, admin) = membership.split_at(membership.len().saturating_sub(1));
            let admin = if admin == "+" {
                " WITH ADMIN OPTION"
            } else {
                ""
            };
            let _ = writeln!(
                granting,
                "GRANT {} TO {}{admin};",
                quote_ident(group),
                quote_ident(&role.name)
            );
        }
        for (place, settings) in [
            (None, &role.settings),
            (Some(&postgres.target().database), &role.settings_here),
        ] {
            let place = place
                .map(|name| format!(" IN DATABASE {}", quote_ident(name)))
                .unwrap_or_default();
            for setting in settings {
                let _ = writeln!(
                    granting,
                    "ALTER ROLE {}{place} {};",
                    quote_ident(&role.name),
                    assign(setting)
                );
            }
        }
    }
    for batch in [creating, granting] {
        // Either all or none: a batch is one transaction.
        target.batch_execute(&batch).await.map_err(|error| {
            failed(
                "cannot create on the target the roles that the source's database needs",
                error,
            )
            .remedy(
                "create the roles by hand, or give the migrator's role on the target the right to",
            )
        })?;
    }
    Ok(())
}

/// The settings of the source's database itself, set on the target's.
pub async fn copy_database_settings(
    postgres: &Postgres,
    source: &Client,
    target: &Client,
) -> Result<()> {
    let rows = source
        .query(
            "SELECT unnest(s.setconfig) FROM pg_catalog.pg_db_role_setting s
             JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
             WHERE s.setrole = 0 AND d.datname = current_database()",
            &[],
        )
        .await
        .map_err(|error| failed("cannot read the settings of the source's database", error))?;
    let mut batch = String::new();
    for row in rows {
        let setting: String = row
            .try_get(0)
            .map_err(|error| failed("a setting cannot be read", error))?;
        let _ = writeln!(
            batch,
            "ALTER DATABASE {} {};",
            quote_ident(&postgres.target().database),
            assign(&setting)
        );
    }
    target.batch_execute(&batch).await.map_err(|error| {
        failed(
            "cannot carry over the settings of the source's database",
            error,
        )
    })
}

struct Role {
    name: String,
    statement: String,
    memberships: Vec<String>,
    settings: Vec<String>,
    settings_here: Vec<String>,
}

impl Role {
    fn read(row: &Row) -> std::result::Result<Self, tokio_postgres::Error> {
        let name: String = row.try_get(0)?;
        let mut statement = format!("CREATE ROLE {}", quote_ident(&name));
        let words = [
            "SUPERUSER",
            "INHERIT",
            "CREATEROLE",
            "CREATEDB",
            "LOGIN",
            "REPLICATION",
            "BYPASSRLS",
        ];
        for (word, column) in words.iter().zip(1..) {
            let no = if row.try_get(column)? { "" } else { "NO" };
            let _ = write!(statement, " {no}{word}");
        }
        let _ = write!(statement, " CONNECTION LIMIT {}", row.try_get::<_, i32>(8)?);
        if let Some(verifier) = row.try_get::<_, Option<String>>(9)? {
            let _ = write!(statement, " PASSWORD {}", quote_literal(&verifier));
        }
        if let Some(until) = row.try_get::<_, Option<String>>(10)? {
            let _ = write!(statement, " VALID UNTIL {}", quote_literal(&until));
        }
        statement.push_str(";\n");
        Ok(Self {
            name,
            statement,
            memberships: row.try_get(11)?,
            settings: row.try_get(12)?,
            settings_here: row.try_get(13)?,
        })
    }
}

/// `name=value`, as the catalogue stores a setting, as the `SET` clause of an `ALTER`.
fn assign(setting: &str) -> String {
    let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
    let quoted_name: Vec<String> = name.split('.').map(quote_ident).collect();
    let value = if LISTS.contains(&name) {
        let names: Vec<String> = split_list(value)
            .iter()
            .map(|name| quote_literal(name))
            .collect();
        if names.is_empty() {
            "''".to_owned()
        } else {
            names.join(", ")
        }
    } else {
        quote_literal(value)
    };
    format!("SET {} TO {value}", quoted_name.join("."))
}

/// The names of a stored list such as `"$user", public`.
fn split_list(value: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = String::new();
    let mut quoted = false;
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                name.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => names.push(std::mem::take(&mut name)),
            space if !quoted && space.is_whitespace() => {}
            other => name.push(other),
        }
    }
    names.push(name);
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::assign;

    #[test]
    fn a_list_setting_keeps_its_names_apart() {
        assert_eq!(
            assign("search_path=\"$user\", public, \"a, b\"\"\""),
            "SET \"search_path\" TO '$user', 'public', 'a, b\"'"
        );
        assert_eq!(assign("search_path="), "SET \"search_path\" TO ''");
    }

    #[test]
    fn a_value_cannot_leave_its_quotes() {
        assert_eq!(
            assign("app.tag='; DROP"),
            "SET \"app\".\"tag\" TO '''; DROP'"
        );
        assert_eq!(assign("work_mem=4MB"), "SET \"work_mem\" TO '4MB'");
    }
}
