//! PostgreSQL's half of the demo.

mod bulk;
mod checkout;
mod errands;
mod link;
mod shop;
mod stage;
mod verdict;

use tests::postgres::disposable::Server;
use tokio_postgres::Statement;

use super::engine::Engine;
use super::failure::Result;
use super::ledger::{Sum, Table};
use super::link::Address;
use super::shopper::{Lost, Shopper, Style};
use link::Session;

/// A shop on PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Postgres;

impl Engine for Postgres {
    type Link = Session;
    type Server = Server;
    type Statement = Statement;

    const SUPERUSER: &'static str = stage::SUPERUSER;
    const PASSWORD: Option<&'static str> = None;
    const WHEREABOUTS: &'static str = "SHOW server_version";

    fn product(self) -> &'static str {
        "PostgreSQL"
    }

    async fn servers(self) -> Result<(Server, Server)> {
        stage::servers().await
    }

    fn cluster_lines(self) -> &'static str {
        ""
    }

    fn sections(self) -> String {
        stage::sections()
    }

    fn command(self, address: &Address) -> String {
        link::psql(address)
    }

    async fn furnish(self, superuser: &mut Session) -> Result<u64> {
        shop::furnish(&superuser.sql).await
    }

    fn mends(self, check: &str) -> bool {
        check == "replica_identity"
    }

    fn evidence(self, table: Table) -> &'static str {
        verdict::evidence(table)
    }

    fn sums(self, sum: Sum) -> &'static str {
        verdict::sums(sum)
    }

    fn rules(self) -> Vec<(&'static str, &'static str)> {
        verdict::RULES.to_vec()
    }

    async fn prepare(client: &mut Shopper<Self>) -> Result<()> {
        match client.style {
            Style::Prepared => client.prepare_errands().await,
            Style::Reader => client.prepare_reports().await,
            Style::Settled => client.settle_in().await,
            Style::Checkout | Style::CheckoutTyped | Style::Autocommit | Style::Bulk => Ok(()),
        }
    }

    async fn transact(client: &mut Shopper<Self>) -> Result<(), Lost> {
        match client.style {
            Style::Checkout => client.check_out().await,
            Style::CheckoutTyped => client.check_out_typed().await,
            Style::Prepared => client.run_errand().await,
            Style::Autocommit => client.do_small_things().await,
            Style::Bulk => client.copy_views().await,
            Style::Reader => client.read_report().await,
            Style::Settled => client.live_on().await,
        }
    }
}
