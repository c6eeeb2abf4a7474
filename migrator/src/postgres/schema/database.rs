//! The database on the target: made like the source's, reached through another, asked what it lacks.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::error::{Error, Result};
use crate::postgres::Postgres;
use crate::postgres::client::{self, Endpoint, failed};
use crate::postgres::sql::{quote_ident, quote_literal};

/// Databases that exist on every server, to connect to where ours does not exist yet.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];
/// How long the target's database may be out of reach while others use its name or the template.
const CREATION_TIMEOUT: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A session on any database of the server, for what concerns all of them.
pub async fn connect_maintenance(postgres: &Postgres, endpoint: &Endpoint) -> Result<Client> {
    let mut failure = Error::transient("no database of the server can be connected to");
    for database in MAINTENANCE {
        let elsewhere = Endpoint { database: database.to_owned(), ..endpoint.clone() };
        match client::connect(&elsewhere, &postgres.purpose("prepare")).await {
            Ok(session) => return Ok(session),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The statement that creates a database with the encoding and the collation of the source's, and with `owner` where one
/// is asked for.
pub async fn creation(name: &str, owner: Option<&str>, source: &Client) -> Result<String> {
    let unreadable = |error| failed("cannot read the source's database", error);
    // The names of these columns changed between majors; a row as json has whatever there is.
    let row = source
        .query_one(
            "SELECT pg_catalog.pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text,
                    coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
                    coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')
             FROM pg_catalog.pg_database d WHERE d.datname = current_database()",
            &[],
        )
        .await
        .map_err(unreadable)?;
    let text = |column: usize| row.try_get::<_, String>(column).map_err(unreadable);
    let owner = owner.map_or_else(String::new, |owner| format!("OWNER {} ", quote_ident(owner)));
    let mut statement = format!(
        "CREATE DATABASE {} TEMPLATE template0 {owner}ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        quote_ident(name),
        quote_literal(&text(0)?),
        quote_literal(&text(1)?),
        quote_literal(&text(2)?),
    );
    let locale: Option<String> = row.try_get(4).map_err(unreadable)?;
    match (text(3)?.as_str(), locale) {
        ("i", Some(locale)) => {
            statement.push_str(" LOCALE_PROVIDER icu ICU_LOCALE ");
            statement.push_str(&quote_literal(&locale));
        }
        ("b", Some(locale)) => {
            statement.push_str(" LOCALE_PROVIDER builtin BUILTIN_LOCALE ");
            statement.push_str(&quote_literal(&locale));
        }
        _ => {}
    }
    Ok(statement)
}

/// Creates a database as [`creation`] says.
pub async fn create_database(name: &str, owner: Option<&str>, source: &Client, server: &Client) -> Result<()> {
    let statement = creation(name, owner, source).await?;
    let give_up = Instant::now() + CREATION_TIMEOUT;
    loop {
        let Err(error) = server.batch_execute(&statement).await else {
            return Ok(());
        };
        if error.code() == Some(&SqlState::DUPLICATE_DATABASE) {
            return Ok(());
        }
        // A killed run's statement just ended, or somebody is connected to the template for a moment.
        let passes = [SqlState::UNIQUE_VIOLATION, SqlState::OBJECT_IN_USE];
        let again = error.code().is_some_and(|code| passes.contains(code));
        if !again || Instant::now() >= give_up {
            return Err(failed("cannot create the target's database", error)
                .remedy("create it by hand with the source's encoding and collation"));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Which of these quoted names name no relation on the target.
pub async fn absent(target: &Client, names: &[String]) -> Result<Vec<String>> {
    target
        .query("SELECT name FROM unnest($1::text[]) AS name WHERE pg_catalog.to_regclass(name) IS NULL", &[&names])
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(|error| failed("cannot read the target's catalogue", error))
}

/// The owner of the database that a session is in.
pub(crate) async fn owner_of_database(session: &Client) -> Result<String> {
    session
        .query_one(
            "SELECT pg_catalog.pg_get_userbyid(datdba)::text FROM pg_catalog.pg_database
             WHERE datname = current_database()",
            &[],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("cannot read who owns a database", error))
}
