//! An account as its server has it, and whether it is the server's or Headgate's own.

use crate::mysql::Mysql;
use crate::mysql::service;
use crate::mysql::sql::quote_ident;

/// Accounts that every server has for itself.
const OWN: [&str; 5] = ["root", "mariadb.sys", "PUBLIC", "debian-sys-maint", ""];

/// An account as its server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The user's name.
    pub user: String,
    /// Where it may come from; empty for a role of MariaDB.
    pub host: String,
    /// How it proves itself.
    pub plugin: String,
    /// What the server keeps to check it by, in hexadecimal digits; empty where there is no password.
    pub proof: String,
    /// Whether it may not log in.
    pub locked: bool,
    /// Whether it is a role of MariaDB.
    pub is_role: bool,
}

impl Account {
    /// As SQL writes it.
    pub fn quoted(&self) -> String {
        if self.is_role {
            quote_ident(&self.user)
        } else {
            format!("{}@{}", quote_ident(&self.user), quote_ident(&self.host))
        }
    }

    /// The name and the host, by which both sides are compared; a role of MariaDB is one of any host on MySQL.
    pub fn key(&self) -> (String, String) {
        let host = if self.is_role { "%" } else { &self.host };
        (self.user.clone(), host.to_lowercase())
    }
}

/// Whether a server has an account of this name for itself.
pub(crate) fn is_servers(user: &str) -> bool {
    OWN.contains(&user) || user.starts_with("mysql.") || service::is_services(user)
}

pub(crate) fn is_own(mysql: &Mysql, account: &Account) -> bool {
    is_servers(&account.user) || [mysql.source(), mysql.target()].iter().any(|end| end.user == account.user)
}
