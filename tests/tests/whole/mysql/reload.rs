//! SIGHUP: users, routes and certificates of the file count at once, or nothing of it does; sessions that are open stay.

use proxy::mysql::disposable::Kind;
use tests::headgate::{ADMIN_PASSWORD, Engine, Headgate};
use tests::mysql::{Login, Mysql, Pair, rows, single, try_connect};
use tests::wait::{SOON, within};
use tests::world::{World, mysql_route_to};

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
    headgate
        .reload(|text| text.replace(ADMIN_PASSWORD, "close sesame"))
        .await;
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
    let login = Login {
        port: headgate.port(),
        user: "app",
        password: "right",
        database: DATABASE,
    };
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
    assert!(
        said.contains("listen.tls_key") && said.contains("does not fit"),
        "{said}"
    );
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
