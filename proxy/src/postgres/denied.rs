//! Why a client of PostgreSQL's gets no session, and what it is told of that.

use std::net::SocketAddr;

use bytes::BytesMut;
use protocol::postgres::auth::AuthRequest;
use protocol::postgres::error_response::{self, Severity};
use protocol::postgres::frame::HEADER_BYTES;
use protocol::postgres::handshake::UnsupportedProtocol;
use protocol::postgres::reply::ErrorFields;
use tracing::warn;

use super::client_login;
use super::server_login::Refused;
use crate::admission::Turned;
use crate::failed_logins::Rejected;
use crate::route::Cluster;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Denied {
    /// The client did not prove who it is, or went away.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The client speaks another protocol.
    #[error(transparent)]
    Protocol(#[from] UnsupportedProtocol),
    /// The client names no user.
    #[error("the client names no user")]
    NoUser,
    /// No route has this name.
    #[error("there is no route {0:?}")]
    NoRoute(String),
    /// The route's sessions are not let in.
    #[error("{}", .0.words())]
    NotServed(Turned),
    /// The client has shown a password, and the cluster asks for none from here: nobody has said that it is right.
    #[error(
        "cluster {0} lets Headgate in without asking for a password, so that nobody can judge the one that the client has shown"
    )]
    NotJudged(String),
    /// There is no session on the cluster.
    #[error("cluster {cluster}: {refused}")]
    Refused {
        /// Why.
        refused: Refused,
        /// The cluster.
        cluster: String,
        /// The client was asked for a password here.
        asked: bool,
    },
}

impl Denied {
    /// There is no session on that cluster, of a client that was `asked` for a password here.
    pub(super) fn of_cluster(refused: Refused, cluster: &Cluster, asked: bool) -> Self {
        Self::Refused { refused, cluster: cluster.name.clone(), asked }
    }

    /// Whether the server has judged the proof, and it is wrong.
    pub(super) fn is_wrong_password(&self) -> bool {
        let Self::Refused { refused: Refused::ByServer { frame, .. }, .. } = self else {
            return false;
        };
        ErrorFields::parse(frame.slice(HEADER_BYTES.min(frame.len())..)).code == b"28P01"[..]
    }

    /// The reason by which it is counted.
    pub(super) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Rejected(rejected) => Some(rejected.reason()),
            Self::Refused { .. } | Self::NotServed(_) | Self::NotJudged(_) => Some("server"),
            Self::NoRoute(_) => Some("unknown route"),
            Self::Protocol(_) | Self::NoUser => None,
        }
    }

    /// What the client is told; nothing where there is nobody to tell. Unless it was asked for a password here, it is
    /// told as much of the login as the server would have told it.
    pub(super) fn explain(&self, user: &str, peer: SocketAddr) -> BytesMut {
        let mut out = BytesMut::new();
        match self {
            Self::Rejected(rejected) => return client_login::refuse(rejected, user),
            Self::Protocol(unsupported) => {
                error_response::feature_not_supported(&mut out, Severity::Fatal, &unsupported.to_string());
            }
            Self::NoUser => error_response::no_user(&mut out),
            Self::NoRoute(name) => error_response::unknown_route(&mut out, name),
            Self::NotServed(turned) => error_response::cannot_connect_now(&mut out, turned.words()),
            Self::NotJudged(cluster) => {
                warn!(
                    %peer, cluster, user,
                    "a client was not let in: the cluster trusts Headgate's address (pg_hba.conf), so that it judges no password; let it \
                     ask for one, let Headgate read the roles' verifiers, or use login.method = \"trust\" if nobody needs one"
                );
                let message = "the database system does not check passwords of this connection";
                error_response::error(&mut out, Severity::Fatal, "28000", message);
            }
            Self::Refused { refused, cluster, asked } => match refused {
                Refused::ByServer { frame, welcomed } => {
                    if *welcomed && !asked {
                        AuthRequest::Ok.encode(&mut out);
                    }
                    out.extend_from_slice(frame);
                }
                Refused::Unreachable(error) => {
                    warn!(%peer, cluster, %error, "the cluster cannot be reached; the client was told to try again");
                    error_response::cannot_connect_now(&mut out, "the database system cannot be reached at the moment");
                }
                Refused::Malformed(_) | Refused::Unsupported(_) => {
                    warn!(%peer, cluster, %refused, "the login on the cluster failed; set users.NAME.password if it asks for one");
                    let message = "the database system could not complete the login";
                    error_response::error(&mut out, Severity::Fatal, "28000", message);
                }
            },
        }
        out
    }
}
