//! A text that must not be shown: passwords, from the file, the environment, or a file of their own.

use std::fmt;
use std::path::{Path, PathBuf};

use transport::Password;
use zeroize::Zeroizing;

/// A password. Its memory is wiped when it is dropped, and no formatter shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: Zeroizing<String>,
    /// Where it was read.
    file: Option<PathBuf>,
}

impl Secret {
    /// Takes a text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: Zeroizing::new(text.into()), file: None }
    }

    /// The text itself, for a login and for nothing else.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The same for an account of Headgate's own: a file is read anew for each connection.
    pub fn for_connections(&self) -> Password {
        self.file.as_ref().map_or_else(|| Password::text(&self.text), Password::file)
    }

    /// Reads a value of the configuration: replaces every `${NAME}` by that variable, or reads `file:/path`.
    /// The error tells what is wrong without showing any part of the value that could be secret.
    pub(super) fn resolve(value: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let file = value.strip_prefix("file:").map(PathBuf::from);
        let text = match &file {
            Some(path) => read_first_line(path)?,
            None => substitute(value, env)?,
        };
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.contains('\0') {
            return Err("contains a NUL byte".to_owned());
        }
        Ok(Self { text, file })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

fn read_first_line(path: &Path) -> Result<Zeroizing<String>, String> {
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| format!("names the file \"{}\", which cannot be read: {error}", path.display()))?;
    let line = text.lines().next().unwrap_or_default();
    Ok(Zeroizing::new(line.to_owned()))
}

fn substitute(value: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Zeroizing<String>, String> {
    let mut out = Zeroizing::new(String::with_capacity(value.len()));
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            return Err("has a ${ without its }".to_owned());
        };
        let known = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !known {
            return Err("has a ${…} that does not name an environment variable".to_owned());
        }
        let found = env(name)
            .map(Zeroizing::new)
            .ok_or_else(|| format!("names the environment variable {name}, which is not set"))?;
        out.push_str(&found);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}
