//! A whole migration of either engine, from the plan to the cleaning up, as its own methods do it.

use std::sync::Arc;
use std::time::Duration;

use migrator::Error;
use migrator::accounts::{Account, Verdict};
use migrator::database::Database;
use migrator::error::Kind;
use migrator::follow::Follow;
use migrator::model::mark::{Mark, Stage};
use migrator::preflight::{Check, Level};
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_secs(30);
/// The cutover of the whole migration.
const EPOCH: u64 = 5;
/// How often what is mended may let more be seen.
const ROUNDS: usize = 4;

/// Fails with all that an error tells.
#[expect(clippy::needless_pass_by_value, reason = "`unwrap_or_else` hands it over")]
pub(crate) fn shown<T>(error: Error) -> T {
    panic!("{}", error.full_text())
}

/// The findings of the precheck that are not in order.
pub(crate) async fn found<D: Database>(database: &D) -> Vec<Check> {
    let checks = database.preflight().await.unwrap_or_else(shown);
    let wrong = checks.into_iter();
    wrong.filter(|check| check.level != Level::Ok).collect()
}

/// Those that keep a migration from starting.
pub(crate) fn errors(checks: &[Check]) -> Vec<&Check> {
    let errors = checks.iter();
    errors.filter(|check| check.level == Level::Error).collect()
}

/// Runs the statements of the findings that are `wanted` until none of these is left.
pub(crate) async fn mended<D: Database>(database: &D, wanted: impl Fn(&Check) -> bool, run: impl AsyncFn(&Check)) {
    for _ in 0..ROUNDS {
        let mut found = found(database).await;
        found.retain(|check| wanted(check));
        if found.is_empty() {
            return;
        }
        for check in &found {
            run(check).await;
        }
    }
    let left = found(database).await;
    let left: Vec<_> = left.iter().filter(|check| wanted(check)).collect();
    assert!(left.is_empty(), "{left:#?}");
}

fn mark() -> Mark {
    let text = |text: &str| text.to_owned();
    Mark {
        migration: text("m"),
        route: text("shop"),
        source: text("blue"),
        target: text("green"),
        epoch: EPOCH,
        journal: text("j"),
        sealed: String::new(),
        stage: Stage::Fenced,
    }
}

/// Moves everything, with `change` written to the source meanwhile: copied, followed, found equal, rehearsed, cut over. At
/// the end the fence stands, and what the migration left is removed.
pub(crate) async fn whole<D: Database>(database: &D, change: impl AsyncFnOnce()) {
    let plan = database.plan().await.unwrap_or_else(shown);
    database.prepare(&plan).await.unwrap_or_else(shown);
    let stop = CancellationToken::new();
    database.copy(&plan, Arc::default(), stop.clone()).await.unwrap_or_else(shown);
    let follow: Follow<D::Position> = Follow::default();
    let follower = {
        let (database, plan) = (database.clone(), plan.clone());
        let (follow, stop) = (follow.clone(), stop.clone());
        tokio::spawn(async move { database.follow(&plan, follow, Arc::default(), stop).await })
    };
    change().await;
    let checked = database.check(&plan, follow.clone(), Arc::default(), stop.clone()).await.unwrap_or_else(shown);
    let unequal: Vec<_> = checked.proofs.iter().filter(|proof| !proof.equal()).collect();
    assert!(unequal.is_empty(), "{unequal:#?}");
    let accounts = database.accounts().await.unwrap_or_else(shown);
    let unproved: Vec<&Account> =
        accounts.iter().filter(|account| !matches!(account.verdict, Verdict::Proved(_))).collect();
    assert!(unproved.is_empty(), "{unproved:#?}");
    let compared = database.definitions(&plan).await.unwrap_or_else(shown);
    assert_eq!(compared.differences, Vec::<String>::new());
    let writers = database.writers(&|| Ok(Vec::new())).await.unwrap_or_else(shown);
    let unknown: Vec<&Check> = writers
        .iter()
        .filter(|check| !check.fix.is_empty() && ["may not", "cannot"].iter().any(|word| check.evidence.contains(word)))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    for (token, sealed) in [("t1", false), ("t2", true)] {
        database.warm_up(&plan, Some(&compared.fingerprint)).await.unwrap_or_else(shown);
        let raised = database.raise_fence(&plan, token, TIMEOUT).await;
        let mut raised = raised.unwrap_or_else(shown);
        follow.wait_covers(&raised.marker, TIMEOUT).await.unwrap_or_else(shown);
        database.confirm_fence(&plan, &mut raised.fence).await.unwrap_or_else(shown);
        database.advance_counters(&plan).await.unwrap_or_else(shown);
        let ended = if sealed {
            database.seal_fence(raised.fence, &mark(), None, &|| Ok(Vec::new())).await
        } else {
            database.drop_fence(raised.fence, EPOCH).await
        };
        ended.unwrap_or_else(shown);
    }
    // A process that was overtaken may neither lift the refusal nor write onto its mark.
    let superseded = database.lift_fence(&plan, EPOCH - 1).await.expect_err("it is a later cutover's");
    assert!(superseded.kind() == Kind::Fatal && superseded.to_string().contains("epoch 5"), "{superseded}");
    database.confirm_mark(EPOCH - 1).await.unwrap_or_else(shown);
    let stages = async || database.marks().await.unwrap_or_else(shown).into_iter().map(|mark| mark.stage).collect();
    let stage: Vec<Stage> = stages().await;
    assert_eq!(stage, [Stage::Sealed]);
    database.confirm_mark(EPOCH).await.unwrap_or_else(shown);
    let stage: Vec<Stage> = stages().await;
    assert_eq!(stage, [Stage::Switched]);
    database.after_switch(&plan).await.unwrap_or_else(shown);
    stop.cancel();
    follower.await.expect("it ends").unwrap_or_else(shown);
    database.clean_up().await.unwrap_or_else(shown);
}

/// A process that was overtaken between its fence and its decision: `overtake` leaves a mark of epoch 9 on the source. It
/// neither takes that mark over nor lifts anything.
pub(crate) async fn superseded<D: Database>(database: &D, migration: &str, overtake: impl AsyncFnOnce()) {
    let plan = database.plan().await.unwrap_or_else(shown);
    database.prepare(&plan).await.unwrap_or_else(shown);
    database.copy(&plan, Arc::default(), CancellationToken::new()).await.unwrap_or_else(shown);
    database.warm_up(&plan, None).await.unwrap_or_else(shown);
    let mut raised = database.raise_fence(&plan, "t1", TIMEOUT).await.unwrap_or_else(shown);
    database.confirm_fence(&plan, &mut raised.fence).await.unwrap_or_else(shown);
    overtake().await;
    let mark = Mark { migration: migration.to_owned(), ..mark() };
    let refused = database.seal_fence(raised.fence, &mark, None, &|| Ok(Vec::new())).await;
    let refused = refused.expect_err("the mark of a later cutover is there");
    assert!(refused.kind() == Kind::Fatal && refused.to_string().contains("later cutover"), "{refused}");
    let refused = database.lift_fence(&plan, EPOCH).await.expect_err("what is there is not its own");
    assert_eq!(refused.kind(), Kind::Fatal, "{refused}");
    let epochs = async || database.marks().await.unwrap_or_else(shown).into_iter().map(|mark| mark.epoch).collect();
    let left: Vec<u64> = epochs().await;
    assert_eq!(left, [9]);
    database.lift_fence(&plan, 9).await.unwrap_or_else(shown);
    let left: Vec<u64> = epochs().await;
    assert!(left.is_empty(), "{left:?}");
}
