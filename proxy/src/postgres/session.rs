//! One client from accept to the end of its login, or to the reason why there is none.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use protocol::postgres::auth::AuthRequest;
use protocol::postgres::handshake::Startup;
use protocol::postgres::{error_response, reply};
use rand::Rng;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::cancel;
use super::client_login::{self, Arrival};
use super::denied::Denied;
use super::passwords::{Known, Passwords};
use super::server_login;
use super::serving::Postgres;
use super::wire::PostgresWire;
use crate::client::send_error_and_close;
use crate::config::{ADMIN_DATABASE, Config, Secret};
use crate::data_plane::DataPlane;
use crate::failed_logins::Rejected;
use crate::listener::Sessions;
use crate::registry::Registered;
use crate::route::Cluster;
use crate::session::login::{self, Failed, LoggedIn, Opened, Place};

/// PostgreSQL's sessions: the data plane, and who may log in.
pub struct PostgresSessions {
    plane: Arc<DataPlane>,
    passwords: Arc<Passwords>,
}

impl PostgresSessions {
    /// Makes the verifiers of the configured users.
    pub fn new(plane: Arc<DataPlane>, config: &Config) -> Self {
        Self { plane, passwords: Arc::new(Passwords::new(config)) }
    }

    /// Whether this user's clients are turned away, because the configuration does not have it.
    pub fn turns_away(&self, user: &str) -> bool {
        self.passwords.turns_away(user)
    }

    /// A user's password as the configuration has it.
    pub fn configured_password(&self, user: &str) -> Option<String> {
        let password = self.passwords.for_server(user)?;
        Some(password.reveal().to_owned())
    }
}

impl Sessions for PostgresSessions {
    type Renewal = Known;

    fn prepare(&self, config: &Config) -> Result<Known, String> {
        Ok(self.passwords.prepare(config))
    }

    fn renew(&self, renewal: Known) {
        self.passwords.renew(renewal);
    }

    fn plane(&self) -> &Arc<DataPlane> {
        &self.plane
    }

    fn serve(self: Arc<Self>, client: TcpStream, peer: SocketAddr) -> impl Future<Output = ()> + Send + 'static {
        serve(self, client, peer)
    }

    async fn reject(mut client: TcpStream) {
        let mut words = BytesMut::new();
        error_response::too_many_connections(&mut words);
        send_error_and_close(&mut client, &words).await;
    }
}

/// Serves one accepted connection to its end. Every failure is told to the client where there is one, logged once,
/// and ends here.
async fn serve(sessions: Arc<PostgresSessions>, mut stream: TcpStream, peer: SocketAddr) {
    let plane = &sessions.plane;
    let deadline = Instant::now() + plane.limits.login_timeout;
    let mut leftover = BytesMut::with_capacity(1 << 10);
    let arrival = timeout_at(deadline, client_login::first(&mut stream, &mut leftover)).await;
    let opened = match arrival {
        Ok(Ok(Arrival::Gone)) => return,
        Ok(Ok(Arrival::Cancel { pid, secret })) => {
            if let Err(error) = cancel::cancel(plane, &(pid, secret)).await {
                debug!(%peer, %error, "a cancel request did not reach its server");
            }
            return;
        }
        Ok(Ok(Arrival::Session(startup))) => {
            let user = startup.user();
            let opening = Box::pin(open(&sessions, &mut stream, &mut leftover, startup, peer));
            let opened = timeout_at(deadline, opening).await;
            opened.map(|opened| opened.map_err(|denied| fail(plane, peer, &user.unwrap_or_default(), &denied)))
        }
        Ok(Err(rejected)) => Ok(Err(fail(plane, peer, b"", &rejected.into()))),
        Err(late) => Err(late),
    };
    login::conclude::<Postgres>(plane, (stream, leftover, 0), opened).await;
}

/// Logs why there is no session.
fn fail(plane: &DataPlane, peer: SocketAddr, user: &[u8], denied: &Denied) -> Failed {
    let user = &String::from_utf8_lossy(user);
    match denied {
        Denied::Rejected(Rejected::Password { .. }) => plane.failed_logins.log(peer, user, &"wrong password"),
        Denied::Rejected(rejected) => debug!(%peer, %rejected, "login rejected"),
        Denied::Protocol(_) | Denied::NoUser => {}
        denied => plane.failed_logins.log(peer, user, denied),
    }
    Failed { reason: denied.reason(), words: denied.explain(user, peer) }
}

async fn open(
    sessions: &PostgresSessions,
    client: &mut TcpStream,
    buffer: &mut BytesMut,
    startup: Startup,
    peer: SocketAddr,
) -> Result<Opened<Postgres>, Denied> {
    let PostgresSessions { plane, passwords } = sessions;
    let mut greeting = BytesMut::new();
    let minor = client_login::negotiate(&startup, &mut greeting)?;
    send(client, &mut greeting).await?;
    let user = startup.user().ok_or(Denied::NoUser)?;
    let user = String::from_utf8_lossy(&user).into_owned();
    let database = startup.database().unwrap_or_default();

    if database == ADMIN_DATABASE && plane.console.is_some() {
        client_login::authenticate(client, buffer, Some(passwords.of_admin(&user))).await?;
        AuthRequest::Ok.encode(&mut greeting);
        send(client, &mut greeting).await?;
        return Ok(Opened::Console(user));
    }

    let name = String::from_utf8_lossy(&database).into_owned();
    let route = plane.routes.for_session(&name).ok_or(Denied::NoRoute(name))?;
    route.door.pass(plane.limits.connect_timeout).await.map_err(Denied::NotServed)?;
    let verifier = passwords.of_user(&user);
    let asked = verifier.is_some();
    client_login::authenticate(client, buffer, verifier).await?;
    let password = passwords.for_server(&user);

    let mut place = Place::on(Arc::clone(&route));
    let (startup_of, database) = (&startup, &route.database);
    let password_text = password.as_ref().map(Secret::reveal);
    let attempt = |cluster: Arc<Cluster>| async move {
        let login = server_login::login(&cluster, startup_of, database, password_text).await;
        login.map_err(|refused| Denied::Refused { refused, cluster: cluster.name.clone(), asked })
    };
    let (destination, met) = login::log_in(&route, plane.limits.connect_timeout, attempt).await;
    let server = met?;
    place.destination = destination;

    let application = startup.get(b"application_name").unwrap_or_default();
    let pid = server.key.pid;
    let registered = place.register(plane, (user, peer, &application), (i64::from(pid), server.key.secret.clone()));
    let secret = client_secret(&registered, pid, minor);

    AuthRequest::Ok.encode(&mut greeting);
    for (name, value) in &server.parameters {
        let status = reply::ParameterStatus { name: name.clone(), value: value.clone() };
        status.encode(&mut greeting);
    }
    greeting.extend_from_slice(&server.notices);
    reply::BackendKeyData { pid, secret }.encode(&mut greeting);
    reply::ReadyStatus::Idle.encode(&mut greeting);
    send(client, &mut greeting).await?;

    let gated = !startup.replication();
    Ok(Opened::Session(Box::new(LoggedIn {
        plane: Arc::clone(plane),
        place,
        registered,
        server: server.stream,
        read: server.buffer,
        wire: PostgresWire::new(plane.limits.frame_bytes_max, server.parameters, gated),
        engine: Postgres { startup, passwords: Arc::clone(passwords), password },
    })))
}

async fn send(client: &mut TcpStream, words: &mut BytesMut) -> Result<(), Rejected> {
    client.write_all(words).await?;
    words.clear();
    Ok(())
}

/// A secret that no other session has: four bytes, or thirty-two where the client speaks protocol 3.2.
fn client_secret(registered: &Registered, pid: i32, minor: u16) -> Bytes {
    loop {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        let secret = Bytes::copy_from_slice(if minor >= 2 { &bytes } else { &bytes[..4] });
        if registered.listen_for((pid, secret.clone())) {
            return secret;
        }
    }
}
