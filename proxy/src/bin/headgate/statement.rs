//! The admin console's language: a text becomes statements, or an error that names the nearest valid form.

mod effect;
mod forms;
mod lexer;
mod mistake;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use mistake::Mistake;

pub(crate) use forms::{FORMS, setting};
pub(crate) use lexer::{Token, Word, split};
use migrator::model::definition::Options;
pub(crate) use settings::{Given, settings_of};

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement {
    /// Define a migration; without a route, the one that its source serves.
    Create { name: String, source: String, target: String, route: Option<String>, settings: Given },
    /// Run every check that can say no.
    Precheck(String),
    /// Start or go on.
    Start(String),
    /// Stop at a place from which a start goes on.
    Stop(String),
    /// Compare both sides.
    Check(String),
    /// Take a table anew.
    Recopy { name: String, schema: Option<String>, table: String },
    /// Close the way back and remove what it left on both sides.
    Finish { name: String, waive_proof: bool },
    /// Give up the mark of a switch that is on a cluster.
    ClearMark { cluster: String, route: String, give_up_switch: bool },
    /// Forget it and clean up.
    Drop { name: String, target_objects: bool },
    /// Run a cutover up to the decision.
    Rehearse(String, Options),
    /// Switch the route.
    Cutover(String, Options),
    /// Switch it back.
    Rollback(String, Options),
    /// One line per migration.
    ShowList,
    /// All numbers of one or all migrations.
    ShowStatus(Option<String>),
    /// All numbers of its tables.
    ShowTables(String),
    /// The findings of the last precheck.
    ShowChecks(String),
    /// How the comparison goes or went.
    ShowCheckStatus(String),
    /// What stands between now and a cutover.
    ShowReadiness(String),
    /// What the last cutover or rehearsal did.
    ShowReport(String),
    /// Where each route leads.
    ShowRoutes,
    /// Each cluster.
    ShowClusters,
    /// Each client session.
    ShowSessions,
    /// The configuration without its secrets.
    ShowConfig,
    /// Headgate's version.
    ShowVersion,
    /// Every statement's form.
    Help,
    /// A transaction that a driver begins; nothing here is transactional.
    Begin,
    /// The end of such a transaction; true when it was given up.
    End { rolled_back: bool },
    /// A setting that a driver makes; it has no effect.
    Set,
    /// A setting that a driver asks for.
    ShowSetting(String),
    /// A constant that a driver or monitor selects.
    Select(Constant),
    /// A statement whose feature does not exist yet.
    Later(&'static str),
}

/// What tools select to see whether a server is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Constant {
    /// `SELECT 1`
    One,
    /// `SELECT version()`
    Version,
    /// `SELECT current_database()`
    Database,
    /// `SELECT current_user`
    User,
}

/// Reads one statement's tokens, as [`split`] gives them.
pub(crate) fn parse(tokens: &[Token]) -> Result<Statement, Mistake> {
    let mut parser = Parser { tokens, at: 0 };
    let statement = parser.statement().map_err(|mut mistake| {
        if mistake.hint.is_empty() {
            mistake.hint = forms::nearest_form(tokens);
        }
        mistake
    })?;
    if parser.peek().is_some() {
        let mut mistake = parser.unexpected("the end of the statement");
        mistake.hint = forms::nearest_form(tokens);
        return Err(mistake);
    }
    Ok(statement)
}

/// The highest `$n` of a statement.
pub(crate) fn parameter_count(tokens: &[Token]) -> usize {
    let numbers = tokens.iter().map(|token| match token.word {
        Word::Parameter(number) => number,
        _ => 0,
    });
    numbers.max().unwrap_or(0)
}

/// Puts values where the statement has `$n`.
pub(crate) fn bind(tokens: &[Token], values: &[Option<String>]) -> Result<Vec<Token>, Mistake> {
    let filled = tokens.iter().map(|token| {
        let Word::Parameter(number) = token.word else {
            return Ok(token.clone());
        };
        let value = number.checked_sub(1).and_then(|index| values.get(index)).cloned().flatten();
        let Some(value) = value else {
            let text = format!("there is no value for ${number}");
            return Err(Mistake::syntax(text, "bind a text that is not null", token.position));
        };
        Ok(Token { word: Word::Text(value), position: token.position })
    });
    filled.collect()
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Word> {
        self.tokens.get(self.at).map(|token| &token.word)
    }

    fn position(&self) -> usize {
        let last = || self.tokens.last().map_or(1, |token| token.position);
        self.tokens.get(self.at).map_or_else(last, |token| token.position)
    }

    fn unexpected(&self, wanted: &str) -> Mistake {
        let text = match self.peek() {
            Some(word) => format!("syntax error at or near {word}: {wanted} was expected"),
            None => format!("syntax error at the end of the statement: {wanted} was expected"),
        };
        Mistake::syntax(text, "", self.position())
    }

    /// Takes the keyword if it comes next.
    fn takes(&mut self, keyword: &str) -> bool {
        let matches = matches!(self.peek(), Some(Word::Bare(word)) if word == keyword);
        self.at += usize::from(matches);
        matches
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), Mistake> {
        if self.takes(keyword) { Ok(()) } else { Err(self.unexpected(&keyword.to_uppercase())) }
    }

    fn takes_sign(&mut self, sign: char) -> bool {
        let matches = matches!(self.peek(), Some(Word::Sign(found)) if *found == sign);
        self.at += usize::from(matches);
        matches
    }

    fn sign(&mut self, sign: char) -> Result<(), Mistake> {
        if self.takes_sign(sign) { Ok(()) } else { Err(self.unexpected(&format!("\"{sign}\""))) }
    }

    fn name(&mut self, what: &str) -> Result<String, Mistake> {
        let name = match self.peek() {
            Some(Word::Bare(name) | Word::Quoted(name) | Word::Text(name) | Word::Number(name)) => name.clone(),
            Some(Word::Parameter(number)) => format!("${number}"),
            _ => return Err(self.unexpected(what)),
        };
        self.at += 1;
        Ok(name)
    }

    fn statement(&mut self) -> Result<Statement, Mistake> {
        let Some(Word::Bare(first)) = self.peek().cloned() else {
            return Err(self.unexpected("a statement"));
        };
        self.at += 1;
        match first.as_str() {
            "create" => self.create(),
            "precheck" => self.of_migration(Statement::Precheck),
            "start" if self.takes("transaction") => Ok(self.rest(Statement::Begin)),
            "start" => self.of_migration(Statement::Start),
            "stop" => self.of_migration(Statement::Stop),
            "check" => self.of_migration(Statement::Check),
            "finish" => {
                let name = self.migration()?;
                let waive_proof = settings::waive_proof(self.with()?)?;
                Ok(Statement::Finish { name, waive_proof })
            }
            "drop" => {
                let name = self.migration()?;
                let target_objects = settings::target_objects(self.with()?)?;
                Ok(Statement::Drop { name, target_objects })
            }
            "rehearse" => {
                let name = self.migration()?;
                Ok(Statement::Rehearse(name, self.options()?))
            }
            "cutover" => {
                let name = self.migration()?;
                Ok(Statement::Cutover(name, self.options()?))
            }
            "clear" => self.clear(),
            "recopy" => self.recopy(),
            "show" => self.show(),
            "help" => Ok(Statement::Help),
            "rollback" if self.is_migration() => {
                let name = self.migration()?;
                Ok(Statement::Rollback(name, self.options()?))
            }
            "commit" if self.is_migration() => self.migration().map(|_| Statement::Later("COMMIT MIGRATION")),
            "begin" => Ok(self.rest(Statement::Begin)),
            "commit" | "end" => Ok(self.rest(Statement::End { rolled_back: false })),
            "rollback" | "abort" => Ok(self.rest(Statement::End { rolled_back: true })),
            "set" | "reset" | "discard" | "deallocate" if self.peek().is_some() => Ok(self.rest(Statement::Set)),
            "select" => self.select(),
            _ => {
                self.at = 0;
                Err(self.unexpected("a statement of Headgate"))
            }
        }
    }

    /// What drivers add to their own statements does not matter here.
    fn rest(&mut self, statement: Statement) -> Statement {
        self.at = self.tokens.len();
        statement
    }

    fn is_migration(&self) -> bool {
        matches!(self.peek(), Some(Word::Bare(word)) if word == "migration")
    }

    fn migration(&mut self) -> Result<String, Mistake> {
        self.keyword("migration")?;
        self.name("the name of a migration")
    }

    fn of_migration(&mut self, statement: fn(String) -> Statement) -> Result<Statement, Mistake> {
        self.migration().map(statement)
    }

    fn create(&mut self) -> Result<Statement, Mistake> {
        let name = self.migration()?;
        self.keyword("from")?;
        let source = self.name("the name of a cluster")?;
        self.keyword("to")?;
        let target = self.name("the name of a cluster")?;
        let mut route = None;
        if self.takes("for") {
            self.keyword("route")?;
            route = Some(self.name("the name of a route")?);
        }
        let settings = settings::settings(self.with()?)?;
        Ok(Statement::Create { name, source, target, route, settings })
    }

    fn recopy(&mut self) -> Result<Statement, Mistake> {
        self.keyword("table")?;
        let first = self.name("the name of a table")?;
        let (schema, table) =
            if self.takes_sign('.') { (Some(first), self.name("the name of a table")?) } else { (None, first) };
        self.keyword("of")?;
        let name = self.migration()?;
        Ok(Statement::Recopy { name, schema, table })
    }

    fn clear(&mut self) -> Result<Statement, Mistake> {
        self.keyword("switch")?;
        self.keyword("mark")?;
        self.keyword("on")?;
        let cluster = self.name("the name of a cluster")?;
        self.keyword("for")?;
        self.keyword("route")?;
        let route = self.name("the name of a route")?;
        let give_up_switch = settings::give_up_switch(self.with()?)?;
        Ok(Statement::ClearMark { cluster, route, give_up_switch })
    }

    fn options(&mut self) -> Result<Options, Mistake> {
        settings::options(self.with()?)
    }

    /// `WITH (key = value, …)`, if it comes next.
    fn with(&mut self) -> Result<Vec<settings::Pair>, Mistake> {
        let mut pairs = Vec::new();
        if !self.takes("with") {
            return Ok(pairs);
        }
        self.sign('(')?;
        loop {
            let position = self.position();
            let key = self.name("a key")?;
            self.sign('=')?;
            let value = self.name("a value")?;
            pairs.push(settings::Pair { key, value, position });
            if self.takes_sign(')') {
                return Ok(pairs);
            }
            self.sign(',')?;
        }
    }

    fn show(&mut self) -> Result<Statement, Mistake> {
        if self.takes("migration") {
            return self.show_migration();
        }
        if self.takes("cutover") {
            self.keyword("report")?;
            return self.name("the name of a migration").map(Statement::ShowReport);
        }
        if self.takes("readiness") {
            return self.name("the name of a migration").map(Statement::ShowReadiness);
        }
        let start = self.at;
        let mut words = vec![self.name("what to show")?];
        while let Some(Word::Bare(word)) = self.peek().cloned() {
            words.push(word);
            self.at += 1;
        }
        let shown = words.join(" ");
        match shown.as_str() {
            "routes" => Ok(Statement::ShowRoutes),
            "clusters" => Ok(Statement::ShowClusters),
            "sessions" => Ok(Statement::ShowSessions),
            "config" => Ok(Statement::ShowConfig),
            "version" => Ok(Statement::ShowVersion),
            setting if forms::is_setting(setting) => Ok(Statement::ShowSetting(shown)),
            _ => {
                self.at = start;
                Err(self.unexpected("something that Headgate shows"))
            }
        }
    }

    fn show_migration(&mut self) -> Result<Statement, Mistake> {
        let name = "the name of a migration";
        if self.takes("list") {
            return Ok(Statement::ShowList);
        }
        if self.takes("status") {
            let one = self.peek().is_some().then(|| self.name(name)).transpose()?;
            return Ok(Statement::ShowStatus(one));
        }
        if self.takes("tables") {
            return self.name(name).map(Statement::ShowTables);
        }
        if self.takes("checks") {
            return self.name(name).map(Statement::ShowChecks);
        }
        self.keyword("check").map_err(|_| self.unexpected("LIST, STATUS, TABLES, CHECKS or CHECK STATUS"))?;
        self.keyword("status")?;
        self.name(name).map(Statement::ShowCheckStatus)
    }

    fn select(&mut self) -> Result<Statement, Mistake> {
        let mut text = String::new();
        for token in self.tokens.iter().skip(1).take(8) {
            match &token.word {
                Word::Bare(word) | Word::Number(word) => text.push_str(word),
                Word::Sign(sign) => text.push(*sign),
                _ => text.push('?'),
            }
        }
        let constant = match text.trim_start_matches("pg_catalog.") {
            "1" => Constant::One,
            "version()" => Constant::Version,
            "current_database()" => Constant::Database,
            "current_user" | "session_user" | "user" => Constant::User,
            _ => {
                return Err(Mistake {
                    code: "0A000",
                    text: "the admin console has no tables, catalogues or functions".to_owned(),
                    hint: "write HELP for the statements that it knows".to_owned(),
                    position: self.tokens.first().map_or(1, |token| token.position),
                });
            }
        };
        Ok(self.rest(Statement::Select(constant)))
    }
}
