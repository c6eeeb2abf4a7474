//! stub
use crate::{config::Config, listener::Sessions, plane::Plane};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
/// s
pub struct MysqlSessions(Arc<Plane>);
impl MysqlSessions {
    /// n
    pub fn new(plane: Arc<Plane>, _: &Config) -> std::io::Result<Self> {
        Ok(Self(plane))
    }
    /// c
    pub fn captured_password(&self, _: &str) -> Option<String> {
        None
    }
}
impl Sessions for MysqlSessions {
    fn plane(&self) -> &Arc<Plane> {
        &self.0
    }
    fn serve(
        self: Arc<Self>,
        _: TcpStream,
        _: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        async {}
    }
    async fn turn_away(_: TcpStream) {}
}
