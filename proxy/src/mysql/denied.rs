//! Why a client of MySQL's gets no session, and what it is told of that.

use std::net::SocketAddr;

use bytes::BytesMut;
use protocol::mysql::{error_response, frame, reply};
use tracing::warn;

use super::client_login;
use super::server_login::Refused;
use crate::admission::Turned;
use crate::failed_logins::Rejected;
use crate::route::Routes;

/// The server's code for a wrong password.
pub(super) const ACCESS_DENIED: u16 = 1045;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// The client did not prove who it is, or went away.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// There is no session on the cluster.
    #[error("{cluster}: {refused}")]
    Refused {
        /// Why.
        refused: Refused,
        /// The cluster.
        cluster: String,
        /// The client had proved to Headgate that it knows the password.
        proven: bool,
    },
    /// No route has this name.
    #[error("no route is named {0:?}")]
    NoRoute(String),
    /// The route's sessions are not let in.
    #[error("{}", .0.words())]
    NotServed(Turned),
    /// The account is for connections in TLS, and the client's is none. It has proven who it is.
    #[error("the account has REQUIRE SSL, and the client came without TLS")]
    NeedsTls,
    /// The account asks for a certificate of the client's, which Headgate cannot show to the cluster.
    #[error(
        "the account has REQUIRE X509, ISSUER or SUBJECT, and a client's certificate goes no further than to Headgate"
    )]
    NeedsCertificate,
    /// The client names no route, and which it means cannot be told.
    #[error("the client names no database")]
    NoDatabase,
}

impl Denied {
    /// The reason by which it is counted.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Rejected(rejected) => rejected.reason(),
            Self::NeedsTls | Self::NeedsCertificate => "insecure",
            Self::Refused { .. } | Self::NotServed(_) => "server",
            Self::NoRoute(_) | Self::NoDatabase => "unknown route",
        }
    }

    /// What a client is told; nothing where there is nobody to tell.
    pub(super) fn explain(&self, routes: &Routes, user: &[u8], peer: SocketAddr, sequence: &mut u8) -> BytesMut {
        let mut out = BytesMut::new();
        match self {
            Self::Rejected(rejected) => {
                return client_login::refuse(rejected, user, peer, sequence);
            }
            Self::NeedsTls => {
                let text = format!(
                    "Access denied for user '{}'@'{}' (using password: YES): the account has REQUIRE SSL, and this connection is \
                     not encrypted",
                    String::from_utf8_lossy(user),
                    peer.ip()
                );
                error_response::error(&mut out, sequence, ACCESS_DENIED, "28000", &text);
            }
            Self::NeedsCertificate => {
                let text = format!(
                    "Access denied for user '{}'@'{}' (using password: YES): the account requires a certificate, which cannot be \
                     passed on here",
                    String::from_utf8_lossy(user),
                    peer.ip()
                );
                error_response::error(&mut out, sequence, ACCESS_DENIED, "28000", &text);
            }
            Self::NoRoute(name) => {
                let text = format!("Unknown database '{name}'");
                error_response::error(&mut out, sequence, 1049, "42000", &text);
            }
            // Numbers from 2000 on are the client library's own; MariaDB's refuses them as malformed.
            Self::NotServed(turned) => {
                error_response::error(&mut out, sequence, 1053, "08S01", turned.words());
            }
            Self::NoDatabase => {
                let routes = routes.routes();
                let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
                let text = format!("No database selected: name one of this Headgate's routes: {}", names.join(", "));
                error_response::error(&mut out, sequence, 1046, "3D000", &text);
            }
            Self::Refused { refused: Refused::ByServer(body), cluster, proven: true } => {
                let reported = reply::Error::parse(body).map(|error| error.message.to_vec());
                let reported = reported.unwrap_or_default();
                let reported = String::from_utf8_lossy(&reported);
                warn!(%peer, cluster, %reported, "the client proved the password that Headgate knows, and the cluster refuses it: it was \
                    changed there, or the account may REQUIRE SSL, and the connection to the cluster is not encrypted: see \
                    clusters.NAME.tls");
                let text = format!(
                    "{reported}; where the password is right the account may REQUIRE SSL, and Headgate's connection to cluster \
                     '{cluster}' may not be encrypted"
                );
                error_response::error(&mut out, sequence, ACCESS_DENIED, "28000", &text);
            }
            Self::Refused { refused, cluster, .. } => match refused {
                Refused::ByServer(body) => {
                    // An error from before its greeting lacks the state that clients expect by now.
                    let mut reported = BytesMut::new();
                    match reply::Error::parse(body) {
                        Ok(error) => error.encode(&mut reported),
                        Err(_) => reported.extend_from_slice(body),
                    }
                    frame::put(&mut out, sequence, &reported);
                }
                Refused::Unreachable(error) => {
                    warn!(%peer, cluster, %error, "the cluster cannot be reached; the client was told to try again");
                    let text = format!("Can't connect to the MySQL server of cluster '{cluster}' at the moment");
                    // Numbers from 2000 on are the client library's own; MariaDB's refuses them as malformed.
                    error_response::error(&mut out, sequence, 1053, "08S01", &text);
                }
                Refused::UnknownPlugin(plugin) => {
                    warn!(%peer, cluster, user = %String::from_utf8_lossy(user), plugin,
                        "the account logs in on the cluster by a plugin that Headgate does not have: it comes in once it has one of \
                        mysql_native_password, caching_sha2_password, sha256_password and ed25519");
                    let text = format!("Headgate could not log in on cluster '{cluster}': {refused}");
                    error_response::error(&mut out, sequence, 1251, "08004", &text);
                }
                Refused::Malformed(_) | Refused::Unsupported(_) | Refused::PasswordNeeded => {
                    warn!(%peer, cluster, %refused, "the login on the cluster failed");
                    let text = format!("Headgate could not log in on cluster '{cluster}': {refused}");
                    error_response::error(&mut out, sequence, 1251, "08004", &text);
                }
            },
        }
        out
    }
}
