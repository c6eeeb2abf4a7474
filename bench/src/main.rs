//! Side-by-side measurements against real peers: `bench [session|cutover|copy|follow|all] [--quick]`.
//!
//! Nothing here asserts a time. Contenders take turns within each round, so that what disturbs the machine disturbs
//! them alike, and a ratio is the median of the rounds' own ratios. Absolute numbers compare within one run only.

mod copy;
mod cpu;
mod cutover;
mod follow;
mod ground;
mod load;
mod migration;
mod peers;
mod session;
mod table;

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
    /// All of them.
    All,
}

/// Measures Headgate side by side with its peers, on servers of its own.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    part: Part,
    /// Small data and one short round: shows that the benches work, and measures nothing.
    #[arg(long)]
    quick: bool,
}

#[tokio::main]
async fn main() {
    let Arguments { part, quick } = Arguments::parse();
    let wanted = |one: Part| part == one || part == Part::All;
    println!("{}", ground::machine());
    if quick {
        println!("--quick: the numbers below mean nothing");
    }
    if wanted(Part::Session) {
        session::run(quick).await;
    }
    if wanted(Part::Cutover) {
        cutover::run(quick).await;
    }
    if wanted(Part::Copy) {
        copy::run(quick).await;
    }
    if wanted(Part::Follow) {
        follow::run(quick).await;
    }
    println!("\n{}", ground::machine());
}
