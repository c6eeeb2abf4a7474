//! Takes a URL of `headgate migrate` or `headgate sql` apart.

use proxy::config::{Cluster, Engine as Kind, Secret};
use tokio_postgres::config::Host;

/// What it looks like.
pub(super) const FORM: &str = "postgresql://user:password@host:port/database";

/// Takes it apart.
pub(super) fn parse(option: &str, url: &str) -> Result<(Cluster, Option<String>), String> {
    // The parser's own texts name keys and positions, never the password.
    let parsed: tokio_postgres::Config = url.parse().map_err(|error| format!("{option}: {error}"))?;
    let missing = |what: &str| format!("{option}: names no {what}; write {FORM}");
    let host = match parsed.get_hosts() {
        [Host::Tcp(name)] => name.clone(),
        [Host::Unix(folder)] => folder.display().to_string(),
        [] => return Err(missing("host")),
        _ => {
            return Err(format!("{option}: names several hosts; name the primary alone"));
        }
    };
    let password = parsed
        .get_password()
        .map(|bytes| String::from_utf8(bytes.to_vec()).map_err(|_| format!("{option}: the password is not UTF-8")));
    let cluster = Cluster {
        engine: Kind::Postgres,
        host,
        port: parsed.get_ports().first().copied().unwrap_or(5432),
        user: parsed.get_user().ok_or_else(|| missing("user"))?.to_owned(),
        password: password.transpose()?.map(Secret::new),
    };
    Ok((cluster, parsed.get_dbname().map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_url_is_taken_apart_and_what_it_lacks_is_named() {
        let (cluster, database) = parse("--from", "postgresql://me:p%40ss@db.example:5433/shop").expect("valid");
        assert_eq!((cluster.host.as_str(), cluster.port), ("db.example", 5433));
        assert_eq!(cluster.password.expect("given").reveal(), "p@ss");
        assert_eq!(database.as_deref(), Some("shop"));
        let (socket, _) = parse("--from", "postgresql://me@/shop?host=/tmp").expect("valid");
        assert_eq!(socket.socket(), Some("/tmp/.s.PGSQL.5432".into()));
        for (url, missing) in [("postgresql://host/shop", "user"), ("postgresql://me@/shop", "host")] {
            let text = parse("--to", url).expect_err(url);
            assert!(text.starts_with("--to") && text.contains(missing), "{url}: {text}");
        }
    }
}
