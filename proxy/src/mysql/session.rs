//! One client from accept to the end of its login, or to the reason why there is none.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use protocol::mysql::frame;
use protocol::mysql::handshake::Capabilities;
use protocol::mysql::reply::{self, Okay};
use protocol::proxy_protocol::Addresses;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tracing::debug;

use super::client_login::{self, Arrival, Claim, Line};
use super::denied::Denied;
use super::logins::{Entered, Logins, Renewal, welcome};
use super::server_login::{Credential, Identity};
use super::serving::Mysql;
use super::wire::MysqlWire;
use crate::client::{Client, send_error_and_close};
use crate::config::{ADMIN_DATABASE, Config};
use crate::data_plane::DataPlane;
use crate::failed_logins::Rejected;
use crate::listener::{Accepted, Sessions};
use crate::session::login::{self, Failed, LoggedIn, Opened, Place};
use crate::upstream::Origin;

/// MySQL's sessions: the data plane, and who may log in.
pub struct MysqlSessions {
    logins: Arc<Logins>,
}

impl MysqlSessions {
    /// Sessions on `plane`. Fails where the certificate cannot be used.
    pub fn new(plane: Arc<DataPlane>, config: &Config) -> io::Result<Self> {
        Ok(Self { logins: Arc::new(Logins::new(plane, config)?) })
    }

    /// A user's password, for a migration that has to create the account anew on a target that lacks its plugin.
    pub fn captured_password(&self, user: &str) -> Option<String> {
        self.logins.passwords.captured(user)
    }
}

impl Sessions for MysqlSessions {
    type Renewal = Renewal;

    fn prepare(&self, config: &Config) -> Result<Renewal, String> {
        self.logins.prepare(config)
    }

    fn renew(&self, renewal: Renewal) {
        self.logins.renew(renewal);
    }

    fn plane(&self) -> &Arc<DataPlane> {
        &self.logins.plane
    }

    fn serve(self: Arc<Self>, accepted: Accepted) -> impl Future<Output = ()> + Send + 'static {
        serve(Arc::clone(&self.logins), accepted)
    }

    async fn reject(client: TcpStream) {
        // Before its greeting a server does not tell states, because clients do not expect them yet.
        let mut body = vec![reply::ERR];
        body.extend_from_slice(&1040_u16.to_le_bytes());
        body.extend_from_slice(b"Too many connections");
        let mut out = BytesMut::new();
        frame::put(&mut out, &mut 0, &body);
        send_error_and_close(&mut Client::Plain(client), &out).await;
    }
}

async fn serve(logins: Arc<Logins>, Accepted { stream, addresses, pending, deadline }: Accepted) {
    let plane = &logins.plane;
    let peer = addresses.source;
    let id = logins.next_id();
    let arriving = async {
        let offer = logins.greetings.offer(&plane.routes).await;
        let arrival = client_login::greet(stream, &offer, id, &logins.tls.load_full()).await;
        arrival.map(|arrival| arrival.map(|arrival| (arrival, offer)))
    };
    let (mut arrival, offer) = match timeout_at(deadline, arriving).await {
        Ok(Ok(Some(arrived))) => arrived,
        Ok(Ok(None)) => return,
        Ok(Err(rejected)) => {
            plane.metrics.login_failed(rejected.reason());
            match rejected {
                Rejected::ProxyHeader => plane.failed_logins.log(peer, "", &rejected),
                rejected => debug!(%peer, %rejected, "login rejected"),
            }
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
    let opening = Box::pin(open(&logins, &mut arrival, claim, capabilities, id, addresses));
    let opened = timeout_at(deadline, opening).await;
    let Arrival { stream, buffer, mut sequence, response, .. } = arrival;
    let opened = opened.map(|opened| {
        opened.map_err(|denied| {
            plane.failed_logins.log(peer, &String::from_utf8_lossy(&response.user), &denied);
            let words = denied.explain(&plane.routes, &response.user, peer, &mut sequence);
            Failed { reason: Some(denied.reason()), words }
        })
    });
    drop(pending);
    login::conclude::<Mysql>(plane, (stream, buffer, capabilities.0), opened).await;
}

async fn open(
    logins: &Arc<Logins>,
    arrival: &mut Arrival,
    claim: Claim,
    capabilities: Capabilities,
    id: u32,
    addresses: Addresses,
) -> Result<Opened<Mysql>, Denied> {
    let plane = &logins.plane;
    let (peer, origin) = (addresses.source, Origin::Client(addresses));
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
    route.door.pass(plane.limits.connect_timeout).await.map_err(Denied::NotServed)?;
    let database = database.map(|_| route.database.clone());
    let mut place = Place::on(route);
    let identity = Identity {
        user: response.user.to_vec(),
        credential: Credential::Clear(zeroize::Zeroizing::default()),
        capabilities,
        charset: response.charset,
        attributes: response.attributes.clone(),
        max_packet: response.max_packet,
        plain: false,
    };
    let application = response.attribute(b"program_name").unwrap_or_default();
    let entering = logins.enter((&mut line, origin), claim, identity, &place.route, database.as_deref());
    let entered = entering.await;
    arrival.sequence = line.sequence;
    let Entered { identity, server, destination } = entered?;
    place.destination = destination;

    let pid = i64::from(server.thread);
    let registered = place.register(
        plane,
        (user, (peer, arrival.stream.is_encrypted()), &application),
        (pid, Bytes::new(), server.stream.is_encrypted()),
    );
    // A thousand million connections later a number may be in use still; that session then cannot be named.
    if !registered.listen_for_id(id) {
        debug!(%peer, id, "the connection's number is taken by an older one");
    }
    let body = welcome(&server, identity.capabilities);
    send(&mut arrival.stream, &mut arrival.sequence, &body).await?;
    let limit = plane.limits.frame_bytes_max;
    let mut wire = MysqlWire::new(limit, identity.capabilities, server.capabilities, server.status);
    wire.begin_in(database.as_deref());
    Ok(Opened::Session(Box::new(LoggedIn {
        plane: Arc::clone(plane),
        place,
        registered,
        server: server.stream,
        read: server.buffer,
        wire,
        engine: Mysql {
            logins: Arc::clone(logins),
            identity: Arc::new(identity),
            origin,
            capabilities: server.capabilities,
            version: server.version,
            heading: None,
        },
    })))
}

async fn send(stream: &mut Client, sequence: &mut u8, body: &[u8]) -> Result<(), Rejected> {
    let mut out = BytesMut::new();
    frame::put(&mut out, sequence, body);
    stream.write_all(&out).await?;
    stream.flush().await?;
    Ok(())
}
