//! Clients that move many rows at once, and clients that only read.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};

use super::Postgres;
use crate::failure::Answer;
use crate::failure::Result as Started;
use crate::ledger::{Effect, Table};
use crate::shopper::{Lost, Shopper, ask};

const BATCH_ROWS: usize = 50;

impl Shopper<Postgres> {
    /// A batch of rows through COPY FROM STDIN; now and then a COPY TO STDOUT.
    pub(super) async fn copy_views(&mut self) -> Result<(), Lost> {
        let sql = Arc::clone(&self.link.sql);
        if self.random(8) == 0 {
            self.doing = "COPY TO STDOUT";
            let answer: Answer<usize> = ask(async {
                let copy = "COPY (SELECT * FROM page_view ORDER BY id DESC LIMIT 500) TO STDOUT (FORMAT csv)";
                let chunks: Vec<Bytes> = sql.copy_out(copy).await?.try_collect().await?;
                Ok::<_, tokio_postgres::Error>(chunks.len())
            })
            .await;
            if let Some(rows) = self.settle(answer, true, Vec::new())?
                && rows != 500
            {
                self.complain(&format!("500 rows were asked for, {rows} came"));
            }
            return Ok(());
        }
        self.doing = "COPY FROM STDIN";
        let (mut text, mut effects) = (String::new(), Vec::new());
        for _ in 0..BATCH_ROWS {
            let (stamp, path) = (self.stamp(), format!("/product/{}", self.random(5_000)));
            let _ = writeln!(text, "{path}\t10.1.2.3\t{{\"browser\": \"new\"}}\t{stamp}");
            effects.push(Effect::row(Table::PageView, stamp, &path));
        }
        let answer = ask(async {
            let sink = sql.copy_in("COPY page_view (path, visitor, agent, stamp) FROM STDIN").await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(Bytes::from(text)).await?;
            sink.finish().await
        })
        .await;
        if let Some(rows) = self.settle(answer, true, effects)?
            && rows != 50
        {
            self.complain(&format!("50 rows were sent, {rows} were counted"));
        }
        Ok(())
    }

    /// Prepares what [`Self::read_report`] asks.
    pub(super) async fn prepare_reports(&mut self) -> Started<()> {
        for text in [
            "SELECT sum(points)::bigint FROM customer WHERE id <= 16",
            "SELECT customer, city, state::text, total::bigint FROM order_overview
             WHERE id BETWEEN $1 AND $1 + 20 ORDER BY placed_at",
            "SELECT c.name, s.amount::text, p.sku FROM sales_by_category s JOIN category c USING (id)
             JOIN product p ON p.category_id = c.id WHERE p.attributes @> '{\"size\": 7}' AND p.id > $1
             ORDER BY p.id LIMIT 20",
        ] {
            self.prepared.push(self.link.sql.prepare(text).await?);
        }
        Ok(())
    }

    /// One report; a number that only grows must never be seen to shrink.
    pub(super) async fn read_report(&mut self) -> Result<(), Lost> {
        let sql = Arc::clone(&self.link.sql);
        let [points, orders, sales] = self.prepared.as_slice() else {
            return Err(Lost);
        };
        let (points, orders, sales) = (points.clone(), orders.clone(), sales.clone());
        match self.random(3) {
            0 => {
                self.doing = "a growing number";
                let answer = ask(sql.query_one(&points, &[])).await;
                if let Some(row) = self.settle(answer, true, Vec::new())? {
                    let seen: i64 = row.get(0);
                    if seen < self.expected {
                        self.complain(&format!("read {seen} after it had read {}", self.expected));
                    }
                    self.expected = seen;
                }
            }
            1 => {
                self.doing = "a report over partitions";
                let first = 1_000 + self.random_key(90_000);
                let answer = ask(sql.query(&orders, &[&first])).await;
                self.settle(answer, true, Vec::new())?;
            }
            _ => {
                self.doing = "a report over a materialized view";
                let first = self.random_key(4_000);
                let answer = ask(sql.query(&sales, &[&first])).await;
                self.settle(answer, true, Vec::new())?;
            }
        }
        Ok(())
    }
}
