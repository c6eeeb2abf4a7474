//! What the proxy says itself when it cannot go on.

use bytes::{BufMut, BytesMut};

use crate::postgres::{frame, reply};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The session ends.
    Fatal,
    /// Worth knowing.
    Warning,
    /// Good to know.
    Notice,
}

impl Severity {
    const fn word(self) -> &'static [u8] {
        match self {
            Self::Error => b"ERROR",
            Self::Fatal => b"FATAL",
            Self::Warning => b"WARNING",
            Self::Notice => b"NOTICE",
        }
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Error | Self::Fatal => reply::ERROR_RESPONSE,
            Self::Warning | Self::Notice => reply::NOTICE_RESPONSE,
        }
    }
}

/// The client came without TLS, and has to come with it, which it is `offered` or not.
pub fn insecure(out: &mut BytesMut, offered: bool) {
    let refusal = Refusal::new(Severity::Fatal, "28000", "connections without TLS are not accepted here");
    let refusal = if offered {
        refusal.hint("Connect with sslmode=require, or with one that verifies the certificate.")
    } else {
        refusal.detail("The password would have to be asked for, and TLS is not offered.")
    };
    refusal.encode(out);
}

/// Something to say: it becomes an ErrorResponse, or a NoticeResponse where it is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// How bad it is.
    pub severity: Severity,
    /// The SQLSTATE.
    pub code: &'a str,
    /// What happened.
    pub message: &'a str,
    /// More about it.
    pub detail: Option<&'a str>,
    /// What to do.
    pub hint: Option<&'a str>,
}

impl<'a> Refusal<'a> {
    /// A refusal without detail and hint.
    pub const fn new(severity: Severity, code: &'a str, message: &'a str) -> Self {
        Self { severity, code, message, detail: None, hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub const fn hint(mut self, hint: &'a str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The same with a detail.
    #[must_use]
    pub const fn detail(mut self, detail: &'a str) -> Self {
        self.detail = Some(detail);
        self
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        let field = |out: &mut BytesMut, kind: u8, text: &[u8]| {
            out.put_u8(kind);
            frame::put_cstr(out, text);
        };
        frame::put(out, self.severity.tag(), |out| {
            field(out, b'S', self.severity.word());
            field(out, b'V', self.severity.word());
            field(out, b'C', self.code.as_bytes());
            field(out, b'M', self.message.as_bytes());
            if let Some(detail) = self.detail {
                field(out, b'D', detail.as_bytes());
            }
            if let Some(hint) = self.hint {
                field(out, b'H', hint.as_bytes());
            }
            out.put_u8(0);
        });
    }
}

/// Appends an error without detail and hint.
pub fn error(out: &mut BytesMut, severity: Severity, code: &str, message: &str) {
    Refusal::new(severity, code, message).encode(out);
}

/// There is no room for another session.
pub fn too_many_connections(out: &mut BytesMut) {
    error(out, Severity::Fatal, "53300", "sorry, too many clients already");
}

/// The client broke the protocol.
pub fn protocol_violation(out: &mut BytesMut, message: &str) {
    error(out, Severity::Fatal, "08P01", message);
}

/// The login failed: one text for every reason, so that nobody learns which users exist.
pub fn invalid_password(out: &mut BytesMut, user: &str) {
    let message = format!("password authentication failed for user \"{user}\"");
    error(out, Severity::Fatal, "28P01", &message);
}

/// The startup packet names no user.
pub fn no_user(out: &mut BytesMut) {
    error(out, Severity::Fatal, "28000", "no PostgreSQL user name specified in startup packet");
}

/// There is no such database here.
pub fn unknown_route(out: &mut BytesMut, database: &str) {
    let message = format!("database \"{database}\" does not exist");
    error(out, Severity::Fatal, "3D000", &message);
}

/// The statement was cancelled before it was sent anywhere.
pub fn query_cancelled(out: &mut BytesMut) {
    error(out, Severity::Error, "57014", "canceling statement due to user request");
}

/// The session ends because an operator wants it; clients may connect again.
pub fn terminating(out: &mut BytesMut) {
    let message = "terminating connection due to administrator command";
    error(out, Severity::Fatal, "57P01", message);
}

/// Not now.
pub fn cannot_connect_now(out: &mut BytesMut, message: &str) {
    error(out, Severity::Fatal, "57P03", message);
}

/// Not here.
pub fn feature_not_supported(out: &mut BytesMut, severity: Severity, message: &str) {
    error(out, severity, "0A000", message);
}
