//! A connection of the demo's own: to the proxy, to its admin console, or straight to a server.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::failure::{Failure, Result};

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Where to connect, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
}

impl Address {
    /// A database on this machine that asks for no password.
    pub(super) fn new(port: u16, user: &str, database: &str) -> Self {
        Self {
            port,
            user: user.to_owned(),
            password: None,
            database: database.to_owned(),
        }
    }

    /// How a person connects there.
    pub(super) fn psql(&self) -> String {
        let Self {
            port,
            user,
            database,
            ..
        } = self;
        let password = self
            .password
            .as_ref()
            .map(|word| format!("PGPASSWORD={word} "))
            .unwrap_or_default();
        format!("{password}psql -h 127.0.0.1 -p {port} -U {user} {database}")
    }
}

/// An open connection; `heard` counts the notifications that arrived on it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) sql: Arc<Client>,
    pub(super) heard: Arc<AtomicU64>,
}

impl Link {
    /// Connects under a name that the server shows in `pg_stat_activity`.
    pub(super) async fn open(address: &Address, name: &str) -> Result<Self> {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(address.port)
            .user(&address.user)
            .dbname(&address.database);
        config
            .application_name(name)
            .connect_timeout(CONNECT_PATIENCE);
        if let Some(password) = &address.password {
            config.password(password);
        }
        let connecting = tokio::time::timeout(CONNECT_PATIENCE, config.connect(NoTls)).await;
        let late = |_| {
            Failure(format!(
                "no connection to port {} within {CONNECT_PATIENCE:?}",
                address.port
            ))
        };
        let (client, mut connection) = connecting.map_err(late)??;
        let heard = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                if matches!(message, AsyncMessage::Notification(_)) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self {
            sql: Arc::new(client),
            heard,
        })
    }
}
