//! Both sides of SCRAM-SHA-256 (RFC 5802, RFC 7677), and its channel binding by `tls-server-end-point` (RFC 5929).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// The most iterations that a verifier may ask for.
pub const ITERATIONS_MAX: u32 = 10_000_000;

/// The most iterations that a server may ask of us. It costs it nothing to ask, and us a hash each.
const ITERATIONS_OF_SERVER_MAX: u32 = 100_000;

/// The longest message of a peer that is looked at.
const MESSAGE_BYTES_MAX: usize = 2048;
const KEY_BYTES: usize = 32;
const MOCK_SALT_BYTES: usize = 16;
/// The only kind of channel binding that servers know.
const END_POINT: &str = "p=tls-server-end-point";
/// What a server of today uses unless told otherwise, so an unknown user looks like the others.
const ITERATIONS: u32 = 4096;

type Key = [u8; KEY_BYTES];

/// Why a client was not let in, or does not trust the server. Only the operator may see the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its message is not one of SCRAM.
    #[error("malformed SCRAM message")]
    Malformed,
    /// It wants channel binding that was not offered, has another than ours, or was told that there is none.
    #[error("the client's SCRAM channel binding does not match")]
    ChannelBinding,
    /// It wants an extension or an authorization identity.
    #[error("the client uses an unsupported SCRAM attribute")]
    Unsupported,
    /// It answered another challenge than ours.
    #[error("SCRAM nonce does not match")]
    Nonce,
    /// The password is wrong, or nobody has that name.
    #[error("wrong password or unknown user")]
    Proof,
    /// The messages came out of order.
    #[error("SCRAM message out of order")]
    Order,
    /// The server asks for more iterations than anybody needs.
    #[error("SCRAM iteration count exceeds the maximum allowed")]
    Iterations,
    /// The server ended the exchange with an error of SCRAM's own.
    #[error("SCRAM error of the server")]
    Server,
    /// The server does not know the verifier: it is not the one that the password was given to.
    #[error("SCRAM verification error")]
    Signature,
}

/// What a server stores instead of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
    doomed: bool,
}

/// The secret with which a client can log in wherever the same verifier is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey(Key);

/// What is enough to log in by SCRAM wherever one verifier is stored, and to know that server: its client's key, which a
/// login reveals, and the server's own.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    client: ClientKey,
    server: Key,
}

impl ScramKeys {
    /// Of a client that has just proven itself against `verifier`.
    pub fn new(client: ClientKey, verifier: &Verifier) -> Self {
        Self { client, server: verifier.server_key }
    }
}

impl Drop for ScramKeys {
    fn drop(&mut self) {
        self.server.zeroize();
    }
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramKeys(…)")
    }
}

impl ClientKey {
    /// The key itself.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl Drop for ClientKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.stored_key.zeroize();
        self.server_key.zeroize();
    }
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientKey(…)")
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({} iterations, …)", self.iterations)
    }
}

impl Verifier {
    /// Reads the form that `pg_authid` keeps: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("SCRAM-SHA-256$")?.split(['$', ':']);
        let iterations = parts.next()?.parse().ok().filter(|i| (1..=ITERATIONS_MAX).contains(i))?;
        let salt = STANDARD.decode(parts.next()?).ok().filter(|salt| !salt.is_empty())?;
        let stored_key = Key::try_from(STANDARD.decode(parts.next()?).ok()?).ok()?;
        let server_key = Key::try_from(STANDARD.decode(parts.next()?).ok()?).ok()?;
        parts.next().is_none().then_some(Self { iterations, salt, stored_key, server_key, doomed: false })
    }

    /// Derives it from a password. Passwords outside ASCII are taken as they are: SASLprep changes few of them
    /// (compatibility forms, odd spaces), and for those a verifier of the server is needed.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = Zeroizing::new(salted_password(password, salt, iterations));
        let client_key = Zeroizing::new(hmac(&*salted, &[b"Client Key"]));
        Self {
            iterations: iterations.max(1),
            salt: salt.to_vec(),
            stored_key: hash(&*client_key),
            server_key: hmac(&*salted, &[b"Server Key"]),
            doomed: false,
        }
    }

    /// A verifier that nobody passes, for a user who does not exist. The same user always sees the same salt, so it
    /// cannot be told from a real one without `secret`.
    pub fn doomed(secret: &[u8], user: &[u8]) -> Self {
        let salt = hmac(secret, &[b"salt", user]);
        Self {
            iterations: ITERATIONS,
            salt: salt.iter().copied().take(MOCK_SALT_BYTES).collect(),
            stored_key: hmac(secret, &[b"stored", user]),
            server_key: hmac(secret, &[b"server", user]),
            doomed: true,
        }
    }

    /// The server's half of the secret: what proves the server to the client.
    pub fn server_key(&self) -> &[u8; KEY_BYTES] {
        &self.server_key
    }
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        write!(f, "SCRAM-SHA-256${}:{}", self.iterations, encode(&self.salt))?;
        write!(f, "${}:{}", encode(&self.stored_key), encode(&self.server_key))
    }
}

enum State {
    First,
    Final { client_first_bare: String, server_first: String, nonce: String, bound: Vec<u8> },
    Done,
}

/// One exchange. The nonce is an argument: printable ASCII without a comma, and never used before.
pub struct ScramServer {
    verifier: Verifier,
    server_nonce: String,
    binding: Option<Vec<u8>>,
    state: State,
}

impl ScramServer {
    /// Begins an exchange.
    pub fn new(verifier: Verifier, server_nonce: &str) -> Self {
        Self { verifier, server_nonce: server_nonce.to_owned(), binding: None, state: State::First }
    }

    /// The client was offered channel binding to a certificate with this hash.
    #[must_use]
    pub fn offering(mut self, end_point: Option<&[u8]>) -> Self {
        self.binding = end_point.map(<[u8]>::to_vec);
        self
    }

    /// Takes the client's first message and gives the server's first; `plus` where it chose the mechanism with channel
    /// binding. The user name in it is ignored, as PostgreSQL ignores it: the startup packet named the user.
    pub fn first(&mut self, client_first: &[u8], plus: bool) -> Result<Vec<u8>, Refused> {
        let State::First = std::mem::replace(&mut self.state, State::Done) else {
            return Err(Refused::Order);
        };
        let message = text(client_first)?;
        let (binding, rest) = message.split_once(',').ok_or(Refused::Malformed)?;
        let mut bound = format!("{binding},,").into_bytes();
        match (binding, &self.binding) {
            (END_POINT, Some(hash)) if plus => bound.extend_from_slice(hash),
            ("n" | "y", _) if plus => return Err(Refused::Malformed),
            ("n", _) | ("y", None) => {}
            // Who says that we offered none was lied to.
            ("y", Some(_)) => return Err(Refused::ChannelBinding),
            _ if binding.starts_with("p=") => return Err(Refused::ChannelBinding),
            _ => return Err(Refused::Malformed),
        }
        let (identity, bare) = rest.split_once(',').ok_or(Refused::Malformed)?;
        if !identity.is_empty() {
            return Err(Refused::Unsupported);
        }
        let mut attributes = bare.split(',');
        match attributes.next() {
            Some(name) if name.starts_with("n=") => {}
            Some(extension) if extension.starts_with("m=") => return Err(Refused::Unsupported),
            _ => return Err(Refused::Malformed),
        }
        let client_nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let client_nonce = client_nonce.filter(|nonce| is_printable(nonce)).ok_or(Refused::Malformed)?;
        let nonce = format!("{client_nonce}{}", self.server_nonce);
        let salt = STANDARD.encode(&self.verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", self.verifier.iterations);
        self.state =
            State::Final { client_first_bare: bare.to_owned(), server_first: server_first.clone(), nonce, bound };
        Ok(server_first.into_bytes())
    }

    /// Takes the client's last message and gives the server's last, and the key that the proof reveals.
    pub fn finish(&mut self, client_final: &[u8]) -> Result<(Vec<u8>, ClientKey), Refused> {
        let State::Final { client_first_bare, server_first, nonce, bound } =
            std::mem::replace(&mut self.state, State::Done)
        else {
            return Err(Refused::Order);
        };
        let message = text(client_final)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Refused::Malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|binding| binding.strip_prefix("c="));
        if binding.ok_or(Refused::Malformed)? != STANDARD.encode(bound) {
            return Err(Refused::ChannelBinding);
        }
        let answered = attributes.next().and_then(|answered| answered.strip_prefix("r="));
        if !same(answered.ok_or(Refused::Malformed)?.as_bytes(), nonce.as_bytes()) {
            return Err(Refused::Nonce);
        }
        let proof = STANDARD.decode(proof).map_err(|_| Refused::Malformed)?;
        let proof = Key::try_from(proof).map_err(|_| Refused::Malformed)?;

        let signed: [&[u8]; 5] =
            [client_first_bare.as_bytes(), b",", server_first.as_bytes(), b",", without_proof.as_bytes()];
        let mut client_key = ClientKey(hmac(&self.verifier.stored_key, &signed));
        for (byte, proof) in client_key.0.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        let proven = same(&hash(&client_key.0), &self.verifier.stored_key);
        if !proven || self.verifier.doomed {
            return Err(Refused::Proof);
        }
        let signature = STANDARD.encode(hmac(&self.verifier.server_key, &signed));
        Ok((format!("v={signature}").into_bytes(), client_key))
    }
}

/// The client's side of one exchange.
pub struct ScramClient {
    secret: Secret,
    nonce: String,
    binding: Binding,
}

enum Secret {
    Password(Zeroizing<Vec<u8>>),
    Keys(ScramKeys),
}

/// What the client knows of the channel, and of what the server knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// It is none that could be bound to.
    #[default]
    None,
    /// It could be, and the server does not offer it.
    NotOffered,
    /// The hash of the server's certificate, which the server has to confirm.
    EndPoint(Vec<u8>),
}

impl Binding {
    fn flag(&self) -> &'static str {
        match self {
            Self::None => "n",
            Self::NotOffered => "y",
            Self::EndPoint(_) => END_POINT,
        }
    }

    fn bound(&self) -> Vec<u8> {
        let mut bound = format!("{},,", self.flag()).into_bytes();
        if let Self::EndPoint(hash) = self {
            bound.extend_from_slice(hash);
        }
        bound
    }
}

/// What the server must say at last, to show that it has the verifier.
pub struct ServerSignature(Key);

impl ScramClient {
    /// Begins an exchange. The nonce is as in [`ScramServer::new`].
    pub fn new(password: &[u8], nonce: &str) -> Self {
        // As in the server, a password that SASLprep cannot take is taken as it is.
        let prepared = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
        let password = prepared.map_or_else(|| password.to_vec(), |text| text.into_owned().into_bytes());
        Self::with(Secret::Password(Zeroizing::new(password)), nonce)
    }

    /// Begins an exchange with what another one revealed.
    pub fn from_keys(keys: &ScramKeys, nonce: &str) -> Self {
        Self::with(Secret::Keys(keys.clone()), nonce)
    }

    fn with(secret: Secret, nonce: &str) -> Self {
        Self { secret, nonce: nonce.to_owned(), binding: Binding::None }
    }

    /// Binds it to the channel.
    #[must_use]
    pub fn bound(mut self, binding: Binding) -> Self {
        self.binding = binding;
        self
    }

    /// The first message. It names no user: the startup packet did.
    pub fn first(&self) -> String {
        format!("{},,{}", self.binding.flag(), self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Takes the server's first message; the answer to it, and what the server must say to that.
    pub fn answer(self, server_first: &[u8]) -> Result<(String, ServerSignature), Refused> {
        let message = text(server_first)?;
        let mut attributes = message.split(',');
        let mut next = |name| attributes.next().and_then(|attribute| attribute.strip_prefix(name));
        let nonce = next("r=").filter(|nonce| is_printable(nonce)).ok_or(Refused::Malformed)?;
        let salt = next("s=").and_then(|salt| STANDARD.decode(salt).ok()).ok_or(Refused::Malformed)?;
        let iterations = next("i=").and_then(|count| count.parse().ok()).ok_or(Refused::Malformed)?;
        if attributes.next().is_some() || iterations == 0 {
            return Err(Refused::Malformed);
        }
        if !nonce.starts_with(&self.nonce) {
            return Err(Refused::Nonce);
        }
        let ScramKeys { client: ref key, server: ref server_key } = match &self.secret {
            Secret::Password(_) if iterations > ITERATIONS_OF_SERVER_MAX => return Err(Refused::Iterations),
            Secret::Password(password) => {
                let salted = Zeroizing::new(salted_password(password, &salt, iterations));
                let client = ClientKey(hmac(&*salted, &[b"Client Key"]));
                ScramKeys { client, server: hmac(&*salted, &[b"Server Key"]) }
            }
            Secret::Keys(keys) => keys.clone(),
        };
        let mut proof = key.clone();
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(self.binding.bound()));
        let signed = format!("{},{message},{without_proof}", self.bare());
        let mask = hmac(&hash(&proof.0), &[signed.as_bytes()]);
        for (byte, mask) in proof.0.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        let answer = format!("{without_proof},p={}", STANDARD.encode(proof.0));
        Ok((answer, ServerSignature(hmac(server_key, &[signed.as_bytes()]))))
    }
}

impl ServerSignature {
    /// Takes the server's last message. Until this was said, anybody could be at the other end.
    pub fn check(&self, server_final: &[u8]) -> Result<(), Refused> {
        let message = text(server_final)?;
        if message.starts_with("e=") {
            return Err(Refused::Server);
        }
        let signature = message.strip_prefix("v=").and_then(|signature| STANDARD.decode(signature).ok());
        if same(&signature.ok_or(Refused::Malformed)?, &self.0) { Ok(()) } else { Err(Refused::Signature) }
    }
}

fn text(message: &[u8]) -> Result<&str, Refused> {
    if message.len() > MESSAGE_BYTES_MAX || memchr::memchr(0, message).is_some() {
        return Err(Refused::Malformed);
    }
    std::str::from_utf8(message).map_err(|_| Refused::Malformed)
}

fn is_printable(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Compares without telling by its time where the difference is.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

fn hash(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // HMAC hashes a key that is longer than a block; done here, no key can be refused.
    const BLOCK_BYTES: usize = 64;
    let mut block = Zeroizing::new([0; BLOCK_BYTES]);
    let hashed = hash(key);
    let short = if key.len() > BLOCK_BYTES { hashed.as_slice() } else { key };
    for (slot, byte) in block.iter_mut().zip(short) {
        *slot = *byte;
    }
    Hmac::new(&(*block).into())
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// PBKDF2 with one block of output.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let keyed = keyed(password);
    let step = |parts: &[&[u8]]| -> Key {
        let mut mac = keyed.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    };
    let mut block = step(&[salt, &[0, 0, 0, 1]]);
    let mut salted = block;
    for _ in 1..iterations {
        block = step(&[&block]);
        for (sum, byte) in salted.iter_mut().zip(block) {
            *sum ^= byte;
        }
    }
    salted
}
