//! Secrets that are planted where a program must not show them, and where they turn up.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use memchr::memmem::Finder;
use tokio::process::Command;

use crate::arena::Cluster;
use crate::headgate::{Headgate, binary, free_ports};
use crate::wait::{SOON, until, within};
use crate::world::{DATABASE, World};

/// Memory that is read at a time.
const CHUNK: usize = 1 << 20;

/// A secret: what it is, and a text that nothing else in the world has.
#[derive(Clone, Debug)]
pub struct Planted {
    /// What it is.
    pub what: &'static str,
    /// The secret itself.
    pub text: String,
}

impl Planted {
    /// A new one.
    pub fn new(what: &'static str) -> Self {
        // Long enough that some of it is left where what was freed begins with a few words of the allocator's own.
        Self::of(what, format!("planted{:016x}{:032x}", rand::random::<u64>(), rand::random::<u128>()))
    }

    /// One that is there.
    pub fn of(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, text: text.into() }
    }
}

/// The passwords of a world: of Headgate's accounts, each given in another way, and of its clients.
#[derive(Debug)]
pub struct Passwords {
    /// That of `blue`, which stands in the configuration.
    pub inline: Planted,
    /// That of `green`, which a command tells.
    pub command: Planted,
    /// That of `red`, which a file has, and its server does not.
    pub file: Planted,
    /// That of `gray`, where no server is.
    pub away: Planted,
    /// That of `web`, which the configuration has.
    pub of_user: Planted,
    /// That of `app`, which only its client has.
    pub of_client: Planted,
    /// What `app` has after that.
    pub later: Planted,
    /// One that nobody has.
    pub wrong: Planted,
}

impl Passwords {
    /// New ones.
    pub fn plant() -> Self {
        Self {
            inline: Planted::new("the password in the configuration"),
            command: Planted::new("the password of a command"),
            file: Planted::new("the password of a file"),
            away: Planted::new("the password of a cluster that is away"),
            of_user: Planted::new("the password of a configured user"),
            of_client: Planted::new("the password of a client"),
            later: Planted::new("the next password of a client"),
            wrong: Planted::new("a wrong password"),
        }
    }

    /// Those of Headgate's own accounts.
    pub fn of_ours(&self) -> [&Planted; 4] {
        [&self.inline, &self.command, &self.file, &self.away]
    }

    /// Those of clients.
    pub fn of_clients(&self) -> [&Planted; 4] {
        [&self.of_user, &self.of_client, &self.later, &self.wrong]
    }

    /// The configuration of the four clusters, the route and the user `web`, with what files it takes in `folder`. `keys` are those
    /// that each cluster has besides.
    pub fn sections(&self, folder: &Path, (source, target): (u16, u16), keys: &str) -> String {
        let file = |name: &str, secret: &Planted| {
            let path = folder.join(name);
            fs::write(&path, format!("{}\n", secret.text)).expect("the folder is ours");
            path.display().to_string()
        };
        let mut sections =
            format!("[routes.{DATABASE}]\ncluster = \"blue\"\n[users.web]\npassword = \"{}\"\n", self.of_user.text);
        for (name, port, password) in [
            ("blue", source, format!("\"{}\"", self.inline.text)),
            ("green", target, format!("{{ command = \"cat {}\" }}", file("command", &self.command))),
            ("red", target, format!("\"file:{}\"", file("file", &self.file))),
            ("gray", free_ports().0, format!("\"{}\"", self.away.text)),
        ] {
            let _ = write!(
                sections,
                "[clusters.{name}]\nhost = \"localhost\"\nport = {port}\nuser = \"mover\"\npassword = {password}\n\
                 tls = \"require\"\n{keys}"
            );
        }
        sections
    }
}

/// What makes a private key what it is.
pub fn private_key(file: &Path) -> Planted {
    let key = fs::read_to_string(file).expect("a key");
    Planted::of("the private key", key.lines().nth(1).expect("its body"))
}

/// A search of many places for the same secrets.
#[derive(Debug)]
pub struct Search {
    secrets: Vec<Planted>,
    found: BTreeSet<String>,
}

impl Search {
    /// A search for these.
    pub fn of(secrets: &[&Planted]) -> Self {
        Self { secrets: secrets.iter().map(|planted| (*planted).clone()).collect(), found: BTreeSet::new() }
    }

    /// Looks at what was said or written in one place, which must have said something.
    pub fn look(&mut self, place: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        assert!(!bytes.is_empty(), "{place} is empty");
        for Planted { what, text } in &self.secrets {
            if let Some(at) = Finder::new(text).find(bytes) {
                let around = &bytes[at.saturating_sub(200)..bytes.len().min(at + text.len() + 40)];
                self.found.insert(format!("{what} in {place}: {}", String::from_utf8_lossy(around).escape_debug()));
            }
        }
    }

    /// Fails where one was found.
    pub fn end(self) {
        let found: Vec<String> = self.found.into_iter().collect();
        assert!(found.is_empty(), "found:\n{}", found.join("\n"));
    }
}

/// Where in the memory of a process a secret lies, or half of it: in which part, and what is around it.
pub fn in_memory(pid: u32, secret: &Planted) -> Vec<String> {
    let (first, second) = secret.text.split_at(secret.text.len() / 2);
    [first, second].iter().flat_map(|half| text_in_memory(pid, half)).collect()
}

fn text_in_memory(pid: u32, text: &str) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs, and is ours");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("it runs, and is ours");
    let finder = Finder::new(text);
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let name = words.nth(3).unwrap_or("anonymous");
        let number = |text: &str| u64::from_str_radix(text, 16).expect("an address");
        let Some((begin, end)) = range.split_once('-').filter(|_| rights.starts_with('r')) else { continue };
        let (mut at, end) = (number(begin), number(end));
        let mut chunk = vec![0; CHUNK];
        while at < end {
            let wanted = chunk.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            // Pages of devices cannot be read.
            let Ok(read) = memory.read_at(&mut chunk[..wanted], at) else { break };
            if read == 0 {
                break;
            }
            for hit in finder.find_iter(&chunk[..read]) {
                let around = &chunk[hit.saturating_sub(64)..read.min(hit + text.len() + 64)];
                let around = String::from_utf8_lossy(around).escape_debug().to_string();
                found.push(format!("{name} at {:x}: {around}", at + hit as u64));
            }
            // A text may lie across two chunks.
            let kept = if read == wanted && at + (read as u64) < end { text.len() } else { 0 };
            at += (read - kept) as u64;
        }
    }
    found
}

/// What the processes that another one starts show of themselves: command lines, and environments.
#[derive(Debug)]
pub struct Children {
    stop: Arc<AtomicBool>,
    watching: JoinHandle<(BTreeSet<String>, BTreeSet<String>)>,
}

impl Children {
    /// Watches from now on.
    pub fn watch(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watching = std::thread::spawn(move || {
            let (mut lines, mut environments) = (BTreeSet::new(), BTreeSet::new());
            while !stopped.load(Relaxed) {
                for child in children_of(pid) {
                    let read = |what: &str| fs::read(format!("/proc/{child}/{what}")).unwrap_or_default();
                    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', " ");
                    lines.insert(text(read("cmdline")));
                    environments.insert(text(read("environ")));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            (lines, environments)
        });
        Self { stop, watching }
    }

    /// All command lines, and all environments.
    pub fn seen(self) -> (String, String) {
        self.stop.store(true, Relaxed);
        let (lines, environments) = self.watching.join().expect("it only reads");
        let text = |all: BTreeSet<String>| all.into_iter().collect::<Vec<_>>().join("\n");
        (text(lines), text(environments))
    }
}

/// The children of a process and theirs.
fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of_thread = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    let lists: Vec<String> = threads.flatten().map(of_thread).collect();
    let own = lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|number| number.parse().ok());
    own.flat_map(|child| std::iter::once(child).chain(children_of(child))).collect()
}

/// Looks at all that a Headgate with the migration `m` shows: every statement of its console that shows something, its pages,
/// its log, its journal and its command line.
pub async fn look_at_everything_shown(search: &mut Search, headgate: &Headgate) {
    let help = headgate.admin("HELP").await;
    let forms: Vec<&String> =
        help.iter().flat_map(|row| row.values()).filter(|text| text.starts_with("SHOW ")).collect();
    assert!(forms.len() > 10, "{help:?}");
    for form in forms {
        let statement = form.replace("[name]", "m").replace(" name", " m");
        search.look(&statement, format!("{:?}", headgate.admin(&statement).await));
    }
    search.look("HELP", format!("{help:?}"));
    for page in ["/metrics", "/healthz", "/readyz", "/nothing"] {
        search.look(page, headgate.page(page).await);
    }
    let page = headgate.page("/metrics").await;
    assert!(page.contains("headgate_log_lines_lost_total 0\n"), "the log lacks lines: {page}");
    search.look("the log", headgate.log());
    for entry in fs::read_dir(headgate.folder().join("journal")).expect("it has one") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("a file");
        // Files that only lock are empty.
        if !bytes.is_empty() {
            search.look(&path.display().to_string(), bytes);
        }
    }
    search.look("its command line", fs::read(format!("/proc/{}/cmdline", headgate.pid())).expect("it runs"));
}

/// Looks at what is said of migrations to `red`, which refuses the password, and to `gray`, which is away.
pub async fn look_at_broken_migrations(search: &mut Search, headgate: &Headgate) {
    for cluster in ["red", "gray"] {
        for statement in [
            &format!("CREATE MIGRATION x FROM blue TO {cluster} FOR ROUTE {DATABASE}"),
            "PRECHECK MIGRATION x",
            "START MIGRATION x",
        ] {
            search.look(statement, format!("{:?}", headgate.try_admin(statement).await));
        }
        headgate.admin("DROP MIGRATION x").await;
    }
}

/// Looks at what is said while the target is away, and waits until it is back. Rows come and go in `t`, all of them above a million.
pub async fn look_at_an_interruption<S: Cluster>(search: &mut Search, world: &mut World<S>) {
    world.target.crash().await;
    world.source.sql(DATABASE, "INSERT INTO t VALUES (1000001), (1000002)").await;
    let interrupted = until("it is interrupted", SOON, || world.status("error_message"), |error| !error.is_empty());
    search.look("the status", interrupted.await);
    world.target.restart().await;
    world.source.sql(DATABASE, "DELETE FROM t WHERE id > 1000000").await;
    until("it goes on", SOON, || world.status("error_message"), String::is_empty).await;
}

/// What clients have tried is gone with their sessions; what is needed for the next login of one is there.
pub async fn only_what_is_needed_is_in_memory(headgate: &Headgate, passwords: &Passwords) {
    let pid = headgate.pid();
    assert!(!in_memory(pid, &passwords.later).is_empty(), "the search finds nothing");
    for gone in [&passwords.wrong, &passwords.of_client] {
        let left = || async { in_memory(pid, gone) };
        until(gone.what, SOON / 4, left, Vec::is_empty).await;
    }
}

/// Looks at what is said of a configuration that is wrong where that secret stands in it.
pub async fn look_at_broken_configurations(search: &mut Search, headgate: &Headgate, secret: &Planted) {
    let text = fs::read_to_string(headgate.folder().join("headgate.toml")).expect("it is there");
    let right = format!("password = \"{}\"", secret.text);
    assert!(text.contains(&right), "{} is not in the configuration", secret.what);
    let secret = &secret.text;
    for wrong in [
        format!("password = \"{secret}"),
        format!("password = {secret}"),
        format!("password = [\"{secret}\"]"),
        format!("password = \"{secret}\\q\""),
        format!("password = \"${{{secret}\""),
        format!("password = \"${{{secret} }}\""),
        format!("password = \"{secret}\\u0000\""),
        format!("password = {{ comand = \"{secret}\" }}"),
        format!("password = \"{secret}\"\npassword = \"{secret}\""),
        format!("passwrd = \"{secret}\""),
        format!("{right}\nport = \"{secret}\""),
        format!("{right}\ntls = \"{secret}\""),
    ] {
        let path = headgate.folder().join("broken.toml");
        fs::write(&path, text.replacen(&right, &wrong, 1)).expect("the folder is ours");
        let mut command = Command::new(binary());
        command.args(["check-config", "--config"]).arg(&path).kill_on_drop(true);
        let output = within("check-config ends", SOON, command.output()).await.expect("it can be run");
        assert!(!output.status.success(), "{wrong} is in order");
        let place = wrong.replace(secret.as_str(), "SECRET");
        search.look(&format!("what is said of {place}"), [output.stdout, output.stderr].concat());
    }
}
