//! What one entry of the table of keys becomes: a field, how it is read and shown, and when another value counts.

use super::kinds::{Context, Kind};
use super::reader::Reader;

/// One key of the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The dotted path; `*` stands for a name that the operator chooses.
    pub path: &'static str,
    /// What it is when left out.
    pub default: DefaultValue,
    /// What a value must look like.
    pub form: &'static str,
    /// When another value counts.
    pub change: Change,
    /// What it is good for.
    pub meaning: &'static str,
}

/// What a key is when it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// It must be given.
    Required,
    /// Nothing; the text tells what that means.
    Nothing(&'static str),
    /// This text, read like a value of the file.
    Text(&'static str),
    /// The name of the section it stands in.
    SectionName,
}

/// When another value of a key counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// After a restart.
    AtStart,
    /// Once SIGHUP has the file read again.
    AtReload,
    /// As [`Change::AtReload`]; and each migration may have its own, by `CREATE MIGRATION … WITH`.
    ByMigration,
}

impl Key {
    /// Whether `path` is a path of this key.
    pub fn covers(&self, path: &[String]) -> bool {
        let parts: Vec<&str> = self.path.split('.').collect();
        parts.len() == path.len() && parts.iter().zip(path).all(|(part, given)| *part == "*" || part == given)
    }

    /// The section it stands in, such as `listen` or `clusters`.
    pub fn section(&self) -> &'static str {
        self.path.split('.').next().unwrap_or(self.path)
    }

    /// Its own name in that section.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// Whether its section holds one part per name that the operator chooses.
    pub fn is_named(&self) -> bool {
        self.path.contains('*')
    }
}

/// A section of the file. `name` is what the operator chose in the place of `*`.
pub(super) trait Section: Sized {
    /// Its keys, in the order in which a file would have them.
    const KEYS: &'static [Key];

    /// Takes every key of it; tells every problem.
    fn take(reader: &mut Reader<'_>, name: &str) -> Option<Self>;

    /// Adds every key with its value, as SHOW CONFIG shows it.
    fn show(&self, name: &str, entries: &mut Vec<(String, String)>);

    /// Takes over what another file says, as far as it counts before a restart.
    fn reload(&mut self, read: &Self);

    /// Sets what a migration may have of its own; none where `key` is no such key. Fails with what is accepted.
    fn set(&mut self, key: &str, text: &str) -> Option<Result<(), &'static str>>;
}

/// Reads a key of the section that is read.
pub(super) fn take<T>(reader: &mut Reader<'_>, key: &Key, name: &str, kind: &Kind<T>) -> Option<T> {
    let path: Vec<&str> = key.path.split('.').map(|part| if part == "*" { name } else { part }).collect();
    reader.take(&path, kind)
}

pub(super) const fn form<T>(kind: &Kind<T>) -> &'static str {
    kind.form
}

pub(super) fn show<T>(value: &T, kind: &Kind<T>) -> String {
    (kind.show)(value)
}

pub(super) fn set<T>(field: &mut T, text: &str, kind: &Kind<T>) -> Result<(), &'static str> {
    *field = (kind.read)(text, &Context::default()).map_err(|_| kind.option_form)?;
    Ok(())
}

/// Declares a section, each of its keys by one line: `name: type = default, kind, when another value counts, meaning`.
macro_rules! section {
    ($path:literal, $(#[$doc:meta])* $section:ident {
        $($field:ident: $type:ty = $default:expr, $kind:expr, $change:ident, $meaning:literal;)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $section {
            $(#[doc = concat!("`", $path, ".", stringify!($field), "`: ", $meaning, ".")] pub $field: $type,)+
        }

        impl Section for $section {
            const KEYS: &'static [Key] = &[$(Key {
                path: concat!($path, ".", stringify!($field)),
                default: $default,
                form: section::form::<$type>(&$kind),
                change: Change::$change,
                meaning: $meaning,
            }),+];

            fn take(reader: &mut Reader<'_>, name: &str) -> Option<Self> {
                // Every key is read before any is missed, so that all problems are told.
                let mut keys = Self::KEYS.iter();
                $(let $field: Option<$type> = section::take(reader, keys.next()?, name, &$kind);)+
                Some(Self { $($field: $field?),+ })
            }

            fn show(&self, name: &str, entries: &mut Vec<(String, String)>) {
                $(entries.push((
                    concat!($path, ".", stringify!($field)).replacen('*', name, 1),
                    section::show(&self.$field, &$kind),
                ));)+
            }

            fn reload(&mut self, read: &Self) {
                $(if Change::$change != Change::AtStart {
                    self.$field.clone_from(&read.$field);
                })+
            }

            fn set(&mut self, key: &str, text: &str) -> Option<Result<(), &'static str>> {
                match key {
                    $(stringify!($field) if Change::$change == Change::ByMigration => {
                        Some(section::set(&mut self.$field, text, &$kind))
                    })+
                    _ => None,
                }
            }
        }
    };
}

pub(super) use section;
