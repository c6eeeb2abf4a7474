//! Servers that look like those of managed services, in their roles, rights and TLS, as far as a server of one's own can.

use super::Postgres;
use crate::certificates::Authority;
use crate::least::{self, LEAST};
use crate::managed::statements;

/// A managed service of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Amazon RDS, and Aurora.
    Rds,
    /// Google Cloud SQL.
    CloudSql,
    /// Azure Database, Flexible Server.
    Azure,
    /// Neon.
    Neon,
}

/// The administrator that a service gives to its customer.
pub const ADMIN: &str = "admin";

/// TLS for everybody but the tests themselves, who are trusted as the server's first role; and its passwords.
const HBA: &str = "hostnossl all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";

impl Service {
    /// What the service does to a new server.
    fn script(self) -> &'static str {
        match self {
            Self::Rds => include_str!("services/rds.sql"),
            Self::CloudSql => include_str!("services/cloud_sql.sql"),
            Self::Azure => include_str!("services/azure.sql"),
            Self::Neon => include_str!("services/neon.sql"),
        }
    }

    /// The word by which `headgate grants` knows it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rds => "rds",
            Self::CloudSql => "cloud-sql",
            Self::Azure => "azure",
            Self::Neon => "neon",
        }
    }

    /// Makes the role that Headgate is to have, by the administrator, with what is printed for a side. On RDS itself its
    /// membership opens replication connections; here an attribute must.
    pub async fn let_migrate(self, postgres: &Postgres, side: &str, version: u32, database: &str) {
        let printed = least::printed("postgres", side, &version.to_string(), database, self.word()).await;
        postgres.sql(database, &format!("set session authorization {ADMIN}; {printed}")).await;
        if self == Self::Rds {
            postgres.sql(database, &format!("alter role {LEAST} replication")).await;
        }
    }

    /// Starts a server of it, whose certificate is of this authority, with a database of the administrator's.
    pub async fn start(self, version: u32, authority: &Authority, database: &str) -> Postgres {
        let settings = [("password_encryption", "scram-sha-256")];
        let postgres = Postgres::start_with(version, &settings, Some(HBA)).await;
        let certificate = authority.sign_for_here(&format!("{}-{}", self.word(), postgres.port()));
        postgres.speak_tls(&certificate, None).await;
        for statement in statements(self.script()) {
            // New databases have what this one has.
            postgres.sql("template1", &statement).await;
        }
        postgres.sql("postgres", &format!("create database {database} owner {ADMIN}")).await;
        postgres
    }
}
