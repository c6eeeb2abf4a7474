//! PostgreSQL 15's own regression suite, directly and through Headgate: both must pass alike.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use tests::headgate::Headgate;
use tests::postgres::Postgres;
use tests::postgres::disposable::find;

/// One way to the server.
struct Contender {
    name: &'static str,
    passed: usize,
    failed: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let wanted = std::env::args().nth(1);
    let stage = stage();
    let mut ways = Vec::new();
    for name in ["direct", "headgate"] {
        if wanted.as_deref().is_none_or(|wanted| wanted == name) {
            let way = run(name, &stage).await;
            println!(
                "{:<9} {} of {} tests pass {}",
                way.name,
                way.passed,
                way.passed + way.failed.len(),
                way.failed.join(" ")
            );
            ways.push(way);
        }
    }
    if !ways.is_empty() && ways.iter().all(|way| way.failed.is_empty() && way.passed > 0) {
        let _ = fs::remove_dir_all(&stage);
        return ExitCode::SUCCESS;
    }
    println!("the differences are in {}/*/regression.diffs", stage.display());
    ExitCode::FAILURE
}

/// A copy of the suite that the servers' own user can read, as it reads and writes files by absolute path.
fn stage() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace");
    let source = workspace.join("target/servers/conformance/source");
    assert!(source.is_dir(), "{} is not there: run tests/servers/fetch conformance", source.display());
    let stage = std::env::temp_dir().join(format!("headgate-conformance-{}", std::process::id()));
    fs::create_dir(&stage).expect("the temporary folder takes a new one");
    let copied = Command::new("cp").arg("-R").arg(source.join("src/test/regress")).arg(&stage).status();
    assert!(copied.is_ok_and(|status| status.success()), "the suite could not be copied");
    for library in ["refint.so", "autoinc.so"] {
        let from = source.join("contrib/spi").join(library);
        fs::copy(&from, stage.join("regress").join(library))
            .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    let opened = fs::set_permissions(&stage, fs::Permissions::from_mode(0o755));
    opened.expect("the folder is ours");
    stage
}

async fn run(name: &'static str, stage: &Path) -> Contender {
    let postgres = Postgres::start_with(15, &[("shared_buffers", "128MB")], None).await;
    let owner = fs::metadata(postgres.server.data_dir()).expect("a running server has a data directory");
    let suite = stage.join("regress");
    let out = stage.join(name);
    fs::create_dir(&out).expect("the folder is ours");
    chown(&out, Some(owner.uid()), Some(owner.gid())).expect("we started the server as this user");

    let headgate = if name == "direct" { None } else { Some(Headgate::start(&sections(postgres.port())).await) };
    let port = headgate.as_ref().map_or(postgres.port(), Headgate::port);
    let tools = std::env::var_os("HEADGATE_PG_TOOLS")
        .map_or_else(|| find(15).expect("it was just started").root.join("bin"), PathBuf::from);
    let mut regress = Command::new(suite.join("pg_regress"));
    regress.arg("--host=127.0.0.1").arg(format!("--port={port}")).args(["--user=postgres", "--dbname=regression"]);
    regress.arg(format!("--inputdir={}", suite.display())).arg(format!("--outputdir={}", out.display()));
    regress.arg(format!("--dlpath={}", suite.display())).arg(format!("--bindir={}", tools.display()));
    regress.arg(format!("--schedule={}", suite.join("parallel_schedule").display())).arg("--max-connections=8");
    regress.current_dir(&out).uid(owner.uid()).gid(owner.gid());
    let ended = tokio::task::spawn_blocking(move || regress.output()).await.expect("running it does not panic");
    let said = String::from_utf8_lossy(&ended.expect("pg_regress can be run").stdout).into_owned();
    let log = out.join("output");
    fs::write(&log, &said).expect("the folder is ours");
    count(name, &said)
}

fn count(name: &'static str, said: &str) -> Contender {
    let mut way = Contender { name, passed: 0, failed: Vec::new() };
    for line in said.lines() {
        // Both "test NAME ... ok" and, in a parallel group, "     NAME ... ok".
        let Some((test, verdict)) = line.split_once(" ... ") else {
            continue;
        };
        let test = test.trim_start_matches("test ").trim();
        match verdict.split_whitespace().next() {
            Some("ok") => way.passed += 1,
            Some(_) => way.failed.push(test.to_owned()),
            None => {}
        }
    }
    way
}

/// The suite connects to its own database, creates others, and visits the ones that every server has.
fn sections(port: u16) -> String {
    let routes = ["postgres", "template1", "regression"].map(|name| format!("[routes.{name}]\ncluster = \"blue\"\n"));
    let cluster = format!("[clusters.blue]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"postgres\"\n");
    [cluster, routes.concat(), "[login]\nmethod = \"trust\"\n".to_owned()].concat()
}
