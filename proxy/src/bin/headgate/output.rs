//! What the program prints: answers on standard output, problems on standard error.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Prints an answer. A reader that has gone away is not an error.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Prints a problem.
pub(crate) fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "headgate: {text}"));
}

/// Prints a problem that ends the command.
pub(crate) fn fail(text: &str) -> ExitCode {
    complain(text);
    ExitCode::FAILURE
}

/// Lays out rows under their columns' names, as wide as their widest value.
pub(crate) fn table(columns: &[String], rows: &[Vec<Option<String>>]) -> String {
    let cell = |value: &Option<String>| value.clone().unwrap_or_default().replace('\n', " ");
    let width = |at: usize| {
        let values = rows.iter().filter_map(|row| row.get(at)).map(|value| cell(value).chars().count());
        let name = columns.get(at).map_or(0, |name| name.chars().count());
        values.max().unwrap_or(0).max(name)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: Vec<String>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
    };
    line(columns.to_vec());
    line(widths.iter().map(|width| "-".repeat(*width)).collect());
    for row in rows {
        line(row.iter().map(cell).collect());
    }
    text
}

/// Lays out one wide row as a line for each value.
pub(crate) fn record(columns: &[String], row: &[Option<String>]) -> String {
    let width = columns.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in columns.iter().zip(row) {
        let value = value.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{}", format!("{name:<width$}  {value}").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_value() {
        let columns = ["id".to_owned(), "state".to_owned()];
        let rows = [vec![Some("größe".to_owned()), Some("copying".to_owned())], vec![Some("m".to_owned()), None]];
        assert_eq!(table(&columns, &rows), "id     state\n-----  -------\ngröße  copying\nm\n");
        assert_eq!(record(&columns, &rows[0]), "id     größe\nstate  copying\n");
    }
}
