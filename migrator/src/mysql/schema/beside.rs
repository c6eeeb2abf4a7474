//! What a server has beside databases, tables and programs, and what is told of tables: carried where the target takes it.

use std::collections::BTreeMap;

use mysql_async::Conn;

use super::accounts::account::Account;
use crate::error::Result;
use crate::mysql::Mysql;
use crate::mysql::catalogue::{TextRow, ask, listed, run};
use crate::mysql::client::Version;
use crate::mysql::sql::{qualified, quote_ident, quote_literal};

/// Whether accounts of this version may have two passwords at a time.
pub(crate) fn has_second_passwords(version: Version) -> bool {
    version.is_mysql_from(8, 0, 14)
}

/// The accounts that have two passwords, by name and host, with both hashes as hexadecimal digits.
pub(crate) async fn second_passwords(
    session: &mut Conn,
    version: Version,
) -> Result<BTreeMap<(String, String), (String, String)>> {
    if !has_second_passwords(version) {
        return Ok(BTreeMap::new());
    }
    let query = "SELECT User, Host, HEX(authentication_string), HEX(User_attributes ->> '$.additional_password')
        FROM mysql.user WHERE User_attributes ->> '$.additional_password' IS NOT NULL";
    let rows = ask(session, query, "cannot read which accounts have two passwords").await?;
    let both = |row: &TextRow| {
        let account = (row.owned(0), row.text(1).to_lowercase());
        (account, (row.owned(2), row.owned(3)))
    };
    Ok(rows.iter().map(both).collect())
}

/// Gives those of the target's accounts the second password that have the first one already. The new one is set last, so
/// that both hold.
pub(crate) async fn carry_second_passwords(
    accounts: &[Account],
    source: &mut Conn,
    target: &mut Conn,
    versions: (Version, Version),
) -> Result<()> {
    if !has_second_passwords(versions.1) {
        return Ok(());
    }
    let there = second_passwords(source, versions.0).await?;
    if there.is_empty() {
        return Ok(());
    }
    let here = second_passwords(target, versions.1).await?;
    let query = "SELECT User, Host, plugin, HEX(authentication_string) FROM mysql.user";
    let rows = ask(target, query, "cannot read the target's accounts").await?;
    for account in accounts {
        let Some(both) = there.get(&account.key()) else {
            continue;
        };
        let same = |row: &&TextRow| {
            (row.owned(0), row.text(1).to_lowercase()) == account.key()
                && row.text(2) == account.plugin
                && row.text(3) == both.0
        };
        if here.get(&account.key()) == Some(both) || !rows.iter().any(|row| same(&row)) {
            continue;
        }
        let (name, plugin) = (account.quoted(), quote_literal(&account.plugin));
        for (hash, retain) in [(&both.1, ""), (&both.0, " RETAIN CURRENT PASSWORD")] {
            let statement = format!("ALTER USER {name} IDENTIFIED WITH {plugin} AS 0x{hash}{retain}");
            if let Err(failure) = run(target, &statement, "cannot set a second password").await {
                tracing::warn!(account = name, %failure, "the target refuses a second password");
                break;
            }
        }
    }
    Ok(())
}

/// A server of others to which tables may refer.
pub(crate) struct Server {
    pub(crate) name: String,
    wrapper: String,
    options: String,
}

impl Server {
    fn read(row: &TextRow) -> Self {
        let options = ["HOST", "DATABASE", "USER", "PASSWORD", "SOCKET", "OWNER"];
        let mut reported: Vec<String> =
            options.iter().zip(2..).map(|(option, at)| format!("{option} {}", quote_literal(row.text(at)))).collect();
        reported.push(format!("PORT {}", row.number(8)));
        Self { name: row.owned(0), wrapper: row.owned(1), options: reported.join(", ") }
    }

    /// The statement that creates it under this name.
    pub(crate) fn create(&self, name: &str) -> String {
        format!(
            "CREATE SERVER {} FOREIGN DATA WRAPPER {} OPTIONS ({})",
            quote_ident(name),
            quote_ident(&self.wrapper),
            self.options
        )
    }
}

/// The servers that the target lacks. What may not be read is told by name elsewhere.
pub(crate) async fn missing_servers(source: &mut Conn, target: &mut Conn) -> Vec<Server> {
    let query = "SELECT Server_name, Wrapper, Host, Db, Username, Password, Socket, Owner, Port FROM mysql.servers";
    let there = ask(source, query, "cannot read the source's servers").await;
    let here = ask(target, "SELECT Server_name FROM mysql.servers", "cannot read the target's servers").await;
    let (there, here) = (there.unwrap_or_default(), here.unwrap_or_default());
    there.iter().filter(|row| !here.iter().any(|one| one.text(0) == row.text(0))).map(Server::read).collect()
}

/// Creates the servers that the target lacks. What it refuses is found by the check.
pub(crate) async fn carry_servers(source: &mut Conn, target: &mut Conn) {
    for server in missing_servers(source, target).await {
        let statement = server.create(&server.name);
        if let Err(failure) = run(target, &statement, "cannot create a server on the target").await {
            tracing::warn!(server = server.name, %failure, "the target refuses a server");
        }
    }
}

/// Makes the target's histograms as the source's were asked for, from the loaded rows.
pub(crate) async fn carry_histograms(
    mysql: &Mysql,
    source: &mut Conn,
    target: &mut Conn,
    versions: (Version, Version),
) -> Result<()> {
    if versions.0.is_mariadb() && versions.1.is_mariadb() {
        return carry_statistics(mysql, source, target).await;
    }
    if !versions.0.is_mysql_from(8, 0, 0) || !versions.1.is_mysql_from(8, 0, 0) {
        return Ok(());
    }
    let query = format!(
        "SELECT SCHEMA_NAME, TABLE_NAME, COLUMN_NAME, JSON_EXTRACT(HISTOGRAM, '$.\"number-of-buckets-specified\"'),
             JSON_EXTRACT(HISTOGRAM, '$.\"auto-update\"')
         FROM information_schema.COLUMN_STATISTICS WHERE SCHEMA_NAME IN ({})",
        listed(mysql)
    );
    for row in ask(source, &query, "cannot read the source's histograms").await? {
        let update = match row.text(4) {
            "true" => " AUTO UPDATE",
            _ => "",
        };
        let statement = format!(
            "ANALYZE NO_WRITE_TO_BINLOG TABLE {} UPDATE HISTOGRAM ON {} WITH {} BUCKETS{update}",
            qualified(row.text(0), row.text(1)),
            quote_ident(row.text(2)),
            row.number(3)
        );
        ask(target, &statement, "cannot make a histogram on the target").await?;
    }
    Ok(())
}

/// MariaDB keeps statistics in tables of its own for those tables for which somebody asked.
async fn carry_statistics(mysql: &Mysql, source: &mut Conn, target: &mut Conn) -> Result<()> {
    let query = format!("SELECT db_name, table_name FROM mysql.table_stats WHERE db_name IN ({})", listed(mysql));
    let Ok(rows) = ask(source, &query, "cannot read the source's statistics").await else {
        // What may not be read is told by name.
        return Ok(());
    };
    for row in rows {
        let table = qualified(row.text(0), row.text(1));
        let statement = format!("ANALYZE NO_WRITE_TO_BINLOG TABLE {table} PERSISTENT FOR ALL");
        ask(target, &statement, "cannot make statistics on the target").await?;
    }
    Ok(())
}
