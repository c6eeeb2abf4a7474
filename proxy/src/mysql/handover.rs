//! Rebuilds a live session on another server, or says why that is not possible.
//!
//! The old server session is asked for the truth. Only what no server tells is taken from the statements that went by.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::BytesMut;
use protocol::mysql::command;
use protocol::mysql::handshake::Capabilities;

use super::internal_query::{self, Answer, Questions, rows, text};
use super::introspection::{SessionInfo, Witnesses};
use super::not_movable::NotMovable;
use super::server_login::{self, Identity, Refused, ServerSession};
use super::session_tracking::Named;
use super::state::{self, SessionState, understand, variables_of};
use super::statements::{NOBODY, Statement, Statements, Types};
use super::user_variables::{UserVariable, quoted, values_of, values_query};
use super::variables::{self, Setting};
use super::wire::MysqlWire;
use crate::registry::ServerKey;
use crate::route::Cluster;
use crate::session::prewarmed::{self, PrewarmedSession};
use crate::upstream::{Origin, Upstream};

/// User variables are set so many at a time, so that no statement grows too long.
const ASSIGNMENTS_MAX: usize = 32;

/// How long a handover, or the wait for one's turn, may take beside reaching the new cluster. Right after a switch all
/// sessions ask at once, and servers list their variables to one after the other: late is better than ended.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// The server does not prepare this kind of statement.
const UNSUPPORTED: u16 = 1295;

/// A session rebuilt on another server.
#[derive(Debug)]
pub struct Moved {
    /// The new server session, idle.
    pub session: ServerSession,
    /// The client's numbers of its prepared statements, and the new server's.
    pub statements: Vec<(u32, u32)>,
    /// The names of the user variables that came along.
    pub names: BTreeSet<Vec<u8>>,
    /// Its statements that were prepared by SQL.
    pub named: Vec<Named>,
}

/// The old server session, as a handover needs it.
#[derive(Debug)]
pub struct Old<'a> {
    /// The socket.
    pub stream: &'a mut Upstream,
    /// What was agreed with it.
    pub capabilities: Capabilities,
    /// Its server's version.
    pub version: &'a str,
    /// Its cluster, and what that calls the session.
    pub server: Option<ServerKey>,
    /// Who can tell more of it.
    pub witnesses: &'a Witnesses,
    /// The default database to go on in, where it is to be another.
    pub database: Option<Vec<u8>>,
}

/// Moves the session to `cluster`. The session must be at a boundary. On failure the old server session is of no more
/// use.
pub(crate) async fn hand_over(
    old: Old<'_>,
    (cluster, origin): (&Cluster, Origin),
    identity: &Identity,
    wire: &MysqlWire,
    prewarmed: Option<PrewarmedSession<ServerSession>>,
) -> Result<Moved, NotMovable> {
    let rebuilding = Box::pin(rebuild(old, (cluster, origin), identity, wire, prewarmed));
    tokio::time::timeout(cluster.connect_timeout + TIMEOUT, rebuilding).await.unwrap_or(Err(NotMovable::Late))
}

async fn rebuild(
    old: Old<'_>,
    (cluster, origin): (&Cluster, Origin),
    identity: &Identity,
    wire: &MysqlWire,
    prewarmed: Option<PrewarmedSession<ServerSession>>,
) -> Result<Moved, NotMovable> {
    if wire.statements.has_lost_pieces() {
        return Err(NotMovable::PreparedStatement);
    }
    if wire.learned.is_pending_unknown() {
        return Err(NotMovable::Characteristics);
    }
    let opening = prewarmed::take_or(prewarmed, cluster, server_login::login(cluster, origin, identity, None));
    let introspection = async {
        match &old.server {
            Some(server) => old.witnesses.ask(&server.cluster.name, server.pid).await,
            None => SessionInfo::default(),
        }
    };
    let (introspection, opened) = (Box::pin(introspection), Box::pin(opening));
    let telling = tell(old.stream, old.capabilities, old.version, wire, introspection);
    let (reported, opened) = tokio::join!(telling, opened);
    let (mut state, values) = reported?;
    if let Some(database) = old.database {
        state.database = Some(database);
    }
    let mut target = Target { session: opened.map_err(NotMovable::TargetRefused)? };
    let settings = target.make_alike(&state, &values).await?;
    target.compare(&state, &values, &settings).await?;
    let statements = target.finish(&state, &settings, wire).await?;
    Ok(Moved { session: target.session, statements, names: state.names, named: state.named })
}

/// Asks the old server session for its state.
async fn tell(
    stream: &mut Upstream,
    capabilities: Capabilities,
    version: &str,
    wire: &MysqlWire,
    introspection: impl Future<Output = SessionInfo>,
) -> Result<(SessionState, Vec<UserVariable>), NotMovable> {
    let mut unread = BytesMut::new();
    let is_mariadb = version.contains("MariaDB");
    let questions = state::questions(capabilities, is_mariadb);
    let asking = internal_query::ask(stream, &mut unread, &questions);
    let (answers, reported) = tokio::join!(asking, introspection);
    let answers = answers.map_err(NotMovable::SourceGone)?;
    let state = understand(&answers, &wire.learned, &wire.statements, &reported)?;
    if state.names.is_empty() {
        return Ok((state, Vec::new()));
    }
    let mut questions = Questions::new(capabilities);
    questions.query(&values_query(&state.names));
    let answers = internal_query::ask(stream, &mut unread, &questions).await.map_err(NotMovable::SourceGone)?;
    let answer = answers.first().ok_or(NotMovable::UserVariable)?;
    let values = values_of(&state.names, answer)?;
    Ok((state, values))
}

/// The new server session while it is being made like the old one.
struct Target {
    session: ServerSession,
}

impl Target {
    fn questions(&self) -> Questions {
        Questions::new(self.session.capabilities)
    }

    async fn ask(&mut self, questions: &Questions) -> Result<Vec<Answer>, NotMovable> {
        let ServerSession { stream, buffer, .. } = &mut self.session;
        internal_query::ask(stream, buffer, questions).await.map_err(NotMovable::TargetRefused)
    }

    /// Everything that does not change what the answers to further questions look like.
    async fn make_alike(&mut self, state: &SessionState, values: &[UserVariable]) -> Result<Vec<Setting>, NotMovable> {
        let mut questions = self.questions();
        questions.query("SHOW SESSION VARIABLES");
        let fresh = self.ask(&questions).await?;
        let fresh = variables_of(fresh.first().ok_or_else(silent)?)?;
        let settings = variables::settings(&state.session, &state.global, &fresh)?;

        let mut questions = self.questions();
        questions.query("SET NAMES utf8mb4");
        questions.query("SET SESSION sql_mode = ''");
        questions.query("SET SESSION sql_select_limit = DEFAULT");
        let mut may_fail = vec![false; 3];
        if let Some(database) = &state.database {
            questions.command(command::INIT_DB, database);
            may_fail.push(false);
        }
        if let Some(role) = &state.role {
            // A server that knows no roles refuses NONE too; a role that is really missing shows in the comparison.
            questions.query(&format!("SET ROLE {}", quoted_role(role)));
            may_fail.push(role == "NONE");
        }
        for setting in settings.iter().filter(|setting| !is_late(setting)) {
            let value = variables::literal(&setting.value);
            questions.query(&format!("SET SESSION {} = {value}", setting.name));
            may_fail.push(setting.may_fail);
        }
        let assignments: Vec<String> = values.iter().filter_map(UserVariable::assignment).collect();
        for some in assignments.chunks(ASSIGNMENTS_MAX) {
            questions.query(&format!("SET {}", some.join(", ")));
            may_fail.push(false);
        }
        questions.query(&format!("SET SESSION last_insert_id = {}", state.last_insert_id));
        may_fail.push(false);
        let answers = self.ask(&questions).await?;
        for (answer, may_fail) in answers.iter().zip(may_fail) {
            if !may_fail {
                rows(answer)?;
            }
        }
        Ok(settings)
    }

    /// Reads back what was made.
    async fn compare(
        &mut self,
        state: &SessionState,
        values: &[UserVariable],
        settings: &[Setting],
    ) -> Result<(), NotMovable> {
        let mut questions = self.questions();
        questions.query("SHOW SESSION VARIABLES");
        questions.query("SELECT DATABASE(), LAST_INSERT_ID()");
        questions.query("SELECT CURRENT_ROLE()");
        if !values.is_empty() {
            questions.query(&values_query(&state.names));
        }
        let answers = self.ask(&questions).await?;
        let [shown, basics, role, rest @ ..] = answers.as_slice() else {
            return Err(silent());
        };
        let shown = variables_of(shown)?;
        let wrong = settings
            .iter()
            .filter(|setting| !setting.may_fail && !is_late(setting))
            .find(|setting| !variables::is_shown(setting, &shown));
        if let Some(setting) = wrong {
            return Err(differs(&setting.name));
        }
        let basics = rows(basics)?.first().ok_or_else(silent)?;
        if basics.first() != Some(&state.database) {
            return Err(differs("the default database"));
        }
        if text(basics, 1).as_deref() != Some(&state.last_insert_id) {
            return Err(differs("LAST_INSERT_ID()"));
        }
        let role = role.rows.first().and_then(|row| text(row, 0));
        let role = role.unwrap_or_else(|| "NONE".to_owned());
        if state.role.as_ref().is_some_and(|wanted| *wanted != role) {
            return Err(differs("the role"));
        }
        if let Some(answer) = rest.first()
            && values_of(&state.names, answer)? != values
        {
            return Err(differs("a user variable"));
        }
        Ok(())
    }

    /// What changes how the session speaks, and then the statements, which are read in that way.
    async fn finish(
        &mut self,
        state: &SessionState,
        settings: &[Setting],
        wire: &MysqlWire,
    ) -> Result<Vec<(u32, u32)>, NotMovable> {
        let mut questions = self.questions();
        if let Some(option) = wire.option() {
            questions.command(command::SET_OPTION, &option.to_le_bytes());
        }
        let of = |name: &str| state.session.get(name).map_or("", String::as_str);
        let autocommit = u8::from(of("autocommit") != "OFF");
        questions.query(&format!("SET SESSION autocommit = {autocommit}"));
        if let Some(timestamp) = &state.timestamp {
            questions.query(&format!("SET SESSION timestamp = {timestamp}"));
        }
        let mode = variables::sql_mode(of("sql_mode"), &self.session.version);
        questions.query(&format!("SET SESSION sql_mode = {}", variables::text(&mode)));
        let mode_at = questions.count();
        questions.query("SELECT @@session.sql_mode");
        let charset = &state.charset;
        let results = charset
            .results
            .as_ref()
            .map_or_else(|| "NULL".to_owned(), |results| variables::text(&variables::charset(results)));
        let client = variables::text(&variables::charset(&charset.client));
        let connection = variables::text(&variables::charset(&charset.connection));
        let collation = variables::text(&variables::charset(&charset.collation));
        questions.query(&format!(
            "SET SESSION character_set_client = {client}, character_set_connection = {connection}, \
             collation_connection = {collation}, character_set_results = {results}"
        ));
        let alike_at = questions.count();
        questions.query(&format!(
            "SELECT @@session.autocommit = {autocommit} AND @@session.character_set_client = {client} \
             AND @@session.collation_connection = {collation} AND @@session.character_set_results <=> {results}"
        ));
        for named in &state.named {
            state::prepare(named, charset, &mut questions)?;
        }
        let limit = settings.iter().find(|setting| setting.name == variables::JOIN_SIZE);
        if let Some(limit) = limit {
            questions.query(&format!("SET SESSION {} = {}", limit.name, variables::literal(&limit.value)));
        }
        let big = u8::from(of(variables::BIG_SELECTS) != "OFF");
        questions.query(&format!("SET SESSION {} = {big}", variables::BIG_SELECTS));
        questions.query(&format!("SET SESSION sql_select_limit = {}", state.select_limit));
        let plain = questions.count();
        for (_, statement) in wire.statements.iter() {
            let text = statement.text.as_ref();
            let text = text.ok_or(NotMovable::PreparedStatement)?;
            questions.command(command::STMT_PREPARE, text);
        }
        let answers = self.ask(&questions).await?;
        if answers.len() < plain {
            return Err(silent());
        }
        let (plain, prepared) = answers.split_at(plain);
        for answer in plain {
            rows(answer)?;
        }
        let first = |at: usize| plain.get(at).and_then(|answer| answer.rows.first());
        let shown = first(mode_at).and_then(|row| text(row, 0)).unwrap_or_default();
        if !variables::same_modes(&shown, &mode) {
            return Err(differs("sql_mode"));
        }
        // The truth comes as one digit, in whatever character set.
        let alike = first(alike_at).and_then(|row| row.first().cloned().flatten());
        if !alike.is_some_and(|truth| truth.contains(&b'1')) {
            return Err(differs("autocommit or a character set"));
        }
        let mut numbers = Vec::with_capacity(prepared.len());
        for ((client, statement), answer) in wire.statements.iter().zip(prepared) {
            let unsupported = matches!(answer.error, Some((UNSUPPORTED, _)));
            if unsupported && statement.as_control().is_some() {
                numbers.push((client, NOBODY));
                continue;
            }
            rows(answer)?;
            let found = answer.prepared.ok_or_else(silent)?;
            if found.parameters != statement.parameters || statement.types == Types::Unknown {
                return Err(NotMovable::PreparedStatement);
            }
            numbers.push((client, found.statement));
        }
        self.send_pieces(&wire.statements, &numbers).await?;
        if let Some(pending) = wire.learned.pending_statement() {
            // Any other statement behind it might use it up.
            let mut questions = self.questions();
            questions.query(pending);
            for answer in &self.ask(&questions).await? {
                rows(answer)?;
            }
        }
        Ok(numbers)
    }

    /// Sends what the client had sent of parameters already.
    async fn send_pieces(&mut self, statements: &Statements, numbers: &[(u32, u32)]) -> Result<(), NotMovable> {
        let mut questions = self.questions();
        let mut any = false;
        for &(client, server) in numbers {
            let pieces = statements.get(client).map(|Statement { pieces, .. }| pieces);
            for (parameter, piece) in pieces.into_iter().flatten() {
                let head = [&server.to_le_bytes()[..], &parameter.to_le_bytes()[..]].concat();
                questions.command(command::STMT_SEND_LONG_DATA, &[&head[..], piece].concat());
                any = true;
            }
        }
        if any {
            // Pieces are answered with nothing: the ping behind them proves that they were read.
            questions.command(command::PING, &[]);
            self.ask(&questions).await?;
        }
        Ok(())
    }
}

/// Settings that would change what the answers look like, or begin a transaction, before everything is read back.
fn is_late(setting: &Setting) -> bool {
    matches!(setting.name.as_str(), "autocommit" | variables::JOIN_SIZE | variables::BIG_SELECTS)
}

/// The role as SET ROLE takes it: MySQL tells a list of names in quotes, MariaDB one bare name.
fn quoted_role(role: &str) -> String {
    if role == "NONE" || role.starts_with('`') { role.to_owned() } else { quoted(role.as_bytes()) }
}

fn silent() -> NotMovable {
    NotMovable::TargetRefused(Refused::Unsupported("answers less than it was asked"))
}

fn differs(what: &str) -> NotMovable {
    NotMovable::State(format!("the new server shows another value of {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_quoted_unless_it_is_already_or_is_none() {
        assert_eq!(quoted_role("NONE"), "NONE");
        assert_eq!(quoted_role("my-role"), "`my-role`");
        assert_eq!(quoted_role("`a`@`%`,`b`@`%`"), "`a`@`%`,`b`@`%`");
    }
}
