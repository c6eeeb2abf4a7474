//! A switch leaves its mark on the source: a Headgate without the journal serves nobody from there, and says what to do.

use mysql_async::Conn;
use tests::headgate::signal;
use tests::mysql::{Mysql, Pair, Record, connect, rows, single, try_connect, try_records, try_rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, PASSWORD, USER, World};

const SCHEMA: &str = "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40)) ENGINE = InnoDB;
    INSERT INTO t (v) VALUES ('old')";
const CREATE: &str = "CREATE MIGRATION m FROM blue TO green FOR ROUTE shop";
const MARKS: &str =
    "SELECT COUNT(*) FROM headgate.switches WHERE switch_of = 'm' AND route = 'shop' AND target = 'green'";
const WRITE: &str = "INSERT INTO t (v) VALUES ('again')";

for_every_pair! {
    without_its_journal_a_switched_route_is_not_served_from_the_source,
    a_mark_of_which_nobody_knows_whether_the_switch_took_place_says_so_and_can_be_cleared,
    marks_that_may_not_be_read_are_said_to_be_unknown_until_the_printed_right_is_granted,
}

/// Switches, writes one row, and ends without the journal.
async fn lose(world: &mut World<Mysql>) {
    lose_with(world, "armed").await;
}

/// As [`lose`], with the way back armed or none.
async fn lose_with(world: &mut World<Mysql>, way_back: &str) {
    world.follow().await;
    world.check().await;
    world.headgate.admin(&format!("REHEARSE MIGRATION m WITH (way_back = '{way_back}')")).await;
    assert_eq!(world.source.value(DATABASE, MARKS).await, "0");
    if way_back == "none" {
        world.cutover_without_way_back().await;
    } else {
        world.cutover().await;
    }
    rows(&mut world.client().await, "INSERT INTO t (v) VALUES ('new')").await;
    let confirmed = format!("{MARKS} AND switched = 1");
    let mut privileged = privileged(world).await;
    assert_eq!(single(&rows(&mut privileged, &confirmed).await, MARKS), "1");
    // What a migration that is not over has fenced stays fenced.
    let (_, text) =
        world.headgate.refused("CLEAR SWITCH MARK ON blue FOR ROUTE shop WITH (give_up_switch = true)").await;
    assert!(text.contains("which is not over"), "{text}");
    world.headgate.kill().await;
    world.headgate.lose_journal();
}

/// Whom no fence keeps out of the source.
async fn privileged(world: &World<Mysql>) -> Conn {
    let port = world.source.port();
    match try_connect(port, "mover", Some("mover"), "").await {
        Ok(session) => session,
        Err(_) => world.source.connect("").await,
    }
}

/// The route as it is shown once it is known whether it is served.
async fn route(world: &World<Mysql>) -> Record {
    let ask = || world.row("SHOW ROUTES");
    let known = |row: &Record| row.get("admission").is_some_and(|is| is != "not looked at yet");
    until("the route was looked at", SOON, ask, known).await
}

async fn is_open(world: &World<Mysql>) -> bool {
    route(world).await.get("admission").is_some_and(|is| is == "open")
}

async fn refused(world: &World<Mysql>) -> Record {
    let route = route(world).await;
    assert_eq!(route.get("admission").map(String::as_str), Some("refused"));
    let port = world.headgate.port();
    let error = try_connect(port, USER, Some(PASSWORD), DATABASE).await.expect_err("stale rows are served");
    assert!(matches!(&error, mysql_async::Error::Server(reported) if reported.code == 1053), "{error:?}");
    let page = world.headgate.page("/readyz").await;
    let why = route.get("reason").cloned().unwrap_or_default();
    assert!(page.contains(" 503 ") && page.contains(&why), "{page}");
    let (_, text) = world.headgate.refused(CREATE).await;
    assert!(text.contains(&why), "{text}");
    route
}

/// The statement that a remedy prints.
fn printed(remedy: &str) -> &str {
    let from = remedy.find("CLEAR SWITCH MARK").expect("a statement");
    let rest = remedy.get(from..).unwrap_or_default();
    rest.split(" lets ").next().unwrap_or_default()
}

/// The finding of a precheck about marks, if it is an error.
fn marked(checks: Vec<Record>) -> Option<Record> {
    checks.into_iter().find(|check| {
        check.get("check").map(String::as_str) == Some("switch_mark")
            && check.get("level").map(String::as_str) == Some("error")
    })
}

async fn without_its_journal_a_switched_route_is_not_served_from_the_source(pair: Pair) {
    let mut world = World::of(pair, SCHEMA).await;
    lose(&mut world).await;
    world.headgate.launch().await;
    let remedy = refused(&world).await.remove("remedy").unwrap_or_default();
    let (_, text) = world.headgate.refused("CLEAR SWITCH MARK ON blue FOR ROUTE shop").await;
    assert!(text.contains("moved route shop to green"), "{text}");

    // The journal knows whose mark it is.
    world.headgate.kill().await;
    world.headgate.restore_journal();
    world.headgate.launch().await;
    let new = "SELECT COUNT(*) FROM t WHERE v = 'new'";
    assert_eq!(single(&rows(&mut world.client().await, new).await, new), "1");
    // The mark stays as long as the refusal, also behind the end of the migration.
    let finish = || async {
        let mut console = world.headgate.mysql_console().await;
        let done = try_records(&mut console, "FINISH MIGRATION m").await;
        done.map_err(|error| error.to_string())
    };
    until("the recovery has ended", SOON, finish, Result::is_ok).await.expect("it was asked until it went through");
    assert_eq!(world.source.value(DATABASE, MARKS).await, "1");

    // Without it, the configuration can say the same.
    world.headgate.kill().await;
    world.headgate.lose_journal();
    let reported = "write cluster = \"green\" into [routes.shop]";
    assert!(remedy.contains(reported), "{remedy}");
    world.headgate.configure("cluster = \"blue\"", "cluster = \"green\"");
    world.headgate.launch().await;
    assert_eq!(single(&rows(&mut world.client().await, new).await, new), "1");
    if matches!(pair, Pair::Mysql56to97 | Pair::Mariadb1011toMysql97) {
        // There is no way back to an older server.
        return;
    }

    // The way back fills a cluster that was switched away from: that is found, and its remedy mends it.
    world.headgate.admin("CREATE MIGRATION back FROM green TO blue FOR ROUTE shop").await;
    let found = marked(world.headgate.admin("PRECHECK MIGRATION back").await).expect("a finding");
    let fix = found.get("fix").cloned().unwrap_or_default();
    world.headgate.admin(&fix).await;
    let again = world.headgate.admin("PRECHECK MIGRATION back").await;
    assert_eq!(marked(again), None);
    let mut around = connect(world.source.port(), USER, Some(PASSWORD), DATABASE).await;
    rows(&mut around, WRITE).await;
    let left =
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'headgate' AND TABLE_NAME = 'switches'";
    assert_eq!(world.source.value("", left).await, "0");
}

async fn a_mark_of_which_nobody_knows_whether_the_switch_took_place_says_so_and_can_be_cleared(pair: Pair) {
    let mut world = World::of(pair, SCHEMA).await;
    lose(&mut world).await;
    clear_undecided(&mut world).await;
}

async fn clear_undecided(world: &mut World<Mysql>) {
    // As a process leaves it that ends between the refusal and the decision.
    let undecided = "UPDATE headgate.switches SET switched = 0";
    rows(&mut privileged(world).await, undecided).await;
    world.headgate.launch().await;
    let route = refused(world).await;
    let reason = route.get("reason").cloned().unwrap_or_default();
    assert!(reason.contains("is not known here"), "{reason}");
    let remedy = route.get("remedy").cloned().unwrap_or_default();
    let fenced = |world: &World<Mysql>| {
        let port = world.source.port();
        async move {
            match try_connect(port, USER, Some(PASSWORD), DATABASE).await {
                Ok(mut around) => try_rows(&mut around, WRITE).await.is_err(),
                Err(_) => true,
            }
        }
    };
    assert!(fenced(world).await);
    world.headgate.admin(printed(&remedy)).await;
    assert!(is_open(world).await);
    rows(&mut world.client().await, WRITE).await;
    let page = world.headgate.page("/readyz").await;
    assert!(page.contains(" 200 "), "{page}");
    world.headgate.admin(CREATE).await;
    let (_, text) = world.headgate.refused("CLEAR SWITCH MARK ON blue FOR ROUTE shop").await;
    assert!(text.contains("no mark"), "{text}");
}

#[tokio::test]
async fn where_accounts_are_the_refusal_clearing_the_mark_lets_them_in() {
    let mut world = World::of_managed_source(Pair::Mariadb1011to1011, SCHEMA).await;
    lose_with(&mut world, "none").await;
    clear_undecided(&mut world).await;
}

/// A fence that is raised and not sealed: without the journal only its own record tells of it.
#[tokio::test]
async fn a_fence_without_a_mark_is_named_and_can_be_lifted() {
    let mut world = World::of(Pair::Mysql97to97, SCHEMA).await;
    lose(&mut world).await;
    world.source.sql("", "DROP TABLE headgate.switches").await;
    world.headgate.launch().await;
    let route = refused(&world).await;
    let reason = route.get("reason").cloned().unwrap_or_default();
    assert!(reason.contains("fence of migration m"), "{reason}");
    let remedy = route.get("remedy").cloned().unwrap_or_default();
    world.headgate.admin(printed(&remedy)).await;
    assert!(is_open(&world).await);
    rows(&mut world.client().await, WRITE).await;
}

#[tokio::test]
async fn nobody_is_let_in_before_the_cluster_was_looked_at() {
    let mut world = World::of(Pair::Mariadb1011to1011, SCHEMA).await;
    lose(&mut world).await;
    world.source.server.kill().await.expect("it runs");
    world.headgate.launch().await;
    let port = world.headgate.port();
    try_connect(port, USER, Some(PASSWORD), DATABASE).await.expect_err("the cluster is away");
    world.source.server.restart().await.expect("it starts again");
    let ask = || world.row("SHOW ROUTES");
    let is_refused = |row: &Record| row.get("admission").is_some_and(|is| is == "refused");
    until("the mark is seen", SOON, ask, is_refused).await;
    refused(&world).await;
}

#[tokio::test]
async fn a_name_that_only_the_default_route_serves_is_looked_at_too() {
    let mut world = World::of(Pair::Mysql97to97, SCHEMA).await;
    world.source.make_database("other").await;
    lose(&mut world).await;
    world.source.make_account("theirs", "theirs", "other").await;
    world.headgate.configure("[routes.shop]", "[routes.\"*\"]");
    world.headgate.launch().await;
    let port = world.headgate.port();
    let error = try_connect(port, USER, Some(PASSWORD), DATABASE).await.expect_err("stale rows are served");
    assert!(matches!(&error, mysql_async::Error::Server(reported) if reported.code == 1053), "{error:?}");
    let other = try_connect(port, "theirs", Some("theirs"), "other").await;
    rows(&mut other.expect("nothing is in the way there"), "SELECT 1").await;
    let routes = world.headgate.admin("SHOW ROUTES").await;
    let is_shop = |row: &&Record| row.get("route").is_some_and(|route| route == DATABASE);
    let shop = routes.iter().find(is_shop).expect("why it is refused");
    assert_eq!(shop.get("admission").map(String::as_str), Some("refused"));
    let remedy = shop.get("remedy").cloned().unwrap_or_default();
    world.headgate.admin(printed(&remedy)).await;
    let again = try_connect(port, USER, Some(PASSWORD), DATABASE).await;
    rows(&mut again.expect("it was cleared"), WRITE).await;
}

async fn marks_that_may_not_be_read_are_said_to_be_unknown_until_the_printed_right_is_granted(pair: Pair) {
    let mut world = World::of(pair, SCHEMA).await;
    lose(&mut world).await;
    // The application's is locked there.
    world.source.make_account("late", "late", DATABASE).await;
    let looker = "CREATE USER looker@'%' IDENTIFIED BY 'looker'; GRANT PROCESS ON *.* TO looker@'%';
        GRANT SELECT ON shop.* TO looker@'%'; GRANT SELECT ON mysql.* TO looker@'%'";
    world.source.sql("", looker).await;
    world.headgate.configure("user = \"root\"", "user = \"looker\"\npassword = \"looker\"");
    world.headgate.launch().await;
    let unknown = route(&world).await;
    let reported = |column: &str| unknown.get(column).cloned().unwrap_or_default();
    assert_eq!(reported("admission"), "unknown", "{unknown:?}");
    assert!(reported("reason").contains("cannot be known"), "{unknown:?}");
    let page = world.headgate.page("/readyz").await;
    assert!(page.contains(" 200 ") && page.contains(&reported("reason")), "{page}");
    let late = try_connect(world.headgate.port(), "late", Some("late"), DATABASE).await;
    rows(&mut late.expect("it is served"), "SELECT 1").await;
    let remedy = reported("remedy");
    let (grants, _) = remedy.split_once("; then reload").expect("statements");
    assert!(grants.starts_with("GRANT SELECT ON headgate.* TO "), "{grants}");
    world.source.sql("", grants).await;
    signal(world.headgate.pid(), "HUP").await;
    let ask = || world.row("SHOW ROUTES");
    let is_refused = |row: &Record| row.get("admission").is_some_and(|is| is == "refused");
    until("the mark is seen", SOON, ask, is_refused).await;
}

#[tokio::test]
async fn a_journal_from_before_the_switch_does_not_undo_it() {
    let mut world = World::of(Pair::Mariadb1011to1011, SCHEMA).await;
    world.follow().await;
    world.check().await;
    let mut slow = world.client().await;
    rows(&mut slow, "START TRANSACTION; INSERT INTO t (v) VALUES ('slow')").await;
    let mut console = world.headgate.mysql_console().await;
    let cutting = tokio::spawn(async move {
        let cutover = "CUTOVER MIGRATION m WITH (max_hold = '20s')";
        try_rows(&mut console, cutover).await.is_err()
    });
    let ask = || world.status("stage");
    until("it holds", SOON, ask, |stage| stage == "Holding").await;
    world.headgate.kill().await;
    assert!(cutting.await.expect("no panic"));
    world.headgate.back_up_journal();
    world.headgate.launch().await;
    world.until_state("following", MIGRATION).await;
    world.cutover().await;
    let mut client = world.client().await;
    rows(&mut client, "INSERT INTO t (v) VALUES ('new')").await;
    world.headgate.kill().await;
    world.headgate.restore_journal();

    world.headgate.launch().await;
    let port = world.headgate.port();
    try_connect(port, USER, Some(PASSWORD), DATABASE).await.expect_err("stale rows are served");
    assert_eq!(route(&world).await.get("admission").map(String::as_str), Some("refused"));
    let ask = || world.row("SHOW MIGRATION STATUS m");
    let failed = |row: &Record| row.get("state").is_some_and(|state| state == "failed");
    let status = until("the journal is seen to be old", SOON, ask, failed).await;
    let reported = format!("{status:?}");
    assert!(reported.contains("older than the switch"), "{reported}");
    world.write_around(WRITE).await.expect_err("it is fenced");
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
    let new = "SELECT COUNT(*) FROM t WHERE v = 'new'";
    assert_eq!(rows(&mut world.client().await, new).await, [[Some("1".to_owned())]]);
    world.write_around(WRITE).await.expect_err("it is fenced still");
}
