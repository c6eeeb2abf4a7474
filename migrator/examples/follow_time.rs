//! Times the catching up of what pgbench wrote: `follow_time SOURCE_PORT TARGET_PORT begin|run`.
//!
//! `begin` makes the publication, the slot and the records in database `shop` of both; between the two, write.

use std::sync::Arc;
use std::time::Duration;

use migrator::follow::Follow;
use migrator::plan::Settings;
use migrator::postgres::stream::Replication;
use migrator::postgres::{Endpoint, Postgres, Tools, follow, plan, snapshot};
use migrator::progress::Progress;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn endpoint(port: &str) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".into(),
        port: port.parse().expect("a port"),
        user: "postgres".into(),
        password: None,
        database: "shop".into(),
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, source, target, what] = arguments.as_slice() else {
        panic!("follow_time SOURCE_PORT TARGET_PORT begin|run");
    };
    let (source, target) = (endpoint(source), endpoint(target));
    let postgres = Postgres::new(
        "timed",
        source,
        target,
        Settings::default(),
        Tools::default(),
    );
    let writer = postgres
        .connect_source("time")
        .await
        .expect("the source answers");
    let plan = plan::read(&postgres).await.expect("the plan is read");
    if what == "begin" {
        let target = postgres
            .connect_target("time")
            .await
            .expect("the target answers");
        let publish = format!(
            "CREATE PUBLICATION {} FOR ALL TABLES",
            postgres.publication()
        );
        writer.batch_execute(&publish).await.expect("published");
        let mut creator = Replication::connect(postgres.source(), "time")
            .await
            .expect("connected");
        let made = creator
            .create_slot(&postgres.slot(), false, Duration::from_secs(10))
            .await;
        let start = made
            .expect("the slot is created")
            .consistent_point
            .to_string();
        snapshot::install_records(&target)
            .await
            .expect("the records are there");
        for table in &plan.tables {
            let record =
                "INSERT INTO headgate.tables VALUES ('timed', $1, $2, $3::text::pg_lsn, 'indexed')";
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&table.schema, &table.name, &start];
            target.execute(record, &values).await.expect("recorded");
        }
        let record = "INSERT INTO headgate.progress VALUES ('timed', $1::text::pg_lsn)";
        target.execute(record, &[&start]).await.expect("recorded");
        return;
    }
    let (handle, progress, stop) = (Follow::default(), Arc::default(), CancellationToken::new());
    let marker = "SELECT pg_logical_emit_message(true, 'headgate', 'marker:timed')";
    writer.batch_execute(marker).await.expect("marked");
    let begin = Instant::now();
    let follower = {
        let (handle, progress, stop) = (handle.clone(), Arc::clone(&progress), stop.clone());
        tokio::spawn(async move { follow::run(&postgres, &plan, handle, progress, stop).await })
    };
    handle
        .wait_marker("timed", Duration::from_mins(10))
        .await
        .expect("applied");
    let took = begin.elapsed().as_secs_f64();
    let cpu = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: f64 = cpu
        .split(' ')
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    let progress: &Progress = &progress;
    let transactions = progress.transactions_applied();
    println!(
        "{transactions} transactions in {took:.2} s, own CPU {:.2} s",
        ticks / 100.0
    );
    stop.cancel();
    follower.await.expect("no panic").expect("it stops");
}
