//! Side-by-side measurements against real peers: `bench [session|cutover|copy|follow|way-back|all] [--engine ENGINE] [--quick]`.
//!
//! Nothing here asserts a time. Contenders take turns within each round, so that what disturbs the machine disturbs
//! them alike, and a ratio is the median of the rounds' own ratios. Absolute numbers compare within one run only.

mod cpu;
mod ground;
mod mysql;
mod peers;
mod postgres;
mod rehearsals;
mod table;
mod way_back;

use clap::{Parser, ValueEnum};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Throughput, latency and CPU per transaction of one more hop.
    Session,
    /// The distribution of the hold over rehearsals under load.
    Cutover,
    /// Copying a database.
    Copy,
    /// Catching up with what was written meanwhile.
    Follow,
    /// Coming back after a switch, and what the proof of the switch costs the application.
    WayBack,
    /// All of them.
    All,
}

/// Whose servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
    /// Both, one after the other.
    All,
}

/// Measures Headgate side by side with its peers, on servers of its own.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    part: Part,
    /// Whose servers.
    #[arg(long, value_enum, default_value = "all")]
    engine: Engine,
    /// Small data and one short round: shows that the benches work, and measures nothing.
    #[arg(long)]
    quick: bool,
    /// Rows that the proof of the switch compares in a second; Headgate's own default where it is not given.
    #[arg(long)]
    proof_rate: Option<u64>,
}

#[tokio::main]
async fn main() {
    let Arguments { part, engine, quick, proof_rate } = Arguments::parse();
    let wanted = |one: Part| part == one || part == Part::All;
    let of = |one: Engine| engine == one || engine == Engine::All;
    println!("{}", ground::machine());
    if quick {
        println!("--quick: the numbers below mean nothing");
    }
    if wanted(Part::Session) && of(Engine::Postgres) {
        postgres::session::run(quick).await;
    }
    if wanted(Part::Session) && of(Engine::Mysql) {
        mysql::session::run(quick).await;
    }
    if wanted(Part::Cutover) && of(Engine::Postgres) {
        postgres::cutover::run(quick).await;
    }
    if wanted(Part::Cutover) && of(Engine::Mysql) {
        mysql::cutover::run(quick).await;
    }
    if wanted(Part::Copy) && of(Engine::Postgres) {
        postgres::copy::run(quick).await;
    }
    if wanted(Part::Copy) && of(Engine::Mysql) {
        mysql::copy::run(quick).await;
    }
    if wanted(Part::Follow) && of(Engine::Postgres) {
        postgres::follow::run(quick).await;
    }
    if wanted(Part::Follow) && of(Engine::Mysql) {
        mysql::follow::run(quick).await;
    }
    if wanted(Part::WayBack) && of(Engine::Postgres) {
        postgres::way_back::run(quick, proof_rate).await;
    }
    if wanted(Part::WayBack) && of(Engine::Mysql) {
        mysql::way_back::run(quick, proof_rate).await;
    }
    println!("\n{}", ground::machine());
}
