//! Cuts a table's key space into ranges that cover it without a gap, so that surplus rows are seen too.

use tokio_postgres::Client;

use super::catalogue::Described;
use crate::error::Result;
use crate::postgres::client::failed;
use crate::postgres::sql::{quote_ident, quote_literal};

/// More ranges than this would only cost time.
const RANGES_MAX: u64 = 4096;

/// Some of a table's rows.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    /// Which, for people.
    pub(crate) title: String,
    /// Which, for SQL.
    pub(crate) condition: String,
}

/// The ranges of a table, with about `rows_max` rows each where its key is a whole number; else all in one.
pub(crate) async fn cut(client: &Client, table: &Described, rows_max: u64) -> Result<Vec<Range>> {
    let whole = || vec![Range { title: "all".to_owned(), condition: "true".to_owned() }];
    let number = match table.key.first().and_then(|name| table.columns.get(name)) {
        Some((kind, _)) => matches!(kind.as_str(), "smallint" | "integer" | "bigint"),
        None => false,
    };
    let wanted = (table.rows_estimated / rows_max.max(1)).min(RANGES_MAX);
    let (true, Some(key), true) = (number, table.key.first(), wanted >= 1) else {
        return Ok(whole());
    };
    let name = quote_ident(key);
    let query = format!("SELECT min({name})::int8, max({name})::int8 FROM ONLY {}", table.relation);
    let cannot = |error| failed(&format!("cannot read the key's bounds of {}", table.title), error);
    let row = client.query_one(&query, &[]).await.map_err(cannot)?;
    let bound = |index| row.try_get::<_, Option<i64>>(index).map_err(cannot);
    let (Some(low), Some(high)) = (bound(0)?, bound(1)?) else {
        return Ok(whole());
    };
    Ok(between(key, &name, &bounds(low, high, wanted + 1)))
}

/// Where the ranges meet.
fn bounds(low: i64, high: i64, ranges: u64) -> Vec<i64> {
    let width = i128::from(high) - i128::from(low);
    let ranges = i128::from(ranges);
    let mut bounds: Vec<i64> =
        (1..ranges).filter_map(|index| i64::try_from(i128::from(low) + width * index / ranges).ok()).collect();
    bounds.dedup();
    bounds
}

fn between(key: &str, name: &str, bounds: &[i64]) -> Vec<Range> {
    let mut ranges = Vec::with_capacity(bounds.len() + 1);
    let mut low: Option<i64> = None;
    for high in bounds.iter().copied().map(Some).chain([None]) {
        let from = low.map(|low| (format!("{low} <= "), format!("{name} >= {}", constant(low))));
        let to = high.map(|high| (format!(" < {high}"), format!("{name} < {}", constant(high))));
        let (before, from) = from.unwrap_or_default();
        let (after, to) = to.unwrap_or_default();
        let condition = match (from.is_empty(), to.is_empty()) {
            (true, true) => "true".to_owned(),
            (false, true) => from,
            (true, false) => to,
            (false, false) => format!("{from} AND {to}"),
        };
        ranges.push(Range { title: format!("{before}{key}{after}"), condition });
        low = high;
    }
    ranges
}

fn constant(value: i64) -> String {
    format!("{}::int8", quote_literal(&value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{between, bounds};

    #[test]
    fn ranges_meet_without_gap_or_overlap_whatever_the_bounds() {
        for (low, high, ranges) in [(1, 100, 7), (i64::MIN, i64::MAX, 9), (5, 5, 3), (-3, 2, 4096)] {
            let bounds = bounds(low, high, ranges);
            let mut sorted = bounds.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(bounds, sorted);
            let made = between("k", "k", &bounds);
            assert_eq!(made.len(), bounds.len() + 1);
            for pair in made.windows(2) {
                let end = pair[0].title.split(" < ").last();
                let start = pair[1].title.split(" <= ").next();
                assert_eq!(end, start);
            }
        }
    }
}
