//! What is secret: in no log, no error, no report, no page, no journal, on no command line, and in memory only as long as it is
//! needed.

use tests::certificates::{Authority, headgate, prepare};
use tests::headgate::Engine;
use tests::planted::{
    Children, Passwords, Planted, Search, in_memory, look_at_an_interruption, look_at_broken_configurations,
    look_at_broken_migrations, look_at_everything_shown, only_what_is_needed_is_in_memory, private_key,
};
use tests::postgres::psql::Psql;
use tests::postgres::try_connect;
use tests::world::{DATABASE, World};

use super::tls::server;

#[tokio::test]
async fn a_secret_is_in_no_log_error_report_page_journal_or_command_line() {
    let authority = Authority::new();
    let (source, target) = tokio::join!(server(14, &authority, "blue"), server(18, &authority, "green"));
    let passwords = Passwords::plant();
    let Passwords { inline, command, of_user, of_client, later, wrong, .. } = &passwords;
    source.sql("postgres", &format!("alter role mover password '{}'", inline.text)).await;
    target.sql("postgres", &format!("alter role mover password '{}'", command.text)).await;
    let roles = format!(
        "create table t (id int primary key); insert into t select generate_series(1, 1000);
         create role app login password '{}'; create role web login password '{}'; grant all on t to app, web",
        of_client.text, of_user.text
    );
    source.sql(DATABASE, &roles).await;
    let stored = source.value("postgres", "select rolpassword from pg_authid where rolname = 'app'").await;
    let verifier = Planted::of("a verifier", stored.rsplit('$').next().expect("a key"));
    let listener = authority.sign_for_here("listener");
    let key = private_key(&listener.1);
    let folder = listener.1.parent().expect("it is in a folder");
    let clusters = passwords.sections(folder, (source.port(), target.port()), "");
    let sections = format!("{clusters}[login]\nmethod = \"password\"\n");
    let mut program = prepare(Engine::Postgres, &listener, "", &sections);
    program.set("HEADGATE_LOG", "trace");
    program.launch().await;
    let mut world = World { source, target, headgate: program };
    let of_clients = [&passwords.of_clients()[..], &[&verifier, &key]].concat();
    let mut search = Search::of(&[&passwords.of_ours()[..], &of_clients].concat());
    let mut visible = Search::of(&of_clients);

    let port = world.headgate.port();
    let login = async |user: &str, secret: &Planted, query: &str| {
        let parameters = format!("sslmode=require user={user} password={}", secret.text);
        Psql { port, user: "nobody", password: None, parameters }.ask(query).await
    };
    // Every leg, right and wrong.
    let logins = async |search: &mut Search, client: &Planted| {
        assert_eq!(login("app", client, "select count(*) from t").await.as_deref(), Ok("1000"));
        assert_eq!(login("web", of_user, "select count(*) from t").await.as_deref(), Ok("1000"));
        search.look("an error", login("app", client, "select 1 / 0").await.expect_err("no number"));
        for user in ["app", "web", "nobody"] {
            search.look("a refusal", login(user, wrong, "select 1").await.expect_err("a wrong password"));
            let refused = try_connect(port, user, Some(&wrong.text), DATABASE).await.expect_err("without TLS");
            search.look("a refusal without TLS", format!("{refused:?}"));
        }
        let refused = try_connect(port, "headgate", Some(&wrong.text), "headgate").await.expect_err("a wrong password");
        search.look("the console's refusal", format!("{refused:?}"));
    };
    logins(&mut search, of_client).await;
    let children = Children::watch(world.headgate.pid());
    look_at_broken_migrations(&mut search, &world.headgate).await;
    world.follow().await;
    let (lines, environments) = children.seen();
    assert!(lines.contains("pg_dump") && lines.contains("pg_restore"), "{lines}");
    search.look("a command line", lines);
    visible.look("an environment", environments);
    look_at_an_interruption(&mut search, &mut world).await;
    world.check().await;
    // Headgate's own role has another password there.
    let report = world.row("CUTOVER MIGRATION m WITH (max_hold = '10s', waive_accounts = 'mover')").await;
    assert_eq!(report.get("outcome").map(String::as_str), Some("switched"), "{report:?}");
    logins(&mut search, of_client).await;
    world.source.server.kill().await.expect("it ran");
    // A password that its server takes no more is forgotten.
    world.target.sql("postgres", &format!("alter role app password '{}'", later.text)).await;
    search.look("a refusal", login("app", of_client, "select 1").await.expect_err("the old password"));
    logins(&mut search, later).await;

    look_at_everything_shown(&mut search, &world.headgate).await;
    look_at_broken_configurations(&mut search, &world.headgate, inline).await;
    visible.end();
    search.end();

    only_what_is_needed_is_in_memory(&world.headgate, &passwords).await;
}

#[tokio::test]
async fn a_wrong_password_is_nowhere_in_memory_once_it_was_refused() {
    let authority = Authority::new();
    let postgres = server(15, &authority, "blue").await;
    let right = Planted::new("the right password");
    postgres.sql("postgres", &format!("create role app login password '{}'", right.text)).await;
    let sections = format!(
        "[clusters.blue]\nhost = \"localhost\"\nport = {}\nuser = \"mover\"\npassword = \"m\"\ntls = \"require\"\n\
         [routes.{DATABASE}]\ncluster = \"blue\"\n[login]\nmethod = \"password\"\n",
        postgres.port()
    );
    let headgate = headgate(Engine::Postgres, &authority.sign_for_here("listener"), "", &sections).await;
    let login = async |secret: &Planted| {
        let parameters = format!("sslmode=require user=app password={}", secret.text);
        Psql { port: headgate.port(), user: "nobody", password: None, parameters }.ask("select 1").await
    };
    assert_eq!(login(&right).await.as_deref(), Ok("1"));
    let all: Vec<Planted> = (0..10).map(|_| Planted::new("a wrong password")).collect();
    for wrong in &all {
        let refused = login(wrong).await.expect_err("a wrong password");
        assert!(refused.contains("password authentication failed"), "{refused}");
    }
    let left: Vec<String> = all.iter().flat_map(|wrong| in_memory(headgate.pid(), wrong)).collect();
    assert!(left.is_empty(), "{left:#?}");
    // It is kept for the next login.
    assert!(!in_memory(headgate.pid(), &right).is_empty(), "the search finds nothing");
}
