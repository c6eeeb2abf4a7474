//! Makes a configuration from the two URLs of `headgate migrate`.

use std::fmt::Write as _;

use proxy::config::{Cluster, Config, Engine as Kind, Method, Route, Secret, User};
use rand::Rng as _;

use crate::command::Migrate;
use crate::engine::Engine;

/// The source's name in reports.
pub(super) const SOURCE: &str = "source";
/// The target's name in reports.
pub(super) const TARGET: &str = "target";

/// The configuration, and the route that moves.
pub(super) fn config<E: Engine>(migrate: &Migrate) -> Result<(Config, String), String> {
    let (mut source, database) = whole_end::<E>("--from", &migrate.from)?;
    let (mut target, other) = whole_end::<E>("--to", &migrate.to)?;
    for (cluster, name) in [(&mut source, "HEADGATE_SOURCE_PASSWORD"), (&mut target, "HEADGATE_TARGET_PASSWORD")] {
        if cluster.password.is_none() {
            cluster.password = std::env::var(name).ok().map(Secret::new);
        }
    }
    if database != other {
        return Err(format!(
            "--to: names the database {other:?}, --from names {database:?}; both must have the same name"
        ));
    }
    let text = format!(
        "[admin]\npassword = \"{}\"\n[clusters.source]\nengine = \"{}\"\nhost = \"-\"\nuser = \"-\"\n",
        password(),
        source.engine.word()
    );
    let config = Config::parse(&text, &|_| None);
    let mut config = config.map_err(|problems| format!("{problems:?}"))?;
    if source.engine == Kind::Postgres {
        match &source.password {
            // Nobody gets in without the password that the servers would ask for.
            Some(password) => {
                let user = User { password: Some(password.clone()), certificate: None };
                config.users.insert(source.user.clone(), user);
                config.login.method = Method::ScramSha256;
            }
            None => config.login.method = Method::Trust,
        }
    }
    config.clusters = [(SOURCE.to_owned(), source), (TARGET.to_owned(), target)].into();
    let route = Route { cluster: SOURCE.to_owned(), database: database.clone() };
    config.routes = [(database.clone(), route)].into();
    config.journal.path.clone_from(&migrate.journal);
    config.migrator.pg_dump.clone_from(&migrate.pg_dump);
    config.migrator.pg_restore.clone_from(&migrate.pg_restore);
    config.migrator.copy_workers = usize::from(migrate.copy_workers);
    Ok((config, database))
}

fn whole_end<E: Engine>(option: &str, url: &str) -> Result<(Cluster, String), String> {
    let (cluster, database) = E::parse_url(option, url)?;
    let database = database.ok_or_else(|| format!("{option}: names no database; write {}", E::URL))?;
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
