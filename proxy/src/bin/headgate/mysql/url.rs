//! Takes a URL of `headgate migrate` or `headgate sql` apart.

use mysql_async::Opts;
use proxy::config::{Cluster, Engine as Kind, Secret};
use transport::tls::Mode;

use crate::url::{Parameters, Words};

/// What it looks like.
pub(super) const FORM: &str = "mysql://user:password@host:port/database";

/// The words of MySQL's clients for TLS, with either sign between them.
const TLS: Words = Words {
    mode: &["ssl-mode", "ssl_mode", "sslmode"],
    read: mode,
    modes: "DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY",
    authorities: &["ssl-ca", "ssl_ca"],
    certificate: &["ssl-cert", "ssl_cert"],
    key: &["ssl-key", "ssl_key"],
};
const PARAMETERS: &str = "socket, ssl-mode, ssl-ca, ssl-cert, ssl-key";

fn mode(word: &str) -> Option<Mode> {
    Some(match word.to_ascii_uppercase().as_str() {
        "DISABLED" => Mode::Disable,
        "PREFERRED" => Mode::Prefer,
        "REQUIRED" => Mode::Require,
        "VERIFY_CA" => Mode::VerifyCa,
        "VERIFY_IDENTITY" => Mode::VerifyFull,
        _ => return None,
    })
}

/// Takes it apart. A server's socket is named as `?socket=/path/of/the/socket`.
pub(super) fn parse(option: &str, url: &str) -> Result<(Cluster, Option<String>), String> {
    let (url, mut parameters) = Parameters::split(option, url)?;
    let tls = parameters.take_tls(&TLS)?;
    if tls.mode == Mode::VerifyCa {
        let text = "VERIFY_CA is not there: the driver looks at the host's name all the same; write VERIFY_IDENTITY or REQUIRED";
        return Err(format!("{option}: {text}"));
    }
    let socket = parameters.take(&["socket"]);
    parameters.end(PARAMETERS)?;
    let plain = match url.strip_prefix("mariadb://") {
        Some(rest) => format!("mysql://{rest}"),
        None => url,
    };
    // The parser's own texts name what is wrong, never the password.
    let parsed = Opts::from_url(&plain).map_err(|error| format!("{option}: {error}"))?;
    let missing = |what: &str| format!("{option}: names no {what}; write {FORM}");
    let host = match socket {
        Some(path) => path,
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
        password_command: None,
        tls: tls.mode,
        tls_ca: tls.authorities,
        tls_certificate: tls.certificate,
        tls_key: tls.key,
        proxy_protocol: false,
    };
    Ok((cluster, parsed.db_name().map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use transport::tls::Mode;

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
        let (tls, _) = parse("--from", "mysql://me@db/shop?ssl-mode=required").expect("valid");
        assert_eq!((tls.tls, plain.tls), (Mode::Require, Mode::Prefer));
        for (url, reported) in [
            ("mysql://me@db/shop?ssl-mode=verify-full", "VERIFY_IDENTITY"),
            ("mysql://me@db/shop?require_ssl=true", "\"require_ssl\""),
            ("mysql://me@db/shop?ssl-mode=VERIFY_CA", "VERIFY_CA is not there"),
        ] {
            let text = parse("--to", url).expect_err(url);
            assert!(text.contains(reported), "{text}");
        }
        let text = parse("--to", "mysql://host/shop").expect_err("no user");
        assert!(text.starts_with("--to") && text.contains("user"), "{text}");
    }
}
