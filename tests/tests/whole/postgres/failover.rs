//! Endpoints that move: a standby takes the place of a server whose changes are copied or followed.

use tests::fault::Relay;
use tests::headgate::{Headgate, signal_server};
use tests::postgres::{Postgres, Record, rows};
use tests::wait::{SOON, until};
use tests::world::{DATABASE, MIGRATION, World, clusters};

const SCHEMA: &str = "create table t (id int primary key, body text); insert into t select i, 'row ' || i from generate_series(1, 500) i";
const ROWS: &str = "select count(*), md5(string_agg(t::text, ',' order by id)) from t";

/// The slots of a standby by which the way back could go on.
const SYNCED: &str = "select count(*) from pg_replication_slots
    where slot_name = 'headgate2_m' and synced and not temporary and invalidation_reason is null";

/// A world one of whose clusters is reached by an endpoint that moves, with a standby behind it.
struct Moving {
    world: World,
    endpoint: Relay,
    standby: Postgres,
}

/// Which cluster has the standby.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    Source,
    Target,
}

impl Moving {
    /// Starts all of it, with a migration that follows and both sides equal.
    async fn start(with: With) -> Self {
        let (mut source, mut target) = tokio::join!(Postgres::start(14), Postgres::start(18));
        let moving = if with == With::Source { &mut source } else { &mut target };
        let standby = moving.start_standby().await;
        let endpoint = Relay::to(moving.port()).await;
        for server in [&source, &target] {
            server.sql("postgres", &format!("create database {DATABASE}")).await;
        }
        source.sql(DATABASE, SCHEMA).await;
        let port = |side: With, server: &Postgres| if with == side { endpoint.port() } else { server.port() };
        let sections = clusters(port(With::Source, &source), port(With::Target, &target));
        let headgate = Headgate::start(&sections).await;
        let world = World { source, target, headgate };
        world.follow().await;
        world.until_equal(ROWS).await;
        Self { world, endpoint, standby }
    }

    /// From now on nothing is committed on the target that the standby has not, and nothing leaves it before.
    async fn lose_nothing(&self) {
        let target = &self.world.target;
        for (setting, value) in [("synchronous_standby_names", "standby"), ("synchronized_standby_slots", "standby")] {
            target.sql("postgres", &format!("alter system set {setting} = '{value}'")).await;
        }
        target.sql("postgres", "select pg_reload_conf()").await;
        target
            .until_value(
                "postgres",
                "select sync_state from pg_stat_replication where application_name = 'standby'",
                "sync",
            )
            .await;
    }

    /// The route is on the target, and the way back could go on from the standby.
    async fn switch(&self) {
        self.world.check().await;
        self.world.cutover().await;
        // It takes over a slot once that needs nothing that it never had.
        let ask = || async {
            self.world.target.sql("postgres", "select pg_log_standby_snapshot()").await;
            self.standby.value("postgres", SYNCED).await
        };
        until("the standby has the slot", MIGRATION, ask, |count| count == "1").await;
    }

    /// The way back's status once it is in this state.
    async fn until_way_back(&self, state: &str) -> Record {
        let ask = || self.world.row("SHOW MIGRATION STATUS m");
        let is = |row: &Record| row.get("way_back").is_some_and(|seen| seen == state);
        until(&format!("the way back is {state}"), MIGRATION, ask, is).await
    }

    /// The standby takes the primary's place, and the endpoint leads to it.
    async fn promote(&mut self, with: With) {
        self.endpoint.lead_to(self.standby.port());
        assert_eq!(self.standby.value("postgres", "select pg_promote()").await, "t");
        let standby = &mut self.standby;
        let primary = if with == With::Source { &mut self.world.source } else { &mut self.world.target };
        std::mem::swap(primary, standby);
    }

    /// The migration's status once its error has this text.
    async fn until_error(&self, text: &str) -> Record {
        let ask = || self.world.row("SHOW MIGRATION STATUS m");
        let has = |row: &Record| row.get("error_message").is_some_and(|error| error.contains(text));
        until(&format!("the status tells {text:?}"), MIGRATION, ask, has).await
    }

    async fn write(&self, rows: &str) {
        let insert = format!("insert into t select i, 'later ' || i from generate_series({rows}) i");
        self.world.source.sql(DATABASE, &insert).await;
    }
}

#[tokio::test]
async fn a_failover_of_the_target_costs_time_only() {
    let mut moving = Moving::start(With::Target).await;
    moving.lose_nothing().await;
    moving.write("1001, 1100").await;
    moving.world.until_equal(ROWS).await;
    moving.world.target.server.kill().await.expect("it ends");
    // A moment before the standby is promoted the endpoint leads to it already.
    moving.endpoint.lead_to(moving.standby.port());
    moving.write("1101, 1200").await;
    let status = moving.until_error("is a standby, which takes no writes").await;
    assert_eq!(status["state"], "following", "{status:?}");
    moving.promote(With::Target).await;
    moving.world.until_equal(ROWS).await;
    moving.world.check().await;
    moving.world.cutover().await;
}

#[tokio::test]
async fn a_failover_of_the_new_cluster_leaves_the_way_back_lossless() {
    let mut moving = Moving::start(With::Target).await;
    moving.lose_nothing().await;
    moving.switch().await;
    let insert = |ids: &str| format!("insert into t select i, 'back ' || i from generate_series({ids}) i");
    moving.world.target.sql(DATABASE, &insert("1001, 1100")).await;
    moving.world.target.server.kill().await.expect("it ends");
    moving.promote(With::Target).await;
    moving.world.target.sql(DATABASE, &insert("1101, 1200")).await;
    moving.world.until_equal(ROWS).await;
    moving.until_way_back("lossless").await;
    moving.world.roll_back().await;
    assert_eq!(moving.world.source.value(DATABASE, "select count(*) from t where id > 1000").await, "200");
}

#[tokio::test]
async fn a_new_cluster_that_lost_what_came_back_has_no_lossless_way_back() {
    let mut moving = Moving::start(With::Target).await;
    moving.switch().await;
    moving.standby.server.stop().await.expect("it ends");
    moving.world.target.sql(DATABASE, "insert into t values (3001, 'acknowledged')").await;
    moving.world.until_equal(ROWS).await;
    moving.world.target.server.kill().await.expect("it ends");
    moving.standby.server.restart().await.expect("it starts");
    moving.promote(With::Target).await;
    // It has written as much as was lost, before Headgate sees it.
    moving.world.target.sql(DATABASE, "insert into t select i, 'another' from generate_series(4001, 4500) i").await;
    let status = moving.until_way_back("lost").await;
    assert!(status["way_back_detail"].contains("blue has changes that green has not"), "{status:?}");
}

#[tokio::test]
async fn a_source_whose_replacement_cannot_go_on_stops_the_migration() {
    let mut moving = Moving::start(With::Source).await;
    moving.world.source.server.kill().await.expect("it ends");
    moving.promote(With::Source).await;
    let status = moving.until_error("the source refused the slot headgate_m").await;
    assert_eq!(status["state"], "failed", "{status:?}");
}

#[tokio::test]
async fn a_target_that_lost_what_it_had_confirmed_stops_the_migration() {
    let mut moving = Moving::start(With::Target).await;
    moving.standby.server.stop().await.expect("it ends");
    moving.write("1001, 1100").await;
    moving.world.until_equal(ROWS).await;
    let written = moving.world.source.value("postgres", "select pg_current_wal_lsn()").await;
    let confirmed = format!("select count(*) from pg_replication_slots where confirmed_flush_lsn >= '{written}'");
    moving.world.source.until_value(DATABASE, &confirmed, "1").await;
    moving.world.target.server.kill().await.expect("it ends");
    moving.standby.server.restart().await.expect("it starts");
    moving.promote(With::Target).await;
    let status = moving.until_error("the target has lost changes that it had confirmed").await;
    assert_eq!(status["state"], "failed", "{status:?}");
}

#[tokio::test]
async fn a_failover_of_the_target_inside_the_hold_undoes_the_cutover() {
    let mut moving = Moving::start(With::Target).await;
    moving.lose_nothing().await;
    moving.world.check().await;
    // The gate waits for this transaction.
    let open = moving.world.client().await;
    rows(&open, "begin; insert into t values (2001, 'in the hold')").await;
    let cutting = moving.world.headgate.try_admin("CUTOVER MIGRATION m WITH (max_hold = '10s')");
    let failing = async {
        let closing = |row: &Record| row.get("gate").is_some_and(|gate| gate != "open");
        until("the gate closes", SOON, || moving.world.row("SHOW ROUTES"), closing).await;
        let pid = moving.world.target.server.pid().expect("it runs");
        signal_server(pid, "QUIT").await;
        rows(&open, "commit").await;
    };
    let (outcome, ()) = tokio::join!(cutting, failing);
    let refusal = outcome.expect_err("it is undone");
    rows(&open, "insert into t values (2002, 'after it')").await;
    assert_eq!(moving.world.source.value(DATABASE, "select count(*) from t where id > 2000").await, "2", "{refusal}");
    moving.world.target.server.kill().await.expect("it is gone");
    moving.promote(With::Target).await;
    moving.world.until_equal(ROWS).await;
    moving.world.check().await;
    moving.world.cutover().await;
    assert_eq!(rows(&open, "select count(*) from t where id > 2000").await, [[Some("2".to_owned())]]);
}
