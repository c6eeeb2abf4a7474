//! Takes a URL of `headgate migrate` or `headgate sql` apart.

use proxy::config::{Cluster, Engine as Kind, Secret};
use tokio_postgres::config::Host;
use transport::tls::Mode;

use crate::url::{Parameters, Words};

/// What it looks like.
pub(super) const FORM: &str = "postgresql://user:password@host:port/database";

/// libpq's words for TLS.
const TLS: Words = Words {
    mode: &["sslmode"],
    read: Mode::of,
    modes: "disable, prefer, require, verify-ca, verify-full",
    authorities: &["sslrootcert"],
    certificate: &["sslcert"],
    key: &["sslkey"],
};
const PARAMETERS: &str = "host, port, user, password, dbname, sslmode, sslrootcert, sslcert, sslkey";

/// Takes it apart.
pub(super) fn parse(option: &str, url: &str) -> Result<(Cluster, Option<String>), String> {
    if !["postgresql://", "postgres://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(format!("{option}: is no URL; write {FORM}"));
    }
    let (plain, mut parameters) = Parameters::split(option, url)?;
    let tls = parameters.take_tls(&TLS)?;
    // The parser's own texts name keys and positions, never the password.
    let mut parsed: tokio_postgres::Config = plain.parse().map_err(|error| format!("{option}: {error}"))?;
    take_parts(option, &mut parsed, &mut parameters)?;
    parameters.end(PARAMETERS)?;
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
        password_command: None,
        tls: tls.mode,
        tls_ca: tls.authorities,
        tls_certificate: tls.certificate,
        tls_key: tls.key,
        proxy_protocol: false,
    };
    Ok((cluster, parsed.get_dbname().map(str::to_owned)))
}

/// Parts of the URL that are written as parameters, as those that a socket's folder makes awkward.
fn take_parts(option: &str, parsed: &mut tokio_postgres::Config, parameters: &mut Parameters) -> Result<(), String> {
    if let Some(host) = parameters.take(&["host"]) {
        parsed.host(&host);
    }
    if let Some(port) = parameters.take(&["port"]) {
        parsed.port(port.parse().map_err(|_| format!("{option}: port={port} is no port"))?);
    }
    if let Some(user) = parameters.take(&["user"]) {
        parsed.user(&user);
    }
    if let Some(password) = parameters.take(&["password"]) {
        parsed.password(password);
    }
    if let Some(database) = parameters.take(&["dbname"]) {
        parsed.dbname(&database);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use transport::tls::Mode;

    use super::parse;

    #[test]
    fn a_url_is_taken_apart_and_what_it_lacks_is_named() {
        let (cluster, database) = parse("--from", "postgresql://me:p%40ss@db.example:5433/shop").expect("valid");
        assert_eq!((cluster.host.as_str(), cluster.port), ("db.example", 5433));
        assert_eq!(cluster.password.expect("given").reveal(), "p@ss");
        assert_eq!(database.as_deref(), Some("shop"));
        let (socket, _) = parse("--from", "postgresql://me@/shop?host=/tmp").expect("valid");
        assert_eq!(socket.socket(), Some("/tmp/.s.PGSQL.5432".into()));
        let (tls, _) = parse("--from", "postgresql://me@db/shop?sslmode=require").expect("valid");
        assert_eq!((tls.tls, cluster.tls), (Mode::Require, Mode::Prefer));
        for (url, missing) in [
            ("postgresql://host/shop", "user"),
            ("postgresql://me@/shop", "host"),
            ("host=db user=me", "URL"),
            ("postgresql://me@db/shop?sslmode=allow", "verify-full"),
            ("postgresql://me@db/shop?options=-csearch_path=x", "\"options\""),
        ] {
            let text = parse("--to", url).expect_err(url);
            assert!(text.starts_with("--to") && text.contains(missing), "{url}: {text}");
        }
    }
}
