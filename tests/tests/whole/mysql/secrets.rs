//! What is secret: in no log, no error, no report, no page, no journal, on no command line, and in memory only as long as it is
//! needed.

use std::fmt::Write as _;

use tests::certificates::{Authority, Says, headgate, prepare};
use tests::headgate::Engine;
use tests::mysql::disposable::Kind;
use tests::mysql::{rows, single, try_connect, try_rows};
use tests::planted::{
    Children, Passwords, Planted, Search, in_memory, look_at_an_interruption, look_at_broken_configurations,
    look_at_broken_migrations, look_at_everything_shown, only_what_is_needed_is_in_memory, private_key,
};
use tests::world::{DATABASE, World};

use super::tls::{connect, server};

#[tokio::test]
async fn a_secret_is_in_no_log_error_report_page_journal_or_command_line() {
    let authority = Authority::new();
    let signed = |name: &str| authority.sign_openly(name, Says { hosts: &["localhost"], ..Says::default() });
    let (blue, green, listener) = (signed("blue"), signed("green"), signed("listener"));
    let (source, target) =
        tokio::join!(server(Kind::Mysql97, &blue, &authority), server(Kind::Mysql97, &green, &authority));
    let passwords = Passwords::plant();
    let Passwords { inline, command, of_user, of_client, later, wrong, .. } = &passwords;
    source.sql("", &format!("ALTER USER mover@'%' IDENTIFIED BY '{}'", inline.text)).await;
    target.sql("", &format!("ALTER USER mover@'%' IDENTIFIED BY '{}'", command.text)).await;
    source.make_account("app", &of_client.text, DATABASE).await;
    source.make_account("web", &of_user.text, DATABASE).await;
    source.sql(DATABASE, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)").await;
    let stored = "SELECT RIGHT(authentication_string, 43) FROM mysql.user WHERE User = 'app' AND Host = '%'";
    let stored = Planted::of("a verifier", source.value("", stored).await);
    let hex: String = stored.text.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02X}");
        hex
    });
    let in_hex = Planted::of("a verifier in hex", hex);
    let key = private_key(&listener.1);
    let folder = listener.1.parent().expect("it is in a folder");
    let sections = passwords.sections(folder, (source.port(), target.port()), "engine = \"mysql\"\n");
    let mut program = prepare(Engine::Mysql, &listener, "", &sections);
    program.set("HEADGATE_LOG", "trace");
    program.launch().await;
    let mut world = World { source, target, headgate: program };
    let secrets = [&passwords.of_ours()[..], &passwords.of_clients(), &[&stored, &in_hex, &key]].concat();
    let mut search = Search::of(&secrets);

    let port = world.headgate.port();
    // Every leg, right and wrong.
    let logins = async |search: &mut Search, client: &Planted| {
        let mut app = connect(port, &authority, &client.text).await.expect("let in");
        let count = "SELECT COUNT(*) FROM t";
        assert_eq!(single(&rows(&mut app, count).await, count), "3");
        let error = try_rows(&mut app, "SELECT * FROM nothing").await.expect_err("no such table");
        search.look("an error", format!("{error:?}"));
        let mut web = try_connect(port, "web", Some(&of_user.text), DATABASE).await.expect("let in");
        assert_eq!(single(&rows(&mut web, count).await, count), "3");
        let refused = connect(port, &authority, &wrong.text).await.expect_err("a wrong password");
        search.look("a refusal", format!("{refused:?}"));
        for user in ["app", "web", "nobody"] {
            // Sealed by a key of Headgate's.
            let refused = try_connect(port, user, Some(&wrong.text), DATABASE).await.expect_err("a wrong password");
            search.look("a refusal without TLS", format!("{refused:?}"));
        }
        let refused = try_connect(port, "headgate", Some(&wrong.text), "headgate").await.expect_err("wrong");
        search.look("the console's refusal", format!("{refused:?}"));
    };
    logins(&mut search, of_client).await;
    let children = Children::watch(world.headgate.pid());
    look_at_broken_migrations(&mut search, &world.headgate).await;
    world.follow().await;
    // Of MySQL's only the command of a password is a child.
    let (lines, environments) = children.seen();
    assert!(lines.contains("cat "), "{lines}");
    search.look("a command line", lines);
    search.look("an environment", environments);
    look_at_an_interruption(&mut search, &mut world).await;
    world.check().await;
    world.cutover().await;
    logins(&mut search, of_client).await;
    world.source.server.kill().await.expect("it ran");
    // A password that its server takes no more is forgotten.
    world.target.sql("", &format!("ALTER USER app@'%' IDENTIFIED BY '{}'", later.text)).await;
    let refused = connect(port, &authority, &of_client.text).await.expect_err("the old password");
    search.look("a refusal", format!("{refused:?}"));
    logins(&mut search, later).await;

    look_at_everything_shown(&mut search, &world.headgate).await;
    look_at_broken_configurations(&mut search, &world.headgate, inline).await;
    search.end();

    only_what_is_needed_is_in_memory(&world.headgate, &passwords).await;
}

#[tokio::test]
async fn a_wrong_password_is_nowhere_in_memory_once_it_was_refused() {
    let authority = Authority::new();
    let signed = |name: &str| authority.sign_openly(name, Says { hosts: &["localhost"], ..Says::default() });
    let mysql = server(Kind::Mysql97, &signed("blue"), &authority).await;
    let right = Planted::new("the right password");
    mysql.make_account("app", &right.text, DATABASE).await;
    let sections = format!(
        "[clusters.blue]\nengine = \"mysql\"\nhost = \"localhost\"\nport = {}\nuser = \"mover\"\npassword = \"m\"\n\
         tls = \"require\"\n[routes.{DATABASE}]\ncluster = \"blue\"\n",
        mysql.port()
    );
    let headgate = headgate(Engine::Mysql, &signed("listener"), "", &sections).await;
    connect(headgate.port(), &authority, &right.text).await.expect("let in");
    for way in ["in TLS", "sealed by a key of Headgate's"] {
        let all: Vec<Planted> = (0..5).map(|_| Planted::new("a wrong password")).collect();
        for wrong in &all {
            let met = if way == "in TLS" {
                connect(headgate.port(), &authority, &wrong.text).await
            } else {
                try_connect(headgate.port(), "app", Some(&wrong.text), DATABASE).await
            };
            let refused = met.expect_err(way).to_string();
            assert!(refused.contains("Access denied"), "{way}: {refused}");
        }
        let left: Vec<String> = all.iter().flat_map(|wrong| in_memory(headgate.pid(), wrong)).collect();
        assert!(left.is_empty(), "{way}: {left:#?}");
    }
    // It is kept for the next login.
    assert!(!in_memory(headgate.pid(), &right).is_empty(), "the search finds nothing");
}
