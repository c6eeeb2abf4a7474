//! The bars of `headgate migrate`.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use migrator::supervisor::{CheckStatus, Status};

/// A bar for the copy, one for the comparison, and a line for the rest.
pub(super) struct Screen {
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
        self.copy
            .set_length(status.rows_estimated.max(status.rows_copied));
        self.copy.set_position(status.rows_copied);
        if let Some(rate) = status.rows_per_second {
            self.copy.set_message(format!("{rate:.0}/s"));
        }
        let lag = status
            .lag
            .map(|lag| format!(", {} ms behind", lag.as_millis()))
            .unwrap_or_default();
        let applied = status.transactions_applied;
        let (state, stage) = (status.state, &status.stage);
        self.line.set_message(format!(
            "{state} {stage}{lag}, {applied} transactions followed"
        ));
        self.line.tick();
    }

    /// Shows how the comparison goes.
    pub(super) fn show_check(&self, check: &CheckStatus) {
        self.check.set_length(check.ranges);
        self.check
            .set_position(check.ranges_equal.saturating_add(check.ranges_different));
        self.check.set_message(check.verdict.name());
    }

    /// Says something above the bars.
    pub(super) fn note(&self, text: &str) {
        self.line.println(text);
    }

    /// Leaves the bars as they are.
    pub(super) fn done(&self) {
        self.copy.abandon();
        self.check.abandon();
        self.line.finish_and_clear();
    }
}
