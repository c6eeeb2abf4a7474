//! MySQL's and MariaDB's half of the demo.

mod bulk;
mod checkout;
mod errands;
mod link;
mod shop;
mod stage;
mod verdict;

use mysql_async::Statement;
use tests::mysql::disposable::{Kind, Server};

use super::engine::Engine;
use super::failure::Result;
use super::ledger::{Sum, Table};
use super::link::Address;
use super::shopper::{Lost, Shopper, Style};
use link::Session;

/// A shop on MySQL or MariaDB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mysql(Kind);

impl Mysql {
    /// From one MySQL 9.7 to another.
    pub(super) const MYSQL: Self = Self(Kind::Mysql97);
    /// From one MariaDB 10.11 to another.
    pub(super) const MARIADB: Self = Self(Kind::Mariadb1011);

    fn is_mariadb(self) -> bool {
        matches!(self.0, Kind::Mariadb1011)
    }
}

impl Engine for Mysql {
    type Link = Session;
    type Server = Server;
    type Statement = Statement;

    const SUPERUSER: &'static str = stage::SUPERUSER;
    const PASSWORD: Option<&'static str> = Some("groceries");
    const WHEREABOUTS: &'static str = "SELECT concat(@@version, ' on port ', @@port)";

    fn product(self) -> &'static str {
        stage::product(self.0)
    }

    async fn servers(self) -> Result<(Server, Server)> {
        stage::servers(self.0).await
    }

    fn cluster_lines(self) -> &'static str {
        "engine = \"mysql\"\n"
    }

    fn sections(self) -> String {
        String::new()
    }

    fn command(self, address: &Address) -> String {
        link::client(self.is_mariadb(), address)
    }

    async fn furnish(self, superuser: &mut Session) -> Result<u64> {
        shop::furnish(&mut superuser.sql, self.is_mariadb()).await
    }

    fn mends(self, _check: &str) -> bool {
        // What has no key is followed by its whole rows: nothing needs mending.
        false
    }

    fn evidence(self, table: Table) -> &'static str {
        verdict::evidence(table)
    }

    fn sums(self, sum: Sum) -> &'static str {
        verdict::sums(sum)
    }

    fn rules(self) -> Vec<(&'static str, &'static str)> {
        let mut rules = verdict::RULES.to_vec();
        if self.is_mariadb() {
            rules.extend(verdict::RULES_OF_MARIADB);
        } else {
            rules.extend(verdict::RULES_OF_MYSQL);
        }
        rules
    }

    async fn prepare(client: &mut Shopper<Self>) -> Result<()> {
        match client.style {
            Style::CheckoutTyped => client.commit_by_hand().await,
            Style::Prepared => client.prepare_errands().await,
            Style::Reader => client.prepare_reports().await,
            Style::Settled => client.settle_in().await,
            Style::Checkout | Style::Autocommit | Style::Bulk => Ok(()),
        }
    }

    async fn transact(client: &mut Shopper<Self>) -> Result<(), Lost> {
        match client.style {
            Style::Checkout => client.check_out().await,
            Style::CheckoutTyped => client.check_out_typed().await,
            Style::Prepared => client.run_errand().await,
            Style::Autocommit => client.do_small_things().await,
            Style::Bulk => client.load_views().await,
            Style::Reader => client.read_report().await,
            Style::Settled => client.live_on().await,
        }
    }
}
