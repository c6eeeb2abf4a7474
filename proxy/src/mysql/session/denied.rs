//! Why a client of MySQL's gets no session, and what it is told of that.

use std::net::SocketAddr;

use bytes::BytesMut;
use protocol::mysql::{error_response, frame, reply};
use tracing::warn;

use super::{ACCESS_DENIED, Logins};
use crate::admission::Turned;
use crate::mysql::client_login::{self, Rejected};
use crate::mysql::server_login::Refused;

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
    /// The client names no route, and which it means cannot be told.
    #[error("the client names no database")]
    NoDatabase,
}

impl Logins {
    /// What a client is told of why there is no session; nothing where there is nobody to tell.
    pub fn explain(&self, denied: &Denied, user: &[u8], peer: SocketAddr, sequence: &mut u8) -> BytesMut {
        let mut out = BytesMut::new();
        match denied {
            Denied::Rejected(rejected) => {
                return client_login::refuse(rejected, user, peer, sequence);
            }
            Denied::NoRoute(name) => {
                let text = format!("Unknown database '{name}'");
                error_response::error(&mut out, sequence, 1049, "42000", &text);
            }
            // Numbers from 2000 on are the client library's own; MariaDB's refuses them as malformed.
            Denied::NotServed(turned) => {
                error_response::error(&mut out, sequence, 1053, "08S01", turned.words());
            }
            Denied::NoDatabase => {
                let routes = self.plane.routes.routes();
                let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
                let text = format!("No database selected: name one of this Headgate's routes: {}", names.join(", "));
                error_response::error(&mut out, sequence, 1046, "3D000", &text);
            }
            Denied::Refused { refused: Refused::ByServer(body), cluster, proven: true } => {
                let reported = reply::Error::parse(body).map(|error| error.message.to_vec());
                let reported = reported.unwrap_or_default();
                let reported = String::from_utf8_lossy(&reported);
                warn!(%peer, cluster, %reported, "the client proved the password that Headgate knows, and the cluster refuses it: it was \
                    changed there, or the account may REQUIRE SSL, and connections to clusters are not encrypted yet");
                let text = format!(
                    "{reported}; where the password is right the account may REQUIRE SSL, and Headgate's connection to cluster \
                     '{cluster}' is not encrypted yet"
                );
                error_response::error(&mut out, sequence, ACCESS_DENIED, "28000", &text);
            }
            Denied::Refused { refused, cluster, .. } => match refused {
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
                Refused::Malformed(_) | Refused::Unsupported(_) => {
                    warn!(%peer, cluster, %refused, "the login on the cluster failed");
                    let text = format!("Headgate could not log in on cluster '{cluster}': {refused}");
                    error_response::error(&mut out, sequence, 1251, "08004", &text);
                }
            },
        }
        out
    }
}
