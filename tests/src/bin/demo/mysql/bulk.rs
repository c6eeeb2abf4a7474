//! Clients that move many rows at once, and clients that only read.

use std::fmt::Write as _;

use bytes::Bytes;
use futures_util::stream;
use mysql_async::prelude::Queryable;
use mysql_async::{Error, Params, Row};

use super::Mysql;
use crate::failure::{Answer, Result as Started};
use crate::ledger::{Effect, Table};
use crate::link::Link as _;
use crate::shopper::{Lost, Shopper, ask};

const BATCH_ROWS: usize = 50;

impl Shopper<Mysql> {
    /// A batch of rows from a file of the client's, or in one INSERT; now and then many rows the other way.
    pub(super) async fn load_views(&mut self) -> Result<(), Lost> {
        if self.random(8) == 0 {
            self.doing = "many rows of an answer";
            let many = "SELECT * FROM page_view ORDER BY id DESC LIMIT 500";
            let answer = ask(self.link.ask(many)).await;
            if let Some(rows) = self.settle(answer, true, Vec::new())?
                && rows.len() != 500
            {
                self.complain(&format!("500 rows were asked for, {} came", rows.len()));
            }
            return Ok(());
        }
        let mut views = Vec::new();
        for _ in 0..BATCH_ROWS {
            views.push((self.stamp(), format!("/product/{}", self.random(5_000))));
        }
        let effects = views.iter().map(|(stamp, path)| Effect::row(Table::PageView, *stamp, path)).collect();
        let answer = if self.random(3) == 0 {
            self.doing = "many rows in one INSERT";
            self.insert(&views).await
        } else {
            self.doing = "LOAD DATA LOCAL INFILE";
            self.load(&views).await
        };
        if let Some(rows) = self.settle(answer, true, effects)?
            && rows != 50
        {
            self.complain(&format!("50 rows were sent, {rows} were counted"));
        }
        Ok(())
    }

    async fn insert(&mut self, views: &[(i64, String)]) -> Answer<u64> {
        let rows =
            views.iter().map(|(stamp, path)| format!("('{path}', x'0a010203', '{{\"browser\": \"new\"}}', {stamp})"));
        let rows = rows.collect::<Vec<_>>().join(", ");
        let sql = &mut self.link.sql;
        ask(async {
            sql.query_drop(format!("INSERT INTO page_view (path, visitor, agent, stamp) VALUES {rows}")).await?;
            Ok::<_, Error>(sql.affected_rows())
        })
        .await
    }

    async fn load(&mut self, views: &[(i64, String)]) -> Answer<u64> {
        let mut text = String::new();
        for (stamp, path) in views {
            let _ = writeln!(text, "{path}\t{{\"browser\": \"new\"}}\t{stamp}");
        }
        let sql = &mut self.link.sql;
        // Cut in the middle of a line, which is nothing that a relay may care about.
        let rest = Bytes::from(text.split_off(text.len() / 2));
        let pieces = [Ok(Bytes::from(text)), Ok(rest)];
        sql.set_infile_handler(async move { Ok(Box::pin(stream::iter(pieces)) as _) });
        ask(async {
            let load = "LOAD DATA LOCAL INFILE 'views' INTO TABLE page_view CHARACTER SET utf8mb4
                        (path, agent, stamp) SET visitor = x'0a010203'";
            sql.query_drop(load).await?;
            Ok::<_, Error>(sql.affected_rows())
        })
        .await
    }

    /// Prepares what [`Self::read_report`] asks, on a session without autocommit.
    pub(super) async fn prepare_reports(&mut self) -> Started<()> {
        self.commit_by_hand().await?;
        for text in [
            "SELECT CAST(sum(points) AS SIGNED) FROM customer WHERE id <= 16",
            "SELECT customer, state, total, placed_at FROM order_overview WHERE id BETWEEN ? AND ? ORDER BY placed_at",
            "SELECT p.id, c.name, in_euro(p.price), p.picture, p.flags + 0 FROM product p
             JOIN category c ON p.category_id = c.id WHERE p.searched LIKE 'sku-00%' AND p.id > ?
             ORDER BY p.id LIMIT 20",
        ] {
            self.prepared.push(self.link.sql.prep(text).await?);
        }
        Ok(())
    }

    /// One report; a number that only grows must never be seen to shrink.
    pub(super) async fn read_report(&mut self) -> Result<(), Lost> {
        match self.random(3) {
            0 => {
                self.doing = "a growing number";
                if let Some(rows) = self.report(0, Params::Empty).await? {
                    let seen = rows.into_iter().next().and_then(|row| row.get(0));
                    let seen: i64 = seen.unwrap_or(0);
                    if seen < self.expected {
                        self.complain(&format!("read {seen} after it had read {}", self.expected));
                    }
                    self.expected = seen;
                }
            }
            1 => {
                self.doing = "a report over a view";
                let first = 1_000 + self.random_key(90_000);
                self.report(1, (first, first + 20)).await?;
            }
            _ => {
                self.doing = "a report with a stored function";
                let first = self.random_key(4_000);
                if let Some(rows) = self.report(2, (first,)).await?
                    && rows.len() != 20
                {
                    self.complain(&format!("20 rows were asked for, {} came", rows.len()));
                }
            }
        }
        Ok(())
    }

    async fn report(&mut self, index: usize, parameters: impl Into<Params> + Send) -> Result<Option<Vec<Row>>, Lost> {
        let statement = self.prepared.get(index).cloned().ok_or(Lost)?;
        let answer = ask(self.link.sql.exec(&statement, parameters)).await;
        let rows = self.settle(answer, true, Vec::new())?;
        // A read without autocommit holds its transaction open until this.
        let ended = ask(self.link.run("COMMIT")).await;
        self.settle(ended, true, Vec::new())?;
        Ok(rows)
    }
}
