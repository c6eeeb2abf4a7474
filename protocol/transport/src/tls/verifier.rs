//! What a server's certificate must prove.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate;
use super::mode::Mode;

/// Looks at a server's certificate as far as the mode asks for. That the server has its key is always seen.
#[derive(Debug)]
pub(super) struct Verifier {
    mode: Mode,
    chains: Option<Arc<WebPkiServerVerifier>>,
    trusted: Arc<[CertificateDer<'static>]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Fails with why the authorities cannot be used.
    pub(super) fn new(
        mode: Mode,
        roots: RootCertStore,
        trusted: Arc<[CertificateDer<'static>]>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let chains = mode.verifies().then(|| {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            builder.build().map_err(|error| error.to_string())
        });
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { mode, chains: chains.transpose()?, trusted, algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chains) = &self.chains else {
            return Ok(ServerCertVerified::assertion());
        };
        let unnamed = if self.trusted.iter().any(|trusted| trusted == own) {
            // A certificate that is trusted itself, as the manuals make them: it names itself an authority, which
            // a server's own must not do on a path to another.
            certificate::is_valid_at(own, now)?;
            Error::InvalidCertificate(CertificateError::NotValidForName)
        } else {
            match chains.verify_server_cert(own, intermediates, name, ocsp, now) {
                Ok(verified) => return Ok(verified),
                // The name is looked at last: the rest is right.
                Err(
                    unnamed @ Error::InvalidCertificate(
                        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                    ),
                ) => unnamed,
                Err(error) => return Err(error),
            }
        };
        if self.mode == Mode::VerifyCa || certificate::has_name(own, name) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(unnamed)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, own, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, own, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
