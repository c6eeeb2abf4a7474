//! What an engine brings to the demo: its servers, its kind of shop, and the statements of its clients.

use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;

use super::failure::Result;
use super::ledger::{Sum, Table};
use super::link::{Address, Link};
use super::shopper::{Lost, Shopper};

/// One engine's half of the demo. The story, the load, the ledger and the verdict are the same for all.
pub(super) trait Engine: Copy + Debug + Send + Sync + 'static {
    /// Its connections.
    type Link: Link;
    /// Its throwaway servers.
    type Server: Server;
    /// A statement that is prepared once and executed until the end.
    type Statement: Send + Sync;

    /// The migrator's account on both servers.
    const SUPERUSER: &'static str;
    /// What the application's account is asked for.
    const PASSWORD: Option<&'static str>;
    /// A query whose one value tells a session's server from the other one.
    const WHEREABOUTS: &'static str;

    /// What the servers are called, for people.
    fn product(self) -> &'static str;

    /// Starts source and target, and makes the account and the empty database of the shop.
    fn servers(self) -> impl Future<Output = Result<(Self::Server, Self::Server)>> + Send;

    /// What a section `[clusters.*]` of Headgate's configuration says besides address and account.
    fn cluster_lines(self) -> &'static str;

    /// The further sections of Headgate's configuration.
    fn sections(self) -> String;

    /// How a person connects.
    fn command(self, address: &Address) -> String;

    /// Creates the schema and its rows; says how many rows there are.
    fn furnish(self, superuser: &mut Self::Link) -> impl Future<Output = Result<u64>> + Send;

    /// Whether what this check of the precheck finds is mended by the statement that it gives.
    fn mends(self, check: &str) -> bool;

    /// The expression, as text, by which a row is recognised beside its stamp.
    fn evidence(self, table: Table) -> &'static str;

    /// The query of a sum's keys, values and proofs.
    fn sums(self, sum: Sum) -> &'static str;

    /// What must hold in the shop whatever happens; each query counts the rows that break the rule.
    fn rules(self) -> Vec<(&'static str, &'static str)>;

    /// Makes whatever a client's style needs before its first transaction.
    fn prepare(client: &mut Shopper<Self>) -> impl Future<Output = Result<()>> + Send;

    /// One transaction in the client's style.
    fn transact(client: &mut Shopper<Self>) -> impl Future<Output = Result<(), Lost>> + Send;
}

/// A running throwaway server. Dropping it stops it, unless it is to be kept.
pub(super) trait Server: Send + Sync {
    /// Product and version, for people.
    fn name(&self) -> String;

    /// The loopback port that it listens on.
    fn port(&self) -> u16;

    /// Its own folder.
    fn folder(&self) -> PathBuf;

    /// The process to end when it was kept.
    fn pid(&self) -> Option<u32>;

    /// Leaves the server and its files in place when this value is dropped.
    fn keep(&mut self);
}
