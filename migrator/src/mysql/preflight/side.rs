//! A server that answered, and how the checks ask it.

use std::collections::BTreeMap;

use mysql_async::Conn;

use crate::error::Result;
use crate::mysql::catalogue::{self, ask};
use crate::mysql::client::Version;

/// A server that answered.
pub(crate) struct Side {
    pub(crate) session: Conn,
    pub(crate) version: Version,
    pub(crate) settings: BTreeMap<String, String>,
}

impl Side {
    pub(crate) async fn open(session: impl Future<Output = Result<Conn>>) -> Result<Self> {
        let mut session = session.await?;
        let version = catalogue::prepare(&mut session).await?;
        let rows = ask(&mut session, "SHOW GLOBAL VARIABLES", "cannot read a server's settings").await?;
        let settings = rows.iter().map(|row| (row.owned(0), row.owned(1))).collect();
        Ok(Self { session, version, settings })
    }

    /// A setting's value, or nothing where the server has none of this name.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        matches!(self.setting(name), Some("ON" | "1"))
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        // MariaDB writes days with decimals.
        self.setting(name)?.split('.').next()?.parse().ok()
    }

    /// The statement that changes a setting, also over a restart where the server can.
    pub(crate) fn set(&self, name: &str, value: &str) -> String {
        let persists = !NOT_PERSISTENT.contains(&name);
        let scope = if persists && self.version.is_mysql_from(8, 0, 0) { "PERSIST" } else { "GLOBAL" };
        format!("SET {scope} {name} = {value}")
    }

    /// The rows of a query whose columns are the evidence and the statement that mends it.
    pub(crate) async fn pairs(&mut self, query: &str) -> Result<Vec<(String, String)>> {
        let rows = ask(&mut self.session, query, "a check could not run").await?;
        Ok(rows.iter().map(|row| (row.owned(0), row.owned(1))).collect())
    }
}

/// Settings that MySQL does not keep over a restart by itself.
pub const NOT_PERSISTENT: [&str; 1] = ["restrict_fk_on_non_standard_key"];
