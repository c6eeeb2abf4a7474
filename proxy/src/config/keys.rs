//! Every key of the configuration file, once: what it is when left out, what it accepts, when another value counts, and
//! what it means. All else follows from here: the fields, reading, SHOW CONFIG, the reference, what a reload changes,
//! and what CREATE MIGRATION takes.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use transport::tls::Mode;

use super::Secret;
use super::kinds::{
    ADDRESS, BOOLEAN, CLUSTER_NAME, DATABASE_NAME, DURATION, ENGINE, FOLDER, HOST, METHOD, NETWORKS, OPTIONAL_ADDRESS,
    OPTIONAL_COMMAND, OPTIONAL_NAME, OPTIONAL_SECRET, OPTIONAL_SQL, PEM, PORT, PROGRAM, SECRET, THREADS, TLS_DEMAND,
    TLS_MODE, USER_NAME, bytes_within, kind, number,
};
use super::reader::Reader;
use super::section::DefaultValue::{Nothing, Required, SectionName, Text};
use super::section::{self, Change, Key, Section, section};
use super::{Engine, Method, TlsDemand};
use crate::networks::Networks;

section! { "listen",
/// The listener.
Listen {
    address: SocketAddr = Text("127.0.0.1:6432"), ADDRESS, AtStart,
        "where applications and the admin console connect";
    sessions_max: usize = Text("10000"), number!(1 to 1_000_000), AtStart,
        "client sessions at the same time; more are refused with 53300";
    threads: NonZeroUsize = Text("auto"), THREADS, AtStart,
        "threads that may serve sessions; the next one is used when those before it have 32 sessions each";
    tls: TlsDemand = Text("auto"), TLS_DEMAND, AtReload,
        "whether clients can or must come by TLS; auto lets them, PostgreSQL's clients only where a certificate is given, because they take what they are offered";
    tls_certificate: Option<PathBuf> = Nothing("a certificate that is made at the start, signed by itself"), PEM, AtReload,
        "the certificate that clients are shown, followed by those that it was signed with";
    tls_key: Option<PathBuf> = Nothing("a key that is made at the start"), PEM, AtReload,
        "the private key of listen.tls_certificate";
    tls_client_ca: Option<PathBuf> = Nothing("clients are not asked for a certificate"), PEM, AtReload,
        "certificates of the authorities of clients' certificates; users.NAME.certificate says whom one proves";
    proxy_protocol_networks: Networks = Nothing("no connection begins with a PROXY header"), NETWORKS, AtReload,
        "networks of load balancers: every connection from there must begin with a PROXY header of version 2 (AWS NLB: proxy protocol v2; HAProxy: send-proxy-v2), and the client's address is what it says; from elsewhere none is accepted";
} }

section! { "http",
/// The HTTP listener.
Http {
    address: Option<SocketAddr> = Nothing("no HTTP"), OPTIONAL_ADDRESS, AtStart,
        "where /metrics, /healthz and /readyz are served";
} }

section! { "admin",
/// The admin console's account.
Admin {
    user: String = Text("headgate"), USER_NAME, AtReload,
        "who may use the admin console, the database named \"headgate\"";
    password: Secret = Required, SECRET, AtReload,
        "the admin console's password; asked for under every login method";
} }

section! { "clusters.*",
/// One database server that Headgate can reach.
Cluster {
    engine: Engine = Text("postgres"), ENGINE, AtStart,
        "what kind of server it is; all clusters of one Headgate are of one kind, MySQL and MariaDB count as one";
    host: String = Required, HOST, AtStart,
        "where the cluster's primary is";
    port: u16 = Text("auto"), PORT, AtStart,
        "the primary's port, also for a socket folder";
    user: String = Required, USER_NAME, AtStart,
        "the migrator's own account on the cluster";
    password: Option<Secret> = Nothing("no password"), OPTIONAL_SECRET, AtStart,
        "that account's password; a file is read anew for each connection";
    password_command: Option<Secret> = Nothing("no command"), OPTIONAL_COMMAND, AtStart,
        "a command for /bin/sh whose first line of output is that account's password, run for new connections: for tokens that live for minutes; also written as password = { command = \"...\" }";
    tls: Mode = Text("prefer"), TLS_MODE, AtStart,
        "whether Headgate's connections to it are encrypted, and what its certificate must prove, as libpq's sslmode: verify-ca that it is of a trusted authority, verify-full that it is of this host too; Unix sockets are as they are";
    tls_ca: Option<PathBuf> = Nothing("the system's authorities"), PEM, AtStart,
        "certificates of the authorities that verify-ca and verify-full trust";
    tls_certificate: Option<PathBuf> = Nothing("none"), PEM, AtStart,
        "the certificate that Headgate shows to a server that asks for one, followed by those that it was signed with";
    tls_key: Option<PathBuf> = Nothing("none"), PEM, AtStart,
        "the private key of tls_certificate";
    proxy_protocol: bool = Text("false"), BOOLEAN, AtStart,
        "begin every connection to it with a PROXY header of version 2, so that the cluster, or the load balancer before it, sees the addresses of clients; only for one that takes such headers from Headgate (MariaDB: proxy_protocol_networks)";
} }

section! { "routes.*",
/// One database name that applications use.
Route {
    cluster: String = Required, CLUSTER_NAME, AtReload,
        "the cluster that serves the route until a cutover moves it; the route \"*\" is for every database that has no route of its own, stays where it is, and its cluster says which databases exist";
    database: String = SectionName, DATABASE_NAME, AtReload,
        "the database on the cluster";
} }

section! { "login",
/// The login's settings.
Login {
    method: Method = Text("auto"), METHOD, AtReload,
        "how applications prove who they are: with accounts as the cluster's own accounts have it, with password by the password itself, over TLS only, which the cluster judges, with scram-sha-256 by the passwords of users.NAME; with trust the cluster decides about users without a configured password";
    auth_query: Option<String> = Nothing("pg_authid is read"), OPTIONAL_SQL, AtReload,
        "with accounts, the query that gives a PostgreSQL role's name and its verifier, where the cluster's own account may not read pg_authid: $1 is the name, such as \"SELECT usename, passwd FROM headgate_auth($1)\"";
    capture_passwords: bool = Text("false"), BOOLEAN, AtReload,
        "keep the passwords that MySQL's clients prove, in memory only, so that accounts whose login plugin the target lacks can be created there; asks such clients for full authentication";
} }

section! { "users.*",
/// One application user.
User {
    password: Option<Secret> = Nothing("no password"), OPTIONAL_SECRET, AtReload,
        "needed for scram-sha-256; with accounts and password, for users whom Headgate is to know itself; with trust, what the client must prove and what Headgate answers when the cluster asks; with accounts, known without asking the client for it";
    certificate: Option<String> = Nothing("no certificate"), OPTIONAL_NAME, AtReload,
        "the common name of a client's certificate, signed by listen.tls_client_ca, that proves this user of PostgreSQL's without a password";
} }

section! { "limits",
/// Bounds of sizes and waits.
Limits {
    frame_bytes_max: usize = Text("1GiB"), bytes_within!("64KiB" to "1GiB"), AtStart,
        "the largest frame of either side; what is larger ends the session";
    login_timeout: Duration = Text("10s"), DURATION, AtStart,
        "from the first byte of a client to the end of its login";
    connect_timeout: Duration = Text("5s"), DURATION, AtStart,
        "to reach a cluster and log in there";
    hold_timeout: Duration = Text("30s"), DURATION, AtStart,
        "the longest that one statement is ever held; then it fails with a retryable error";
    drain_timeout: Duration = Text("30s"), DURATION, AtStart,
        "how long a shutdown waits for open transactions";
} }

section! { "journal",
/// Where migrations are remembered.
Journal {
    path: PathBuf = Text("headgate.journal"), FOLDER, AtStart,
        "where migrations and cutovers are remembered; keep it on a durable disk, one for each Headgate";
} }

section! { "migrator",
/// How migrations go about it, unless a migration says otherwise.
Migrator {
    pg_dump: PathBuf = Text("pg_dump"), PROGRAM, AtReload,
        "moves the schema; at least as new as the source";
    pg_restore: PathBuf = Text("pg_restore"), PROGRAM, AtReload,
        "moves the schema; at least as new as pg_dump";
    copy_workers: usize = Text("4"), number!(1 to 64), ByMigration,
        "connections per side that copy at the same time";
    copy_chunk: u64 = Text("64MiB"), bytes_within!("1MiB" to "1024GiB"), ByMigration,
        "big tables are copied in ranges of about this size";
    check_workers: usize = Text("2"), number!(1 to 64), ByMigration,
        "connections per side that compute digests at the same time";
    check_range_rows: u64 = Text("100000"), number!(100 to 100_000_000), ByMigration,
        "rows per compared range";
    proof_rate: u64 = Text("200000"), number!(100 to 100_000_000), ByMigration,
        "rows that the proof of the switch compares in a second, behind the application";
    check_budget: Duration = Text("500ms"), DURATION, ByMigration,
        "how long a cutover WITH (proof = 'before') may compare inside the hold what changed since the check; what does not fit undoes it";
    residue_keys: usize = Text("100000"), number!(1 to 10_000_000), ByMigration,
        "keys of changed rows that are remembered from a check on, for a cutover WITH (proof = 'before')";
    residue_rate: u64 = Text("5000"), number!(0 to 1_000_000), ByMigration,
        "of these, so many are compared again in a second while changes are followed; 0 leaves them all to the hold";
    counter_gap: i64 = Text("10000"), number!(0 to 1_000_000_000), ByMigration,
        "how far past the source's sequences the target's are set at a cutover";
    slot_create_timeout: Duration = Text("10s"), DURATION, ByMigration,
        "how long the start of the change stream waits for open transactions before it tries again";
} }

/// Every key, in the order in which a file would have them.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> + Clone {
    let sections = [
        Listen::KEYS,
        Http::KEYS,
        Admin::KEYS,
        Cluster::KEYS,
        Route::KEYS,
        Login::KEYS,
        User::KEYS,
        Limits::KEYS,
        Journal::KEYS,
        Migrator::KEYS,
    ];
    sections.into_iter().flatten()
}

/// The reference that `headgate config --reference` prints: a commented configuration file.
pub fn reference() -> String {
    let mut text = String::from(
        "# Every key of headgate.toml. A key that has a default may be left out.\n\
         # NAME stands for a name of your choice; it is written once per cluster, route or user.\n",
    );
    let mut section = String::new();
    for key in keys() {
        let head = key.path.rsplit_once('.').map_or("", |(head, _)| head).replace('*', "NAME");
        if head != section {
            text.push_str(&["\n[", &head, "]\n"].concat());
            section = head;
        }
        let name = key.name();
        let default = match key.default {
            Required => "must be given".to_owned(),
            Nothing(meaning) => format!("left out: {meaning}"),
            Text(default) => format!("default: {default}"),
            SectionName => "default: the section's name".to_owned(),
        };
        let lines = ["# ", name, ": ", key.meaning, ".\n#   accepts ", key.form, "\n#   "];
        text.push_str(&lines.concat());
        text.push_str(&default);
        text.push('\n');
    }
    text
}
