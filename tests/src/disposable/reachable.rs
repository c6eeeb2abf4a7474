//! Server programs, and data to begin with, where the user that the servers run as can use them.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ground::{Account, ground, new_folder, open_to_all};
use super::process::run;
use super::{Error, while_doing};

/// The same programs where the user nobody can run them: a clone may lie in somebody's private folder.
pub(crate) async fn reachable(root: &Path, program: &Path, label: &str) -> Result<PathBuf, Error> {
    if open_to_all(program) {
        return Ok(root.to_owned());
    }
    let name = format!("headgate-server-{}", identity(root, program, (), label)?);
    kept(&name, async |work| {
        copy(root, work).await?;
        let opened = fs::set_permissions(work, fs::Permissions::from_mode(0o755));
        while_doing(opened, || format!("opening {} to all", work.display()))
    })
    .await
}

/// A name that changes with the program, and with what else decides on what is made by it.
pub(crate) fn identity(root: &Path, program: &Path, recipe: impl Hash, label: &str) -> Result<String, Error> {
    let seen = while_doing(fs::metadata(program), || format!("looking at {}", program.display()))?;
    let mut which = DefaultHasher::new();
    (root, seen.mtime(), seen.len(), recipe).hash(&mut which);
    Ok(format!("{label}-{:016x}", which.finish()))
}

/// A folder of ours among the servers' folders, which stays; `make` fills it the first time.
pub(crate) async fn kept(name: &str, make: impl AsyncFnOnce(&Path) -> Result<(), Error>) -> Result<PathBuf, Error> {
    let owner = while_doing(fs::metadata("/proc/self"), || "looking at /proc/self".into())?.uid();
    let name = format!("{name}-of-{owner}");
    let folder = ground().join(&name);
    if !folder.exists() {
        let work = new_folder(&ground(), &name)?;
        if let Err(error) = make(&work).await {
            let _ = fs::remove_dir_all(&work);
            return Err(error);
        }
        // Renamed when complete: whoever runs beside us sees a whole folder or none.
        if fs::rename(&work, &folder).is_err() {
            let _ = fs::remove_dir_all(&work);
        }
    }
    let ours = fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir() && found.uid() == owner);
    if ours {
        Ok(folder)
    } else {
        Err(Error::Failed { what: format!("{} belongs to somebody else", folder.display()), output: String::new() })
    }
}

/// A new folder `data` in another one, of the account that servers run as.
pub(crate) fn data_folder(work: &Path, account: Option<&Account>) -> Result<PathBuf, Error> {
    let data = work.join("data");
    let made = fs::create_dir(&data).and_then(|()| match account {
        Some(account) => chown(&data, Some(account.uid), Some(account.gid)),
        None => Ok(()),
    });
    while_doing(made, || format!("creating {}", data.display()))?;
    Ok(data)
}

/// Copies what a folder holds into another.
pub(crate) async fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut copy = Command::new("cp");
    copy.arg("-R").arg(from.join(".")).arg(to);
    run(copy, &format!("copying {}", from.display())).await
}
