//! Cuts a table's key space into ranges that cover it without a gap, so that surplus rows are seen too.

use super::snapshot_pair::{Range, SnapshotPair};
use super::table::{Column, Described};
use crate::error::Result;

/// More ranges than this would only cost time.
const RANGES_MAX: u64 = 4096;

/// The ranges of a table, with about `rows_max` rows each where its key begins with a whole number; else all in one:
/// how other values are ordered is each server's own affair.
pub(crate) async fn cut<P: SnapshotPair>(
    pair: &mut P,
    table: &Described<P::Column>,
    rows_max: u64,
) -> Result<Vec<Range>> {
    let key = table.key.first().filter(|name| table.columns.get(*name).is_some_and(Column::is_whole_number));
    let wanted = (table.rows_estimated / rows_max.max(1)).min(RANGES_MAX);
    if let Some(key) = key
        && wanted >= 1
        && let Some((low, high)) = pair.bounds(table, key).await?
    {
        return Ok(between(key, &P::quoted(key), &bounds(low, high, wanted + 1), P::number));
    }
    Ok(vec![Range { title: "all".to_owned(), condition: "TRUE".to_owned() }])
}

/// Where the ranges meet. A key has 64 bits with or without a sign, so nothing overflows here.
fn bounds(low: i128, high: i128, ranges: u64) -> Vec<i128> {
    let width = high - low;
    let ranges = i128::from(ranges);
    let mut bounds: Vec<i128> = (1..ranges).map(|index| low + width * index / ranges).collect();
    bounds.dedup();
    bounds
}

fn between(key: &str, name: &str, bounds: &[i128], number: impl Fn(i128) -> String) -> Vec<Range> {
    let mut ranges = Vec::with_capacity(bounds.len() + 1);
    let mut low: Option<i128> = None;
    for high in bounds.iter().copied().map(Some).chain([None]) {
        let from = low.map(|low| (format!("{low} <= "), format!("{name} >= {}", number(low))));
        let to = high.map(|high| (format!(" < {high}"), format!("{name} < {}", number(high))));
        let (before, from) = from.unwrap_or_default();
        let (after, to) = to.unwrap_or_default();
        let condition = match (from.is_empty(), to.is_empty()) {
            (true, true) => "TRUE".to_owned(),
            (false, true) => from,
            (true, false) => to,
            (false, false) => format!("{from} AND {to}"),
        };
        ranges.push(Range { title: format!("{before}{key}{after}"), condition });
        low = high;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::{between, bounds};

    #[test]
    fn ranges_meet_without_gap_or_overlap_whatever_the_bounds() {
        let widest = (i128::from(i64::MIN), i128::from(u64::MAX));
        let signed = (i128::from(i64::MIN), i128::from(i64::MAX));
        for (low, high, ranges) in
            [(1, 100, 7), (signed.0, signed.1, 9), (widest.0, widest.1, 4097), (5, 5, 3), (-3, 2, 4096)]
        {
            let bounds = bounds(low, high, ranges);
            let mut sorted = bounds.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(bounds, sorted);
            let made = between("k", "k", &bounds, |number| number.to_string());
            assert_eq!(made.len(), bounds.len() + 1);
            for pair in made.windows(2) {
                let end = pair[0].title.split(" < ").last();
                let start = pair[1].title.split(" <= ").next();
                assert_eq!(end, start);
            }
        }
    }
}
