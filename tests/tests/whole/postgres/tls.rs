//! Connections in TLS: from clients to Headgate, and from Headgate to clusters that demand it; logins without a password in
//! the configuration.

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures_util::future::join_all;
use tests::certificates::{Authority, Says, headgate};
use tests::client::Raw;
use tests::headgate::{Engine, Headgate};
use tests::postgres::psql::Psql;
use tests::postgres::{Postgres, try_connect};
use tests::world::{DATABASE, World};

/// Without TLS only the superuser of the tests comes in; everybody else needs a password too.
pub(super) const HBA: &str = "hostnossl all postgres 127.0.0.1/32 trust\nhostssl all app_md5 127.0.0.1/32 md5\n\
                   hostssl all all 127.0.0.1/32 scram-sha-256\n";

/// A role's password, which no configuration has.
const PASSWORD: &str = "known to its client alone";

/// What the server sees of the session that asks.
const SEEN: &str = "select session_user || ' ' || ssl from pg_stat_ssl where pid = pg_backend_pid()";

/// A server with the database that only speaks TLS, but for the superuser of the tests.
pub(super) async fn server(version: u32, authority: &Authority, name: &str) -> Postgres {
    server_of(version, HBA, authority, name).await
}

/// The same, with a `pg_hba.conf` of its own.
async fn server_of(version: u32, hba: &str, authority: &Authority, name: &str) -> Postgres {
    let settings = [("password_encryption", "scram-sha-256"), ("max_connections", "300")];
    let postgres = Postgres::start_with(version, &settings, Some(hba)).await;
    postgres.speak_tls(&authority.sign_for_here(name), None).await;
    postgres.sql("postgres", "create role mover superuser login replication password 'm'").await;
    postgres.sql("postgres", &format!("create database {DATABASE}")).await;
    postgres
}

/// The application's role, and what it works with.
async fn application(postgres: &Postgres) {
    let sql = format!(
        "create role app login password '{PASSWORD}'; create table t (id int primary key, body text);\
         insert into t select i, 'row ' || i from generate_series(1, 50) i; grant all on t to app"
    );
    postgres.sql(DATABASE, &sql).await;
}

fn cluster(name: &str, postgres: &Postgres, tls: &str, authority: &Authority) -> String {
    let (port, tls) = (postgres.port(), authority.trusted_with(tls));
    // The password comes as a token does.
    format!(
        "[clusters.{name}]\nhost = \"localhost\"\nport = {port}\nuser = \"mover\"\npassword = {{ command = \"echo m\" }}\n{tls}"
    )
}

fn route() -> String {
    format!("[routes.{DATABASE}]\ncluster = \"blue\"\n")
}

/// Two servers whose database only speaks TLS, with this `pg_hba.conf`, and a Headgate between them that verifies them: with a
/// listener of the same authority, and these further keys of that and sections.
pub(super) async fn world(hba: &str, authority: &Authority, listener: &str, sections: &str) -> World {
    let (source, target) = tokio::join!(server_of(14, hba, authority, "blue"), server_of(18, hba, authority, "green"));
    let sections = [
        cluster("blue", &source, "verify-full", authority),
        cluster("green", &target, "verify-full", authority),
        route(),
        sections.to_owned(),
    ]
    .concat();
    let headgate = headgate(Engine::Postgres, &authority.sign_for_here("listener"), listener, &sections).await;
    World { source, target, headgate }
}

/// The application's client.
fn app(headgate: &Headgate, parameters: &str) -> Psql {
    Psql::new(headgate.port(), "app", PASSWORD, parameters)
}

#[tokio::test]
async fn a_database_moves_there_and_back_in_verified_tls_and_no_configuration_has_the_clients_password() {
    let authority = Authority::new();
    let world = world(HBA, &authority, "", "").await;
    application(&world.source).await;
    let root = format!("sslmode=verify-full sslrootcert={}", authority.file().display());
    let bound = app(&world.headgate, &format!("{root} channel_binding=require"));
    assert_eq!(bound.ask(SEEN).await.expect("let in"), "app true");
    let refused = Psql { password: Some("wrong"), ..bound.clone() }.ask(SEEN).await.expect_err("a wrong password");
    assert!(refused.contains("password authentication failed"), "{refused}");

    let mut stays = bound.stay();
    assert_eq!(stays.ask("show server_version_num").await[..2], *"14");
    world.follow().await;
    world.check().await;
    world.cutover().await;
    for (moved, version) in [("there", "18"), ("back", "14")] {
        if moved == "back" {
            world.roll_back().await;
        }
        assert_eq!(stays.ask("show server_version_num").await[..2], *version, "{moved}");
        assert_eq!(stays.ask(SEEN).await, "app true", "{moved}");
        assert_eq!(bound.ask("show server_version_num").await.expect("a new session")[..2], *version, "{moved}");
    }
    let log = world.headgate.log();
    for secret in [PASSWORD, "SCRAM-SHA-256$"] {
        assert!(!log.contains(secret), "the log has {secret:?}");
    }
}

/// Thirty roles of thirty clients, and what only each client knows.
fn roles() -> Vec<(String, String)> {
    (0..30).map(|number| (format!("app_{number:02}"), format!("secret-{}", number * 7919 + 104_729))).collect()
}

/// The statements that make them, and what they read.
fn made(roles: &[(String, String)]) -> String {
    let one = |(role, password): &(String, String)| {
        format!("create role {role} login password '{password}'; grant select on t to {role};")
    };
    let table = "create table t (id int primary key); insert into t select generate_series(1, 50);";
    [table.to_owned(), roles.iter().map(one).collect()].concat()
}

/// What each of them meets at this port: the major version of the server that it reads from, or a refusal.
async fn each(port: u16, roles: &[(String, String)]) -> Vec<Result<String, String>> {
    let ask = async |(role, password): &(String, String)| {
        let parameters = format!("sslmode=require user={role} password={password}");
        let query =
            "select session_user || ' ' || count(*) || ' ' || left(current_setting('server_version'), 2) from t";
        // The last user counts.
        Psql { port, user: "nobody", password: None, parameters }.ask(query).await
    };
    join_all(roles.iter().map(ask)).await
}

/// All come in, each as itself; and nobody does with a password that is another's.
async fn all_come_in(port: u16, roles: &[(String, String)], version: &str) {
    let expected: Vec<_> = roles.iter().map(|(role, _)| Ok(format!("{role} 50 {version}"))).collect();
    assert_eq!(each(port, roles).await, expected);
    let others = roles.iter().map(|(_, password)| password.clone()).cycle().skip(1);
    let mixed: Vec<_> = roles.iter().map(|(role, _)| role.clone()).zip(others).collect();
    for met in each(port, &mixed).await {
        assert!(met.as_ref().is_err_and(|text| text.contains("password authentication failed")), "{met:?}");
    }
}

#[tokio::test]
async fn thirty_roles_whose_verifiers_nobody_reads_come_in_on_the_target_once_each_has_shown_its_password() {
    let authority = Authority::new();
    let (source, target) = tokio::join!(server(14, &authority, "blue"), server(18, &authority, "green"));
    let roles = roles();
    // On the source Headgate's role may do all but read verifiers.
    let rights = format!(
        "alter role mover nosuperuser replication; grant create on database {DATABASE} to mover; create role owner; \
         grant pg_read_all_stats, owner to mover; {} alter table t owner to owner",
        made(&roles)
    );
    source.sql(DATABASE, &rights).await;
    // Each server's own superuser is an account like the others.
    let superuser = [("postgres".to_owned(), "secret-of-all".to_owned())];
    for side in [&source, &target] {
        side.sql("postgres", &format!("alter role postgres password '{}'", superuser[0].1)).await;
    }
    let sections = [
        cluster("blue", &source, "require", &authority),
        cluster("green", &target, "require", &authority),
        route(),
        "[login]\nmethod = \"password\"\n".to_owned(),
    ]
    .concat();
    let headgate = headgate(Engine::Postgres, &authority.sign_for_here("listener"), "", &sections).await;
    let world = World { source, target, headgate };
    world.follow().await;
    world.check().await;

    let names = |roles: &[(String, String)]| roles.iter().map(|(role, _)| role.clone()).collect::<BTreeSet<_>>();
    assert_eq!(world.unproved().await, names(&[&roles, &superuser[..]].concat()));
    let (first, late) = roles.split_at(17);
    all_come_in(world.headgate.port(), first, "14").await;
    assert_eq!(
        world.unproved().await,
        names(&[late, &superuser].concat()),
        "who has not come yet, and a wrong password is none"
    );
    let (state, text) = world.headgate.refused("CUTOVER MIGRATION m WITH (max_hold = '10s')").await;
    assert!(late.iter().any(|(role, _)| text.contains(role)), "{state} {text}");
    all_come_in(world.headgate.port(), late, "14").await;
    assert_eq!(world.unproved().await, names(&superuser));
    assert_eq!(each(world.headgate.port(), &superuser).await, [Ok("postgres 50 14".to_owned())]);
    assert_eq!(world.unproved().await, BTreeSet::new());
    world.check().await;
    world.cutover().await;
    all_come_in(world.headgate.port(), &roles, "18").await;
    all_come_in(world.target.port(), &roles, "18").await;
}

#[tokio::test]
async fn thirty_roles_whose_verifiers_can_be_read_come_in_on_the_target_though_none_has_shown_anything() {
    let authority = Authority::new();
    let (source, target) = tokio::join!(server(14, &authority, "blue"), server(18, &authority, "green"));
    let roles = roles();
    source.sql(DATABASE, &made(&roles)).await;
    let sections =
        [cluster("blue", &source, "require", &authority), cluster("green", &target, "require", &authority), route()]
            .concat();
    let headgate = headgate(Engine::Postgres, &authority.sign_for_here("listener"), "", &sections).await;
    let world = World { source, target, headgate };
    world.follow().await;
    world.check().await;
    assert_eq!(world.unproved().await, BTreeSet::new());
    world.cutover().await;
    all_come_in(world.headgate.port(), &roles, "18").await;
    all_come_in(world.target.port(), &roles, "18").await;
}

#[tokio::test]
async fn a_cluster_that_is_not_what_it_must_be_gets_no_session_and_no_password() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = server(15, &authority, "good").await;
    application(&good).await;
    let elsewhere = Says { hosts: &["elsewhere.example"], ..Says::default() };
    let expired = Says { hosts: &["localhost"], expired: true, ..Says::default() };
    let cases = [
        ("verify-full", authority.sign("wrong", elsewhere), &authority, "not valid for name"),
        ("verify-ca", authority.sign("expired", expired), &authority, "expired"),
        ("verify-ca", stranger.sign_for_here("unknown"), &authority, "UnknownIssuer"),
    ];
    for (mode, shown, trusted, why) in cases {
        good.speak_tls(&shown, None).await;
        let sections = [cluster("blue", &good, mode, trusted), route()].concat();
        let headgate = Headgate::start(&sections).await;
        let refused = try_connect(headgate.port(), "app", Some(PASSWORD), DATABASE).await.expect_err(why);
        assert!(refused.code().is_some(), "a proper refusal: {refused:?}");
        headgate.logged(&[why]).await;
        // Whoever asks for less gets it.
        let less = [cluster("blue", &good, "require", trusted), route()].concat();
        let headgate = Headgate::start(&less).await;
        assert!(try_connect(headgate.port(), "app", Some(PASSWORD), DATABASE).await.is_ok(), "{mode} {why}");
    }
    // The name is not looked at by verify-ca, and a server without TLS is none for require.
    good.speak_tls(&authority.sign("wrong", elsewhere), None).await;
    let headgate = Headgate::start(&[cluster("blue", &good, "verify-ca", &authority), route()].concat()).await;
    assert!(try_connect(headgate.port(), "app", Some(PASSWORD), DATABASE).await.is_ok());
    let plain = Postgres::start(15).await;
    let headgate = Headgate::start(&[cluster("blue", &plain, "require", &authority), route()].concat()).await;
    assert!(try_connect(headgate.port(), "postgres", None, DATABASE).await.is_err());
    headgate.logged(&["does not offer TLS"]).await;
}

#[tokio::test]
async fn clients_come_by_tls_as_the_listener_says_and_are_told_where_they_must() {
    let authority = Authority::new();
    let postgres = server(15, &authority, "blue").await;
    application(&postgres).await;
    let sections = [cluster("blue", &postgres, "require", &authority), route()].concat();
    let shown = authority.sign_for_here("listener");
    for (demand, plain, encrypted) in [("off", true, false), ("allow", true, true), ("require", false, true)] {
        let headgate = headgate(Engine::Postgres, &shown, &format!("tls = \"{demand}\"\n"), &sections).await;
        let without = app(&headgate, "sslmode=disable").ask("select 1").await;
        let with = app(&headgate, "sslmode=require").ask("select 1").await;
        assert_eq!((without.is_ok(), with.is_ok()), (plain, encrypted), "{demand}: {without:?} {with:?}");
        if demand == "require" {
            assert!(without.expect_err("refused").contains("without TLS are not accepted"));
        }
    }
    // Without a certificate nothing is offered by itself: libpq's clients would take it.
    let headgate = Headgate::start(&sections).await;
    let offered = app(&headgate, "sslmode=require").ask("select 1").await;
    assert!(offered.expect_err("not offered").contains("does not support SSL"));
}

#[tokio::test]
async fn roles_log_in_by_what_the_server_stores_of_them_and_the_server_has_the_last_word() {
    let authority = Authority::new();
    let postgres = server(15, &authority, "blue").await;
    application(&postgres).await;
    let roles = format!(
        "set password_encryption = 'md5'; create role app_md5 login password '{PASSWORD}';\
         set password_encryption = 'scram-sha-256'; create role late login password '{PASSWORD}' valid until '2020-01-01';\
         create role closed nologin password '{PASSWORD}'; create role bare login;\
         create role single login password '{PASSWORD}' connection limit 0"
    );
    postgres.sql("postgres", &roles).await;
    let headgate = Headgate::start(&[cluster("blue", &postgres, "require", &authority), route()].concat()).await;
    let said = async |user: &str, password: &str| {
        let met = try_connect(headgate.port(), user, Some(password), DATABASE).await;
        met.err().map(|error| error.code().map_or_else(|| format!("{error:?}"), |code| code.code().to_owned()))
    };
    for (user, code) in [("app", None), ("app_md5", None), ("late", Some("28P01")), ("closed", Some("28000"))] {
        assert_eq!(said(user, PASSWORD).await.as_deref(), code, "{user}");
        assert_eq!(said(user, "wrong").await.as_deref(), Some("28P01"), "{user}");
    }
    for (user, code) in [("single", "53300"), ("bare", "28P01"), ("nobody", "28P01")] {
        assert_eq!(said(user, PASSWORD).await.as_deref(), Some(code), "{user}");
    }
    // What changes on the server counts for the next login.
    postgres.sql("postgres", "alter role app password 'changed'").await;
    assert_eq!(said("app", PASSWORD).await.as_deref(), Some("28P01"));
    assert_eq!(said("app", "changed").await, None);
}

#[tokio::test]
async fn where_no_verifier_can_be_read_a_password_is_asked_for_over_tls_only_and_the_server_judges_it() {
    let authority = Authority::new();
    let postgres = server(15, &authority, "blue").await;
    application(&postgres).await;
    postgres.sql("postgres", "alter role mover nosuperuser").await;
    let sections = [cluster("blue", &postgres, "require", &authority), route()].concat();
    let shown = authority.sign_for_here("listener");
    let headgate = headgate(Engine::Postgres, &shown, "", &sections).await;
    assert_eq!(app(&headgate, "sslmode=require").ask(SEEN).await.expect("let in"), "app true");
    let plain = app(&headgate, "sslmode=disable").ask(SEEN).await.expect_err("it would be read by others");
    assert!(plain.contains("without TLS are not accepted"), "{plain}");
    let wrong = Psql { password: Some("wrong"), ..app(&headgate, "sslmode=require") };
    assert!(wrong.ask(SEEN).await.expect_err("wrong").contains("password authentication failed"));
    headgate.logged(&["verifiers cannot be read", "auth_query"]).await;
    // A function that may read them is enough.
    postgres
        .sql(
            DATABASE,
            "create function verifier(name text) returns table (role text, stored text) language sql security definer as \
             'select rolname::text, rolpassword from pg_authid where rolname = name'; \
             grant execute on function verifier to mover",
        )
        .await;
    let query = "[login]\nauth_query = \"select role, stored from verifier($1)\"\n";
    let by_query = Headgate::start(&[sections.as_str(), query].concat()).await;
    assert_eq!(app(&by_query, "sslmode=disable").ask(SEEN).await.expect("let in"), "app true");
}

#[tokio::test]
async fn a_password_that_the_cluster_does_not_ask_for_lets_nobody_in() {
    let authority = Authority::new();
    let postgres = Postgres::start(15).await;
    postgres.sql("postgres", "create role mover login; create role app login password 'right'").await;
    let sections = format!(
        "[clusters.blue]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"mover\"\n[routes.postgres]\ncluster = \"blue\"\n",
        postgres.port()
    );
    for method in ["accounts", "password"] {
        let login = format!("{sections}[login]\nmethod = \"{method}\"\n");
        let headgate = headgate(Engine::Postgres, &authority.sign_for_here("listener"), "", &login).await;
        let psql = Psql { parameters: "sslmode=require dbname=postgres".to_owned(), ..app(&headgate, "") };
        for user in ["app", "postgres"] {
            let refused = Psql { user, password: Some("anything"), ..psql.clone() }.ask("select 1").await;
            assert!(refused.expect_err("anybody").contains("does not check passwords"), "{method} {user}");
        }
        headgate.logged(&["trusts Headgate's address"]).await;
    }
}

#[tokio::test]
async fn a_certificate_proves_the_user_that_the_configuration_names_and_nobody_else() {
    let authority = Authority::new();
    let postgres = server(15, &authority, "blue").await;
    application(&postgres).await;
    let users = format!("[users.app]\npassword = \"{PASSWORD}\"\ncertificate = \"app.example\"\n");
    let sections = [cluster("blue", &postgres, "require", &authority), route(), users].concat();
    let clients = format!("tls_client_ca = \"{}\"\n", authority.file().display());
    let headgate = headgate(Engine::Postgres, &authority.sign_for_here("listener"), &clients, &sections).await;
    let with = |(certificate, key): (PathBuf, PathBuf)| Psql {
        password: None,
        ..app(&headgate, &format!("sslmode=require sslcert={} sslkey={}", certificate.display(), key.display()))
    };
    let named = |name| Says { common_name: name, ..Says::default() };
    assert_eq!(with(authority.sign("app", named("app.example"))).ask(SEEN).await.expect("let in"), "app true");
    let other = with(authority.sign("other", named("other.example"))).ask(SEEN).await.expect_err("another's");
    assert!(other.contains("no password supplied"), "{other}");
    let forged = with(Authority::new().sign("forged", named("app.example"))).ask(SEEN).await;
    assert!(forged.is_err(), "an authority that nobody trusts");
}

#[tokio::test]
async fn nothing_that_was_said_before_tls_counts_behind_it() {
    let authority = Authority::new();
    let postgres = server(15, &authority, "blue").await;
    let sections = [cluster("blue", &postgres, "require", &authority), route()].concat();
    let headgate = headgate(Engine::Postgres, &authority.sign_for_here("listener"), "", &sections).await;
    let request = [0, 0, 0, 8, 4, 210, 22, 47];
    // A startup packet in the clear behind the request, as somebody on the way could add one.
    let mut injected = Raw::connect(headgate.port()).await;
    injected.send(&[&request[..], &[0, 0, 0, 9, 0, 3, 0, 0, 0]].concat()).await;
    let said = injected.rest().await;
    assert!(!said.contains(&b'S') || said.starts_with(b"E"), "{said:?}");
    // TLS from the first byte on, by a client that does not say what it speaks.
    let mut direct = Raw::connect(headgate.port()).await;
    direct.send(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]).await;
    let said = direct.rest().await;
    assert!(said.is_empty() || said[0] == 0x15, "an alert or nothing: {said:?}");
    assert!(app(&headgate, "sslmode=require").ask("select 1").await.is_err(), "no such role");
}
