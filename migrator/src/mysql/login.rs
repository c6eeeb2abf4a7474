//! Logins of the application's accounts that Headgate tries itself, with passwords that it was given or shown.

use super::Mysql;
use super::client::{self, Endpoint};
use crate::error::Result;

/// Logs in on the target as this user with the password that Headgate has for it; `None` where it has none.
pub(super) async fn try_on_target(mysql: &Mysql, user: &str) -> Option<Result<()>> {
    let password = mysql.secrets().password(user)?;
    let endpoint = Endpoint { user: user.to_owned(), password: Some(password.into()), ..mysql.target().clone() };
    let purpose = mysql.purpose("login");
    Some(client::try_login(&endpoint, &purpose).await)
}
