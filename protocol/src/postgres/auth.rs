//! How a client proves who it is: the demands, the answers, and both sides of SCRAM-SHA-256.

use bytes::{BufMut, Bytes, BytesMut};
use md5::{Digest, Md5};

use crate::error::Malformed;
use crate::postgres::{command, frame, reply};
use crate::reader::Reader;

mod scram;

pub use scram::{ClientKey, ITERATIONS_MAX, Refused, ScramClient, ScramServer, ServerSignature, Verifier};

/// The only mechanism that is offered.
pub const SCRAM_SHA_256: &[u8] = b"SCRAM-SHA-256";

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

    /// The demand for SCRAM-SHA-256.
    pub fn scram() -> Self {
        Self::Sasl { mechanisms: vec![Bytes::from_static(SCRAM_SHA_256)] }
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

/// The proof that `AuthenticationMD5Password` asks for.
pub fn md5(user: &[u8], password: &[u8], salt: [u8; 4]) -> String {
    let hash = |parts: [&[u8]; 2]| -> String {
        let digest = parts.into_iter().fold(Md5::new(), Md5::chain_update).finalize();
        digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    format!("md5{}", hash([hash([password, user]).as_bytes(), &salt]))
}

/// The password of a PasswordMessage.
pub fn password(body: Bytes) -> Result<Bytes, Malformed> {
    let mut reader = Reader::new("PasswordMessage", body);
    let password = reader.cstr()?;
    reader.end()?;
    Ok(password)
}
