//! A switch leaves its mark on the source: a Headgate without the journal serves nobody from there, and says what to do.

use tests::headgate::signal;
use tests::postgres::{Record, rows, try_connect, try_rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World};

const SCHEMA: &str =
    "create table t (id bigserial primary key, v text); insert into t (v) select 'old' from generate_series(1, 100)";
const CREATE: &str = "CREATE MIGRATION m FROM blue TO green FOR ROUTE shop";
const MARKS: &str = "select coalesce(string_agg(migration || '/' || route || '/' || target || '/' || switched, ','), '') from headgate.switches";

/// Switches, writes one row, and starts again without the journal.
async fn switched_and_lost() -> World {
    let mut world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    world.headgate.admin("REHEARSE MIGRATION m").await;
    assert_eq!(world.source.value(DATABASE, MARKS).await, "");
    world.cutover().await;
    rows(&world.client().await, "insert into t (v) values ('new')").await;
    assert_eq!(world.source.value(DATABASE, MARKS).await, "m/shop/green/true");
    // What a migration that is not over has fenced stays fenced.
    let (_, text) =
        world.headgate.refused("CLEAR SWITCH MARK ON blue FOR ROUTE shop WITH (give_up_switch = true)").await;
    assert!(text.contains("which is not over"), "{text}");
    world.headgate.kill().await;
    world.headgate.lose_journal();
    world
}

/// The route as it is shown once it is known whether it is served.
async fn route(world: &World) -> Record {
    let ask = || world.row("SHOW ROUTES");
    let known = |row: &Record| row.get("admission").is_some_and(|is| is != "not looked at yet");
    until("the route was looked at", SOON, ask, known).await
}

async fn refused(world: &World) -> String {
    let route = route(world).await;
    assert_eq!(route.get("admission").map(String::as_str), Some("refused"));
    let port = world.headgate.port();
    let error = try_connect(port, "postgres", None, DATABASE).await.expect_err("stale rows are served");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("57P03"), "{error:?}");
    let page = world.headgate.page("/readyz").await;
    let why = route.get("reason").cloned().unwrap_or_default();
    assert!(page.contains(" 503 ") && page.contains(&why), "{page}");
    let (_, text) = world.headgate.refused(CREATE).await;
    assert!(text.contains(&why), "{text}");
    route.get("remedy").cloned().unwrap_or_default()
}

/// The statement that a remedy prints.
fn printed(remedy: &str) -> &str {
    let from = remedy.find("CLEAR SWITCH MARK").expect("a statement");
    let rest = remedy.get(from..).unwrap_or_default();
    rest.split(" lets ").next().unwrap_or_default()
}

#[tokio::test]
async fn without_its_journal_a_switched_route_is_not_served_from_the_source() {
    let mut world = switched_and_lost().await;
    world.headgate.launch().await;
    let remedy = refused(&world).await;
    let (_, text) = world.headgate.refused("CLEAR SWITCH MARK ON blue FOR ROUTE shop").await;
    assert!(text.contains("moved route shop to green"), "{text}");

    // The journal knows whose mark it is.
    world.headgate.kill().await;
    world.headgate.restore_journal();
    world.headgate.launch().await;
    let new = "select count(*) from t where v = 'new'";
    assert_eq!(rows(&world.client().await, new).await, [[Some("1".to_owned())]]);
    assert_eq!(route(&world).await.get("admission").map(String::as_str), Some("open"));

    // Without it, the configuration can say the same.
    world.headgate.kill().await;
    world.headgate.lose_journal();
    world.headgate.launch().await;
    refused(&world).await;
    assert!(remedy.contains("write cluster = \"green\" into [routes.shop]"), "{remedy}");
    world.headgate.configure("cluster = \"blue\"", "cluster = \"green\"");
    signal(world.headgate.pid(), "HUP").await;
    let ask = || world.row("SHOW ROUTES");
    let open = |row: &Record| {
        let is = |key: &str, value: &str| row.get(key).is_some_and(|reported| reported == value);
        is("cluster", "green") && is("admission", "open")
    };
    until("the target is served", SOON, ask, open).await;
    assert_eq!(rows(&world.client().await, new).await, [[Some("1".to_owned())]]);

    // The way back fills a cluster that was switched away from: that is found, and its remedy mends it.
    world.headgate.admin("CREATE MIGRATION back FROM green TO blue FOR ROUTE shop").await;
    let marked = |checks: Vec<Record>| {
        checks.into_iter().find(|check| {
            check.get("check").map(String::as_str) == Some("switch_mark")
                && check.get("level").map(String::as_str) == Some("error")
        })
    };
    let found = marked(world.headgate.admin("PRECHECK MIGRATION back").await).expect("a finding");
    let fix = found.get("fix").cloned().unwrap_or_default();
    world.headgate.admin(&fix).await;
    assert_eq!(marked(world.headgate.admin("PRECHECK MIGRATION back").await), None);
    let left = "select count(*) from pg_namespace where nspname = 'headgate'";
    assert_eq!(world.source.value(DATABASE, left).await, "0");
    let write = "insert into t (v) values ('again') returning v";
    assert_eq!(world.source.value(DATABASE, write).await, "again");
}

#[tokio::test]
async fn a_mark_of_which_nobody_knows_whether_the_switch_took_place_says_so_and_can_be_cleared() {
    let mut world = switched_and_lost().await;
    // As a process leaves it that ends between the refusal and the decision.
    world.source.sql(DATABASE, "update headgate.switches set switched = false").await;
    world.headgate.launch().await;
    let remedy = refused(&world).await;
    let reason = route(&world).await.get("reason").cloned().unwrap_or_default();
    assert!(reason.contains("is not known here"), "{reason}");
    let around = world.source.connect(DATABASE).await;
    let write = "insert into t (v) values ('back')";
    try_rows(&around, write).await.expect_err("it is fenced");
    world.headgate.admin(printed(&remedy)).await;
    assert_eq!(route(&world).await.get("admission").map(String::as_str), Some("open"));
    rows(&world.client().await, write).await;
    let page = world.headgate.page("/readyz").await;
    assert!(page.contains(" 200 "), "{page}");
    world.headgate.admin(CREATE).await;
    let (_, text) = world.headgate.refused("CLEAR SWITCH MARK ON blue FOR ROUTE shop").await;
    assert!(text.contains("no mark"), "{text}");
}

#[tokio::test]
async fn nobody_is_let_in_before_the_cluster_was_looked_at() {
    let mut world = switched_and_lost().await;
    world.source.server.kill().await.expect("it runs");
    world.headgate.launch().await;
    let port = world.headgate.port();
    let error = try_connect(port, "postgres", None, DATABASE).await.expect_err("the cluster is away");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("57P03"), "{error:?}");
    world.source.server.restart().await.expect("it starts again");
    let ask = || world.row("SHOW ROUTES");
    let is_refused = |row: &Record| row.get("admission").is_some_and(|is| is == "refused");
    let row = until("the mark is seen", SOON, ask, is_refused).await;
    assert!(row.contains_key("remedy"), "{row:?}");
    refused(&world).await;
}

#[tokio::test]
async fn a_name_that_only_the_default_route_serves_is_looked_at_too() {
    let mut world = switched_and_lost().await;
    world.headgate.configure("[routes.shop]", "[routes.\"*\"]");
    world.headgate.launch().await;
    let port = world.headgate.port();
    let error = try_connect(port, "postgres", None, DATABASE).await.expect_err("stale rows are served");
    let code = error.code().map(tokio_postgres::error::SqlState::code);
    assert_eq!(code, Some("57P03"), "{error:?}");
    let other = try_connect(port, "postgres", None, "postgres").await;
    rows(&other.expect("nothing is in the way there"), "select 1").await;
    let routes = world.headgate.admin("SHOW ROUTES").await;
    let is_shop = |row: &&Record| row.get("route").is_some_and(|route| route == DATABASE);
    let shop = routes.iter().find(is_shop).expect("why it is refused");
    assert_eq!(shop.get("admission").map(String::as_str), Some("refused"));
    let remedy = shop.get("remedy").cloned().unwrap_or_default();
    world.headgate.admin(printed(&remedy)).await;
    let again = try_connect(port, "postgres", None, DATABASE).await;
    rows(&again.expect("it was cleared"), "insert into t (v) values ('back')").await;
}

#[tokio::test]
async fn marks_that_may_not_be_read_are_said_to_be_unknown_until_the_printed_right_is_granted() {
    let mut world = switched_and_lost().await;
    world.source.sql(DATABASE, "revoke usage on schema headgate from public; create role looker login").await;
    world.headgate.configure("user = \"postgres\"", "user = \"looker\"");
    world.headgate.launch().await;
    let unknown = route(&world).await;
    let reported = |column: &str| unknown.get(column).cloned().unwrap_or_default();
    assert_eq!(reported("admission"), "unknown", "{unknown:?}");
    assert!(reported("reason").contains("cannot be known"), "{unknown:?}");
    let page = world.headgate.page("/readyz").await;
    assert!(page.contains(" 200 ") && page.contains(&reported("reason")), "{page}");
    rows(&world.client().await, "select 1").await;
    let remedy = reported("remedy");
    let (grants, _) = remedy.split_once("; then reload").expect("statements");
    world.source.sql(DATABASE, grants).await;
    signal(world.headgate.pid(), "HUP").await;
    let ask = || world.row("SHOW ROUTES");
    let is_refused = |row: &Record| row.get("admission").is_some_and(|is| is == "refused");
    until("the mark is seen", SOON, ask, is_refused).await;
}

#[tokio::test]
async fn a_journal_from_before_the_switch_does_not_undo_it() {
    let mut world = World::start(SCHEMA).await;
    world.follow().await;
    world.check().await;
    let slow = world.client().await;
    rows(&slow, "begin; insert into t (v) values ('slow')").await;
    let console = world.headgate.console().await;
    let cutting =
        tokio::spawn(async move { console.simple_query("CUTOVER MIGRATION m WITH (max_hold = '20s')").await.is_err() });
    let ask = || world.status("stage");
    until("it holds", SOON, ask, |stage| stage == "Holding").await;
    world.headgate.kill().await;
    assert!(cutting.await.expect("no panic"));
    world.headgate.back_up_journal();
    world.headgate.launch().await;
    world.until_state("following", MIGRATION).await;
    world.cutover().await;
    let client = world.client().await;
    rows(&client, "insert into t (v) values ('new')").await;
    world.headgate.kill().await;
    world.headgate.restore_journal();

    world.headgate.launch().await;
    let port = world.headgate.port();
    try_connect(port, "postgres", None, DATABASE).await.expect_err("stale rows are served");
    assert_eq!(route(&world).await.get("admission").map(String::as_str), Some("refused"));
    let ask = || world.row("SHOW MIGRATION STATUS m");
    let failed = |row: &Record| row.get("state").is_some_and(|state| state == "failed");
    let status = until("the journal is seen to be old", SOON, ask, failed).await;
    let reported = format!("{status:?}");
    assert!(reported.contains("older than the switch"), "{reported}");
    let around = world.source.connect(DATABASE).await;
    let write = "insert into t (v) values ('back')";
    try_rows(&around, write).await.expect_err("it is fenced");
    world.headgate.refused("START MIGRATION m").await;

    // What is told helps.
    assert!(reported.contains("DROP MIGRATION m, then write"), "{reported}");
    world.headgate.admin("DROP MIGRATION m").await;
    world.headgate.configure("cluster = \"blue\"", "cluster = \"green\"");
    signal(world.headgate.pid(), "HUP").await;
    let ask = || world.row("SHOW ROUTES");
    let open = |row: &Record| {
        let is = |key: &str, value: &str| row.get(key).is_some_and(|reported| reported == value);
        is("cluster", "green") && is("admission", "open")
    };
    until("the target is served", SOON, ask, open).await;
    let new = "select count(*) from t where v = 'new'";
    assert_eq!(rows(&world.client().await, new).await, [[Some("1".to_owned())]]);
    try_rows(&around, write).await.expect_err("it is fenced still");
}
