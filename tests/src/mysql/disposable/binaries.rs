//! The servers of this family that can be thrown away, and where their programs are.

use std::path::{Path, PathBuf};

use crate::disposable::{Error, Wanted};

/// A server and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// MySQL 9.7.
    Mysql97,
    /// MySQL 5.6.
    Mysql56,
    /// MariaDB 10.11.
    Mariadb1011,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mysql97, Self::Mysql56, Self::Mariadb1011];

    /// The name that people know it by.
    pub fn title(self) -> &'static str {
        match self {
            Self::Mysql97 => "MySQL 9.7",
            Self::Mysql56 => "MySQL 5.6",
            Self::Mariadb1011 => "MariaDB 10.11",
        }
    }

    /// The first two numbers of what it calls its version.
    pub fn version(self) -> &'static str {
        match self {
            Self::Mysql97 => "9.7",
            Self::Mysql56 => "5.6",
            Self::Mariadb1011 => "10.11",
        }
    }

    /// Its folder in `target/servers`.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Mysql97 => "mysql-9.7",
            Self::Mysql56 => "mysql-5.6",
            Self::Mariadb1011 => "mariadb-10.11",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Mysql97 => "HEADGATE_MYSQL_97",
            Self::Mysql56 => "HEADGATE_MYSQL_56",
            Self::Mariadb1011 => "HEADGATE_MARIADB_1011",
        }
    }

    /// The server's program.
    pub(super) fn server(self) -> &'static str {
        match self {
            Self::Mysql97 | Self::Mysql56 => "mysqld",
            Self::Mariadb1011 => "mariadbd",
        }
    }
}

/// The programs of one server.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// Which server.
    pub kind: Kind,
    /// The folder that holds `bin` and `share`.
    pub root: PathBuf,
}

impl Binaries {
    /// The path of one of the programs; packages put servers into `sbin`.
    pub fn program(&self, name: &str) -> PathBuf {
        program(&self.root, name)
    }

    /// The file of this name among those that the server's own tables are made of.
    pub(super) fn share(&self, name: &str) -> PathBuf {
        let share = self.root.join("share");
        let folders = [share.clone(), share.join("mysql"), share.join("mariadb")];
        let found = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        found.unwrap_or_else(|| share.join(name))
    }
}

fn program(root: &Path, name: &str) -> PathBuf {
    let daemon = root.join("sbin").join(name);
    if daemon.is_file() {
        return daemon;
    }
    root.join("bin").join(name)
}

/// Finds a server: named in the environment, fetched into `target/servers`, or installed by Debian.
pub fn find(kind: Kind) -> Result<Binaries, Error> {
    let wanted = Wanted {
        server: kind.title().to_owned(),
        variable: kind.variable().to_owned(),
        folder: kind.folder().to_owned(),
        installed: match kind {
            Kind::Mariadb1011 => PathBuf::from("/usr"),
            Kind::Mysql97 | Kind::Mysql56 => PathBuf::from(format!("/opt/{}", kind.folder())),
        },
        program: kind.server(),
    };
    let root = wanted.find(|root| program(root, kind.server()).is_file())?;
    Ok(Binaries { kind, root })
}
