//! The client's side of a login: from the server's greeting until it says welcome.
//!
//! Bytes come in and bytes go out: the socket, the deadline and the randomness of RSA are the caller's.

use std::fmt;

use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use super::auth::{self, Step, caching_sha2, ed25519, native};
use super::handshake::{Capabilities, Greeting, NONCE_BYTES, Response};
use super::{frame, reply};
use crate::error::Malformed;
use crate::progress::Progress;

/// A packet of a login is never larger than this.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// A server may ask for a proof by another plugin that many times: accounts of MariaDB may have several.
const STEPS_MAX: usize = 16;

/// No plugin has a longer name.
const PLUGIN_BYTES_SHOWN: usize = 64;

/// What is agreed between client and server and changes what the bytes of statements and results mean: a server that
/// lacks one of them cannot serve a client that has it.
const BINDING: Capabilities = Capabilities::DEPRECATE_EOF
    .with(Capabilities::QUERY_ATTRIBUTES)
    .with(Capabilities::MULTI_RESULTS)
    .with(Capabilities::PS_MULTI_RESULTS);

/// What no server is asked for because a client did: its bytes are taken as they are, and TLS is agreed with each side.
const NEVER: Capabilities = Capabilities::COMPRESS
    .with(Capabilities::ZSTD)
    .with(Capabilities::SSL)
    .with(Capabilities::MULTI_FACTOR)
    .with(Capabilities::PROGRESS)
    .with(Capabilities::CONNECT_WITH_DB)
    .with(Capabilities::CONNECT_ATTRS);

/// What every server is asked for.
const ALWAYS: Capabilities = Capabilities::LONG_PASSWORD
    .with(Capabilities::PROTOCOL_41)
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::TRANSACTIONS);

/// What proves who a client is, to any server that has the same account.
#[derive(Clone)]
pub enum Credential {
    /// The password itself; empty where the account has none.
    Clear(Zeroizing<Vec<u8>>),
    /// The key of an account of the plugin `mysql_native_password`.
    NativeKey(native::Key),
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Clear(_) => "Clear(***)",
            Self::NativeKey(_) => "NativeKey(***)",
        })
    }
}

/// Who logs in: all that is needed to log in once more, on any cluster.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user.
    pub user: Vec<u8>,
    /// What proves it.
    pub credential: Credential,
    /// What the client asked for, as far as it was offered.
    pub capabilities: Capabilities,
    /// The collation that the client named.
    pub charset: u8,
    /// The client's connection attributes, as they came.
    pub attributes: Bytes,
    /// The largest packet that the client takes.
    pub max_packet: u32,
    /// It is to log in without TLS where that is only preferred: the server judges the account by its connection.
    pub plain: bool,
}

/// What lies between us and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A network, where others may read: no password goes there as it is.
    Network,
    /// The server's own Unix socket.
    Socket,
}

/// Whether the connection is to go on in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// No.
    Never,
    /// Where the server offers it.
    WhereOffered,
    /// Yes, or there is no login.
    Always,
}

/// Encrypts with the key that comes first, as [`auth::seal`] does; its randomness is the caller's.
pub type Seal = fn(&[u8], &[u8]) -> Option<Vec<u8>>;

/// What a server told of the session that it let us into.
#[derive(Debug)]
pub struct Welcome {
    /// Its greeting, whole.
    pub greeting: Greeting,
    /// What was agreed.
    pub capabilities: Capabilities,
    /// The session's status flags.
    pub status: u16,
    /// The body of the OK packet that ended the login.
    pub okay: Bytes,
}

/// Why no session came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The server said no; the body of its ERR packet.
    #[error("the server refused the login")]
    Refused(Bytes),
    /// What it sent is not the protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It asks for what we do not have or cannot do, or lacks what is needed.
    #[error("the server {why}")]
    Unsupported {
        /// What it does.
        why: &'static str,
        /// The login plugin that it spoke of last.
        plugin: Bytes,
    },
    /// It asks for the password itself, or for what only who knows it can make.
    #[error("the server asks for the password itself, and only the key of mysql_native_password is known")]
    PasswordNeeded,
    /// It asks for a login plugin that we do not have; its name, as far as that is readable.
    #[error("the server asks for the login plugin {0:?}, which is not supported")]
    UnknownPlugin(String),
}

/// How far the proofs have come.
enum State {
    /// The server speaks first.
    Ungreeted,
    /// TLS is asked for; once it stands, this is said.
    Encrypting(Exchange, Zeroizing<Vec<u8>>),
    /// The plugin's proof is sent, or its answer.
    Proven(Exchange),
    /// The server was asked for the key to encrypt the password with.
    KeyWanted(Exchange),
    /// The login has succeeded or failed.
    Over,
}

/// What both sides have said so far.
struct Exchange {
    greeting: Greeting,
    capabilities: Capabilities,
    plugin: Bytes,
    nonce: [u8; NONCE_BYTES],
    steps: usize,
}

/// What follows from a packet of the server.
enum Next {
    Say(State, Zeroizing<Vec<u8>>),
    /// This is said, and nothing more before the connection is encrypted.
    Encrypt(State, Vec<u8>),
    Listen(State),
    Welcome(Welcome),
}

/// One login.
pub struct Login<'a> {
    who: Client<'a>,
    state: State,
    sequence: u8,
}

/// Who logs in, and how.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    /// Who.
    pub identity: &'a Identity,
    /// What the server is asked for, if it has it, besides what the client asked for.
    pub also: Capabilities,
    /// The database to begin in.
    pub database: Option<&'a str>,
    /// How a password may go to the server.
    pub channel: Channel,
    /// Whether it goes there in TLS.
    pub encryption: Encryption,
    /// How it is encrypted.
    pub seal: Seal,
}

impl<'a> Login<'a> {
    /// Begins with nothing: the server speaks first.
    pub fn new(who: Client<'a>) -> Self {
        Self { who, state: State::Ungreeted, sequence: 0 }
    }

    /// Takes whole packets off `incoming` and appends what must be sent to `outgoing`. What is left of `incoming` when
    /// the welcome comes is the session's. Where it asks for encryption, it goes on when it is called behind that.
    pub fn feed(&mut self, incoming: &mut BytesMut, outgoing: &mut BytesMut) -> Result<Progress<Welcome>, Failed> {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Encrypting(exchange, response) => {
                frame::put(outgoing, &mut self.sequence, &response);
                State::Proven(exchange)
            }
            state => state,
        };
        while let Some(payload) = frame::take(incoming, PACKET_BYTES_MAX)? {
            self.sequence = payload.sequence.wrapping_add(1);
            let state = std::mem::replace(&mut self.state, State::Over);
            self.state = match state.next(payload.body, &self.who)? {
                Next::Say(state, body) => {
                    frame::put(outgoing, &mut self.sequence, &body);
                    state
                }
                Next::Encrypt(state, body) => {
                    frame::put(outgoing, &mut self.sequence, &body);
                    self.state = state;
                    return Ok(Progress::Encrypt);
                }
                Next::Listen(state) => state,
                Next::Welcome(welcome) => return Ok(Progress::Done(welcome)),
            };
        }
        Ok(Progress::More)
    }
}

impl Client<'_> {
    /// What is asked of this server for this client; `None` where it lacks what the client was promised.
    fn agree(&self, offered: Capabilities) -> Option<Capabilities> {
        let wanted = self.identity.capabilities;
        if (wanted & BINDING).without(offered) != Capabilities::default() {
            return None;
        }
        let mut agreed = ((wanted | self.also | Capabilities::PLUGIN_AUTH) & offered).without(NEVER) | ALWAYS;
        if self.encryption != Encryption::Never {
            agreed |= Capabilities::SSL & offered;
        }
        if self.database.is_some() {
            agreed |= Capabilities::CONNECT_WITH_DB;
        }
        if !self.identity.attributes.is_empty() {
            agreed |= Capabilities::CONNECT_ATTRS & offered;
        }
        Some(agreed)
    }
}

impl State {
    /// The only way from one state to another.
    fn next(self, body: Bytes, who: &Client<'_>) -> Result<Next, Failed> {
        let (mut exchange, key_wanted) = match self {
            Self::Ungreeted if body.first() == Some(&reply::ERR) => return Err(Failed::Refused(body)),
            Self::Ungreeted => return Exchange::begin(&body, who),
            Self::Proven(exchange) => (exchange, false),
            Self::KeyWanted(exchange) => (exchange, true),
            Self::Encrypting(..) | Self::Over => {
                return Err(unsupported("goes on with a login that is over", &Bytes::new()));
            }
        };
        exchange.steps = exchange.steps.saturating_add(1);
        if exchange.steps > STEPS_MAX {
            return Err(exchange.cannot("does not come to an end with the login"));
        }
        match Step::parse(body)? {
            Step::Ok(okay) => {
                let Exchange { greeting, capabilities, .. } = exchange;
                Ok(Next::Welcome(Welcome { status: reply::Okay::status_of(&okay)?, greeting, capabilities, okay }))
            }
            Step::Err(body) => Err(Failed::Refused(body)),
            Step::Switch { plugin, data } => exchange.switch(plugin, &data, who),
            Step::MoreData(key) if key_wanted => exchange.seal(&key, who),
            Step::MoreData(data) => exchange.go_on(&data, who),
            Step::OldSwitch => Err(exchange.cannot("asks for a proof from before version 4.1")),
            Step::NextFactor => Err(exchange.cannot("asks for a second factor")),
        }
    }
}

impl Exchange {
    /// Begins with the server's own plugin where we can speak it, else with that of our credential.
    fn begin(greeting: &[u8], who: &Client<'_>) -> Result<Next, Failed> {
        let identity = who.identity;
        let greeting = Greeting::parse(greeting)?;
        let agreed = who.agree(greeting.capabilities);
        let capabilities =
            agreed.ok_or_else(|| unsupported("lacks a capability that the client uses", &greeting.plugin))?;
        if who.encryption == Encryption::Always && !capabilities.has(Capabilities::SSL) {
            return Err(unsupported("does not offer TLS, which the configuration requires", &greeting.plugin));
        }
        let plugin = match identity.credential {
            Credential::Clear(_) if greeting.plugin == auth::CACHING_SHA2 => auth::CACHING_SHA2,
            _ => auth::NATIVE,
        };
        let plugin = Bytes::from_static(plugin);
        let exchange = Self { nonce: greeting.nonce, greeting, capabilities, plugin, steps: 0 };
        let response = Response {
            capabilities,
            extended: 0,
            max_packet: identity.max_packet,
            charset: identity.charset,
            user: Bytes::copy_from_slice(&identity.user),
            proof: exchange.prove(who).map_or_else(|_| Bytes::new(), |proof| Bytes::copy_from_slice(&proof)),
            database: who.database.map(|name| Bytes::copy_from_slice(name.as_bytes())),
            plugin: exchange.plugin.clone(),
            attributes: identity.attributes.clone(),
            zstd_level: None,
        };
        let mut out = BytesMut::new();
        response.encode(&mut out);
        let said = Zeroizing::new(out.to_vec());
        if !exchange.is_encrypted() {
            return Ok(Next::Say(State::Proven(exchange), said));
        }
        let mut request = BytesMut::new();
        response.encode_ssl_request(&mut request);
        Ok(Next::Encrypt(State::Encrypting(exchange, said), request.to_vec()))
    }

    /// Whether what is said behind the greeting is said in TLS.
    fn is_encrypted(&self) -> bool {
        self.capabilities.has(Capabilities::SSL)
    }

    /// Whether nobody between the ends can read along.
    fn is_private(&self, who: &Client<'_>) -> bool {
        self.is_encrypted() || who.channel == Channel::Socket
    }

    fn prove(&self, who: &Client<'_>) -> Result<Zeroizing<Vec<u8>>, Failed> {
        let proof = match (&self.plugin[..], &who.identity.credential) {
            (auth::NATIVE, Credential::NativeKey(key)) => key.prove(&self.nonce).to_vec(),
            (auth::NATIVE | auth::CACHING_SHA2, Credential::Clear(password)) if password.is_empty() => Vec::new(),
            (auth::NATIVE, Credential::Clear(password)) => native::Key::of(password).prove(&self.nonce).to_vec(),
            (auth::CACHING_SHA2, Credential::Clear(password)) => caching_sha2::prove(password, &self.nonce).to_vec(),
            _ => return Err(Failed::PasswordNeeded),
        };
        Ok(Zeroizing::new(proof))
    }

    /// The answer to a server that asks for another plugin, or for the same one against another nonce.
    fn switch(mut self, plugin: Bytes, data: &[u8], who: &Client<'_>) -> Result<Next, Failed> {
        self.plugin = plugin;
        if let Some(nonce) = auth::nonce_of(data) {
            self.nonce = nonce;
        }
        match &self.plugin[..] {
            auth::NATIVE | auth::CACHING_SHA2 => {
                let proof = self.prove(who)?;
                Ok(Next::Say(State::Proven(self), proof))
            }
            auth::SHA256 if password(who)?.is_empty() => Ok(Next::Say(State::Proven(self), Zeroizing::new(vec![0]))),
            // This plugin takes a socket for a network.
            auth::SHA256 if !self.is_encrypted() => Ok(self.ask_key(auth::KEY_WANTED_SHA256)),
            auth::SHA256 => self.say_password(who),
            auth::CLEAR if self.is_private(who) => self.say_password(who),
            auth::CLEAR => {
                Err(self.cannot("asks for the password in clear text, which goes over TLS or its Unix socket only"))
            }
            auth::ED25519 => {
                let challenge = data.first_chunk();
                let challenge = challenge.ok_or_else(|| self.cannot("sent a challenge that is too short"))?;
                let proof = Zeroizing::new(ed25519::prove(password(who)?, challenge).to_vec());
                Ok(Next::Say(State::Proven(self), proof))
            }
            _ => Err(Failed::UnknownPlugin(legible(&self.plugin))),
        }
    }

    /// The answer to the plugin's next words, where it wants one.
    fn go_on(self, data: &[u8], who: &Client<'_>) -> Result<Next, Failed> {
        password(who)?;
        match (&self.plugin[..], data) {
            (auth::CACHING_SHA2, [auth::FAST_OK]) => Ok(Next::Listen(State::Proven(self))),
            (auth::CACHING_SHA2, [auth::FULL_NEEDED]) if self.is_private(who) => self.say_password(who),
            (auth::CACHING_SHA2, [auth::FULL_NEEDED]) => Ok(self.ask_key(auth::KEY_WANTED)),
            _ => Err(self.cannot("asks for more than its login plugin knows")),
        }
    }

    fn say_password(self, who: &Client<'_>) -> Result<Next, Failed> {
        Ok(Next::Say(State::Proven(self), closed(password(who)?)))
    }

    fn ask_key(self, word: u8) -> Next {
        Next::Say(State::KeyWanted(self), Zeroizing::new(vec![word]))
    }

    /// The password, encrypted with the key that the server sent.
    fn seal(self, key: &[u8], who: &Client<'_>) -> Result<Next, Failed> {
        let masked = auth::mask(&closed(password(who)?), &self.nonce);
        let sealed = (who.seal)(key, &masked);
        let sealed = sealed.ok_or_else(|| self.cannot("sent a public key that cannot be used"))?;
        Ok(Next::Say(State::Proven(self), Zeroizing::new(sealed)))
    }

    fn cannot(&self, why: &'static str) -> Failed {
        unsupported(why, &self.plugin)
    }
}

fn password<'a>(who: &'a Client<'_>) -> Result<&'a [u8], Failed> {
    match &who.identity.credential {
        Credential::Clear(password) => Ok(password),
        Credential::NativeKey(_) => Err(Failed::PasswordNeeded),
    }
}

fn unsupported(why: &'static str, plugin: &Bytes) -> Failed {
    Failed::Unsupported { why, plugin: plugin.clone() }
}

/// What a server sent as a name, fit to be shown.
fn legible(name: &[u8]) -> String {
    let shown = name.iter().take(PLUGIN_BYTES_SHOWN).map(|byte| if byte.is_ascii_graphic() { *byte } else { b'?' });
    shown.map(char::from).collect()
}

/// The password with its closing zero.
fn closed(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut closed = Zeroizing::new(Vec::with_capacity(password.len().saturating_add(1)));
    closed.extend_from_slice(password);
    closed.push(0);
    closed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a test that panics has found something")]

    use super::*;

    const MODERN: Capabilities = Capabilities::DEPRECATE_EOF
        .with(Capabilities::SESSION_TRACK)
        .with(Capabilities::CONNECT_ATTRS)
        .with(Capabilities::COMPRESS)
        .with(Capabilities::LOCAL_FILES);

    fn agree(wanted: Capabilities, offered: Capabilities, database: Option<&str>) -> Option<Capabilities> {
        let identity = Identity {
            user: Vec::new(),
            credential: Credential::Clear(Zeroizing::default()),
            capabilities: wanted,
            charset: 0,
            attributes: Bytes::new(),
            max_packet: 0,
            plain: false,
        };
        let also = Capabilities::SESSION_TRACK;
        let (channel, encryption) = (Channel::Network, Encryption::Never);
        Client { identity: &identity, also, database, channel, encryption, seal: |_, _| None }.agree(offered)
    }

    #[test]
    fn a_server_is_asked_for_what_the_client_asked_and_for_nothing_that_changes_the_bytes() {
        let wanted = Capabilities::LOCAL_FILES | Capabilities::COMPRESS | Capabilities::SSL;
        let agreed = agree(wanted, MODERN, Some("shop")).expect("agreed");
        assert!(agreed.has(Capabilities::LOCAL_FILES | Capabilities::CONNECT_WITH_DB));
        assert!(agreed.has(Capabilities::SESSION_TRACK), "the caller's own wish");
        for never in
            [Capabilities::COMPRESS, Capabilities::SSL, Capabilities::DEPRECATE_EOF, Capabilities::CONNECT_ATTRS]
        {
            assert!(!agreed.has(never), "{never:?}");
        }
    }

    #[test]
    fn a_server_that_lacks_what_the_clients_results_rely_on_is_refused() {
        let old = MODERN.without(Capabilities::DEPRECATE_EOF);
        assert!(agree(Capabilities::DEPRECATE_EOF, old, None).is_none());
        assert!(agree(Capabilities::DEPRECATE_EOF, MODERN, None).is_some());
        // What a server lacks besides is only missed by whoever uses it.
        assert!(agree(Capabilities::LOCAL_FILES, Capabilities::default(), None).is_some());
    }
}
