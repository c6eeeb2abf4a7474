//! Reads the sources for findings and for what they tell the operator to run, by following how each text gets there.

use std::collections::{BTreeMap, BTreeSet};

use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Expr, Lit, Member, Pat, Token};

/// Whose code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Postgres,
    Mysql,
    Both,
}

impl Side {
    pub(super) fn of(file: &str) -> Self {
        let within = |engine: &str| file.contains(&format!("/{engine}/")) || file.ends_with(&format!("/{engine}.rs"));
        if within("postgres") {
            Self::Postgres
        } else if within("mysql") {
            Self::Mysql
        } else {
            Self::Both
        }
    }
}

/// What the code can print.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Findings by side and name, with the statements that they are told with.
    pub(super) findings: BTreeMap<(Side, String), Reported>,
    /// Statements that are printed without a finding's name beside them, with the place.
    pub(super) statements: BTreeMap<(Side, String), String>,
    /// Findings whose name cannot be read.
    pub(super) unread: BTreeSet<String>,
}

/// What a finding is told with.
#[derive(Debug, Default)]
pub(super) struct Reported {
    pub(super) places: BTreeSet<String>,
    /// Statements that stand where the finding is made.
    pub(super) statements: BTreeSet<String>,
    /// Statements of the functions that its rows come from: each may be one that the finding is told with.
    pub(super) perhaps: BTreeSet<String>,
}

/// A function or closure: its parameters, and what is in it.
#[derive(Default)]
struct Function {
    file: String,
    name: String,
    of: String,
    parameters: Vec<String>,
    calls: Vec<Call>,
    structs: Vec<syn::ExprStruct>,
    bound: BTreeMap<String, Vec<Expr>>,
    /// Names that a loop binds to a part of each element.
    looped: BTreeMap<String, (usize, Expr)>,
    texts: Vec<String>,
}

#[derive(Clone)]
struct Call {
    callee: String,
    arguments: Vec<Expr>,
}

/// A function that makes a finding or a refusal of its arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Carrier {
    callee: String,
    /// Where it may be called, if not everywhere.
    file: Option<String>,
    arity: usize,
    name: Name,
    says: BTreeSet<usize>,
}

/// How a finding gets its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    /// This argument says it.
    At(usize),
    /// It always has one of these.
    Fixed(BTreeSet<String>),
    /// It is a refusal and has none.
    Absent,
}

/// Fields of structures that hold a finding's name, and those that hold what is told.
const NAMES: [&str; 2] = ["name", "check"];
const SAYS: [&str; 2] = ["remedy", "fix"];
/// Words that begin a statement, of the servers and of the console.
const VERBS: [&str; 42] = [
    "ALTER",
    "ANALYZE",
    "CALL",
    "CHECK",
    "CLEAR",
    "COMMIT",
    "CREATE",
    "CUTOVER",
    "DELETE",
    "DROP",
    "FINISH",
    "FLUSH",
    "GRANT",
    "INSTALL",
    "KILL",
    "LOCK",
    "OPTIMIZE",
    "PRECHECK",
    "PURGE",
    "RECOPY",
    "REFRESH",
    "REHEARSE",
    "RENAME",
    "RESET",
    "RESTART",
    "REVOKE",
    "ROLLBACK",
    "SELECT",
    "SET",
    "SHOW",
    "START",
    "STOP",
    "TRUNCATE",
    "UNINSTALL",
    "UNLOCK",
    "UPDATE",
    "VACUUM",
    "XA",
    "REINDEX",
    "CLUSTER",
    "COMMENT",
    "DO",
];

pub(super) struct Code {
    functions: Vec<Function>,
    constants: BTreeMap<String, Vec<(String, Expr)>>,
    /// The structures that are made outside of functions, too.
    structs: Vec<(String, syn::ExprStruct)>,
}

impl Code {
    /// `sources`: each file's name and text.
    pub(super) fn parse<'a>(sources: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut code = Self { functions: Vec::new(), constants: BTreeMap::new(), structs: Vec::new() };
        for (file, text) in sources {
            let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
            let outer = Function { file: file.to_owned(), ..Function::default() };
            let mut walk = Walk { code: &mut code, file, of: String::new(), open: vec![outer] };
            walk.visit_file(&parsed);
            let outer = walk.open.pop().expect("the file's own");
            code.structs.extend(outer.structs.into_iter().map(|one| (file.to_owned(), one)));
        }
        code
    }

    pub(super) fn read(&self) -> Read {
        let carriers = self.carriers();
        let mut read = Read::default();
        for function in &self.functions {
            for call in &function.calls {
                for carrier in carriers.iter().filter(|carrier| self.takes(carrier, function, call)) {
                    self.called(function, call, carrier, &mut read);
                }
            }
            for one in &function.structs {
                self.made(Some(function), &function.file, one, &mut read);
            }
            for (name, bound) in &function.bound {
                for expression in bound.iter().filter(|_| SAYS.contains(&name.as_str())) {
                    let said = self.said(Some(function), &function.file, expression);
                    read.said(&function.file, &function.name, said.statements());
                }
            }
        }
        for (file, one) in &self.structs {
            self.made(None, file, one, &mut read);
        }
        // What a finding is told with needs no row of its own.
        let within: BTreeSet<String> = (read.findings.values())
            .flat_map(|reported| reported.statements.iter().chain(&reported.perhaps).cloned())
            .collect();
        read.statements.retain(|(_, statement), _| !within.contains(statement));
        read
    }

    /// Functions that hand their parameters on to a finding, found until no more are.
    fn carriers(&self) -> BTreeSet<Carrier> {
        let seed = |callee: &str, arity, name, says: &[usize]| Carrier {
            callee: callee.to_owned(),
            file: None,
            arity,
            name,
            says: says.iter().copied().collect(),
        };
        let mut carriers: BTreeSet<Carrier> =
            [seed("Check::new", 5, Name::At(0), &[3, 4]), seed(".remedy", 1, Name::Absent, &[0])].into();
        loop {
            let mut more = BTreeSet::new();
            for function in &self.functions {
                let parameter = |expression: &Expr| {
                    let name = ident(expression)?;
                    function.parameters.iter().position(|one| *one == name)
                };
                for call in &function.calls {
                    for carrier in carriers.iter().filter(|carrier| self.takes(carrier, function, call)) {
                        let says = carrier.says.iter().map(|at| &call.arguments[*at]);
                        let (name, says) = match &carrier.name {
                            Name::At(at) => {
                                if let Some(at) = parameter(&call.arguments[*at]) {
                                    let says = says.flat_map(|one| function.mentioned(one));
                                    (Name::At(at), says.collect())
                                } else {
                                    let names = self.names(function, &call.arguments[*at], 0);
                                    (Name::Fixed(names), says.filter_map(parameter).collect())
                                }
                            }
                            name => (name.clone(), says.filter_map(parameter).collect()),
                        };
                        more.extend(function.carrier(name, says));
                    }
                }
                for one in &function.structs {
                    let says = reported(one).into_iter().filter_map(parameter).collect();
                    more.extend(function.carrier(Name::Absent, says));
                }
            }
            let before = carriers.len();
            carriers.extend(more);
            if carriers.len() == before {
                return carriers;
            }
        }
    }

    /// Whether this call is one of the carrier, and not of another function that a file has under the same name.
    fn takes(&self, carrier: &Carrier, function: &Function, call: &Call) -> bool {
        let own = |one: &Function| one.file == function.file && one.name == call.callee;
        carrier.takes(function, call)
            && (carrier.file.as_ref() == Some(&function.file) || !self.functions.iter().any(own))
    }

    fn called(&self, function: &Function, call: &Call, carrier: &Carrier, read: &mut Read) {
        let mut reported = Printed::default();
        for at in &carrier.says {
            reported.add(self.said(Some(function), &function.file, &call.arguments[*at]));
        }
        let place = format!("{}: {}", function.file, function.name);
        let at = match &carrier.name {
            Name::At(at) => *at,
            Name::Fixed(names) => {
                return names.iter().for_each(|name| {
                    read.found(&function.file, name.clone(), &place, reported.clone());
                });
            }
            Name::Absent => return read.said(&function.file, &function.name, reported.direct),
        };
        let name = &call.arguments[at];
        if ident(name).is_some_and(|name| function.parameters.contains(&name)) {
            return;
        }
        let names = self.names(function, name, 0);
        if names.is_empty() {
            read.unread.insert(format!("{}: a finding in {}", function.file, function.name));
        }
        for name in names {
            read.found(&function.file, name, &place, reported.clone());
        }
    }

    /// A structure that holds what is told, with a finding's name or without one.
    fn made(&self, function: Option<&Function>, file: &str, one: &syn::ExprStruct, read: &mut Read) {
        let mut said = Printed::default();
        for field in reported(one) {
            said.add(self.said(function, file, field));
        }
        let names: Vec<String> = fields(one, &NAMES)
            .into_iter()
            .filter_map(|name| self.text(file, name))
            .filter(|name| is_name(name))
            .collect();
        let place = function.map_or("a table", |function| &function.name);
        if reported(one).is_empty() {
            return;
        }
        if let [name] = names.as_slice() {
            // A query beside them may make the statement.
            for query in fields(one, &["query"]) {
                said.add(self.said(function, file, query));
            }
            read.found(file, name.clone(), &format!("{file}: {place}"), said);
        } else {
            read.said(file, place, said.direct);
        }
    }

    /// The texts that an expression may be as a finding's name.
    fn names(&self, function: &Function, expression: &Expr, depth: usize) -> BTreeSet<String> {
        if depth > 4 {
            return BTreeSet::new();
        }
        let expression = plain(expression);
        let own = ident(expression).is_some_and(|name| function.bound.contains_key(&name));
        if let Some(text) = self.text(&function.file, expression).filter(|_| !own) {
            return [text].into();
        }
        if let Expr::Field(field) = expression
            && let Member::Named(member) = &field.member
        {
            let all =
                self.structs.iter().map(|(file, one)| (file.as_str(), one)).chain(
                    self.functions.iter().flat_map(|one| one.structs.iter().map(|made| (one.file.as_str(), made))),
                );
            let of = |within: &dyn Fn(&str) -> bool| -> BTreeSet<String> {
                all.clone()
                    .filter(|(file, one)| within(file) && !reported(one).is_empty())
                    .flat_map(|(file, one)| fields(one, &[&member.to_string()]).into_iter().map(move |one| (file, one)))
                    .flat_map(|(file, one)| self.tails(file, one))
                    .filter(|name| is_name(name))
                    .collect()
            };
            let here = of(&|file| file == function.file);
            if !here.is_empty() {
                return here;
            }
            return of(&|file| Side::of(file) == Side::of(&function.file));
        }
        let Some(name) = ident(expression) else {
            return BTreeSet::new();
        };
        let mut found = BTreeSet::new();
        for bound in function.bound.get(&name).into_iter().flatten() {
            found.extend(self.names(function, bound, depth + 1));
            found.extend(self.tails(&function.file, bound));
        }
        let over = function.looped.get(&name).map(|(at, over)| {
            let bound = ident(over).and_then(|name| function.bound.get(&name)?.first());
            (*at, plain(bound.unwrap_or(over)))
        });
        if let Some((at, Expr::Array(array))) = over {
            for element in &array.elems {
                let part = match element {
                    Expr::Tuple(tuple) => tuple.elems.get(at),
                    whole => Some(whole),
                };
                found.extend(part.into_iter().flat_map(|part| self.names(function, part, depth + 1)));
            }
        }
        found.retain(|name| is_name(name));
        found
    }

    /// The texts that a choice may come to.
    fn tails(&self, file: &str, expression: &Expr) -> BTreeSet<String> {
        let block = |block: &syn::Block| match block.stmts.last() {
            Some(syn::Stmt::Expr(last, None)) => self.tails(file, last),
            _ => BTreeSet::new(),
        };
        match plain(expression) {
            Expr::Match(choice) => choice.arms.iter().flat_map(|arm| self.tails(file, &arm.body)).collect(),
            Expr::If(choice) => {
                let otherwise = choice.else_branch.iter().flat_map(|(_, one)| self.tails(file, one));
                block(&choice.then_branch).into_iter().chain(otherwise).collect()
            }
            Expr::Block(one) => block(&one.block),
            one => self.text(file, one).into_iter().collect(),
        }
    }

    fn text(&self, file: &str, expression: &Expr) -> Option<String> {
        match plain(expression) {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            Expr::Path(path) => {
                let name = path.path.segments.last()?.ident.to_string();
                self.constant(file, &name).and_then(|(file, value)| self.text(&file, &value))
            }
            // A name that is handed on with more.
            Expr::Tuple(tuple) => self.text(file, tuple.elems.first()?),
            _ => None,
        }
    }

    fn constant(&self, file: &str, name: &str) -> Option<(String, Expr)> {
        let all = self.constants.get(name)?;
        let side = Side::of(file);
        let near = |(other, _): &&(String, Expr)| {
            let folder = other.trim_end_matches(".rs").to_owned() + "/";
            file.starts_with(&folder)
        };
        all.iter()
            .find(|(other, _)| other == file)
            .or_else(|| all.iter().rev().find(near))
            .or_else(|| all.iter().find(|(other, _)| Side::of(other) == side))
            .or_else(|| all.iter().find(|(other, _)| Side::of(other) == Side::Both))
            .cloned()
    }

    /// The statements that an expression may hold: in itself, or in what it comes from.
    fn said(&self, function: Option<&Function>, file: &str, expression: &Expr) -> Printed {
        let mut said = Printed::default();
        let mut seen = BTreeSet::new();
        self.follow(function, file, expression, 0, &mut seen, &mut said);
        said
    }

    fn follow(
        &self,
        function: Option<&Function>,
        file: &str,
        expression: &Expr,
        depth: usize,
        seen: &mut BTreeSet<String>,
        said: &mut Printed,
    ) {
        let mut parts = Parts::default();
        parts.visit_expr(expression);
        for text in &parts.texts {
            said.hear(text, depth == 0);
        }
        for name in parts.names {
            if let Some((at, value)) = self.constant(file, &name)
                && seen.insert(format!("const {name}"))
            {
                self.follow(None, &at, &value, depth, seen, said);
            }
            let Some(function) = function else { continue };
            if !seen.insert(format!("{} {name}", function.name)) {
                continue;
            }
            let named = SAYS.contains(&name.as_str());
            for bound in function.bound.get(&name).into_iter().flatten() {
                self.follow(Some(function), file, bound, depth + usize::from(!named), seen, said);
            }
            if let Some((_, over)) = function.looped.get(&name) {
                self.follow(Some(function), file, over, depth + 1, seen, said);
            }
        }
        for called in parts.called {
            let callees = self.functions.iter().filter(|one| one.file == file && one.name == called);
            for callee in callees {
                if seen.insert(format!("fn {called}")) {
                    for text in &callee.texts {
                        said.hear(text, false);
                    }
                    for call in &callee.calls {
                        let within = call.callee.rsplit("::").next().unwrap_or_default().trim_start_matches('.');
                        if let Some(inner) = self.functions.iter().find(|one| one.file == file && one.name == within)
                            && seen.insert(format!("fn {within}"))
                        {
                            for text in &inner.texts {
                                said.hear(text, false);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Read {
    fn found(&mut self, file: &str, name: String, place: &str, said: Printed) {
        let reported = self.findings.entry((Side::of(file), name)).or_default();
        reported.places.insert(place.to_owned());
        reported.statements.extend(said.direct);
        reported.perhaps.extend(said.perhaps);
    }

    fn said(&mut self, file: &str, place: &str, statements: impl IntoIterator<Item = String>) {
        for statement in statements {
            self.statements.entry((Side::of(file), statement)).or_insert_with(|| format!("{file}: {place}"));
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Printed {
    direct: BTreeSet<String>,
    perhaps: BTreeSet<String>,
}

impl Printed {
    fn add(&mut self, other: Self) {
        self.direct.extend(other.direct);
        self.perhaps.extend(other.perhaps);
    }

    fn hear(&mut self, text: &str, direct: bool) {
        // A query that makes statements has them in quotes of its own.
        let query = text.trim_start().starts_with("SELECT ") && !text.trim_start().starts_with("SELECT pg_");
        let heard = statements(text).into_iter().filter(|_| !query);
        let quoted = text.split('\'').skip(1).step_by(2).filter(|part| part.contains('%')).flat_map(statements);
        let into = if direct { &mut self.direct } else { &mut self.perhaps };
        into.extend(heard);
        into.extend(quoted.filter(|_| query || text.contains("format(")));
    }

    fn statements(self) -> BTreeSet<String> {
        self.direct
    }
}

impl Carrier {
    fn takes(&self, function: &Function, call: &Call) -> bool {
        // What was found in order tells nothing to do.
        let fine = |one: &Expr| {
            matches!(one, Expr::Path(path) if path.path.segments.len() == 2
            && path.path.segments.last().is_some_and(|last| last.ident == "Ok"))
        };
        if call.arguments.iter().any(fine) {
            return false;
        }
        let named = match self.callee.strip_prefix('.') {
            Some(_) => call.callee == self.callee,
            None => call.callee == self.callee || call.callee.ends_with(&format!("::{}", self.callee)),
        };
        named
            && call.arguments.len() == self.arity
            && self.file.as_ref().is_none_or(|file| *file == function.file || Side::of(file) == Side::Both)
    }
}

impl Function {
    /// Which parameters an expression is made of.
    fn mentioned(&self, expression: &Expr) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut ahead = vec![expression.clone()];
        let mut seen = BTreeSet::new();
        while let Some(next) = ahead.pop() {
            let mut parts = Parts::default();
            parts.visit_expr(&next);
            for name in parts.names {
                if !seen.insert(name.clone()) {
                    continue;
                }
                found.extend(self.parameters.iter().position(|one| *one == name));
                ahead.extend(self.bound.get(&name).into_iter().flatten().cloned());
                ahead.extend(self.looped.get(&name).map(|(_, over)| over.clone()));
            }
        }
        found
    }

    fn carrier(&self, name: Name, mut says: BTreeSet<usize>) -> Option<Carrier> {
        if let Name::At(name) = name {
            says.remove(&name);
        } else if says.is_empty() || self.name == "remedy" {
            return None;
        }
        let callee = match self.of.as_str() {
            "" => self.name.clone(),
            "." => format!(".{}", self.name),
            of => format!("{of}::{}", self.name),
        };
        Some(Carrier { callee, file: Some(self.file.clone()), arity: self.parameters.len(), name, says })
    }
}

/// The statements in a text: from a word that begins one to the text's end, or to where the next begins.
fn statements(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = ' ';
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        // After a word in capitals it is a part of that statement.
        let last = text[..text.len() - rest.len()].split_whitespace().last().unwrap_or_default();
        let within = last.len() > 1 && last.chars().all(char::is_uppercase);
        let starts = !before.is_alphanumeric() && before != '_' && before != '.' && !within;
        let verb = VERBS.iter().find(|verb| {
            rest.strip_prefix(**verb).and_then(|after| after.strip_prefix(' ')).is_some_and(|after| {
                let next = after.split(|one: char| !one.is_alphanumeric() && one != '_').next().unwrap_or_default();
                let word = next.len() > 1 && next.chars().all(|one| one.is_uppercase() || one == '_');
                match **verb {
                    "SELECT" => next.starts_with("pg_"),
                    "SET" | "KILL" => true,
                    _ => word || after.starts_with(['{', '%', '…']),
                }
            })
        });
        if starts && let Some(verb) = verb {
            let end = rest.find([';', ',', ':']).unwrap_or(rest.len());
            found.push(rest[..end].split_whitespace().collect::<Vec<_>>().join(" "));
            // A list of words in a sentence is one statement.
            rest = &rest[end.max(verb.len())..];
            before = ' ';
            continue;
        }
        before = first;
        rest = &rest[first.len_utf8()..];
    }
    found
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_')
}

/// The expression behind references, conversions and waits.
fn plain(expression: &Expr) -> &Expr {
    match expression {
        Expr::Reference(one) => plain(&one.expr),
        Expr::Paren(one) => plain(&one.expr),
        Expr::Group(one) => plain(&one.expr),
        Expr::Unary(one) => plain(&one.expr),
        Expr::MethodCall(one)
            if ["to_owned", "into", "clone", "as_str", "to_string"].contains(&&*one.method.to_string()) =>
        {
            plain(&one.receiver)
        }
        one => one,
    }
}

fn ident(expression: &Expr) -> Option<String> {
    match plain(expression) {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        _ => None,
    }
}

fn fields<'a>(one: &'a syn::ExprStruct, named: &[&str]) -> Vec<&'a Expr> {
    let wanted = |field: &&syn::FieldValue| match &field.member {
        Member::Named(name) => named.iter().any(|one| name == one),
        Member::Unnamed(_) => false,
    };
    one.fields.iter().filter(wanted).map(|field| &field.expr).collect()
}

/// The fields that are told: of a right also the statement that grants it.
fn reported(one: &syn::ExprStruct) -> Vec<&Expr> {
    let mut all = fields(one, &SAYS);
    if !fields(one, &["check"]).is_empty() {
        all.extend(fields(one, &["statement"]));
    }
    all
}

/// What a macro was given, where it reads like arguments.
fn arguments(tokens: &proc_macro2::TokenStream) -> Vec<Expr> {
    let list = Punctuated::<Expr, Token![,]>::parse_terminated;
    list.parse2(tokens.clone()).map(|list| list.into_iter().collect()).unwrap_or_default()
}

/// The texts, names and calls of an expression.
#[derive(Default)]
struct Parts {
    texts: Vec<String>,
    names: Vec<String>,
    called: Vec<String>,
}

impl<'ast> Visit<'ast> for Parts {
    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        // What is formatted into a text by its name is a part of it.
        let value = text.value();
        for part in value.split('{').skip(1) {
            let name = part.split(['}', ':']).next().unwrap_or_default();
            if is_name(&name.to_lowercase()) {
                self.names.push(name.to_owned());
            }
        }
        self.texts.push(value);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        self.names.extend(path.path.segments.last().map(|last| last.ident.to_string()));
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(path) = &*call.func {
            self.called.extend(path.path.segments.last().map(|last| last.ident.to_string()));
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.called.push(call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, one: &'ast syn::Macro) {
        for argument in arguments(&one.tokens) {
            let mut inner = Self::default();
            inner.visit_expr(&argument);
            self.texts.extend(inner.texts);
            self.names.extend(inner.names);
            self.called.extend(inner.called);
        }
    }
}

/// Collects functions, closures, calls and structures.
struct Walk<'a> {
    code: &'a mut Code,
    file: &'a str,
    /// The type whose functions these are.
    of: String,
    open: Vec<Function>,
}

impl Walk<'_> {
    fn here(&mut self) -> &mut Function {
        self.open.last_mut().expect("one is always open")
    }

    fn function(&mut self, signature: &syn::Signature, walk: impl FnOnce(&mut Self)) {
        let method = signature.receiver().is_some();
        let of = match (method, self.of.as_str()) {
            (true, _) => ".",
            (false, of) => of,
        };
        let mut function = Function {
            file: self.file.to_owned(),
            name: signature.ident.to_string(),
            of: of.to_owned(),
            ..Function::default()
        };
        for input in &signature.inputs {
            if let syn::FnArg::Typed(input) = input {
                function.parameters.push(bound(&input.pat).into_iter().next().unwrap_or_default());
            }
        }
        self.open.push(function);
        walk(self);
        let function = self.open.pop().expect("it was opened");
        self.code.functions.push(function);
    }

    fn looked_at(&mut self, pattern: &Pat, expression: &Expr) {
        for name in bound(pattern) {
            self.here().bound.entry(name).or_default().push(expression.clone());
        }
    }
}

/// The names that a pattern binds.
fn bound(pattern: &Pat) -> Vec<String> {
    #[derive(Default)]
    struct Names(Vec<String>);
    impl<'ast> Visit<'ast> for Names {
        fn visit_pat_ident(&mut self, one: &'ast syn::PatIdent) {
            self.0.push(one.ident.to_string());
        }
    }
    let mut names = Names::default();
    names.visit_pat(pattern);
    names.0
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|one| {
        one.path().is_ident("test")
            || one.path().is_ident("cfg") && one.parse_args::<syn::Ident>().is_ok_and(|name| name == "test")
    })
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_mod(&mut self, one: &'ast syn::ItemMod) {
        if !is_test(&one.attrs) {
            visit::visit_item_mod(self, one);
        }
    }

    fn visit_item_impl(&mut self, one: &'ast syn::ItemImpl) {
        let of = match &*one.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
            _ => None,
        };
        let outer = std::mem::replace(&mut self.of, of.unwrap_or_default());
        visit::visit_item_impl(self, one);
        self.of = outer;
    }

    fn visit_item_fn(&mut self, one: &'ast syn::ItemFn) {
        let outer = std::mem::take(&mut self.of);
        self.function(&one.sig, |walk| visit::visit_item_fn(walk, one));
        self.of = outer;
    }

    fn visit_impl_item_fn(&mut self, one: &'ast syn::ImplItemFn) {
        self.function(&one.sig, |walk| visit::visit_impl_item_fn(walk, one));
    }

    fn visit_trait_item_fn(&mut self, one: &'ast syn::TraitItemFn) {
        self.function(&one.sig, |walk| visit::visit_trait_item_fn(walk, one));
    }

    fn visit_item_const(&mut self, one: &'ast syn::ItemConst) {
        let (name, value) = (one.ident.to_string(), (*one.expr).clone());
        if self.open.len() > 1 {
            self.here().bound.entry(name).or_default().push(value);
        } else {
            self.code.constants.entry(name).or_default().push((self.file.to_owned(), value));
        }
        visit::visit_item_const(self, one);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let Some(init) = &local.init {
            self.looked_at(&local.pat, &init.expr);
            // A closure with a name is a function of this file.
            if let (Expr::Closure(closure), [name]) = (&*init.expr, bound(&local.pat).as_slice()) {
                let parameters = closure.inputs.iter().map(|one| bound(one).into_iter().next().unwrap_or_default());
                let function = Function {
                    file: self.file.to_owned(),
                    name: name.clone(),
                    parameters: parameters.collect(),
                    bound: self.here().bound.clone(),
                    ..Function::default()
                };
                self.open.push(function);
                visit::visit_expr(self, &closure.body);
                let function = self.open.pop().expect("it was opened");
                self.code.functions.push(function);
                return;
            }
        }
        visit::visit_local(self, local);
    }

    fn visit_expr_let(&mut self, one: &'ast syn::ExprLet) {
        self.looked_at(&one.pat, &one.expr);
        visit::visit_expr_let(self, one);
    }

    fn visit_expr_match(&mut self, one: &'ast syn::ExprMatch) {
        for arm in &one.arms {
            self.looked_at(&arm.pat, &one.expr);
        }
        visit::visit_expr_match(self, one);
    }

    fn visit_expr_for_loop(&mut self, one: &'ast syn::ExprForLoop) {
        let parts = match &*one.pat {
            Pat::Tuple(tuple) => tuple.elems.iter().collect(),
            whole => vec![whole],
        };
        for (at, part) in parts.into_iter().enumerate() {
            for name in bound(part) {
                self.here().looped.insert(name, (at, (*one.expr).clone()));
            }
        }
        visit::visit_expr_for_loop(self, one);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(path) = &*call.func {
            let segments: Vec<String> = path.path.segments.iter().map(|one| one.ident.to_string()).collect();
            let mut callee = segments.join("::");
            if let Some(own) = callee.strip_prefix("Self::") {
                callee = format!("{}::{own}", self.of);
            }
            let arguments = call.args.iter().cloned().collect();
            self.here().calls.push(Call { callee, arguments });
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let callee = format!(".{}", call.method);
        let arguments = call.args.iter().cloned().collect();
        self.here().calls.push(Call { callee, arguments });
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_struct(&mut self, one: &'ast syn::ExprStruct) {
        self.here().structs.push(one.clone());
        visit::visit_expr_struct(self, one);
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.here().texts.push(text.value());
    }

    fn visit_macro(&mut self, one: &'ast syn::Macro) {
        let arguments = arguments(&one.tokens);
        let mut parts = Parts::default();
        for argument in &arguments {
            parts.visit_expr(argument);
            // Calls within a macro are calls.
            let mut inner = Inner(Vec::new(), Vec::new(), self.of.clone());
            inner.visit_expr(argument);
            self.here().calls.extend(inner.0);
            self.here().structs.extend(inner.1);
        }
        self.here().texts.extend(parts.texts);
    }
}

struct Inner(Vec<Call>, Vec<syn::ExprStruct>, String);

impl<'ast> Visit<'ast> for Inner {
    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(path) = &*call.func {
            let segments: Vec<String> = path.path.segments.iter().map(|one| one.ident.to_string()).collect();
            let callee = segments.join("::").replace("Self::", &format!("{}::", self.2));
            self.0.push(Call { callee, arguments: call.args.iter().cloned().collect() });
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let callee = format!(".{}", call.method);
        self.0.push(Call { callee, arguments: call.args.iter().cloned().collect() });
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_struct(&mut self, one: &'ast syn::ExprStruct) {
        self.1.push(one.clone());
        visit::visit_expr_struct(self, one);
    }

    fn visit_macro(&mut self, one: &'ast syn::Macro) {
        let mut inner = Self(Vec::new(), Vec::new(), self.2.clone());
        for argument in arguments(&one.tokens) {
            inner.visit_expr(&argument);
        }
        self.0.append(&mut inner.0);
        self.1.append(&mut inner.1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Code, Side, statements};

    /// The ways by which names and statements reach a finding.
    const SEEN: &str = r#"
        const NAME: &str = "a_constant";
        const RULES: [Rule; 1] = [Rule { name: "of_a_table", fix: "format('ALTER TABLE %s A', t)", remedy: "do" }];
        fn tell(findings: &mut Findings, name: &str, fix: String) { findings.error(name, "seen", "do", fix); }
        impl Findings {
            fn error(&mut self, name: &str, evidence: &str, remedy: &str, fix: String) {
                self.checks.push(Check::new(name, Level::Error, evidence, remedy, fix));
            }
        }

        fn looks(findings: &mut Findings) -> Result<()> {
            let fix = format!("DROP EXTENSION {}", quoted);
            findings.error(NAME, "seen", "do", fix);
            tell(findings, "handed_on", "GRANT SELECT ON t TO m".to_owned());
            for (check, more) in [("first_of_two", 1), ("second_of_two", 2)] {
                findings.error(check, "seen", "or SET GLOBAL x = 1", String::new());
            }
            let step = |fix: String| Check::new("by_a_closure", Level::Error, "seen", "do", fix);
            vec![step(format!("KILL {pid}"))];
            findings.ok("fine", "nothing to do");
            Err(Error::refused("no").remedy(format!("DROP MIGRATION {name} first")))
        }
    "#;

    #[test]
    fn each_way_by_which_a_statement_reaches_a_finding_is_followed() {
        let code = Code::parse([("migrator/src/postgres/one.rs", SEEN)].into_iter());
        let read = code.read();
        let reported = |name: &str| -> Vec<&str> {
            let reported = read.findings.get(&(Side::Postgres, name.to_owned()));
            let reported = reported.unwrap_or_else(|| panic!("{name}: {:?}", read.findings));
            reported.statements.iter().map(String::as_str).collect()
        };
        for (name, statement) in [
            ("a_constant", "DROP EXTENSION {}"),
            ("of_a_table", "ALTER TABLE %s A"),
            ("handed_on", "GRANT SELECT ON t TO m"),
            ("first_of_two", "SET GLOBAL x = 1"),
            ("second_of_two", "SET GLOBAL x = 1"),
            ("by_a_closure", "KILL {pid}"),
        ] {
            assert!(reported(name).iter().any(|one| one.starts_with(statement)), "{name}: {:?}", reported(name));
        }
        assert_eq!(read.findings.len(), 6, "{:?}", read.findings);
        let without: Vec<&str> = read.statements.keys().map(|(_, one)| one.as_str()).collect();
        assert_eq!(without, ["DROP MIGRATION {name} first"]);
        assert_eq!(read.unread, BTreeSet::new());
        let hidden =
            "fn looks(findings: &mut Findings) { findings.checks.push(Check::new(&made(), Level::Error, e, r, f)); }";
        let read = Code::parse([("migrator/src/postgres/one.rs", hidden)].into_iter()).read();
        assert_eq!(read.unread.len(), 1, "a name that cannot be read is told");
    }

    #[test]
    fn a_sentence_with_words_in_capitals_is_no_statement() {
        for text in
            ["each UPDATE and DELETE looks for its row", "ORDER BY may answer differently", "the CHECK is false"]
        {
            assert_eq!(statements(text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(
            statements("end it, or run ALTER ROLE a LOGIN; SELECT pg_reload_conf()"),
            ["ALTER ROLE a LOGIN", "SELECT pg_reload_conf()"]
        );
    }
}
