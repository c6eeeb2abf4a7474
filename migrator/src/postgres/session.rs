//! What Headgate's own sessions do not inherit: every setting that a server, database or role can change, and that alters
//! how values are read, written, compared or limited, has the server's built-in value in them.

use std::fmt::Write as _;

use tokio_postgres::Client;

/// The settings that differ from their built-in value in this session and that it may set, without those that only make
/// it faster or slower, and without what each session has of its own. The category is the server's.
macro_rules! inherited {
    () => {
        "FROM pg_catalog.pg_settings
         WHERE (context = 'user' OR context = 'superuser' AND pg_catalog.current_setting('is_superuser') = 'on')
           AND setting IS DISTINCT FROM boot_val AND boot_val IS NOT NULL
           AND category !~ '^(Query Tuning|Resource Usage / (Memory|I/O|Worker|Disk)|Reporting and Logging|Vacuuming|Statistics)'
           AND category <> 'Connections and Authentication / TCP Settings'
           AND name <> ALL ('{client_encoding,lc_messages,transaction_isolation,transaction_read_only,
               transaction_deferrable,dynamic_library_path,extension_control_path,session_preload_libraries}')
           OR name = 'temp_file_limit' AND setting <> boot_val AND pg_catalog.current_setting('is_superuser') = 'on'"
    };
}

/// Gives these settings their built-in values. One statement, also for a session that replicates.
pub(super) const PIN: &str =
    concat!("SELECT pg_catalog.count(pg_catalog.set_config(name, boot_val, false)) ", inherited!());

/// What every session of ours needs beyond that: no timeout that ends it halfway, names and operators only from where we
/// say, and values rendered the same on both sides. `row_security` off makes a filtered read an error.
const OWN: &str = "SET statement_timeout = 0; SET lock_timeout = 0; \
    SET idle_in_transaction_session_timeout = 0; SET search_path = ''; \
    SET client_min_messages = warning; SET row_security = off; \
    SET standard_conforming_strings = on; SET timezone_abbreviations = 'Default'; \
    SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; \
    SET extra_float_digits = 3; SET bytea_output = hex; SET xmloption = content; SET lc_monetary = 'C'";

/// Makes a fresh session one that inherits nothing.
pub(super) async fn prepare(session: &Client) -> Result<(), tokio_postgres::Error> {
    session.batch_execute(&format!("{PIN}; {OWN}")).await
}

/// The same settings, as options of a client program's session, for `PGOPTIONS`. `session` must be a fresh one that was
/// not prepared.
pub(super) async fn options(session: &Client) -> Result<String, tokio_postgres::Error> {
    let rows = session.query(concat!("SELECT name, boot_val ", inherited!()), &[]).await?;
    let mut options = String::new();
    for row in &rows {
        let (name, value): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let _ = write!(options, " -c {name}={}", escaped(value));
    }
    Ok(options)
}

/// A value as the server splits `options`: a backslash before what would end it.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for character in value.chars() {
        if character.is_whitespace() || character == '\\' {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_value_with_blanks_stays_one_option() {
        assert_eq!(escaped("read committed"), "read\\ committed");
        assert_eq!(escaped("a\\b"), "a\\\\b");
    }
}
