//! Accounts that have nothing but what `headgate grants` prints, for a run of the tests in which migrations have the least
//! rights.

use tokio::process::Command;

use crate::headgate::binary;

/// The account that has the least rights.
pub const LEAST: &str = "headgate";
/// Its password.
pub const PASSWORD: &str = "least";

/// Gives what a superuser made to a role that is none.
pub const GIVE_AWAY: &str = include_str!("../../migrator/tests/servers/give_away.sql");

/// Tests whose migrations have all rights in a run with the least: each with the reason why it cannot do with these.
pub const SUPERUSERS: &[(&str, &str)] = &[];

/// Whether this test's migrations run with accounts that have nothing but the printed rights.
pub fn with_least_rights() -> bool {
    let asked = std::env::var_os("HEADGATE_TEST_RIGHTS").is_some_and(|rights| rights == "least");
    let thread = std::thread::current();
    let excused = |name: &str| {
        // A test that runs alone in its process is named on the command line, else by its thread.
        thread.name() == Some(name) || std::env::args().any(|word| word == name)
    };
    asked && !SUPERUSERS.iter().any(|(test, _)| excused(test))
}

/// What `headgate grants` prints for a server of this service, with a password in its place.
pub(crate) async fn printed(engine: &str, side: &str, version: &str, database: &str, service: &str) -> String {
    let asked = Command::new(binary())
        .args(["grants", "--engine", engine, "--for", side])
        .args(["--user", LEAST, "--database", database])
        .args(["--server-version", version, "--service", service])
        .output()
        .await
        .expect("headgate can be run");
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success(), "{said}");
    let quoted = format!("'{PASSWORD}'");
    String::from_utf8_lossy(&asked.stdout).replace(":'password'", &quoted).replace("<password>", &quoted)
}

/// The configuration of clusters, with the account that the migrations of this test are to have.
pub(crate) fn account(clusters: &str) -> String {
    if !with_least_rights() {
        return clusters.to_owned();
    }
    let least = format!("user = \"{LEAST}\"\npassword = \"{PASSWORD}\"");
    clusters.replace("user = \"postgres\"", &least).replace("user = \"root\"", &least)
}
