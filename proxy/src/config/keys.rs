//! Every key of the configuration file, once: what it means, what it accepts, what it is when left out.

/// One key of the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The dotted path; `*` stands for a name that the operator chooses.
    pub path: &'static str,
    /// What it is when left out.
    pub default: Default,
    /// What a value must look like.
    pub form: &'static str,
    /// What it is good for.
    pub meaning: &'static str,
}

/// What a key is when it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// It must be given.
    Required,
    /// Nothing; the text tells what that means.
    Nothing(&'static str),
    /// This text, read like a value of the file.
    Text(&'static str),
    /// The name of the section it stands in.
    SectionName,
}

const ADDRESS: &str =
    "an IP address and a port, such as \"127.0.0.1:6432\" or \"[::1]:6432\"; port 0 takes any free one";
const SECRET: &str = "a text without NUL that is not empty; ${NAME} is replaced by that environment variable, and \"file:/path\" reads the first line of a file";
const DURATION: &str =
    "a whole number with its unit ms, s, min or h, such as \"500ms\" or \"10s\"; more than zero, at most 720h";
const FRAME: &str = "a size in B, KiB, MiB or GiB from 64KiB to 1GiB, such as \"64MiB\"";
const CHUNK: &str = "a size in B, KiB, MiB or GiB from 1MiB to 1024GiB, such as \"64MiB\"";
/// The form of keys that take a boolean.
pub(super) const TRUE_OR_FALSE: &str = "true or false";
const PEM: &str = "the path of a PEM file";
const PROGRAM: &str = "a program's name, looked up on PATH, or its path";

const fn key(path: &'static str, default: Default, form: &'static str, meaning: &'static str) -> Key {
    Key { path, default, form, meaning }
}

/// Every key, in the order in which a file would have them.
pub(super) const KEYS: &[Key] = &[
    key("listen.address", Default::Text("127.0.0.1:6432"), ADDRESS, "where applications and the admin console connect"),
    key(
        "listen.sessions_max",
        Default::Text("10000"),
        "a whole number from 1 to 1000000",
        "client sessions at the same time; more are refused with 53300",
    ),
    key(
        "listen.threads",
        Default::Text("auto"),
        "\"auto\" (one for each processor), or a whole number from 1 to 1024",
        "threads that may serve sessions; the next one is used when those before it have 32 sessions each",
    ),
    key(
        "listen.tls_certificate",
        Default::Nothing("a certificate that is made at the start, signed by itself"),
        PEM,
        "the certificate that MySQL's clients are shown, followed by those that it was signed with",
    ),
    key(
        "listen.tls_key",
        Default::Nothing("a key that is made at the start"),
        PEM,
        "the private key of listen.tls_certificate",
    ),
    key("http.address", Default::Nothing("no HTTP"), ADDRESS, "where /metrics, /healthz and /readyz are served"),
    key(
        "admin.user",
        Default::Text("headgate"),
        "a user name of 1 to 63 bytes",
        "who may use the admin console, the database named \"headgate\"",
    ),
    key(
        "admin.password",
        Default::Required,
        SECRET,
        "the admin console's password; asked for under every login method",
    ),
    key(
        "clusters.*.engine",
        Default::Text("postgres"),
        "\"postgres\", \"mysql\" or \"mariadb\"",
        "what kind of server it is; all clusters of one Headgate are of one kind, MySQL and MariaDB count as one",
    ),
    key(
        "clusters.*.host",
        Default::Required,
        "a host name, an IP address, or the absolute path of a socket folder (PostgreSQL) or of a socket (MySQL and MariaDB)",
        "where the cluster's primary is",
    ),
    key(
        "clusters.*.port",
        Default::Text("auto"),
        "\"auto\" (5432 for PostgreSQL, 3306 for MySQL and MariaDB), or a whole number from 1 to 65535",
        "the primary's port, also for a socket folder",
    ),
    key(
        "clusters.*.user",
        Default::Required,
        "a user name of 1 to 63 bytes",
        "the migrator's own account on the cluster",
    ),
    key("clusters.*.password", Default::Nothing("no password"), SECRET, "that account's password"),
    key(
        "routes.*.cluster",
        Default::Required,
        "the name of a section under [clusters]",
        "the cluster that serves the route until a cutover moves it; the route \"*\" is for every database that has no route of its own, stays where it is, and its cluster says which databases exist",
    ),
    key("routes.*.database", Default::SectionName, "a database name of 1 to 63 bytes", "the database on the cluster"),
    key(
        "login.method",
        Default::Text("auto"),
        "\"auto\" (accounts for MySQL and MariaDB, scram-sha-256 for PostgreSQL), \"scram-sha-256\", \"trust\" or \"accounts\"",
        "how applications prove who they are; with trust the cluster decides about users without a configured password, with accounts the cluster's own accounts do",
    ),
    key(
        "login.capture_passwords",
        Default::Text("false"),
        TRUE_OR_FALSE,
        "keep the passwords that MySQL's clients prove, in memory only, so that accounts whose login plugin the target lacks can be created there; asks such clients for full authentication",
    ),
    key(
        "users.*.password",
        Default::Nothing("no password"),
        SECRET,
        "needed for scram-sha-256; with trust, what the client must prove and what Headgate answers when the cluster asks; with accounts, known without asking the client for it",
    ),
    key(
        "limits.frame_bytes_max",
        Default::Text("1GiB"),
        FRAME,
        "the largest frame of either side; what is larger ends the session",
    ),
    key(
        "limits.login_timeout",
        Default::Text("10s"),
        DURATION,
        "from the first byte of a client to the end of its login",
    ),
    key("limits.connect_timeout", Default::Text("5s"), DURATION, "to reach a cluster and log in there"),
    key(
        "limits.hold_timeout",
        Default::Text("30s"),
        DURATION,
        "the longest that one statement is ever held; then it fails with a retryable error",
    ),
    key("limits.drain_timeout", Default::Text("30s"), DURATION, "how long a shutdown waits for open transactions"),
    key(
        "journal.path",
        Default::Text("headgate.journal"),
        "a folder's path, made if it is missing; a relative one starts at the working directory",
        "where migrations and cutovers are remembered; keep it on a durable disk, one for each Headgate",
    ),
    key("migrator.pg_dump", Default::Text("pg_dump"), PROGRAM, "moves the schema; at least as new as the source"),
    key("migrator.pg_restore", Default::Text("pg_restore"), PROGRAM, "moves the schema; at least as new as pg_dump"),
    key(
        "migrator.copy_workers",
        Default::Text("4"),
        "a whole number from 1 to 64",
        "connections per side that copy at the same time",
    ),
    key("migrator.copy_chunk", Default::Text("64MiB"), CHUNK, "big tables are copied in ranges of about this size"),
    key(
        "migrator.check_workers",
        Default::Text("2"),
        "a whole number from 1 to 64",
        "connections per side that compute digests at the same time",
    ),
    key(
        "migrator.check_range_rows",
        Default::Text("100000"),
        "a whole number from 100 to 100000000",
        "rows per compared range",
    ),
    key(
        "migrator.counter_gap",
        Default::Text("10000"),
        "a whole number from 0 to 1000000000",
        "how far past the source's sequences the target's are set at a cutover",
    ),
    key(
        "migrator.slot_create_timeout",
        Default::Text("10s"),
        DURATION,
        "how long the start of the change stream waits for open transactions before it tries again",
    ),
];

impl Key {
    /// Whether `path` is a path of this key.
    pub fn covers(&self, path: &[String]) -> bool {
        let parts: Vec<&str> = self.path.split('.').collect();
        parts.len() == path.len() && parts.iter().zip(path).all(|(part, given)| *part == "*" || part == given)
    }

    /// The section it stands in, such as `listen` or `clusters`.
    pub fn section(&self) -> &'static str {
        self.path.split('.').next().unwrap_or(self.path)
    }

    /// Whether its section holds one part per name that the operator chooses.
    pub fn is_named(&self) -> bool {
        self.path.contains('*')
    }
}

/// The reference that `headgate config --reference` prints: a commented configuration file.
pub fn reference() -> String {
    let mut text = String::from(
        "# Every key of headgate.toml. A key that has a default may be left out.\n\
         # NAME stands for a name of your choice; it is written once per cluster, route or user.\n",
    );
    let mut section = String::new();
    for key in KEYS {
        let head = key.path.rsplit_once('.').map_or("", |(head, _)| head).replace('*', "NAME");
        if head != section {
            text.push_str(&["\n[", &head, "]\n"].concat());
            section = head;
        }
        let name = key.path.rsplit('.').next().unwrap_or(key.path);
        let default = match key.default {
            Default::Required => "must be given".to_owned(),
            Default::Nothing(meaning) => format!("left out: {meaning}"),
            Default::Text(default) => format!("default: {default}"),
            Default::SectionName => "default: the section's name".to_owned(),
        };
        let lines = ["# ", name, ": ", key.meaning, ".\n#   accepts ", key.form, "\n#   "];
        text.push_str(&lines.concat());
        text.push_str(&default);
        text.push('\n');
    }
    text
}
