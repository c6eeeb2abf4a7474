//! SIGHUP: users, routes and clusters of the file count at once, or nothing of it does; sessions that are open stay.

use tests::headgate::{ADMIN_PASSWORD, Headgate};
use tests::postgres::{Postgres, rows, single, try_connect};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World, route_to};

const USERS: &str = "[login]\nmethod = \"scram-sha-256\"\n[users.app]\npassword = \"right\"\n";
const CLERK: &str = "[users.clerk]\npassword = \"file:clerk\"\n";

/// Whether this user is let in, and otherwise the SQLSTATE.
async fn code(headgate: &Headgate, user: &str, password: &str, database: &str) -> String {
    match try_connect(headgate.port(), user, Some(password), database).await {
        Ok(client) => single(&rows(&client, "select 'in'").await, "whether it is in"),
        Err(error) => error.code().map_or_else(|| format!("{error:?}"), |code| code.code().to_owned()),
    }
}

async fn server() -> Postgres {
    let server = Postgres::start(15).await;
    for statement in
        ["create role app login", "create role clerk login", "create database shop", "create database depot"]
    {
        server.sql("postgres", statement).await;
    }
    server
}

#[tokio::test]
async fn a_user_that_is_added_logs_in_and_a_broken_file_changes_nothing() {
    let server = server().await;
    let headgate =
        Headgate::start(&route_to(server.port(), DATABASE).replace("[login]\nmethod = \"trust\"\n", USERS)).await;
    let loaded = headgate.shown("file.loaded").await;
    let live = try_connect(headgate.port(), "app", Some("right"), DATABASE).await.expect("its password is right");
    assert_eq!(code(&headgate, "clerk", "desk", DATABASE).await, "28P01");

    std::fs::write(headgate.folder().join("clerk"), "desk\n").expect("the folder is ours");
    let said = headgate.reload(|text| format!("{text}{CLERK}")).await;
    assert_eq!(code(&headgate, "clerk", "desk", DATABASE).await, "in", "{said}");
    assert!(headgate.shown("file.loaded").await > loaded);

    // A user that is gone and a mistake: neither counts.
    let broken = |text: &str| text.replace("[users.app]", "[users.ap]\npasword = \"x\"\n[users.web]");
    headgate.reload(broken).await;
    // Each problem has a line of its own, and the first one may be there before the others.
    let said = headgate.logged(&["pasword"]).await;
    assert!(said.contains("users.ap.pasword (line "), "{said}");
    assert!(said.contains("did you mean users.*.password"), "{said}");
    for (user, password) in [("app", "right"), ("clerk", "desk")] {
        assert_eq!(code(&headgate, user, password, DATABASE).await, "in");
    }
    let error = headgate.shown("file.reload_error").await;
    assert!(error.contains("pasword"), "{error}");

    // Mended, and without the first user: who is in stays in.
    let mended = |text: &str| text.replace("pasword", "password").replace("file:clerk", "newer");
    headgate.reload(mended).await;
    assert_eq!(headgate.shown("file.reload_error").await, "");
    assert_eq!(code(&headgate, "app", "right", DATABASE).await, "28P01");
    assert_eq!(code(&headgate, "clerk", "desk", DATABASE).await, "28P01");
    assert_eq!(code(&headgate, "clerk", "newer", DATABASE).await, "in");
    assert_eq!(single(&rows(&live, "select 1").await, "still in"), "1");
}

#[tokio::test]
async fn a_route_that_is_added_is_served_and_one_that_is_gone_takes_no_new_sessions() {
    let server = server().await;
    let headgate = Headgate::start(&route_to(server.port(), DATABASE)).await;
    assert_eq!(code(&headgate, "app", "", "depot").await, "3D000");
    let live = headgate.connect("app", DATABASE).await;
    let depot = format!(
        "[clusters.red]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"postgres\"\n[routes.depot]\ncluster = \"red\"\n",
        server.port()
    );
    let elsewhere = |text: &str| {
        let text = text.replace("[routes.shop]\ncluster = \"blue\"", "[routes.shop]\ncluster = \"red\"");
        format!("{text}{depot}")
    };
    let said = headgate.reload(elsewhere).await;
    assert!(said.contains("route shop has sessions on cluster blue") && said.contains("(1 open)"), "{said}");
    assert_eq!(code(&headgate, "app", "", "depot").await, "3D000", "half of it");

    let back = |text: &str| text.replace("[routes.shop]\ncluster = \"red\"", "[routes.shop]\ncluster = \"blue\"");
    headgate.reload(back).await;
    assert_eq!(code(&headgate, "app", "", "depot").await, "in");
    let clusters = headgate.admin("SHOW CLUSTERS").await;
    assert_eq!(clusters.len(), 2);

    let gone = |text: &str| text.replace("[routes.shop]", "[routes.store]\ndatabase = \"shop\"");
    headgate.reload(gone).await;
    assert_eq!(code(&headgate, "app", "", "shop").await, "3D000");
    assert_eq!(code(&headgate, "app", "", "store").await, "in");
    assert_eq!(single(&rows(&live, "select 1").await, "still in"), "1");
    // What waits for a restart is named, with the log and where the configuration is shown.
    let said = headgate.reload(|text| text.replace("[journal]\npath = \"", "[journal]\npath = \"other")).await;
    assert!(said.contains("needs a restart") && said.contains("journal.path"), "{said}");
    let shown = headgate.shown("journal.path").await;
    assert!(shown.contains("needs a restart"), "{shown}");
}

#[tokio::test]
async fn another_password_of_the_console_counts() {
    let server = server().await;
    let headgate = Headgate::start(&route_to(server.port(), DATABASE)).await;
    let port = headgate.port();
    headgate.reload(|text| text.replace(ADMIN_PASSWORD, "close sesame")).await;
    let old = try_connect(port, "headgate", Some(ADMIN_PASSWORD), "headgate").await;
    assert!(old.is_err(), "the old password");
    let new = try_connect(port, "headgate", Some("close sesame"), "headgate").await;
    assert!(new.is_ok(), "the new password");
}

#[tokio::test]
async fn the_file_does_not_move_a_route_that_a_migration_moves_or_has_moved() {
    let mut world = World::start("create table t (id int primary key)").await;
    let to = |cluster: &'static str| {
        move |text: &str| {
            let (before, after) = text.split_once("[routes.shop]").expect("the route");
            let (_, rest) = after.trim_start().split_once('\n').expect("its cluster");
            format!("{before}[routes.shop]\ncluster = \"{cluster}\"\n{rest}")
        }
    };
    world.follow().await;
    let said = world.headgate.reload(to("green")).await;
    assert!(said.contains("migration m moves the route"), "{said}");
    world.headgate.reload(to("blue")).await;
    world.check().await;
    world.cutover().await;
    // The file says what it said, or what is so now: both are in order.
    for cluster in ["blue", "green"] {
        let said = world.headgate.reload(to(cluster)).await;
        assert!(said.contains("counts from now on"), "{said}");
        let routes = || world.headgate.admin("SHOW ROUTES");
        until("the route stays", SOON, routes, |rows| rows[0].get("cluster").is_some_and(|at| at == "green")).await;
    }
    let said = world.headgate.reload(to("blue")).await;
    assert!(said.contains("the journal is authoritative"), "{said}");
    assert_eq!(world.headgate.stop().await, Some(0));
}

#[tokio::test]
async fn roles_that_could_not_come_through_are_named_until_the_file_has_them() {
    let world =
        World::start("create role app login; create role clerk login; create table t (id int primary key)").await;
    world.headgate.admin("CREATE MIGRATION m FROM blue TO green").await;
    let findings = async || {
        let rows = world.headgate.admin("PRECHECK MIGRATION m").await;
        rows.into_iter().find(|row| row["check"] == "configured_users")
    };
    assert_eq!(findings().await, None, "trust lets everybody in");
    world.headgate.reload(|text| text.replace("[login]\nmethod = \"trust\"\n", USERS)).await;
    let finding = findings().await.expect("clerk is missing");
    assert_eq!(finding["level"], "warning");
    assert!(finding["evidence"].ends_with(": clerk"), "{finding:?}");
    assert!(finding["remedy"].contains("[users.clerk]"), "{finding:?}");
    assert_eq!(code(&world.headgate, "clerk", "x", DATABASE).await, "28P01");
    world.headgate.logged(&["a login failed", "user=\"clerk\""]).await;
    world.headgate.reload(|text| format!("{text}[users.clerk]\npassword = \"x\"\n")).await;
    assert_eq!(findings().await, None);
    assert_eq!(code(&world.headgate, "clerk", "x", DATABASE).await, "in");
}

#[tokio::test]
async fn what_another_route_serves_is_not_cut_over_before_that_route_is_gone() {
    const ALIAS: &str = "[routes.alias]\ndatabase = \"shop\"\ncluster = \"blue\"\n";
    let world = World::start_with("create table t (id int primary key)", ALIAS).await;
    let asked = |statement: &'static str| {
        let asking = world.headgate.admin(statement);
        async {
            let mut found = asking.await.into_iter();
            let found = found.find(|row| row.get("check").is_some_and(|name| name == "other_routes"));
            let texts: Vec<String> = found.expect("it is always told").into_values().collect();
            texts.join("; ")
        }
    };
    let served = "route alias serves database shop";
    world.headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop").await;
    let texts = asked("PRECHECK MIGRATION m").await;
    assert!(texts.contains(served) && texts.contains("take [routes.alias] out"), "{texts}");
    let (_, text) = world.headgate.refused("START MIGRATION m").await;
    assert!(text.contains("other_routes"), "{text}");
    world.headgate.reload(|text| text.replace(ALIAS, "")).await;
    let texts = asked("PRECHECK MIGRATION m").await;
    assert!(texts.contains("no other route"), "{texts}");
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.check().await;
    world.headgate.reload(|text| format!("{text}{ALIAS}")).await;
    let texts = asked("SHOW READINESS m").await;
    assert!(texts.contains(served), "{texts}");
    let (_, text) = world.headgate.refused("CUTOVER MIGRATION m").await;
    assert!(text.contains(served), "{text}");
    world.headgate.reload(|text| text.replace(ALIAS, "")).await;
    world.cutover().await;
}
