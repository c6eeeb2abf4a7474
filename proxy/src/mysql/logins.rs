//! What logins need, at the door and for a client that becomes another user: who may come in, and the server session.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use protocol::mysql::handshake::{Capabilities, ChangeUser};
use protocol::mysql::reply::{self, Okay};

use super::accounts::{Accounts, Requires};
use super::cipher::KeyPair;
use super::client_login::{self, Claim, Judge, Line, Proven};
use super::denied::{ACCESS_DENIED, Denied};
use super::greeting::Greetings;
use super::introspection::Witnesses;
use super::passwords::Passwords;
use super::server_login::{self, Credential, Identity, Refused, ServerSession};
use crate::config::{Config, Engine};
use crate::data_plane::DataPlane;
use crate::failed_logins::Rejected;
use crate::route::{Cluster, Destination, Route};
use crate::session::login::log_in;
use crate::tls::ListenerTls;
use crate::upstream::Origin;

/// Numbers of connections from here on are Headgate's own; servers count up from one. Drivers that keep them signed,
/// as those of Java do, would negate what is twice as large.
const OWN_IDS: u32 = 1 << 30;

/// All that logins need, also those of a session that becomes another user's.
pub struct Logins {
    /// What the sessions share with the rest of the data plane.
    pub plane: Arc<DataPlane>,
    pub(super) greetings: Arc<Greetings>,
    accounts: Accounts,
    /// Who can tell more of a session than it may ask itself.
    pub witnesses: Witnesses,
    pub(super) passwords: Passwords,
    keys: KeyPair,
    pub(super) tls: ArcSwap<ListenerTls>,
    next_id: AtomicU32,
}

/// A session as it is behind a login.
#[derive(Debug)]
pub struct Entered {
    /// Who logged in.
    pub identity: Identity,
    /// The server session.
    pub server: ServerSession,
    /// Where the route led.
    pub destination: Arc<Destination>,
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
/// `current` is who it was, and `origin` where it is. Where this fails the client is told by `Denied::explain`, and its session ends.
pub async fn change_user(
    logins: &Logins,
    line: &mut Line<'_>,
    body: &[u8],
    (current, origin): (&Identity, Origin),
    route: &Arc<Route>,
) -> Result<Changed, Denied> {
    let capabilities = current.capabilities;
    let change = ChangeUser::parse(body, capabilities).map_err(Rejected::from)?;
    let route = match change.database.as_deref() {
        Some(name) => logins.route(Some(name))?,
        // In no database it stays where it was.
        None => Arc::clone(route),
    };
    let charset = change.charset.and_then(|charset| u8::try_from(charset).ok());
    let identity = Identity {
        user: change.user.to_vec(),
        credential: Credential::Clear(zeroize::Zeroizing::default()),
        capabilities,
        charset: charset.unwrap_or(current.charset),
        attributes: if change.attributes.is_empty() { current.attributes.clone() } else { change.attributes },
        max_packet: current.max_packet,
        plain: false,
    };
    let database = change.database.map(|_| route.database.clone());
    let claim = Claim::anew(change.user, change.plugin, capabilities);
    let entered = logins.enter((line, origin), claim, identity, &route, database.as_deref()).await?;
    Ok(Changed { entered, route, database })
}

/// A session as it is behind a change of the user.
#[derive(Debug)]
pub struct Changed {
    /// Who logged in, and the server session.
    pub entered: Entered,
    /// The route of the database that it begins in.
    pub route: Arc<Route>,
    /// The database on the cluster.
    pub database: Option<String>,
}

/// What another configuration means for logins.
pub struct Renewal {
    config: Config,
    tls: ListenerTls,
}

impl Logins {
    /// Fails where the certificate cannot be used.
    pub(super) fn new(plane: Arc<DataPlane>, config: &Config) -> io::Result<Self> {
        let tls = ListenerTls::new(&config.listen, Engine::Mysql, None, None).map_err(io::Error::other)?;
        Ok(Self {
            plane,
            greetings: Arc::new(Greetings::new(config)),
            accounts: Accounts::new(config),
            witnesses: Witnesses::new(config),
            passwords: Passwords::new(config),
            keys: KeyPair::default(),
            tls: ArcSwap::from_pointee(tls),
            next_id: AtomicU32::default(),
        })
    }

    /// Makes ready what another configuration means, and changes nothing yet.
    pub(super) fn prepare(&self, config: &Config) -> Result<Renewal, String> {
        let tls = ListenerTls::new(&config.listen, Engine::Mysql, None, Some(&self.tls.load()));
        Ok(Renewal { config: config.clone(), tls: tls.map_err(|error| error.to_string())? })
    }

    /// From now on logins are as it says.
    pub(super) fn renew(&self, Renewal { config, tls }: Renewal) {
        self.greetings.renew(&config);
        self.accounts.renew(&config);
        self.witnesses.renew(&config);
        self.passwords.renew(&config);
        self.tls.store(Arc::new(tls));
    }

    /// The number of the next connection, as its client is told.
    pub(super) fn next_id(&self) -> u32 {
        OWN_IDS | (self.next_id.fetch_add(1, Ordering::Relaxed) % OWN_IDS)
    }

    /// The route of that name; without a name the only one that there is.
    pub(super) fn route(&self, name: Option<&[u8]>) -> Result<Arc<Route>, Denied> {
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

    /// Has the client prove itself, and logs in where the route leads as the same user.
    pub(super) async fn enter(
        &self,
        (line, origin): (&mut Line<'_>, Origin),
        claim: Claim,
        mut identity: Identity,
        route: &Route,
        database: Option<&str>,
    ) -> Result<Entered, Denied> {
        let destination = route.destination();
        let cluster = &destination.cluster.name;
        let judge = Judge { accounts: &self.accounts, passwords: &self.passwords, keys: &self.keys, cluster, origin };
        let (preferred, capabilities) = (claim.preferred.clone(), claim.capabilities);
        let mut proven = client_login::authenticate(line, claim, &judge).await?;
        match self.accounts.requires(cluster, &identity.user, origin).await {
            Some(Requires::Nothing) => {}
            Some(Requires::Tls) if line.is_secure() => {}
            Some(Requires::Tls) => return Err(Denied::NeedsTls),
            Some(Requires::Certificate) => return Err(Denied::NeedsCertificate),
            // The server is to judge by the same kind of connection as the client's.
            None => identity.plain = !line.is_secure(),
        }
        let (destination, met, reported) = loop {
            let (credential, reported) = match proven {
                Proven::Credential(credential) => (credential, None),
                Proven::Reported(password) => (Credential::Clear(password.clone()), Some(password)),
            };
            let is_key = matches!(credential, Credential::NativeKey(_));
            identity.credential = credential;
            let proved = &identity;
            let attempt =
                |cluster: Arc<Cluster>| async move { server_login::login(&cluster, origin, proved, database).await };
            let (destination, met) = log_in(route, self.plane.limits.connect_timeout, attempt).await;
            if !is_key || !matches!(met, Err(Refused::PasswordNeeded)) {
                break (destination, met, reported);
            }
            // The account was given another plugin since it was read, or has several, of which the server asks for the first.
            let user = Bytes::copy_from_slice(&identity.user);
            proven = client_login::full(line, Claim::anew(user, preferred.clone(), capabilities), &judge).await?;
        };
        match met {
            Ok(server) => {
                self.greetings.learn(&destination.cluster.name, &server.greeting);
                if let Some(password) = &reported {
                    self.passwords.remember(&identity.user, password);
                }
                Ok(Entered { identity, server, destination })
            }
            Err(refused) => {
                if refused.code() == Some(ACCESS_DENIED)
                    && let Credential::Clear(password) = &identity.credential
                {
                    self.passwords.forget(&identity.user, password);
                }
                let cluster = destination.cluster.name.clone();
                // Asked for a proof and not for the password: it was judged here.
                let proven = reported.is_none() && refused.code() == Some(ACCESS_DENIED);
                Err(Denied::Refused { refused, cluster, proven })
            }
        }
    }
}
