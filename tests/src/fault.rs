//! A TCP relay between two real parties that splits, delays, stops or cuts what passes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What the relay does to the bytes of every connection, from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Every byte goes in a segment of its own.
    Bytewise,
    /// Every segment waits that long.
    Delay(Duration),
    /// Nothing goes through, and nobody is told: a partition.
    Silence,
    /// All connections end, and new ones end at once.
    Cut,
}

/// A running relay; its connections end when it is dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    to: Arc<AtomicU16>,
    fault: watch::Sender<Fault>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on a free loopback port and relays to another one.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free loopback port");
        let own = listener.local_addr().expect("a bound listener has an address").port();
        let (fault, faults) = watch::channel(Fault::None);
        let to = Arc::new(AtomicU16::new(port));
        let leads_to = Arc::clone(&to);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *faults.borrow() != Fault::Cut {
                    tokio::spawn(relay(client, leads_to.load(Ordering::SeqCst), faults.clone()));
                }
            }
        });
        Self { port: own, to, fault, task }
    }

    /// Relays new connections to another port from now on, as the name of an endpoint does that moves.
    pub fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
    }

    /// Where to connect instead.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what happens to all connections.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.fault.send_replace(Fault::Cut);
        self.task.abort();
    }
}

async fn relay(client: TcpStream, port: u16, mut faults: watch::Receiver<Fault>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let there = tokio::spawn(pump(from_client, to_server, faults.clone()));
    let back = tokio::spawn(pump(from_server, to_client, faults.clone()));
    let ends = [there.abort_handle(), back.abort_handle()];
    tokio::select! {
        _ = faults.wait_for(|fault| *fault == Fault::Cut) => ends.iter().for_each(tokio::task::AbortHandle::abort),
        () = async { let _ = tokio::join!(there, back); } => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut faults: watch::Receiver<Fault>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if faults.wait_for(|fault| *fault != Fault::Silence).await.is_err() {
            break;
        }
        let (bytes, fault) = (&buffer[..count], *faults.borrow());
        let step = if fault == Fault::Bytewise { 1 } else { count };
        if let Fault::Delay(pause) = fault {
            sleep(pause).await;
        }
        for part in bytes.chunks(step) {
            if to.write_all(part).await.is_err() {
                return;
            }
        }
    }
    let _ = to.shutdown().await;
}
