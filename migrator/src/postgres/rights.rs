//! What the migrator's roles need, on the source and on the target: the one table that is printed and checked.

mod table;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::Postgres;
use super::client::failed;
use super::link::Link;
use super::plan::OURS_TO_MOVE;
use super::service::{self, Facts};
use super::sql::{quote_ident, quote_literal};
use crate::error::Result;
use crate::postgres::check::inventory::HIDDEN_OPTIONS;
use crate::rights::{self, Grant, Need, Side};
use crate::service::Service;
use table::{By, Deed, Held, RIGHTS, Right};

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
    /// Who runs the server.
    pub service: Service,
}

impl<'a> For<'a> {
    /// Headgate's own role on one side of a migration.
    pub(super) fn own(postgres: &'a Postgres, side: Side, service: Service) -> Self {
        let end = match side {
            Side::Source => postgres.source(),
            Side::Target => postgres.target(),
        };
        Self { user: &end.user, database: &end.database, schemas: &postgres.settings().schemas, service }
    }

    /// The statement that grants a right; empty where nobody can.
    fn statement(&self, right: &Right, major: i32) -> String {
        let facts = Facts::of(self.service);
        self.fill(match right.by {
            // Older servers know no such privilege; services have statements of their own.
            _ if !self.service.is_managed()
                && right.statement.starts_with("GRANT SET ON")
                && !table::NEW.contains(&major) =>
            {
                ""
            }
            // Who owns the database there owns other things, too, and cannot give them away.
            By::Anybody if self.service.is_managed() && right.statement.starts_with("ALTER DATABASE") => {
                "GRANT CREATE ON DATABASE {database} TO {user};
GRANT ALL ON SCHEMA public TO {user} WITH GRANT OPTION"
            }
            By::Anybody => right.statement,
            _ if !self.service.is_managed() => right.statement,
            By::Replication => facts.replication,
            By::ReplicaRole => facts.replica_role,
            By::Origins => facts.origins,
            By::Superuser => "",
        })
    }

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

    fn grant(&self, right: &Right, major: i32) -> Grant {
        Grant {
            check: right.check,
            what: right.what,
            without: right.without,
            need: right.need,
            statement: self.statement(right, major),
        }
    }
}

fn of(side: Side, major: i32, service: Service) -> impl Iterator<Item = &'static Right> {
    // Services give in every version what servers can grant in newer ones.
    let major = if service.is_managed() { major.max(*table::NEW.start()) } else { major };
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
    let all = of(side, major, whose.service).map(|right| whose.grant(right, major));
    let mut grants: Vec<Grant> = std::iter::once(login).collect();
    for grant in all {
        // One membership may give several rights.
        if !grant.statement.is_empty() && !grants.iter().any(|one| one.statement == grant.statement) {
            grants.push(grant);
        }
    }
    grants
}

/// The statement that grants what this check asks for; empty where no server of this version has such a right.
pub(super) fn statement(side: Side, major: i32, check: &str, whose: For<'_>) -> String {
    let right = of(side, major, whose.service).find(|right| right.check == check);
    right.map_or_else(String::new, |right| whose.statement(right, major))
}

/// The same as a script for `psql`.
pub fn script(side: Side, major: i32, whose: For<'_>) -> String {
    let database = quote_ident(whose.database);
    let (service, managed) = (whose.service, whose.service.is_managed());
    let all = if managed {
        format!("The service's own administrator has it too. It is run by that one, on {service}")
    } else {
        "A superuser has it all. It is run by one".to_owned()
    };
    let mut head = vec![
        format!("The least that Headgate's role needs on the {} of a migration, PostgreSQL {major}.", side.name()),
        format!(
            "{all}, in the database {database} itself, which keeps the privileges on its functions and catalogues:"
        ),
        "psql -v password=... -v ON_ERROR_STOP=1 -f FILE DATABASE".to_owned(),
    ];
    if managed && Facts::of(service).replication.is_empty() {
        head.push(format!(
            "On {service} no statement gives replication: create the role as the service's own page says, which does."
        ));
    }
    if managed {
        head.push(
            "What the administrator owns itself, only the administrator can move: let it be the cluster's user then."
                .to_owned(),
        );
    }
    if side == Side::Target {
        head.push(format!(
            "Where it is not there yet: CREATE DATABASE {database} TEMPLATE template0, with the source's encoding and collation."
        ));
    }
    rights::script(&head, ("BEGIN;\n", "\nCOMMIT;\n"), &grants(side, major, whose))
}

/// What to do about a right that lacks.
pub(super) const REMEDY: &str =
    "grant the right, or let a superuser migrate; headgate grants prints all that is needed";

/// The same, where it may be that nobody can grant it.
pub(super) fn remedy(grant: &Grant, service: Service) -> String {
    match grant.statement.as_str() {
        "" if service.is_managed() => format!("{service} gives it to nobody, as far as is known"),
        _ => REMEDY.to_owned(),
    }
}

/// What the role of a session on this side lacks of all rights that the side may need.
pub(super) async fn lacking(postgres: &Postgres, session: &Client, side: Side) -> Result<Vec<Grant>> {
    let cannot = |error| failed("cannot read what Headgate's role may do", error);
    let all = "SELECT rolsuper, current_setting('server_version_num')::int / 10000
        FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let row = session.query_one(all, &[]).await.map_err(cannot)?;
    if row.try_get(0).map_err(cannot)? {
        return Ok(Vec::new());
    }
    let service = service::of(session).await?.service();
    let (whose, major) = (For::own(postgres, side, service), row.try_get(1).map_err(cannot)?);
    let rights: Vec<&Right> = of(side, major, service).collect();
    let asked = rights.iter().map(|right| match right.held {
        Held::Sql(sql) => format!("({})", whose.fill(sql)),
        Held::Tried(_) => "NULL::boolean".to_owned(),
    });
    let asked: Vec<String> = asked.collect();
    let row = session.query_one(&format!("SELECT {}", asked.join(", ")), &[]).await.map_err(cannot)?;
    let mut lacking = Vec::new();
    for (column, right) in rights.into_iter().enumerate() {
        let held = match right.held {
            Held::Sql(_) => row.try_get::<_, bool>(column).map_err(cannot)?,
            Held::Tried(deed) => try_it(postgres, session, side, deed).await?,
        };
        if !held {
            lacking.push(whose.grant(right, major));
        }
    }
    Ok(lacking)
}

/// Whether a session may do this: it is done, and undone.
async fn try_it(postgres: &Postgres, session: &Client, side: Side, deed: Deed) -> Result<bool> {
    let may_not = |error: &tokio_postgres::Error| error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    match deed {
        Deed::Set(parameter, value) => {
            let statement = format!("SET {parameter} = {}; RESET {parameter}", quote_literal(value));
            match session.batch_execute(&statement).await {
                Ok(()) => Ok(true),
                Err(error) if may_not(&error) => Ok(false),
                Err(error) => Err(failed("what Headgate's role may do cannot be tried", error)),
            }
        }
        Deed::Replicate => {
            let end = match side {
                Side::Source => postgres.source(),
                Side::Target => postgres.target(),
            };
            match Link::connect(end, &format!("headgate {}", postgres.purpose("precheck"))).await {
                Ok(_) => Ok(true),
                Err(refused) if refused.full_text().contains(SqlState::INSUFFICIENT_PRIVILEGE.code()) => Ok(false),
                // Such as where no walsender is free: then the attribute tells, which is not all on a service.
                Err(_) => {
                    let attribute = "SELECT rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user";
                    let row = session.query_one(attribute, &[]).await;
                    row.and_then(|row| row.try_get(0))
                        .map_err(|error| failed("cannot read what Headgate's role may do", error))
                }
            }
        }
    }
}
