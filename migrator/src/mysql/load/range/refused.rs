//! Which row and column the target did not take, told without any value of the row but its key.

use crate::mysql::records::ChunkRecord;

/// Where the rows of a chunk are in their table.
pub(super) fn place(chunk: &ChunkRecord) -> String {
    let key = |parts: &Option<Vec<String>>| parts.as_ref().map(|parts| parts.join(", "));
    match (key(&chunk.lo), key(&chunk.hi)) {
        (None, None) => String::new(),
        (Some(lo), None) => format!(" (rows with a key above {lo})"),
        (None, Some(hi)) => format!(" (rows with a key up to {hi})"),
        (Some(lo), Some(hi)) => format!(" (rows with a key above {lo}, up to {hi})"),
    }
}

/// What a server's warning says of itself: its number, the column and the place of the row among those that were sent. What
/// it quotes of the row comes before these.
pub(super) fn warning(code: &str, message: &str) -> String {
    let mut reported = format!(" (first warning: error {code}");
    if let Some((_, after)) = message.rsplit_once("for column '")
        && let Some((column, _)) = after.rsplit_once("' at row")
    {
        reported.push_str(", column ");
        reported.push_str(column);
    }
    let row = message.rsplit_once("at row ").map(|(_, row)| row);
    if let Some(row) = row.filter(|row| row.bytes().all(|byte| byte.is_ascii_digit())) {
        reported.push_str(", row ");
        reported.push_str(row);
        reported.push_str(" of those sent");
    }
    reported.push(')');
    reported
}

#[cfg(test)]
mod tests {
    use super::{place, warning};
    use crate::mysql::records::ChunkRecord;

    #[test]
    fn a_chunk_is_told_by_its_keys() {
        let chunk = |lo: Option<&str>, hi: Option<&str>| {
            let key = |key: Option<&str>| key.map(|key| vec![key.to_owned(), "'b'".to_owned()]);
            let (lo, hi) = (key(lo), key(hi));
            place(&ChunkRecord { number: 1, lo, hi, loaded: false })
        };
        assert_eq!(chunk(None, None), "");
        assert_eq!(chunk(Some("1"), Some("9")), " (rows with a key above 1, 'b', up to 9, 'b')");
        assert_eq!(chunk(None, Some("9")), " (rows with a key up to 9, 'b')");
    }

    #[test]
    fn a_warning_is_told_without_the_value_that_it_quotes() {
        let message = "Incorrect time value: 'for column 'x' at row 9' for column 'o'clock' at row 12";
        assert_eq!(warning("1292", message), " (first warning: error 1292, column o'clock, row 12 of those sent)");
        assert_eq!(warning("3819", "Check constraint 'c' is violated."), " (first warning: error 3819)");
    }
}
