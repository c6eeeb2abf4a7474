//! Clients that commit each statement by itself: prepared long ago, or as plain text.

use std::fmt::Write as _;

use mysql_async::prelude::Queryable;
use mysql_async::{Error, Params};

use super::Mysql;
use crate::failure::Result as Started;
use crate::ledger::{Effect, Sum, Table, proof_of, scatter};
use crate::link::Link as _;
use crate::shopper::{Lost, Shopper, ask};

const STATES: [&str; 5] = ["new", "paid", "packed", "sent", "returned"];
/// Rows that exist before the load.
const REVIEWS: u64 = 3_000;
const SHELVES: u64 = 200;
const OWN_ORDERS_MOST: usize = 50;
/// Everything that [`Shopper::settle_in`] sets, as one text.
const SETTINGS: &str = "SELECT concat_ws('|', @@time_zone, @@sql_mode, @@group_concat_max_len, @@lock_wait_timeout,
    @@character_set_client, @@sql_safe_updates, @shop, @ratio, @bits, coalesce(@nothing, 'nothing'))";

impl Shopper<Mysql> {
    /// The customer whose points only this client changes.
    fn own_customer(&self) -> i64 {
        i64::from(self.number)
    }

    /// Prepares what [`Self::run_errand`] executes.
    pub(super) async fn prepare_errands(&mut self) -> Started<()> {
        for text in [
            "UPDATE customer SET points = points + ?, points_proof = points_proof + ? WHERE id = ?",
            "INSERT INTO payment (customer_id, amount, method, reference, stamp) VALUES (?, ?, 'card', ?, ?)",
            "UPDATE review SET helpful = helpful + ?, helpful_proof = helpful_proof + ? WHERE id = ?",
            "SELECT points FROM customer WHERE id = ?",
        ] {
            self.prepared.push(self.link.sql.prep(text).await?);
        }
        Ok(())
    }

    /// Executes the statement that was prepared as the `index`th; answers with the rows that it changed.
    async fn execute(
        &mut self,
        index: usize,
        parameters: impl Into<Params> + Send,
        effect: Effect,
    ) -> Result<Option<u64>, Lost> {
        let statement = self.prepared.get(index).cloned().ok_or(Lost)?;
        let sql = &mut self.link.sql;
        let answer = ask(async {
            sql.exec_drop(&statement, parameters).await?;
            Ok::<_, Error>(sql.affected_rows())
        })
        .await;
        let changed = self.settle(answer, true, vec![effect])?;
        if let Some(rows) = changed
            && rows != 1
        {
            self.complain(&format!("one row was to be changed, {rows} were"));
        }
        Ok(changed)
    }

    /// One prepared statement, and a look at whether its answer is the only possible one.
    pub(super) async fn run_errand(&mut self) -> Result<(), Lost> {
        match self.random(3) {
            0 => {
                self.doing = "prepared, points";
                let (key, add, proof) = (self.own_customer(), self.random_key(9), self.proof());
                let sum = Sum::Points;
                let effect = Effect::Added { sum, key, add, proof };
                if self.execute(0, (add, proof, key), effect).await?.is_some() {
                    self.expected += add;
                    self.look_at_points(key).await?;
                }
            }
            1 => {
                self.doing = "prepared, payment";
                let (customer, amount, stamp) = (self.random_key(50_000), self.random_key(90_000), self.stamp());
                let effect = Effect::row(Table::Payment, stamp, &format!("{customer}/{amount}"));
                let reference = stamp.to_be_bytes().to_vec();
                self.execute(1, (customer, amount, reference, stamp), effect).await?;
            }
            _ => {
                self.doing = "prepared, a row with a long text";
                let (key, add, proof) = (self.random_key(REVIEWS), self.random_key(3), self.proof());
                let sum = Sum::Helpful;
                let effect = Effect::Added { sum, key, add, proof };
                self.execute(2, (add, proof, key), effect).await?;
            }
        }
        Ok(())
    }

    /// Reads back what this client, and no other, has written.
    async fn look_at_points(&mut self, customer: i64) -> Result<(), Lost> {
        self.doing = "prepared, its own write";
        let statement = self.prepared.get(3).cloned().ok_or(Lost)?;
        let answer = ask(self.link.sql.exec_first(&statement, (customer,))).await;
        let seen: Option<Option<i64>> = self.settle(answer, true, Vec::new())?;
        if let Some(seen) = seen
            && seen != Some(self.expected)
        {
            self.complain(&format!("its points came back as {seen:?}, not as {}", self.expected));
            self.expected = seen.unwrap_or(0);
        }
        Ok(())
    }

    /// One statement in plain text.
    pub(super) async fn do_small_things(&mut self) -> Result<(), Lost> {
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
                let effect = Effect::row(Table::Review, stamp, &format!("{product}/{body}"));
                let answer = ask(self.link.run(&insert)).await;
                self.settle(answer, true, vec![effect])?;
            }
            1 => {
                self.doing = "a row without a key";
                let (key, add, proof) = (self.random_key(SHELVES), self.random_key(20), proof_of(stamp));
                let update = format!(
                    "UPDATE shelf_count SET counted = counted + {add}, counted_proof = counted_proof + {proof}
                     WHERE shelf = {key}"
                );
                let sum = Sum::Counted;
                let effect = Effect::Added { sum, key, add, proof };
                let answer = ask(self.link.run(&update)).await;
                self.settle(answer, true, vec![effect])?;
            }
            2 => self.give_voucher(stamp).await?,
            _ => self.advance_order(stamp).await?,
        }
        Ok(())
    }

    /// An order without lines. MariaDB numbers its voucher by a sequence.
    async fn give_voucher(&mut self, stamp: i64) -> Result<(), Lost> {
        self.doing = "an order without lines";
        let customer = self.random_key(50_000);
        let voucher = if self.engine.is_mariadb() { "NEXT VALUE FOR voucher_number" } else { "NULL" };
        let insert = format!(
            "INSERT INTO orders (customer_id, stamp, note, voucher)
             VALUES ({customer}, {stamp}, 'gift voucher', {voucher})"
        );
        let effects = vec![Effect::row(Table::Orders, stamp, &format!("{customer}/0"))];
        let answer = ask(self.link.run(&insert)).await;
        if self.settle(answer, true, effects)?.is_some()
            && let Some(Ok(id)) = self.link.sql.last_insert_id().map(i64::try_from)
        {
            self.own_orders.push_back((id, String::new(), 0));
        }
        if self.own_orders.len() > OWN_ORDERS_MOST {
            self.own_orders.pop_front();
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
        let update = format!("UPDATE orders SET state = '{to}', change_stamp = {stamp} WHERE id = {id}");
        let evidence = format!("{id}/{from} -> {to}");
        let effects = vec![Effect::row(Table::OrderAudit, stamp, &evidence)];
        let answer = ask(self.link.run(&update)).await;
        if self.settle(answer, true, effects)?.is_some() {
            self.own_orders.push_back((id, placed_at, state + 1));
        }
        Ok(())
    }

    /// Gives the session everything that a new connection would not have.
    pub(super) async fn settle_in(&mut self) -> Started<()> {
        let settings = "SET time_zone = '+05:45', sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES',
                        group_concat_max_len = 4321, lock_wait_timeout = 29, sql_safe_updates = 1;
                        SET @shop = 'corner \"shop\" № 1', @ratio = 2.50, @bits = x'00ff27', @nothing = NULL;
                        SET NAMES latin1";
        self.link.run(settings).await?;
        self.link.run("DO LAST_INSERT_ID(1)").await?;
        self.expected = 1;
        self.settings = self.look_at_settings().await?;
        Ok(())
    }

    async fn look_at_settings(&mut self) -> Started<String> {
        let rows = self.link.ask(SETTINGS).await?;
        Ok(rows.first().map(|row| row.at(0).to_owned()).unwrap_or_default())
    }

    /// Works with what [`Self::settle_in`] made, and looks at whether it is still there.
    pub(super) async fn live_on(&mut self) -> Result<(), Lost> {
        self.doing = "LAST_INSERT_ID";
        let next = self.expected + 1;
        let answer = ask(self.link.ask("SELECT LAST_INSERT_ID()")).await;
        if let Some(rows) = self.settle(answer, true, Vec::new())? {
            let seen = rows.first().map_or("", |row| row.at(0));
            if seen != self.expected.to_string() {
                self.complain(&format!("it became {seen:?} instead of {}", self.expected));
            }
        }
        let answer = ask(self.link.run(&format!("DO LAST_INSERT_ID({next})"))).await;
        if self.settle(answer, true, Vec::new())?.is_some() {
            self.expected = next;
        }

        self.doing = "user variables of an earlier message";
        let (key, add, proof) = (self.own_customer(), self.random_key(9), self.proof());
        let set = format!("SET @add = {add}, @proof = {proof}, @customer = {key}");
        let answer = ask(self.link.run(&set)).await;
        if self.settle(answer, true, Vec::new())?.is_none() {
            return Ok(());
        }
        // Each in a message of its own: MariaDB does not tell what SQL prepared, so that Headgate must have read it.
        let prepare = "PREPARE give_points FROM
            'UPDATE customer SET points = points + ?, points_proof = points_proof + ? WHERE id = ?'";
        let answer = ask(self.link.run(prepare)).await;
        if self.settle(answer, true, Vec::new())?.is_none() {
            return Ok(());
        }
        let update = "EXECUTE give_points USING @add, @proof, @customer";
        let sum = Sum::Points;
        let effect = Effect::Added { sum, key, add, proof };
        let answer = ask(self.link.run(update)).await;
        if self.settle(answer, true, vec![effect])?.is_none() {
            return Ok(());
        }
        let answer = ask(self.link.run("DEALLOCATE PREPARE give_points")).await;
        self.settle(answer, true, Vec::new())?;

        self.doing = "session settings and user variables";
        let answer = ask(self.link.ask(SETTINGS)).await;
        if let Some(rows) = self.settle(answer, true, Vec::new())? {
            let seen = rows.first().map_or("", |row| row.at(0));
            if seen != self.settings {
                self.complain(&format!("they became {seen:?} instead of {:?}", self.settings));
            }
        }
        Ok(())
    }
}
