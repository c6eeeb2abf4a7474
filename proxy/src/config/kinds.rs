//! The kinds of values: what each looks like, how it is read, and how it is shown.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use transport::tls::Mode;

use super::reader::{bytes, duration};
use super::{Engine, Method, Secret, TlsDemand};
use crate::networks::Networks;

/// A kind of value.
pub(super) struct Kind<T> {
    /// What a value looks like in the file.
    pub form: &'static str,
    /// What it looks like in `WITH (…)`.
    pub option_form: &'static str,
    /// Reads it; fails with what is wrong.
    pub read: fn(&str, &Context<'_>) -> Result<T, String>,
    /// Shows it, unless it is secret.
    pub show: fn(&T) -> String,
    /// What it is where the file may leave it out, and does.
    pub absent: fn() -> Option<T>,
}

/// Answers for `${NAME}`.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What reading needs to know besides the text.
#[derive(Clone, Copy, Default)]
pub(super) struct Context<'a> {
    /// Of the cluster that is read; then of all of them.
    pub engine: Option<Engine>,
    /// The file has passwords of users.
    pub knows_passwords: bool,
    /// The variables that a secret may name.
    pub env: Option<Env<'a>>,
}

/// A kind by its form in the file (and in `WITH (…)`, where that is another), how it is read, and how it is shown.
macro_rules! kind {
    ($form:expr, |$text:ident $(, $context:ident)?| $read:expr, $show:expr) => {
        kind!($form, $form, |$text $(, $context)?| $read, $show)
    };
    ($form:expr, $option_form:expr, |$text:ident| $read:expr, $show:expr) => {
        kind!($form, $option_form, |$text, _context| $read, $show)
    };
    ($form:expr, $option_form:expr, |$text:ident, $context:ident| $read:expr, $show:expr) => {
        $crate::config::kinds::Kind {
            form: $form,
            option_form: $option_form,
            read: |$text, $context| $read.ok_or_else(|| format!("{:?} is not accepted", $text)),
            show: $show,
            absent: || None,
        }
    };
}

/// A whole number within limits.
macro_rules! number {
    ($least:literal to $most:literal) => {
        kind!(
            concat!("a whole number from ", $least, " to ", $most),
            concat!("a number from ", $least, " to ", $most),
            |text| $crate::config::kinds::whole_number(text, $least, $most),
            ToString::to_string
        )
    };
}

/// A size in bytes within limits, which are written like a value.
macro_rules! bytes_within {
    ($least:literal to $most:literal) => {
        kind!(
            concat!("a size in B, KiB, MiB or GiB from ", $least, " to ", $most, ", such as \"64MiB\""),
            concat!("a size from '", $least, "' to '", $most, "', such as '64MiB'"),
            |text| $crate::config::kinds::size(text, $least, $most).and_then(|size| size.try_into().ok()),
            |size| $crate::config::kinds::show_bytes(u64::try_from(*size).unwrap_or(u64::MAX))
        )
    };
}

pub(super) use {bytes_within, kind, number};

pub(super) const ADDRESS: Kind<SocketAddr> = kind!(ADDRESS_FORM, |text| text.parse().ok(), ToString::to_string);
const ADDRESS_FORM: &str =
    "an IP address and a port, such as \"127.0.0.1:6432\" or \"[::1]:6432\"; port 0 takes any free one";

pub(super) const OPTIONAL_ADDRESS: Kind<Option<SocketAddr>> = Kind {
    absent: || Some(None),
    ..kind!(ADDRESS_FORM, |text| text.parse().ok().map(Some), |address| address
        .map_or(String::new(), |address| address.to_string()))
};

pub(super) const NETWORKS: Kind<Networks> = Kind {
    absent: || Some(Networks::default()),
    ..kind!(
        "networks and addresses with commas in between, such as \"10.0.0.0/8, 192.0.2.7\"",
        |text| Networks::parse(text),
        ToString::to_string
    )
};

pub(super) const SECRET: Kind<Secret> =
    Kind { form: SECRET_FORM, option_form: SECRET_FORM, read: secret, show: |_| "***".to_owned(), absent: || None };
const SECRET_FORM: &str = "a text without NUL that is not empty; ${NAME} is replaced by that environment variable, and \"file:/path\" reads the first line of a file";

pub(super) const OPTIONAL_SECRET: Kind<Option<Secret>> = Kind {
    form: SECRET_FORM,
    option_form: SECRET_FORM,
    read: |text, context| secret(text, context).map(Some),
    show: |secret| secret.as_ref().map_or(String::new(), SECRET.show),
    absent: || Some(None),
};

/// A command may have a secret in it.
pub(super) const OPTIONAL_COMMAND: Kind<Option<Secret>> = Kind {
    absent: || Some(None),
    ..kind!("a command that is not empty", |text| (!text.is_empty()).then(|| Some(Secret::new(text))), |command| {
        command.as_ref().map_or(String::new(), SECRET.show)
    })
};

pub(super) const DURATION: Kind<Duration> = kind!(
    "a whole number with its unit ms, s, min or h, such as \"500ms\" or \"10s\"; more than zero, at most 720h",
    "a duration such as '500ms', '2s' or '1min'",
    |text| duration(text),
    show_duration
);

/// The form of keys that take a boolean.
pub(super) const TRUE_OR_FALSE: &str = "true or false";

pub(super) const BOOLEAN: Kind<bool> = kind!(TRUE_OR_FALSE, |text| text.parse().ok(), ToString::to_string);

pub(super) const PEM: Kind<Option<PathBuf>> = Kind {
    absent: || Some(None),
    ..kind!("the path of a PEM file", |text| path(text).map(Some), |path| path
        .as_deref()
        .map_or(String::new(), show_path))
};

pub(super) const PROGRAM: Kind<PathBuf> =
    kind!("a program's name, looked up on PATH, or its path", |text| path(text), |path| show_path(path));

pub(super) const FOLDER: Kind<PathBuf> = kind!(
    "a folder's path, made if it is missing; a relative one starts at the working directory",
    |text| path(text),
    |path| show_path(path)
);

pub(super) const TLS_DEMAND: Kind<TlsDemand> = kind!(
    "auto, off, allow or require",
    |text| TlsDemand::ALL.into_iter().find(|demand| demand.word() == text),
    |demand| demand.word().to_owned()
);

pub(super) const OPTIONAL_NAME: Kind<Option<String>> = Kind {
    absent: || Some(None),
    ..kind!("a name that is not empty", |text| (!text.is_empty()).then(|| Some(text.to_owned())), |name| name
        .clone()
        .unwrap_or_default())
};

pub(super) const OPTIONAL_SQL: Kind<Option<String>> = Kind {
    absent: || Some(None),
    ..kind!("a query with $1 in it", |text| text.contains("$1").then(|| Some(text.to_owned())), |query| query
        .clone()
        .unwrap_or_default())
};

pub(super) const TLS_MODE: Kind<Mode> =
    kind!("disable, prefer, require, verify-ca or verify-full", |text| Mode::of(text), |mode| mode.word().to_owned());

pub(super) const THREADS: Kind<NonZeroUsize> = kind!(
    "\"auto\" (one for each processor), or a whole number from 1 to 1024",
    |text| match text {
        "auto" => Some(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        text => whole_number(text, 1, 1024).and_then(NonZeroUsize::new),
    },
    ToString::to_string
);

pub(super) const USER_NAME: Kind<String> = kind!("a user name of 1 to 63 bytes", |text| name(text), Clone::clone);

pub(super) const DATABASE_NAME: Kind<String> =
    kind!("a database name of 1 to 63 bytes", |text| name(text), Clone::clone);

/// Whether there is such a section is told once all are known.
pub(super) const CLUSTER_NAME: Kind<String> =
    kind!("the name of a section under [clusters]", |text| Some(text.to_owned()), Clone::clone);

pub(super) const ENGINE: Kind<Engine> = kind!(
    "\"postgres\", \"mysql\" or \"mariadb\"",
    |text| match text {
        "postgres" => Some(Engine::Postgres),
        "mysql" | "mariadb" => Some(Engine::Mysql),
        _ => None,
    },
    |engine| engine.word().to_owned()
);

pub(super) const HOST: Kind<String> = kind!(
    "a host name, an IP address, or the absolute path of a socket folder (PostgreSQL) or of a socket (MySQL and MariaDB)",
    |text| host(text),
    Clone::clone
);

pub(super) const PORT: Kind<u16> = kind!(
    "\"auto\" (5432 for PostgreSQL, 3306 for MySQL and MariaDB), or a whole number from 1 to 65535",
    |text, context| match text {
        "auto" => context.engine.map(Engine::default_port),
        text => whole_number(text, 1, 65_535),
    },
    ToString::to_string
);

pub(super) const METHOD: Kind<Method> = kind!(
    "\"auto\" (accounts; scram-sha-256 for PostgreSQL where users have passwords here), \"accounts\"; for PostgreSQL also \"password\", \"scram-sha-256\" or \"trust\"",
    |text, context| match text {
        "auto" if context.knows_passwords && context.engine != Some(Engine::Mysql) => Some(Method::ScramSha256),
        "auto" | "accounts" => Some(Method::Accounts),
        "trust" => Some(Method::Trust),
        "scram-sha-256" => Some(Method::ScramSha256),
        "password" => Some(Method::Password),
        _ => None,
    },
    |method| method.word().to_owned()
);

/// PostgreSQL's own limit for a name; a longer one would be cut by the server.
const NAME_BYTES_MAX: usize = 63;

/// A name that an operator chooses.
pub(super) fn name(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains('\0');
    fits.then(|| text.to_owned())
}

fn secret(text: &str, context: &Context<'_>) -> Result<Secret, String> {
    Secret::resolve(text, &|name| context.env.and_then(|env| env(name)))
}

fn host(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text.len() <= 255
        && !text.contains(|c: char| c == '\0' || c.is_whitespace())
        && (text.starts_with('/') || !text.contains('/'));
    fits.then(|| text.to_owned())
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
}

pub(super) fn whole_number<T: TryFrom<i64>>(text: &str, least: i64, most: i64) -> Option<T> {
    let value = text.parse::<i64>().ok().filter(|value| (least..=most).contains(value))?;
    T::try_from(value).ok()
}

/// A size within limits that are written like it.
pub(super) fn size(text: &str, least: &str, most: &str) -> Option<u64> {
    let (least, most) = (bytes(least)?, bytes(most)?);
    bytes(text).filter(|size| (least..=most).contains(size))
}

fn show_path(path: &Path) -> String {
    path.display().to_string()
}

fn show_duration(duration: &Duration) -> String {
    let millis = duration.as_millis();
    if millis.is_multiple_of(1_000) { format!("{}s", millis / 1_000) } else { format!("{millis}ms") }
}

pub(super) fn show_bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| format!("{bytes}B"), |(size, name)| format!("{}{name}", bytes / size))
}
