//! Servers that look like those of managed services, in their accounts, rights and TLS, as far as a server of one's own can.

use super::Mysql;
use super::disposable::Kind;
use crate::certificates::{Authority, Says};
use crate::managed::statements;

/// The administrator that a service gives to its customer, and its password.
pub const ADMIN: &str = "admin";

/// What Amazon RDS does to a new server.
const RDS: &str = include_str!("services/rds.sql");

/// Starts a server as Amazon RDS has it, whose certificate is of this authority, with an empty database.
pub async fn start_rds(kind: Kind, name: &str, authority: &Authority, database: &str) -> Mysql {
    let (certificate, key) = authority.sign_openly(name, Says { hosts: &["localhost"], ..Says::default() });
    let ca = authority.file();
    let settings = [("ssl-ca", &ca), ("ssl-cert", &certificate), ("ssl-key", &key)];
    let settings = settings.map(|(name, path)| (name, path.to_str().expect("the path is text")));
    // Its parameter group has it, where the log is on and triggers are used.
    let settings = [&settings[..], &[("log-bin-trust-function-creators", "1")]].concat();
    let mysql = Mysql::start_with(kind, &settings).await;
    mysql.make_database(database).await;
    mysql.sql("", "DROP USER IF EXISTS ''@'localhost'").await;
    for statement in statements(RDS) {
        mysql.sql("", &statement).await;
    }
    mysql
}
