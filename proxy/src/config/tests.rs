//! Wrong files must be told in full; right ones must mean what they say.
use std::time::Duration;

use super::keys::keys;
use super::section::DefaultValue;
use super::*;

const SMALLEST: &str = r#"
[admin]
password = "a"
[clusters.blue]
host = "127.0.0.1"
user = "mover"
[routes.shop]
cluster = "blue"
[users.app]
password = "b"
"#;

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(text, &|name| (name == "KNOWN").then(|| "from-env".to_owned()))
}

/// The problems of the smallest file with one more text, one line each.
fn problems_with(more: &str) -> Vec<String> {
    problems(&format!("{SMALLEST}\n{more}"))
}

fn problems(text: &str) -> Vec<String> {
    parse(text).err().into_iter().flatten().map(|problem| problem.to_string()).collect()
}

fn assert_complaint(text: &str, key: &str, about: &str) {
    let all = problems(text);
    let found = all.iter().any(|line| line.starts_with(key) && line.contains(about));
    assert!(found, "no complaint about {key} with {about:?} in {all:#?}");
}

#[test]
fn the_smallest_file_gets_every_default() {
    let config = parse(SMALLEST).expect("valid");
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:6432");
    assert_eq!(config.routes["shop"].database, "shop");
    assert_eq!(config.clusters["blue"].port, 5432);
    assert_eq!(config.limits.hold_timeout, Duration::from_secs(30));
    assert_eq!(config.limits.frame_bytes_max, 1 << 30);
    assert_eq!(config.login.method, Method::ScramSha256, "a user has a password here");
    assert_eq!(config.migrator.copy_chunk, 64 << 20);
    assert!(config.http.address.is_none());
}

#[test]
fn every_problem_is_told_at_once_and_names_its_key_and_form() {
    let text = r#"
[listen]
address = "localhost"
sessions_max = 0
[http]
adress = "127.0.0.1:1"
[admin]
password = "${MISSING}"
[clusters.blue]
engine = "oracle"
host = ""
port = 70000
[routes.shop]
cluster = "green"
[routes.headgate]
cluster = "blue"
[login]
method = "md5"
[limits]
hold_timeout = 30
frame_bytes_max = "2GiB"
"#;
    let all = problems(text);
    for (key, about) in [
        ("listen.address (line 3)", "an IP address and a port"),
        ("listen.sessions_max (line 4)", "from 1 to 1000000"),
        ("http.adress (line 6)", "did you mean http.address?"),
        ("admin.password (line 8)", "environment variable MISSING, which is not set"),
        ("clusters.blue.engine (line 10)", "\"postgres\""),
        ("clusters.blue.host (line 11)", "absolute path of a socket folder"),
        ("clusters.blue.port (line 12)", "from 1 to 65535"),
        ("clusters.blue.user", "is missing"),
        ("routes.shop.cluster (line 14)", "\"green\" is not a cluster; write one of blue"),
        ("routes.headgate (line 15)", "the admin console's name"),
        ("login.method (line 18)", "\"trust\""),
        ("limits.hold_timeout (line 20)", "with its unit"),
        ("limits.frame_bytes_max (line 21)", "64KiB to 1GiB"),
    ] {
        let found = all.iter().any(|line| line.starts_with(key) && line.contains(about));
        assert!(found, "no complaint about {key} with {about:?} in {all:#?}");
    }
    assert_eq!(all.len(), 13, "{all:#?}");
}

#[test]
fn a_port_of_zero_is_refused_for_a_cluster_and_taken_for_a_listener() {
    assert_complaint(&SMALLEST.replace("host =", "port = 0\nhost ="), "clusters.blue.port", "1 to 65535");
    assert!(problems_with("[listen]\naddress = \"127.0.0.1:0\"").is_empty());
}

#[test]
fn the_same_address_twice_is_refused() {
    let more = "[listen]\naddress = \"127.0.0.1:7000\"\n[http]\naddress = \"127.0.0.1:7000\"";
    let all = problems_with(more);
    assert!(all.len() == 1 && all[0].contains("taken by listen.address"), "{all:?}");
}

#[test]
fn a_wrong_type_is_named_with_what_it_is() {
    for (value, kind) in [("true", "true or false"), ("[1]", "a list"), ("1.5", "a fraction"), ("1979-05-27", "a date")]
    {
        let all = problems_with(&format!("[journal]\npath = {value}"));
        assert!(all.len() == 1 && all[0].contains(kind), "{value}: {all:?}");
    }
}

#[test]
fn a_value_where_a_section_belongs_and_an_unknown_section_are_told() {
    assert_complaint(&format!("limits = 5\n{SMALLEST}"), "limits (line 1)", "write a section [limits]");
    assert_complaint(&format!("{SMALLEST}\n[limit]\n"), "limit (line 12)", "did you mean [limits]?");
    assert_complaint(&format!("{SMALLEST}\n[routes.shop.more]\n"), "routes.shop.more", "is not a section");
    assert_complaint("", "clusters", "names no cluster");
}

#[test]
fn secrets_come_from_the_environment_and_files_and_are_never_shown() {
    let file = std::env::temp_dir().join(format!("headgate-secret-{}", std::process::id()));
    std::fs::write(&file, "of-a-file\nsecond line\n").expect("a writable temporary folder");
    let text = SMALLEST.replace("\"a\"", "\"x-${KNOWN}-y\"").replace("\"b\"", &format!("\"file:{}\"", file.display()));
    let config = parse(&text).expect("valid");
    std::fs::remove_file(&file).expect("the file is ours");
    assert_eq!(config.admin.password.reveal(), "x-from-env-y");
    let app = config.users["app"].password.clone().expect("given");
    assert_eq!(app.reveal(), "of-a-file");
    let shown = format!("{config:?}");
    assert!(!shown.contains("from-env") && !shown.contains("of-a-file"), "{shown}");
}

#[test]
fn a_bad_secret_is_told_without_its_text() {
    for bad in ["", "hunter2${", "hunter2${A B}", "hunter2${MISSING}", "file:/does/not/exist"] {
        let all = problems(&SMALLEST.replace("\"a\"", &format!("\"{bad}\"")));
        assert!(all.len() == 1 && all[0].starts_with("admin.password"), "{bad}: {all:?}");
        assert!(!all[0].contains("hunter2"), "{all:?}");
    }
    let all = problems("[admin]\npassword = \"hunter2");
    assert!(!all.is_empty() && all.iter().all(|line| !line.contains("hunter2")), "{all:?}");
}

#[test]
fn scram_wants_a_password_for_every_user_and_trust_wants_none() {
    let text = SMALLEST.replace("[users.app]\npassword = \"b\"", "[users.app]");
    let with = |text: &str, method: &str| format!("{text}\n[login]\nmethod = {method:?}");
    assert_complaint(&with(&text, "scram-sha-256"), "users.app.password", "login.method is scram-sha-256");
    let nobody = SMALLEST.replace("[users.app]\npassword = \"b\"", "");
    assert_complaint(&with(&nobody, "scram-sha-256"), "users", "names no user");
    for method in ["trust", "accounts", "password"] {
        assert!(problems(&with(&text, method)).is_empty() && problems(&with(&nobody, method)).is_empty(), "{method}");
    }
}

#[test]
fn every_default_is_accepted_by_its_own_key_and_every_key_is_in_the_reference() {
    // The smallest file takes every default through the same reader as a given value.
    assert!(problems(SMALLEST).is_empty());
    let text = reference();
    for key in keys() {
        let name = key.path.rsplit('.').next().expect("a path has a last part");
        assert!(text.contains(&format!("\n# {name}: {}", key.meaning)), "{}", key.path);
    }
}

#[test]
fn every_key_of_the_table_is_read() {
    let line = |key: &'static Key| {
        let path = match key.section() {
            "clusters" => key.path.replace('*', "blue"),
            _ => key.path.replace('*', "shop"),
        };
        let value = match (key.path, key.default) {
            ("routes.*.cluster", _) => "blue",
            ("http.address", _) => "127.0.0.1:1",
            ("login.auth_query", _) => "$1",
            ("listen.proxy_protocol_networks", _) => "10.0.0.0/8",
            (_, DefaultValue::Text(default)) => default,
            _ => "x",
        };
        format!("{path} = {value:?}\n")
    };
    let text: String = keys().map(line).collect();
    // A key that nobody takes would be complained about as unknown; the files are not there.
    let all = problems(&text);
    // One of the two is enough.
    let of_files = |line: &&String| line.contains(".tls_") || line.contains("so is password_command");
    assert_eq!(all.iter().filter(|line| !of_files(line)).count(), 0, "{all:#?}");
}

/// The smallest file for MySQL, with one more text.
fn of_mysql(more: &str) -> String {
    let engine = "[clusters.blue]\nengine = \"mysql\"";
    let text = SMALLEST.replace("[clusters.blue]", engine);
    format!("{}\n{more}", text.replace("[users.app]\npassword = \"b\"", ""))
}

#[test]
fn the_clusters_accounts_decide_and_mysql_has_no_other_way() {
    let login = parse(&of_mysql("")).expect("valid").login;
    assert_eq!((login.method, login.capture_passwords), (Method::Accounts, false));
    let text = of_mysql("[login]\nmethod = \"accounts\"\ncapture_passwords = true");
    assert!(parse(&text).expect("valid").login.capture_passwords);
    for method in ["trust", "scram-sha-256", "password"] {
        let text = of_mysql(&format!("[login]\nmethod = {method:?}"));
        assert_complaint(&text, "login.method", "mysql clusters do not have");
    }
    let text = of_mysql("[login]\nauth_query = \"select $1\"");
    assert_complaint(&text, "login.auth_query", "mysql.user");
    let nobody = SMALLEST.replace("[users.app]\npassword = \"b\"", "");
    assert_eq!(parse(&nobody).expect("valid").login.method, Method::Accounts);
    let text = format!("{SMALLEST}[login]\nauth_query = \"select 1\"");
    assert_complaint(&text, "login.auth_query", "a query with $1 in it");
    let text = format!("{SMALLEST}[login]\ncapture_passwords = 1");
    assert_complaint(&text, "login.capture_passwords", "write true or false");
}

#[test]
fn a_host_that_is_a_path_is_a_folder_for_postgres_and_the_socket_for_mysql() {
    let socket = |text: &str| {
        let config = parse(&text.replace("127.0.0.1", "/run/db")).expect("valid");
        config.clusters["blue"].socket()
    };
    assert_eq!(socket(SMALLEST), Some("/run/db/.s.PGSQL.5432".into()));
    assert_eq!(socket(&of_mysql("")), Some("/run/db".into()));
    let tcp = parse(SMALLEST).expect("valid");
    assert_eq!(tcp.clusters["blue"].socket(), None);
}

#[test]
fn a_certificate_needs_its_key_and_files_that_can_be_read() {
    let one = of_mysql("[listen]\ntls_certificate = \"/none\"");
    assert_complaint(&one, "listen.tls_key", "is missing");
    let other = of_mysql("[listen]\ntls_key = \"/none\"");
    assert_complaint(&other, "listen.tls_certificate", "is missing");
    let both = of_mysql("[listen]\ntls_certificate = \"/none\"\ntls_key = \"/none\"");
    assert_complaint(&both, "listen.tls_certificate", "cannot be read as PEM");
    let clients = format!("{SMALLEST}[listen]\ntls_client_ca = \"/none\"");
    assert_complaint(&clients, "listen.tls_client_ca", "cannot be read as PEM");
    assert_complaint(&of_mysql("[listen]\ntls_client_ca = \"/none\""), "listen.tls_client_ca", "only PostgreSQL's");
}

#[tokio::test]
async fn a_clusters_password_may_come_from_a_command_or_from_a_file_that_is_read_anew() {
    let with = |more: &str| SMALLEST.replace("[clusters.blue]\n", &format!("[clusters.blue]\n{more}\n"));
    for text in ["password = { command = \"echo token\" }", "password_command = \"echo token\""] {
        let config = parse(&with(text)).expect("valid");
        let password = config.clusters["blue"].own_password().expect("given");
        assert_eq!(password.read().await.expect("run").as_str(), "token");
        assert!(config.entries().iter().any(|(key, value)| key == "clusters.blue.password_command" && value == "***"));
    }
    let both = with("password = \"p\"\npassword_command = \"echo token\"");
    assert_complaint(&both, "clusters.blue.password", "write one of them");
    assert_complaint(&with("password = { comand = \"x\" }"), "clusters.blue.password_comand", "did you mean");
    let file = std::env::temp_dir().join(format!("headgate-config-{}", std::process::id()));
    std::fs::write(&file, "one\n").expect("written");
    let config = parse(&with(&format!("password = \"file:{}\"", file.display()))).expect("valid");
    std::fs::write(&file, "two\n").expect("written");
    let password = config.clusters["blue"].own_password().expect("given");
    assert_eq!(password.read().await.expect("read").as_str(), "two");
    drop(std::fs::remove_file(&file));
}

#[test]
fn a_clusters_tls_is_preferred_and_its_files_must_be_there_and_be_looked_at() {
    let with = |more: &str| SMALLEST.replace("[clusters.blue]\n", &format!("[clusters.blue]\n{more}\n"));
    assert_eq!(parse(SMALLEST).expect("valid").clusters["blue"].tls().mode(), transport::tls::Mode::Prefer);
    assert_complaint(&with("tls = \"allow\""), "clusters.blue.tls", "verify-full");
    let driver = of_mysql("").replace("engine =", "tls = \"verify-ca\"\nengine =");
    assert_complaint(&driver, "clusters.blue.tls", "alternative names");
    assert_complaint(&with("tls_ca = \"/none\""), "clusters.blue.tls_ca", "trusts everybody");
    let verified = with("tls = \"verify-ca\"\ntls_ca = \"/none\"");
    assert_complaint(&verified, "clusters.blue.tls_ca", "cannot be read as PEM");
    let half = with("tls = \"require\"\ntls_key = \"/none\"");
    assert_complaint(&half, "clusters.blue.tls_certificate", "is missing");
    let unused = with("tls = \"disable\"\ntls_certificate = \"/none\"\ntls_key = \"/none\"");
    assert_complaint(&unused, "clusters.blue.tls_certificate", "remove it");
}

#[test]
fn proxy_headers_are_taken_from_named_networks_only_and_sent_where_there_is_an_address() {
    assert!(parse(SMALLEST).expect("valid").listen.proxy_protocol_networks.is_empty());
    for value in ["\"\"", "true", "\"lb.example\"", "\"10.0.0.0/40\"", "\"*\""] {
        let text = format!("[listen]\nproxy_protocol_networks = {value}\n{SMALLEST}");
        assert_complaint(&text, "listen.proxy_protocol_networks (line 2)", "such as \"10.0.0.0/8, 192.0.2.7\"");
    }
    let config = parse(&format!("[listen]\nproxy_protocol_networks = \"10.0.0.0/8,::1\"\n{SMALLEST}")).expect("valid");
    assert_eq!(config.listen.proxy_protocol_networks.to_string(), "10.0.0.0/8, ::1/128");
    let with =
        |host: &str| SMALLEST.replace("host = \"127.0.0.1\"", &format!("proxy_protocol = true\nhost = {host:?}"));
    assert!(parse(&with("db")).expect("valid").clusters["blue"].proxy_protocol);
    for text in [with("/run/db"), with("/run/db").replace("[clusters.blue]", "[clusters.blue]\nengine = \"mariadb\"")] {
        assert_complaint(&text, "clusters.blue.proxy_protocol (line ", "host is a Unix socket");
    }
    assert_complaint(&with("db").replace("true", "\"v1\""), "clusters.blue.proxy_protocol", "write true or false");
}

#[test]
fn every_key_is_shown_and_no_secret_is() {
    let config = parse(SMALLEST).expect("valid");
    let entries = config.entries();
    for key in keys() {
        let shown = entries.iter().any(|(path, _)| {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            key.covers(&path)
        });
        assert!(shown, "{} is not shown", key.path);
    }
    let of = |key: &str| entries.iter().find(|(path, _)| path == key).map(|(_, value)| value.as_str());
    assert_eq!(of("admin.password"), Some("***"));
    assert_eq!(of("users.app.password"), Some("***"));
    assert_eq!(of("clusters.blue.password"), Some(""));
    assert_eq!(of("migrator.copy_chunk"), Some("64MiB"));
}

#[test]
fn another_value_of_a_key_counts_when_the_table_says() {
    let now = parse(SMALLEST).expect("valid");
    let rest = SMALLEST.replace("[admin]\npassword = \"a\"\n", "admin.password = \"a\"\n");
    let shown = |config: &Config, key: &Key| config.entries().into_iter().find(|(path, _)| path == key.path);
    let others = ["1", "700", "2s", "2MiB", "127.0.0.1:1", "other", "true", "trust", "select $1", "10.0.0.0/8"];
    // What is in sections with names, not shown, or made at the start has a test of its own.
    let own = |key: &&Key| key.is_named() || key.path == "admin.password" || key.path.starts_with("listen.tls");
    for key in keys().filter(|key| !own(key)) {
        let read = others.iter().find_map(|other| {
            let read = parse(&format!("{} = {other:?}\n{rest}", key.path)).ok()?;
            (shown(&read, key) != shown(&now, key)).then_some(read)
        });
        let read = read.unwrap_or_else(|| panic!("no other value for {}", key.path));
        let counts = shown(&now.reloaded(&read), key) == shown(&read, key);
        assert_eq!(counts, key.change != Change::AtStart, "{}", key.path);
    }
}

#[test]
fn at_a_reload_clusters_stay_as_they_were_and_users_and_routes_do_not() {
    let now = parse(SMALLEST).expect("valid");
    let read = SMALLEST.replace("127.0.0.1", "h").replace("password = \"b\"", "password = \"c\"");
    let read = read.replace("password = \"a\"", "password = \"d\"");
    let read = read.replace("[routes.shop]\n", "[routes.shop]\ndatabase = \"other\"\n");
    let more = "[clusters.green]\nhost = \"g\"\nuser = \"u\"\n[users.web]\npassword = \"w\"\n";
    let reloaded = now.reloaded(&parse(&format!("{read}{more}")).expect("valid"));
    assert_eq!((reloaded.clusters["blue"].host.as_str(), reloaded.clusters["green"].host.as_str()), ("127.0.0.1", "g"));
    assert_eq!(reloaded.users["app"].password.as_ref().map(Secret::reveal), Some("c"));
    assert_eq!(reloaded.admin.password.reveal(), "d");
    assert_eq!((reloaded.users.len(), reloaded.routes["shop"].database.as_str()), (2, "other"));
    // What is gone from the file is gone.
    assert_eq!(reloaded.reloaded(&now).users.len(), 1);
}

#[test]
fn a_certificate_counts_at_a_reload_that_names_one() {
    let now = parse(&of_mysql("")).expect("valid");
    let mut read = now.clone();
    (read.listen.tls_certificate, read.listen.tls_key) = (Some("c".into()), Some("k".into()));
    let reloaded = now.reloaded(&read);
    assert_eq!(reloaded.listen.tls_files(), read.listen.tls_files());
    assert_eq!(reloaded.reloaded(&now).listen.tls_files(), read.listen.tls_files());
}
