//! One client from accept to the end of its login, or to the reason why there is none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::postgres::auth::AuthRequest;
use protocol::postgres::error_response::Severity;
use protocol::postgres::handshake::Startup;
use protocol::postgres::{error_response, reply};
use rand::Rng;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tracing::{debug, warn};

use super::cancel;
use super::client_login::{self, Arrival, Rejected};
use super::passwords::{Known, Passwords};
use super::server_login::{self, Refused};
use super::serving::Session;
use crate::client::Client;
use crate::config::{Config, Secret};
use crate::console::AdminClient;
use crate::data_plane::DataPlane;
use crate::listener::Sessions;
use crate::registry::{NewSession, Registered, ServerKey};

/// The database name that means the admin console.
pub const CONSOLE_DATABASE: &[u8] = b"headgate";

/// How long a farewell to either side may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

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
async fn serve(sessions: Arc<PostgresSessions>, mut client: TcpStream, peer: SocketAddr) {
    let plane = Arc::clone(&sessions.plane);
    let mut buffer = BytesMut::with_capacity(1 << 10);
    let deadline = tokio::time::Instant::now() + plane.limits.login_timeout;
    let arrival = tokio::time::timeout_at(deadline, client_login::first(&mut client, &mut buffer)).await;
    let rejected = match arrival {
        Err(_) => {
            plane.metrics.login_failed("timeout");
            return;
        }
        Ok(Ok(Arrival::Gone)) => return,
        Ok(Ok(Arrival::Cancel { pid, secret })) => {
            if let Err(error) = cancel::cancel(&plane, &(pid, secret)).await {
                debug!(%peer, %error, "a cancel request did not reach its server");
            }
            return;
        }
        Ok(Ok(Arrival::Session(startup))) => {
            let opening = open(&sessions, &mut client, &mut buffer, startup, peer);
            match tokio::time::timeout_at(deadline, opening).await {
                Ok(Ok(Opened::Console(user))) => {
                    if let Some(console) = &plane.console {
                        let client =
                            AdminClient { stream: Client::Plain(client), leftover: buffer, user, capabilities: 0 };
                        console.serve(client).await;
                    }
                    return;
                }
                Ok(Ok(Opened::Session(session))) => {
                    session.run(client, &buffer).await;
                    return;
                }
                Ok(Ok(Opened::Nothing)) => return,
                Ok(Err(rejected)) => rejected,
                Err(_) => {
                    plane.metrics.login_failed("timeout");
                    return;
                }
            }
        }
        Ok(Err(rejected)) => rejected,
    };
    plane.metrics.login_failed(match &rejected {
        Rejected::Io(_) => "connection lost",
        Rejected::Malformed(_) => "malformed",
        Rejected::Password(_) => "password",
        Rejected::Unsupported(_) => "unsupported",
    });
    match &rejected {
        Rejected::Password(user) => plane.failed_logins.log(peer, user, &"wrong password"),
        other => debug!(%peer, rejected = %other, "login rejected"),
    }
    send_error_and_close(&mut client, &client_login::refuse(&rejected)).await;
}

enum Opened {
    Console(String),
    Session(Box<Session>),
    /// The client was told why, and it ends here.
    Nothing,
}

async fn open(
    sessions: &PostgresSessions,
    client: &mut TcpStream,
    buffer: &mut BytesMut,
    startup: Startup,
    peer: SocketAddr,
) -> Result<Opened, Rejected> {
    let PostgresSessions { plane, passwords } = sessions;
    let mut greeting = BytesMut::new();
    let minor = match client_login::negotiate(&startup, &mut greeting) {
        Ok(minor) => minor,
        Err(unsupported) => {
            let mut out = BytesMut::new();
            let message = unsupported.to_string();
            error_response::feature_not_supported(&mut out, Severity::Fatal, &message);
            send_error_and_close(client, &out).await;
            return Ok(Opened::Nothing);
        }
    };
    client.write_all(&greeting).await?;
    greeting.clear();
    let Some(user) = startup.user() else {
        error_response::no_user(&mut greeting);
        send_error_and_close(client, &greeting).await;
        return Ok(Opened::Nothing);
    };
    let user = String::from_utf8_lossy(&user).into_owned();
    let database = startup.database().unwrap_or_default();

    if database == CONSOLE_DATABASE && plane.console.is_some() {
        client_login::authenticate(client, buffer, &user, Some(passwords.of_admin(&user))).await?;
        AuthRequest::Ok.encode(&mut greeting);
        client.write_all(&greeting).await?;
        return Ok(Opened::Console(user));
    }

    let route_name = String::from_utf8_lossy(&database).into_owned();
    let Some(route) = plane.routes.for_session(&route_name) else {
        plane.metrics.login_failed("unknown route");
        let reason = format!("there is no route {route_name:?}");
        plane.failed_logins.log(peer, &user, &reason);
        error_response::unknown_route(&mut greeting, &route_name);
        send_error_and_close(client, &greeting).await;
        return Ok(Opened::Nothing);
    };
    if let Err(turned) = route.door.pass(plane.limits.connect_timeout).await {
        plane.metrics.login_failed("server");
        plane.failed_logins.log(peer, &user, &turned.words());
        error_response::cannot_connect_now(&mut greeting, turned.words());
        send_error_and_close(client, &greeting).await;
        return Ok(Opened::Nothing);
    }
    let verifier = passwords.of_user(&user);
    let asked = verifier.is_some();
    client_login::authenticate(client, buffer, &user, verifier).await?;
    let password = passwords.for_server(&user);

    let destination = route.destination();
    let ticket = route.gate.ticket();
    let password_text = password.as_ref().map(Secret::reveal);
    let login = server_login::login(&destination.cluster, &startup, &route.database, password_text).await;
    let server = match login {
        Ok(server) => server,
        Err(refused) => {
            plane.metrics.login_failed("server");
            let reason = format!("cluster {}: {refused}", destination.cluster.name);
            plane.failed_logins.log(peer, &user, &reason);
            send_error_and_close(client, &explain(&refused, &destination.cluster.name, peer, asked)).await;
            return Ok(Opened::Nothing);
        }
    };

    let application = startup.get(b"application_name").unwrap_or_default();
    let registered = plane.registry.add(NewSession {
        user: user.clone(),
        route: route.name.clone(),
        client: peer,
        application: String::from_utf8_lossy(&application).into_owned(),
        ticket: ticket.number(),
    });
    let secret = client_secret(&registered, server.key.pid, minor);
    registered.entry().set_server(ServerKey {
        cluster: Arc::clone(&destination.cluster),
        pid: i64::from(server.key.pid),
        secret: server.key.secret.clone(),
    });

    AuthRequest::Ok.encode(&mut greeting);
    for (name, value) in &server.parameters {
        let status = reply::ParameterStatus { name: name.clone(), value: value.clone() };
        status.encode(&mut greeting);
    }
    greeting.extend_from_slice(&server.notices);
    reply::BackendKeyData { pid: server.key.pid, secret }.encode(&mut greeting);
    reply::ReadyStatus::Idle.encode(&mut greeting);
    client.write_all(&greeting).await?;

    let gated = !startup.replication();
    Ok(Opened::Session(Box::new(Session {
        plane: Arc::clone(plane),
        route,
        startup,
        passwords: Arc::clone(passwords),
        password,
        server,
        registered,
        ticket,
        generation: destination.generation,
        gated,
    })))
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

/// What the client is told where no server session came about. Unless it was `asked` for a password here, it is told
/// as much of the login as the server would have told it.
fn explain(refused: &Refused, cluster: &str, peer: SocketAddr, asked: bool) -> BytesMut {
    let mut out = BytesMut::new();
    match refused {
        Refused::ByServer { frame, welcomed } => {
            if *welcomed && !asked {
                AuthRequest::Ok.encode(&mut out);
            }
            out.extend_from_slice(frame);
        }
        Refused::Unreachable(error) => {
            warn!(%peer, cluster, %error, "the cluster cannot be reached; the client was told to try again");
            error_response::cannot_connect_now(&mut out, "the database system cannot be reached at the moment");
        }
        Refused::Malformed(_) | Refused::Unsupported(_) => {
            warn!(%peer, cluster, %refused, "the login on the cluster failed; set users.NAME.password if it asks for one");
            error_response::error(
                &mut out,
                Severity::Fatal,
                "28000",
                "the database system could not complete the login",
            );
        }
    }
    out
}

/// Tells a client the last words and closes.
pub(super) async fn send_error_and_close(client: &mut TcpStream, words: &[u8]) {
    let close = async {
        client.write_all(words).await?;
        client.shutdown().await
    };
    // Whoever does not take the words in time goes without them.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, close).await;
}
