//! The proof: what the new cluster holds, compared with the demo's own ledger.

use std::collections::HashMap;
use std::time::Duration;

use super::engine::Engine;
use super::failure::{Failure, Result};
use super::ledger::{Added, Ledger, Outcome, Sum, Table, digest};
use super::link::Link;
use super::shop::{Catalogue, number, sums};

const TIMEOUT: Duration = Duration::from_mins(1);
/// Examples beyond these are counted only.
const EXAMPLES_KEPT: usize = 8;

/// What the comparison came to.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Rows and additions that were acknowledged, and looked for.
    pub(super) compared: u64,
    /// Acknowledged and not there, or there with other contents.
    pub(super) lost: u64,
    /// There more than once, or there though the server had said no, or never asked for.
    pub(super) doubled: u64,
    /// Sums of in-place additions that do not match.
    pub(super) wrong_sums: u64,
    /// Transactions whose answer never came.
    pub(super) unknown: u64,
    /// The first of all these, in words.
    pub(super) examples: Vec<String>,
    /// Rules of the shop, and how many rows break each.
    pub(super) rules: Vec<(&'static str, i64)>,
}

impl Verdict {
    /// Whether nothing at all is wrong.
    pub(super) fn clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.wrong_sums == 0 && self.rules.iter().all(|(_, rows)| *rows == 0)
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES_KEPT {
            self.examples.push(text);
        }
    }

    /// Compares one table's stamped rows, `found`, with what was asked for.
    fn compare_rows(&mut self, table: Table, expected: &HashMap<i64, (Outcome, u64)>, found: &[(i64, u64)]) {
        let mut seen: HashMap<i64, u64> = HashMap::new();
        for (stamp, evidence) in found {
            *seen.entry(*stamp).or_default() += 1;
            let name = table.name();
            match expected.get(stamp) {
                Some((Outcome::Failed, _)) => {
                    self.doubled += 1;
                    self.example(format!("{name}: stamp {stamp} is there, and its transaction had failed"));
                }
                Some((_, wanted)) if wanted != evidence => {
                    self.lost += 1;
                    self.example(format!("{name}: stamp {stamp} is there with other contents"));
                }
                Some(_) => {}
                None => {
                    self.doubled += 1;
                    self.example(format!("{name}: stamp {stamp} was never asked for"));
                }
            }
        }
        for (stamp, (outcome, _)) in expected {
            let times = seen.get(stamp).copied().unwrap_or(0);
            if *outcome == Outcome::Acknowledged {
                self.compared += 1;
            }
            if *outcome == Outcome::Acknowledged && times == 0 {
                self.lost += 1;
                self.example(format!("{}: stamp {stamp} was acknowledged and is not there", table.name()));
            } else if *outcome != Outcome::Failed && times > 1 {
                self.doubled += 1;
                self.example(format!("{}: stamp {stamp} is there {times} times", table.name()));
            }
        }
    }

    /// Compares the numbers that clients added to, `found`, with what they were before and what was added.
    fn compare_sums(
        &mut self,
        sum: Sum,
        mut added: HashMap<i64, Added>,
        opening: &Catalogue,
        found: Vec<(i64, i128, i128)>,
    ) {
        for (key, value, proof) in found {
            let was = opening.opening.get(&(sum, key)).copied();
            let more = added.remove(&key).unwrap_or_default();
            // With an unanswered addition both sums are right; the stamped rows beside it still tell lost and doubled.
            let Some((value_then, proof_then)) = was.filter(|_| more.unknown == 0) else {
                continue;
            };
            self.compared += more.times;
            if value != value_then + more.value || proof != proof_then + more.proof {
                self.wrong_sums += 1;
                self.example(format!(
                    "{} of {key} is {value}; {} additions make it {}",
                    sum.name(),
                    more.times,
                    value_then + more.value
                ));
            }
        }
        for (key, more) in added {
            self.wrong_sums += u64::from(more.times > 0);
            self.example(format!("{} of {key} is not there", sum.name()));
        }
    }
}

/// Looks at the new cluster, past Headgate, for everything that the ledger says must or must not be there.
pub(super) async fn prove<E: Engine>(
    engine: E,
    target: &mut E::Link,
    ledger: &Ledger,
    opening: &Catalogue,
) -> Result<Verdict> {
    let work = async {
        let mut verdict = Verdict {
            unknown: u64::try_from(ledger.count(Outcome::Unknown)).unwrap_or(u64::MAX),
            ..Verdict::default()
        };
        for table in Table::ALL {
            let (name, evidence) = (table.name(), engine.evidence(table));
            let query = format!("SELECT stamp, {evidence} FROM {name} WHERE stamp IS NOT NULL");
            let mut found = Vec::new();
            for row in target.ask(&query).await? {
                found.push((number(&row, 0, name)?, digest(row.at(1))));
            }
            verdict.compare_rows(table, &ledger.rows(table), &found);
        }
        for sum in Sum::ALL {
            let found = sums(engine, target, sum).await?;
            verdict.compare_sums(sum, ledger.sums(sum), opening, found);
        }
        for (rule, query) in engine.rules() {
            let rows = target.ask(query).await?;
            let row = rows.first().ok_or_else(|| Failure(format!("{rule}: no row came")))?;
            verdict.rules.push((rule, number(row, 0, rule)?));
        }
        Ok(verdict)
    };
    let done = tokio::time::timeout(TIMEOUT, work).await;
    done.map_err(|_| Failure(format!("the proof was not complete within {TIMEOUT:?}")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &[(i64, Outcome, u64)], found: &[(i64, u64)], lost: u64, doubled: u64) {
        let expected = expected.iter().map(|(stamp, outcome, value)| (*stamp, (*outcome, *value))).collect();
        let mut verdict = Verdict::default();
        verdict.compare_rows(Table::Payment, &expected, found);
        assert_eq!((verdict.lost, verdict.doubled), (lost, doubled), "{:?}", verdict.examples);
        assert_eq!(verdict.clean(), lost + doubled == 0);
    }

    #[test]
    fn an_acknowledged_row_that_is_not_there_is_lost() {
        check(&[(1, Outcome::Acknowledged, 7)], &[], 1, 0);
    }

    #[test]
    fn a_row_that_is_there_with_other_contents_is_lost() {
        check(&[(1, Outcome::Acknowledged, 7)], &[(1, 8)], 1, 0);
    }

    #[test]
    fn a_row_that_is_there_twice_is_doubled() {
        check(&[(1, Outcome::Acknowledged, 7)], &[(1, 7), (1, 7)], 0, 1);
        check(&[(1, Outcome::Unknown, 7)], &[(1, 7), (1, 7)], 0, 1);
    }

    #[test]
    fn a_failed_or_foreign_row_that_is_there_is_reported() {
        check(&[(1, Outcome::Failed, 7)], &[(1, 7)], 0, 1);
        check(&[], &[(1, 7)], 0, 1);
    }

    #[test]
    fn a_row_whose_answer_never_came_may_be_there_or_not() {
        check(&[(1, Outcome::Unknown, 7)], &[(1, 7)], 0, 0);
        check(&[(1, Outcome::Unknown, 7)], &[], 0, 0);
    }
}
