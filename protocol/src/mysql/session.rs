//! Where a session stands, learned from the starts of the packets that pass by in both directions.
//!
//! Commands are answered in order, each in the shape that belongs to it ([`command::shape`]). OK and EOF carry the
//! session's status; ERR does not, although the statement that failed may have begun or ended a transaction (a
//! procedure that begins one and then fails leaves it open). So behind an ERR it is *in doubt* whether a transaction
//! is open, and doubt counts as one until the next status settles it; a ping of the proxy's own brings one.

use std::collections::VecDeque;

use crate::error::Malformed;
use crate::mysql::command::{self, Shape};
use crate::mysql::frame::Header;
use crate::mysql::lenenc::Fields;
use crate::mysql::reply::{self, Okay, Prepared, capability, status};

/// How many unanswered commands are tracked; a client that sends more must wait for replies.
const OWED_MAX: usize = 1024;

/// How much of a payload's start [`Session::server`] must be shown, where the payload is that long.
pub const HEAD_BYTES: usize = 32;

/// What the next packet of the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A command.
    Command,
    /// More of the command before it.
    Continuation,
    /// A piece of the file that the server asked for.
    File,
}

/// A command whose reply is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its first byte.
    pub command: u8,
    /// What the caller wants to know when the reply comes, such as which statement is executed.
    pub tag: u32,
    /// The command asks for a cursor, so that rows may not follow their definitions.
    pub cursor: bool,
    /// The proxy's own: its reply is not for the client.
    pub own: bool,
}

/// What a packet of the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// A part of a reply that changes nothing.
    Part,
    /// The definition of a column or a parameter.
    Definition,
    /// A row.
    Row,
    /// OK, or an OK that ends rows.
    Okay,
    /// EOF.
    Eof,
    /// ERR.
    Error,
    /// A statement was prepared.
    Prepared(Prepared),
}

/// What came of a packet of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it says.
    pub says: Says,
    /// The command that is answered by now, where this was the last packet of its reply.
    pub ended: Option<Expected>,
}

/// Where the reply to the oldest command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing of it came, or another result follows.
    Start,
    /// So many definitions of columns are to come, and then rows.
    Definitions(u64),
    /// The EOF behind them.
    DefinitionsEnd,
    Rows,
    /// So many definitions of parameters and of columns of a prepared statement.
    Preparing {
        parameters: u16,
        columns: u16,
        /// An EOF ends the ones that came.
        eof: bool,
    },
}

/// The tracker of one session. It allocates nothing per statement.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
#[derive(Clone, Debug)]
pub struct Session {
    capabilities: u64,
    owed: VecDeque<Expected>,
    place: Place,
    status: u16,
    doubtful: bool,
    /// The client's packet goes on in its next.
    client_continues: bool,
    /// The server's packet goes on in its next.
    server_continues: bool,
    /// The server wants a file of the client's.
    file: bool,
    /// What the client sends cannot be told from a file any more: never at a boundary again.
    lost: bool,
}

impl Session {
    /// A session that is idle behind its login, where `capabilities` were agreed upon with the server.
    pub fn new(capabilities: u64, status: u16) -> Self {
        Self {
            capabilities,
            owed: VecDeque::new(),
            place: Place::Start,
            status,
            doubtful: false,
            client_continues: false,
            server_continues: false,
            file: false,
            lost: false,
        }
    }

    /// What the client's next packet is.
    #[inline]
    pub fn sent(&self) -> Sent {
        if self.client_continues {
            Sent::Continuation
        } else if self.file {
            Sent::File
        } else {
            Sent::Command
        }
    }

    /// A command is forwarded that begins in a packet with this header.
    #[inline]
    pub fn command(&mut self, header: Header, expected: Expected) {
        self.client_continues = header.is_continued();
        if command::shape(expected.command) != Some(Shape::Nothing) {
            self.owed.push_back(expected);
        }
    }

    /// A packet is forwarded that is no command.
    #[inline]
    pub fn more(&mut self, header: Header) {
        if !self.client_continues && self.file && header.length == 0 {
            self.file = false;
        }
        self.client_continues = header.is_continued();
    }

    /// Whether the server's next packet goes on with a payload.
    #[inline]
    pub fn server_continues(&self) -> bool {
        self.server_continues
    }

    /// A packet of the server goes by, of which `head` are the first bytes: all, or [`HEAD_BYTES`].
    pub fn server(&mut self, header: Header, head: &[u8]) -> Result<Step, Malformed> {
        let part = Ok(Step { says: Says::Part, ended: None });
        let continuation = self.server_continues;
        self.server_continues = header.is_continued();
        if continuation {
            return part;
        }
        let Some(&front) = self.owed.front() else {
            // A server that gives up on an idle session says so before it closes.
            return part;
        };
        let says = self.what(front, header, head);
        match says {
            Kind::Error => Ok(self.end(Says::Error)),
            Kind::Okay => {
                self.settle(Okay::status_of(head)?);
                let more = self.has_more(front);
                Ok(self.end_unless(more, Says::Okay))
            }
            Kind::Eof => {
                let mut fields = Fields::new("EOF packet", head);
                if fields.u8()? != reply::EOF {
                    return Err(fields.malformed());
                }
                fields.u16()?;
                self.settle(fields.u16()?);
                let more = if self.place == Place::DefinitionsEnd {
                    self.place = Place::Rows;
                    !(front.cursor && self.status & status::CURSOR_EXISTS != 0)
                } else {
                    self.has_more(front)
                };
                Ok(self.end_unless(more, Says::Eof))
            }
            Kind::Line => Ok(self.end(Says::Part)),
            Kind::File => {
                // What was sent behind the command is read as the file by now.
                self.lost |= self.owed.len() > 1;
                self.file = true;
                part
            }
            Kind::Count => {
                let mut fields = Fields::new("column count", head);
                let count = fields.count()?;
                if count == 0 || fields.remaining() > 0 {
                    return Err(fields.malformed());
                }
                self.place = Place::Definitions(count);
                part
            }
            Kind::Definition => {
                if let Place::Definitions(left) = self.place {
                    self.place = match left.saturating_sub(1) {
                        0 if self.ends_in_eof() => Place::DefinitionsEnd,
                        0 => Place::Rows,
                        left => Place::Definitions(left),
                    };
                }
                Ok(Step { says: Says::Definition, ended: None })
            }
            Kind::Prepared => {
                let prepared = Prepared::parse(head)?;
                self.place =
                    Place::Preparing { parameters: prepared.parameters, columns: prepared.columns, eof: false };
                let more = prepared.parameters > 0 || prepared.columns > 0;
                Ok(self.end_unless(more, Says::Prepared(prepared)))
            }
            Kind::PreparedPart => {
                let more = self.prepare_on();
                Ok(self.end_unless(more, Says::Part))
            }
            Kind::Row => Ok(Step { says: Says::Row, ended: None }),
        }
    }

    /// What the next packet of the server is, from its header and start.
    fn what(&self, front: Expected, header: Header, head: &[u8]) -> Kind {
        let first = head.first().copied();
        let shape = command::shape(front.command);
        if first == Some(reply::ERR) {
            return Kind::Error;
        }
        let end = first == Some(reply::EOF) && self.ends_rows(header);
        match self.place {
            Place::Start => match shape {
                Some(Shape::Prepared) => Kind::Prepared,
                Some(Shape::Rows | Shape::Definitions) if end => self.end_kind(header),
                Some(Shape::Rows) => Kind::Row,
                Some(Shape::Definitions) => Kind::Definition,
                Some(Shape::One) if front.command == command::STATISTICS => Kind::Line,
                _ => match first {
                    Some(reply::OK) => Kind::Okay,
                    Some(reply::EOF) => self.end_kind(header),
                    // MariaDB asks for files of prepared statements too.
                    Some(reply::LOCAL_INFILE) if shape == Some(Shape::Results) => Kind::File,
                    _ if shape == Some(Shape::Results) => Kind::Count,
                    _ => Kind::Line,
                },
            },
            Place::Definitions(_) => Kind::Definition,
            Place::DefinitionsEnd => Kind::Eof,
            Place::Rows if end => self.end_kind(header),
            Place::Rows => Kind::Row,
            Place::Preparing { .. } => Kind::PreparedPart,
        }
    }

    /// Whether the packet is the OK that carries the state of the session, so that a proxy may have to shorten it.
    /// Shown what [`Session::server`] is shown, before it.
    #[inline]
    pub fn is_okay(&self, header: Header, head: &[u8]) -> bool {
        let maybe = matches!(head.first(), Some(&(reply::OK | reply::EOF)));
        let front = self.owed.front().copied();
        maybe && !self.server_continues && front.is_some_and(|front| self.what(front, header, head) == Kind::Okay)
    }

    fn ends_in_eof(&self) -> bool {
        self.capabilities & capability::DEPRECATE_EOF == 0
    }

    fn ends_rows(&self, header: Header) -> bool {
        if self.ends_in_eof() {
            header.length <= reply::EOF_BYTES_MAX
        } else {
            // A row can begin like this only where its first value fills more than one packet.
            !header.is_continued()
        }
    }

    fn end_kind(&self, header: Header) -> Kind {
        // An old-fashioned EOF has five bytes, an OK at least seven.
        if self.ends_in_eof() || header.length == 5 { Kind::Eof } else { Kind::Okay }
    }

    fn has_more(&mut self, front: Expected) -> bool {
        self.place = Place::Start;
        command::shape(front.command) == Some(Shape::Results) && self.status & status::MORE_RESULTS != 0
    }

    /// One definition or EOF of a prepared statement came. True where more is to come.
    fn prepare_on(&mut self) -> bool {
        let with_eof = self.ends_in_eof();
        let Place::Preparing { parameters, columns, eof } = &mut self.place else {
            return false;
        };
        if *eof {
            *eof = false;
        } else if *parameters > 0 {
            *parameters = parameters.saturating_sub(1);
            *eof = *parameters == 0 && with_eof;
        } else {
            *columns = columns.saturating_sub(1);
            *eof = *columns == 0 && with_eof;
        }
        *eof || *parameters > 0 || *columns > 0
    }

    fn settle(&mut self, status: u16) {
        self.status = status;
        self.doubtful = false;
    }

    fn end_unless(&mut self, more: bool, says: Says) -> Step {
        if more { Step { says, ended: None } } else { self.end(says) }
    }

    fn end(&mut self, says: Says) -> Step {
        self.place = Place::Start;
        self.doubtful |= says == Says::Error;
        Step { says, ended: self.owed.pop_front() }
    }

    /// Nothing is under way: only here may a session be held or moved.
    #[inline]
    pub fn at_boundary(&self) -> bool {
        self.is_answered() && !self.doubtful && !self.in_transaction()
    }

    /// Every reply is there and the client is in the middle of nothing, but a transaction may be open.
    #[inline]
    pub fn is_answered(&self) -> bool {
        self.owed.is_empty() && !self.lost && !self.file && !self.client_continues && !self.server_continues
    }

    /// Whether an error has left it open whether a transaction is.
    #[inline]
    pub fn in_doubt(&self) -> bool {
        self.doubtful
    }

    /// Whether the server reported an open transaction.
    #[inline]
    pub fn in_transaction(&self) -> bool {
        self.status & status::IN_TRANSACTION != 0
    }

    /// The status that the server reported last.
    #[inline]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// How many replies are to come.
    #[inline]
    pub fn expecting(&self) -> usize {
        self.owed.len()
    }

    /// The command whose reply comes next.
    #[inline]
    pub fn front(&self) -> Option<&Expected> {
        self.owed.front()
    }

    /// The commands whose replies are to come, in order.
    pub fn expected(&self) -> impl Iterator<Item = &Expected> {
        self.owed.iter()
    }

    /// Whether so much is unanswered that the relay must stop reading from the client.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.owed.len() >= OWED_MAX
    }
}

/// What a packet of the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Okay,
    Eof,
    Error,
    /// A reply of one packet that says nothing of the session.
    Line,
    File,
    Count,
    Definition,
    Row,
    Prepared,
    PreparedPart,
}
