//! What the accounts of a cluster demand of a login, as the cluster's own tables have it.
//!
//! Only accounts of `mysql_native_password` can be checked from what those tables hold. They are read with the
//! account that the configuration has for the cluster, kept in memory, and read anew where somebody is missing or a
//! proof is wrong, because accounts change. Which of a user's accounts is meant depends on the host that the server sees: it is
//! Headgate's, or the client's own where the cluster is told of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mysql_async::prelude::Queryable;
use protocol::mysql::auth::{self, native};
use tokio::net::UdpSocket;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::host;
use super::own_account::OwnAccount;
use crate::config::{Cluster, Config};
use crate::per_cluster::PerCluster;
use crate::upstream::Origin;

/// The accounts are read at most that often, however many logins fail.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// After a failure the cluster is left alone for longer, so that logins do not wait for it.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What accounts ask of a connection is read again after this long.
const REQUIREMENTS_AGE_MAX: Duration = Duration::from_secs(10);

/// The columns differ between servers; those who may not read the table see none.
const COLUMNS: &str = "SELECT LOWER(COLUMN_NAME) FROM information_schema.COLUMNS \
    WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'user'";

/// Whether the server asks what the hosts of clients are called.
const LOOKS_UP: &str = "SELECT NOT @@GLOBAL.skip_name_resolve";

/// How the account that a login means is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// By `mysql_native_password`, against what the server keeps; against nothing where it has no password.
    Native(Option<native::Verifier>),
    /// By a plugin that only the server itself can check.
    Other,
}

/// The accounts of all clusters.
pub struct Accounts {
    clusters: PerCluster<Source>,
}

/// One cluster's accounts, and how they are read.
struct Source {
    name: String,
    user: String,
    account: OwnAccount,
    address: Option<(String, u16)>,
    /// The server sees the addresses of clients.
    proxied: bool,
    timeout: Duration,
    list: ArcSwapOption<List>,
    reading: Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    /// When the last one began.
    last: Option<Instant>,
    failing: bool,
}

/// All accounts of a cluster, in the order in which the server would take them.
struct List {
    read: Instant,
    all: Vec<Entry>,
    /// What the server calls the host of Headgate's own sessions.
    own: Host,
    /// The server looks up what the hosts of clients are called.
    resolves: bool,
    /// What somebody without an account is taken for, so that nobody learns from the exchange which users there are.
    nobody: Account,
}

/// One of them.
struct Entry {
    user: Vec<u8>,
    host: String,
    account: Account,
    requires: Requires,
}

/// Where the server sees a login come from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    /// What it calls the host; none where that cannot be known.
    name: Option<String>,
    address: Option<IpAddr>,
}

/// What the server's look-up of a host may say, in the eyes of Headgate.
enum Match<'a> {
    /// This account is meant.
    One(&'a Entry),
    /// None is.
    Nobody,
    /// That depends on what the server calls the host.
    Unknown,
}

/// What an account asks of a connection besides its proof (`REQUIRE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requires {
    /// Nothing.
    Nothing,
    /// TLS.
    Tls,
    /// A certificate of the client's, which goes no further than to Headgate.
    Certificate,
}

impl Requires {
    /// By the column `ssl_type`.
    fn of(kind: &[u8]) -> Self {
        match kind {
            b"" => Self::Nothing,
            b"ANY" => Self::Tls,
            _ => Self::Certificate,
        }
    }
}

impl List {
    fn new(all: Vec<Entry>, own: Host, resolves: bool) -> Self {
        let unknown: [u8; 32] = rand::random();
        let nobody = Account::Native(Some(native::Key::of(&unknown).verifier()));
        Self { read: Instant::now(), all, own, resolves, nobody }
    }

    /// Where the server sees the login of a client come from, which it is told of; else it is Headgate's.
    fn host(&self, client: Option<IpAddr>) -> Host {
        let Some(address) = client else {
            return self.own.clone();
        };
        // To a server on another host a client on this one is Headgate.
        if address.is_loopback() && !self.own.address.is_some_and(|own| own.is_loopback()) {
            return self.own.clone();
        }
        let is_localhost = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&address);
        let name = if self.resolves { is_localhost.then(|| "localhost".to_owned()) } else { Some(address.to_string()) };
        Host { name, address: Some(address) }
    }

    fn find(&self, user: &[u8], host: &Host) -> Option<Account> {
        match self.entry(user, host) {
            Match::One(entry) => Some(entry.account),
            Match::Unknown => None,
            Match::Nobody => {
                let is_other = |entry: &Entry| entry.account == Account::Other && entry.takes(host) != Some(false);
                (!self.all.iter().any(is_other)).then_some(self.nobody)
            }
        }
    }

    fn entry(&self, user: &[u8], host: &Host) -> Match<'_> {
        for entry in self.all.iter().filter(|entry| entry.user.is_empty() || entry.user == user) {
            match entry.takes(host) {
                Some(true) => return Match::One(entry),
                Some(false) => {}
                None => return Match::Unknown,
            }
        }
        Match::Nobody
    }
}

impl Entry {
    /// Whether it is for that host; none where that depends on what the server calls it.
    fn takes(&self, host: &Host) -> Option<bool> {
        let named = host.name.as_deref().unwrap_or_default();
        if host::matches(&self.host, named, host.address) {
            return Some(true);
        }
        (host.name.is_some() || !host::may_be_a_name(&self.host)).then_some(false)
    }
}

/// A row of `mysql.user`.
type Row = (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);

impl Accounts {
    /// Reads nothing yet.
    pub fn new(config: &Config) -> Self {
        Self { clusters: PerCluster::new(config, source(config)) }
    }

    /// Knows the clusters of another configuration.
    pub fn renew(&self, config: &Config) {
        self.clusters.renew(config, source(config));
    }

    /// The account that a login as `user` on `cluster` means; `None` where it is not known.
    pub async fn find(&self, cluster: &str, user: &[u8], origin: Origin) -> Option<Account> {
        let source = self.clusters.get(cluster)?;
        match source.list.load_full().and_then(|list| list.find(user, &list.host(source.client(origin)))) {
            Some(account) => Some(account),
            None => self.find_anew(cluster, user, origin).await,
        }
    }

    /// What the account that a login as `user` means asks of a connection, by a list that is not old: the server sees Headgate's
    /// own connection, not the client's. `None` where it cannot be known.
    pub async fn requires(&self, cluster: &str, user: &[u8], origin: Origin) -> Option<Requires> {
        let source = self.clusters.get(cluster)?;
        let is_fresh = || source.list.load().as_ref().is_some_and(|list| list.read.elapsed() < REQUIREMENTS_AGE_MAX);
        if !is_fresh() {
            source.refresh().await;
        }
        let list = source.list.load_full()?;
        match list.entry(user, &list.host(source.client(origin))) {
            Match::One(entry) => Some(entry.requires),
            Match::Nobody => Some(Requires::Nothing),
            Match::Unknown => None,
        }
    }

    /// The same after the accounts were read anew, for which it waits its turn.
    pub async fn find_anew(&self, cluster: &str, user: &[u8], origin: Origin) -> Option<Account> {
        let source = self.clusters.get(cluster)?;
        source.refresh().await;
        let list = source.list.load_full()?;
        list.find(user, &list.host(source.client(origin)))
    }
}

fn source(config: &Config) -> impl Fn(&str, &Cluster) -> Source {
    let timeout = config.limits.connect_timeout;
    move |name, cluster| {
        let address = (cluster.socket().is_none()).then(|| (cluster.host.clone(), cluster.port));
        Source {
            name: name.to_owned(),
            user: cluster.user.clone(),
            account: OwnAccount::on(cluster),
            address,
            proxied: cluster.proxy_protocol,
            timeout,
            list: ArcSwapOption::empty(),
            reading: Mutex::default(),
        }
    }
}

impl Source {
    /// The address of a client that the server is told of.
    fn client(&self, origin: Origin) -> Option<IpAddr> {
        match origin {
            Origin::Client(addresses) if self.proxied => Some(addresses.source.ip()),
            Origin::Client(_) | Origin::Headgate => None,
        }
    }

    /// Reads the accounts. Whoever comes meanwhile waits, and is content with what was read since it came.
    async fn refresh(&self) {
        let came = Instant::now();
        let mut reading = self.reading.lock().await;
        if let Some(last) = reading.last {
            if last >= came || (reading.failing && last.elapsed() < RETRY_AFTER) {
                return;
            }
            // An account may have changed a moment after the last reading; to say no now would be wrong.
            tokio::time::sleep_until(last + REFRESH_EVERY).await;
        }
        reading.last = Some(Instant::now());
        let read = tokio::time::timeout(self.timeout, Box::pin(self.read())).await;
        let failure = match read {
            Ok(Ok(list)) => {
                if reading.failing {
                    info!(cluster = self.name, "the accounts can be read again");
                }
                self.list.store(Some(Arc::new(list)));
                None
            }
            Ok(Err(mysql_async::Error::Server(error))) => {
                Some(format!("{error}; GRANT SELECT ON mysql.user TO {}", self.user))
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it took too long".to_owned()),
        };
        if let Some(error) = &failure
            && !reading.failing
        {
            warn!(
                cluster = self.name,
                error, "the accounts cannot be read, so that every client is asked for its password itself"
            );
        }
        reading.failing = failure.is_some();
    }

    async fn read(&self) -> mysql_async::Result<List> {
        let mut conn = self.account.open().await?;
        let columns: Vec<String> = conn.query(COLUMNS).await?;
        let has = |name: &str| columns.iter().any(|column| column == name);
        let stored = if has("password") {
            "IF(COALESCE(authentication_string, '') = '', Password, authentication_string)"
        } else {
            "authentication_string"
        };
        let people = if has("is_role") { " WHERE is_role <> 'Y'" } else { "" };
        let rows: Vec<Row> =
            conn.query(format!("SELECT User, Host, plugin, {stored}, ssl_type FROM mysql.user{people}")).await?;
        let us: Option<String> = conn.query_first("SELECT SUBSTRING_INDEX(USER(), '@', -1)").await?;
        let resolves = self.proxied && conn.query_first(LOOKS_UP).await?.unwrap_or(true);
        conn.disconnect().await?;
        let us = us.unwrap_or_default();
        let address = match us.parse() {
            Ok(address) => Some(address),
            Err(_) => self.own_address().await,
        };
        Ok(list(rows, Host { name: Some(us), address }, resolves))
    }

    /// Our address on the way to the server; nothing is sent to learn it.
    async fn own_address(&self) -> Option<IpAddr> {
        let (host, port) = self.address.as_ref()?;
        let mut all = tokio::net::lookup_host((host.as_str(), *port)).await.ok()?;
        let server = all.next()?;
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await.ok()?;
        socket.connect(server).await.ok()?;
        Some(socket.local_addr().ok()?.ip())
    }
}

/// All accounts in the server's order.
fn list(rows: Vec<Row>, own: Host, resolves: bool) -> List {
    let mut all: Vec<_> = rows
        .into_iter()
        .filter_map(|(user, pattern, plugin, stored, ssl)| {
            let pattern = String::from_utf8(pattern.unwrap_or_default()).ok()?;
            let user = user.unwrap_or_default();
            let account = account(&plugin.unwrap_or_default(), &stored.unwrap_or_default());
            let requires = Requires::of(&ssl.unwrap_or_default());
            Some((host::rank(&pattern), user.is_empty(), Entry { user, host: pattern, account, requires }))
        })
        .collect();
    all.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    List::new(all.into_iter().map(|(_, _, entry)| entry).collect(), own, resolves)
}

fn account(plugin: &[u8], stored: &[u8]) -> Account {
    // Tables of old servers name no plugin.
    if !plugin.is_empty() && plugin != auth::NATIVE {
        return Account::Other;
    }
    if stored.is_empty() {
        return Account::Native(None);
    }
    let verifier = std::str::from_utf8(stored).ok().and_then(native::Verifier::parse);
    match verifier {
        Some(verifier) => Account::Native(Some(verifier)),
        None => Account::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(user: &str, host: &str, plugin: &str, stored: &str) -> Row {
        let [user, host, plugin, stored] = [user, host, plugin, stored].map(|text| Some(text.as_bytes().to_vec()));
        (user, host, plugin, stored, Some(Vec::new()))
    }

    fn own(address: &str) -> Host {
        Host { name: Some(address.to_owned()), address: address.parse().ok() }
    }

    #[test]
    fn the_account_with_the_most_exact_host_is_taken_and_the_nameless_one_is_everybody() {
        let stored = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";
        let native = Account::Native(native::Verifier::parse(stored));
        let rows = vec![
            row("app", "%", "caching_sha2_password", "$A$"),
            row("app", "10.1.%", "mysql_native_password", stored),
            row("other", "%", "", stored),
            row("far", "10.2.%", "", stored),
            row("", "10.1.2.3", "", ""),
            row("exact", "10.1.2.3", "", "odd"),
        ];
        // As the server sees Headgate, and as it sees a client whose address it is told.
        for client in [false, true] {
            let seen = |user: &[u8], address: &str| {
                let all = list(rows.clone(), own(if client { "10.9.9.9" } else { address }), false);
                all.find(user, &all.host(client.then(|| address.parse().expect("an address"))))
            };
            assert_eq!(seen(b"app", "10.1.2.3"), Some(Account::Native(None)), "the nameless one is more exact");
            assert_eq!(seen(b"exact", "10.1.2.3"), Some(Account::Other));
            assert_eq!(seen(b"app", "10.1.9.9"), Some(native));
            assert_eq!(seen(b"other", "10.1.9.9"), Some(native));
            assert_eq!(seen(b"far", "10.1.9.9"), None);
        }
    }

    #[test]
    fn where_the_server_looks_names_up_it_alone_knows_which_account_a_name_means() {
        let stored = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";
        let native = Account::Native(native::Verifier::parse(stored));
        let rows = vec![
            row("app", "%.example.com", "mysql_native_password", ""),
            row("app", "10.1.%", "mysql_native_password", stored),
            row("near", "localhost", "", stored),
            row("near", "10.1.%", "", ""),
        ];
        let seen = |user: &[u8], address: &str, resolves| {
            let all = list(rows.clone(), own("10.9.9.9"), resolves);
            let host = all.host(address.parse().ok());
            (all.find(user, &host), matches!(all.entry(user, &host), Match::Unknown))
        };
        assert_eq!(seen(b"app", "10.1.2.3", false), (Some(native), false));
        assert_eq!(seen(b"app", "10.1.2.3", true), (Some(native), false), "more exact than what may be its name");
        assert_eq!(seen(b"app", "10.2.2.3", true), (None, true));
        // Only the server's own host is called so.
        assert_eq!(seen(b"near", "10.1.2.3", true), (Some(Account::Native(None)), false));
        assert_ne!(seen(b"near", "127.0.0.1", true).0, Some(native));
        let here = list(rows.clone(), own("127.0.0.1"), true);
        assert_eq!(here.find(b"near", &here.host("127.0.0.1".parse().ok())), Some(native));
    }

    #[test]
    fn where_all_are_native_nobody_is_told_from_somebody_by_the_exchange() {
        let stored = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";
        let rows =
            vec![row("app", "%", "mysql_native_password", stored), row("open", "%", "mysql_native_password", "")];
        let all = list(rows, own("10.1.2.3"), false);
        let find = |user: &[u8]| all.find(user, &all.host(None));
        let nobody = find(b"nobody");
        assert!(matches!(nobody, Some(Account::Native(Some(_)))));
        assert_ne!(nobody, find(b"app"));
        assert_eq!(nobody, find(b"nobody"));
    }
}
