//! The roles of the source that the target lacks, missing memberships, and what databases and roles have beside objects.

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
/// to, and memberships that are missing. A role that is there already keeps its attributes and its password; where
/// verifiers cannot be read, the password that Headgate knows is set.
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
    let (catalogue, password) = if verifiers {
        ("pg_authid", "a.rolpassword")
    } else {
        ("pg_roles", "NULL::text")
    };
    let roles = source
        .query(
            &format!(
                "SELECT a.rolname::text, a.rolsuper, a.rolinherit, a.rolcreaterole, a.rolcreatedb, a.rolcanlogin,
                    a.rolreplication, a.rolbypassrls, a.rolconnlimit, {password}, a.rolvaliduntil::text,
                    pg_catalog.shobj_description(a.oid, 'pg_authid')
                FROM pg_catalog.{catalogue} a WHERE a.rolname !~ '^pg_' ORDER BY a.rolname"
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
    for row in &roles {
        let name: String = row.try_get(0).map_err(unreadable)?;
        if !present.contains(&name) {
            let known = postgres.secrets().password(&name).filter(|_| !verifiers);
            creating.push_str(&create_role(&name, row, known).map_err(unreadable)?);
        }
    }
    let granting = missing_memberships(source, target).await?;
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

/// The statement that creates a role as it is on the source. Passwords are not logged by the server: they are verifiers,
/// or go over the migrator's own connection.
fn create_role(
    name: &str,
    row: &Row,
    known: Option<String>,
) -> std::result::Result<String, tokio_postgres::Error> {
    let mut statement = format!("CREATE ROLE {}", quote_ident(name));
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
    if let Some(password) = row.try_get::<_, Option<String>>(9)?.or(known) {
        let _ = write!(statement, " PASSWORD {}", quote_literal(&password));
    }
    if let Some(until) = row.try_get::<_, Option<String>>(10)? {
        let _ = write!(statement, " VALID UNTIL {}", quote_literal(&until));
    }
    statement.push_str(";\n");
    if let Some(comment) = row.try_get::<_, Option<String>>(11)? {
        let (role, comment) = (quote_ident(name), quote_literal(&comment));
        let _ = writeln!(statement, "COMMENT ON ROLE {role} IS {comment};");
    }
    Ok(statement)
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

/// What a database and its roles have beside objects: settings in all forms, the database's owner, privileges,
/// connection limit and comments, the owner of schemas that every database has, privileges on parameters. Needs the
/// target's database; finds nothing to do where it is done.
pub async fn carry_properties(postgres: &Postgres, source: &Client, target: &Client) -> Result<()> {
    let mut batch = settings(postgres, source, target).await?;
    batch.push_str(&database(postgres, source, target).await?);
    batch.push_str(&schema_owners(source, target).await?);
    batch.push_str(&parameters(postgres, source, target).await?);
    target.batch_execute(&batch).await.map_err(|error| {
        failed(
            "cannot carry over the settings and privileges of the source's database and roles",
            error,
        )
        .remedy("give the migrator's role on the target the right to, or make both sides equal by hand: the check names what differs")
    })
}

/// The rows of a query, each as its columns of texts.
async fn texts(session: &Client, query: &str, what: &str) -> Result<Vec<Vec<String>>> {
    let cannot = |error| failed(&format!("cannot read {what}"), error);
    let rows = session.query(query, &[]).await.map_err(cannot)?;
    rows.iter()
        .map(|row| (0..row.len()).map(|column| row.try_get(column)).collect())
        .collect::<std::result::Result<_, _>>()
        .map_err(cannot)
}

/// Settings of roles, of all roles, of the database, and of roles within it, that the target does not have.
async fn settings(postgres: &Postgres, source: &Client, target: &Client) -> Result<String> {
    let query = "SELECT coalesce(r.rolname::text, ''), (s.setdatabase <> 0)::text, v
        FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) v
        WHERE (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_catalog.pg_database
            WHERE datname = current_database())) AND (s.setrole = 0 OR r.oid <> 10) ORDER BY 1, 2, 3";
    let what = "the settings of databases and roles";
    let present: BTreeSet<Vec<String>> = texts(target, query, what).await?.into_iter().collect();
    let here = quote_ident(&postgres.target().database);
    let own = [&postgres.source().user, &postgres.target().user];
    let mut batch = String::new();
    for row in texts(source, query, what).await? {
        let [role, in_database, setting] = row.as_slice() else {
            continue;
        };
        if present.contains(&row) || own.contains(&role) {
            continue;
        }
        let place = match (role.as_str(), in_database == "true") {
            ("", true) => format!("DATABASE {here}"),
            ("", false) => "ROLE ALL".to_owned(),
            (role, true) => format!("ROLE {} IN DATABASE {here}", quote_ident(role)),
            (role, false) => format!("ROLE {}", quote_ident(role)),
        };
        let _ = writeln!(batch, "ALTER {place} {};", assign(setting));
    }
    Ok(batch)
}

/// The database's own row: owner, connection limit, comment and privileges.
async fn database(postgres: &Postgres, source: &Client, target: &Client) -> Result<String> {
    let query = "SELECT pg_catalog.pg_get_userbyid(d.datdba)::text, d.datconnlimit::text,
            coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), '')
        FROM pg_catalog.pg_database d WHERE d.datname = current_database()";
    let what = "the database's properties";
    let (there, here) = (
        texts(source, query, what).await?,
        texts(target, query, what).await?,
    );
    let name = quote_ident(&postgres.target().database);
    let mut batch = String::new();
    if let ([there], [here]) = (there.as_slice(), here.as_slice()) {
        let actions = [
            |text: &str| format!("OWNER TO {}", quote_ident(text)),
            |text: &str| format!("CONNECTION LIMIT {text}"),
        ];
        for ((ours, theirs), action) in there.iter().zip(here).zip(actions) {
            if ours != theirs {
                let _ = writeln!(batch, "ALTER DATABASE {name} {};", action(ours));
            }
        }
        if let (Some(ours), Some(theirs)) = (there.get(2), here.get(2))
            && ours != theirs
        {
            let _ = writeln!(
                batch,
                "COMMENT ON DATABASE {name} IS {};",
                quote_literal(ours)
            );
        }
    }
    let query = "SELECT p.privilege_type, CASE p.grantee WHEN 0 THEN 'PUBLIC'
            ELSE quote_ident(pg_catalog.pg_get_userbyid(p.grantee)) END,
            CASE WHEN p.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM pg_catalog.pg_database d,
            pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) p
        WHERE d.datname = current_database() AND p.grantee <> d.datdba ORDER BY 1, 2";
    let what = "the database's privileges";
    let (there, here) = (
        texts(source, query, what).await?,
        texts(target, query, what).await?,
    );
    for row in here.iter().filter(|row| !there.contains(row)) {
        if let [privilege, grantee, _] = row.as_slice() {
            let _ = writeln!(
                batch,
                "REVOKE {privilege} ON DATABASE {name} FROM {grantee};"
            );
        }
    }
    for row in there.iter().filter(|row| !here.contains(row)) {
        if let [privilege, grantee, option] = row.as_slice() {
            let _ = writeln!(
                batch,
                "GRANT {privilege} ON DATABASE {name} TO {grantee}{option};"
            );
        }
    }
    Ok(batch)
}

/// A schema that every new database has is not created, so that nobody else gives it its owner.
async fn schema_owners(source: &Client, target: &Client) -> Result<String> {
    let query = "SELECT nspname::text, pg_catalog.pg_get_userbyid(nspowner)::text FROM pg_catalog.pg_namespace
        WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'headgate')";
    let what = "the owners of schemas";
    let here = texts(target, query, what).await?;
    let mut batch = String::new();
    for row in texts(source, query, what).await? {
        let [schema, owner] = row.as_slice() else {
            continue;
        };
        if here
            .iter()
            .any(|other| other.first() == Some(schema) && *other != row)
        {
            let (schema, owner) = (quote_ident(schema), quote_ident(owner));
            let _ = writeln!(batch, "ALTER SCHEMA {schema} OWNER TO {owner};");
        }
    }
    Ok(batch)
}

/// Privileges on parameters, which servers have from version 15 on.
async fn parameters(postgres: &Postgres, source: &Client, target: &Client) -> Result<String> {
    let query = "SELECT p.privilege_type, t.parname, CASE p.grantee WHEN 0 THEN 'PUBLIC'
            ELSE quote_ident(pg_catalog.pg_get_userbyid(p.grantee)) END,
            CASE WHEN p.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM pg_catalog.pg_parameter_acl t, pg_catalog.aclexplode(t.paracl) p WHERE p.grantee <> 10";
    let known = "SELECT 'yes' FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass('pg_catalog.pg_parameter_acl')";
    let what = "the privileges on parameters";
    for side in [source, target] {
        if texts(side, known, what).await?.is_empty() {
            return Ok(String::new());
        }
    }
    let here = texts(target, query, what).await?;
    let own = quote_ident(&postgres.source().user);
    let mut batch = String::new();
    for row in texts(source, query, what).await? {
        if let [privilege, parameter, grantee, option] = row.as_slice()
            && *grantee != own
            && !here.contains(&row)
        {
            let _ = writeln!(
                batch,
                "GRANT {privilege} ON PARAMETER {parameter} TO {grantee}{option};"
            );
        }
    }
    Ok(batch)
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
