//! tokio-postgres, with statements that it prepares once, portals that are read in pieces, and questions that overtake answers.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{self, MakeTlsConnect, TlsConnect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Statement};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{COLUMNS, Case, Failure, MANY, Session, Values, same};

/// Rows of a portal that are read at a time.
const PIECE: i32 = 60;

/// One session.
pub(super) struct Staying {
    case: Arc<Case>,
    at: i32,
    client: Client,
    insert: Statement,
}

impl Session for Staying {
    async fn open(case: Arc<Case>, at: usize) -> Result<Self, Failure> {
        let mut config = Config::new();
        config.host(&case.host).port(case.port).user(&case.user).dbname(&case.database);
        if !case.password.is_empty() {
            config.password(&case.password);
        }
        config.ssl_mode(if case.tls == "disable" { SslMode::Disable } else { SslMode::Require });
        let binding = if case.tls == "bound" { ChannelBinding::Require } else { ChannelBinding::Disable };
        config.channel_binding(binding);
        if case.tls == "direct" {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        let (client, connection) = config.connect(Encryption::of(&case)?).await?;
        tokio::spawn(async move {
            // The client of a connection that was lost says so itself.
            let _ = connection.await;
        });
        let insert =
            format!("insert into taken ({COLUMNS}) values ($1, $2, $3, $4::text::numeric, $5, $6, $7, $8, $9, null)");
        let insert = client.prepare(&insert).await?;
        Ok(Self { case, at: at.try_into()?, client, insert })
    }

    async fn work(&mut self, number: i32) -> Result<(), Failure> {
        let Values { amount, ratio, even, body, note, seconds } = Values::of(number);
        let moment = UNIX_EPOCH + Duration::from_secs(seconds);
        let row: [&(dyn ToSql + Sync); 9] =
            [&self.case.name, &self.at, &number, &amount, &ratio, &even, &body, &note, &moment];
        let mut transaction = self.client.transaction().await?;
        transaction.execute(&self.insert, &row).await?;
        let again = transaction.transaction().await?;
        match again.execute(&self.insert, &row).await {
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => again.rollback().await?,
            Err(error) => return Err(error.into()),
            Ok(_) => return Err("the same row twice".into()),
        }
        let portal = transaction.bind("select id, body from many where id > $1 order by id", &[&0]).await?;
        let mut ids: Vec<i32> = Vec::new();
        loop {
            let rows = transaction.query_portal(&portal, PIECE).await?;
            if rows.is_empty() {
                break;
            }
            ids.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        }
        same("many", &ids, &(1..=MANY).collect())?;
        let mine = "select count(*) from taken where driver = $1 and session = $2";
        let last = "select amount::text, body, moment from taken where driver = $1 and session = $2 and number = $3";
        let (counted, last) =
            tokio::try_join!(transaction.query_one(mine, &row[..2]), transaction.query_one(last, &row[..3]))?;
        same("counted", &counted.try_get(0)?, &i64::from(number))?;
        let seen: (String, Vec<u8>, SystemTime) = (last.try_get(0)?, last.try_get(1)?, last.try_get(2)?);
        same("the last one", &seen, &(amount, body, moment))?;
        transaction.commit().await?;
        Ok(())
    }

    async fn close(self) -> Result<(), Failure> {
        Ok(())
    }
}

/// TLS as the case says.
#[derive(Clone)]
struct Encryption(TlsConnector);

impl Encryption {
    fn of(case: &Case) -> Result<Self, Failure> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = if case.authority.as_os_str().is_empty() || ["disable", "require"].contains(&case.tls.as_str()) {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            let mut trusted = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(&case.authority)? {
                trusted.add(certificate?)?;
            }
            builder.with_root_certificates(trusted)
        };
        let mut config = if case.tls == "certificate" {
            let shown = CertificateDer::pem_file_iter(&case.certificate)?.collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(shown, PrivateKeyDer::from_pem_file(&case.key)?)?
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self(Arc::new(config).into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Encryption {
    type Stream = Encrypted<S>;
    type TlsConnect = To;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<To, Infallible> {
        Ok(To(self.clone(), host.to_owned()))
    }
}

/// TLS to a host.
struct To(Encryption, String);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for To {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Encrypted<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let name = ServerName::try_from(self.1).map_err(io::Error::other)?;
            self.0.0.connect(name, stream).await.map(Encrypted)
        })
    }
}

/// A connection in TLS.
struct Encrypted<S>(TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> tls::TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> tls::ChannelBinding {
        let shown = self.0.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let end_point = shown.and_then(|certificate| transport::tls::end_point(certificate));
        end_point.map_or_else(tls::ChannelBinding::none, tls::ChannelBinding::tls_server_end_point)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}

/// Trusts every certificate, as `sslmode=require` does; who has its key must still prove that.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, shown, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, shown, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
