//! What the contenders stand on: durable servers, and the tools.

use std::path::PathBuf;

use tests::mysql::Mysql;
use tests::mysql::disposable::{Kind, Options, Server, find};

/// Starts MySQL 9.7 as a careful person would run it for this size of machine; the same for all contenders.
pub(crate) async fn server() -> Mysql {
    server_with(&[]).await
}

/// The same with further settings.
pub(crate) async fn server_with(more: &[(&str, &str)]) -> Mysql {
    let binaries = find(Kind::Mysql97).unwrap_or_else(|error| panic!("{error}"));
    let mut options = Options::new(binaries);
    for (name, value) in
        [("innodb-buffer-pool-size", "1G"), ("innodb-redo-log-capacity", "2G"), ("max-allowed-packet", "64M")]
    {
        options = options.set(name, value);
    }
    for (name, value) in more {
        options = options.set(name, value);
    }
    let server = Server::start(options).await;
    Mysql { server: server.unwrap_or_else(|error| panic!("{error}")) }
}

/// A client program of MySQL 9.7.
pub(crate) fn tool(name: &str) -> PathBuf {
    let binaries = find(Kind::Mysql97).unwrap_or_else(|error| panic!("{error}"));
    binaries.program(name)
}
