//! TLS to MySQL's and MariaDB's servers, which begins within the login; and the driver, which opens its own connections.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, DriverError, Error, IoError, Opts, OptsBuilder, SslOpts};
use protocol::mysql::login::Encryption;
use protocol::proxy_protocol::Header;

use crate::tls::{Mode, Tls};
use crate::{Address, Keepalive, Stream, tunnel};

/// What a login on this connection has to ask for.
pub fn encryption(tls: &Tls, stream: &Stream) -> Encryption {
    match tls.mode() {
        Mode::Disable => Encryption::Never,
        _ if stream.is_local() => Encryption::Never,
        Mode::Prefer => Encryption::WhereOffered,
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => Encryption::Always,
    }
}

/// How long a connection to a server that wants a PROXY header first may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Keepalive =
    Keepalive { after: Duration::from_secs(15), every: Duration::from_secs(15), unheard_max: None };

/// Opens a session of the driver's, in TLS as it must be, behind the PROXY header where the server wants one. The driver takes no
/// connection that is open, and knows of no header: it then goes through a port of this host. The caller sets the deadline.
pub async fn open(options: OptsBuilder, tls: &Tls, header: Option<Header>) -> Result<Conn, Error> {
    if let Some(wrong) = tls.problem() {
        return Err(Error::Io(IoError::Io(std::io::Error::new(ErrorKind::InvalidInput, wrong.clone()))));
    }
    let is_local = Opts::from(options.clone()).socket().is_some();
    let attempt = |tls: Tls| {
        let ssl = if is_local { None } else { ssl(&tls) };
        let options = options.clone().ssl_opts(ssl);
        async move {
            let options = match header {
                Some(header) => behind(header, options).await.map_err(|error| Error::Io(IoError::Io(error)))?,
                None => options,
            };
            let opened = Box::pin(Conn::new(options)).await;
            if let Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) = opened {
                tls.is_declined();
            }
            opened
        }
    };
    let opened = crate::preferring(tls, &attempt, is_of_handshake).await;
    // The driver cuts a challenge of MariaDB's `ed25519` that ends with a zero byte, as one in 256 does, and answers that one wrong.
    match opened {
        Err(Error::Server(answer)) if answer.code == ACCESS_DENIED => {
            crate::preferring(tls, &attempt, is_of_handshake).await
        }
        opened => opened,
    }
}

/// The same with a port of this host that leads to the server, whose name stays the one that its certificate must have.
async fn behind(header: Header, options: OptsBuilder) -> std::io::Result<OptsBuilder> {
    let server = Opts::from(options.clone());
    let address =
        Address { host: server.ip_or_hostname(), port: server.tcp_port(), socket: None, header: Some(header) };
    let stream = crate::connect(address, CONNECT_TIMEOUT, &KEEPALIVE).await?;
    let port = tunnel::port_of(stream).await?;
    Ok(options.resolved_ips(Some([Ipv4Addr::LOCALHOST.into()])).tcp_port(port))
}

/// `ER_ACCESS_DENIED_ERROR`.
const ACCESS_DENIED: u16 = 1045;

/// The statement that makes all that an account has by its roles count, which MySQL has from version 8 on; to other servers
/// it says nothing. MariaDB has one role at a time, the default.
pub const ALL_ROLES: &str = "/*!80000 SET ROLE ALL */";
/// `ER_EMPTY_QUERY`: the answer to a statement that says nothing.
pub const EMPTY_QUERY: u16 = 1065;

/// Makes all that a session's account has by its roles count.
pub async fn activate_roles(session: &mut Conn) -> Result<(), Error> {
    match session.query_drop(ALL_ROLES).await {
        Err(Error::Server(answer)) if answer.code == EMPTY_QUERY => Ok(()),
        outcome => outcome,
    }
}

/// The driver's words for it.
fn ssl(tls: &Tls) -> Option<SslOpts> {
    let settings = tls.settings();
    let trusted = tls.trusted().map(|certificate| certificate.to_vec().into());
    let identity = settings.certificate.clone().zip(settings.key.clone());
    let identity = identity.map(|(certificate, key)| ClientIdentity::new(certificate.into(), key.into()));
    let ssl = SslOpts::default().with_client_identity(identity);
    Some(match settings.mode {
        Mode::Disable => return None,
        // The driver wants authorities even where it trusts everybody: its own stay.
        Mode::Prefer | Mode::Require => ssl.with_danger_accept_invalid_certs(true),
        Mode::VerifyCa => {
            let ssl = ssl.with_root_certs(trusted.collect()).with_disable_built_in_roots(true);
            ssl.with_danger_skip_domain_validation(true)
        }
        Mode::VerifyFull => ssl.with_root_certs(trusted.collect()).with_disable_built_in_roots(true),
    })
}

/// Whether TLS could not be agreed on.
fn is_of_handshake(error: &Error) -> bool {
    match error {
        Error::Driver(DriverError::NoClientSslFlagFromServer) | Error::Io(IoError::Tls(_)) => true,
        Error::Io(IoError::Io(error)) => {
            matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)
        }
        _ => false,
    }
}

/// Whether the other end of a connection is not what it must be.
pub fn is_not_trusted(error: &Error) -> bool {
    match error {
        Error::Driver(DriverError::NoClientSslFlagFromServer) | Error::Io(IoError::Tls(_)) => true,
        Error::Io(IoError::Io(error)) => matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput),
        _ => false,
    }
}
