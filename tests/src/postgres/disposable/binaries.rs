//! The programs of one server version, and where they are.

use std::path::PathBuf;

use crate::disposable::{Error, Wanted};

/// The programs of one server version.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The major version.
    pub version: u32,
    /// The folder that holds `bin`, `lib` and `share`.
    pub root: PathBuf,
}

impl Binaries {
    /// The path of one of the server's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }
}

/// Finds the server of a major version: named in the environment, fetched into `target/servers`, or installed by Debian.
pub fn find(version: u32) -> Result<Binaries, Error> {
    let wanted = Wanted {
        server: format!("PostgreSQL {version}"),
        variable: format!("HEADGATE_POSTGRES_{version}"),
        folder: format!("postgres-{version}"),
        installed: PathBuf::from(format!("/usr/lib/postgresql/{version}")),
        program: "postgres",
    };
    let root = wanted.find(|root| ["postgres", "initdb"].iter().all(|name| root.join("bin").join(name).is_file()))?;
    Ok(Binaries { version, root })
}
