//! The proof of the switch between real servers: every fault that is planted on one side is found and named, writes that
//! come after the snapshots are not seen, and what is gone from a snapshot cannot be known.

mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use migrator::database::SwitchSnapshots;
use migrator::model::plan::{Plan, Settings};
use migrator::model::switch_proof::{SwitchOutcome, SwitchProgress, SwitchVerdict};
use migrator::postgres::check::switch_snapshots::{Prepared, Snapshots};
use migrator::postgres::records::install_records;
use migrator::postgres::{PostgresDatabase, plan};
use servers::postgres::{Server, migration};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

const SCHEMA: &str = "
    CREATE TABLE accounts (id int PRIMARY KEY, balance numeric, note text);
    INSERT INTO accounts SELECT i, i * 1.50, 'note ' || i FROM generate_series(1, 10000) i;
    CREATE TABLE parents (id int PRIMARY KEY);
    INSERT INTO parents SELECT generate_series(1, 50);
    CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE);
    INSERT INTO children SELECT i, i % 50 + 1 FROM generate_series(1, 200) i;
    CREATE TABLE docs (id text PRIMARY KEY, doc text);
    ALTER TABLE docs ALTER doc SET STORAGE EXTERNAL;
    INSERT INTO docs SELECT 'd' || i, repeat(i::text, 9000) FROM generate_series(1, 30) i;
    CREATE TABLE bag (a text, b text);
    ALTER TABLE bag REPLICA IDENTITY FULL;
    INSERT INTO bag SELECT 'a', 'b' || i % 3 FROM generate_series(1, 10) i;
    CREATE INDEX by_balance ON accounts (balance);
    CREATE VIEW rich AS SELECT id FROM accounts WHERE balance > 100;
    ANALYZE;
";

/// Fast enough that nothing waits.
const ALL_AT_ONCE: u64 = 100_000_000;
const TIMEOUT: Duration = Duration::from_mins(1);

struct World {
    source: Client,
    target: Client,
    postgres: PostgresDatabase,
    plan: Plan,
    _servers: (Server, Server),
}

impl World {
    async fn new() -> Self {
        Self::between(14, 18).await
    }

    async fn between(from: u32, to: u32) -> Self {
        let servers = (Server::start(from, ""), Server::start(to, ""));
        for server in [&servers.0, &servers.1] {
            server.make_database("shop").await;
        }
        let (source, target) = (servers.0.connect("shop").await, servers.1.connect("shop").await);
        for session in [&source, &target] {
            session.batch_execute(SCHEMA).await.expect("the schema fits");
        }
        // As in version 14.
        let owned = "ALTER SCHEMA public OWNER TO postgres; GRANT ALL ON SCHEMA public TO PUBLIC";
        target.batch_execute(owned).await.expect("the schema has an owner");
        // Else the guard refuses what is done to the target here.
        target.batch_execute("SET application_name = 'headgate m by hand'").await.expect("anybody may say so");
        let settings = Settings { check_range_rows: 1000, ..Settings::default() };
        let postgres = migration("m", &servers.0, &servers.1, settings);
        let mover = postgres.connect_target("test").await.expect("connected");
        install_records(&mover).await.expect("the records are there");
        let plan = plan::read(&postgres).await.expect("the plan is read");
        Self { source, target, postgres, plan, _servers: servers }
    }

    async fn prepared(&self) -> Prepared {
        self.postgres.prepare_snapshots(&self.plan, None).await.expect("prepared")
    }

    async fn opened(&self) -> Snapshots {
        let prepared = self.prepared().await;
        self.postgres.open_snapshots(prepared).await.expect("opened")
    }

    async fn compared(&self, snapshots: Snapshots) -> SwitchVerdict {
        let progress = Arc::new(SwitchProgress::default());
        let comparing =
            self.postgres.compare_snapshots(snapshots, ALL_AT_ONCE, Arc::clone(&progress), CancellationToken::new());
        let verdict = comparing.await.expect("nobody stops it");
        assert_eq!(progress.done(), verdict.ranges, "{verdict:?}");
        verdict
    }

    async fn verdict(&self) -> SwitchVerdict {
        self.compared(self.opened().await).await
    }

    async fn on_target(&self, sql: &str) {
        self.target.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    async fn on_source(&self, sql: &str) {
        self.source.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    async fn assert_green(&self) {
        let verdict = self.verdict().await;
        assert!(verdict.is_green(), "{verdict}");
        assert_eq!((verdict.rows, verdict.tables), (10_290, 5), "{verdict:?}");
        assert!(verdict.ranges > 12, "{verdict:?}");
    }

    /// Damages one side or both; the verdict must be different, and name just this.
    async fn finds(
        &self,
        what: &str,
        (on_source, on_target): (&str, &str),
        named: &[&str],
        (back, there): (&str, &str),
    ) {
        self.on_source(on_source).await;
        self.on_target(on_target).await;
        let verdict = self.verdict().await;
        assert_eq!(verdict.outcome, SwitchOutcome::Different, "{what}: {verdict}");
        assert_eq!(verdict.unknown, Vec::<String>::new(), "{what}");
        let mut left = verdict.differing.clone();
        for one in named {
            let at = left.iter().position(|found| found.contains(one));
            let at = at.unwrap_or_else(|| panic!("{what}: {one} is not in {verdict}"));
            left.remove(at);
        }
        assert_eq!(left, Vec::<String>::new(), "{what}: more than {named:?}");
        self.on_source(back).await;
        self.on_target(there).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_on_one_side_is_found_and_its_key_named() {
    let world = World::new().await;
    world.assert_green().await;
    let lost = "INSERT INTO accounts VALUES (77, 115.50, 'note 77')";
    world
        .finds(
            "a row lost",
            ("", "DELETE FROM accounts WHERE id = 77"),
            &["public.accounts (1 ", "(77)"][1..],
            ("", lost),
        )
        .await;
    let update = "UPDATE accounts SET balance = 0 WHERE id = 17";
    let undo = "UPDATE accounts SET balance = 25.50 WHERE id = 17";
    world.finds("an update lost", (update, ""), &["(17)"], (undo, "")).await;
    let (first, second) =
        ("UPDATE accounts SET note = 'x' WHERE id = 5;", "UPDATE accounts SET note = 'y' WHERE id = 5;");
    let (right, swapped) = (format!("{first}{second}"), format!("{second}{first}"));
    let note = "UPDATE accounts SET note = 'note 5' WHERE id = 5";
    world.finds("two updates swapped", (&right, &swapped), &["(5)"], (note, note)).await;
    let cut = "UPDATE docs SET doc = left(doc, -1) WHERE id = 'd7'";
    let whole = "UPDATE docs SET doc = repeat('7', 9000) WHERE id = 'd7'";
    world.finds("a text truncated by one character", ("", cut), &["public.docs (all): (d7)"], ("", whole)).await;
    for key in [-4, 900_000] {
        let (insert, delete) =
            (format!("INSERT INTO accounts VALUES ({key})"), format!("DELETE FROM accounts WHERE id = {key}"));
        world.finds("an extra row on the target", ("", &insert), &[&format!("({key})")], ("", &delete)).await;
    }
    let alone =
        "SET session_replication_role = replica; DELETE FROM parents WHERE id = 9; RESET session_replication_role";
    let again = "SET session_replication_role = replica; INSERT INTO parents VALUES (9);
        INSERT INTO children SELECT i, 9 FROM generate_series(8, 200, 50) i ON CONFLICT DO NOTHING; RESET session_replication_role";
    world
        .finds(
            "children that a cascade should have deleted",
            ("DELETE FROM parents WHERE id = 9", alone),
            &["(8)", "(58)", "(108)", "(158)"],
            (again, again),
        )
        .await;
    let null = "UPDATE docs SET doc = NULL WHERE id = 'd3'";
    let whole = "UPDATE docs SET doc = repeat('3', 9000) WHERE id = 'd3'";
    world.finds("a NULL for a large value", ("", null), &["(d3)"], ("", whole)).await;
    let twice = "INSERT INTO bag VALUES ('a', 'b1')";
    let once = "DELETE FROM bag WHERE ctid = (SELECT max(ctid) FROM bag WHERE b = 'b1')";
    world.finds("a row twice in a table without a key", ("", twice), &["public.bag (all): row "], ("", once)).await;
    world.assert_green().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_index_or_view_that_one_side_has_differently_is_found() {
    let world = World::new().await;
    let (more, less) = ("CREATE TABLE surplus (id int PRIMARY KEY)", "DROP TABLE surplus");
    world.on_target(more).await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.outcome, SwitchOutcome::Different, "{verdict}");
    assert!(verdict.differing.contains(&"table public.surplus (not on the source)".to_owned()), "{verdict}");
    world.on_target(less).await;
    world.on_source(more).await;
    let verdict = world.verdict().await;
    assert!(verdict.differing.contains(&"table public.surplus (not on the target)".to_owned()), "{verdict}");
    world.on_source(less).await;
    let index = ("", "DROP INDEX by_balance; CREATE INDEX by_balance ON accounts (balance DESC)");
    let back = ("", "DROP INDEX by_balance; CREATE INDEX by_balance ON accounts (balance)");
    world.finds("an index", index, &["index public.by_balance of public.accounts"], back).await;
    let view = ("", "CREATE OR REPLACE VIEW rich AS SELECT id FROM accounts WHERE balance > 101");
    let back = ("", "CREATE OR REPLACE VIEW rich AS SELECT id FROM accounts WHERE balance > 100");
    world.finds("a view", view, &["view public.rich"], back).await;
    world.on_target("ALTER TABLE bag ADD COLUMN c int").await;
    let verdict = world.verdict().await;
    assert!(verdict.differing.contains(&"table public.bag (its columns differ)".to_owned()), "{verdict}");
    world.on_target("ALTER TABLE bag DROP COLUMN c").await;
    world.assert_green().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_to_either_side_after_the_snapshots_changes_no_verdict() {
    let world = World::new().await;
    let snapshots = world.opened().await;
    world.on_source("UPDATE accounts SET balance = 1; DELETE FROM children; INSERT INTO bag VALUES ('s')").await;
    world.on_target("DELETE FROM accounts WHERE id % 2 = 0").await;
    world.on_target("VACUUM accounts").await;
    world.on_target("INSERT INTO parents VALUES (1000); UPDATE docs SET doc = 'short'").await;
    // DDL that leaves the rows where they are, and what the definitions become afterwards.
    world.on_target("CREATE TABLE later (id int); ALTER TABLE bag ADD COLUMN c int; DROP INDEX by_balance").await;
    let verdict = world.compared(snapshots).await;
    assert!(verdict.is_green(), "{verdict}");
    assert_eq!(verdict.rows, 10_290);
    let positions = (&verdict.source_position, &verdict.target_position);
    assert!(positions.0.contains('/') && positions.1.contains('/'), "{positions:?}");
    // All of that is there to be seen.
    let now = world.verdict().await;
    assert_eq!(now.outcome, SwitchOutcome::Different, "{now}");
    assert!(now.differing.len() >= 100, "{}", now.differing.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_from_a_snapshot_cannot_be_known() {
    let world = World::new().await;
    for (ddl, table) in [
        ("TRUNCATE bag", "public.bag: it was truncated or written anew on the target after the switch"),
        (
            "ALTER TABLE children ALTER id TYPE bigint",
            "public.children: it was truncated or written anew on the target",
        ),
        ("DROP TABLE docs", "public.docs"),
    ] {
        let snapshots = world.opened().await;
        world.on_target(ddl).await;
        let verdict = world.compared(snapshots).await;
        assert_eq!(verdict.outcome, SwitchOutcome::Unknown, "{ddl}: {verdict}");
        assert!(verdict.unknown.len() == 1 && verdict.unknown[0].contains(table), "{ddl}: {verdict}");
        // All the others are compared all the same.
        assert_eq!(verdict.differing, Vec::<String>::new());
        assert!(verdict.rows > 10_000, "{ddl}: {verdict:?}");
        let source = match ddl {
            "DROP TABLE docs" | "TRUNCATE bag" => ddl,
            _ => "ALTER TABLE children ALTER id TYPE bigint",
        };
        world.on_source(source).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_or_a_definition_that_changed_before_the_snapshot_cannot_be_known() {
    let world = World::new().await;
    let prepared = world.prepared().await;
    world.on_target("CREATE INDEX early ON bag (a)").await;
    let snapshots = world.postgres.open_snapshots(prepared).await.expect("opened");
    let verdict = world.compared(snapshots).await;
    assert_eq!(verdict.outcome, SwitchOutcome::Unknown, "{verdict}");
    assert!(verdict.to_string().contains("the definitions at the switch"), "{verdict}");
    assert_eq!(verdict.rows, 10_290);
    world.on_target("DROP INDEX early").await;
    for side in [&world.source, &world.target] {
        let snapshots = world.opened().await;
        let end = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = 'headgate m proof'";
        let ended: i64 = side.query_one(end, &[]).await.expect("ended").get(0);
        assert_eq!(ended, 1);
        let verdict = world.compared(snapshots).await;
        assert_eq!(verdict.outcome, SwitchOutcome::Unknown, "{verdict}");
        assert!(verdict.to_string().contains("a snapshot was lost"), "{verdict}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_its_rate_lets_ddl_pass_and_stops_when_told() {
    let world = World::new().await;
    let (snapshots, progress, stop) =
        (world.opened().await, Arc::new(SwitchProgress::default()), CancellationToken::new());
    let comparing = {
        let (postgres, progress, stop) = (world.postgres.clone(), Arc::clone(&progress), stop.clone());
        // A range of a hundred rows, and a second's rest.
        tokio::spawn(async move { postgres.compare_snapshots(snapshots, 100, progress, stop).await })
    };
    let deadline = Instant::now() + TIMEOUT;
    while progress.done() == 0 {
        assert!(Instant::now() < deadline, "nothing was compared");
        world.on_target("SELECT 1").await;
    }
    // It looks at this table for a long time, and holds no lock on it meanwhile.
    let held = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE a.application_name = 'headgate m proof' AND l.relation = 'accounts'::regclass";
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'headgate m proof'
        AND state = 'idle in transaction'";
    let mut free = false;
    while !free {
        assert!(Instant::now() < deadline, "it never rests");
        let resting: i64 = world.target.query_one(idle, &[]).await.expect("asked").get(0);
        let held: i64 = world.target.query_one(held, &[]).await.expect("asked").get(0);
        free = resting == 1 && held == 0;
    }
    world.on_target("SET lock_timeout = '20s'; ALTER TABLE accounts ADD COLUMN more int").await;
    assert!(progress.ranges() > 100, "{progress:?}");
    stop.cancel();
    comparing.await.expect("no panic").expect_err("it was stopped");
    let (done, rows) = (progress.done(), progress.rows());
    assert!(done < progress.ranges() / 2 && rows < 5000, "{progress:?}");
}
