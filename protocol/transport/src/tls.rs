//! TLS to servers: whether it is asked for, and what the server's certificate must prove.

mod certificate;
mod mode;
mod verifier;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use certificate::{common_name, end_point};
pub use mode::Mode;
use verifier::Verifier;

/// What the operator says of a server's TLS. Files are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What a connection must be.
    pub mode: Mode,
    /// Certificates of the trusted authorities; the system's where there are none.
    pub authorities: Option<PathBuf>,
    /// The certificate that is shown to the server where it asks for one, and those that it was signed with.
    pub certificate: Option<PathBuf>,
    /// The private key of it.
    pub key: Option<PathBuf>,
}

/// Which file a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The trusted authorities.
    Authorities,
    /// Our certificate.
    Certificate,
    /// Its key.
    Key,
}

/// What is wrong with a file; the text shows no part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Wrong {
    /// Which one it is.
    pub file: File,
    /// What is wrong.
    pub text: String,
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
#[error("TLS could not be agreed on: {0}")]
pub struct HandshakeFailed(#[source] io::Error);

/// How long a server that has declined TLS is not asked again.
const DECLINED_FOR: Duration = Duration::from_mins(1);

/// The TLS of one server. Cheap to clone; equal where the settings are.
#[derive(Clone)]
pub struct Tls {
    settings: Arc<Settings>,
    /// What cannot be loaded fails each connection, with the reason.
    loaded: Result<Option<Loaded>, Wrong>,
    /// When the server last declined what was only preferred.
    declined: Arc<Mutex<Option<Instant>>>,
}

#[derive(Clone)]
struct Loaded {
    config: Arc<ClientConfig>,
    trusted: Arc<[CertificateDer<'static>]>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.settings.mode.word())
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Tls {}

impl Default for Tls {
    /// As libpq: preferred.
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl Tls {
    /// No TLS.
    pub fn disabled() -> Self {
        Self::new(Settings { mode: Mode::Disable, ..Settings::default() })
    }

    /// Loads the files. Where one is wrong, [`Tls::problem`] tells, and no connection comes about.
    pub fn new(settings: Settings) -> Self {
        let loaded = if settings.mode == Mode::Disable { Ok(None) } else { load(&settings).map(Some) };
        Self { settings: Arc::new(settings), loaded, declined: Arc::default() }
    }

    /// What the next connection asks for: nothing where TLS is only preferred and the server has declined it a short time
    /// ago, so that not each connection pays for being told again.
    pub(crate) fn to_ask_for(&self) -> Self {
        let declined =
            self.mode() == Mode::Prefer && self.declined.lock().is_some_and(|at| at.elapsed() < DECLINED_FOR);
        if declined { Self::disabled() } else { self.clone() }
    }

    /// The server says that it has no TLS.
    pub(crate) fn is_declined(&self) {
        *self.declined.lock() = Some(Instant::now());
    }

    /// What is wrong with the files.
    pub fn problem(&self) -> Option<&Wrong> {
        self.loaded.as_ref().err()
    }

    /// What the operator said.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What a connection must be.
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Certificates of the authorities that are trusted, as DER; none where the server need not prove who it is.
    pub fn trusted(&self) -> impl Iterator<Item = &[u8]> {
        let trusted = self.loaded.as_ref().ok().and_then(Option::as_ref).map(|loaded| &loaded.trusted[..]);
        trusted.unwrap_or_default().iter().map(AsRef::as_ref)
    }

    /// The same as one PEM text.
    pub fn trusted_pem(&self) -> String {
        const LINE: usize = 64;
        let mut text = String::new();
        for certificate in self.trusted() {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let encoded = STANDARD.encode(certificate);
            for line in encoded.as_bytes().chunks(LINE) {
                text.extend(line.iter().copied().map(char::from));
                text.push('\n');
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }

    /// Encrypts a connection to `host`; `protocol` is told to the server (RFC 7301), where there is a name for it. Fails
    /// with `InvalidData` where the other end is not what it must be, and with `InvalidInput` where a file of ours is wrong.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        host: &str,
        protocol: Option<&[u8]>,
    ) -> io::Result<Box<TlsStream<TcpStream>>> {
        let loaded =
            self.loaded.as_ref().map_err(|wrong| io::Error::new(io::ErrorKind::InvalidInput, wrong.clone()))?;
        let Some(loaded) = loaded else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS is disabled"));
        };
        let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no name of a host"));
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            // Nobody looks at the name, and none is sent.
            Err(_) if self.settings.mode < Mode::VerifyFull => ServerName::from(std::net::IpAddr::from([0; 4])),
            Err(error) => return Err(invalid(error)),
        };
        let connector = TlsConnector::from(Arc::clone(&loaded.config));
        let protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
        let encrypted = connector.with_alpn(protocols).connect(name, stream).await;
        encrypted.map(Box::new).map_err(|error| io::Error::new(error.kind(), HandshakeFailed(error)))
    }
}

fn load(settings: &Settings) -> Result<Loaded, Wrong> {
    let wrong = |file: File, text: String| Wrong { file, text };
    let provider = Arc::new(ring::default_provider());
    let trusted: Arc<[CertificateDer<'static>]> = match &settings.authorities {
        _ if !settings.mode.verifies() => Arc::default(),
        Some(path) => certificates(path).map_err(|text| wrong(File::Authorities, text))?.into(),
        None => rustls_native_certs::load_native_certs().certs.into(),
    };
    // A system has some that cannot be used, and that nobody asked for.
    let mut roots = RootCertStore::empty();
    let trusted: Arc<[_]> = trusted.iter().filter(|one| roots.add((*one).clone()).is_ok()).cloned().collect();
    if settings.mode.verifies() && trusted.is_empty() {
        let text = match &settings.authorities {
            Some(path) => format!("{} holds no certificate that can be used", path.display()),
            None => "this system has no certificates of authorities; install them (Debian: ca-certificates) or name a \
                     file of your own"
                .to_owned(),
        };
        return Err(wrong(File::Authorities, text));
    }
    let verifier = Verifier::new(settings.mode, roots, Arc::clone(&trusted), &provider)
        .map_err(|text| wrong(File::Authorities, text))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(File::Authorities, error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate).map_err(|text| wrong(File::Certificate, text))?;
            let private = private_key(key).map_err(|text| wrong(File::Key, text))?;
            builder.with_client_auth_cert(chain, private).map_err(|error| {
                wrong(File::Key, format!("{} does not fit {}: {error}", key.display(), certificate.display()))
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Loaded { config: Arc::new(config), trusted })
}

/// The certificates of a PEM file, at least one. Fails with what is wrong with it.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{} cannot be read as PEM: {error}", path.display()))?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok(chain)
}

/// The private key of a PEM file. Fails with what is wrong with it.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| format!("{} cannot be read as PEM: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_no_connection_comes_about() {
        let missing =
            Settings { mode: Mode::VerifyCa, authorities: Some("/nowhere/ca.crt".into()), ..Settings::default() };
        let tls = Tls::new(missing.clone());
        let wrong = tls.problem().expect("told");
        assert!(wrong.file == File::Authorities && wrong.text.contains("/nowhere/ca.crt"), "{wrong}");
        // What is not looked at need not be there.
        assert!(Tls::new(Settings { mode: Mode::Require, ..missing }).problem().is_none());
        assert!(Tls::disabled().problem().is_none());
    }
}
