//! Makes a configuration from the two URLs of `headgate migrate`.

use std::fmt::Write as _;

use proxy::config::{Cluster, Config, Engine, Method, Route, Secret};
use rand::Rng as _;
use tokio_postgres::config::Host;

use crate::program::command::Migrate;

/// The source's name in reports.
pub(super) const SOURCE: &str = "source";
/// The target's name in reports.
pub(super) const TARGET: &str = "target";

/// The configuration, and the route that moves.
pub(super) fn config(migrate: &Migrate) -> Result<(Config, String), String> {
    let (source, database) = end("--from", &migrate.from)?;
    let (target, other) = end("--to", &migrate.to)?;
    if database != other {
        return Err(format!(
            "--to: names the database {other:?}, --from names {database:?}; both must have the same name"
        ));
    }
    let text = format!(
        "[admin]\npassword = \"{}\"\n[clusters.source]\nhost = \"-\"\nuser = \"-\"\n",
        password()
    );
    let config = Config::parse(&text, &|_| None);
    let mut config = config.map_err(|problems| format!("{problems:?}"))?;
    config.login.method = Method::Trust;
    config.clusters = [(SOURCE.to_owned(), source), (TARGET.to_owned(), target)].into();
    let route = Route {
        cluster: SOURCE.to_owned(),
        database: database.clone(),
    };
    config.routes = [(database.clone(), route)].into();
    config.journal.path.clone_from(&migrate.journal);
    config.migrator.pg_dump.clone_from(&migrate.pg_dump);
    config.migrator.pg_restore.clone_from(&migrate.pg_restore);
    config.migrator.copy_workers = usize::from(migrate.copy_workers);
    Ok((config, database))
}

fn end(option: &str, url: &str) -> Result<(Cluster, String), String> {
    // The parser's own texts name keys and positions, never the password.
    let parsed: tokio_postgres::Config =
        url.parse().map_err(|error| format!("{option}: {error}"))?;
    let missing = |what: &str| {
        format!("{option}: names no {what}; write postgresql://user:password@host:port/database")
    };
    let host = match parsed.get_hosts() {
        [Host::Tcp(name)] => name.clone(),
        [Host::Unix(folder)] => folder.display().to_string(),
        [] => return Err(missing("host")),
        _ => {
            return Err(format!(
                "{option}: names several hosts; name the primary alone"
            ));
        }
    };
    let password = parsed.get_password().map(|bytes| {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| format!("{option}: the password is not UTF-8"))
    });
    let cluster = Cluster {
        engine: Engine::Postgres,
        host,
        port: parsed.get_ports().first().copied().unwrap_or(5432),
        user: parsed.get_user().ok_or_else(|| missing("user"))?.to_owned(),
        password: password.transpose()?.map(Secret::new),
    };
    let database = parsed
        .get_dbname()
        .ok_or_else(|| missing("database"))?
        .to_owned();
    Ok((cluster, database))
}

/// A password of 128 random bits for the console of this run.
fn password() -> String {
    let mut bytes = [0_u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::end;

    #[test]
    fn a_url_is_taken_apart_and_what_it_lacks_is_named() {
        let (cluster, database) =
            end("--from", "postgresql://me:p%40ss@db.example:5433/shop").expect("valid");
        assert_eq!((cluster.host.as_str(), cluster.port), ("db.example", 5433));
        assert_eq!(cluster.password.expect("given").reveal(), "p@ss");
        assert_eq!(database, "shop");
        let (socket, _) = end("--from", "postgresql://me@/shop?host=/tmp").expect("valid");
        assert!(socket.is_socket_folder());
        for (url, missing) in [
            ("postgresql://me@host", "database"),
            ("postgresql://host/shop", "user"),
            ("postgresql://me@/shop", "host"),
        ] {
            let text = end("--to", url).expect_err(url);
            assert!(
                text.starts_with("--to") && text.contains(missing),
                "{url}: {text}"
            );
        }
    }
}
