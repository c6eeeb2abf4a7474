//! What a switch costs afterwards: the way back beside the way there, and the application beside the proof of the switch.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use tests::wait::within;
use tokio::time::{Instant, sleep};

use crate::rehearsals::text;
use crate::table::{Table, median, ratio};

/// How long a proof may take.
const LIMIT: Duration = Duration::from_mins(10);
/// Looking must cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A process that stands still until this is dropped.
#[derive(Debug)]
pub(crate) struct Paused(u32);

impl Paused {
    /// It stands still from now on.
    pub(crate) fn begin(process: u32) -> Self {
        signal("-STOP", process);
        Self(process)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn signal(name: &str, process: u32) {
    let sent = Command::new("kill").args([name, &process.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill {name} {process}");
}

/// The application's throughput in pairs of windows, one beside the proof and the next without it, and the proofs' length.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    beside: Vec<f64>,
    alone: Vec<f64>,
    proofs: Vec<f64>,
    rows: Vec<u64>,
}

impl Windows {
    /// Measures a pair right after a switch: `status` asks for the migration's, `window` runs a load and tells its
    /// transactions a second. Panics unless both sides were equal.
    pub(crate) async fn measure(
        &mut self,
        status: impl AsyncFn() -> BTreeMap<String, String>,
        window: impl AsyncFn() -> f64,
    ) {
        let began = Instant::now();
        let proving = async {
            let detail = until_proved(status).await;
            (began.elapsed().as_secs_f64(), rows_compared(&detail))
        };
        let (beside, (proof, rows)) = tokio::join!(window(), proving);
        let alone = window().await;
        self.beside.push(beside);
        self.alone.push(alone);
        self.proofs.push(proof);
        self.rows.push(rows);
    }

    /// Prints all pairs, and how much slower the application was.
    pub(crate) fn print(&self, title: &str) {
        let mut table =
            Table::new(&["switch", "rows compared", "proof, s", "tps beside it", "tps without", "slower by"]);
        let slower = |share: f64| format!("{:.1} %", (1.0 - share) * 100.0);
        let pairs = self.beside.iter().zip(&self.alone).zip(self.proofs.iter().zip(&self.rows));
        for (number, ((beside, alone), (proof, rows))) in pairs.enumerate() {
            table.line(vec![
                (number + 1).to_string(),
                rows.to_string(),
                format!("{proof:.1}"),
                format!("{beside:.0}"),
                format!("{alone:.0}"),
                slower(beside / alone),
            ]);
        }
        table.line(vec![
            "median".to_owned(),
            String::new(),
            format!("{:.1}", median(&self.proofs)),
            format!("{:.0}", median(&self.beside)),
            format!("{:.0}", median(&self.alone)),
            slower(ratio(&self.beside, &self.alone)),
        ]);
        table.print(title);
    }
}

/// Prints how fast what was written while nobody followed was applied, on the way there and on the way back.
pub(crate) fn print_both_ways(title: &str, transactions: u32, (there, back): (&[f64], &[f64])) {
    let mut table = Table::new(&["catching up", "seconds", "each round", "transactions/s", "speed of there / this"]);
    for (name, seconds) in [("there", there), ("back", back)] {
        let each: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.1}")).collect();
        table.line(vec![
            name.to_owned(),
            format!("{:.2}", median(seconds)),
            each.join(" "),
            format!("{:.0}", f64::from(transactions) / median(seconds)),
            format!("{:.2}", ratio(seconds, there)),
        ]);
    }
    table.print(title);
}

/// Waits for the verdict of the last switch's proof.
async fn until_proved(status: impl AsyncFn() -> BTreeMap<String, String>) -> String {
    let proving = async {
        loop {
            let row = status().await;
            match text(&row, "switch_proof").as_str() {
                "equal" => return text(&row, "switch_proof_detail"),
                "running" => sleep(LOOK_EVERY).await,
                _ => panic!("{row:?}"),
            }
        }
    };
    within("the switch is proved", LIMIT, proving).await
}

/// The rows that a verdict says it compared: `proved equal at the switch: N rows, …`.
fn rows_compared(detail: &str) -> u64 {
    let rows = detail.split(' ').zip(detail.split(' ').skip(1)).find(|(_, unit)| unit.starts_with("rows"));
    let number = rows.and_then(|(number, _)| number.replace(',', "").parse().ok());
    number.unwrap_or_else(|| panic!("no number of rows in {detail:?}"))
}
