//! Starts real servers in temporary folders, as a user without rights, and stops them when dropped.

#![allow(dead_code, reason = "each test binary uses what it needs")]

pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod whole;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    user() == 0
}

fn user() -> u32 {
    fs::metadata("/proc/self").expect("this is Linux").uid()
}

/// A program that servers refuse to be when it is run by root.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A new folder that belongs to whom servers run as.
fn new_folder() -> PathBuf {
    let folder =
        std::env::temp_dir().join(format!("headgate-test-{:032x}", rand::random::<u128>()));
    fs::create_dir(&folder).expect("the temporary folder can be created");
    give_away(&folder);
    folder
}

fn give_away(folder: &Path) {
    if is_root() {
        chown(folder, Some(NOBODY), Some(NOBODY)).expect("the folder can be given away");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port is free")
        .port()
}

/// The folder of a server's programs: named in the environment, fetched, or installed.
fn root_of(title: &str, variable: &str, folder: &str, installed: &str, program: &str) -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/servers/{folder}"));
    let root = std::env::var_os(variable)
        .map(PathBuf::from)
        .into_iter()
        .chain([ours, PathBuf::from(installed)])
        .find(|root| daemon(root, program).exists())
        .unwrap_or_else(|| {
            panic!("no {title}: run tests/servers/fetch, or name the folder that holds its bin in {variable}")
        });
    let root = root.canonicalize().expect("the folder is there");
    if is_root() { reachable(&root) } else { root }
}

/// The path of a server's program; packages put some into `sbin`.
fn daemon(root: &Path, program: &str) -> PathBuf {
    let apart = root.join("sbin").join(program);
    if apart.exists() {
        apart
    } else {
        root.join("bin").join(program)
    }
}

/// The same programs where the user nobody can run them: a clone may lie in somebody's private folder.
fn reachable(root: &Path) -> PathBuf {
    let open = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
    };
    if root.ancestors().all(open) {
        return root.to_owned();
    }
    kept("server", root, |work| {
        let copied = Command::new("cp")
            .arg("-R")
            .arg(root.join("."))
            .arg(work)
            .status();
        assert!(
            copied.is_ok_and(|status| status.success()),
            "the server can be copied"
        );
    })
}

/// A folder that stays for the next test; `make` fills it the first time.
fn kept(name: &str, which: impl Hash, make: impl FnOnce(&Path)) -> PathBuf {
    let mut hash = DefaultHasher::new();
    // Another user's folder is none for us.
    (which, user()).hash(&mut hash);
    let kept = std::env::temp_dir().join(format!("headgate-test-{name}-{:016x}", hash.finish()));
    if kept.exists() {
        return kept;
    }
    let work = kept.with_extension(format!("{:032x}", rand::random::<u128>()));
    fs::create_dir(&work).expect("the temporary folder can be created");
    make(&work);
    fs::set_permissions(&work, fs::Permissions::from_mode(0o755)).expect("it can be opened to all");
    // Renamed when complete: whoever runs beside us sees a whole folder or none.
    if fs::rename(&work, &kept).is_err() {
        let _ = fs::remove_dir_all(&work);
    }
    kept
}
