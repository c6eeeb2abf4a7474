//! The CPU time that a process has used, from the kernel's own account.

use std::fs;
use std::time::Duration;

/// What the threads that a process has now have used so far.
pub(crate) fn used(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let nanoseconds = threads.filter_map(|thread| {
        // A thread may end while we look.
        let said = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        said.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Microseconds per piece of work.
pub(crate) fn micros_per(used: Duration, pieces: f64) -> f64 {
    used.as_secs_f64() * 1e6 / pieces
}
