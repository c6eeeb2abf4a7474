//! One client from accept to the end of its login, or to the reason why there is none.

mod denied;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use protocol::mysql::frame;
use protocol::mysql::handshake::{Capabilities, ChangeUser};
use protocol::mysql::reply::{self, Okay};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

pub use denied::Denied;

use super::accounts::Accounts;
use super::cipher::KeyPair;
use super::client_login::{self, Arrival, Claim, Judge, Line, Proven, Rejected};
use super::greeting::Greetings;
use super::introspection::Witnesses;
use super::passwords::Passwords;
use super::server_login::{self, Credential, Identity, ServerSession};
use super::serving::Session;
use crate::client::Client;
use crate::config::{ADMIN_DATABASE, Config};
use crate::console::AdminClient;
use crate::data_plane::DataPlane;
use crate::listener::Sessions;
use crate::registry::{NewSession, ServerKey};
use crate::route::{Cluster, Destination, Route};
use crate::tls;

/// Numbers of connections from here on are Headgate's own; servers count up from one. Drivers that keep them signed,
/// as those of Java do, would negate what is twice as large.
const OWN_IDS: u32 = 1 << 30;

/// MySQL's sessions: the data plane, and who may log in.
pub struct MysqlSessions {
    logins: Arc<Logins>,
}

/// All that logins need, also those of a session that becomes another user's.
pub struct Logins {
    /// What the sessions share with the rest of the data plane.
    pub plane: Arc<DataPlane>,
    greetings: Arc<Greetings>,
    accounts: Accounts,
    /// Who can tell more of a session than it may ask itself.
    pub witnesses: Witnesses,
    passwords: Passwords,
    keys: KeyPair,
    tls: ArcSwap<TlsAcceptor>,
    next_id: AtomicU32,
}

impl MysqlSessions {
    /// Sessions on `plane`. Fails where the certificate cannot be used.
    pub fn new(plane: Arc<DataPlane>, config: &Config) -> io::Result<Self> {
        let tls = tls::acceptor(config.listen.tls.as_ref()).map_err(io::Error::other)?;
        Ok(Self {
            logins: Arc::new(Logins {
                plane,
                greetings: Arc::new(Greetings::new(config)),
                accounts: Accounts::new(config),
                witnesses: Witnesses::new(config),
                passwords: Passwords::new(config),
                keys: KeyPair::default(),
                tls: ArcSwap::from_pointee(tls),
                next_id: AtomicU32::default(),
            }),
        })
    }

    /// A user's password, for a migration that has to create the account anew on a target that lacks its plugin.
    pub fn captured_password(&self, user: &str) -> Option<String> {
        self.logins.passwords.captured(user)
    }
}

/// What another configuration means for logins.
pub struct Renewal {
    config: Config,
    tls: Option<TlsAcceptor>,
}

impl Sessions for MysqlSessions {
    type Renewal = Renewal;

    fn prepare(&self, config: &Config) -> Result<Renewal, String> {
        // A certificate of our own making stays, so that clients that noted it know us again.
        let files = config.listen.tls.as_ref();
        let tls = files.map(|files| tls::acceptor(Some(files))).transpose();
        Ok(Renewal { config: config.clone(), tls: tls.map_err(|error| error.to_string())? })
    }

    fn renew(&self, Renewal { config, tls }: Renewal) {
        let logins = &self.logins;
        logins.greetings.renew(&config);
        logins.accounts.renew(&config);
        logins.witnesses.renew(&config);
        logins.passwords.renew(&config);
        if let Some(tls) = tls {
            logins.tls.store(Arc::new(tls));
        }
    }

    fn plane(&self) -> &Arc<DataPlane> {
        &self.logins.plane
    }

    fn serve(self: Arc<Self>, client: TcpStream, peer: SocketAddr) -> impl Future<Output = ()> + Send + 'static {
        serve(Arc::clone(&self.logins), client, peer)
    }

    async fn reject(client: TcpStream) {
        // Before its greeting a server does not tell states, because clients do not expect them yet.
        let mut body = vec![reply::ERR];
        body.extend_from_slice(&1040_u16.to_le_bytes());
        body.extend_from_slice(b"Too many connections");
        let mut out = BytesMut::new();
        frame::put(&mut out, &mut 0, &body);
        client_login::send_error_and_close(&mut Client::Plain(client), &out).await;
    }
}

/// A session as it is behind a login.
#[derive(Debug)]
pub struct Entered {
    /// Who logged in.
    pub identity: Identity,
    /// The server session.
    pub server: ServerSession,
}

enum Opened {
    Console(String),
    Session(Box<Session>),
}

async fn serve(logins: Arc<Logins>, client: TcpStream, peer: SocketAddr) {
    let plane = Arc::clone(&logins.plane);
    let deadline = Instant::now() + plane.limits.login_timeout;
    let id = logins.next_id();
    let arriving = async {
        let offer = logins.greetings.offer(&plane.routes).await;
        let arrival = client_login::greet(client, &offer, id, &logins.tls.load_full()).await;
        arrival.map(|arrival| arrival.map(|arrival| (arrival, offer)))
    };
    let (mut arrival, offer) = match tokio::time::timeout_at(deadline, arriving).await {
        Ok(Ok(Some(arrived))) => arrived,
        Ok(Ok(None)) => return,
        Ok(Err(rejected)) => {
            plane.metrics.login_failed(reason(&rejected));
            debug!(%peer, %rejected, "login rejected");
            return;
        }
        Err(_) => {
            plane.metrics.login_failed("timeout");
            return;
        }
    };
    let claim = Claim::of(&arrival.response, arrival.nonce, offer.plugin);
    // A client cannot agree on what it was not offered.
    let capabilities = arrival.response.capabilities & offer.capabilities;
    let opening = Box::pin(open(&logins, &mut arrival, claim, capabilities, id, peer));
    match tokio::time::timeout_at(deadline, opening).await {
        Ok(Ok(Opened::Session(session))) => session.run(arrival.stream, &arrival.buffer).await,
        Ok(Ok(Opened::Console(user))) => {
            if let Some(console) = &plane.console {
                let client = AdminClient {
                    stream: arrival.stream,
                    leftover: arrival.buffer,
                    user,
                    capabilities: capabilities.0,
                };
                console.serve(client).await;
            }
        }
        Ok(Err(denied)) => {
            plane.metrics.login_failed(match &denied {
                Denied::Rejected(rejected) => reason(rejected),
                Denied::Refused { .. } | Denied::NotServed(_) => "server",
                Denied::NoRoute(_) | Denied::NoDatabase => "unknown route",
            });
            let user = &arrival.response.user;
            let name = String::from_utf8_lossy(user);
            plane.failed_logins.log(peer, &name, &denied);
            let words = logins.explain(&denied, user, peer, &mut arrival.sequence);
            client_login::send_error_and_close(&mut arrival.stream, &words).await;
        }
        Err(_) => plane.metrics.login_failed("timeout"),
    }
}

fn reason(rejected: &Rejected) -> &'static str {
    match rejected {
        Rejected::Io(_) => "connection lost",
        Rejected::Malformed(_) => "malformed",
        Rejected::Password { .. } => "password",
        Rejected::Unsupported(_) => "unsupported",
    }
}

async fn open(
    logins: &Arc<Logins>,
    arrival: &mut Arrival,
    claim: Claim,
    capabilities: Capabilities,
    id: u32,
    peer: SocketAddr,
) -> Result<Opened, Denied> {
    let plane = &logins.plane;
    let response = &arrival.response;
    let user = String::from_utf8_lossy(&response.user).into_owned();
    let database = response.database.clone();
    let mut line = Line::new(&mut arrival.stream, &mut arrival.buffer, arrival.sequence);

    if database.as_deref() == Some(ADMIN_DATABASE.as_bytes()) && plane.console.is_some() {
        let password = logins.passwords.of_admin(&response.user);
        let proven = client_login::authenticate_admin(&mut line, claim, password).await;
        arrival.sequence = line.sequence;
        proven?;
        let okay = Okay { status: reply::status::AUTOCOMMIT, ..Okay::default() };
        let tracked = capabilities.has(Capabilities::SESSION_TRACK);
        let mut body = BytesMut::new();
        okay.encode(&mut body, reply::OK, tracked);
        send(&mut arrival.stream, &mut arrival.sequence, &body).await?;
        return Ok(Opened::Console(user));
    }

    let route = logins.route(database.as_deref())?;
    let passing = route.door.pass(plane.limits.connect_timeout);
    passing.await.map_err(Denied::NotServed)?;
    let database = database.map(|_| route.database.clone());
    let destination = route.destination();
    let ticket = route.gate.ticket();
    let identity = Identity {
        user: response.user.to_vec(),
        credential: Credential::Clear(zeroize::Zeroizing::default()),
        capabilities,
        charset: response.charset,
        attributes: response.attributes.clone(),
        max_packet: response.max_packet,
    };
    let application = response.attribute(b"program_name").unwrap_or_default();
    let cluster = &destination.cluster;
    let entering = logins.enter(&mut line, claim, identity, cluster, database.as_deref());
    let entered = entering.await;
    arrival.sequence = line.sequence;
    let Entered { identity, server } = entered?;

    let registered = plane.registry.add(NewSession {
        user,
        route: route.name.clone(),
        client: peer,
        application: String::from_utf8_lossy(&application).into_owned(),
        ticket: ticket.number(),
    });
    // A thousand million connections later a number may be in use still; that session then cannot be named.
    if !registered.listen_for_id(id) {
        debug!(%peer, id, "the connection's number is taken by an older one");
    }
    registered.entry().set_server(ServerKey {
        cluster: Arc::clone(cluster),
        pid: i64::from(server.thread),
        secret: Bytes::new(),
    });
    let body = welcome(&server, identity.capabilities);
    send(&mut arrival.stream, &mut arrival.sequence, &body).await?;
    Ok(Opened::Session(Box::new(Session {
        logins: Arc::clone(logins),
        route,
        identity,
        server,
        registered,
        ticket,
        generation: destination.generation,
        database,
        id,
        peer,
    })))
}

async fn send(stream: &mut Client, sequence: &mut u8, body: &[u8]) -> Result<(), Rejected> {
    let mut out = BytesMut::new();
    frame::put(&mut out, sequence, body);
    stream.write_all(&out).await?;
    stream.flush().await?;
    Ok(())
}

/// The body of the OK packet that ends the client's login: the server's own, as far as the client wants to hear it.
pub fn welcome(server: &ServerSession, capabilities: Capabilities) -> BytesMut {
    let asked = server.capabilities.has(Capabilities::SESSION_TRACK);
    let wanted = capabilities.has(Capabilities::SESSION_TRACK);
    let okay = Okay::parse(&server.welcome, asked).unwrap_or(Okay { status: server.status, ..Okay::default() });
    let mut body = BytesMut::new();
    okay.encode(&mut body, reply::OK, wanted);
    body
}

/// Lets a logged-in client become another user: it proves itself as at its login, and gets a new server session, on the
/// cluster of the database that it names, or where it was on `route`. `line` stands behind the client's COM_CHANGE_USER, whose bytes after the command's own are `body`.
/// `current` is who it was. Where this fails the client is told by [`Logins::explain`], and its session ends.
pub async fn change_user(
    logins: &Logins,
    line: &mut Line<'_>,
    body: &[u8],
    current: &Identity,
    route: &Arc<Route>,
) -> Result<Changed, Denied> {
    let capabilities = current.capabilities;
    let change = ChangeUser::parse(body, capabilities).map_err(Rejected::from)?;
    let route = match change.database.as_deref() {
        Some(name) => logins.route(Some(name))?,
        // In no database it stays where it was.
        None => Arc::clone(route),
    };
    let destination = route.destination();
    let charset = change.charset.and_then(|charset| u8::try_from(charset).ok());
    let identity = Identity {
        user: change.user.to_vec(),
        credential: Credential::Clear(zeroize::Zeroizing::default()),
        capabilities,
        charset: charset.unwrap_or(current.charset),
        attributes: if change.attributes.is_empty() { current.attributes.clone() } else { change.attributes },
        max_packet: current.max_packet,
    };
    let database = change.database.map(|_| route.database.clone());
    let claim = Claim::anew(change.user, change.plugin, capabilities);
    let cluster = &destination.cluster;
    let entering = logins.enter(line, claim, identity, cluster, database.as_deref());
    let entered = entering.await?;
    Ok(Changed { entered, route, destination, database })
}

/// A session as it is behind a change of the user.
#[derive(Debug)]
pub struct Changed {
    /// Who logged in, and the server session.
    pub entered: Entered,
    /// The route of the database that it begins in.
    pub route: Arc<Route>,
    /// Where that led at the login.
    pub destination: Arc<Destination>,
    /// The database on the cluster.
    pub database: Option<String>,
}

impl Logins {
    fn next_id(&self) -> u32 {
        OWN_IDS | (self.next_id.fetch_add(1, Ordering::Relaxed) % OWN_IDS)
    }

    /// The route of that name; without a name the only one that there is.
    fn route(&self, name: Option<&[u8]>) -> Result<Arc<Route>, Denied> {
        let routes = &self.plane.routes;
        let Some(name) = name else {
            return match &routes.routes()[..] {
                [only] => Ok(Arc::clone(only)),
                _ => Err(Denied::NoDatabase),
            };
        };
        let name = String::from_utf8_lossy(name).into_owned();
        routes.for_session(&name).ok_or(Denied::NoRoute(name))
    }

    /// Has the client prove itself, and logs in on the cluster as the same user.
    async fn enter(
        &self,
        line: &mut Line<'_>,
        claim: Claim,
        mut identity: Identity,
        cluster: &Cluster,
        database: Option<&str>,
    ) -> Result<Entered, Denied> {
        let judge =
            Judge { accounts: &self.accounts, passwords: &self.passwords, keys: &self.keys, cluster: &cluster.name };
        let proven = client_login::authenticate(line, claim, &judge).await?;
        let (credential, reported) = match proven {
            Proven::Credential(credential) => (credential, None),
            Proven::Reported(password) => (Credential::Clear(password.clone()), Some(password)),
        };
        identity.credential = credential;
        match server_login::login(cluster, &identity, database).await {
            Ok(server) => {
                self.greetings.learn(&cluster.name, &server.greeting);
                if let Some(password) = &reported {
                    self.passwords.remember(&identity.user, password);
                }
                Ok(Entered { identity, server })
            }
            Err(refused) => {
                if refused.code() == Some(ACCESS_DENIED)
                    && let Credential::Clear(password) = &identity.credential
                {
                    self.passwords.forget(&identity.user, password);
                }
                let cluster = cluster.name.clone();
                // Asked for a proof and not for the password: it was judged here.
                let proven = reported.is_none() && refused.code() == Some(ACCESS_DENIED);
                Err(Denied::Refused { refused, cluster, proven })
            }
        }
    }
}

/// The server's code for a wrong password.
const ACCESS_DENIED: u16 = 1045;
