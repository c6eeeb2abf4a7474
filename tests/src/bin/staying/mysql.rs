//! mysql_async, which prepares each statement once and keeps it.

use std::sync::Arc;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, SslOpts, TxOpts, Value};

use super::{COLUMNS, Case, Failure, MANY, Session, Values, same};

const MOMENT: &str = "TIMESTAMP('2024-02-29 12:00:00')";

/// One session.
pub(super) struct Staying {
    case: Arc<Case>,
    at: usize,
    conn: Conn,
}

fn encryption(case: &Case) -> Option<SslOpts> {
    match case.tls.as_str() {
        "disable" => None,
        "require" => Some(SslOpts::default().with_danger_accept_invalid_certs(true)),
        _ => {
            let trusted = vec![case.authority.clone().into()];
            Some(SslOpts::default().with_root_certs(trusted).with_disable_built_in_roots(true))
        }
    }
}

impl Session for Staying {
    async fn open(case: Arc<Case>, at: usize) -> Result<Self, Failure> {
        let options = OptsBuilder::default()
            .ip_or_hostname(case.host.clone())
            .tcp_port(case.port)
            .user(Some(case.user.clone()))
            .pass(Some(case.password.clone()))
            .db_name(Some(case.database.clone()))
            .prefer_socket(false)
            .ssl_opts(encryption(&case));
        let conn = Conn::new(options).await?;
        Ok(Self { case, at, conn })
    }

    async fn work(&mut self, number: i32) -> Result<(), Failure> {
        let Values { amount, ratio, even, body, note, .. } = Values::of(number);
        let insert = format!(
            "INSERT INTO taken ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, {MOMENT} + INTERVAL ? SECOND, NULL)"
        );
        let row: Vec<Value> = vec![
            self.case.name.as_str().into(),
            self.at.into(),
            number.into(),
            amount.as_str().into(),
            ratio.into(),
            even.into(),
            body.clone().into(),
            note.into(),
            number.into(),
        ];
        let [mine, this] = [&row[..2], &row[..3]].map(<[Value]>::to_vec);
        let mut transaction = self.conn.start_transaction(TxOpts::default()).await?;
        transaction.exec_drop(&insert, row.clone()).await?;
        match transaction.exec_drop(&insert, row).await {
            Err(Error::Server(error)) if error.code == 1062 => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return Err("the same row twice".into()),
        }
        let ids: Vec<(i32, String)> =
            transaction.exec("SELECT id, body FROM many WHERE id > ? ORDER BY id", (0,)).await?;
        same("many", &ids.into_iter().map(|row| row.0).collect(), &(1..=MANY).collect::<Vec<i32>>())?;
        let counted = "SELECT COUNT(*) FROM taken WHERE driver = ? AND session = ?";
        same("counted", &transaction.exec_first(counted, mine).await?, &Some(number))?;
        let last = format!(
            "SELECT CAST(amount AS CHAR), body, TIMESTAMPDIFF(SECOND, {MOMENT}, moment) FROM taken
             WHERE driver = ? AND session = ? AND number = ?"
        );
        same("the last one", &transaction.exec_first(last, this).await?, &Some((amount, body, number)))?;
        transaction.commit().await?;
        Ok(())
    }

    async fn close(self) -> Result<(), Failure> {
        Ok(self.conn.disconnect().await?)
    }
}
