//! SIGHUP: users, routes and certificates of the file count at once, or nothing of it does; sessions that are open stay.

use tests::headgate::{ADMIN_PASSWORD, Engine, Headgate};
use tests::mysql::disposable::Kind;
use tests::mysql::{Login, Mysql, Pair, rows, single, try_connect};
use tests::wait::{SOON, until, within};
use tests::world::{MIGRATION, PASSWORD, USER, World, mysql_route_to};

const DATABASE: &str = "shop";

async fn server() -> Mysql {
    let server = Mysql::start(Kind::Mysql97).await;
    for database in [DATABASE, "depot"] {
        server.make_database(database).await;
    }
    server.make_account("app", "right", DATABASE).await;
    server.sql("", "GRANT ALL ON depot.* TO app").await;
    server
}

async fn headgate(server: &Mysql) -> Headgate {
    let sections = mysql_route_to(server.port(), DATABASE);
    Headgate::start_for(Engine::Mysql, &sections).await
}

/// Whether the account is let in, and otherwise the error's number.
async fn code(headgate: &Headgate, password: &str, database: &str) -> u16 {
    match try_connect(headgate.port(), "app", Some(password), database).await {
        Ok(_) => 0,
        Err(mysql_async::Error::Server(error)) => error.code,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_route_that_is_added_is_served_and_one_that_is_gone_takes_no_new_sessions() {
    let server = server().await;
    let headgate = headgate(&server).await;
    assert_eq!(code(&headgate, "right", "depot").await, 1049);
    let mut live = headgate.connect_mysql("app", "right", DATABASE).await;
    let depot = format!(
        "[clusters.red]\nengine = \"mysql\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"root\"\n[routes.depot]\ncluster = \"red\"\n",
        server.port()
    );
    let said = headgate.reload(|text| format!("{text}{depot}")).await;
    assert_eq!(code(&headgate, "right", "depot").await, 0, "{said}");
    let gone = |text: &str| text.replace("[routes.shop]", "[routes.store]\ndatabase = \"shop\"");
    headgate.reload(gone).await;
    assert_eq!(code(&headgate, "right", DATABASE).await, 1049);
    assert_eq!(code(&headgate, "right", "store").await, 0);
    assert_eq!(single(&rows(&mut live, "SELECT 1").await, "still in"), "1");
    let said = headgate.reload(|text| format!("{text}[lissten]\n")).await;
    assert!(said.contains("did you mean [listen]"), "{said}");
    assert_eq!(code(&headgate, "right", "store").await, 0);
}

#[tokio::test]
async fn another_password_of_the_console_counts() {
    let server = server().await;
    let headgate = headgate(&server).await;
    let port = headgate.port();
    headgate.reload(|text| text.replace(ADMIN_PASSWORD, "close sesame")).await;
    let old = try_connect(port, "headgate", Some(ADMIN_PASSWORD), "headgate").await;
    assert!(old.is_err(), "the old password");
    let new = try_connect(port, "headgate", Some("close sesame"), "headgate").await;
    assert!(new.is_ok(), "the new password");
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_served_and_one_that_does_not_fit_is_not() {
    let server = server().await;
    let sections = mysql_route_to(server.port(), DATABASE);
    let mut headgate = Headgate::prepare_for(Engine::Mysql, &sections);
    let folder = headgate.folder().to_owned();
    for name in ["one", "two"] {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
        std::fs::write(folder.join(format!("{name}.crt")), made.cert.pem()).expect("ours");
        let key = made.signing_key.serialize_pem();
        std::fs::write(folder.join(format!("{name}.key")), key).expect("ours");
    }
    let serve = |certificate: &str, key: &str| {
        for (from, to) in [(certificate, "served.crt"), (key, "served.key")] {
            std::fs::copy(folder.join(from), folder.join(to)).expect("ours");
        }
    };
    serve("one.crt", "one.key");
    let file = folder.join("headgate.toml");
    let text = std::fs::read_to_string(&file).expect("there");
    let listen = "[listen]\ntls_certificate = \"served.crt\"\ntls_key = \"served.key\"\n";
    std::fs::write(&file, text.replace("[listen]\n", listen)).expect("ours");
    headgate.launch().await;
    let login = Login { port: headgate.port(), user: "app", password: "right", database: DATABASE };
    let shows = async |name: &str| {
        let authority = format!("--ssl-ca={}", folder.join(name).display());
        let asked = ["--ssl-mode=VERIFY_CA", &authority, "--execute=SELECT 1"];
        let mut client = login.mysql(&asked);
        let output = within("it asks", SOON, client.output()).await.expect("run");
        output.status.success()
    };
    assert!(shows("one.crt").await && !shows("two.crt").await);
    serve("two.crt", "one.key");
    let said = headgate.reload(str::to_owned).await;
    assert!(said.contains("listen.tls_key") && said.contains("does not fit"), "{said}");
    assert!(shows("one.crt").await);
    serve("two.crt", "two.key");
    headgate.reload(str::to_owned).await;
    assert!(shows("two.crt").await && !shows("one.crt").await);
}

#[tokio::test]
async fn the_file_does_not_move_a_route_that_a_migration_moves_or_has_moved() {
    let schema = "CREATE TABLE t (id INT PRIMARY KEY)";
    let mut world = World::of(Pair::Mysql97to97, schema).await;
    let to = |cluster: &'static str| {
        move |text: &str| {
            let (before, after) = text.split_once("[routes.shop]").expect("the route");
            let (_, rest) = after.trim_start().split_once('\n').expect("its cluster");
            format!("{before}[routes.shop]\ncluster = \"{cluster}\"\n{rest}")
        }
    };
    world.follow().await;
    let said = world.headgate.reload(to("green")).await;
    assert!(said.contains("moves the route"), "{said}");
    world.headgate.reload(to("blue")).await;
    world.check().await;
    world.cutover().await;
    for cluster in ["blue", "green"] {
        let said = world.headgate.reload(to(cluster)).await;
        assert!(said.contains("counts from now on"), "{said}");
    }
    let said = world.headgate.reload(to("blue")).await;
    assert!(said.contains("the journal is authoritative"), "{said}");
    assert_eq!(world.headgate.stop().await, Some(0));
}

/// What the precheck or readiness says of routes that lead past the migration's gate: the level, and all texts.
async fn of_other_routes(world: &World<Mysql>, statement: &str) -> (String, String) {
    let findings = world.headgate.admin(statement).await;
    let mut found = findings.into_iter();
    let found = found.find(|row| row.get("check").is_some_and(|name| name == "other_routes"));
    let found = found.expect("it is always told");
    let level = found.get("level").cloned().unwrap_or_default();
    let texts: Vec<String> = found.into_values().collect();
    (level, texts.join("; "))
}

#[tokio::test]
async fn what_another_route_serves_is_not_cut_over_before_that_route_is_gone() {
    const EXTRA: &str = "[routes.extra]\ncluster = \"blue\"\n";
    const DEFAULT: &str = "[routes.\"*\"]\ncluster = \"blue\"\n";
    let schema = "CREATE TABLE t (id INT PRIMARY KEY) ENGINE = InnoDB; CREATE DATABASE extra;
        CREATE TABLE extra.e (id INT PRIMARY KEY) ENGINE = InnoDB; GRANT ALL ON extra.* TO app@'%'";
    let world = World::of_with(Pair::Mysql97to97, schema, EXTRA).await;
    world.headgate.admin("CREATE MIGRATION m FROM blue TO green FOR ROUTE shop WITH (schemas = 'shop,extra')").await;
    let (level, texts) = of_other_routes(&world, "PRECHECK MIGRATION m").await;
    assert_eq!(level, "error", "{texts}");
    assert!(texts.contains("route extra serves database extra"), "{texts}");
    assert!(texts.contains("take [routes.extra] out"), "{texts}");
    let (_, text) = world.headgate.refused("START MIGRATION m").await;
    assert!(text.contains("other_routes"), "{text}");

    // What is told, done: whoever is in by the route goes on passing its gate until he leaves.
    let inside = world.headgate.connect_mysql(USER, PASSWORD, "extra").await;
    world.headgate.reload(|text| text.replace(EXTRA, "")).await;
    let (level, texts) = of_other_routes(&world, "PRECHECK MIGRATION m").await;
    assert_eq!(level, "error", "{texts}");
    drop(inside);
    let ask = || of_other_routes(&world, "PRECHECK MIGRATION m");
    until("nobody is in any more", SOON, ask, |(level, _)| level == "ok").await;
    world.headgate.admin("START MIGRATION m").await;
    world.until_state("following", MIGRATION).await;
    world.check().await;

    // It comes again, or as one of all names.
    for (section, named) in
        [(EXTRA, "route extra serves database extra"), (DEFAULT, "the default route serves database extra")]
    {
        world.headgate.reload(|text| format!("{text}{section}")).await;
        let (level, texts) = of_other_routes(&world, "SHOW READINESS m").await;
        assert_eq!(level, "error", "{texts}");
        assert!(texts.contains(named), "{texts}");
        for statement in ["CUTOVER MIGRATION m", "REHEARSE MIGRATION m"] {
            let (_, text) = world.headgate.refused(statement).await;
            assert!(text.contains(named) && text.contains("SIGHUP"), "{text}");
        }
        world.headgate.reload(|text| text.replace(section, "")).await;
        let (level, texts) = of_other_routes(&world, "SHOW READINESS m").await;
        assert_eq!(level, "ok", "{texts}");
    }
    let mut client = world.client().await;
    rows(&mut client, "USE extra; INSERT INTO e VALUES (1)").await;
    world.cutover().await;
    rows(&mut client, "INSERT INTO e VALUES (2)").await;
    let count = "SELECT COUNT(*) FROM extra.e";
    assert_eq!(world.target.value("", count).await, "2");
    world.source.until_value("", count, "2").await;
}
