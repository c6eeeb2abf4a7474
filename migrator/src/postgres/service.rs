//! What a managed service adds to a server of PostgreSQL, and in which words it gives rights. Read from the services' own
//! documentation: what decides is tried on the server itself.

use tokio_postgres::Client;

use super::Postgres;
use super::client::failed;
use super::sql::{quote_ident, quote_literal};
use crate::error::Result;
use crate::service::Service;

/// What one service does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    service: Service,
    /// A role that nobody else makes.
    marker: &'static str,
    /// The names of its roles, as a regular expression: they are neither made nor granted elsewhere.
    roles: &'static str,
    /// What lets `{user}` read the change stream; empty where no statement does.
    pub(super) replication: &'static str,
    /// What lets `{user}` set `session_replication_role`, and what comes with that; empty where nobody may.
    pub(super) replica_role: &'static str,
    /// What lets `{user}` mark what it applies by a replication origin; empty where nobody may.
    pub(super) origins: &'static str,
    /// Where the server's settings are set.
    settings: &'static str,
    /// What the service calls `wal_level = logical`.
    logical: &'static str,
    /// What lets a role read verifiers, in words; empty where nobody may.
    pub(super) verifiers: &'static str,
}

const OWN: Facts = Facts {
    service: Service::Own,
    marker: "",
    roles: "",
    replication: "ALTER ROLE {user} REPLICATION",
    replica_role: "",
    origins: "",
    settings: "",
    logical: "",
    verifiers: "",
};

const SERVICES: [Facts; 5] = [
    Facts {
        service: Service::Rds,
        marker: "rds_superuser",
        roles: "^(rds_|rdsadmin$|rdsrepladmin$|rdstopmgr$|rdswriteforwarduser$)",
        replication: "GRANT rds_replication TO {user}",
        replica_role: "GRANT rds_superuser TO {user}",
        origins: "",
        settings: "the parameter group of the instance or of the cluster",
        logical: "rds.logical_replication = 1",
        verifiers: "",
    },
    Facts {
        service: Service::CloudSql,
        marker: "cloudsqlsuperuser",
        roles: "^cloudsql",
        replication: "ALTER ROLE {user} REPLICATION",
        replica_role: "GRANT cloudsqlsuperuser TO {user}",
        origins: "GRANT cloudsqlsuperuser TO {user}",
        settings: "the flags of the instance",
        logical: "cloudsql.logical_decoding = on",
        verifiers: "set the flag cloudsql.pg_authid_select_role to the migrator's role",
    },
    Facts {
        service: Service::Azure,
        marker: "azure_pg_admin",
        roles: "^(azuresu$|azure_)",
        replication: "ALTER ROLE {user} REPLICATION",
        replica_role: "GRANT azure_pg_admin TO {user}",
        origins: "GRANT azure_pg_admin TO {user}",
        settings: "the server's parameters",
        logical: "wal_level = logical",
        verifiers: "",
    },
    Facts {
        service: Service::Neon,
        marker: "neon_superuser",
        roles: "^(neon_|cloud_admin$)",
        replication: "",
        replica_role: "",
        origins: "",
        settings: "the project's settings",
        logical: "logical replication",
        verifiers: "",
    },
    Facts {
        service: Service::Supabase,
        marker: "supabase_admin",
        roles: "^(supabase_|dashboard_user$|pgbouncer$)",
        replication: "ALTER ROLE {user} REPLICATION",
        replica_role: "",
        origins: "",
        settings: "the project's database settings",
        logical: "wal_level = logical",
        verifiers: "",
    },
];

impl Facts {
    /// The facts of a service.
    pub(super) fn of(service: Service) -> Self {
        SERVICES.into_iter().find(|facts| facts.service == service).unwrap_or(OWN)
    }

    /// Which service it is.
    pub(super) fn service(&self) -> Service {
        self.service
    }

    /// How a setting of the server is changed: in words, and the statement where there is one. `restart` is whether the
    /// server must be started anew for it.
    pub(super) fn setting(&self, name: &str, value: &str, restart: bool) -> (String, String) {
        if !self.service.is_managed() {
            let then = if restart { "restart the server" } else { "let it read it: SELECT pg_reload_conf()" };
            return (format!("set it to {value} and {then}"), format!("ALTER SYSTEM SET {name} = {}", quoted(value)));
        }
        let set = if name == "wal_level" { self.logical.to_owned() } else { format!("{name} = {value}") };
        let then = if restart { ", and restart it" } else { "" };
        (format!("{} has it: set {set} in {}{then}", self.service, self.settings), String::new())
    }
}

/// A value as ALTER SYSTEM takes it: numbers stand as they are.
fn quoted(value: &str) -> String {
    let number = value.parse::<i64>().is_ok();
    if number { value.to_owned() } else { quote_literal(value) }
}

/// Who runs the server that a session is on: told by a role that only a service makes. Where we are a superuser it is nobody
/// else's, whatever roles came with a dump.
pub(super) async fn of(session: &Client) -> Result<Facts> {
    let markers: Vec<&str> = SERVICES.iter().map(|facts| facts.marker).collect();
    let found = session
        .query_opt(
            "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = ANY ($1)
               AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) LIMIT 1",
            &[&markers],
        )
        .await
        .and_then(|row| row.map(|row| row.try_get::<_, String>(0)).transpose())
        .map_err(unreadable)?;
    Ok(SERVICES.into_iter().find(|facts| Some(facts.marker) == found.as_deref()).unwrap_or(OWN))
}

/// The roles of the service that runs a server, its first superuser among them.
pub(super) async fn roles(session: &Client) -> Result<Vec<String>> {
    let facts = of(session).await?;
    if facts.roles.is_empty() {
        return Ok(Vec::new());
    }
    session
        .query_one(
            "SELECT coalesce(array_agg(rolname::text ORDER BY rolname), '{}') FROM pg_catalog.pg_roles
             WHERE rolname ~ $1 OR oid = 10",
            &[&facts.roles],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(unreadable)
}

/// The roles that each server has for itself, and that are neither carried nor compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Staying {
    /// Headgate's own on both sides.
    own: Vec<String>,
    /// Those of the services that run the servers.
    of_services: Vec<String>,
}

impl Staying {
    /// Reads them.
    pub(super) async fn read(postgres: &Postgres, source: &Client, target: &Client) -> Result<Self> {
        let own = vec![postgres.source().user.clone(), postgres.target().user.clone()];
        let (theirs, here) = (roles(source).await?, roles(target).await?);
        Ok(Self { own, of_services: [theirs, here].concat() })
    }

    /// Whether this role is one, quoted or not.
    pub(super) fn has(&self, role: &str) -> bool {
        self.own.iter().chain(&self.of_services).any(|one| one == role || quote_ident(one) == role)
    }

    /// Whether this role is a service's.
    pub(super) fn is_of_a_service(&self, role: &str) -> bool {
        self.of_services.iter().any(|one| one == role)
    }

    /// All names.
    pub(super) fn names(&self) -> Vec<String> {
        [self.own.clone(), self.of_services.clone()].concat()
    }
}

/// The roles of the source's service that the target does not have and that something of the source's database depends on:
/// who owns it, who has a privilege on it, for whom a policy is.
pub(super) async fn lacking(source: &Client, target: &Client) -> Result<Vec<String>> {
    let theirs = roles(source).await?;
    if theirs.is_empty() {
        return Ok(theirs);
    }
    let absent: Vec<String> = target
        .query_one(
            "SELECT coalesce(array_agg(name), '{}') FROM unnest($1::text[]) AS name
             WHERE name NOT IN (SELECT rolname FROM pg_catalog.pg_roles)",
            &[&theirs],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(unreadable)?;
    source
        .query_one(
            "SELECT coalesce(array_agg(r.rolname::text ORDER BY 1), '{}') FROM pg_catalog.pg_roles r
             WHERE r.rolname = ANY ($1::text[]) AND EXISTS (SELECT FROM pg_catalog.pg_shdepend s
                 WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.refobjid = r.oid
                   AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))",
            &[&absent],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(unreadable)
}

fn unreadable(error: tokio_postgres::Error) -> crate::Error {
    failed("cannot read the roles of a server", error)
}
