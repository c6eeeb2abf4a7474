//! Clients that order: explicit transactions over several tables, as plain text and with parameters.

use mysql_async::prelude::Queryable;
use mysql_async::{Error, Row};

use super::Mysql;
use crate::basket::{Basket, Line};
use crate::failure::{Answer, Result as Started};
use crate::link::Link as _;
use crate::shopper::{Lost, Shopper, ask};

impl Basket {
    /// The lines as rows of VALUES; `order` is an SQL expression.
    fn rows(&self, order: &str) -> String {
        let rows = (1..).zip(&self.lines).map(|(number, line)| {
            let Line { product, quantity, price, stamp, .. } = line;
            format!("({order}, {number}, {product}, {quantity}, {price}, {stamp})")
        });
        rows.collect::<Vec<_>>().join(", ")
    }

    fn calls(&self) -> String {
        let calls = self
            .lines
            .iter()
            .map(|line| format!("CALL take_stock({}, {}, {})", line.product, line.quantity, line.move_stamp));
        calls.collect::<Vec<_>>().join("; ")
    }
}

impl Shopper<Mysql> {
    /// An order in plain text; one in four goes out as a single message. The stock goes first, in the order of the
    /// products: a line's foreign key would lock the product too weakly for the change that follows.
    pub(super) async fn check_out(&mut self) -> Result<(), Lost> {
        let basket = self.basket();
        let insert = format!(
            "INSERT INTO orders (customer_id, total, stamp) VALUES ({}, {}, {})",
            basket.customer, basket.total, basket.stamp
        );
        let columns = "INSERT INTO order_line (order_id, line, product_id, quantity, price, stamp) VALUES";
        let calls = basket.calls();
        if self.random(4) == 0 {
            self.doing = "a whole transaction in one message";
            let rows = basket.rows("@placed");
            let message = format!(
                "START TRANSACTION; {insert}; SET @placed = LAST_INSERT_ID(); {calls}; {columns} {rows}; COMMIT"
            );
            let answer = ask(self.link.run(&message)).await;
            let refused = answer.is_err();
            self.settle(answer, true, basket.effects())?;
            if refused {
                ask(self.link.run("ROLLBACK")).await.map_err(|_| Lost)?;
            }
            return Ok(());
        }
        self.doing = "an order in plain text";
        let link = &mut self.link;
        let body: Answer<()> = async {
            // In one message, since the first of the two is only good for the next transaction.
            let begin = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";
            ask(link.run(begin)).await?;
            ask(link.run(&insert)).await?;
            let order = link.sql.last_insert_id().unwrap_or(0);
            ask(link.run(&calls)).await?;
            let rows = basket.rows(&order.to_string());
            ask(link.run(&format!("{columns} {rows}"))).await
        }
        .await;
        self.finish(body, basket.effects()).await
    }

    /// From now on every statement of this session begins a transaction that ends with its COMMIT.
    pub(super) async fn commit_by_hand(&mut self) -> Started<()> {
        Ok(self.link.run("SET autocommit = 0").await?)
    }

    /// An order in prepared statements, on a session without autocommit.
    pub(super) async fn check_out_typed(&mut self) -> Result<(), Lost> {
        self.doing = "an order with parameters, without autocommit";
        let basket = self.basket();
        let sql = &mut self.link.sql;
        let body: Answer<()> = ask(async {
            let insert = "INSERT INTO orders (customer_id, total, stamp) VALUES (?, ?, ?)";
            let order = (basket.customer, basket.total, basket.stamp);
            sql.exec_drop(insert, order).await?;
            let order = sql.last_insert_id().unwrap_or(0);
            for line in &basket.lines {
                let take = "CALL take_stock(?, ?, ?)";
                let news = (line.product, line.quantity, line.move_stamp);
                sql.exec_first::<Row, _, _>(take, news).await?;
            }
            for (number, line) in (1_u8..).zip(&basket.lines) {
                let insert = "INSERT INTO order_line (order_id, line, product_id, quantity, price, stamp)
                              VALUES (?, ?, ?, ?, ?, ?)";
                let Line { product, quantity, price, stamp, .. } = *line;
                let line = (order, number, product, quantity, price, stamp);
                sql.exec_drop(insert, line).await?;
            }
            Ok::<_, Error>(())
        })
        .await;
        self.finish(body, basket.effects()).await
    }
}
