//! A configuration that is wrong is refused as a whole, before a socket opens, with the key, the problem and the right form.

use tests::headgate::Headgate;
use tests::world::route_to;

async fn check(sections: &str, expected: &[&str]) {
    let headgate = Headgate::prepare(sections);
    let (code, said) = headgate.run_to_end().await;
    assert!(code.is_some_and(|code| code != 0), "it ended with {code:?} for\n{sections}");
    for part in expected {
        assert!(said.contains(part), "{part:?} is not in:\n{said}\nfor\n{sections}");
    }
}

#[tokio::test]
async fn a_key_that_does_not_exist_is_named_with_the_one_that_was_meant() {
    let sections = route_to(1, "postgres").replace("host", "hots");
    check(&sections, &["clusters.blue.hots", "host"]).await;
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_told_with_the_accepted_form() {
    let sections = route_to(1, "postgres").replace("port = 1", "port = \"many\"");
    check(&sections, &["clusters.blue.port", "1 to 65535"]).await;
}

#[tokio::test]
async fn a_route_to_an_unknown_cluster_is_told_with_the_known_ones() {
    let sections = route_to(1, "postgres").replace("cluster = \"blue\"", "cluster = \"bleu\"");
    check(&sections, &["routes.postgres.cluster", "bleu", "blue"]).await;
}

#[tokio::test]
async fn every_problem_is_told_at_once() {
    let sections = route_to(1, "postgres").replace("port = 1", "port = 0").replace("\"trust\"", "\"hope\"");
    check(&sections, &["clusters.blue.port", "login.method", "scram-sha-256"]).await;
}

#[tokio::test]
async fn a_file_that_is_no_toml_is_told_with_its_line() {
    check("[clusters.blue\n", &["line"]).await;
}

#[tokio::test]
async fn a_secret_that_the_environment_does_not_hold_is_named() {
    let sections = route_to(1, "postgres")
        .replace("user = \"postgres\"", "user = \"postgres\"\npassword = \"${HEADGATE_NO_SUCH}\"");
    check(&sections, &["clusters.blue.password", "HEADGATE_NO_SUCH"]).await;
}
