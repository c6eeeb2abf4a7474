//! Secrets that are planted where a program must not show them, and where they turn up.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use memchr::memmem::Finder;
use tokio::process::Command;

use crate::headgate::{Headgate, binary};
use crate::wait::{SOON, within};

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
