//! One admin session after its login: text and binary protocol over the console's statements.

use std::collections::HashMap;
use std::io;

use bytes::{Buf, Bytes};
use proxy::config::ADMIN_DATABASE;
use proxy::console::AdminClient;

use super::dialect::{self, Asker, Spoken};
use super::values::{self, Bound, Naming};
use super::wire::{Titled, Wire, number, status};
use crate::console::answer::{Refusal, Type, Value};
use crate::console::session::{Connection, Conversation, PREPARED_MAX, Transaction};
use crate::console::{self, Execute, version};
use crate::statement::{self, Statement, Token};

/// The commands that the console carries out; MySQL's manual, "Command Phase".
mod command {
    pub(super) const QUIT: u8 = 0x01;
    pub(super) const INIT_DB: u8 = 0x02;
    pub(super) const QUERY: u8 = 0x03;
    pub(super) const FIELD_LIST: u8 = 0x04;
    pub(super) const STATISTICS: u8 = 0x09;
    pub(super) const PING: u8 = 0x0E;
    pub(super) const STMT_PREPARE: u8 = 0x16;
    pub(super) const STMT_EXECUTE: u8 = 0x17;
    pub(super) const STMT_SEND_LONG_DATA: u8 = 0x18;
    pub(super) const STMT_CLOSE: u8 = 0x19;
    pub(super) const STMT_RESET: u8 = 0x1A;
    pub(super) const SET_OPTION: u8 = 0x1B;
    pub(super) const RESET_CONNECTION: u8 = 0x1F;
}

/// Serves a client that was told that it is logged in, until it leaves.
pub(super) async fn serve(execute: &impl Execute, client: AdminClient) -> io::Result<()> {
    console::session::serve(Session {
        execute,
        user: client.user,
        wire: Wire::new(client.stream, client.leftover, client.capabilities),
        transaction: Transaction::None,
        warnings: Vec::new(),
        prepared: HashMap::new(),
        last_id: 0,
    })
    .await
}

struct Session<'a, E> {
    execute: &'a E,
    user: String,
    wire: Wire,
    transaction: Transaction,
    /// What `SHOW WARNINGS` tells of the last statement: level, number and text.
    warnings: Vec<(&'static str, u16, String)>,
    prepared: HashMap<u32, Prepared>,
    last_id: u32,
}

struct Prepared {
    tokens: Vec<Token>,
    parameters: usize,
    types: Vec<Bound>,
}

/// What one statement answers.
enum Answered {
    Rows(Vec<Titled>, Vec<Vec<Value>>),
    Done,
}

type Outcome<T = ()> = Result<T, Refusal>;

fn malformed() -> Refusal {
    Refusal::new("08S01", "a malformed message", "")
}

impl<E: Execute> Conversation for Session<'_, E> {
    type Message = (u8, Bytes);

    const MALFORMED: &'static str = "08S01";

    fn connection(&mut self) -> &mut Connection {
        &mut self.wire.connection
    }

    fn take(&mut self) -> io::Result<Option<(u8, Bytes)>> {
        self.wire.take()
    }

    async fn handle(&mut self, (command, body): (u8, Bytes)) -> io::Result<bool> {
        let goes_on = self.answer(command, body).await;
        self.wire.connection.flush().await?;
        Ok(goes_on)
    }

    fn refuse_and_end(&mut self, refusal: &Refusal) {
        self.wire.refuse(refusal);
    }
}

impl<E: Execute> Session<'_, E> {
    fn status(&self) -> u16 {
        let open = self.transaction != Transaction::None;
        status::AUTOCOMMIT | if open { status::IN_TRANSACTION } else { 0 }
    }

    /// False when the session is over.
    async fn answer(&mut self, command: u8, body: Bytes) -> bool {
        let outcome = match command {
            command::QUIT => return false,
            // They are not answered.
            command::STMT_SEND_LONG_DATA => return true,
            command::STMT_CLOSE => {
                self.close(body);
                return true;
            }
            command::QUERY => self.query(body).await,
            command::STMT_PREPARE => self.prepare(&body),
            command::STMT_EXECUTE => self.run(body).await,
            command::STATISTICS => {
                self.wire.raw(version().as_bytes());
                Ok(())
            }
            // No table is here, so that no field is either.
            command::FIELD_LIST | command::SET_OPTION => {
                self.wire.eof(self.status(), 0);
                Ok(())
            }
            command::INIT_DB if body != ADMIN_DATABASE => {
                let name = String::from_utf8_lossy(&body).into_owned();
                let text = format!("the admin console has no database {name:?}");
                Err(Refusal::new("42000", text, "connect to it as a database of its own"))
            }
            command::RESET_CONNECTION => {
                self.transaction = Transaction::None;
                self.prepared.clear();
                self.wire.ok(self.status(), 0);
                Ok(())
            }
            command::PING | command::STMT_RESET | command::INIT_DB => {
                self.wire.ok(self.status(), 0);
                Ok(())
            }
            _ => Err(Refusal::new("08S01", "a command that the admin console does not know", "")),
        };
        if let Err(refusal) = outcome {
            self.fail(&refusal);
        }
        true
    }

    fn fail(&mut self, refusal: &Refusal) {
        // Clients cut long errors; the remedy is told again to whoever asks for warnings.
        let number = number(refusal.code);
        self.warnings = vec![("Error", number, refusal.text.clone())];
        if !refusal.hint.is_empty() {
            self.warnings.push(("Note", number, refusal.hint.clone()));
        }
        self.wire.refuse(refusal);
    }

    async fn query(&mut self, mut body: Bytes) -> Outcome {
        if self.wire.has_attributes() {
            values::skip_attributes(&mut body)?;
        }
        let statements = statement::split(text(&body)?)?;
        if statements.is_empty() {
            return Err(Refusal::new("42000", "Query was empty", ""));
        }
        if statements.len() > 1 && !self.wire.takes_several() {
            let text = "several statements in one text, and the client did not ask for that";
            return Err(Refusal::new("42601", text, "send one statement at a time"));
        }
        // All are read before the first is carried out, so that a slip at the end does nothing.
        let asker = self.asker();
        let spoken: Outcome<Vec<_>> = statements.iter().map(|tokens| dialect::parse(tokens, &asker)).collect();
        let spoken = spoken?;
        let last = spoken.len() - 1;
        for (at, one) in spoken.into_iter().enumerate() {
            let more = if at < last { status::MORE_RESULTS } else { 0 };
            let reported = self.run_statement(one).await?;
            self.tell(reported, false, more);
        }
        Ok(())
    }

    fn asker(&self) -> Asker {
        // The version's number is what tools choose their dialect by.
        Asker { user: self.user.clone(), version: concat!("8.0.0-Headgate-", env!("CARGO_PKG_VERSION")) }
    }

    fn tell(&mut self, reported: Answered, binary: bool, more: u16) {
        let status = self.status() | more;
        let warnings = u16::try_from(self.warnings.len()).unwrap_or(u16::MAX);
        match reported {
            Answered::Rows(columns, rows) => {
                self.wire.rows(&columns, &rows, binary, status, warnings);
            }
            Answered::Done => self.wire.ok(status, warnings),
        }
    }

    async fn run_statement(&mut self, spoken: Spoken) -> Outcome<Answered> {
        let texts =
            |titles: &[&str]| -> Vec<Titled> { titles.iter().map(|title| ((*title).to_owned(), Type::Text)).collect() };
        if spoken == Spoken::Warnings {
            let rows = self.warnings.iter().map(|(level, number, text)| {
                vec![Value::from(*level), Value::Int(i64::from(*number)), Value::from(text.clone())]
            });
            let mut columns = texts(&["Level", "Code", "Message"]);
            columns[1].1 = Type::Int;
            return Ok(Answered::Rows(columns, rows.collect()));
        }
        self.warnings.clear();
        Ok(match spoken {
            Spoken::Warnings | Spoken::Nothing => Answered::Done,
            Spoken::Row(pairs) => {
                let (titles, values): (Vec<Titled>, Vec<Value>) =
                    pairs.into_iter().map(|(title, value)| ((title, Type::Text), Value::from(value))).unzip();
                Answered::Rows(titles, vec![values])
            }
            Spoken::Names(title, names) => {
                let rows = names.into_iter().map(|name| vec![Value::from(name)]);
                Answered::Rows(texts(&[title]), rows.collect())
            }
            Spoken::Variables(pattern) => {
                let found = dialect::variables(pattern.as_deref(), &self.asker());
                let rows = found.into_iter().map(|(name, value)| vec![Value::from(name), Value::from(value)]);
                Answered::Rows(texts(&["Variable_name", "Value"]), rows.collect())
            }
            Spoken::Statement(statement) => self.execute(statement).await?,
        })
    }

    async fn execute(&mut self, statement: Statement) -> Outcome<Answered> {
        let columns = self.execute.columns(&statement);
        let answer = self.transaction.run(self.execute, statement).await?;
        self.warnings.extend(answer.notice.map(|notice| ("Warning", number("01000"), notice)));
        if columns.is_empty() {
            return Ok(Answered::Done);
        }
        let titled = columns.iter().map(|(title, of)| ((*title).to_owned(), *of));
        Ok(Answered::Rows(titled.collect(), answer.rows))
    }

    fn prepare(&mut self, body: &Bytes) -> Outcome {
        let mut statements = statement::split(text(body)?)?;
        if statements.len() != 1 {
            let text = "a prepared statement holds exactly one statement";
            return Err(Refusal::new("42601", text, "send one statement at a time"));
        }
        if self.prepared.len() >= PREPARED_MAX {
            let text = "too many prepared statements";
            return Err(Refusal::new("54000", text, "close some"));
        }
        let mut tokens = statements.pop().unwrap_or_default();
        let parameters = dialect::number_parameters(&mut tokens);
        let columns = match dialect::parse(&tokens, &self.asker())? {
            Spoken::Statement(statement) => {
                self.execute.columns(&statement).iter().map(|(title, of)| ((*title).to_owned(), *of)).collect()
            }
            Spoken::Row(pairs) => pairs.into_iter().map(|(title, _)| (title, Type::Text)).collect(),
            // Their columns are told with their rows.
            _ => Vec::new(),
        };
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let prepared = Prepared { tokens, parameters, types: Vec::new() };
        self.prepared.insert(self.last_id, prepared);
        self.wire.prepared(self.last_id, &columns, parameters, self.status());
        Ok(())
    }

    async fn run(&mut self, mut body: Bytes) -> Outcome {
        /// The client says how many parameters come, those of the statement and attributes.
        const COUNT_AVAILABLE: u8 = 0x08;
        if body.len() < 9 {
            return Err(malformed());
        }
        let id = body.get_u32_le();
        let flags = body.get_u8();
        body.advance(4);
        let attributes = self.wire.has_attributes();
        let unknown = || Refusal::new("26000", "there is no such prepared statement", "");
        let prepared = self.prepared.get_mut(&id).ok_or_else(unknown)?;
        let mut count = prepared.parameters;
        if attributes && (count > 0 || flags & COUNT_AVAILABLE != 0) {
            let reported = values::lenenc_int(&mut body).ok_or_else(malformed)?;
            count = usize::try_from(reported).map_err(|_| malformed())?;
        }
        let mut bound = values::read(&mut body, count, &mut prepared.types, Naming { attributes })?;
        bound.truncate(prepared.parameters);
        let tokens = statement::bind(&prepared.tokens, &bound)?;
        let spoken = dialect::parse(&tokens, &self.asker())?;
        let reported = self.run_statement(spoken).await?;
        self.tell(reported, true, 0);
        Ok(())
    }

    fn close(&mut self, mut body: Bytes) {
        if let Ok(id) = body.try_get_u32_le() {
            self.prepared.remove(&id);
        }
    }
}

fn text(body: &Bytes) -> Outcome<&str> {
    std::str::from_utf8(body).map_err(|_| Refusal::new("22021", "the statement is not UTF-8", "send it in UTF-8"))
}
