//! Clients that commit each statement by itself: prepared long ago, or as plain text.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_postgres::SimpleQueryMessage;

use super::Postgres;
use crate::failure::Result as Started;
use crate::ledger::{Effect, Sum, Table, proof_of, scatter};
use crate::shopper::{Lost, Shopper, ask};

const STATES: [&str; 5] = ["new", "paid", "packed", "sent", "returned"];
/// Rows that exist before the load.
const REVIEWS: u64 = 3_000;
const SHELVES: u64 = 200;
const OWN_ORDERS_MOST: usize = 50;

impl Shopper<Postgres> {
    /// The customer whose points only this client changes.
    fn own_customer(&self) -> i64 {
        i64::from(self.number)
    }

    /// Prepares what [`Self::run_errand`] executes.
    pub(super) async fn prepare_errands(&mut self) -> Started<()> {
        for text in [
            "UPDATE customer SET points = points + $2, points_proof = points_proof + $3::bigint WHERE id = $1
             RETURNING points",
            "INSERT INTO payment (customer_id, amount, method, reference, stamp)
             VALUES ($1, $2::bigint, 'card', $3, $4)",
            "UPDATE review SET helpful = helpful + $2, helpful_proof = helpful_proof + $3::bigint WHERE id = $1",
        ] {
            self.prepared.push(self.link.sql.prepare(text).await?);
        }
        Ok(())
    }

    /// One prepared statement, and a look at whether its answer is the only possible one.
    pub(super) async fn run_errand(&mut self) -> Result<(), Lost> {
        let sql = Arc::clone(&self.link.sql);
        let [points, payment, helpful] = self.prepared.as_slice() else {
            return Err(Lost);
        };
        let (points, payment, helpful) = (points.clone(), payment.clone(), helpful.clone());
        match self.random(3) {
            0 => {
                self.doing = "prepared, points";
                let (customer, add, proof) = (self.own_customer(), self.random_key(9), self.proof());
                let effects = vec![Effect::Added { sum: Sum::Points, key: customer, add, proof }];
                let answer = ask(sql.query_one(&points, &[&customer, &add, &proof])).await;
                if let Some(row) = self.settle(answer, true, effects)? {
                    self.expected += add;
                    let seen: i64 = row.get(0);
                    if seen != self.expected {
                        self.complain(&format!("its points came back as {seen}, not as {}", self.expected));
                        self.expected = seen;
                    }
                }
            }
            1 => {
                self.doing = "prepared, payment";
                let (customer, amount, stamp) = (self.random_key(50_000), self.random_key(90_000), self.stamp());
                let evidence = format!("{customer}/{amount}");
                let reference = stamp.to_be_bytes().to_vec();
                let answer = ask(sql.execute(&payment, &[&customer, &amount, &reference, &stamp])).await;
                self.settle(answer, true, vec![Effect::row(Table::Payment, stamp, &evidence)])?;
            }
            _ => {
                self.doing = "prepared, a row with text out of line";
                let (review, add, proof) = (self.random_key(REVIEWS), self.random_key(3), self.proof());
                let answer = ask(sql.execute(&helpful, &[&review, &add, &proof])).await;
                let effect = Effect::Added { sum: Sum::Helpful, key: review, add, proof };
                self.settle(answer, true, vec![effect])?;
            }
        }
        Ok(())
    }

    /// One statement in the simple protocol.
    pub(super) async fn do_small_things(&mut self) -> Result<(), Lost> {
        let sql = Arc::clone(&self.link.sql);
        let stamp = self.stamp();
        match self.random(4) {
            0 => {
                self.doing = "a long review";
                let product = self.random_key(5_000);
                let seed = stamp.unsigned_abs();
                let mut body = String::new();
                for part in 0..160 {
                    let _ = write!(body, "{:016x}", scatter(seed.wrapping_mul(977) + part));
                }
                let insert = format!(
                    "INSERT INTO review (product_id, stars, body, stamp) VALUES ({product}, 4, '{body}', {stamp})"
                );
                let evidence = format!("{product}/{body}");
                let answer = ask(sql.batch_execute(&insert)).await;
                self.settle(answer, true, vec![Effect::row(Table::Review, stamp, &evidence)])?;
            }
            1 => {
                self.doing = "a row without a key";
                let (shelf, add, proof) = (self.random_key(SHELVES), self.random_key(20), proof_of(stamp));
                let update = format!(
                    "UPDATE shelf_count SET counted = counted + {add}, counted_proof = counted_proof + {proof}
                     WHERE shelf = {shelf}"
                );
                let answer = ask(sql.batch_execute(&update)).await;
                self.settle(answer, true, vec![Effect::Added { sum: Sum::Counted, key: shelf, add, proof }])?;
            }
            2 => {
                self.doing = "an order without lines";
                let customer = self.random_key(50_000);
                let insert = format!(
                    "INSERT INTO orders (customer_id, stamp, note) VALUES ({customer}, {stamp}, 'gift voucher')
                     RETURNING id, placed_at"
                );
                let effects = vec![Effect::row(Table::Orders, stamp, &format!("{customer}/0"))];
                let answer = ask(sql.simple_query(&insert)).await;
                for reply in self.settle(answer, true, effects)?.unwrap_or_default() {
                    if let SimpleQueryMessage::Row(row) = reply
                        && let (Some(Ok(id)), Some(at)) = (row.get(0).map(str::parse), row.get(1))
                    {
                        self.own_orders.push_back((id, at.to_owned(), 0));
                    }
                }
                if self.own_orders.len() > OWN_ORDERS_MOST {
                    self.own_orders.pop_front();
                }
            }
            _ => self.advance_order(stamp).await?,
        }
        Ok(())
    }

    /// Moves an order of its own to its next state; the trigger on the server writes it into the audit table.
    async fn advance_order(&mut self, stamp: i64) -> Result<(), Lost> {
        self.doing = "a change that a trigger records";
        let Some((id, placed_at, state)) = self.own_orders.pop_front() else {
            return Ok(());
        };
        let (Some(from), Some(to)) = (STATES.get(state), STATES.get(state + 1)) else {
            return Ok(());
        };
        let update = format!(
            "UPDATE orders SET state = '{to}', change_stamp = {stamp} WHERE id = {id} AND placed_at = '{placed_at}'"
        );
        let evidence = format!("{id}/{from} -> {to}");
        let sql = Arc::clone(&self.link.sql);
        let answer = ask(sql.batch_execute(&update)).await;
        if self.settle(answer, true, vec![Effect::row(Table::OrderAudit, stamp, &evidence)])?.is_some() {
            self.own_orders.push_back((id, placed_at, state + 1));
        }
        Ok(())
    }

    /// Gives the session everything that a new connection would not have.
    pub(super) async fn settle_in(&mut self) -> Started<()> {
        let settings = "SET TimeZone TO 'Asia/Kathmandu'; SET search_path TO public, accounting;
                        SET statement_timeout TO '29s'; LISTEN shop_news";
        self.link.sql.batch_execute(settings).await?;
        // In a message of its own: the server keeps the text of the whole message with the statement.
        let points = "PREPARE give_points (bigint, bigint, bigint) AS
                      UPDATE customer SET points = points + $2, points_proof = points_proof + $3 WHERE id = $1";
        self.link.sql.batch_execute(points).await?;
        Ok(())
    }

    /// Works with what [`Self::settle_in`] made, and looks at whether it is still there.
    pub(super) async fn live_on(&mut self) -> Result<(), Lost> {
        let sql = Arc::clone(&self.link.sql);
        self.doing = "SQL-level prepared statement";
        let (customer, add, proof) = (self.own_customer(), self.random_key(9), self.proof());
        let answer = ask(sql.batch_execute(&format!("EXECUTE give_points({customer}, {add}, {proof})"))).await;
        self.settle(answer, true, vec![Effect::Added { sum: Sum::Points, key: customer, add, proof }])?;

        self.doing = "session settings";
        let settings = "SELECT current_setting('TimeZone') || '|' || current_setting('search_path') || '|'
                               || current_setting('statement_timeout')";
        let answer = ask(sql.query_one(settings, &[])).await;
        if let Some(row) = self.settle(answer, true, Vec::new())? {
            let seen: &str = row.get(0);
            if seen != "Asia/Kathmandu|public, accounting|29s" {
                self.complain(&format!("its settings became {seen}"));
            }
        }

        self.doing = "LISTEN and NOTIFY";
        // Those of the round before must have come by now; those of this round may still be on their way.
        let heard = i64::try_from(self.link.heard.load(Ordering::Relaxed)).unwrap_or(0);
        if heard < self.expected {
            self.complain(&format!("heard {heard} notifications of {}", self.expected));
            self.expected = heard;
        }
        let answer = ask(sql.batch_execute("NOTIFY shop_news")).await;
        if self.settle(answer, true, Vec::new())?.is_some() {
            self.expected += 1;
        }
        Ok(())
    }
}
