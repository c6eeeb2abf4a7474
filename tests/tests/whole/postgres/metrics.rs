//! What monitors see over HTTP is what happened.

use tests::client::Raw;
use tests::headgate::Headgate;
use tests::postgres::Postgres;
use tests::wait::{SOON, until};
use tests::world::route_to;

async fn get(port: u16, path: &str) -> String {
    let mut raw = Raw::connect(port).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    raw.send(request.as_bytes()).await;
    String::from_utf8_lossy(&raw.rest().await).into_owned()
}

#[tokio::test]
async fn sessions_are_counted_while_open_and_in_all_and_nothing_has_panicked() {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    let port = headgate.http_port();
    let mut session = Raw::login(headgate.port(), "postgres", "postgres").await;
    session.query("select repeat('x', 100000)").await;
    let open = get(port, "/metrics").await;
    assert!(open.starts_with("HTTP/1.1 200"), "{open}");
    assert!(open.contains("\nheadgate_sessions{route=\"postgres\"} 1\n"), "{open}");
    // Carried while the session lives, and told once.
    let carried = |page: &str| {
        let line = "\nheadgate_bytes_total{direction=\"to_client\",route=\"postgres\"} ";
        let after = page.split_once(line).map(|(_, after)| after);
        let digits = after.and_then(|after| after.split('\n').next());
        digits.and_then(|digits| digits.parse::<u64>().ok())
    };
    let bytes = carried(&open).expect("the bytes of a live session");
    assert!((100_000..101_000).contains(&bytes), "{bytes}");
    drop(session);

    let closed = |page: &String| page.contains("\nheadgate_sessions{route=\"postgres\"} 0\n");
    let page = until("the session is no longer counted", SOON, || get(port, "/metrics"), closed).await;
    assert!(page.contains("\nheadgate_sessions_total{route=\"postgres\"} 1\n"), "{page}");
    // Beside its farewell.
    let after = carried(&page).unwrap_or_default();
    assert!((bytes..bytes + 1_000).contains(&after), "{after}");
    assert!(page.contains("\nheadgate_panics_total 0\n"), "{page}");
}

#[tokio::test]
async fn health_and_readiness_are_told_and_other_pages_are_not_there() {
    let postgres = Postgres::start(15).await;
    let headgate = Headgate::start(&route_to(postgres.port(), "postgres")).await;
    for path in ["/healthz", "/readyz"] {
        let page = get(headgate.http_port(), path).await;
        assert!(page.starts_with("HTTP/1.1 200"), "{path}: {page}");
    }
    for path in ["/", "/metrics/../secret", "/nothing"] {
        let page = get(headgate.http_port(), path).await;
        assert!(page.starts_with("HTTP/1.1 404"), "{path}: {page}");
    }
}
