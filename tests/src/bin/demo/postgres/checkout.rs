//! Clients that order: explicit transactions over several tables, in the simple and in the extended protocol.

use std::sync::Arc;

use tokio_postgres::SimpleQueryMessage;

use super::Postgres;
use crate::basket::{Basket, Line};
use crate::failure::Answer;
use crate::shopper::{Lost, Shopper, ask};

impl Basket {
    /// The lines as rows of VALUES; `order` and `placed_at` are SQL expressions.
    fn values(&self, order: &str, placed_at: &str) -> String {
        let rows = (1..).zip(&self.lines).map(|(number, line)| {
            let Line { product, quantity, price, stamp, .. } = line;
            format!("({order}, {placed_at}, {number}, {product}, {quantity}, {price}, {stamp})")
        });
        rows.collect::<Vec<_>>().join(", ")
    }

    fn stock_calls(&self) -> String {
        let calls = self
            .lines
            .iter()
            .map(|line| format!("SELECT take_stock({}, {}, {})", line.product, line.quantity, line.move_stamp));
        calls.collect::<Vec<_>>().join("; ")
    }
}

impl Shopper<Postgres> {
    /// An order in the simple protocol; one in four goes out as a single message.
    pub(super) async fn check_out(&mut self) -> Result<(), Lost> {
        let sql = Arc::clone(&self.link.sql);
        let basket = self.basket();
        let insert = format!(
            "INSERT INTO orders (customer_id, total, stamp) VALUES ({}, {}, {})",
            basket.customer, basket.total, basket.stamp
        );
        let columns = "INSERT INTO order_line (order_id, placed_at, line, product_id, quantity, price, stamp) VALUES";
        if self.random(4) == 0 {
            self.doing = "a whole transaction in one message";
            let values = basket.values("currval('order_number')", "now()");
            let stock = basket.stock_calls();
            let message = format!("BEGIN; {insert}; {columns} {values}; {stock}; COMMIT");
            let answer = ask(sql.batch_execute(&message)).await;
            let refused = answer.is_err();
            self.settle(answer, true, basket.effects())?;
            if refused {
                ask(sql.batch_execute("ROLLBACK")).await.map_err(|_| Lost)?;
            }
            return Ok(());
        }
        self.doing = "an order in the simple protocol";
        let body: Answer<()> = async {
            ask(sql.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")).await?;
            let replies = ask(sql.simple_query(&format!("{insert} RETURNING id, placed_at"))).await?;
            let placed = replies.iter().find_map(|reply| match reply {
                SimpleQueryMessage::Row(row) => Some((row.get(0)?.to_owned(), row.get(1)?.to_owned())),
                _ => None,
            });
            let (order, placed_at) = placed.unwrap_or_default();
            let values = basket.values(&order, &format!("'{placed_at}'"));
            ask(sql.batch_execute(&format!("{columns} {values}"))).await?;
            ask(sql.batch_execute(&basket.stock_calls())).await
        }
        .await;
        self.finish(body, basket.effects()).await
    }

    /// An order in the extended protocol, each statement parsed anew.
    pub(super) async fn check_out_typed(&mut self) -> Result<(), Lost> {
        self.doing = "an order in the extended protocol";
        let sql = Arc::clone(&self.link.sql);
        let basket = self.basket();
        let body: Answer<()> = async {
            ask(sql.batch_execute("BEGIN")).await?;
            let insert = "INSERT INTO orders (customer_id, total, stamp) VALUES ($1, $2::bigint, $3)
                          RETURNING id, placed_at::text";
            let row = ask(sql.query_one(insert, &[&basket.customer, &basket.total, &basket.stamp])).await?;
            let (order, placed_at): (i64, String) = (row.get(0), row.get(1));
            for (number, line) in (1_i32..).zip(&basket.lines) {
                let insert = "INSERT INTO order_line (order_id, placed_at, line, product_id, quantity, price, stamp)
                              VALUES ($1, $2::text::timestamptz, $3::int, $4, $5::bigint, $6::bigint, $7)";
                let Line { product, quantity, price, stamp, move_stamp } = line;
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
                    [&order, &placed_at, &number, product, quantity, price, stamp];
                ask(sql.execute(insert, &parameters)).await?;
                let take = "SELECT take_stock($1, $2::bigint::int, $3)";
                ask(sql.query_one(take, &[product, quantity, move_stamp])).await?;
            }
            Ok(())
        }
        .await;
        self.finish(body, basket.effects()).await
    }
}
