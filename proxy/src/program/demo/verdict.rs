//! The proof: what the new cluster holds, compared with the demo's own ledger.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Client;

use super::failure::{Failure, Result};
use super::ledger::{Ledger, Outcome, Sum, Table, digest};
use super::shop::{Catalogue, sums};

const PATIENCE: Duration = Duration::from_mins(1);
/// Examples beyond these are counted only.
const EXAMPLES_KEPT: usize = 8;

/// What must hold in the shop whatever happens; each query counts the rows that break the rule.
const RULES: [(&str, &str); 11] = [
    (
        "every order's total is the sum of its lines",
        "SELECT count(*) FROM (
             SELECT o.id FROM orders o LEFT JOIN order_line l ON l.order_id = o.id AND l.placed_at = o.placed_at
             GROUP BY o.id, o.placed_at, o.total HAVING o.total <> coalesce(sum(l.amount), 0)) broken",
    ),
    (
        "every product's stock is its opening stock and its moves",
        "SELECT count(*) FROM product p
         LEFT JOIN (SELECT product_id, sum(quantity) AS moved FROM stock_move GROUP BY product_id) m
             ON m.product_id = p.id
         WHERE p.stock <> p.stock_opening + coalesce(m.moved, 0)",
    ),
    (
        "what was sold left the stock, piece by piece",
        "SELECT abs((SELECT sum(quantity) FROM order_line) + (SELECT sum(quantity) FROM stock_move))::bigint",
    ),
    (
        "every payment is booked exactly once",
        "SELECT count(*) FROM (
             SELECT y.id FROM payment y LEFT JOIN accounting.posting b ON b.payment_id = y.id
             GROUP BY y.id, y.amount HAVING count(b.id) <> 1 OR sum(b.amount) <> y.amount / 100.0) broken",
    ),
    (
        "no order number was given twice",
        "SELECT count(*) FROM (SELECT id FROM orders GROUP BY id HAVING count(*) > 1) broken",
    ),
    (
        "no other number was given twice",
        "SELECT count(*) FROM (
             SELECT id FROM payment GROUP BY id HAVING count(*) > 1
             UNION ALL SELECT id FROM page_view GROUP BY id HAVING count(*) > 1
             UNION ALL SELECT id FROM order_audit GROUP BY id HAVING count(*) > 1
             UNION ALL SELECT id FROM stock_move GROUP BY id HAVING count(*) > 1) broken",
    ),
    (
        "every sequence is past the numbers in use",
        "SELECT count(*) FROM (VALUES
             ((SELECT last_value FROM order_number), (SELECT max(id) FROM orders)),
             ((SELECT last_value FROM accounting.posting_number), (SELECT max(id) FROM accounting.posting)),
             ((SELECT last_value FROM payment_id_seq), (SELECT max(id) FROM payment)),
             ((SELECT last_value FROM review_id_seq), (SELECT max(id) FROM review)),
             ((SELECT last_value FROM stock_move_id_seq), (SELECT max(id) FROM stock_move)),
             ((SELECT last_value FROM page_view_id_seq), (SELECT max(id) FROM page_view))) AS s (last, used)
         WHERE last < used",
    ),
    (
        "generated columns are what they are generated from",
        "SELECT (SELECT count(*) FROM order_line WHERE amount <> quantity * price)
              + (SELECT count(*) FROM product WHERE searched <> lower(sku || ' ' || name))",
    ),
    (
        "every line has its order, every order its customer",
        "SELECT (SELECT count(*) FROM order_line l
                 WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = l.order_id AND o.placed_at = l.placed_at))
              + (SELECT count(*) FROM orders o WHERE NOT EXISTS (SELECT FROM customer c WHERE c.id = o.customer_id))",
    ),
    (
        "every order lies in the partition of its month",
        "SELECT count(*) FROM orders_other",
    ),
    (
        "all constraints are valid, all triggers are on",
        "SELECT (SELECT count(*) FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
                 WHERE n.nspname IN ('public', 'accounting') AND NOT c.convalidated)
              + (SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname IN ('public', 'accounting') AND t.tgenabled <> 'O')
              + (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname IN ('public', 'accounting') AND NOT (i.indisvalid AND i.indisready))",
    ),
];

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
        self.lost == 0
            && self.doubled == 0
            && self.wrong_sums == 0
            && self.rules.iter().all(|(_, rows)| *rows == 0)
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES_KEPT {
            self.examples.push(text);
        }
    }

    /// Compares one table's stamped rows, `found`, with what was asked for.
    fn compare_rows(
        &mut self,
        table: Table,
        expected: &HashMap<i64, (Outcome, u64)>,
        found: &[(i64, u64)],
    ) {
        let mut seen: HashMap<i64, u64> = HashMap::new();
        for (stamp, evidence) in found {
            *seen.entry(*stamp).or_default() += 1;
            let name = table.name();
            match expected.get(stamp) {
                Some((Outcome::Failed, _)) => {
                    self.doubled += 1;
                    self.example(format!(
                        "{name}: stamp {stamp} is there, and its transaction had failed"
                    ));
                }
                Some((_, wanted)) if wanted != evidence => {
                    self.lost += 1;
                    self.example(format!(
                        "{name}: stamp {stamp} is there with other contents"
                    ));
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
                self.example(format!(
                    "{}: stamp {stamp} was acknowledged and is not there",
                    table.name()
                ));
            } else if *outcome != Outcome::Failed && times > 1 {
                self.doubled += 1;
                self.example(format!(
                    "{}: stamp {stamp} is there {times} times",
                    table.name()
                ));
            }
        }
    }

    async fn compare_sums(
        &mut self,
        target: &Client,
        ledger: &Ledger,
        opening: &Catalogue,
        sum: Sum,
    ) -> Result<()> {
        let mut added = ledger.sums(sum);
        for (key, value, proof) in sums(target, sum).await? {
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
        Ok(())
    }
}

/// Looks at the new cluster, past Headgate, for everything that the ledger says must or must not be there.
pub(super) async fn prove(
    target: &Client,
    ledger: &Ledger,
    opening: &Catalogue,
) -> Result<Verdict> {
    let work = async {
        let mut verdict = Verdict {
            unknown: u64::try_from(ledger.count(Outcome::Unknown)).unwrap_or(u64::MAX),
            ..Verdict::default()
        };
        for table in Table::ALL {
            let (name, evidence) = (table.name(), table.evidence());
            let query = format!("SELECT stamp, {evidence} FROM {name} WHERE stamp IS NOT NULL");
            let mut found = Vec::new();
            for row in target.query(&query, &[]).await? {
                let text: Option<&str> = row.try_get(1)?;
                found.push((row.try_get(0)?, digest(text.unwrap_or_default())));
            }
            verdict.compare_rows(table, &ledger.rows(table), &found);
        }
        for sum in Sum::ALL {
            verdict.compare_sums(target, ledger, opening, sum).await?;
        }
        for (rule, query) in RULES {
            verdict
                .rules
                .push((rule, target.query_one(query, &[]).await?.try_get(0)?));
        }
        Ok(verdict)
    };
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.map_err(|_| Failure(format!("the proof was not complete within {PATIENCE:?}")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &[(i64, Outcome, u64)], found: &[(i64, u64)], lost: u64, doubled: u64) {
        let expected = expected
            .iter()
            .map(|(stamp, outcome, value)| (*stamp, (*outcome, *value)))
            .collect();
        let mut verdict = Verdict::default();
        verdict.compare_rows(Table::Payment, &expected, found);
        assert_eq!(
            (verdict.lost, verdict.doubled),
            (lost, doubled),
            "{:?}",
            verdict.examples
        );
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
