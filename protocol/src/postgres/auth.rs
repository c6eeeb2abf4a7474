//! How a client proves who it is: the demands, the answers, and both sides of SCRAM-SHA-256.

use bytes::{BufMut, Bytes, BytesMut};
use md5::{Digest, Md5};
use zeroize::Zeroizing;

use crate::error::Malformed;
use crate::postgres::{command, frame, reply};
use crate::reader::Reader;

mod scram;

use scram::same;

pub use scram::{
    Binding, ClientKey, ITERATIONS_MAX, Refused, ScramClient, ScramKeys, ScramServer, ServerSignature, Verifier,
};

/// The mechanism that every server has.
pub const SCRAM_SHA_256: &[u8] = b"SCRAM-SHA-256";
/// The same, bound to the server's certificate: over TLS only.
pub const SCRAM_SHA_256_PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";

const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// What a server asks of its client, or its success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthRequest {
    /// Welcome.
    Ok,
    /// The password as it is.
    Cleartext,
    /// The password hashed with this salt.
    Md5 {
        /// Four random bytes.
        salt: [u8; 4],
    },
    /// One of these mechanisms, the preferred one first.
    Sasl {
        /// Their names.
        mechanisms: Vec<Bytes>,
    },
    /// The next message of the exchange.
    SaslContinue(Bytes),
    /// The last message of the exchange.
    SaslFinal(Bytes),
    /// Something else: GSSAPI, SSPI, or what a newer server invents.
    Other(u32),
}

impl AuthRequest {
    /// Reads the body of an Authentication frame.
    pub fn parse(body: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new("Authentication", body);
        let request = match reader.get_u32()? {
            OK => Self::Ok,
            CLEARTEXT => Self::Cleartext,
            MD5 => Self::Md5 { salt: reader.get_u32()?.to_be_bytes() },
            SASL => {
                let mut mechanisms = Vec::new();
                loop {
                    let name = reader.cstr()?;
                    if name.is_empty() {
                        break;
                    }
                    mechanisms.push(name);
                }
                Self::Sasl { mechanisms }
            }
            SASL_CONTINUE => Self::SaslContinue(reader.take_rest()),
            SASL_FINAL => Self::SaslFinal(reader.take_rest()),
            other => return Ok(Self::Other(other)),
        };
        reader.end()?;
        Ok(request)
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        frame::put(out, reply::AUTHENTICATION, |out| match self {
            Self::Ok => out.put_u32(OK),
            Self::Cleartext => out.put_u32(CLEARTEXT),
            Self::Md5 { salt } => {
                out.put_u32(MD5);
                out.extend_from_slice(salt);
            }
            Self::Sasl { mechanisms } => {
                out.put_u32(SASL);
                for mechanism in mechanisms {
                    frame::put_cstr(out, mechanism);
                }
                out.put_u8(0);
            }
            Self::SaslContinue(data) => {
                out.put_u32(SASL_CONTINUE);
                out.extend_from_slice(data);
            }
            Self::SaslFinal(data) => {
                out.put_u32(SASL_FINAL);
                out.extend_from_slice(data);
            }
            Self::Other(code) => out.put_u32(*code),
        });
    }

    /// The demand for SCRAM-SHA-256, if it can be bound to the channel with that as the first choice.
    pub fn scram(can_bind: bool) -> Self {
        let bound = can_bind.then_some(SCRAM_SHA_256_PLUS);
        let mechanisms = bound.into_iter().chain([SCRAM_SHA_256]).map(Bytes::from_static);
        Self::Sasl { mechanisms: mechanisms.collect() }
    }
}

/// The first message of a client in a SASL exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslInitialResponse {
    /// The mechanism that it chose.
    pub mechanism: Bytes,
    /// What it says; none where the mechanism lets the server begin.
    pub data: Option<Bytes>,
}

impl SaslInitialResponse {
    /// Reads the body.
    pub fn parse(body: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new("SASLInitialResponse", body);
        let mechanism = reader.cstr()?;
        let data = match reader.get_i32()? {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| reader.malformed())?;
                Some(reader.slice(length)?)
            }
        };
        reader.end()?;
        Ok(Self { mechanism, data })
    }
}

impl SaslInitialResponse {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        frame::put(out, command::PASSWORD, |out| {
            frame::put_cstr(out, &self.mechanism);
            match &self.data {
                None => out.put_i32(-1),
                Some(data) => {
                    out.put_u32(u32::try_from(data.len()).unwrap_or(u32::MAX));
                    out.extend_from_slice(data);
                }
            }
        });
    }
}

/// What a server stores of a password for `AuthenticationMD5Password`, which is enough to log in with: 32 hexadecimal
/// digits. It is bound to the user's name.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Verifier(Zeroizing<String>);

impl std::fmt::Debug for Md5Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Md5Verifier(…)")
    }
}

impl Md5Verifier {
    /// Reads the form that `pg_authid` keeps: `md5` and the digits.
    pub fn parse(text: &str) -> Option<Self> {
        const DIGITS: usize = 32;
        let digits = text.strip_prefix("md5")?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (digits.len() == DIGITS && digits.bytes().all(is_digit)).then(|| Self(Zeroizing::new(digits.to_owned())))
    }

    /// Of a password.
    pub fn of(user: &[u8], password: &[u8]) -> Self {
        Self(Zeroizing::new(hex_md5([password, user])))
    }

    /// The proof that a server with this salt asks for.
    pub fn prove(&self, salt: [u8; 4]) -> Zeroizing<String> {
        Zeroizing::new(format!("md5{}", hex_md5([self.0.as_bytes(), &salt])))
    }

    /// Whether a client's proof is right.
    pub fn check(&self, proof: &[u8], salt: [u8; 4]) -> bool {
        same(self.prove(salt).as_bytes(), proof)
    }
}

fn hex_md5(parts: [&[u8]; 2]) -> String {
    let digest = parts.into_iter().fold(Md5::new(), Md5::chain_update).finalize();
    digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// What proves who logs in, to any server that has the same role.
#[derive(Clone)]
pub enum Credential {
    /// The password itself, by whatever method the server asks for.
    Password(Zeroizing<Vec<u8>>),
    /// The same, which a client has shown over TLS: nobody else is to read it.
    Shown(Zeroizing<Vec<u8>>),
    /// What a SCRAM login revealed: by SCRAM, where the same verifier is stored.
    Scram(ScramKeys),
    /// What the server stores of an MD5 password: by that method.
    Md5(Md5Verifier),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(***)",
            Self::Shown(_) => "Shown(***)",
            Self::Scram(_) => "Scram(***)",
            Self::Md5(_) => "Md5(***)",
        })
    }
}

impl Credential {
    /// The password, as it is.
    pub fn password(password: &[u8]) -> Self {
        Self::Password(Zeroizing::new(password.to_vec()))
    }
}

/// The password of a PasswordMessage.
pub fn password(body: Bytes) -> Result<Bytes, Malformed> {
    let mut reader = Reader::new("PasswordMessage", body);
    let password = reader.cstr()?;
    reader.end()?;
    Ok(password)
}
