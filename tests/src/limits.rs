//! Servers that end what lasts (idle sessions, statements, transactions, waits), and a migration between them.

use crate::wait::{SOON, until};
use crate::world::{DATABASE, Side, World};

/// Headgate's account on both sides. Its sessions, and nobody else's, are under the limits of a second where these can be a role's.
pub const MOVER: &str = "mover";

/// What servers say when they end something for one of these reasons.
const ENDED: [&str; 9] = [
    "due to statement timeout",
    "due to lock timeout",
    "due to idle-session timeout",
    "due to idle-in-transaction timeout",
    "due to transaction timeout",
    "(error 1205",
    "(error 1969",
    "(error 3024",
    "(error 4031",
];

/// The first value of a query.
async fn value<S: Side>(side: &S, query: &str) -> String {
    let rows = side.sql(DATABASE, query).await;
    rows.into_iter().flatten().next().flatten().unwrap_or_default()
}

/// Waits until a query counts something.
pub async fn until_some<S: Side>(side: &S, query: &str) {
    until(query, SOON, || value(side, query), |count| count != "0").await;
}

/// Writes a row on one side, and waits until both have it.
async fn writes<S: Side>(world: &World<S>, side: &S, number: u32) {
    side.sql(DATABASE, &format!("INSERT INTO t VALUES ({number})")).await;
    world.until_equal("SELECT COUNT(*), SUM(id) FROM t").await;
}

/// What follows between these servers, after waits that were longer than the limits, has lost nothing by them; all sessions that are
/// then ended by `end` cost only time.
pub async fn moves_and_comes_back<S: Side>(world: &World<S>, end: impl AsyncFn(&S)) {
    writes(world, &world.source, 1_000_001).await;
    world.check().await;
    let log = world.headgate.log();
    let ended: Vec<&str> = log.lines().filter(|line| ENDED.iter().any(|text| line.contains(text))).collect();
    assert!(ended.is_empty(), "{}", ended.join("\n"));
    assert!(!log.contains("interrupted"), "{log}");
    end(&world.source).await;
    end(&world.target).await;
    writes(world, &world.source, 1_000_002).await;
    world.check().await;
    world.cutover().await;
    end(&world.target).await;
    end(&world.source).await;
    writes(world, &world.target, 1_000_003).await;
    world.roll_back().await;
    writes(world, &world.source, 1_000_004).await;
}
