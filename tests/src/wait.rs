//! Waiting for something to become true, with a deadline.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long anything that should happen at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Asks again and again until the answer satisfies; panics with the last answer when it does not in time.
pub async fn until<T: Debug, F: Future<Output = T>>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
    mut satisfies: impl FnMut(&T) -> bool,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        let answer = within(what, limit, ask()).await;
        if satisfies(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}; last answer: {answer:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Awaits something that must end within the limit.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    let Ok(value) = timeout(limit, future).await else { panic!("{what}: not within {limit:?}") };
    value
}
