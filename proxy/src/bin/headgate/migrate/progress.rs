//! The bars of `headgate migrate`.

use std::cell::Cell;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use migrator::model::status::{CheckStatus, Status};

use crate::output::complain;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar for the copy, one for the comparison, and a line for the rest; plain lines where there is no terminal.
pub(super) struct Screen {
    plain: bool,
    written: Cell<Option<Instant>>,
    copy: ProgressBar,
    check: ProgressBar,
    line: ProgressBar,
}

impl Default for Screen {
    fn default() -> Self {
        let all = MultiProgress::new();
        let bar = |template: &str| {
            let bar = all.add(ProgressBar::new(0));
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        };
        Self {
            plain: !io::stderr().is_terminal(),
            written: Cell::new(None),
            copy: bar("copy   [{bar:40}] {percent:>3}% {human_pos}/{human_len} rows {msg}"),
            check: bar("check  [{bar:40}] {percent:>3}% {human_pos}/{human_len} ranges {msg}"),
            line: bar("{spinner} {msg}"),
        }
    }
}

impl Screen {
    /// Shows where the migration stands.
    pub(super) fn show(&self, status: &Status) {
        // The catalogue's estimate may be too small; a bar past its end would be a lie.
        self.copy.set_length(status.rows_estimated.max(status.rows_copied));
        self.copy.set_position(status.rows_copied);
        let eta = status.eta.map(|eta| format!(", {} s left", eta.as_secs())).unwrap_or_default();
        if let Some(rate) = status.rows_per_second {
            self.copy.set_message(format!("{rate:.0}/s{eta}"));
        }
        let lag = status.lag.map(|lag| format!(", {} ms behind", lag.as_millis())).unwrap_or_default();
        let applied = status.transactions_applied;
        let (state, stage) = (status.state, &status.stage);
        self.plainly(|| {
            let why = status.error.as_ref().map(|why| format!(", {why}")).unwrap_or_default();
            format!(
                "{state} {stage}: {} of about {} rows ({:.1} %){eta}{lag}{why}",
                status.rows_copied, status.rows_estimated, status.percent
            )
        });
        self.line.set_message(format!("{state} {stage}{lag}, {applied} transactions followed"));
        self.line.tick();
    }

    /// Shows how the comparison goes.
    pub(super) fn show_check(&self, check: &CheckStatus) {
        self.check.set_length(check.ranges);
        self.check.set_position(check.ranges_equal.saturating_add(check.ranges_different));
        self.check.set_message(check.verdict.name());
        self.plainly(|| {
            format!(
                "check {}: {} of {} ranges are equal, {} differ",
                check.verdict, check.ranges_equal, check.ranges, check.ranges_different
            )
        });
    }

    /// Says something above the bars.
    pub(super) fn note(&self, text: &str) {
        if self.plain {
            complain(text);
        } else {
            self.line.println(text);
        }
    }

    /// Writes a line where there is no terminal, now and then.
    fn plainly(&self, line: impl FnOnce() -> String) {
        let due = self.written.get().is_none_or(|at| at.elapsed() >= LINE_EVERY);
        if self.plain && due {
            self.written.set(Some(Instant::now()));
            complain(&line());
        }
    }

    /// Leaves the bars as they are.
    pub(super) fn done(&self) {
        self.copy.abandon();
        self.check.abandon();
        self.line.finish_and_clear();
    }
}
