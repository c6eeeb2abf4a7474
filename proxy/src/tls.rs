//! TLS for clients: the operator's certificate, or one that is made at the start.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// Which of the two files a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The certificate.
    Certificate,
    /// The private key.
    Key,
}

/// What is wrong with a file; the text shows no part of it.
pub type Wrong = (File, String);

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be offered: {0}")]
pub struct Failed(String);

/// What greets clients with TLS: the files' certificate, or a new one that nobody but itself has signed.
pub fn acceptor(files: Option<&TlsFiles>) -> Result<TlsAcceptor, Failed> {
    let config = match files {
        Some(files) => from_files(files).map_err(|(_, text)| Failed(text))?,
        None => self_signed()?,
    };
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Sees whether the files can be used.
pub fn check(files: &TlsFiles) -> Result<(), Wrong> {
    from_files(files).map(drop)
}

fn from_files(files: &TlsFiles) -> Result<ServerConfig, Wrong> {
    let unreadable =
        |path: &Path, error: &dyn fmt::Display| format!("{} cannot be read as PEM: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| (File::Certificate, unreadable(&files.certificate, &error)))?;
    if chain.is_empty() {
        let text = format!("{} holds no certificate", files.certificate.display());
        return Err((File::Certificate, text));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| (File::Key, unreadable(&files.key, &error)))?;
    offer(chain, key).map_err(|error| {
        let text = format!("{} does not fit {}: {error}", files.key.display(), files.certificate.display());
        (File::Key, text)
    })
}

fn self_signed() -> Result<ServerConfig, Failed> {
    let failed = |error: &dyn fmt::Display| Failed(error.to_string());
    let names = vec!["headgate".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(|error| failed(&error))?;
    offer(vec![made.cert.der().clone()], key).map_err(|error| failed(&error))
}

fn offer(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, rustls::Error> {
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Two certificates with their keys, in files that are gone with the value.
    struct Files(PathBuf);

    impl Files {
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

        fn pair(&self, certificate: &str, key: &str) -> TlsFiles {
            TlsFiles { certificate: self.0.join(certificate), key: self.0.join(key) }
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn files_that_fit_are_taken_and_others_are_refused_by_name() {
        let files = Files::new();
        assert_eq!(check(&files.pair("one.crt", "one.key")), Ok(()));
        let of = |pair: TlsFiles| check(&pair).expect_err("refused");
        assert_eq!(of(files.pair("none.crt", "one.key")).0, File::Certificate);
        assert_eq!(of(files.pair("one.key", "one.key")).0, File::Certificate);
        assert_eq!(of(files.pair("one.crt", "one.crt")).0, File::Key);
        let (file, text) = of(files.pair("one.crt", "two.key"));
        assert!(file == File::Key && text.contains("two.key"), "{text}");
    }

    #[test]
    fn without_files_a_certificate_is_made() {
        assert!(acceptor(None).is_ok());
    }
}
