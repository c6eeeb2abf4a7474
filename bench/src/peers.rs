//! Where the peers' programs are, and a folder for each that runs.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// The user that daemons run as when we are root, which they refuse; Debian's number.
pub(crate) const NOBODY: u32 = 65534;

/// Finds a peer's program: in the folder that the environment names, fetched into `target/servers`, or on PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("HEADGATE_PEERS").map(PathBuf::from);
    // `make` runs in the clone's own folder.
    let fetched = std::env::current_dir().ok().map(|clone| clone.join("target/servers/peers/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut folders = named.into_iter().chain(fetched).chain(installed);
    folders.find_map(|folder| Some(folder.join(name)).filter(|program| program.is_file()))
}

/// A new folder in the temporary one, removed with this value.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes one.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("headgate-bench-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A loopback port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("it is bound").port()
}
