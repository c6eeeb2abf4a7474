//! Where the data plane finds the console, which it needs before the migrations exist that the console shows.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use proxy::console::{AdminClient, Console};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::Admin;
use crate::engine::Engine;

/// What stands behind the door.
type Inside<E> = (Admin<<E as Engine>::Database>, Handle);

/// The door to the console: the data plane needs it before the migrations that are behind it exist.
pub(crate) struct ConsoleSlot<E: Engine> {
    admin: Arc<OnceLock<Inside<E>>>,
}

impl<E: Engine> Default for ConsoleSlot<E> {
    fn default() -> Self {
        Self { admin: Arc::default() }
    }
}

impl<E: Engine> ConsoleSlot<E> {
    /// Opens the console, on the runtime of the caller. Whoever comes earlier is sent away.
    pub(crate) fn open(&self, admin: Admin<E::Database>) {
        // Opened once, by the start of the program; a second opening would change nothing.
        drop(self.admin.set((admin, Handle::current())));
    }
}

impl<E: Engine> Console for ConsoleSlot<E> {
    fn serve(&self, client: AdminClient) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let admin = Arc::clone(&self.admin);
        Box::pin(async move {
            let Some((_, runtime)) = admin.get() else {
                return;
            };
            // A thread that serves sessions must not do what statements begin here: a whole migration.
            let mut serving = JoinSet::new();
            serving.spawn_on(serve_admin::<E>(Arc::clone(&admin), client), runtime);
            // Dropping the set ends the admin session, as when the caller is cut.
            serving.join_next().await;
        })
    }
}

async fn serve_admin<E: Engine>(admin: Arc<OnceLock<Inside<E>>>, client: AdminClient) {
    let Some((admin, _)) = admin.get() else {
        return;
    };
    let user = client.user.clone();
    info!(user, "an admin session begins");
    match E::serve_admin(admin, client).await {
        Ok(()) => info!(user, "an admin session ends"),
        Err(error) => debug!(user, %error, "an admin session was cut"),
    }
}
