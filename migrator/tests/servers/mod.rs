//! Starts real servers in temporary folders, as a user without rights, and stops them when dropped.

#![allow(dead_code, reason = "each test binary uses what it needs")]

pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod whole;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    user() == 0
}

fn user() -> u32 {
    fs::metadata("/proc/self").expect("this is Linux").uid()
}

/// A program that servers refuse to be when it is run by root.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Tests whose migrations have all rights in a run with the least: each with the reason why it cannot do with these.
pub(crate) const SUPERUSERS: &[(&str, &str)] = &[
    (
        "every_class_of_object_arrives_and_every_change_of_one_is_seen_and_named",
        "only superusers may create some of these classes on the target; the precheck names them",
    ),
    (
        "between_other_versions_and_for_some_schemas_alone_no_difference_is_seen_where_there_is_none",
        "only superusers may create some of these classes on the target; the precheck names them",
    ),
    (
        "an_event_trigger_that_writes_on_ddl_does_not_meet_the_fence_or_is_named_before",
        "it shows what a superuser's session meets, and then what one meets that is none",
    ),
    (
        "a_database_that_a_killed_run_is_still_creating_is_taken_over",
        "only a superuser's start creates the database: what is granted inside of it must be there before",
    ),
    (
        "a_migrator_that_may_not_read_passwords_or_use_origins_is_told_the_least_grant_that_ends_it",
        "it makes a role of its own, which lacks what is looked for",
    ),
    (
        "where_no_password_can_be_read_the_one_that_headgate_knows_is_set_and_tried",
        "it makes a role of its own, which lacks what is looked for",
    ),
    (
        "what_may_not_be_read_of_mysql_97_is_told_with_the_least_grant",
        "it makes an account of its own, which lacks what is looked for",
    ),
    (
        "what_may_not_be_read_of_mysql_56_is_told_with_the_least_grant",
        "it makes an account of its own, which lacks what is looked for",
    ),
    (
        "what_may_not_be_read_of_mariadb_is_told_with_the_least_grant",
        "it makes an account of its own, which lacks what is looked for",
    ),
    (
        "what_cannot_be_reached_or_is_not_allowed_is_a_finding_and_ends_no_other_check",
        "it makes an account of its own, which lacks what is looked for, and kills the server",
    ),
    (
        "every_class_of_mariadb_arrives_and_every_change_of_one_is_seen_and_named",
        "root changes and undoes everything, and MariaDB lets only who created a role grant it",
    ),
    (
        "postgresql_goes_there_and_back_and_there_again_and_nothing_is_lost_or_echoed",
        "on 14 only a superuser may apply what comes back",
    ),
    (
        "what_mysql_97_refuses_of_56_is_told_at_once_and_the_trial_leaves_nothing",
        "its definers are superusers, which is told first and hides what it looks for",
    ),
];

/// Whether this test's migrations run with accounts that have nothing but the printed rights.
pub(crate) fn with_least_rights() -> bool {
    let asked = std::env::var_os("HEADGATE_TEST_RIGHTS").is_some_and(|rights| rights == "least");
    let thread = std::thread::current();
    let excused = |name: &str| {
        // A test that runs alone in its process is named on the command line, else by its thread.
        thread.name() == Some(name) || std::env::args().any(|word| word == name)
    };
    asked && !SUPERUSERS.iter().any(|(test, _)| excused(test))
}

/// Waits for something asynchronous where nobody can.
fn wait_for<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(work)
        });
        waiting.join().expect("it comes to its end")
    })
}

/// A new folder that belongs to whom servers run as.
fn new_folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("headgate-test-{:032x}", rand::random::<u128>()));
    fs::create_dir(&folder).expect("the temporary folder can be created");
    give_away(&folder);
    folder
}

fn give_away(folder: &Path) {
    if is_root() {
        chown(folder, Some(NOBODY), Some(NOBODY)).expect("the folder can be given away");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free").port()
}

/// The folder of a server's programs: named in the environment, fetched, or installed.
fn root_of(title: &str, variable: &str, folder: &str, installed: &str, program: &str) -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/servers/{folder}"));
    let root = std::env::var_os(variable)
        .map(PathBuf::from)
        .into_iter()
        .chain([ours, PathBuf::from(installed)])
        .find(|root| daemon(root, program).exists())
        .unwrap_or_else(|| {
            panic!("no {title}: run tests/servers/fetch, or name the folder that holds its bin in {variable}")
        });
    let root = root.canonicalize().expect("the folder is there");
    if is_root() { reachable(&root) } else { root }
}

/// The path of a server's program; packages put some into `sbin`.
fn daemon(root: &Path, program: &str) -> PathBuf {
    let apart = root.join("sbin").join(program);
    if apart.exists() { apart } else { root.join("bin").join(program) }
}

/// The same programs where the user nobody can run them: a clone may lie in somebody's private folder.
fn reachable(root: &Path) -> PathBuf {
    let open = |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
    if root.ancestors().all(open) {
        return root.to_owned();
    }
    kept("server", root, |work| {
        let copied = Command::new("cp").arg("-R").arg(root.join(".")).arg(work).status();
        assert!(copied.is_ok_and(|status| status.success()), "the server can be copied");
    })
}

/// A folder that stays for the next test; `make` fills it the first time.
fn kept(name: &str, which: impl Hash, make: impl FnOnce(&Path)) -> PathBuf {
    let mut hash = DefaultHasher::new();
    // Another user's folder is none for us.
    (which, user()).hash(&mut hash);
    let kept = std::env::temp_dir().join(format!("headgate-test-{name}-{:016x}", hash.finish()));
    if kept.exists() {
        return kept;
    }
    let work = kept.with_extension(format!("{:032x}", rand::random::<u128>()));
    fs::create_dir(&work).expect("the temporary folder can be created");
    make(&work);
    fs::set_permissions(&work, fs::Permissions::from_mode(0o755)).expect("it can be opened to all");
    // Renamed when complete: whoever runs beside us sees a whole folder or none.
    if fs::rename(&work, &kept).is_err() {
        let _ = fs::remove_dir_all(&work);
    }
    kept
}
