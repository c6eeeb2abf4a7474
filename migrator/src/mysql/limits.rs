//! What a server takes in one transaction, by its own settings: batches of the copy and of the follower stay below it.

use mysql_async::Conn;

use super::catalogue::ask;
use crate::error::Result;

/// The settings, and the one that must be on for each to count.
const BYTES: [(&str, &str); 3] = [
    ("max_binlog_cache_size", "log_bin"),
    ("group_replication_transaction_size_limit", ""),
    ("wsrep_max_ws_size", "wsrep_on"),
];
const ROWS: (&str, &str) = ("wsrep_max_ws_rows", "wsrep_on");
/// A batch is planned for this part of the limit: rows differ in size, and a changed row counts with its old and new values.
const PART: u64 = 4;
/// What no batch of Headgate's comes near.
const AMPLE: u64 = 1 << 30;

/// How large a transaction a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransactionLimit {
    bytes: u64,
    rows: u64,
}

impl TransactionLimit {
    /// No limit that matters.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self { bytes: u64::MAX, rows: u64::MAX };

    /// Asks a server.
    pub(crate) async fn of(session: &mut Conn) -> Result<Self> {
        let names = BYTES.iter().chain([&ROWS]).flat_map(|(name, with)| [*name, *with]);
        let names: Vec<String> = names.filter(|name| !name.is_empty()).map(|name| format!("'{name}'")).collect();
        let query = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", names.join(", "));
        let rows = ask(session, &query, "cannot read how large a transaction the target takes").await?;
        Ok(Self::read(|name| rows.iter().find(|row| row.text(0) == name).and_then(|row| row.get(1))))
    }

    /// Reads it from what tells a setting's value.
    pub(crate) fn read<'v>(setting: impl Fn(&str) -> Option<&'v str>) -> Self {
        let limit = |(name, with): (&str, &str)| {
            let counts = with.is_empty() || matches!(setting(with), Some("ON" | "1"));
            // Zero is none.
            let value = setting(name).filter(|_| counts)?.parse::<u64>().ok()?;
            (value > 0).then_some(value)
        };
        Self {
            bytes: BYTES.into_iter().filter_map(limit).min().unwrap_or(u64::MAX),
            rows: limit(ROWS).unwrap_or(u64::MAX),
        }
    }

    /// Whether batches must be smaller than they would be.
    pub(crate) fn is_low(self) -> bool {
        self.bytes < AMPLE || self.rows < u64::MAX
    }

    /// The bytes of a batch that would have so many.
    pub(crate) fn batch_bytes(self, wanted: u64) -> u64 {
        wanted.min(self.bytes / PART).max(1)
    }

    /// The rows of a batch that would have so many.
    pub(crate) fn batch_rows(self, wanted: u64) -> u64 {
        wanted.min(self.rows / PART).max(1)
    }

    /// The names of the settings by which the target takes less than the source, with both values.
    pub(crate) fn lower_on_target<'v>(
        source: impl Fn(&str) -> Option<&'v str>,
        target: impl Fn(&str) -> Option<&'v str>,
    ) -> Vec<(&'static str, u64, Option<u64>)> {
        let value = |setting: &dyn Fn(&str) -> Option<&'v str>, (name, with): (&str, &str)| {
            let counts = with.is_empty() || matches!(setting(with), Some("ON" | "1"));
            setting(name).filter(|_| counts)?.parse::<u64>().ok().filter(|value| *value > 0)
        };
        let all = BYTES.into_iter().chain([ROWS]);
        all.filter_map(|setting| {
            let here = value(&target, setting)?;
            let there = value(&source, setting);
            there.is_none_or(|there| there > here).then_some((setting.0, here, there))
        })
        .filter(|(_, here, _)| *here < AMPLE << 10)
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::TransactionLimit;

    #[test]
    fn the_lowest_limit_that_counts_is_kept_to_and_zero_is_none() {
        let read = |settings: &'static [(&str, &str)]| {
            TransactionLimit::read(|name| settings.iter().find(|(one, _)| *one == name).map(|(_, value)| *value))
        };
        let plain = read(&[("log_bin", "ON"), ("max_binlog_cache_size", "18446744073709547520")]);
        assert!(!plain.is_low());
        assert_eq!(plain.batch_bytes(64 << 20), 64 << 20);
        let unlogged = read(&[("log_bin", "OFF"), ("max_binlog_cache_size", "4096")]);
        assert_eq!(unlogged, TransactionLimit::NONE);
        let group = read(&[
            ("log_bin", "ON"),
            ("max_binlog_cache_size", "8388608"),
            ("group_replication_transaction_size_limit", "4194304"),
        ]);
        assert!(group.is_low());
        assert_eq!(group.batch_bytes(64 << 20), 1 << 20);
        let free =
            read(&[("group_replication_transaction_size_limit", "0"), ("wsrep_on", "OFF"), ("wsrep_max_ws_rows", "8")]);
        assert_eq!(free, TransactionLimit::NONE);
        let galera = read(&[("wsrep_on", "ON"), ("wsrep_max_ws_rows", "131072"), ("wsrep_max_ws_size", "2147483647")]);
        assert!(galera.is_low());
        assert_eq!((galera.batch_rows(100_000), galera.batch_rows(9)), (32_768, 9));
    }
}
