//! SQLite's write-ahead log as a file: what a recovery would find committed in it, and room for records to come.
//!
//! A COMMIT that fails leaves the question whether its frames are on the disk all the same: a later process would then
//! recover what this one has undone. The file answers it. A recovery accepts frames from the start of the log as long as
//! salts and checksums fit, up to the last one that is marked as a commit (SQLite's file format, section 4.1). Bytes
//! that were never written cannot be on the disk, so a log without a new complete commit is proof that there is none.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const PAGE_BYTES: std::ops::RangeInclusive<usize> = 512..=65_536;

/// What a recovery would find: which log it is, and how much of it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    salts: [u32; 2],
    /// Where the last complete commit ends.
    bytes: u64,
    commits: u64,
}

impl Committed {
    /// Whether a commit is in `self` that was not in `before`.
    pub(super) fn has_more_than(&self, before: &Self) -> bool {
        if self.salts == before.salts { self.commits > before.commits } else { self.commits > 0 }
    }
}

/// The log that belongs to a database file.
pub(super) fn path_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Reads the log as a recovery would.
pub(super) fn committed(log: &Path) -> io::Result<Committed> {
    let mut file = BufReader::new(File::open(log)?);
    let mut header = [0; HEADER_BYTES];
    let none = Committed { salts: [0, 0], bytes: 0, commits: 0 };
    if !filled(&mut file, &mut header)? {
        return Ok(none);
    }
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    let big_endian = match word(&header, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return Ok(none),
    };
    let page = word(&header, 8) as usize;
    let mut sums = checksum([0, 0], header.get(..24).unwrap_or_default(), big_endian);
    if !PAGE_BYTES.contains(&page) || sums != [word(&header, 24), word(&header, 28)] {
        return Ok(none);
    }
    let salts = [word(&header, 16), word(&header, 20)];
    let mut found = Committed { salts, ..none };
    let mut frame = vec![0; FRAME_HEADER_BYTES + page];
    let mut at = HEADER_BYTES as u64;
    while filled(&mut file, &mut frame)? {
        sums = checksum(sums, frame.get(..8).unwrap_or_default(), big_endian);
        sums = checksum(sums, frame.get(FRAME_HEADER_BYTES..).unwrap_or_default(), big_endian);
        let fits = word(&frame, 0) != 0
            && [word(&frame, 8), word(&frame, 12)] == salts
            && [word(&frame, 16), word(&frame, 20)] == sums;
        if !fits {
            break;
        }
        at += frame.len() as u64;
        if word(&frame, 4) != 0 {
            found.commits += 1;
            found.bytes = at;
        }
    }
    Ok(found)
}

/// Cuts off whatever stands behind `kept`. Once this returned, nothing of it can be recovered.
pub(super) fn cut_back(log: &Path, kept: &Committed) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(log)?;
    file.set_len(kept.bytes)?;
    file.sync_all()
}

/// Makes the log at least so long, with real bytes: SQLite overwrites it in place and needs no room for that.
pub(super) fn extend(log: &Path, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(log)?;
    let have = file.seek(SeekFrom::End(0))?;
    fill(&mut file, bytes.saturating_sub(have), 0)
}

/// Appends so many bytes to a file and waits until they are on the disk.
pub(super) fn fill(file: &mut File, bytes: u64, byte: u8) -> io::Result<()> {
    let block = [byte; 4096];
    let mut left = bytes;
    while left > 0 {
        let some = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        file.write_all(block.get(..some).unwrap_or_default())?;
        left -= some as u64;
    }
    file.sync_all()
}

/// Whether the file still had so many bytes.
fn filled(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn checksum([mut one, mut two]: [u32; 2], bytes: &[u8], big_endian: bool) -> [u32; 2] {
    let (words, _) = bytes.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    let read = |word: [u8; 4]| {
        if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    for [first, second] in pairs {
        one = one.wrapping_add(read(*first)).wrapping_add(two);
        two = two.wrapping_add(read(*second)).wrapping_add(one);
    }
    [one, two]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn the_log_tells_each_complete_commit_and_none_that_was_cut_short() {
        let folder = std::env::temp_dir().join(format!("headgate-wal-{:x}", rand::random::<u64>()));
        std::fs::create_dir(&folder).expect("a new folder");
        let database = folder.join("d.sqlite");
        let log = path_of(&database);
        let connection = Connection::open(&database).expect("opens");
        connection.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (v TEXT)").expect("a table");
        let seen = |log: &Path| committed(log).expect("read");
        let before = seen(&log);
        connection.execute("INSERT INTO t VALUES ('x')", []).expect("a row");
        let after = seen(&log);
        assert!(after.has_more_than(&before), "{before:?} {after:?}");
        assert!(!after.has_more_than(&after));

        // Room behind the end is not a commit, and the next commit goes into it.
        extend(&log, 1 << 20).expect("longer");
        assert_eq!(seen(&log), after);
        connection.execute("INSERT INTO t VALUES ('y')", []).expect("a row");
        assert!(seen(&log).has_more_than(&after));
        assert_eq!(log.metadata().expect("there").len(), 1 << 20);

        // The last byte of a commit is missing: a recovery would not find it.
        let whole = seen(&log);
        let torn = folder.join("torn");
        std::fs::copy(&log, &torn).expect("copied");
        let file = OpenOptions::new().write(true).open(&torn).expect("opens");
        file.set_len(whole.bytes - 1).expect("cut");
        assert_eq!(seen(&torn).commits, whole.commits - 1);
        cut_back(&torn, &after).expect("cut");
        assert_eq!(seen(&torn), after);

        // A log that begins again has other salts, and nothing in it at first.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
        assert!(!seen(&log).has_more_than(&after));
        connection.execute("INSERT INTO t VALUES ('z')", []).expect("a row");
        assert!(seen(&log).has_more_than(&after));
        drop(connection);
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
