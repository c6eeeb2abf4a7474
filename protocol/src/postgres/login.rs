//! The client's side of a login, behind the startup packet: proofs, then what the server tells until it is ready.
//!
//! Bytes come in and bytes go out: the socket, the deadline and the nonce are the caller's.

use bytes::{Bytes, BytesMut};

use super::auth::{
    self, AuthRequest, Binding, Credential, Md5Verifier, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, SaslInitialResponse,
    ScramClient, ServerSignature,
};
use super::{command, frame, reply};
use crate::error::Malformed;
use crate::progress::Progress;

/// A frame of a login is never larger than this.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Neither are all of them together: a server that tells notices without end never comes to the login's.
const BYTES_MAX: usize = 8 << 20;

/// Who logs in.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    /// The user, as the startup packet named it.
    pub user: &'a [u8],
    /// What proves it, where there is something.
    pub credential: Option<&'a Credential>,
    /// The hash of the server's certificate, where the connection can be bound to that.
    pub end_point: Option<&'a [u8]>,
    /// Nobody between the ends can read along.
    pub private: bool,
    /// The client's part of SCRAM's nonce: printable ASCII without a comma, and never used before.
    pub nonce: &'a str,
}

/// What a server told of the session before it was ready.
#[derive(Debug, Default)]
pub struct Welcome {
    /// The parameter statuses, in their order.
    pub parameters: Vec<(Bytes, Bytes)>,
    /// The server's pid and secret.
    pub key: reply::BackendKeyData,
    /// Notices, as whole frames.
    pub notices: BytesMut,
    /// It asked for a proof, and took it; a server that trusts everybody from here has judged nobody.
    pub proven: bool,
}

/// Why no session came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The server said no.
    #[error("the server refused the login")]
    Refused {
        /// Its error frame, whole.
        frame: Bytes,
        /// It had accepted the proof, if it asked for one, before it said so.
        welcomed: bool,
    },
    /// What it sent is not the protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Its side of SCRAM does not hold.
    #[error(transparent)]
    Scram(#[from] auth::Refused),
    /// It asks for a password, and there is none.
    #[error("the server asks for a password")]
    NoPassword,
    /// It asks for a password in clear that a client has shown over TLS, and others may read along.
    #[error("the server asks for the password in clear text, and the connection is not encrypted")]
    Public,
    /// It offers no mechanism of SASL that is spoken here.
    #[error("the server offers no SCRAM-SHA-256 login")]
    Mechanism,
    /// It asks for GSSAPI, SSPI, or what a newer server invents.
    #[error("the server asks for a kind of authentication that is not supported")]
    Method,
    /// It asks once more, or welcomes without the proof that it owes.
    #[error("the server's steps of the login are out of order")]
    OutOfOrder,
}

/// How far the proofs have come.
enum State {
    /// The server may ask for a proof, or welcome without one.
    Begun,
    /// SCRAM's first message is sent.
    Greeted(ScramClient),
    /// SCRAM's proof is sent, and the server owes its own.
    Proven(ServerSignature),
    /// What was asked is answered: nothing but a welcome may follow.
    Answered,
    /// The server has let us in.
    Welcomed,
    /// The login has succeeded or failed.
    Over,
}

impl State {
    /// The only way from one state to another. Appends the answer.
    fn next(self, request: AuthRequest, account: &Account<'_>, out: &mut BytesMut) -> Result<Self, Failed> {
        let credential = || account.credential.ok_or(Failed::NoPassword);
        Ok(match (self, request) {
            (Self::Begun | Self::Answered, AuthRequest::Ok) => Self::Welcomed,
            (Self::Begun, AuthRequest::Cleartext) => {
                match credential()? {
                    Credential::Password(password) => put(out, &[password, b"\0"]),
                    Credential::Shown(password) if account.private => put(out, &[password, b"\0"]),
                    Credential::Shown(_) => return Err(Failed::Public),
                    Credential::Scram(_) | Credential::Md5(_) => return Err(Failed::NoPassword),
                }
                Self::Answered
            }
            (Self::Begun, AuthRequest::Md5 { salt }) => {
                let proof = match credential()? {
                    Credential::Password(password) | Credential::Shown(password) => {
                        Md5Verifier::of(account.user, password).prove(salt)
                    }
                    Credential::Md5(verifier) => verifier.prove(salt),
                    Credential::Scram(_) => return Err(Failed::NoPassword),
                };
                put(out, &[proof.as_bytes(), b"\0"]);
                Self::Answered
            }
            (Self::Begun, AuthRequest::Sasl { mechanisms }) => {
                let offers = |name: &[u8]| mechanisms.iter().any(|mechanism| mechanism == name);
                let (mechanism, binding) = match account.end_point {
                    Some(hash) if offers(SCRAM_SHA_256_PLUS) => (SCRAM_SHA_256_PLUS, Binding::EndPoint(hash.to_vec())),
                    Some(_) => (SCRAM_SHA_256, Binding::NotOffered),
                    None => (SCRAM_SHA_256, Binding::None),
                };
                if !offers(mechanism) {
                    return Err(Failed::Mechanism);
                }
                let client = match credential()? {
                    Credential::Password(password) | Credential::Shown(password) => {
                        ScramClient::new(password, account.nonce)
                    }
                    Credential::Scram(keys) => ScramClient::from_keys(keys, account.nonce),
                    Credential::Md5(_) => return Err(Failed::NoPassword),
                };
                let client = client.bound(binding);
                let mechanism = Bytes::from_static(mechanism);
                SaslInitialResponse { mechanism, data: Some(client.first().into()) }.encode(out);
                Self::Greeted(client)
            }
            (Self::Greeted(client), AuthRequest::SaslContinue(challenge)) => {
                let (answer, signature) = client.answer(&challenge)?;
                put(out, &[answer.as_bytes()]);
                Self::Proven(signature)
            }
            (Self::Proven(signature), AuthRequest::SaslFinal(last)) => {
                signature.check(&last)?;
                Self::Answered
            }
            (Self::Begun, AuthRequest::Other(_)) => return Err(Failed::Method),
            _ => return Err(Failed::OutOfOrder),
        })
    }
}

/// One login.
pub struct Login<'a> {
    account: Account<'a>,
    state: State,
    welcome: Welcome,
    bytes: usize,
}

impl<'a> Login<'a> {
    /// Begins behind the startup packet, which the caller sends.
    pub fn new(account: Account<'a>) -> Self {
        Self { account, state: State::Begun, welcome: Welcome::default(), bytes: 0 }
    }

    /// Takes whole frames off `incoming` and appends what must be sent to `outgoing`. The welcome comes when the server
    /// is ready; what is left of `incoming` then is the session's.
    pub fn feed(&mut self, incoming: &mut BytesMut, outgoing: &mut BytesMut) -> Result<Progress<Welcome>, Failed> {
        while let Some(frame) = frame::take(incoming, FRAME_BYTES_MAX)? {
            self.bytes = self.bytes.saturating_add(frame.body.len()).saturating_add(frame::HEADER_BYTES);
            if self.bytes > BYTES_MAX {
                return Err(Malformed { what: "login", at: self.bytes, limit: BYTES_MAX }.into());
            }
            match frame.tag {
                reply::AUTHENTICATION => {
                    let state = std::mem::replace(&mut self.state, State::Over);
                    let answered = matches!(state, State::Answered);
                    self.state = state.next(AuthRequest::parse(frame.body)?, &self.account, outgoing)?;
                    self.welcome.proven |= answered && matches!(self.state, State::Welcomed);
                }
                reply::PARAMETER_STATUS => {
                    let status = reply::ParameterStatus::parse(frame.body)?;
                    self.welcome.parameters.push((status.name, status.value));
                }
                reply::BACKEND_KEY_DATA => self.welcome.key = reply::BackendKeyData::parse(frame.body)?,
                reply::READY_FOR_QUERY if matches!(self.state, State::Welcomed) => {
                    self.state = State::Over;
                    return Ok(Progress::Done(std::mem::take(&mut self.welcome)));
                }
                reply::READY_FOR_QUERY => return Err(Failed::OutOfOrder),
                reply::ERROR_RESPONSE => {
                    let mut whole = BytesMut::new();
                    put_whole(&mut whole, &frame);
                    let welcomed = matches!(self.state, State::Welcomed);
                    return Err(Failed::Refused { frame: whole.freeze(), welcomed });
                }
                reply::NOTICE_RESPONSE => put_whole(&mut self.welcome.notices, &frame),
                // NegotiateProtocolVersion, and whatever a newer server adds.
                _ => {}
            }
        }
        Ok(Progress::More)
    }
}

/// Appends a message of the exchange.
fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    frame::put(out, command::PASSWORD, |out| parts.iter().for_each(|part| out.extend_from_slice(part)));
}

fn put_whole(out: &mut BytesMut, frame: &frame::Frame) {
    frame::put(out, frame.tag, |out| out.extend_from_slice(&frame.body));
}
