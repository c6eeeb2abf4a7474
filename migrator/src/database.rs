//! What an engine must offer to be migrated: one value that knows both ends of one migration.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::accounts::Account;
use crate::error::Result;
use crate::follow::Follow;
use crate::model::definitions::{Compared, Fingerprint};
use crate::model::leg::Leg;
use crate::model::mark::Mark;
use crate::model::plan::{Plan, Table};
use crate::model::position::Position;
use crate::model::progress::Progress;
use crate::model::proof::Checked;
use crate::model::switch_proof::{SwitchProgress, SwitchVerdict};
use crate::preflight::Check;
use crate::residue::Key;

/// What raising the fence established.
pub struct Raised<F, P> {
    /// Keeps the barrier up; sealing it makes the refusal durable, dropping it lets the writers in again.
    pub fence: F,
    /// The marker's position: when the target has applied it, everything before it is there.
    pub marker: P,
}

/// Tells the server sessions that the gate of the migration's route holds, by the numbers that the source gives them.
pub type GatedBackends<'a> = &'a (dyn Fn() -> Result<Vec<i64>> + Send + Sync);

/// One leg's two databases: all that a migration asks of them. The source is where the changes of this leg come from.
/// Cheap to clone; every method of the traits below opens the connections that it needs.
///
/// Every such method is idempotent: after a crash it is simply called again.
pub trait Database:
    Preflight + SchemaAndLoad + Comparison + KeyComparison + Fencing + Counters + NextLeg + SwitchSnapshots + Clone
{
}

impl<D> Database for D where
    D: Preflight + SchemaAndLoad + Comparison + KeyComparison + Fencing + Counters + NextLeg + SwitchSnapshots + Clone
{
}

/// What both servers say before anything is touched.
pub trait Preflight: Send + Sync + 'static {
    /// Runs every check and returns every finding, the good ones too. Leaves nothing behind.
    /// Fails only where not even the checks could run; an unreachable cluster is a finding.
    fn preflight(&self) -> impl Future<Output = Result<Vec<Check>>> + Send;

    /// Gives the accounts that the migration made on the target the passwords that are known by now, where they have none
    /// that lets their clients in. Idempotent.
    fn ready_accounts(&self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Every account that can log in on the source, and whether it can on the target. Touches nothing.
    fn accounts(&self) -> impl Future<Output = Result<Vec<Account>>> + Send;
}

/// The definitions and the rows that are there: onto the target, and off it again.
pub trait SchemaAndLoad: Send + Sync + 'static {
    /// Reads from the source's catalogue what will move.
    fn plan(&self) -> impl Future<Output = Result<Plan>> + Send;

    /// Whether the target has the schema already. As long as it has not, the plan is read anew with every attempt, so that
    /// what was mended on the source is seen.
    fn has_schema(&self) -> impl Future<Output = Result<bool>> + Send {
        std::future::ready(Ok(true))
    }

    /// Creates the target's schema as far as the load needs it, and the start of the change stream.
    fn prepare(&self, plan: &Plan) -> impl Future<Output = Result<()>> + Send;

    /// What [`SchemaAndLoad::prepare`] or [`SchemaAndLoad::copy`] waits for at this moment, in words: whose open transaction.
    fn waits_for(&self) -> Option<String> {
        None
    }

    /// Loads every table as it was at the stream's start, and builds the rest of the schema (indexes,
    /// constraints, triggers) on the loaded tables. What an earlier call finished is not loaded again.
    /// Returns early, without error, when `stop` is cancelled.
    fn copy(
        &self,
        plan: &Plan,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Empties these tables on the target and loads them anew as of a moment that is not before what the follower has
    /// applied; it does not run meanwhile, and passes over what they have already. Begins anew with every call.
    /// Returns early, without error, when `stop` is cancelled.
    fn recopy(
        &self,
        tables: &[Table],
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Removes what the migration made on the target, and nothing else, and all that [`SchemaAndLoad::clean_up`] removes.
    /// Refuses where others made something upon it. Returns what had to stay, and why.
    fn remove_made(&self) -> impl Future<Output = Result<Vec<String>>> + Send;

    /// Removes what the migration left on both sides (slot, publication, progress), and finds nothing to do
    /// where there is none. The fence of a switched migration stays.
    fn clean_up(&self) -> impl Future<Output = Result<()>> + Send;
}

/// The changes that come after the rows.
pub trait ChangeStream: Send + Sync + 'static {
    /// A place in the source's change stream.
    type Position: Position;

    /// Applies changes until `stop` is cancelled (then returns `Ok`) or something fails.
    /// A transient failure is for the caller to retry; what was applied stays applied exactly once.
    fn follow(
        &self,
        plan: &Plan,
        follow: Follow<Self::Position>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Sessions whose changes are in no log at this moment, as far as the source tells.
    fn hiding(&self) -> impl Future<Output = Result<Vec<String>>> + Send {
        std::future::ready(Ok(Vec::new()))
    }
}

/// Whether both sides are equal, rows and definitions.
pub trait Comparison: ChangeStream {
    /// Compares every table on both sides at one position while changes go on, pausing the follower through
    /// `follow` for the moment in which both snapshots are opened. Definitions are compared with the rows.
    fn check(
        &self,
        plan: &Plan,
        follow: Follow<Self::Position>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<Checked>> + Send;

    /// Reads the definitions of both sides and compares them.
    fn definitions(&self, plan: &Plan) -> impl Future<Output = Result<Compared>> + Send;

    /// A text that changes whenever a definition on either side may have changed; much quicker to read than
    /// [`Comparison::definitions`].
    fn definitions_stamp(&self) -> impl Future<Output = Result<String>> + Send;
}

/// Whether rows whose keys are known are the same on both sides at this moment, without a snapshot.
pub trait KeyComparison: Send + Sync + 'static {
    /// A session on each side, and what was read of the tables.
    type KeySessions: Send + 'static;

    /// Opens the sessions. They lock nothing, and no statement of theirs lasts.
    fn open_key_sessions(&self, plan: &Plan) -> impl Future<Output = Result<Self::KeySessions>> + Send;

    /// Compares the rows of these keys of the table with this title. Names those that differ; a row that is on neither
    /// side does not.
    fn differing_rows(
        &self,
        sessions: &mut Self::KeySessions,
        table: &str,
        keys: &[Key],
    ) -> impl Future<Output = Result<Vec<String>>> + Send;
}

/// What keeps writers off the source for a cutover: its barrier, its durable refusal, its mark.
pub trait Fencing: ChangeStream {
    /// A raised barrier on the source that is not durable yet.
    type Fence: Send + 'static;

    /// The databases of the source that move.
    fn databases(&self) -> Vec<String>;

    /// What the source itself says of those who write, also around Headgate: open write transactions, prepared ones,
    /// sessions that the fence would not stop or whose changes are in no log. What may not be seen is an error of its
    /// own, with the least grant that lets Headgate look. `gated_backends` are the sessions that the gate holds. Touches nothing.
    fn writers(&self, gated_backends: GatedBackends<'_>) -> impl Future<Output = Result<Vec<Check>>> + Send;

    /// Everything that can be done ahead of a cutover so that the pause is short: connections, counters with a
    /// gap, a look for what would block the fence. Fails, with the blocker's name, where the fence would not hold, and
    /// with the object's name where the definitions are no longer `proved`.
    fn warm_up(&self, plan: &Plan, proved: Option<&Fingerprint>) -> impl Future<Output = Result<()>> + Send;

    /// Puts up the barrier on the source within `limit` and commits the marker from another session.
    /// `token` makes the marker unique.
    fn raise_fence(
        &self,
        plan: &Plan,
        token: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<Raised<Self::Fence, Self::Position>>> + Send;

    /// Fails, with names, where under the barrier the definitions of a side are not those of [`Fencing::warm_up`] any
    /// more, or somebody has a write open that the fence does not stop. [`Fencing::raise_fence`] may have begun to look.
    fn confirm_fence(&self, plan: &Plan, fence: &mut Self::Fence) -> impl Future<Output = Result<()>> + Send;

    /// Makes the refusal durable, and `mark` with it, and with both where the next leg begins, if it was armed: in that
    /// leg's progress record, which is on this source. Success proves that the barrier was up without a break since it
    /// was raised. Fatal where the source carries the mark of a later cutover than `mark`. Where the refusal is to end the sessions of the source's clients, those that the gate holds are left alone: `gated_backends` tells
    /// which these are, as of when it is asked.
    fn seal_fence(
        &self,
        fence: Self::Fence,
        mark: &Mark,
        next_begins: Option<&Self::Position>,
        gated_backends: GatedBackends<'_>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Takes a barrier down that was not sealed; the writers go on. Fails where that would undo what a later cutover than
    /// `epoch` has left.
    fn drop_fence(&self, fence: Self::Fence, epoch: u64) -> impl Future<Output = Result<()>> + Send;

    /// Removes a sealed fence and its mark, and finds nothing to do where there is none. Fatal where the source carries the
    /// mark of a later cutover than `epoch`.
    fn lift_fence(&self, plan: &Plan, epoch: u64) -> impl Future<Output = Result<()>> + Send;

    /// Lets others than Headgate write to the target, where the check and the warming up keep them from it. What they
    /// write if nothing is switched after all voids the proof.
    fn admit_writers(&self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Lifts the refusal that the leg before this one left on the target, and puts back what had to be out of the way of
    /// this one. Comes after the decision is durable and before the gate opens; the source refuses by then. Idempotent.
    /// There is nothing to do before the second leg. Fatal where the target carries the mark of a later cutover than `epoch`.
    fn open_target(&self, plan: &Plan, epoch: u64) -> impl Future<Output = Result<()>> + Send;

    /// Whether the refusal that the leg before this one left on the target keeps out whoever logs in, so that no session
    /// of a client can be opened there ahead of the switch.
    fn is_target_locked(&self) -> impl Future<Output = Result<bool>> + Send {
        std::future::ready(Ok(false))
    }

    /// What is better done once the target serves, such as to enable what must not run on two sides. Idempotent: a
    /// failure is reported and tried again at the next start, and never undoes the switch.
    fn after_switch(&self, plan: &Plan) -> impl Future<Output = Result<()>> + Send;

    /// The marks of switches on the source that concern what this migration moves. Touches nothing.
    fn marks(&self) -> impl Future<Output = Result<Vec<Mark>>> + Send;

    /// Writes onto this migration's mark that the switch took place, where it is not of a later cutover than
    /// `epoch`.
    fn confirm_mark(&self, epoch: u64) -> impl Future<Output = Result<()>> + Send;

    /// Lifts the fence on the source that this migration's mark tells of, and removes the mark.
    fn clear_mark(&self) -> impl Future<Output = Result<()>> + Send;

    /// Raises a sealed fence again that a restart of its server has taken down, or completes it. Tells whether that may be
    /// needed again; by default a fence stays up by itself.
    fn uphold_fence(&self) -> impl Future<Output = Result<bool>> + Send {
        std::future::ready(Ok(false))
    }

    /// How the refusal on the old source stands after the switch, and what a restart of its server does to it.
    fn fence_state(&self) -> impl Future<Output = Result<Vec<Check>>> + Send {
        std::future::ready(Ok(Vec::new()))
    }
}

/// Sequences, identity columns, AUTO_INCREMENT.
pub trait Counters: Send + Sync + 'static {
    /// Sets the target's counters (sequences, identities) past the source's, with a gap, and proves it.
    fn advance_counters(&self, plan: &Plan) -> impl Future<Output = Result<()>> + Send;
}

/// The leg that comes after a switch and goes the other way. [`NextLeg::for_leg`] makes its value, and all else is asked
/// of that.
pub trait NextLeg: ChangeStream {
    /// The same migration's two databases as this leg has them. Opens nothing yet.
    #[must_use]
    fn for_leg(&self, leg: Leg) -> Self;

    /// Makes all that this leg's stream needs, before the gate of the switch that begins it is closed: the start of the
    /// stream, and a progress record according to which the target has everything before it. Then follows one marker the whole
    /// way, `token` being what makes it unique, and stands still. Touches no row that moves. Idempotent; what an attempt that came to nothing has
    /// left begins anew. Fails where this leg could not run, with what would let it.
    fn arm(&self, plan: &Plan, token: &str) -> impl Future<Output = Result<()>> + Send;

    /// Where this leg's stream ends at this moment: before it is only what the leg before wrote. Quick once it is armed.
    fn stream_end(&self) -> impl Future<Output = Result<Self::Position>> + Send;

    /// Removes this leg's stream from its source, so that nothing is kept there for it: it is over, or never began.
    /// Finds nothing to do where there is none.
    fn retire(&self) -> impl Future<Output = Result<()>> + Send;

    /// What this leg makes its source keep, and how long that can go on.
    fn kept(&self) -> impl Future<Output = Result<Kept>> + Send;
}

/// What a source keeps of its log for a stream that is behind, or that may be needed again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Bytes of the log that are kept.
    pub bytes: u64,
    /// How many bytes are kept at most before the stream is lost; `None` where only the disk ends it.
    pub bytes_max: Option<u64>,
    /// How long the log is kept at most; `None` where time does not end it.
    pub time_max: Option<Duration>,
}

/// The proof that both sides were equal at the moment of the switch: snapshots that were opened inside the hold, and are
/// compared in full afterwards. It knows nothing of the stream, the copy, or the applier.
pub trait SwitchSnapshots: Send + Sync + 'static {
    /// What was opened and read ahead of the hold.
    type Prepared: Send + 'static;
    /// A snapshot on each side.
    type Snapshots: Send + 'static;

    /// Opens the sessions and compares the definitions, before [`Fencing::warm_up`]. `proved` are the definitions that the
    /// look inside the hold holds against both sides, where there is such a proof.
    fn prepare_snapshots(
        &self,
        plan: &Plan,
        proved: Option<&Fingerprint>,
    ) -> impl Future<Output = Result<Self::Prepared>> + Send;

    /// Opens the snapshots, and nothing else: inside the hold, once the marker is applied and the counters are set. Both
    /// sides have the same content then.
    fn open_snapshots(&self, prepared: Self::Prepared) -> impl Future<Output = Result<Self::Snapshots>> + Send;

    /// Compares all tables and definitions as the snapshots show them, about so many rows in a second, while both servers go
    /// on. Fails only where `stop` was cancelled.
    fn compare_snapshots(
        &self,
        snapshots: Self::Snapshots,
        rows_per_second: u64,
        progress: Arc<SwitchProgress>,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<SwitchVerdict>> + Send;
}
