//! The copy's loop: tables are cut into chunks, workers load what is cut, and what comes after the rows is built as soon
//! as all rows of a table are there.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::model::plan::Table;
use crate::model::progress::{Progress, Stage};

/// A chunk whose connection was lost is tried this often before the whole copy is.
const TRIES: u32 = 3;
/// Chunks that are cut ahead of the workers.
const CUT_AHEAD: usize = 64;
/// Tables below this size have what comes after the rows built together, so many at a time.
const SMALL_BYTES: u64 = 16 << 20;
const BUILT_TOGETHER: usize = 50;

/// Cuts tables and loads their rows.
pub(crate) trait TableLoader: Send + Sync + 'static {
    /// A part of a table that is loaded in one transaction.
    type Chunk: Send + Sync;
    /// A session on each side, of one worker.
    type Pair: Send;
    /// The sessions by which tables are cut.
    type Cutter: Send + 'static;

    /// `schema.table` for people.
    fn title(table: &Table) -> String;

    /// Opens a worker's sessions.
    fn open(&self) -> impl Future<Output = Result<Self::Pair>> + Send;

    /// Gives the workers every chunk of a table that is not loaded yet. `false` where it was stopped before the last.
    fn cut(
        &self,
        cutter: &mut Self::Cutter,
        table: &Table,
        chunks: &Chunks<'_, Self>,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Loads a chunk and records it in the same transaction. An earlier try, if this is done `again`, may have been
    /// committed without a reply: then there is nothing to do. `false` when `stop` came first: then nothing is loaded, and
    /// the sessions are of no further use.
    fn load(
        &self,
        pair: &mut Self::Pair,
        table: &Table,
        chunk: &Self::Chunk,
        again: bool,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Whether the target has, by its own records, all of a table of which this run loaded so many chunks. A standby that took
    /// the target's place may lack the last of what was committed.
    fn is_whole(&self, pair: &mut Self::Pair, table: &Table, chunks: u64) -> impl Future<Output = Result<bool>> + Send;

    /// Records, durably, that all rows of a table are there; by the session that looked whether they are.
    fn complete(&self, pair: &mut Self::Pair, table: &Table) -> impl Future<Output = Result<()>> + Send;
}

/// What a worker finds in the queue, with the number of its table.
enum Next<C> {
    Chunk(usize, C),
    /// There are no more chunks of this table.
    End(usize),
}

/// What the workers share.
struct Load<L> {
    loader: L,
    tables: Vec<Table>,
    counts: Mutex<Vec<Counts>>,
    loaded: mpsc::Sender<Table>,
    progress: Arc<Progress>,
    stop: CancellationToken,
}

/// Chunks of one table.
#[derive(Clone, Copy)]
struct Counts {
    /// What is not taken from the queue and done yet: chunks and the end.
    left: u64,
    /// All chunks that were given.
    given: u64,
}

/// Where the chunks of one table go.
pub(crate) struct Chunks<'a, L: TableLoader + ?Sized> {
    index: usize,
    counts: &'a Mutex<Vec<Counts>>,
    queue: &'a mpsc::Sender<Next<L::Chunk>>,
    stop: &'a CancellationToken,
}

impl<L: TableLoader + ?Sized> Chunks<'_, L> {
    /// Gives the workers one more. `false` where nobody takes it any more.
    pub(crate) async fn give(&self, chunk: L::Chunk) -> bool {
        if self.stop.is_cancelled() {
            return false;
        }
        if let Some(counts) = self.counts.lock().get_mut(self.index) {
            counts.left += 1;
            counts.given += 1;
        }
        self.queue.send(Next::Chunk(self.index, chunk)).await.is_ok()
    }

    /// Whether none should be kept back to be given with others: a worker may have to wait soon, or all is to stop.
    pub(crate) fn are_awaited(&self) -> bool {
        self.stop.is_cancelled() || self.queue.capacity() > CUT_AHEAD / 2
    }
}

/// Loads the rows of tables, the first ones first, and hands each table on when its last row is there.
pub(crate) async fn load<L: TableLoader>(
    loader: L,
    cutter: L::Cutter,
    tables: Vec<Table>,
    workers: usize,
    loaded: mpsc::Sender<Table>,
    (progress, stop): (&Arc<Progress>, &CancellationToken),
) -> Result<()> {
    let counts = Mutex::new(vec![Counts { left: 1, given: 0 }; tables.len()]);
    let (progress, stop) = (Arc::clone(progress), stop.clone());
    let load = Arc::new(Load { loader, tables, counts, loaded, progress, stop });
    let (queue, work) = mpsc::channel(CUT_AHEAD);
    let work = Arc::new(Turn::new(work));
    let mut tasks = JoinSet::new();
    tasks.spawn(cut(Arc::clone(&load), cutter, queue));
    for _ in 0..workers.clamp(1, 64) {
        tasks.spawn(do_work(Arc::clone(&load), Arc::clone(&work)));
    }
    drop((load, work));
    while let Some(ended) = tasks.join_next().await {
        finished(Some(ended))?;
    }
    Ok(())
}

async fn cut<L: TableLoader>(
    load: Arc<Load<L>>,
    mut cutter: L::Cutter,
    queue: mpsc::Sender<Next<L::Chunk>>,
) -> Result<()> {
    for (index, table) in load.tables.iter().enumerate() {
        let chunks = Chunks { index, counts: &load.counts, queue: &queue, stop: &load.stop };
        let complete = load.loader.cut(&mut cutter, table, &chunks).await?;
        if !complete || load.stop.is_cancelled() || queue.send(Next::End(index)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn do_work<L: TableLoader>(load: Arc<Load<L>>, work: Arc<Turn<mpsc::Receiver<Next<L::Chunk>>>>) -> Result<()> {
    // Opened with the first chunk: a copy of a few chunks needs few sessions.
    let mut pair = None;
    loop {
        let next = {
            let mut work = work.lock().await;
            tokio::select! {
                () = load.stop.cancelled() => None,
                next = work.recv() => next,
            }
        };
        let (index, chunk) = match next {
            None => return Ok(()),
            Some(Next::Chunk(index, chunk)) => (index, Some(chunk)),
            Some(Next::End(index)) => (index, None),
        };
        let Some(table) = load.tables.get(index) else {
            return Ok(());
        };
        if let Some(chunk) = chunk {
            load.progress.update(&L::title(table), |numbers| numbers.stage = Stage::Copying);
            if !load_chunk(&load.loader, &mut pair, table, &chunk, &load.progress, &load.stop).await? {
                return Ok(());
            }
        }
        let done = load.counts.lock().get_mut(index).and_then(|counts| {
            counts.left -= 1;
            (counts.left == 0).then_some(counts.given)
        });
        if let Some(chunks) = done {
            let pair = match &mut pair {
                Some(pair) => pair,
                none => none.insert(load.loader.open().await?),
            };
            if !load.loader.is_whole(pair, table, chunks).await? {
                return Err(behind(&L::title(table)));
            }
            load.loader.complete(pair, table).await?;
            // Nobody builds any more only where another failure ends this load as well.
            let _ = load.loaded.send(table.clone()).await;
        }
    }
}

/// What was loaded and committed is not on the target any more.
pub(crate) fn behind(what: &str) -> Error {
    Error::transient(format!(
        "the target has lost part of what was copied ({what}): a server took its place that was behind; the copy goes on from \
         the records that are there"
    ))
}

/// Loads a chunk, again where a connection was lost. `false` when `stop` came first.
pub(crate) async fn load_chunk<L: TableLoader>(
    loader: &L,
    kept: &mut Option<L::Pair>,
    table: &Table,
    chunk: &L::Chunk,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<bool> {
    let mut tries = 0;
    loop {
        if stop.is_cancelled() {
            return Ok(false);
        }
        let once = async {
            let mut pair = match kept.take() {
                Some(pair) => pair,
                None => loader.open().await?,
            };
            let complete = loader.load(&mut pair, table, chunk, tries > 0, progress, stop).await?;
            *kept = complete.then_some(pair);
            Ok(complete)
        };
        let failure: Error = match Box::pin(once).await {
            Ok(complete) => return Ok(complete),
            Err(failure) => failure,
        };
        tries += 1;
        if failure.kind() != Kind::Transient || tries == TRIES {
            return Err(failure);
        }
        tracing::warn!(%failure, "a chunk of the copy is tried again");
    }
}

/// Runs `build` for the tables that are loaded, at most so many at the same time.
pub(crate) async fn build_loaded<B>(
    mut loaded: mpsc::Receiver<Table>,
    workers: usize,
    stop: &CancellationToken,
    build: impl Fn(Vec<Table>) -> B,
) -> Result<()>
where
    B: Future<Output = Result<()>> + Send + 'static,
{
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    while let Some(table) = loaded.recv().await {
        while tasks.len() >= workers.clamp(1, 16) {
            finished(tasks.join_next().await)?;
        }
        if stop.is_cancelled() {
            break;
        }
        // Small tables share a session; a large one has its own.
        let mut tables = vec![table];
        while tables.len() < BUILT_TOGETHER && tables.iter().all(|table| table.bytes < SMALL_BYTES) {
            let Ok(table) = loaded.try_recv() else {
                break;
            };
            tables.push(table);
        }
        tasks.spawn(build(tables));
    }
    while let Some(ended) = tasks.join_next().await {
        finished(Some(ended))?;
    }
    Ok(())
}

fn finished(ended: Option<std::result::Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    match ended {
        Some(Err(error)) => Err(Error::fatal("a worker of the copy ended").because(error)),
        Some(Ok(outcome)) => outcome,
        None => Ok(()),
    }
}
