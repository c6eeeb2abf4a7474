//! Goes from one real server to another and back, and there again: what the new side takes comes back, and nothing else.

mod servers;

use std::sync::Arc;
use std::time::Duration;

use migrator::database::{ChangeStream as _, Counters as _, Fencing as _, NextLeg as _, SchemaAndLoad as _};
use migrator::error::Error;
use migrator::follow::Follow;
use migrator::model::leg::Leg;
use migrator::model::mark::{Mark, Stage};
use migrator::model::plan::{Plan, Settings};
use migrator::model::progress::Progress;
use migrator::postgres::PostgresDatabase;
use migrator::postgres::position::Lsn;
use servers::postgres::{Server, migration};
use servers::whole::shown;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_mins(1);
const HOLD: Duration = Duration::from_secs(10);

/// The trigger fires where the application writes, and not where what it did arrives.
const SCHEMA: &str = "
    CREATE TABLE t (id bigserial PRIMARY KEY, n int NOT NULL);
    CREATE TABLE audit (id bigserial PRIMARY KEY, what text NOT NULL);
    CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.audit (what) VALUES ('new ' || NEW.n); RETURN NULL; END $$;
    CREATE TRIGGER told AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION told();
    INSERT INTO t (n) VALUES (1), (2), (3);
";

struct World {
    blue: Server,
    green: Server,
    leg: PostgresDatabase,
    plan: Plan,
}

struct Running {
    follow: Follow<Lsn>,
    progress: Arc<Progress>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Row changes that it applied.
    fn applied(&self) -> u64 {
        self.progress.tables().values().map(|table| table.changes_applied).sum()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("it ends").unwrap_or_else(shown);
    }
}

/// Nobody comes through a gate.
#[allow(clippy::unnecessary_wraps, reason = "as what asks the gate")]
fn nobody() -> Result<Vec<i64>, Error> {
    Ok(Vec::new())
}

impl World {
    async fn new() -> Self {
        let (blue, green) = (Server::start(14, ""), Server::start(18, ""));
        blue.make_database("shop").await;
        blue.connect("shop").await.batch_execute(SCHEMA).await.expect("the schema fits");
        let leg = migration("m", &blue, &green, Settings::default());
        let plan = leg.plan().await.unwrap_or_else(shown);
        leg.prepare(&plan).await.unwrap_or_else(shown);
        leg.copy(&plan, Arc::default(), CancellationToken::new()).await.unwrap_or_else(shown);
        Self { blue, green, leg, plan }
    }

    fn follow(&self) -> Running {
        let (follow, stop, progress) = (Follow::default(), CancellationToken::new(), Arc::new(Progress::default()));
        let (leg, plan) = (self.leg.clone(), self.plan.clone());
        let given = (follow.clone(), Arc::clone(&progress), stop.clone());
        let task = tokio::spawn(async move { leg.follow(&plan, given.0, given.1, given.2).await });
        Running { follow, progress, stop, task }
    }

    fn serving(&self) -> &Server {
        if self.leg.leg().is_way_back() { &self.green } else { &self.blue }
    }

    fn other(&self) -> &Server {
        if self.leg.leg().is_way_back() { &self.blue } else { &self.green }
    }

    /// Waits until everything that was written is applied.
    async fn arrive(&self, running: &mut Running) {
        let token = format!("{:x}", rand::random::<u64>());
        let marking = format!("SELECT pg_logical_emit_message(true, 'headgate', 'marker:{token}')");
        self.serving().connect("shop").await.batch_execute(&marking).await.expect("written");
        tokio::select! {
            arrived = running.follow.wait_marker(&token, TIMEOUT) => arrived.expect("the marker arrives"),
            ended = &mut running.task => panic!("the follower ended before the marker: {ended:?}"),
        }
    }

    fn next(&self) -> PostgresDatabase {
        self.leg.for_leg(self.leg.leg().next())
    }

    fn mark(&self) -> Mark {
        Mark {
            migration: "m".into(),
            route: "shop".into(),
            source: "a".into(),
            target: "b".into(),
            epoch: u64::from(self.leg.leg().number()),
            journal: "j".into(),
            sealed: String::new(),
            stage: Stage::Sealed,
        }
    }

    /// All of a cutover up to its decision. Tells the last number that the side which serves has given out, whose row is
    /// gone.
    async fn decide(&self, running: &Running, next: &PostgresDatabase) -> i64 {
        let (leg, plan) = (&self.leg, &self.plan);
        let of_next = next.plan().await.unwrap_or_else(shown);
        let serves = self.serving().connect("shop").await;
        let mut arming = Box::pin(next.arm(&of_next, "armed"));
        // What this leg carries meanwhile is in the next one's stream, and its own.
        let armed = loop {
            tokio::select! {
                armed = &mut arming => break armed,
                wrote = serves.execute("INSERT INTO t (n) VALUES (40)", &[]) => drop(wrote.expect("it serves")),
            }
        };
        armed.unwrap_or_else(shown);
        drop(arming);
        let given = insert(&serves, 41).await.expect("it serves");
        serves.execute("DELETE FROM t WHERE id = $1", &[&given]).await.expect("it serves");
        leg.warm_up(plan, None).await.unwrap_or_else(shown);
        let mut raised = leg.raise_fence(plan, "decided", HOLD).await.unwrap_or_else(shown);
        running.follow.wait_covers(&raised.marker, HOLD).await.unwrap_or_else(shown);
        leg.advance_counters(plan).await.unwrap_or_else(shown);
        let begins = next.stream_end().await.unwrap_or_else(shown);
        leg.confirm_fence(plan, &mut raised.fence).await.unwrap_or_else(shown);
        let mark = self.mark();
        let sealing = leg.seal_fence(raised.fence, &mark, Some(&begins), &nobody);
        tokio::try_join!(sealing, leg.admit_writers()).unwrap_or_else(shown);
        assert!(insert(&serves, 42).await.is_err(), "the side that has served takes writes");
        if leg.leg().is_way_back() {
            let wrote = insert(&self.other().connect("shop").await, 42).await;
            assert!(wrote.is_err(), "the side that was left takes writes before the decision");
        }
        given
    }

    /// What comes after the decision; tells the number of the first row that the other side takes, the moment that it
    /// may. From now on the next leg is this one.
    async fn complete(&mut self, running: Running, next: PostgresDatabase) -> i64 {
        let epoch = self.mark().epoch;
        self.leg.open_target(&self.plan, epoch).await.unwrap_or_else(shown);
        let first = insert(&self.other().connect("shop").await, 50).await.expect("it serves");
        running.end().await;
        self.leg.after_switch(&self.plan).await.unwrap_or_else(shown);
        self.leg.confirm_mark(epoch).await.unwrap_or_else(shown);
        self.leg.retire().await.unwrap_or_else(shown);
        self.plan = next.plan().await.unwrap_or_else(shown);
        self.leg = next;
        first
    }

    async fn assert_equal(&self) {
        let query = "SELECT (SELECT string_agg(t::text, ' ' ORDER BY id) FROM t),
            (SELECT string_agg(a::text, ' ' ORDER BY id) FROM audit a)";
        let read = async |server: &Server| {
            let row = server.connect("shop").await.query_one(query, &[]).await.expect("it can be read");
            (row.get::<_, String>(0), row.get::<_, Option<String>>(1))
        };
        assert_eq!(read(&self.blue).await, read(&self.green).await);
    }
}

/// Takes the next number of the sequence.
async fn insert(client: &Client, n: i32) -> Result<i64, tokio_postgres::Error> {
    client.query_one("INSERT INTO t (n) VALUES ($1) RETURNING id", &[&n]).await.map(|row| row.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_goes_there_and_back_and_there_again_and_nothing_is_lost_or_echoed() {
    let mut world = World::new().await;
    let mut running = world.follow();
    world.arrive(&mut running).await;
    for leg in 1..=3 {
        let next = world.next();
        if leg == 2 {
            // A rehearsal, or a cutover that comes to nothing, leaves blue refusing.
            world.decide(&running, &next).await;
            world.leg.lift_fence(&world.plan, world.mark().epoch).await.unwrap_or_else(shown);
            assert!(insert(&world.blue.connect("shop").await, 60).await.is_err(), "blue takes writes of others");
            insert(&world.green.connect("shop").await, 61).await.expect("green serves");
        }
        let given = world.decide(&running, &next).await;
        let first = world.complete(running, next).await;
        assert!(first > given, "{first} was given out on the other side, up to {given}");
        assert_eq!(world.leg.leg(), Leg::new(leg + 1));
        running = world.follow();
        world.arrive(&mut running).await;
        // The first row and what its trigger wrote, and nothing that the leg before has brought.
        assert_eq!(running.applied(), 2, "leg {}", leg + 1);
        world.assert_equal().await;
        let serves = world.serving().connect("shop").await;
        let more =
            "INSERT INTO t (n) VALUES (51), (52); UPDATE t SET n = n + 100 WHERE n = 51; DELETE FROM t WHERE n = 52";
        serves.batch_execute(more).await.expect("it serves");
        world.arrive(&mut running).await;
        world.assert_equal().await;
        assert!(insert(&world.other().connect("shop").await, 60).await.is_err(), "both sides take writes");
    }
    running.end().await;
}
