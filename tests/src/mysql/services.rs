//! Servers that look like those of managed services, in their accounts, rights and TLS, as far as a server of one's own can.

use super::Mysql;
use super::disposable::Kind;
use crate::certificates::{Authority, Says};
use crate::managed::statements;

/// The administrator that a service gives to its customer, and its password.
pub const ADMIN: &str = "admin";

/// A managed service of MySQL or MariaDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Amazon RDS with MySQL.
    Rds,
    /// Amazon RDS with MariaDB.
    RdsMariadb,
    /// Google Cloud SQL.
    CloudSql,
    /// Azure Database, Flexible Server.
    Azure,
}

impl Service {
    /// What the service does to a new server.
    fn script(self) -> &'static str {
        match self {
            Self::Rds => include_str!("services/rds.sql"),
            Self::RdsMariadb => include_str!("services/rds_mariadb.sql"),
            Self::CloudSql => include_str!("services/cloud_sql.sql"),
            Self::Azure => include_str!("services/azure.sql"),
        }
    }

    /// The server that it runs.
    pub fn kind(self) -> Kind {
        if self == Self::RdsMariadb { Kind::Mariadb1011 } else { Kind::Mysql97 }
    }

    /// Whether its administrator may make what runs in another account's name.
    pub fn names_definers(self) -> bool {
        self == Self::Rds
    }

    /// Starts a server of it, whose certificate is of this authority, with an empty database.
    pub async fn start(self, name: &str, authority: &Authority, database: &str) -> Mysql {
        let (certificate, key) = authority.sign_openly(name, Says { hosts: &["localhost"], ..Says::default() });
        let ca = authority.file();
        let settings = [("ssl-ca", &ca), ("ssl-cert", &certificate), ("ssl-key", &key)];
        let settings = settings.map(|(name, path)| (name, path.to_str().expect("the path is text")));
        // Its parameter group has it, where the log is on and triggers are used.
        let settings = [&settings[..], &[("log-bin-trust-function-creators", "1")]].concat();
        let mysql = Mysql::start_with(self.kind(), &settings).await;
        mysql.make_database(database).await;
        mysql.sql("", "DROP USER IF EXISTS ''@'localhost'").await;
        for statement in statements(self.script()) {
            mysql.sql("", &statement).await;
        }
        mysql
    }
}
