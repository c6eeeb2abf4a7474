//! The data directory that a new server begins with: made once, then copied with an identity of its own, because `initdb` takes
//! a second of a processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disposable::ground::Account;
use crate::disposable::process::run;
use crate::disposable::reachable::{data_folder, identity, kept};
use crate::disposable::{Error, while_doing};

use super::binaries::Binaries;

/// What `initdb` is told besides the folder.
const ARGUMENTS: [&str; 8] = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"];
/// The file whose first eight bytes are the system identifier, and whose fields are followed by their CRC-32C.
const CONTROL: &str = "global/pg_control";
/// The first file of the log, and where its first page has the system identifier.
const LOG: &str = "pg_wal/000000010000000000000001";
const IDENTIFIER_IN_LOG: usize = 24;
/// The fields of every version end before this.
const FIELDS_MAX: usize = 512;

/// The folder whose `data` is a fresh data directory of this server, of the account that servers run as.
pub(super) async fn template(
    binaries: &Binaries,
    account: Option<&Account>,
    mut initdb: Command,
) -> Result<PathBuf, Error> {
    let label = format!("postgres-{}", binaries.version);
    let name = identity(&binaries.root, &binaries.program("initdb"), ARGUMENTS, &label)?;
    kept(&format!("headgate-template-{name}"), async |work| {
        let data = data_folder(work, account)?;
        initdb.args(ARGUMENTS).arg("-D").arg(data);
        run(initdb, "initdb").await
    })
    .await
}

/// Gives a copied data directory a system identifier that no other server has.
pub(super) fn make_different(data: &Path) -> Result<(), Error> {
    let identifier = rand::random::<u64>().to_ne_bytes();
    rewrite(&data.join(CONTROL), |control| {
        let end = (8..FIELDS_MAX).step_by(4).find(|&end| ends(control, end))?;
        control.get_mut(..8)?.copy_from_slice(&identifier);
        let crc = crc32c::crc32c(control.get(..end)?).to_ne_bytes();
        control.get_mut(end..end + 4)?.copy_from_slice(&crc);
        Some(())
    })?;
    rewrite(&data.join(LOG), |log| {
        log.get_mut(IDENTIFIER_IN_LOG..IDENTIFIER_IN_LOG + 8)?.copy_from_slice(&identifier);
        Some(())
    })
}

/// Whether the CRC-32C of what is before stands there.
fn ends(control: &[u8], end: usize) -> bool {
    let stored = control.get(end..end + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    control.get(..end).is_some_and(|fields| stored == Some(crc32c::crc32c(fields)))
}

fn rewrite(path: &Path, change: impl Fn(&mut [u8]) -> Option<()>) -> Result<(), Error> {
    let mut bytes = while_doing(fs::read(path), || format!("reading {}", path.display()))?;
    if change(&mut bytes).is_none() {
        return Err(Error::Failed { what: format!("{} is of another form", path.display()), output: String::new() });
    }
    while_doing(fs::write(path, bytes), || format!("writing {}", path.display()))
}
