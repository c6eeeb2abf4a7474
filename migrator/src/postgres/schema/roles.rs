//! The roles of the source that the target lacks, and missing memberships.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tokio_postgres::{Client, Row};

use crate::error::Result;
use crate::postgres::client::failed;
use crate::postgres::schema::{database, made};
use crate::postgres::service::Staying;
use crate::postgres::sql::{quote_ident, quote_literal};
use crate::postgres::{Postgres, login, service};

/// A statement on the target that carries one property of the source over.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it is of, for people.
    pub what: String,
    /// The statement, with its semicolon. It may hold a verifier.
    pub statement: String,
    /// What lets Headgate run it, where it may not; empty where no single statement does.
    pub fix: String,
    /// The same where it is a parameter that it may not set.
    pub parameter: Option<String>,
}

/// Runs the steps, all or none.
pub(crate) async fn run_steps(target: &Client, steps: &[Step], what: &str) -> Result<()> {
    let batch: String = steps.iter().map(|step| step.statement.as_str()).collect();
    target.batch_execute(&batch).await.map_err(|error| {
        failed(what, error)
            .remedy("the precheck names what the migrator's role on the target may not do, and what lets it")
    })
}

/// Who works on a server.
struct Worker {
    superuser: bool,
    major: i32,
}

impl Worker {
    async fn of(session: &Client) -> Result<Self> {
        let cannot = |error| failed("cannot read the roles of a server", error);
        let row = session
            .query_one(
                "SELECT rolsuper, current_setting('server_version_num')::int / 10000
                 FROM pg_catalog.pg_roles WHERE rolname = current_user",
                &[],
            )
            .await
            .map_err(cannot)?;
        Ok(Self { superuser: row.try_get(0).map_err(cannot)?, major: row.try_get(1).map_err(cannot)? })
    }
}

/// From this version on a membership says whether it lets one become the role, and whoever creates a role may only
/// administer it.
const OPTIONS_FROM: i32 = 16;

/// Creates all roles of the source that are missing, because nobody can tell which one a client logs in as or switches
/// to, and memberships that are missing. A role that is there already keeps its attributes and its password; where
/// verifiers cannot be read, the password that Headgate knows is set.
pub async fn create_missing(postgres: &Postgres, source: &Client, target: &Client) -> Result<()> {
    let steps = missing(postgres, source, target).await?;
    let what = "cannot create on the target the roles and memberships of the source";
    run_steps(target, &steps, what).await
}

/// What [`create_missing`] does.
pub(crate) async fn missing(postgres: &Postgres, source: &Client, target: &Client) -> Result<Vec<Step>> {
    let worker = Worker::of(target).await?;
    let unreadable = |error| failed("cannot read the source's roles", error);
    let verifiers = source
        .query_one("SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')", &[])
        .await
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(unreadable)?;
    let (catalogue, password) = if verifiers { ("pg_authid", "a.rolpassword") } else { ("pg_roles", "NULL::text") };
    let roles = source
        .query(
            &format!(
                "SELECT a.rolname::text, a.rolsuper, a.rolinherit, a.rolcreaterole, a.rolcreatedb, a.rolcanlogin,
                    a.rolreplication, a.rolbypassrls, a.rolconnlimit, {password}, a.rolvaliduntil::text,
                    pg_catalog.shobj_description(a.oid, 'pg_authid'), a.oid = 10
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
    let user = quote_ident(&postgres.target().user);
    let staying = Staying::read(postgres, source, target).await?;
    let mut steps = Vec::new();
    let mut created = Vec::new();
    for row in &roles {
        let name: String = row.try_get(0).map_err(unreadable)?;
        // Who cannot make superusers leaves the server's first one alone.
        let first: bool = row.try_get(12).map_err(unreadable)?;
        if present.contains(&name) || first && !worker.superuser || staying.is_of_a_service(&name) {
            continue;
        }
        let known = postgres.secrets().password(&name).filter(|_| !verifiers);
        // What Headgate's own role has on the source for Headgate is of no use on the target.
        let plain = !worker.superuser && name == postgres.source().user;
        let major = worker.major;
        steps.push(create_role(&name, row, known, plain, &user, major).map_err(unreadable)?);
        created.push(name);
    }
    if !worker.superuser {
        steps.extend(own_memberships(postgres, source, target, &created, (&worker, &staying)).await?);
    }
    steps.extend(missing_memberships(postgres, source, target, &staying).await?);
    Ok(steps)
}

/// While the schema is restored, roles stand in on the target for those of the source's service that it lacks, so that a
/// privilege of one does not end the restore: they may do nothing. Who they are, for [`dismiss`].
pub(crate) async fn stand_in(source: &Client, target: &Client) -> Result<Vec<String>> {
    let lacking = service::lacking(source, target).await?;
    let created: Vec<String> = lacking.iter().map(|role| format!("CREATE ROLE {}", quote_ident(role))).collect();
    target
        .batch_execute(&created.join("; "))
        .await
        .map_err(|error| failed("cannot create roles that stand in for those of the source's service", error))?;
    Ok(lacking)
}

/// Drops the roles that stood in, with the privileges that they got; not those that the target had by itself.
pub(crate) async fn dismiss(postgres: &Postgres, source: &Client, target: &Client) -> Result<()> {
    let cannot = |error| failed("cannot drop a role that stood in for one of the source's service", error);
    let of_service = service::roles(source).await?;
    let made = made::recorded(postgres, target).await?;
    let ours: Vec<&String> =
        of_service.iter().filter(|role| made.contains(&(made::ROLE.to_owned(), (*role).clone()))).collect();
    let there: Vec<String> = target
        .query_one(
            "SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::text[])",
            &[&ours],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(cannot)?;
    let worker = Worker::of(target).await?;
    let with = if worker.major >= OPTIONS_FROM { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    for role in there {
        let role = quote_ident(&role);
        // Only its member may take its privileges away. What it owns, which the precheck refuses, is not dropped with it.
        let member = if worker.superuser { String::new() } else { format!("GRANT {role} TO CURRENT_USER{with};") };
        let statement =
            format!("{member} REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}");
        target.batch_execute(&statement).await.map_err(cannot)?;
    }
    Ok(())
}

/// Gives the roles that the migration made, and that have no password because the source's could not be read, the one that
/// Headgate knows by now: configured, or shown by their clients. It goes to the server as a verifier.
pub(crate) async fn set_known_passwords(postgres: &Postgres) -> Result<()> {
    let target = postgres.connect_target("accounts").await?;
    for (kind, role) in made::recorded(postgres, &target).await? {
        let Some(password) = postgres.secrets().password(&role).filter(|_| kind == made::ROLE) else {
            continue;
        };
        if !matches!(login::try_on_target(postgres, &role).await, Some(Err(_))) {
            continue;
        }
        let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let statement = format!("ALTER ROLE {} PASSWORD {}", quote_ident(&role), quote_literal(&verifier));
        if let Err(error) = target.batch_execute(&statement).await {
            // The check of the accounts tells that this one cannot log in.
            let error = failed("its password cannot be set on the target", error);
            tracing::warn!(migration = postgres.name(), role, %error, "the role is not ready");
        }
    }
    Ok(())
}

/// What makes Headgate's role a member of those that own something: only a member can give an object away.
async fn own_memberships(
    postgres: &Postgres,
    source: &Client,
    target: &Client,
    created: &[String],
    (worker, staying): (&Worker, &Staying),
) -> Result<Vec<Step>> {
    let cannot = |error| failed("cannot read who owns what", error);
    // A database that has its owner already is given to nobody.
    let owner = database::owner_of_database(target).await?;
    let owners: Vec<String> = source
        .query_one(
            "SELECT coalesce(array_agg(r.rolname::text ORDER BY 1), '{}') FROM pg_catalog.pg_roles r
             WHERE r.rolname <> ALL ($1::text[]) AND r.rolname !~ '^pg_' AND r.oid IN (
                 SELECT s.refobjid FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d ON d.oid = s.dbid
                 WHERE d.datname = current_database() AND s.deptype = 'o'
                 UNION ALL SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database() AND datdba <> 10
                     AND pg_catalog.pg_get_userbyid(datdba) <> $2)",
            &[&staying.names(), &owner],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(cannot)?;
    let (become_it, with) =
        if worker.major >= OPTIONS_FROM { ("SET", " WITH INHERIT TRUE, SET TRUE") } else { ("MEMBER", "") };
    let able: Vec<String> = target
        .query_one(
            "SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::text[])
               AND pg_has_role(oid, 'USAGE') AND pg_has_role(oid, $2)",
            &[&owners, &become_it],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(cannot)?;
    let user = quote_ident(&postgres.target().user);
    let steps = owners.iter().filter(|owner| !able.contains(owner)).map(|owner| {
        let grant = format!("GRANT {} TO {user}", quote_ident(owner));
        Step {
            what: format!("membership of the migrator in {owner}, which owns objects"),
            statement: format!("{grant}{with};\n"),
            // A role that is not there yet can be granted by nobody.
            parameter: None,
            fix: if created.contains(owner) { String::new() } else { grant },
        }
    });
    Ok(steps.collect())
}

/// The statement that creates a role as it is on the source. A password goes to the server as a verifier.
fn create_role(
    name: &str,
    row: &Row,
    known: Option<String>,
    plain: bool,
    user: &str,
    major: i32,
) -> std::result::Result<Step, tokio_postgres::Error> {
    let mut statement = format!("CREATE ROLE {}", quote_ident(name));
    let mut rare = None;
    let words = ["SUPERUSER", "INHERIT", "CREATEROLE", "CREATEDB", "LOGIN", "REPLICATION", "BYPASSRLS"];
    for (word, column) in words.iter().zip(1..) {
        let special = ["SUPERUSER", "REPLICATION", "BYPASSRLS"].contains(word);
        let has = row.try_get(column)? && !(plain && special);
        let no = if has { "" } else { "NO" };
        let _ = write!(statement, " {no}{word}");
        if has && special {
            rare = rare.or(Some(*word));
        }
    }
    let _ = write!(statement, " CONNECTION LIMIT {}", row.try_get::<_, i32>(8)?);
    // Whoever may not create it with these attributes has it created; the password is another matter.
    let bare = statement.clone();
    let fix = match rare {
        None => format!("ALTER ROLE {user} CREATEROLE"),
        Some(word) if word != "SUPERUSER" && major >= OPTIONS_FROM => {
            format!("ALTER ROLE {user} {word}")
        }
        Some(_) => bare,
    };
    let known = known.map(|password| postgres_protocol::password::scram_sha_256(password.as_bytes()));
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
    Ok(Step { what: format!("the role {name}"), statement, fix, parameter: None })
}

/// The statements that make members on the target whom the source has as members.
async fn missing_memberships(
    postgres: &Postgres,
    source: &Client,
    target: &Client,
    staying: &Staying,
) -> Result<Vec<Step>> {
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
        .and_then(|rows| rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect())
        .map_err(|error| failed("cannot read the target's roles", error))?;
    let user = quote_ident(&postgres.target().user);
    let mut granting = Vec::new();
    for row in memberships {
        let (pair, statement) =
            membership(&row).map_err(|error| failed("the memberships of the source's roles cannot be read", error))?;
        if !present.contains(&pair) && !staying.has(&pair.1) && !staying.is_of_a_service(&pair.0) {
            let group = quote_ident(&pair.0);
            granting.push(Step {
                what: format!("the membership of {} in {}", pair.1, pair.0),
                statement,
                fix: format!("GRANT {group} TO {user} WITH ADMIN OPTION"),
                parameter: None,
            });
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
