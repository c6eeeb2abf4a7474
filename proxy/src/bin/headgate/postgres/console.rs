//! One admin session after its login: simple and extended protocol over the console's statements.

use std::collections::HashMap;
use std::io;

use bytes::{Buf, Bytes, BytesMut};

use super::wire::{Body, Bound, Frame, Wire};
use crate::console::answer::{Answer, Column, Refusal, Value};
use crate::console::session::{Connection, Conversation, PREPARED_MAX, Transaction};
use crate::console::{self, Execute};
use crate::statement::{self, Statement, Token};
use proxy::client::Client;

/// What clients learn about the console at login. The version's number is what tools choose their dialect by.
const PARAMETERS: [(&str, &str); 9] = [
    ("server_version", concat!("15.0 (Headgate ", env!("CARGO_PKG_VERSION"), ")")),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "off"),
];

/// Serves a client that was told that it is logged in, until it leaves.
pub(crate) async fn serve(execute: &impl Execute, stream: Client, leftover: BytesMut) -> io::Result<()> {
    let mut session = Session {
        execute,
        wire: Wire::new(stream, leftover),
        transaction: Transaction::None,
        prepared: HashMap::new(),
        portals: HashMap::new(),
        skipping: false,
    };
    for (name, value) in PARAMETERS {
        session.wire.parameter(name, value);
    }
    session.ready().await?;
    console::session::serve(session).await
}

struct Session<'a, E> {
    execute: &'a E,
    wire: Wire,
    transaction: Transaction,
    prepared: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    /// After an error of the extended protocol everything up to the next Sync is dropped.
    skipping: bool,
}

#[derive(Clone)]
struct Prepared {
    tokens: Vec<Token>,
    columns: &'static [Column],
    parameters: Vec<u32>,
}

struct Portal {
    tokens: Vec<Token>,
    columns: &'static [Column],
    formats: Vec<i16>,
    running: Option<(std::vec::IntoIter<Vec<Value>>, String)>,
}

/// Why an extended message could not be served.
type Outcome<T = ()> = Result<T, Refusal>;

fn malformed() -> Refusal {
    Refusal::new("08P01", "a malformed message", "")
}

impl<E: Execute> Conversation for Session<'_, E> {
    type Message = Frame;

    const MALFORMED: &'static str = "08P01";

    fn connection(&mut self) -> &mut Connection {
        &mut self.wire.connection
    }

    fn take(&mut self) -> io::Result<Option<Frame>> {
        self.wire.take()
    }

    async fn handle(&mut self, frame: Frame) -> io::Result<bool> {
        let Frame { tag, body } = frame;
        let outcome = match tag {
            b'X' => return Ok(false),
            b'S' => {
                self.skipping = false;
                if self.transaction == Transaction::None {
                    self.portals.clear();
                }
                self.ready().await?;
                return Ok(true);
            }
            _ if self.skipping => return Ok(true),
            b'Q' => {
                self.query(body).await;
                self.ready().await?;
                return Ok(true);
            }
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'E' => self.run(body).await,
            b'C' => self.close(body),
            b'H' => {
                self.wire.connection.flush().await?;
                Ok(())
            }
            // What is left of a COPY that a client believes in.
            b'd' | b'c' | b'f' => Ok(()),
            _ => {
                let refusal = Refusal::new("08P01", "a message that the admin console does not know", "");
                self.wire.refuse("FATAL", &refusal);
                return Ok(false);
            }
        };
        if let Err(refusal) = outcome {
            self.fail(&refusal);
            self.skipping = true;
            self.wire.connection.flush().await?;
        }
        Ok(true)
    }

    fn refuse_and_end(&mut self, refusal: &Refusal) {
        self.wire.refuse("FATAL", refusal);
    }
}

impl<E: Execute> Session<'_, E> {
    async fn ready(&mut self) -> io::Result<()> {
        let state = match self.transaction {
            Transaction::None => b'I',
            Transaction::Open { .. } => b'T',
            Transaction::Failed => b'E',
        };
        self.wire.put(b'Z', &[state]);
        self.wire.connection.flush().await
    }

    fn fail(&mut self, refusal: &Refusal) {
        self.wire.refuse("ERROR", refusal);
        if self.transaction != Transaction::None {
            self.transaction = Transaction::Failed;
        }
    }

    async fn query(&mut self, mut body: Body) {
        if let Err(refusal) = self.try_query(&mut body).await {
            self.fail(&refusal);
        }
    }

    async fn try_query(&mut self, body: &mut Body) -> Outcome {
        let text = body.text().filter(|_| body.is_empty()).ok_or_else(malformed)?;
        let statements = statement::split(&text)?;
        if statements.is_empty() {
            self.wire.put(b'I', &[]);
        }
        // All are read before the first is carried out, so that a slip at the end does nothing.
        let parsed: Result<Vec<_>, _> = statements.iter().map(|tokens| statement::parse(tokens)).collect();
        for statement in parsed? {
            let columns = self.execute.columns(&statement);
            let answer = self.run_statement(statement).await?;
            if !columns.is_empty() {
                self.wire.columns(columns, |_| false);
            }
            let count = answer.rows.len();
            for row in answer.rows {
                self.wire.row(&row, |_| false);
            }
            self.wire.complete(&full_tag(&answer.tag, columns, count));
        }
        Ok(())
    }

    async fn run_statement(&mut self, statement: Statement) -> Outcome<Answer> {
        let answer = self.transaction.run(self.execute, statement).await?;
        if let Some(notice) = &answer.notice {
            self.wire.warn(notice);
        }
        Ok(answer)
    }

    fn parse(&mut self, mut body: Body) -> Outcome {
        let name = body.text().ok_or_else(malformed)?;
        let text = body.text().ok_or_else(malformed)?;
        let given: Option<Vec<u32>> =
            (0..body.count().ok_or_else(malformed)?).map(|_| body.long().map(i32::cast_unsigned)).collect();
        let given = given.ok_or_else(malformed)?;
        let mut statements = statement::split(&text)?;
        if statements.len() > 1 {
            let text = "cannot insert multiple commands into a prepared statement";
            return Err(Refusal::new("42601", text, "send one statement at a time"));
        }
        let tokens = statements.pop().unwrap_or_default();
        let columns = if tokens.is_empty() { &[] } else { self.execute.columns(&statement::parse(&tokens)?) };
        let declared = |at| given.get(at).copied().filter(|oid| *oid != 0).unwrap_or(TEXT);
        let parameters = (0..statement::parameter_count(&tokens).max(given.len())).map(declared).collect();
        if self.prepared.len() >= PREPARED_MAX && !self.prepared.contains_key(&name) {
            return Err(Refusal::new("54000", "too many prepared statements", "deallocate some"));
        }
        if !name.is_empty() && self.prepared.contains_key(&name) {
            let text = format!("prepared statement \"{name}\" already exists");
            return Err(Refusal::new("42P05", text, ""));
        }
        self.prepared.insert(name, Prepared { tokens, columns, parameters });
        self.wire.put(b'1', &[]);
        Ok(())
    }

    fn bind(&mut self, mut body: Body) -> Outcome {
        let portal = body.text().ok_or_else(malformed)?;
        let name = body.text().ok_or_else(malformed)?;
        let formats = formats(&mut body).ok_or_else(malformed)?;
        let values: Option<Vec<_>> = (0..body.count().ok_or_else(malformed)?).map(|_| body.value()).collect();
        let values = values.ok_or_else(malformed)?;
        let result_formats = formats_of_result(&mut body).ok_or_else(malformed)?;
        let prepared = self.prepared(&name)?;
        if values.len() != prepared.parameters.len() {
            let text = format!("{} parameters were bound, {} are needed", values.len(), prepared.parameters.len());
            return Err(Refusal::new("08P01", text, ""));
        }
        let texts: Outcome<Vec<_>> = values
            .into_iter()
            .enumerate()
            .map(|(at, value)| {
                let oid = prepared.parameters.get(at).copied().unwrap_or(TEXT);
                match value {
                    Bound::Null => Ok(None),
                    Bound::Bytes(value) => parameter_text(oid, is_binary(&formats, at), &value).map(Some),
                }
            })
            .collect();
        let tokens = statement::bind(&prepared.tokens, &texts?)?;
        if self.portals.len() >= PREPARED_MAX && !self.portals.contains_key(&portal) {
            return Err(Refusal::new("54000", "too many portals", "close some"));
        }
        let columns = prepared.columns;
        self.portals.insert(portal, Portal { tokens, columns, formats: result_formats, running: None });
        self.wire.put(b'2', &[]);
        Ok(())
    }

    fn prepared(&self, name: &str) -> Outcome<Prepared> {
        let missing = || Refusal::new("26000", format!("prepared statement \"{name}\" does not exist"), "");
        self.prepared.get(name).cloned().ok_or_else(missing)
    }

    fn describe(&mut self, mut body: Body) -> Outcome {
        let kind = body.byte().ok_or_else(malformed)?;
        let name = body.text().ok_or_else(malformed)?;
        let (columns, formats) = match kind {
            b'S' => {
                let prepared = self.prepared(&name)?;
                self.wire.parameter_types(&prepared.parameters);
                (prepared.columns, Vec::new())
            }
            b'P' => {
                let portal = self.portals.get(&name).ok_or_else(|| no_portal(&name))?;
                (portal.columns, portal.formats.clone())
            }
            _ => return Err(malformed()),
        };
        if columns.is_empty() {
            self.wire.put(b'n', &[]);
        } else {
            self.wire.columns(columns, |at| is_binary(&formats, at));
        }
        Ok(())
    }

    async fn run(&mut self, mut body: Body) -> Outcome {
        let name = body.text().ok_or_else(malformed)?;
        let limit = body.long().ok_or_else(malformed)?;
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
        if portal.tokens.is_empty() {
            self.wire.put(b'I', &[]);
            self.portals.insert(name, portal);
            return Ok(());
        }
        let (mut rows, tag) = if let Some(running) = portal.running.take() {
            running
        } else {
            let answer = self.run_statement(statement::parse(&portal.tokens)?).await?;
            (answer.rows.into_iter(), answer.tag)
        };
        let mut count = 0;
        for row in rows.by_ref().take(limit) {
            self.wire.row(&row, |at| is_binary(&portal.formats, at));
            count += 1;
        }
        if rows.len() > 0 {
            self.wire.put(b's', &[]);
        } else {
            self.wire.complete(&full_tag(&tag, portal.columns, count));
        }
        portal.running = Some((rows, tag));
        self.portals.insert(name, portal);
        Ok(())
    }

    fn close(&mut self, mut body: Body) -> Outcome {
        let kind = body.byte().ok_or_else(malformed)?;
        let name = body.text().ok_or_else(malformed)?;
        match kind {
            b'S' => drop(self.prepared.remove(&name)),
            b'P' => drop(self.portals.remove(&name)),
            _ => return Err(malformed()),
        }
        self.wire.put(b'3', &[]);
        Ok(())
    }
}

const TEXT: u32 = 25;

fn no_portal(name: &str) -> Refusal {
    Refusal::new("34000", format!("portal \"{name}\" does not exist"), "")
}

fn full_tag(tag: &str, columns: &[Column], count: usize) -> String {
    if columns.is_empty() { tag.to_owned() } else { format!("{tag} {count}") }
}

/// The format codes before parameters or results: none means text, one means the same for all.
fn formats(body: &mut Body) -> Option<Vec<i16>> {
    (0..body.count()?).map(|_| body.short()).collect()
}

fn formats_of_result(body: &mut Body) -> Option<Vec<i16>> {
    formats(body).filter(|_| body.is_empty())
}

fn is_binary(formats: &[i16], at: usize) -> bool {
    let code = if let [only] = formats { Some(only) } else { formats.get(at) };
    code == Some(&1)
}

/// The text of a bound value, whatever type the client declared.
fn parameter_text(oid: u32, binary: bool, value: &Bytes) -> Outcome<String> {
    let mut bytes = value.clone();
    let number = match (binary, oid, value.len()) {
        (true, 16, 1) => return Ok((bytes.get_u8() != 0).to_string()),
        (true, 21, 2) => i64::from(bytes.get_i16()),
        (true, 23, 4) => i64::from(bytes.get_i32()),
        (true, 20, 8) => bytes.get_i64(),
        (true, oid, _) if !matches!(oid, 0 | 19 | TEXT | 705 | 1042 | 1043) => {
            let text = format!("a binary parameter of the type with oid {oid} is not understood");
            return Err(Refusal::new("0A000", text, "bind a text"));
        }
        _ => {
            let text = String::from_utf8(value.to_vec());
            let refusal = |_| Refusal::new("22021", "a parameter is not UTF-8", "bind a text in UTF-8");
            return text.map_err(refusal);
        }
    };
    Ok(number.to_string())
}
