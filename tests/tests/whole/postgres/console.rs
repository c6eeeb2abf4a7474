//! The admin console: SQL that any client can send, with errors that say what to write instead.

use tests::client::Raw;
use tests::headgate::Headgate;
use tests::postgres::Postgres;
use tests::world::route_to;

async fn stage() -> (Postgres, Headgate) {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    (postgres, headgate)
}

#[tokio::test]
async fn what_is_there_can_be_shown() {
    let (postgres, headgate) = stage().await;
    let _session = Raw::login(headgate.port(), "postgres", "postgres").await;
    let routes = headgate.admin("SHOW ROUTES").await;
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].get("cluster").map(String::as_str), Some("blue"), "{routes:?}");
    let clusters = headgate.admin("show clusters;").await;
    assert_eq!(clusters[0].get("port"), Some(&postgres.port().to_string()), "{clusters:?}");
    let sessions = headgate.admin("SHOW SESSIONS").await;
    assert!(sessions.iter().any(|row| row.get("route").is_some_and(|route| route == "postgres")), "{sessions:?}");
    assert!(!headgate.admin("HELP").await.is_empty());
    assert!(!headgate.admin("SHOW VERSION").await.is_empty());
    let config = format!("{:?}", headgate.admin("SHOW CONFIG").await);
    assert!(!config.contains(tests::headgate::ADMIN_PASSWORD), "a secret is shown: {config}");
}

#[tokio::test]
async fn a_statement_that_is_none_is_refused_with_the_nearest_form() {
    let (_postgres, headgate) = stage().await;
    for (wrong, nearest) in [
        ("SHOW ROUTE", "SHOW ROUTES"),
        ("CUTOVER m", "CUTOVER MIGRATION"),
        ("CREATE MIGRATION m FROM", "CREATE MIGRATION"),
        ("selekt 1", "HELP"),
        ("SHOW MIGRATION STATUS m nonsense", "SHOW MIGRATION STATUS"),
    ] {
        let (code, text) = headgate.refused(wrong).await;
        assert_eq!(code, "42601", "{wrong}");
        assert!(text.contains(nearest), "{wrong}: {text}");
    }
}

#[tokio::test]
async fn odd_statements_do_not_end_the_session() {
    let (_postgres, headgate) = stage().await;
    let console = headgate.console().await;
    let long = "x".repeat(1_000_000);
    let deep = "(".repeat(10_000);
    for odd in [
        "",
        ";",
        " ;; ; ",
        "-- only a comment",
        "'unterminated",
        "/* open",
        long.as_str(),
        deep.as_str(),
        "SHOW \u{0}",
        "é",
    ] {
        let _ = tests::postgres::try_rows(&console, odd).await;
        let rows = tests::postgres::rows(&console, "SHOW VERSION").await;
        assert_eq!(rows.len(), 1, "after {:?}", odd.chars().take(20).collect::<String>());
    }
}

#[tokio::test]
async fn the_extended_protocol_works_as_the_simple_one() {
    let (_postgres, headgate) = stage().await;
    let console = headgate.console().await;
    let rows = console.query("SHOW ROUTES", &[]).await.expect("the extended protocol");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<_, &str>("route"), "postgres");
    assert!(rows[0].get::<_, i64>("sessions") >= 0);
}

#[tokio::test]
async fn a_migration_that_does_not_exist_is_told_as_such() {
    let (_postgres, headgate) = stage().await;
    for statement in
        ["START MIGRATION ghost", "SHOW MIGRATION STATUS ghost", "CUTOVER MIGRATION ghost", "DROP MIGRATION ghost"]
    {
        let (_, text) = headgate.refused(statement).await;
        assert!(text.contains("ghost"), "{statement}: {text}");
    }
}
