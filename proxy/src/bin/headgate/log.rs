//! The log: lines on standard error, written by a thread of their own, so that a log that cannot be written harms nothing.
//!
//! A full disk, a pipe that nobody reads or that broke: lines are counted and dropped. Whoever logs never waits and
//! never learns of it.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Lines that wait for a slow reader; more are dropped.
const WAITING_MAX: usize = 4096;
/// How long the end of the process waits for the last lines.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// The running log.
#[derive(Clone)]
pub(crate) struct Log {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

enum Entry {
    Line(Vec<u8>),
    /// Everything before it is to be written before it is answered.
    End(SyncSender<()>),
}

impl Log {
    /// Starts the log. `HEADGATE_LOG` chooses what is told, such as `debug` or `headgate=debug,migrator=info`.
    pub(crate) fn start(json: bool, level: &str) -> Self {
        let log = Self::to(io::stderr());
        let filter = EnvFilter::try_from_env("HEADGATE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(log.clone())
            .log_internal_errors(false)
            .with_ansi(io::stderr().is_terminal());
        let layer = if json { layer.json().boxed() } else { layer.boxed() };
        let subscriber =
            tracing_subscriber::registry().with(filter).with(layer.with_filter(filter_fn(shows_no_secret)));
        // A log that cannot be started is no reason not to serve; it only fails where one runs already.
        drop(subscriber.try_init());
        // The usual hook writes to standard error itself, and would wait for a reader that does not read.
        std::panic::set_hook(Box::new(|fault| {
            let backtrace = std::backtrace::Backtrace::capture();
            tracing::error!(%fault, %backtrace, "Headgate met a fault of its own; please report it");
        }));
        log
    }

    fn to(out: impl Write + Send + 'static) -> Self {
        let (queue, lines) = sync_channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let writing = thread::Builder::new().name("log".to_owned()).spawn(move || write_all(out, &lines, &counted));
        // Without a thread the queue has no reader, and every line counts as lost.
        drop(writing);
        Self { queue, lost }
    }

    /// Lines that could not be written so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until what was logged so far is written, or cannot be.
    pub(crate) fn finish(&self) {
        let (done, ended) = sync_channel(1);
        if self.queue.try_send(Entry::End(done)).is_ok() {
            let _in_time = ended.recv_timeout(FINISH_TIMEOUT);
        }
    }
}

/// Whether a line may be logged, whatever was asked for: the driver of PostgreSQL writes the text of each statement at `debug`,
/// and some of ours set passwords.
fn shows_no_secret(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::INFO || !line.target().starts_with("tokio_postgres")
}

fn write_all(mut out: impl Write, lines: &Receiver<Entry>, lost: &AtomicU64) {
    for entry in lines {
        match entry {
            Entry::Line(line) => {
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            Entry::End(done) => drop(done.try_send(())),
        }
    }
}

impl Write for Log {
    /// The subscriber hands over one whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _never = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_nobody_hears_of_it() {
        let mut log = Log::to(Broken);
        for _ in 0..3 {
            log.write_all(b"a line\n").expect("never an error");
        }
        log.finish();
        assert_eq!(log.lost(), 3);
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up() {
        let (_reading, never) = sync_channel(0);
        let mut log = Log::to(Stuck(never));
        let begun = Instant::now();
        for _ in 0..WAITING_MAX + 100 {
            log.write_all(b"a line\n").expect("never an error");
        }
        log.finish();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(log.lost() >= 90, "{} lost", log.lost());
    }
}
