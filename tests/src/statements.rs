//! A relay between Headgate and a server that reads the statements of Headgate's own sessions, and can kill Headgate
//! before one of them is sent, or when it is carried out and Headgate has not heard of it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::headgate::Engine;

/// On which side of a place the program is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// What would follow was not begun.
    Before,
    /// It is done, and nobody has been told.
    After,
}

impl Edge {
    /// Its name in failpoints and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// The statements that were seen by all relays of a test, and the one that is lethal.
#[derive(Clone, Default)]
pub struct Statements(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    pid: Option<u32>,
    names: Vec<String>,
    known: BTreeSet<String>,
    armed: Option<Armed>,
}

/// What happens at a statement: the program dies, or something else is done and the statement goes on.
struct Armed {
    name: String,
    edge: Edge,
    instead: Option<Box<dyn FnOnce() + Send>>,
}

impl Statements {
    /// Whom to kill.
    pub fn watch(&self, pid: u32) {
        self.0.lock().pid = Some(pid);
    }

    /// The names of the statements since the last call, each once, in their order.
    pub fn take(&self) -> Vec<String> {
        let mut seen = self.0.lock();
        seen.known.clear();
        std::mem::take(&mut seen.names)
    }

    /// From now on the program dies at this statement.
    pub fn arm(&self, name: &str, edge: Edge) {
        self.0.lock().armed = Some(Armed { name: name.to_owned(), edge, instead: None });
    }

    /// From now on this is done at this statement, once.
    pub fn meet(&self, name: &str, edge: Edge, action: impl FnOnce() + Send + 'static) {
        let instead: Option<Box<dyn FnOnce() + Send>> = Some(Box::new(action));
        self.0.lock().armed = Some(Armed { name: name.to_owned(), edge, instead });
    }

    /// It may live.
    pub fn disarm(&self) {
        self.0.lock().armed = None;
    }

    /// Notes a statement that is about to be sent; the edge at which it is lethal, if it is.
    fn note(&self, name: &str) -> Option<Edge> {
        let mut seen = self.0.lock();
        if seen.known.insert(name.to_owned()) {
            seen.names.push(name.to_owned());
        }
        seen.armed.as_ref().filter(|armed| armed.name == name).map(|armed| armed.edge)
    }

    /// Does what the statement was armed with; whether the program is dead then.
    fn act(&self) -> bool {
        let (armed, pid) = {
            let mut seen = self.0.lock();
            (seen.armed.take(), seen.pid)
        };
        match (armed, pid) {
            (Some(Armed { instead: Some(action), .. }), _) => {
                action();
                false
            }
            (Some(_), Some(pid)) => {
                let _gone = Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).status();
                true
            }
            _ => false,
        }
    }
}

/// A running relay; its connections end when it is dropped.
#[derive(Debug)]
pub struct StatementRelay {
    port: u16,
    task: JoinHandle<()>,
}

impl StatementRelay {
    /// Listens on a free loopback port and relays to another one, which is a server of this engine; `cluster` stands
    /// before the names of its statements.
    pub async fn to(engine: Engine, cluster: &'static str, port: u16, statements: Statements) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free loopback port");
        let own = listener.local_addr().expect("a bound listener has an address").port();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let session = Session {
                    engine,
                    cluster,
                    statements: statements.clone(),
                    shared: Arc::default(),
                    purpose: String::new(),
                    prepared: Vec::new(),
                };
                tokio::spawn(session.relay(client, port));
            }
        });
        Self { port: own, task }
    }

    /// Where to connect instead.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for StatementRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection of Headgate's.
struct Session {
    engine: Engine,
    cluster: &'static str,
    statements: Statements,
    shared: Arc<Mutex<Shared>>,
    /// What it is for, as Headgate tells the server; empty for sessions of the application.
    purpose: String,
    /// Texts by the name or number that they were prepared under.
    prepared: Vec<(Vec<u8>, String)>,
}

/// What the two directions of a connection tell one another.
#[derive(Debug, Default)]
struct Shared {
    /// Something happens before the next answer is delivered.
    due: bool,
    /// A text that MySQL gives a number to with its next answer.
    preparing: Option<String>,
    numbered: Vec<(Vec<u8>, String)>,
}

/// The program is dead.
struct Killed;

impl Session {
    async fn relay(mut self, client: TcpStream, port: u16) {
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (mut from_client, to_client) = client.into_split();
        let (from_server, mut to_server) = server.into_split();
        let answers = answers(from_server, to_client, Arc::clone(&self.shared), self.statements.clone());
        let asked = async {
            let relayed = match self.engine {
                Engine::Postgres => self.postgres(&mut from_client, &mut to_server).await,
                Engine::Mysql => self.mysql(&mut from_client, &mut to_server).await,
            };
            let _ = to_server.shutdown().await;
            relayed
        };
        tokio::pin!(answers, asked);
        tokio::select! {
            () = &mut answers => {}
            asked = &mut asked => if !matches!(asked, Ok(Err(Killed))) { answers.await },
        }
    }

    async fn postgres(
        &mut self,
        client: &mut OwnedReadHalf,
        server: &mut OwnedWriteHalf,
    ) -> std::io::Result<Result<(), Killed>> {
        const ASKS: [u32; 2] = [80_877_103, 80_877_104];
        loop {
            let length = client.read_u32().await?;
            let mut body = vec![0; length.saturating_sub(4) as usize];
            client.read_exact(&mut body).await?;
            server.write_all(&[&length.to_be_bytes(), body.as_slice()].concat()).await?;
            let code = body.first_chunk().copied().map_or(0, u32::from_be_bytes);
            if !ASKS.contains(&code) {
                let words: Vec<&[u8]> = body.get(4..).unwrap_or_default().split(|byte| *byte == 0).collect();
                let name = words.chunks(2).find(|pair| pair[0] == b"application_name").and_then(|pair| pair.get(1));
                self.purpose = own(name.copied().unwrap_or_default());
                break;
            }
        }
        if self.purpose.is_empty() {
            return tokio::io::copy(client, server).await.map(|_| Ok(()));
        }
        let mut copying = false;
        loop {
            let tag = client.read_u8().await?;
            let length = client.read_u32().await?;
            let mut body = vec![0; length.saturating_sub(4) as usize];
            client.read_exact(&mut body).await?;
            let text = |bytes: &[u8]| {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                String::from_utf8_lossy(&bytes[..end]).into_owned()
            };
            let mut words = body.splitn(3, |byte| *byte == 0);
            let statement = match tag {
                b'Q' => Some(text(&body)),
                b'P' => {
                    let (name, parsed) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                    self.prepared.retain(|(known, _)| known != name);
                    self.prepared.push((name.to_vec(), text(parsed)));
                    None
                }
                b'B' => {
                    let name = words.nth(1).unwrap_or_default();
                    self.prepared.iter().find(|(known, _)| known == name).map(|(_, parsed)| parsed.clone())
                }
                // Of the rows of a COPY only the first, of a stream's confirmations every one under the same name.
                b'd' if body.first() == Some(&b'r') && body.len() == 34 => {
                    Some("a confirmation of the stream".to_owned())
                }
                b'd' if !std::mem::replace(&mut copying, true) => Some("rows of a COPY".to_owned()),
                b'c' => {
                    copying = false;
                    Some("the end of a COPY".to_owned())
                }
                _ => None,
            };
            if let Some(statement) = statement
                && self.meets(&statement) == Err(())
            {
                return Ok(Err(Killed));
            }
            let frame = [&[tag], length.to_be_bytes().as_slice(), &body].concat();
            server.write_all(&frame).await?;
        }
    }

    async fn mysql(
        &mut self,
        client: &mut OwnedReadHalf,
        server: &mut OwnedWriteHalf,
    ) -> std::io::Result<Result<(), Killed>> {
        const QUERY: u8 = 0x03;
        const PREPARE: u8 = 0x16;
        const EXECUTE: u8 = 0x17;
        const DUMPS: [u8; 2] = [0x12, 0x1e];
        let mut first = true;
        loop {
            let mut head = [0; 4];
            client.read_exact(&mut head).await?;
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
            let mut body = vec![0; length as usize];
            client.read_exact(&mut body).await?;
            if std::mem::take(&mut first) {
                const KEY: &[u8] = b"program_name";
                let at = body.windows(KEY.len()).position(|window| window == KEY);
                let value = at.and_then(|at| {
                    let (length, rest) = body.get(at + KEY.len()..)?.split_first()?;
                    rest.get(..usize::from(*length))
                });
                self.purpose = own(value.unwrap_or_default());
                server.write_all(&[&head, body.as_slice()].concat()).await?;
                if self.purpose.is_empty() {
                    return tokio::io::copy(client, server).await.map(|_| Ok(()));
                }
                continue;
            }
            let is_command = head[3] == 0;
            let (command, rest) = body.split_first().map_or((0, &[][..]), |(command, rest)| (*command, rest));
            let text = || String::from_utf8_lossy(rest).trim_start_matches(['\0', '\u{1}']).to_owned();
            let statement = match command {
                _ if !is_command => None,
                QUERY => Some(text()),
                PREPARE => {
                    self.shared.lock().preparing = Some(text());
                    None
                }
                EXECUTE => {
                    let shared = self.shared.lock();
                    let number = rest.get(..4).unwrap_or_default();
                    shared.numbered.iter().rev().find(|(known, _)| known == number).map(|(_, text)| text.clone())
                }
                _ if DUMPS.contains(&command) => Some("the binary log".to_owned()),
                _ => None,
            };
            if let Some(statement) = statement
                && self.meets(&statement) == Err(())
            {
                return Ok(Err(Killed));
            }
            server.write_all(&[&head, body.as_slice()].concat()).await?;
        }
    }

    /// Notes a statement; an error where it must not be sent any more.
    fn meets(&self, statement: &str) -> Result<(), ()> {
        let name = format!("{} {}: {}", self.cluster, self.purpose, shape(statement));
        match self.statements.note(&name) {
            Some(Edge::Before) if self.statements.act() => Err(()),
            None | Some(Edge::Before) => Ok(()),
            Some(Edge::After) => {
                self.shared.lock().due = true;
                Ok(())
            }
        }
    }
}

/// Carries the answers back, until one is lethal.
async fn answers(
    mut server: impl AsyncRead + Unpin,
    mut client: impl AsyncWrite + Unpin,
    shared: Arc<Mutex<Shared>>,
    statements: Statements,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = server.read(&mut buffer).await {
        let bytes = &buffer[..count];
        {
            let mut shared = shared.lock();
            if std::mem::take(&mut shared.due) && statements.act() {
                return;
            }
            if let Some(text) = shared.preparing.take()
                && bytes.get(4) == Some(&0)
                && let Some(number) = bytes.get(5..9)
            {
                shared.numbered.push((number.to_vec(), text));
            }
        }
        if client.write_all(bytes).await.is_err() {
            return;
        }
    }
    let _ = client.shutdown().await;
}

/// What a session of Headgate's is for; empty for any other.
fn own(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.strip_prefix("headgate ").map(|purpose| legless(&numberless(purpose))).unwrap_or_default()
}

/// How much of a statement is its name.
const SHAPE_MAX: usize = 120;

/// A statement without what differs from one time to the next.
fn shape(statement: &str) -> String {
    let mut shape = String::new();
    let mut quoted = false;
    for character in statement.chars() {
        if character == '\'' {
            quoted = !quoted;
            if quoted {
                shape.push('?');
            }
        } else if !quoted {
            shape.push(if character.is_whitespace() { ' ' } else { character });
        }
    }
    let words: Vec<&str> = shape.split_whitespace().collect();
    legless(&numberless(&words.join(" "))).chars().take(SHAPE_MAX).collect()
}

/// Names as the first leg has them: what comes after carries its number.
fn legless(text: &str) -> String {
    text.replace("m/# ", "m ").replace("headgate#_", "headgate_")
}

fn numberless(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for character in text.chars() {
        if !character.is_ascii_digit() {
            kept.push(character);
        } else if !kept.ends_with('#') {
            kept.push('#');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::shape;

    #[test]
    fn a_statement_is_named_without_its_values() {
        let one = "INSERT INTO t VALUES (17, 'it''s')\n  ON CONFLICT DO NOTHING";
        assert_eq!(shape(one), "INSERT INTO t VALUES (#, ??) ON CONFLICT DO NOTHING");
    }
}
