//! Where throwaway servers live, and as whom they run.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Error, while_doing};

/// Whom the servers run as when we are root, which they refuse.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// None when we are an ordinary user: `ours` is a folder that we have just made.
    pub(crate) fn for_servers(ours: &Path) -> Result<Option<Self>, Error> {
        let owner = while_doing(fs::metadata(ours), || format!("looking at {}", ours.display()))?.uid();
        if owner != 0 {
            return Ok(None);
        }
        let accounts = while_doing(fs::read_to_string("/etc/passwd"), || "reading /etc/passwd".to_owned())?;
        let nobody = accounts.lines().find_map(|line| {
            let mut fields = line.strip_prefix("nobody:")?.split(':').skip(1);
            Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        });
        nobody.map(Some).ok_or_else(|| Error::Failed {
            what: "a database server refuses to run as root, and /etc/passwd has no user nobody".to_owned(),
            output: String::new(),
        })
    }
}

/// True when every user may pass through the folder and all above it.
pub(crate) fn open_to_all(folder: &Path) -> bool {
    folder.ancestors().all(|part| fs::metadata(part).is_ok_and(|found| found.mode() & 0o001 != 0))
}

/// The folder for the servers' folders: the temporary one, unless other users cannot reach it.
pub(crate) fn ground() -> PathBuf {
    let wanted = std::env::temp_dir();
    if open_to_all(&wanted) { wanted } else { PathBuf::from("/tmp") }
}

/// A folder in `ground` that nobody has: an earlier process of the same number may have left its own behind.
pub fn new_folder(ground: &Path, name: &str) -> Result<PathBuf, Error> {
    let mut number = 0_u32;
    loop {
        let folder = ground.join(format!("{name}-{}-{number}", std::process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(source) => {
                return Err(Error::Io { doing: format!("creating {}", folder.display()), source });
            }
        }
    }
}
