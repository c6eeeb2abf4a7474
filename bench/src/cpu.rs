//! The CPU time that a process has used, from the kernel's own account.

use std::fs;
use std::time::Duration;

/// Linux shows CPU times to programs in hundredths of a second on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// What all threads of a process have used so far, those that have ended too.
pub(crate) fn used(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, after) = stat.rsplit_once(") ").expect("Linux writes it so");
    let field = |index: usize| -> u32 {
        let field = after.split(' ').nth(index);
        field
            .and_then(|ticks| ticks.parse().ok())
            .expect("Linux writes it so")
    };
    TICK * (field(11) + field(12))
}

/// Microseconds per piece of work.
pub(crate) fn micros_per(used: Duration, pieces: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a quotient for people")]
    let pieces = pieces.max(1) as f64;
    used.as_secs_f64() * 1e6 / pieces
}
