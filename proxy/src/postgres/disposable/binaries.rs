//! The programs of one server version: where they are, and a copy that every user can run.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ground::{ground, new_folder, open_to_all};
use super::{Error, tail, while_doing};

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
    let complete = |root: &Path| {
        ["postgres", "initdb"]
            .iter()
            .all(|name| root.join("bin").join(name).is_file())
    };
    let looked = candidates(version);
    match looked.iter().find(|root| complete(root)) {
        Some(root) => {
            let root = while_doing(root.canonicalize(), || {
                format!("resolving {}", root.display())
            })?;
            Ok(Binaries { version, root })
        }
        None => Err(Error::NotFound { version, looked }),
    }
}

fn candidates(version: u32) -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os(format!("HEADGATE_POSTGRES_{version}")) {
        // Who names a folder wants that one: a silent fallback would test another server.
        return vec![PathBuf::from(named)];
    }
    let folder = format!("servers/postgres-{version}");
    let mut found = vec![Path::new("target").join(&folder)];
    if let Some(workspace) = std::env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .as_deref()
        .and_then(Path::parent)
    {
        found.push(workspace.join("target").join(&folder));
    }
    if let Ok(program) = std::env::current_exe() {
        found.extend(
            program
                .ancestors()
                .filter(|folder| folder.ends_with("target"))
                .map(|target| target.join(&folder)),
        );
    }
    found.push(PathBuf::from(format!("/usr/lib/postgresql/{version}")));
    found
}

/// The same programs where the user nobody can run them: a clone may lie in somebody's private folder.
pub(super) fn reachable(binaries: &Binaries) -> Result<Binaries, Error> {
    if open_to_all(&binaries.program("postgres")) {
        return Ok(binaries.clone());
    }
    let from = &binaries.root;
    let seen = while_doing(fs::metadata(binaries.program("postgres")), || {
        format!("looking at {}", from.display())
    })?;
    let mut which = DefaultHasher::new();
    (from, seen.mtime(), seen.len()).hash(&mut which);
    let name = format!(
        "headgate-server-{}-{:016x}",
        binaries.version,
        which.finish()
    );
    let kept = ground().join(&name);
    let ours = |folder: &Path| {
        fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir() && found.uid() == 0)
    };
    if !ours(&kept) {
        let work = new_folder(&ground(), &name)?;
        let copy = Command::new("cp")
            .arg("-R")
            .arg(from.join("."))
            .arg(&work)
            .output();
        let copy = while_doing(copy, || format!("copying {}", from.display()))?;
        if !copy.status.success() {
            return Err(Error::Failed {
                what: format!("copying {} failed", from.display()),
                output: tail(&copy.stderr),
            });
        }
        let opened = fs::set_permissions(&work, fs::Permissions::from_mode(0o755));
        while_doing(opened, || format!("opening {} to all", work.display()))?;
        // Renamed when complete: whoever runs beside us sees a whole server or none.
        if fs::rename(&work, &kept).is_err() {
            let _ = fs::remove_dir_all(&work);
        }
    }
    if !ours(&kept) {
        return Err(Error::Failed {
            what: format!("{} belongs to somebody else", kept.display()),
            output: String::new(),
        });
    }
    Ok(Binaries {
        version: binaries.version,
        root: kept,
    })
}
