//! The roles of the source that the target lacks, with their verifiers and settings, and missing memberships.

use std::collections::BTreeSet;
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

/// Creates all roles of the source that are missing, because nobody can tell which one a client logs in as or switches
/// to; a role that is there already is left as it is, except for missing memberships.
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
    let roles = source
        .query(
            &format!(
                "SELECT a.rolname::text, a.rolsuper, a.rolinherit, a.rolcreaterole, a.rolcreatedb, a.rolcanlogin,
                    a.rolreplication, a.rolbypassrls, a.rolconnlimit, {password}, a.rolvaliduntil::text,
                    coalesce((SELECT s.setconfig FROM pg_catalog.pg_db_role_setting s
                        WHERE s.setrole = a.oid AND s.setdatabase = 0), '{{}}'),
                    coalesce((SELECT s.setconfig FROM pg_catalog.pg_db_role_setting s
                        JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
                        WHERE s.setrole = a.oid AND d.datname = current_database()), '{{}}')
                FROM {catalogue} a WHERE a.rolname !~ '^pg_' ORDER BY a.rolname"
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
    for row in &roles {
        let role = Role::read(row).map_err(unreadable)?;
        if present.contains(&role.name) {
            continue;
        }
        creating.push_str(&role.statement);
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
    granting.push_str(&missing_memberships(source, target).await?);
    for batch in [creating, granting] {
        // Either all or none: a batch is one transaction.
        target.batch_execute(&batch).await.map_err(|error| {
            failed(
                "cannot create on the target the roles and memberships of the source",
                error,
            )
            .remedy(
                "create the roles by hand, or give the migrator's role on the target the right to",
            )
        })?;
    }
    Ok(())
}

/// The statements that make members on the target whom the source has as members.
async fn missing_memberships(source: &Client, target: &Client) -> Result<String> {
    // From version 16 on, what a membership is good for is said with each one.
    let memberships = source
        .query(
            "SELECT g.rolname::text, u.rolname::text, bool_or(m.admin_option),
                 bool_or((to_jsonb(m) ->> 'inherit_option')::boolean),
                 bool_or((to_jsonb(m) ->> 'set_option')::boolean)
             FROM pg_catalog.pg_auth_members m
             JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles u ON u.oid = m.member
             WHERE u.rolname !~ '^pg_' GROUP BY 1, 2 ORDER BY 1, 2",
            &[],
        )
        .await
        .map_err(|error| failed("cannot read the source's roles", error))?;
    let present: BTreeSet<(String, String)> = target
        .query(
            "SELECT g.rolname::text, u.rolname::text FROM pg_catalog.pg_auth_members m
             JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles u ON u.oid = m.member",
            &[],
        )
        .await
        .and_then(|rows| {
            rows.iter()
                .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .collect()
        })
        .map_err(|error| failed("cannot read the target's roles", error))?;
    let mut granting = String::new();
    for row in memberships {
        let (pair, statement) = membership(&row).map_err(|error| {
            failed(
                "the memberships of the source's roles cannot be read",
                error,
            )
        })?;
        if !present.contains(&pair) {
            granting.push_str(&statement);
        }
    }
    Ok(granting)
}

fn membership(row: &Row) -> std::result::Result<((String, String), String), tokio_postgres::Error> {
    let pair: (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let mut statement = format!("GRANT {} TO {}", quote_ident(&pair.0), quote_ident(&pair.1));
    let mut options = Vec::new();
    for (word, column) in ["INHERIT", "SET"].iter().zip(3..) {
        if let Some(set) = row.try_get::<_, Option<bool>>(column)? {
            options.push(format!("{word} {set}"));
        }
    }
    if row.try_get(2)? {
        options.insert(0, "ADMIN OPTION".to_owned());
    }
    if !options.is_empty() {
        let _ = write!(statement, " WITH {}", options.join(", "));
    }
    statement.push_str(";\n");
    Ok((pair, statement))
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
            settings: row.try_get(11)?,
            settings_here: row.try_get(12)?,
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
