//! Logins of the application's roles that Headgate tries itself, with passwords that the operator gave it.

use super::Postgres;
use super::client::{self, Endpoint};
use crate::error::Result;

/// Logs in on the target as this role with the password that Headgate has for it; `None` where it has none.
pub(super) async fn try_on_target(postgres: &Postgres, role: &str) -> Option<Result<()>> {
    let password = postgres.secrets().password(role)?;
    let endpoint = Endpoint { user: role.to_owned(), password: Some(password.into()), ..postgres.target().clone() };
    let purpose = postgres.purpose("login");
    Some(client::connect(&endpoint, &purpose).await.map(drop))
}
