//! Programs on their way to the target: each is created under what its text was written under.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{Program, one};
use crate::error::Result;
use crate::mysql::catalogue::{ask, run};
use crate::mysql::client::{self, Version};
use crate::mysql::schema::create_table::Translation;
use crate::mysql::sql::{quote_ident, quote_literal};

/// Modes that every server of today knows.
const MODES: [&str; 20] = [
    "REAL_AS_FLOAT",
    "PIPES_AS_CONCAT",
    "ANSI_QUOTES",
    "IGNORE_SPACE",
    "ONLY_FULL_GROUP_BY",
    "NO_UNSIGNED_SUBTRACTION",
    "NO_DIR_IN_CREATE",
    "NO_AUTO_VALUE_ON_ZERO",
    "NO_BACKSLASH_ESCAPES",
    "STRICT_TRANS_TABLES",
    "STRICT_ALL_TABLES",
    "NO_ZERO_IN_DATE",
    "NO_ZERO_DATE",
    "ALLOW_INVALID_DATES",
    "ERROR_FOR_DIVISION_BY_ZERO",
    "TRADITIONAL",
    "HIGH_NOT_PRECEDENCE",
    "NO_ENGINE_SUBSTITUTION",
    "PAD_CHAR_TO_FULL_LENGTH",
    "ANSI",
];

/// The modes that the target knows too.
pub(crate) fn known_modes(modes: &str, target: Version) -> String {
    let known = modes.split(',').filter(|mode| target.is_mariadb() || MODES.contains(mode));
    known.collect::<Vec<_>>().join(",")
}

impl Program {
    /// Makes the session write what the program's text means, in the program's database.
    pub async fn enter(&self, target: &mut Conn, translation: &Translation) -> Result<()> {
        // A server without a data dictionary takes whatever it has shown.
        let its_own = translation.source == translation.target && !translation.target.is_mysql_from(8, 0, 0);
        let modes = if its_own { self.sql_mode.clone() } else { known_modes(&self.sql_mode, translation.target) };
        // We send UTF-8; where that would differ from what the text was sent in, the text is worth more than the label.
        let client = if self.create.is_ascii() || self.client.starts_with("utf8") {
            translation.charset(&self.client)
        } else {
            "utf8mb4".to_owned()
        };
        let mut settings = vec![
            format!("sql_mode = {}", quote_literal(&modes)),
            format!("character_set_client = {}", quote_literal(&client)),
            format!("collation_connection = {}", quote_literal(&translation.charset(&self.collation))),
        ];
        if !self.time_zone.is_empty() {
            settings.push(format!("time_zone = {}", quote_literal(&self.time_zone)));
        }
        let what = format!("cannot create {}.{} on the target", self.schema, self.name);
        run(target, &format!("USE {}", quote_ident(&self.schema)), &what).await?;
        run(target, &format!("SET SESSION {}", settings.join(", ")), &what).await
    }

    /// The statement in the character set that the program's text was sent in, where that is another than ours and can say
    /// it. Where it cannot, the text is worth more than the label.
    async fn encoded(&self, target: &mut Conn, translation: &Translation, statement: &str) -> Result<Option<Vec<u8>>> {
        if statement.is_ascii() || self.client.starts_with("utf8") {
            return Ok(None);
        }
        let charset = translation.charset(&self.client);
        let text = quote_literal(statement);
        let query = format!(
            "SELECT CONVERT(CONVERT({text} USING {charset}) USING utf8mb4) = {text} COLLATE utf8mb4_bin,
                 HEX(CONVERT({text} USING {charset}))"
        );
        let rows = ask(target, &query, "cannot write a program in its character set").await?;
        let Some(row) = rows.first().filter(|row| row.is_on(0)) else {
            return Ok(None);
        };
        let digits = row.text(1).as_bytes().chunks(2);
        let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        Ok(bytes.collect())
    }

    /// Gives the database the collation that it had when the program was made; what it has now, where that is another.
    async fn give_collation(&self, target: &mut Conn, translation: &Translation, what: &str) -> Result<Option<String>> {
        if self.database_collation.is_empty() {
            return Ok(None);
        }
        let database = quote_ident(&self.schema);
        run(target, &format!("USE {database}"), what).await?;
        let now = one(target, "SELECT @@collation_database").await?.owned(0);
        let then = translation.charset(&self.database_collation);
        let alter = format!("ALTER DATABASE {database} COLLATE {then}");
        run(target, &alter, what).await?;
        Ok(Some(now))
    }

    /// Runs a statement under what the program was written under, and gives the session back as it was.
    pub async fn run(&self, target: &mut Conn, translation: &Translation, statement: &str) -> Result<()> {
        let what = format!(
            "cannot create the {} {}.{} on the target",
            self.kind.word().to_lowercase(),
            self.schema,
            self.name
        );
        let encoded = self.encoded(target, translation, statement).await?;
        let before = self.give_collation(target, translation, &what).await?;
        let entered = self.enter(target, translation).await;
        let outcome = match (entered, encoded) {
            (Err(failure), _) => Err(failure),
            (Ok(()), None) => run(target, statement, &what).await,
            (Ok(()), Some(bytes)) => {
                let client = quote_literal(&translation.charset(&self.client));
                let client = format!("SET SESSION character_set_client = {client}");
                match run(target, &client, &what).await {
                    Ok(()) => {
                        let sent = target.query_drop(bytes).await;
                        sent.map_err(|error| client::failed(&what, error))
                    }
                    Err(failure) => Err(failure),
                }
            }
        };
        if let Some(before) = before {
            let back = format!("ALTER DATABASE {} COLLATE {before}", quote_ident(&self.schema));
            run(target, &back, &what).await?;
        }
        outcome.and(Self::leave(target).await)
    }

    /// Gives the session back as it was before [`Program::enter`].
    pub async fn leave(target: &mut Conn) -> Result<()> {
        run(
            target,
            "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', character_set_client = utf8mb4,
             collation_connection = utf8mb4_general_ci",
            "cannot set the target's session back",
        )
        .await
    }
}
