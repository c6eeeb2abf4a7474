//! Takes a URL of `headgate migrate` or `headgate sql` apart.

use mysql_async::Opts;
use proxy::config::{Cluster, Engine as Kind, Secret};

/// What it looks like.
pub(super) const FORM: &str = "mysql://user:password@host:port/database";

/// Takes it apart. A server's socket is named as `?socket=/path/of/the/socket`.
pub(super) fn parse(option: &str, url: &str) -> Result<(Cluster, Option<String>), String> {
    let plain = match url.strip_prefix("mariadb://") {
        Some(rest) => format!("mysql://{rest}"),
        None => url.to_owned(),
    };
    // The parser's own texts name what is wrong, never the password.
    let parsed = Opts::from_url(&plain).map_err(|error| format!("{option}: {error}"))?;
    let missing = |what: &str| format!("{option}: names no {what}; write {FORM}");
    let host = match parsed.socket() {
        Some(path) => path.to_owned(),
        None => parsed.ip_or_hostname().to_owned(),
    };
    if host.is_empty() {
        return Err(missing("host"));
    }
    let user = parsed.user().filter(|user| !user.is_empty());
    let cluster = Cluster {
        engine: Kind::Mysql,
        host,
        port: parsed.tcp_port(),
        user: user.ok_or_else(|| missing("user"))?.to_owned(),
        password: parsed.pass().map(|password| Secret::new(password.to_owned())),
    };
    Ok((cluster, parsed.db_name().map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_url_is_taken_apart_and_what_it_lacks_is_named() {
        let (cluster, database) = parse("--from", "mysql://me:p%40ss@db.example:3307/shop").expect("valid");
        assert_eq!((cluster.host.as_str(), cluster.port), ("db.example", 3307));
        assert_eq!(cluster.password.expect("given").reveal(), "p@ss");
        assert_eq!(database.as_deref(), Some("shop"));
        let (plain, none) = parse("--to", "mariadb://me@db").expect("valid");
        assert_eq!((plain.port, none), (3306, None));
        let (socket, _) = parse("--from", "mysql://me@localhost/shop?socket=/tmp/s.sock").expect("valid");
        assert_eq!(socket.socket(), Some("/tmp/s.sock".into()));
        let text = parse("--to", "mysql://host/shop").expect_err("no user");
        assert!(text.starts_with("--to") && text.contains("user"), "{text}");
    }
}
