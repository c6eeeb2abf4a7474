//! The repository keeps its own rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    let own =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.parent().expect("this crate lies in the workspace").to_path_buf()
}

/// All files of the repository as git sees them: tracked, or new and not ignored. Relative, with `/`.
fn files() -> Vec<String> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let output = Command::new("git").args(list).current_dir(root()).output().expect("git is there");
    assert!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("file names here are plain");
    let there = |name: &&str| !name.is_empty() && root().join(name).is_file();
    names.split('\0').filter(there).map(str::to_owned).collect()
}

pub(super) fn sources() -> Vec<String> {
    files().into_iter().filter(|file| Path::new(file).extension().is_some_and(|end| end == "rs")).collect()
}

pub(super) fn read(file: &str) -> String {
    String::from_utf8_lossy(&fs::read(root().join(file)).unwrap_or_default()).into_owned()
}

fn stem(file: &str) -> &str {
    Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

/// Fails with every finding at once.
pub(super) fn check(rule: &str, findings: impl IntoIterator<Item = String>) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

/// The code of a file: its lines without comments, with their numbers.
fn code(file: &str) -> Vec<(usize, String)> {
    let text = read(file);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    lines.map(|(number, line)| (number + 1, line.to_owned())).collect()
}

fn mentions(files: impl Iterator<Item = String>, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (number, line) in code(&file) {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{file}:{number}: {}", line.trim()));
            }
        }
    }
    found
}

#[test]
fn every_source_file_begins_with_what_it_is_for() {
    let silent = sources().into_iter().filter(|file| !read(file).starts_with("//! "));
    check("the first line must be a //! comment", silent);
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let banned = ["util", "utils", "common", "helper", "helpers", "type", "types", "core", "misc"];
    // The field's own names: a login plugin, and a driver.
    let names = ["caching_sha2", "mysql2", "staying_mysql2"];
    let bad = files().into_iter().filter(|file| {
        let stem = stem(file);
        let second = stem.ends_with('2') && !names.contains(&stem);
        banned.contains(&stem) || stem.ends_with("_impl") || second
    });
    check("a name must say what is inside", bad);
}

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let long = sources().into_iter().filter_map(|file| {
        let tests = file.starts_with("tests/") || file.contains("/tests/") || stem(&file) == "tests";
        let text = read(&file);
        // A test module at the end of a file does not count.
        let lines = text.lines().position(|line| line == "#[cfg(test)]" || line == "mod tests {");
        let lines = lines.unwrap_or_else(|| text.lines().count());
        (!tests && lines > 500).then(|| format!("{file}: {lines} lines"))
    });
    check("longer than 500 lines apart from its tests", long);
}

#[test]
fn the_data_plane_and_the_control_plane_do_not_know_each_other() {
    let migrator = sources().into_iter().filter(|file| file.starts_with("migrator/src/"));
    check("migrator names proxy", mentions(migrator, &["proxy::", "use proxy"]));
    let proxy = sources().into_iter().filter(|file| file.starts_with("proxy/src/"));
    let library = proxy.filter(|file| !file.starts_with("proxy/src/bin/headgate/"));
    check("the proxy library names migrator", mentions(library, &["migrator::", "use migrator"]));
}

#[test]
fn supervisor_conductor_journal_and_model_know_only_what_comes_after_them() {
    let order = ["supervisor", "conductor", "journal", "model"];
    for (at, layer) in order.iter().enumerate() {
        let own = sources().into_iter().filter(|file| {
            let path = file.strip_prefix("migrator/src/").unwrap_or_default();
            path.strip_prefix(layer).is_some_and(|rest| rest.starts_with(['.', '/']))
        });
        let earlier: Vec<String> = order.iter().take(at).map(|one| format!("crate::{one}::")).collect();
        let earlier: Vec<&str> = earlier.iter().map(String::as_str).collect();
        check(&format!("{layer} names what is above it"), mentions(own, &earlier));
    }
}

#[test]
fn files_for_both_engines_import_neither() {
    let neutral = sources().into_iter().filter(|file| {
        let plane = ["protocol/src/", "proxy/src/", "migrator/src/"].iter().any(|plane| file.starts_with(plane));
        let engine = ["/postgres/", "/mysql/"].iter().any(|engine| file.contains(engine));
        // The program wires the engines to the rest, and tests may look at everything.
        let program = file.starts_with("proxy/src/bin/headgate/");
        plane && !engine && !program && stem(file) != "tests"
    });
    let found = mentions(neutral, &["postgres::", "mysql::"]);
    // The drivers' crates have the engine's name in theirs.
    check("a neutral file imports an engine", found.into_iter().filter(|line| !only_drivers(line)));
}

fn only_drivers(line: &str) -> bool {
    let rest = line.replace("tokio_postgres::", "").replace("tests::postgres::disposable", "");
    !rest.contains("postgres::") && !rest.contains("mysql::")
}

#[test]
fn the_engines_do_not_import_each_other() {
    let of = |engine: &'static str| sources().into_iter().filter(move |file| file.contains(&format!("src/{engine}/")));
    check("postgres imports mysql", mentions(of("postgres"), &["mysql::"]));
    check("mysql imports postgres", mentions(of("mysql"), &["crate::postgres"]));
}

#[test]
fn the_protocol_depends_on_no_runtime() {
    let manifest = read("protocol/Cargo.toml");
    let normal = manifest.split("[dev-dependencies]").next().unwrap_or_default();
    let depends = normal.split("[dependencies]").nth(1).unwrap_or_default();
    for banned in ["tokio", "mio", "tracing", "socket2", "rand"] {
        assert!(!depends.lines().any(|line| line.starts_with(banned)), "protocol depends on {banned}");
    }
    let own = sources().into_iter().filter(|file| file.starts_with("protocol/src/"));
    let clocks = ["std::net", "Instant::now", "SystemTime::now", "tokio::"];
    check("protocol does I/O or reads a clock", mentions(own, &clocks));
}

#[test]
fn nothing_but_the_transport_opens_a_connection() {
    let product = || {
        let planes = ["protocol/src/", "proxy/src/", "migrator/src/"];
        sources().into_iter().filter(move |file| planes.iter().any(|plane| file.starts_with(plane)))
    };
    let without_tests = |file: &String| stem(file) != "tests";
    let sockets = [
        "TcpStream::connect",
        "UnixStream::connect",
        "TcpSocket",
        "Socket::connect",
        ".connect_timeout(",
        "connect_std",
        "config.connect(",
        "tokio_postgres::connect",
        "cancel_query(",
        "set_tcp_keepalive",
        "set_nodelay",
    ];
    check("opens a connection past protocol/transport", mentions(product().filter(without_tests), &sockets));
    let driver = ["Conn::new(", "Conn::from_url", "Pool::new", "Pool::from_url"];
    check("opens a connection of the driver's own", mentions(product(), &driver));
}

#[test]
fn the_top_level_holds_only_what_the_layout_names() {
    let allowed: BTreeSet<&str> = [
        "Cargo.toml",
        "Cargo.lock",
        "Makefile",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "proxy",
        "migrator",
        "protocol",
        "tests",
        "bench",
        "docs",
    ]
    .into();
    let top: BTreeSet<String> = files().iter().filter_map(|file| file.split('/').next().map(str::to_owned)).collect();
    check(
        "not in the layout",
        top.into_iter().filter(|name| !name.starts_with('.') && !allowed.contains(name.as_str())),
    );
}

#[test]
fn no_file_names_a_package_host() {
    // Written apart, so that this list does not find itself.
    let hosts = [
        ["registry.", "npmjs"],
        ["registry.", "yarnpkg"],
        ["deb.", "debian.org"],
        ["ftp.", "debian.org"],
        ["security.", "debian.org"],
        ["snapshot.", "debian"],
        ["static.", "crates.io"],
        ["index.", "crates.io"],
        ["pypi.", "org"],
        ["files.", "pythonhosted"],
        ["apt.", "postgresql.org"],
        ["archive.", "ubuntu"],
        ["static.", "rust-lang"],
        ["deb.", "nodesource"],
    ]
    .map(|parts| parts.concat());
    let found = files().into_iter().filter_map(|file| {
        // Cargo writes the name of its index into the lock file itself; it is the same everywhere.
        let text = if file == "Cargo.lock" { String::new() } else { read(&file) };
        hosts.iter().find(|host| text.contains(host.as_str())).map(|host| format!("{file}: {host}"))
    });
    check("a package host is named", found);
}

/// All words of the architecture's text that may name a file or a folder.
fn words() -> BTreeSet<String> {
    let text = read("ARCHITECTURE.md");
    let parts = text.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_./".contains(letter));
    parts.map(str::to_owned).collect()
}

/// Whether a word of the map, such as `gate.rs`, `postgres/mod.rs` or `mysql/preflight/`, means this path.
fn means(word: &str, path: &str) -> bool {
    Path::new(path).ends_with(word)
}

fn folders() -> BTreeSet<String> {
    let files = sources().into_iter();
    files.filter_map(|file| file.rsplit_once('/').map(|(folder, _)| folder.to_owned())).collect()
}

#[test]
fn the_code_map_names_every_folder_of_sources() {
    let words = words();
    let named = |folder: &String| words.iter().any(|word| word.ends_with('/') && means(word, folder));
    let of_a_plane = |folder: &String| {
        ["protocol/src", "protocol/transport/src", "proxy/src", "migrator/src"]
            .iter()
            .any(|plane| folder.starts_with(plane))
    };
    let folders = folders().into_iter().filter(of_a_plane);
    check("not in ARCHITECTURE.md", folders.filter(|folder| !named(folder)));
}

#[test]
fn the_code_map_names_nothing_that_is_not_there() {
    let (files, folders) = (sources(), folders());
    let is_file = |word: &String| Path::new(word).extension().is_some_and(|end| end == "rs");
    let gone = |word: &String| {
        is_file(word) && !files.iter().any(|file| means(word, file))
            || word.ends_with('/')
                && word.starts_with(char::is_alphanumeric)
                && !folders.iter().any(|folder| means(word, folder))
    };
    check("in ARCHITECTURE.md, and nowhere else", words().into_iter().filter(gone));
}

#[test]
fn every_file_of_this_test_program_is_part_of_it() {
    let forgotten = sources().into_iter().filter(|file| {
        let Some(inside) = file.strip_prefix("tests/tests/whole/") else {
            return false;
        };
        let (list, name) = match inside.split_once('/') {
            Some((folder, "mod.rs")) => ("main.rs".to_owned(), folder),
            Some((folder, _)) => (format!("{folder}/mod.rs"), stem(file)),
            None => ("main.rs".to_owned(), stem(file)),
        };
        let list = read(&format!("tests/tests/whole/{list}"));
        name != "main" && !list.contains(&format!("mod {name};"))
    });
    check("tests that never run", forgotten);
}
