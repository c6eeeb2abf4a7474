//! What the person at the terminal sees: headings, lines, and progress that redraws itself where it can.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

/// Where nothing can be redrawn, a status line appears this often.
const PLAIN_EVERY: Duration = Duration::from_secs(2);
const REDRAWS_PER_SECOND: u8 = 10;

/// Standard output: a terminal, or a plain stream of lines without control characters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    terminal: bool,
}

impl Screen {
    /// Looks at what standard output is.
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal() }
    }

    fn print(text: &str) {
        // A reader that went away is no reason to leave the servers running: the demo goes on to its end.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.terminal { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The beginning of a part.
    pub(super) fn heading(self, text: &str) {
        Self::print("");
        Self::print(&self.paint("1", text));
    }

    /// An ordinary line.
    #[expect(clippy::unused_self, reason = "whatever is shown goes through a screen")]
    pub(super) fn line(self, text: &str) {
        Self::print(&format!("  {text}"));
    }

    /// Something that is as it should be.
    pub(super) fn good(self, text: &str) {
        Self::print(&format!("  {} {text}", self.paint("32", "ok")));
    }

    /// Something to know.
    pub(super) fn note(self, text: &str) {
        Self::print(&format!("  {} {text}", self.paint("33", "!!")));
    }

    /// Something that must not be.
    pub(super) fn bad(self, text: &str) {
        Self::print(&format!("  {} {text}", self.paint("31", "NO")));
    }

    /// The last word.
    pub(super) fn verdict(self, passed: bool, text: &str) {
        Self::print("");
        Self::print(&self.paint(if passed { "1;32" } else { "1;31" }, text));
    }

    /// Columns that line up: two on the left, or figures on the right of the first.
    pub(super) fn table(self, rows: &[Vec<String>]) {
        for line in lined_up(rows) {
            self.line(&line);
        }
    }

    /// What something is, and how to get at it, on two lines each.
    pub(super) fn pairs(self, rows: &[(String, String)]) {
        for (what, how) in rows {
            self.line(what);
            self.line(&format!("    {how}"));
        }
    }

    /// Progress that is shown until it is finished.
    pub(super) fn live(self, label: &str) -> Live {
        let target = if self.terminal {
            ProgressDrawTarget::stdout_with_hz(REDRAWS_PER_SECOND)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let plain = ProgressStyle::default_bar();
        bar.set_style(plain.template("  {prefix:<10} {bar:28} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(label.to_owned());
        Live { screen: self, label: label.to_owned(), bar, said: None }
    }
}

/// Progress on the screen.
pub(super) struct Live {
    screen: Screen,
    label: String,
    bar: ProgressBar,
    said: Option<Instant>,
}

impl Live {
    /// Shows how far it is, of how much, and more in words.
    pub(super) fn show(&mut self, done: u64, all: u64, text: &str) {
        if self.screen.terminal {
            self.bar.set_length(all.max(1));
            self.bar.set_position(done.min(all.max(1)));
            self.bar.set_message(text.to_owned());
        } else if self.said.is_none_or(|said| said.elapsed() >= PLAIN_EVERY) {
            self.said = Some(Instant::now());
            let percent = done.saturating_mul(100).checked_div(all).unwrap_or(0).min(100);
            self.screen.line(&format!("{:<10} {percent:>3} %  {text}", self.label));
        }
    }

    /// Takes the bar away and leaves a line in its place.
    pub(super) fn finish(self, text: &str) {
        self.bar.finish_and_clear();
        self.screen.good(text);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn lined_up(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    let line = |row: &Vec<String>| {
        let mut text = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.chars().count());
            let parts = match column {
                0 => ["", cell, &gap],
                1 if columns == 2 => ["  ", cell, ""],
                _ => ["  ", &gap, cell],
            };
            text.extend(parts);
        }
        text.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: &[&[&str]], expected: &[&str]) {
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(lined_up(&rows), expected);
    }

    #[test]
    fn figures_end_and_words_begin_in_the_same_column() {
        check(&[&["", "p50", "max"], &["before", "1.0", "12.5"]], &["        p50   max", "before  1.0  12.5"]);
        check(&[&["gate", "1 ms"], &["all of it", "20 ms"]], &["gate       1 ms", "all of it  20 ms"]);
        check(&[], &[]);
    }
}
