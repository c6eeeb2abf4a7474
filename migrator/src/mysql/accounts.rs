//! The accounts of the source that the target lacks, with their hashes and grants.

/// The passwords that clients proved to know, kept in memory only.
pub trait Secrets: Send + Sync + 'static {
    /// The password of an account's user, where a client has shown it and the operator lets Headgate keep it.
    fn password(&self, user: &str) -> Option<String>;
}

/// Nobody's password is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn password(&self, _user: &str) -> Option<String> {
        None
    }
}

/// stub
pub async fn create(
    _m: &super::Mysql,
    _s: &mut mysql_async::Conn,
    _t: &mut mysql_async::Conn,
) -> crate::error::Result<()> {
    Ok(())
}
/// stub
pub async fn grant(_m: &super::Mysql, _t: &mut mysql_async::Conn) -> crate::error::Result<()> {
    Ok(())
}
