//! Chooses the engine: the one `match` on it in the whole program.

use std::process::ExitCode;

use proxy::config::Engine as Kind;

use super::engine::{Engine as _, Task};
use super::mysql::Mysql;
use super::postgres::Postgres;

/// Carries a task out for the engine of that kind.
pub(crate) async fn with(kind: Kind, task: impl Task) -> ExitCode {
    match kind {
        Kind::Postgres => task.run::<Postgres>().await,
        Kind::Mysql => task.run::<Mysql>().await,
    }
}

/// The engine that a URL is for.
pub(crate) fn of_url(option: &str, url: &str) -> Result<Kind, String> {
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("postgresql" | "postgres") => Ok(Kind::Postgres),
        Some("mysql" | "mariadb") => Ok(Kind::Mysql),
        _ => Err(format!("{option}: write {} or {}", Postgres::URL, Mysql::URL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_of_a_url_tells_the_engine() {
        assert_eq!(of_url("--from", "mariadb://me@db/shop"), Ok(Kind::Mysql));
        assert_eq!(of_url("--from", "postgres://me@db/shop"), Ok(Kind::Postgres));
        let text = of_url("--from", "oracle://me@db/shop").expect_err("not served");
        assert!(text.contains("mysql://") && text.contains("postgresql://"));
    }
}
