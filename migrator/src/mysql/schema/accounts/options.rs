//! What an account demands beside its password (REQUIRE), what it may use up, whether it is locked, and when its password
//! expires: read from the server's own table, and written for another version or family.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mysql_async::Conn;

use super::account::{Account, is_own};
use crate::error::Result;
use crate::mysql::Mysql;
use crate::mysql::catalogue::{self, TextRow, ask, run};
use crate::mysql::client::Version;
use crate::mysql::sql::quote_literal;

const WHAT: &str = "cannot read what accounts demand of their logins";
const STATEMENT_TIME: &str = "max_statement_time";
/// How `CREATE USER` calls the columns of limits.
const LIMITS: [(&str, &str); 5] = [
    ("max_questions", "MAX_QUERIES_PER_HOUR"),
    ("max_updates", "MAX_UPDATES_PER_HOUR"),
    ("max_connections", "MAX_CONNECTIONS_PER_HOUR"),
    ("max_user_connections", "MAX_USER_CONNECTIONS"),
    (STATEMENT_TIME, "MAX_STATEMENT_TIME"),
];
/// The columns in which servers keep the rest; each server has some of them.
const COLUMNS: [&str; 11] = [
    "ssl_type",
    "ssl_cipher",
    "x509_issuer",
    "x509_subject",
    "password_expired",
    "password_lifetime",
    "account_locked",
    "password_reuse_history",
    "password_reuse_time",
    "password_require_current",
    ATTRIBUTES,
];
const ATTRIBUTES: &str = "user_attributes";
/// MariaDB's view tells nothing of these, which came with the table behind it.
const IN_DOCUMENT: [&str; 2] = ["account_locked", "password_lifetime"];
/// Parts of the document in which MySQL keeps what has no column.
const LOCKING: &str = "password_locking";
const METADATA: &str = "metadata";

/// What a server keeps of an account beside its password, by the name of the column; a server that has no such thing
/// has no such key, and nothing stands for the server's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options(BTreeMap<&'static str, Option<String>>);

/// All accounts' but the server's and Headgate's own, by name and host.
pub(in crate::mysql) async fn read(mysql: &Mysql, session: &mut Conn) -> Result<BTreeMap<(String, String), Options>> {
    let version = catalogue::prepare(session).await?;
    let shown = ask(session, "SHOW COLUMNS FROM mysql.user", WHAT).await?;
    let has = |name: &&str| shown.iter().any(|row| row.text(0).eq_ignore_ascii_case(name));
    let mut columns: Vec<(&'static str, String)> = COLUMNS
        .into_iter()
        .chain(LIMITS.into_iter().map(|(column, _)| column))
        .filter(|name| has(name))
        .map(|name| (name, format!("user.{name}")))
        .collect();
    if version.is_mariadb() && version.locks_accounts() {
        columns.extend(IN_DOCUMENT.map(|name| {
            let value = format!(
                "(SELECT JSON_VALUE(g.Priv, '$.{name}') FROM mysql.global_priv g
                  WHERE g.User = user.User AND g.Host = user.Host)"
            );
            (name, value)
        }));
    }
    let asked: Vec<&str> = columns.iter().map(|(_, value)| value.as_str()).collect();
    let query = format!("SELECT User, Host, {} FROM mysql.user", asked.join(", "));
    let mut all = BTreeMap::new();
    for row in ask(session, &query, WHAT).await? {
        let account = Account { user: row.owned(0), host: row.owned(1), ..Account::default() };
        if !is_own(mysql, &account) {
            all.insert(account.key(), Options::of(&columns, &row));
        }
    }
    Ok(all)
}

impl Options {
    fn of(columns: &[(&'static str, String)], row: &TextRow) -> Self {
        let mut options = Self::default();
        for ((name, _), at) in columns.iter().zip(2..) {
            let value = row.get(at);
            if *name == ATTRIBUTES {
                let document = value.and_then(|text| serde_json::from_str(text).ok());
                let document: serde_json::Value = document.unwrap_or_default();
                for (key, part) in [(LOCKING, "Password_locking"), (METADATA, METADATA)] {
                    let part = document.get(part).map(ToString::to_string);
                    options.0.insert(key, part);
                }
            } else {
                options.0.insert(name, value.and_then(|value| meant(name, value)));
            }
        }
        options
    }

    fn get(&self, column: &str) -> Option<&str> {
        self.0.get(column)?.as_deref()
    }

    fn is_on(&self, column: &str) -> bool {
        self.get(column).is_some()
    }

    /// Whether its password must be set anew before anything else.
    pub(in crate::mysql) fn is_expired(&self) -> bool {
        self.is_on("password_expired")
    }

    /// After how many seconds the account's statements are ended, where they are.
    pub(in crate::mysql) fn statement_time(&self) -> Option<&str> {
        self.get(STATEMENT_TIME)
    }

    /// What of it the other one does not have, as far as both servers have such a thing: each in the words of `CREATE USER`
    /// and `ALTER USER`. What no statement takes back, such as that a password has expired, has none.
    pub(in crate::mysql) fn beyond(&self, other: &Self) -> Vec<String> {
        let differs = |column: &str| {
            self.0.contains_key(column) && other.0.contains_key(column) && self.get(column) != other.get(column)
        };
        let mut clauses = Vec::new();
        let required = ["ssl_type", "ssl_cipher", "x509_issuer", "x509_subject"];
        if required.into_iter().any(differs) {
            clauses.push(self.required());
        }
        let mut limits = String::new();
        for (column, word) in LIMITS.into_iter().filter(|(column, _)| differs(column)) {
            let _ = write!(limits, " {word} {}", self.get(column).unwrap_or("0"));
        }
        if !limits.is_empty() {
            clauses.push(format!("WITH{limits}"));
        }
        if differs("password_lifetime") {
            clauses.push(match self.get("password_lifetime") {
                None => "PASSWORD EXPIRE DEFAULT".to_owned(),
                Some("0") => "PASSWORD EXPIRE NEVER".to_owned(),
                Some(days) => format!("PASSWORD EXPIRE INTERVAL {days} DAY"),
            });
        }
        let counted = |column: &str, unit: &str| match self.get(column) {
            None => "DEFAULT".to_owned(),
            Some(number) => format!("{number}{unit}"),
        };
        if differs("password_reuse_history") {
            let kept = counted("password_reuse_history", "");
            clauses.push(format!("PASSWORD HISTORY {kept}"));
        }
        if differs("password_reuse_time") {
            let kept = counted("password_reuse_time", " DAY");
            clauses.push(format!("PASSWORD REUSE INTERVAL {kept}"));
        }
        if differs("password_require_current") {
            clauses.push(match self.get("password_require_current") {
                None => "PASSWORD REQUIRE CURRENT DEFAULT".to_owned(),
                Some("Y") => "PASSWORD REQUIRE CURRENT".to_owned(),
                Some(_) => "PASSWORD REQUIRE CURRENT OPTIONAL".to_owned(),
            });
        }
        if differs(LOCKING) {
            clauses.push(self.locking());
        }
        if differs("password_expired") && self.is_expired() {
            clauses.push("PASSWORD EXPIRE".to_owned());
        }
        if differs("account_locked") && self.is_on("account_locked") {
            clauses.push("ACCOUNT LOCK".to_owned());
        }
        if differs(METADATA) {
            let metadata = self.get(METADATA).unwrap_or("{}");
            clauses.push(format!("ATTRIBUTE {}", quote_literal(metadata)));
        }
        clauses
    }

    fn required(&self) -> String {
        let specified: Vec<String> = [("ISSUER", "x509_issuer"), ("SUBJECT", "x509_subject"), ("CIPHER", "ssl_cipher")]
            .into_iter()
            .filter_map(|(word, column)| Some(format!("{word} {}", quote_literal(self.get(column)?))))
            .collect();
        let demand = match self.get("ssl_type") {
            None => "NONE".to_owned(),
            Some("ANY") => "SSL".to_owned(),
            Some("SPECIFIED") => specified.join(" AND "),
            Some(other) => other.to_owned(),
        };
        format!("REQUIRE {demand}")
    }

    fn locking(&self) -> String {
        let document = self.get(LOCKING);
        let document = document.and_then(|text| serde_json::from_str(text).ok());
        let document: serde_json::Value = document.unwrap_or_default();
        let number = |part: &str| document.get(part).and_then(serde_json::Value::as_i64);
        let days = match number("password_lock_time_days").unwrap_or(0) {
            -1 => "UNBOUNDED".to_owned(),
            days => days.to_string(),
        };
        let attempts = number("failed_login_attempts").unwrap_or(0);
        format!("FAILED_LOGIN_ATTEMPTS {attempts} PASSWORD_LOCK_TIME {days}")
    }

    /// What follows the password in a `CREATE USER`; of two words on expiry servers take one.
    pub(in crate::mysql) fn written(&self, target: Version) -> String {
        let mut plain = self.clone();
        plain.0.retain(|column, _| target.is_mariadb() || *column != STATEMENT_TIME);
        plain.0.values_mut().for_each(|value| *value = None);
        let mut options = self.clone();
        if self.is_expired() {
            options.0.remove("password_lifetime");
        }
        let clauses = options.beyond(&plain);
        clauses.iter().fold(String::new(), |text, one| format!("{text} {one}"))
    }
}

/// The value, where it is another than the server's default, the same for both families.
fn meant(column: &str, value: &str) -> Option<String> {
    let value = value.trim();
    match column {
        "password_lifetime" if value == "-1" => None,
        "account_locked" | "password_expired" => {
            let on = ["Y", "true", "1"].contains(&value);
            on.then(|| "Y".to_owned())
        }
        _ if LIMITS.iter().any(|(limit, _)| *limit == column) => {
            let value = match value.split_once('.') {
                Some(_) => value.trim_end_matches('0').trim_end_matches('.'),
                None => value,
            };
            (value != "0").then(|| value.to_owned())
        }
        _ => (!value.is_empty()).then(|| value.to_owned()),
    }
}

/// Gives accounts that were created just now what the statement that created them could not say.
pub(super) async fn complete(
    mysql: &Mysql,
    created: &[Account],
    source: &BTreeMap<(String, String), Options>,
    target: &mut Conn,
) -> Result<()> {
    if created.is_empty() {
        return Ok(());
    }
    let here = read(mysql, target).await?;
    for account in created {
        let (Some(wanted), Some(has)) = (source.get(&account.key()), here.get(&account.key())) else {
            continue;
        };
        for clause in wanted.beyond(has) {
            let statement = format!("ALTER USER {} {clause}", account.quoted());
            if let Err(failure) = run(target, &statement, "cannot complete an account").await {
                tracing::warn!(account = account.quoted(), %failure, "the target refuses an account's option");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Options, meant};
    use crate::mysql::client::{Flavor, Version};

    #[test]
    fn an_account_is_created_with_what_it_demands_in_the_words_of_its_server() {
        let options = [
            ("ssl_type", "SPECIFIED"),
            ("x509_subject", "/CN=it's"),
            ("ssl_cipher", "A"),
            ("max_questions", "5"),
            ("max_updates", "0"),
            ("max_statement_time", "2.500000"),
            ("password_expired", "Y"),
            ("password_lifetime", "9"),
            ("account_locked", "true"),
        ];
        let options = options.map(|(column, value)| (column, meant(column, value)));
        let options = Options(options.into());
        let demand = "REQUIRE SUBJECT '/CN=it''s' AND CIPHER 'A' WITH MAX_QUERIES_PER_HOUR 5";
        for (flavor, rest) in [
            (Flavor::Mysql, "PASSWORD EXPIRE ACCOUNT LOCK"),
            (Flavor::Mariadb, "MAX_STATEMENT_TIME 2.5 PASSWORD EXPIRE ACCOUNT LOCK"),
        ] {
            let version = Version { flavor, number: (10, 11, 0) };
            assert_eq!(options.written(version), format!(" {demand} {rest}"));
        }
        assert_eq!(options.beyond(&options), Vec::<String>::new());
    }
}
