//! TLS for clients: the operator's certificate, or one that is made at the start; and certificates that clients show.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use transport::tls::{certificates, end_point, private_key};

use crate::config::{Engine, Listen, TlsDemand};

/// The files that clients' TLS is made of, as PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The certificate that clients are shown, those that it was signed with, and its private key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The authorities of certificates that clients show.
    pub clients: Option<PathBuf>,
}

/// Which of the files a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The certificate.
    Certificate,
    /// The private key.
    Key,
    /// The authorities of clients' certificates.
    Clients,
}

/// What is wrong with a file; the text shows no part of it.
pub type Wrong = (File, String);

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be offered: {0}")]
pub struct Failed(String);

/// What clients are offered.
pub struct ListenerTls {
    offered: bool,
    required: bool,
    acceptor: TlsAcceptor,
    chain: Vec<CertificateDer<'static>>,
    /// The key of a certificate of our own making, which stays as long as no other is given: clients that noted it know us again.
    made: Option<PrivateKeyDer<'static>>,
    end_point: Option<Vec<u8>>,
}

impl fmt::Debug for ListenerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered, required, .. } = self;
        write!(formatter, "ListenerTls(offered: {offered}, required: {required})")
    }
}

impl ListenerTls {
    /// As the configuration has it: with the files' certificate or, where it names none, with the one that was made `before`, or
    /// a new one that nobody but itself has signed. `alpn` is what the engine's clients call their protocol (RFC 7301).
    pub fn new(listen: &Listen, engine: Engine, alpn: Option<&[u8]>, before: Option<&Self>) -> Result<Self, Failed> {
        let files = listen.tls_files();
        let before = before.and_then(|before| Some((before.chain.clone(), before.made.as_ref()?.clone_key())));
        let offered = match listen.tls {
            TlsDemand::Off => false,
            TlsDemand::Allow | TlsDemand::Require => true,
            // PostgreSQL's clients take what is offered, and its servers offer nothing unless they are given a certificate.
            TlsDemand::Auto => engine == Engine::Mysql || files.own.is_some(),
        };
        let (chain, key, mut config) = load(&files, before).map_err(|(_, text)| Failed(text))?;
        config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
        Ok(Self {
            offered,
            required: listen.tls == TlsDemand::Require,
            end_point: chain.first().and_then(|own| end_point(own)),
            made: files.own.is_none().then_some(key),
            chain,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Whether clients may ask for it.
    pub fn is_offered(&self) -> bool {
        self.offered
    }

    /// Whether clients must.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// What a login over it can be bound to (RFC 5929, `tls-server-end-point`).
    pub fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }

    /// Goes on in TLS with a client that asked for it. The caller sets the deadline.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Box<TlsStream<TcpStream>>> {
        self.acceptor.accept(stream).await.map(Box::new)
    }
}

/// Sees whether the files can be used.
pub fn check(files: &Files) -> Result<(), Wrong> {
    load(files, None).map(drop)
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

type Loaded = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, ServerConfig);

fn load(files: &Files, made: Option<Own>) -> Result<Loaded, Wrong> {
    let (chain, key) = match (&files.own, made) {
        (Some((certificate, key)), _) => (
            certificates(certificate).map_err(|text| (File::Certificate, text))?,
            private_key(key).map_err(|text| (File::Key, text))?,
        ),
        (None, Some(made)) => made,
        (None, None) => self_signed().map_err(|text| (File::Certificate, text))?,
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| (File::Certificate, error.to_string()))?;
    let builder = match &files.clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let wrong = |text: String| (File::Clients, format!("{}: {text}", path.display()));
            let mut roots = RootCertStore::empty();
            for one in certificates(path).map_err(|text| (File::Clients, text))? {
                roots.add(one).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.allow_unauthenticated().build().map_err(|error| wrong(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain.clone(), key.clone_key()).map_err(|error| {
        let named = files.own.as_ref().map(|(own, key)| (own.display().to_string(), key.display().to_string()));
        let (own, key) = named.unwrap_or_default();
        (File::Key, format!("{key} does not fit {own}: {error}"))
    })?;
    Ok((chain, key, config))
}

fn self_signed() -> Result<Own, String> {
    let names = vec!["headgate".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(str::to_owned)?;
    Ok((vec![made.cert.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two certificates with their keys, in files that are gone with the value.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("headgate-tls-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder");
            for name in ["one", "two"] {
                let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("made");
                let write = |end: &str, text: String| {
                    std::fs::write(folder.join(format!("{name}.{end}")), text).expect("written");
                };
                write("crt", made.cert.pem());
                write("key", made.signing_key.serialize_pem());
            }
            Self(folder)
        }

        fn pair(&self, certificate: &str, key: &str) -> Files {
            Files { own: Some((self.0.join(certificate), self.0.join(key))), clients: None }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn files_that_fit_are_taken_and_others_are_refused_by_name() {
        let files = Folder::new();
        assert_eq!(check(&files.pair("one.crt", "one.key")), Ok(()));
        let of = |pair: Files| check(&pair).expect_err("refused");
        assert_eq!(of(files.pair("none.crt", "one.key")).0, File::Certificate);
        assert_eq!(of(files.pair("one.key", "one.key")).0, File::Certificate);
        assert_eq!(of(files.pair("one.crt", "one.crt")).0, File::Key);
        let (file, text) = of(files.pair("one.crt", "two.key"));
        assert!(file == File::Key && text.contains("two.key"), "{text}");
        let clients = |name: &str| Files { own: None, clients: Some(files.0.join(name)) };
        assert_eq!(check(&clients("one.crt")), Ok(()));
        assert_eq!(of(clients("one.key")).0, File::Clients);
    }

    #[test]
    fn without_files_a_certificate_is_made() {
        assert_eq!(check(&Files::default()), Ok(()));
    }
}
