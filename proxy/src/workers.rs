//! Threads that serve sessions: one runtime of its own on each, so that a session never changes its thread.
//!
//! A session wakes for a few microseconds per statement. On one shared runtime most of those wake-ups would cross from
//! one thread to another, which costs more than the work itself. For the same reason a thread is filled before the next
//! one is used: a few busy sessions are cheapest together, and many on one thread wait for each other.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// Sessions that a thread has before the next one is used.
const FULL: usize = 32;

/// The threads; dropping this ends them and whatever still runs there.
#[derive(Debug)]
pub struct Workers {
    places: Vec<(Handle, Arc<AtomicUsize>)>,
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Workers {
    /// Starts `count` threads. Fails where the system gives no thread or no poller.
    pub fn start(count: NonZeroUsize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let mut places = Vec::new();
        let mut threads = Vec::new();
        for number in 0..count.get() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            places.push((runtime.handle().clone(), Arc::default()));
            let stop = stop.clone();
            let thread = std::thread::Builder::new().name(format!("sessions-{number}"));
            threads.push(thread.spawn(move || runtime.block_on(stop.cancelled()))?);
        }
        Ok(Self { places, threads, stop })
    }

    /// A place for one session: on the first thread that is not full, else on the one with the fewest sessions. The
    /// session keeps the [`ThreadSlot`] until it ends.
    pub fn place(&self) -> (&Handle, ThreadSlot) {
        let loads: Vec<usize> = self.places.iter().map(|(_, load)| load.load(Relaxed)).collect();
        let (handle, load) = &self.places[choose(&loads)];
        load.fetch_add(1, Relaxed);
        (handle, ThreadSlot(Arc::clone(load)))
    }
}

fn choose(loads: &[usize]) -> usize {
    let free = loads.iter().position(|&load| load < FULL);
    let fewest = || (0..loads.len()).min_by_key(|&index| loads[index]);
    free.or_else(fewest).unwrap_or_default()
}

/// A session's place on its thread; dropping it frees the place.
#[derive(Debug)]
pub struct ThreadSlot(Arc<AtomicUsize>);

impl Drop for ThreadSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing to wait for.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::{FULL, Workers, choose};

    #[test]
    fn one_thread_after_the_other_is_filled_and_then_the_emptiest_is_next() {
        assert_eq!(choose(&[0, 0, 0]), 0);
        assert_eq!(choose(&[FULL, 3, 0]), 1);
        assert_eq!(choose(&[FULL - 1, FULL, 0]), 0);
        assert_eq!(choose(&[FULL + 2, FULL, FULL + 1]), 1);
    }

    #[test]
    fn a_place_is_free_again_when_its_session_ends() {
        let workers = Workers::start(NonZeroUsize::MIN).expect("a thread");
        let seats: Vec<_> = (0..FULL).map(|_| workers.place().1).collect();
        let load = |workers: &Workers| workers.places[0].1.load(super::Relaxed);
        assert_eq!(load(&workers), FULL);
        drop(seats);
        assert_eq!(load(&workers), 0);
    }
}
