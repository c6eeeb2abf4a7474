//! What a database and its roles have beside objects, carried to the target: settings, the database's own properties, owners
//! of schemas, privileges on parameters.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::database::owner_of_database;
use super::roles::{Step, run_steps};
use crate::error::Result;
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::service::Staying;
use crate::postgres::sql::{quote_ident, quote_literal};

/// Settings whose stored value is a list of names, each to be written apart.
const LISTS: [&str; 5] = [
    "search_path",
    "temp_tablespaces",
    "session_preload_libraries",
    "local_preload_libraries",
    "shared_preload_libraries",
];

/// What a database and its roles have beside objects: settings in all forms, the database's owner, privileges,
/// connection limit and comments, the owner of schemas that every database has, privileges on parameters. Needs the
/// target's database; finds nothing to do where it is done.
pub async fn carry_properties(postgres: &Postgres, source: &Client, target: &Client) -> Result<()> {
    let steps = missing(postgres, source, target).await?;
    let what = "cannot carry over the settings and privileges of the source's database and roles";
    run_steps(target, &steps, what).await
}

/// Gives the target's database the owner of the source's: whoever owns it may create in the schema `public`.
pub(crate) async fn give_database(postgres: &Postgres, source: &Client, target: &Client) -> Result<()> {
    let (there, here) = (owner_of_database(source).await?, owner_of_database(target).await?);
    if there == here || Staying::read(postgres, source, target).await?.is_of_a_service(&there) {
        return Ok(());
    }
    let step = give(postgres, &there);
    run_steps(target, &[step], "cannot give the target's database its owner").await
}

fn give(postgres: &Postgres, owner: &str) -> Step {
    let database = quote_ident(&postgres.target().database);
    let give = format!("ALTER DATABASE {database} OWNER TO {}", quote_ident(owner));
    Step {
        what: format!("the owner of the database, {owner}"),
        statement: format!("{give};\n"),
        // Whoever does it keeps for Headgate what an owner may.
        fix: format!("{give}; GRANT CREATE ON DATABASE {database} TO {}", quote_ident(&postgres.target().user)),
        parameter: None,
    }
}

/// What [`carry_properties`] does.
pub(crate) async fn missing(postgres: &Postgres, source: &Client, target: &Client) -> Result<Vec<Step>> {
    let staying = Staying::read(postgres, source, target).await?;
    let mut steps = settings(postgres, source, target, &staying).await?;
    steps.extend(database(postgres, source, target, &staying).await?);
    steps.extend(schema_owners(postgres, source, target, &staying).await?);
    steps.extend(parameters(postgres, source, target, &staying).await?);
    Ok(steps)
}

/// A step that whoever may grant it can run as it stands.
fn step(what: String, statement: String) -> Step {
    Step { what, fix: statement.trim_end_matches([';', '\n']).to_owned(), statement, parameter: None }
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
async fn settings(postgres: &Postgres, source: &Client, target: &Client, staying: &Staying) -> Result<Vec<Step>> {
    let query = "SELECT coalesce(r.rolname::text, ''), (s.setdatabase <> 0)::text, v
        FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) v
        WHERE (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_catalog.pg_database
            WHERE datname = current_database())) AND (s.setrole = 0 OR r.oid <> 10) ORDER BY 1, 2, 3";
    let what = "the settings of databases and roles";
    let present: BTreeSet<Vec<String>> = texts(target, query, what).await?.into_iter().collect();
    let here = quote_ident(&postgres.target().database);
    let user = quote_ident(&postgres.target().user);
    let mut steps = Vec::new();
    for row in texts(source, query, what).await? {
        let [role, in_database, setting] = row.as_slice() else {
            continue;
        };
        if present.contains(&row) || staying.has(role) {
            continue;
        }
        let place = match (role.as_str(), in_database == "true") {
            ("", true) => format!("DATABASE {here}"),
            ("", false) => "ROLE ALL".to_owned(),
            (role, true) => format!("ROLE {} IN DATABASE {here}", quote_ident(role)),
            (role, false) => format!("ROLE {}", quote_ident(role)),
        };
        let name = setting.split('=').next().unwrap_or_default();
        let mut step = step(format!("the setting {name} of {place}"), format!("ALTER {place} {};\n", assign(setting)));
        // What an application sets for itself may be a secret, and a role that the start creates cannot be altered before.
        if !role.is_empty() {
            let role = quote_ident(role);
            step.fix = format!("GRANT {role} TO {user} WITH ADMIN OPTION");
        } else if name.contains('.') {
            step.fix.clear();
        }
        let parameter = quote_ident(name);
        step.parameter = Some(format!("GRANT SET ON PARAMETER {parameter} TO {user}"));
        steps.push(step);
    }
    Ok(steps)
}

/// The database's own row: owner, connection limit, comment and privileges.
async fn database(postgres: &Postgres, source: &Client, target: &Client, staying: &Staying) -> Result<Vec<Step>> {
    let query = "SELECT pg_catalog.pg_get_userbyid(d.datdba)::text, d.datconnlimit::text,
            coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), '')
        FROM pg_catalog.pg_database d WHERE d.datname = current_database()";
    let what = "the database's properties";
    let (there, here) = (texts(source, query, what).await?, texts(target, query, what).await?);
    let name = quote_ident(&postgres.target().database);
    let mut steps = Vec::new();
    let of_database = |what: &str, statement: String| step(format!("{what} of the database {name}"), statement);
    if let ([there], [here]) = (there.as_slice(), here.as_slice()) {
        if let (Some(ours), Some(theirs)) = (there.first(), here.first())
            && ours != theirs
            && !staying.is_of_a_service(ours)
        {
            steps.push(give(postgres, ours));
        }
        if let (Some(ours), Some(theirs)) = (there.get(1), here.get(1))
            && ours != theirs
        {
            let limit = format!("ALTER DATABASE {name} CONNECTION LIMIT {ours};\n");
            steps.push(of_database("the connection limit", limit));
        }
        if let (Some(ours), Some(theirs)) = (there.get(2), here.get(2))
            && ours != theirs
        {
            let comment = quote_literal(ours);
            let statement = format!("COMMENT ON DATABASE {name} IS {comment};\n");
            steps.push(of_database("the comment", statement));
        }
    }
    let query = "SELECT p.privilege_type, CASE p.grantee WHEN 0 THEN 'PUBLIC'
            ELSE quote_ident(pg_catalog.pg_get_userbyid(p.grantee)) END,
            CASE WHEN p.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM pg_catalog.pg_database d,
            pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) p
        WHERE d.datname = current_database() AND p.grantee <> d.datdba ORDER BY 1, 2";
    let what = "the database's privileges";
    let (there, here) = (texts(source, query, what).await?, texts(target, query, what).await?);
    for row in here.iter().filter(|row| !there.contains(row)) {
        if let [privilege, grantee, _] = row.as_slice()
            && !staying.has(grantee)
        {
            let revoke = format!("REVOKE {privilege} ON DATABASE {name} FROM {grantee};\n");
            steps.push(of_database("the privileges", revoke));
        }
    }
    for row in there.iter().filter(|row| !here.contains(row)) {
        if let [privilege, grantee, option] = row.as_slice()
            && !staying.has(grantee)
        {
            let grant = format!("GRANT {privilege} ON DATABASE {name} TO {grantee}{option};\n");
            steps.push(of_database("the privileges", grant));
        }
    }
    Ok(steps)
}

/// A schema that every new database has is not created, so that nobody else gives it its owner.
async fn schema_owners(postgres: &Postgres, source: &Client, target: &Client, staying: &Staying) -> Result<Vec<Step>> {
    let query = "SELECT n.nspname::text, pg_catalog.pg_get_userbyid(n.nspowner)::text,
            coalesce((SELECT string_agg(p.privilege_type, ', ' ORDER BY p.privilege_type) FROM pg_catalog.aclexplode(
                coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) p WHERE p.grantee = 0), '')
        FROM pg_catalog.pg_namespace n
        WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'headgate')";
    let what = "the owners of schemas";
    let here = texts(target, query, what).await?;
    let user = quote_ident(&postgres.target().user);
    let mut steps = Vec::new();
    for row in texts(source, query, what).await? {
        let [schema, owner, everybody] = row.as_slice() else {
            continue;
        };
        let differs = |other: &&Vec<String>| other.first() == Some(schema) && other.get(1) != Some(owner);
        if here.iter().any(|other| differs(&other)) && !staying.is_of_a_service(owner) {
            let name = quote_ident(schema);
            let give = format!("ALTER SCHEMA {name} OWNER TO {}", quote_ident(owner));
            // Whoever does it does also what only the owner may, and lets Headgate do the rest.
            let mut fix = format!("{give}; REVOKE ALL ON SCHEMA {name} FROM PUBLIC");
            if !everybody.is_empty() {
                fix = format!("{fix}; GRANT {everybody} ON SCHEMA {name} TO PUBLIC");
            }
            steps.push(Step {
                what: format!("the owner of the schema {schema}, {owner}"),
                statement: format!("{give};\n"),
                fix: format!("{fix}; GRANT ALL ON SCHEMA {name} TO {user} WITH GRANT OPTION"),
                parameter: None,
            });
        }
    }
    Ok(steps)
}

/// Privileges on parameters, which servers have from version 15 on.
async fn parameters(postgres: &Postgres, source: &Client, target: &Client, staying: &Staying) -> Result<Vec<Step>> {
    let query = "SELECT p.privilege_type, t.parname, CASE p.grantee WHEN 0 THEN 'PUBLIC'
            ELSE quote_ident(pg_catalog.pg_get_userbyid(p.grantee)) END,
            CASE WHEN p.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM pg_catalog.pg_parameter_acl t, pg_catalog.aclexplode(t.paracl) p WHERE p.grantee <> 10";
    let known =
        "SELECT 'yes' FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass('pg_catalog.pg_parameter_acl')";
    let what = "the privileges on parameters";
    for side in [source, target] {
        if texts(side, known, what).await?.is_empty() {
            return Ok(Vec::new());
        }
    }
    let here = texts(target, query, what).await?;
    let user = quote_ident(&postgres.target().user);
    let mut steps = Vec::new();
    for row in texts(source, query, what).await? {
        if let [privilege, parameter, grantee, option] = row.as_slice()
            && !staying.has(grantee)
            && !here.contains(&row)
        {
            let grant = format!("GRANT {privilege} ON PARAMETER {parameter} TO {grantee}{option};\n");
            steps.push(Step {
                parameter: None,
                what: format!("the privilege of {grantee} on the parameter {parameter}"),
                statement: grant,
                fix: format!("GRANT {privilege} ON PARAMETER {parameter} TO {user} WITH GRANT OPTION"),
            });
        }
    }
    Ok(steps)
}

/// `name=value`, as the catalogue stores a setting, as the `SET` clause of an `ALTER`.
pub(crate) fn assign(setting: &str) -> String {
    let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
    let quoted_name: Vec<String> = name.split('.').map(quote_ident).collect();
    let value = if LISTS.contains(&name) {
        let names: Vec<String> = split_list(value).iter().map(|name| quote_literal(name)).collect();
        if names.is_empty() { "''".to_owned() } else { names.join(", ") }
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
        assert_eq!(assign("app.tag='; DROP"), "SET \"app\".\"tag\" TO '''; DROP'");
        assert_eq!(assign("work_mem=4MB"), "SET \"work_mem\" TO '4MB'");
    }
}
