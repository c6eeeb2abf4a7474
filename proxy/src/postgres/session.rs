//! One client from accept to the end of its login, or to the reason why there is none.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use protocol::postgres::auth::AuthRequest;
use protocol::postgres::handshake::{ALPN, Startup};
use protocol::postgres::{error_response, reply};
use protocol::proxy_protocol::Addresses;
use rand::Rng;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tracing::debug;

use super::accounts::{Account, Accounts};
use super::cancel;
use super::client_login::{self, Arrival};
use super::denied::Denied;
use super::passwords::{Demand, Known, Passwords, Terms};
use super::server_login::{self, Credential};
use super::serving::Postgres;
use super::wire::PostgresWire;
use crate::client::{Client, send_error_and_close};
use crate::config::{ADMIN_DATABASE, Config, Engine};
use crate::data_plane::DataPlane;
use crate::failed_logins::Rejected;
use crate::listener::{Accepted, Sessions};
use crate::registry::Registered;
use crate::route::Cluster;
use crate::session::login::{self, Failed, LoggedIn, Opened, Place};
use crate::tls::ListenerTls;
use crate::upstream::Origin;

/// PostgreSQL's sessions: the data plane, and who may log in.
pub struct PostgresSessions {
    plane: Arc<DataPlane>,
    passwords: Arc<Passwords>,
    accounts: Accounts,
    tls: ArcSwap<ListenerTls>,
}

/// What another configuration means for logins.
pub struct Renewal {
    config: Config,
    known: Known,
    tls: ListenerTls,
}

impl PostgresSessions {
    /// Makes the verifiers of the configured users. Fails where the certificate cannot be used.
    pub fn new(plane: Arc<DataPlane>, config: &Config) -> io::Result<Self> {
        let tls = ListenerTls::new(&config.listen, Engine::Postgres, Some(ALPN), None).map_err(io::Error::other)?;
        Ok(Self {
            plane,
            passwords: Arc::new(Passwords::new(config)),
            accounts: Accounts::new(config),
            tls: ArcSwap::from_pointee(tls),
        })
    }

    /// Whether this user's clients are turned away, because the configuration does not have it.
    pub fn turns_away(&self, user: &str) -> bool {
        self.passwords.turns_away(user)
    }

    /// A user's password as the configuration has it, or as its client has shown it.
    pub fn known_password(&self, user: &str) -> Option<String> {
        let password = self.passwords.password(user)?;
        Some(password.reveal().to_owned())
    }

    /// Logs in on a cluster as this user by what its client's login has revealed; `None` where it has revealed nothing, or
    /// there is no such cluster. Fails with what the server said.
    pub async fn try_revealed(&self, cluster: &str, database: &str, user: &str) -> Option<Result<(), String>> {
        let credential = self.passwords.revealed(user)?;
        let cluster = self.plane.routes.cluster(cluster)?;
        let owned = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let parameters = vec![(owned("user"), owned(user)), (owned("application_name"), owned("headgate login"))];
        let startup = Startup { major: 3, minor: 0, parameters, protocol_options: Vec::new() };
        let login = server_login::login(&cluster, Origin::Headgate, &startup, database, Some(&credential)).await;
        Some(match login {
            Ok(session) if session.proven => Ok(()),
            Ok(_) => Err("the server asked for no password, which proves nothing".to_owned()),
            Err(refused) => Err(refused.to_string()),
        })
    }
}

impl Sessions for PostgresSessions {
    type Renewal = Renewal;

    fn prepare(&self, config: &Config) -> Result<Renewal, String> {
        let tls = ListenerTls::new(&config.listen, Engine::Postgres, Some(ALPN), Some(&self.tls.load()));
        let tls = tls.map_err(|error| error.to_string())?;
        Ok(Renewal { config: config.clone(), known: self.passwords.prepare(config), tls })
    }

    fn renew(&self, Renewal { config, known, tls }: Renewal) {
        self.passwords.renew(known);
        self.accounts.renew(&config);
        self.tls.store(Arc::new(tls));
    }

    fn plane(&self) -> &Arc<DataPlane> {
        &self.plane
    }

    fn serve(self: Arc<Self>, accepted: Accepted) -> impl Future<Output = ()> + Send + 'static {
        serve(self, accepted)
    }

    async fn reject(mut client: TcpStream) {
        let mut words = BytesMut::new();
        error_response::too_many_connections(&mut words);
        send_error_and_close(&mut client, &words).await;
    }
}

/// Serves one accepted connection to its end. Every failure is told to the client where there is one, logged once,
/// and ends here.
async fn serve(sessions: Arc<PostgresSessions>, Accepted { stream, addresses, pending, deadline }: Accepted) {
    let plane = &sessions.plane;
    let peer = addresses.source;
    let mut leftover = BytesMut::with_capacity(1 << 10);
    let tls = sessions.tls.load_full();
    let arriving = Box::pin(client_login::first(stream, &tls, &mut leftover));
    let (mut client, arrival) = match timeout_at(deadline, arriving).await {
        Ok(Ok(arrived)) => arrived,
        Ok(Err(rejected)) => {
            let failed = fail(plane, peer, b"", &rejected.into());
            failed.reason.inspect(|reason| plane.metrics.login_failed(reason));
            return;
        }
        Err(_) => {
            plane.metrics.login_failed("timeout");
            return;
        }
    };
    let opened = match arrival {
        Ok(Arrival::Gone) => return,
        Ok(Arrival::Cancel { pid, secret }) => {
            if let Err(error) = cancel::cancel(plane, &(pid, secret), Origin::Client(addresses)).await {
                debug!(%peer, %error, "a cancel request did not reach its server");
            }
            return;
        }
        Ok(Arrival::Session(startup)) => {
            let user = startup.user();
            let opening = Box::pin(open(&sessions, (&mut client, &mut leftover), startup, addresses, &tls));
            let opened = timeout_at(deadline, opening).await;
            opened.map(|opened| opened.map_err(|denied| fail(plane, peer, &user.unwrap_or_default(), &denied)))
        }
        Err(rejected) => Ok(Err(fail(plane, peer, b"", &rejected.into()))),
    };
    drop(pending);
    login::conclude::<Postgres>(plane, (client, leftover, 0), opened).await;
}

/// Logs why there is no session.
fn fail(plane: &DataPlane, peer: SocketAddr, user: &[u8], denied: &Denied) -> Failed {
    let user = &String::from_utf8_lossy(user);
    match denied {
        Denied::Rejected(Rejected::Password { .. }) => plane.failed_logins.log(peer, user, &"wrong password"),
        Denied::Rejected(rejected @ Rejected::ProxyHeader) => plane.failed_logins.log(peer, user, rejected),
        Denied::Rejected(rejected) => debug!(%peer, %rejected, "login rejected"),
        Denied::Protocol(_) | Denied::NoUser => {}
        denied => plane.failed_logins.log(peer, user, denied),
    }
    Failed { reason: denied.reason(), words: denied.explain(user, peer) }
}

async fn open(
    sessions: &PostgresSessions,
    (client, buffer): (&mut Client, &mut BytesMut),
    startup: Startup,
    addresses: Addresses,
    tls: &ListenerTls,
) -> Result<Opened<Postgres>, Denied> {
    let PostgresSessions { plane, passwords, accounts, .. } = sessions;
    let mut greeting = BytesMut::new();
    let minor = client_login::negotiate(&startup, &mut greeting)?;
    send(client, &mut greeting).await?;
    let user = startup.user().ok_or(Denied::NoUser)?;
    let user = String::from_utf8_lossy(&user).into_owned();
    let database = startup.database().unwrap_or_default();

    if database == ADMIN_DATABASE && plane.console.is_some() {
        let demand = Demand::Scram(passwords.of_admin(&user));
        client_login::authenticate(client, buffer, (&user, demand), tls).await?;
        AuthRequest::Ok.encode(&mut greeting);
        send(client, &mut greeting).await?;
        return Ok(Opened::Console(user));
    }

    let name = String::from_utf8_lossy(&database).into_owned();
    let route = plane.routes.for_session(&name).ok_or(Denied::NoRoute(name))?;
    route.door.pass(plane.limits.connect_timeout).await.map_err(Denied::NotServed)?;
    let Terms { mut demand, credential, auth_query } = passwords.terms(&user, client.certificate_name().as_deref());
    if demand == Demand::OfAccount {
        let cluster = &route.destination().cluster;
        let found = accounts.find(cluster, &route.database, auth_query.as_deref(), &user).await;
        demand = match found.map_err(|refused| Denied::of_cluster(refused, cluster, true))? {
            Some(Account::Scram(verifier)) => Demand::Scram(verifier),
            Some(Account::Md5(verifier)) => Demand::Md5(verifier),
            Some(Account::Nobody) => passwords.of_nobody(&user),
            None => Demand::Password,
        };
    }
    let asked = demand != Demand::Nothing;
    let proven = client_login::authenticate(client, buffer, (&user, demand), tls).await?;
    // Only the server can judge what was shown; the rest was judged here.
    let shown = match &proven {
        Some(Credential::Shown(password)) => Some(password.clone()),
        _ => None,
    };
    let credential = credential.or(proven);

    let mut place = Place::on(Arc::clone(&route));
    let (startup_of, database) = (&startup, &route.database);
    let (origin, proof) = (Origin::Client(addresses), credential.as_ref());
    let attempt = |cluster: Arc<Cluster>| async move {
        let login = server_login::login(&cluster, origin, startup_of, database, proof).await;
        login.map_err(|refused| Denied::of_cluster(refused, &cluster, asked))
    };
    let (destination, met) = login::log_in(&route, plane.limits.connect_timeout, attempt).await;
    let server = match (met, &shown) {
        (Ok(server), Some(_)) if !server.proven => return Err(Denied::NotJudged(destination.cluster.name.clone())),
        (Ok(server), Some(password)) => {
            passwords.remember(&user, password);
            server
        }
        (Ok(server), None) => {
            proof.inspect(|proof| passwords.reveal(&user, proof));
            server
        }
        (Err(denied), Some(password)) if denied.is_wrong_password() => {
            passwords.forget(&user, password);
            return Err(denied);
        }
        (Err(denied), _) => return Err(denied),
    };
    place.destination = destination;

    let application = startup.get(b"application_name").unwrap_or_default();
    let pid = server.key.pid;
    let registered = place.register(
        plane,
        (user, (addresses.source, client.is_encrypted()), &application),
        (i64::from(pid), server.key.secret.clone(), server.stream.is_encrypted()),
    );
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
        engine: Postgres { startup, passwords: Arc::clone(passwords), credential, origin },
    })))
}

async fn send(client: &mut Client, words: &mut BytesMut) -> Result<(), Rejected> {
    client.write_all(words).await?;
    client.flush().await?;
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
