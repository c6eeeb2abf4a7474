//! How a running statement is interrupted: on a connection of its own, by pid and secret.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use protocol::postgres::handshake;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server_login::connect;
use crate::data_plane::DataPlane;
use crate::registry::{Activity, ClientKey, ServerKey};
use crate::upstream::Origin;

/// How long the server may take to close a cancel connection, which is its sign that the signal was sent.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Passes the cancel request of a client at `origin` on to whatever runs its statement now. A key that nobody has does nothing, and
/// as with a real server the asker is told nothing either way.
pub async fn cancel(plane: &DataPlane, key: &ClientKey, origin: Origin) -> io::Result<()> {
    let Some(entry) = plane.registry.by_key(key) else {
        plane.metrics.cancel_request("unknown");
        return Ok(());
    };
    if matches!(entry.activity(), Activity::Held | Activity::Moving) {
        plane.metrics.cancel_request("held");
        entry.order_cancel();
        return Ok(());
    }
    plane.metrics.cancel_request("server");
    match entry.server() {
        Some(server) => send(&server, origin).await,
        None => Ok(()),
    }
}

async fn send(server: &ServerKey, origin: Origin) -> io::Result<()> {
    let mut stream = connect(&server.cluster, origin).await?;
    let mut out = BytesMut::new();
    let pid = i32::try_from(server.pid).map_err(io::Error::other)?;
    handshake::encode_cancel(pid, &server.secret, &mut out);
    let conversation = async {
        stream.write_all(&out).await?;
        stream.flush().await?;
        let mut nothing = [0; 16];
        while stream.read(&mut nothing).await? > 0 {}
        Ok(())
    };
    tokio::time::timeout(CANCEL_TIMEOUT, conversation).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
