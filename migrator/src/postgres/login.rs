//! Logins of the application's roles that Headgate tries itself, with what it knows of them.

use super::Postgres;
use super::client::{self, Endpoint};
use crate::error::{Error, Result};

/// Logs in on the target as this role with the password that Headgate has for it, or by the key that its client's login has
/// revealed, which a role with the source's own verifier takes; `None` where it has neither.
pub(super) async fn try_on_target(postgres: &Postgres, role: &str) -> Option<Result<()>> {
    let target = postgres.target();
    let Some(password) = postgres.secrets().password(role) else {
        let tried = postgres.secrets().log_in(&target.host, target.port, &target.database, role).await?;
        return Some(tried.map_err(Error::fatal));
    };
    let endpoint = Endpoint { user: role.to_owned(), password: Some(password.into()), ..target.clone() };
    let purpose = postgres.purpose("login");
    Some(client::connect(&endpoint, &purpose).await.map(drop))
}
