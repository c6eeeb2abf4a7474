//! What both engines' URLs have in common: their parameters, and what these say of TLS.

use std::borrow::Cow;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use transport::tls::{Mode, Settings, Tls};

/// The parameters of a URL, and the URL without them.
pub(super) struct Parameters {
    option: String,
    all: Vec<(String, String)>,
}

/// The words of one engine for the same things.
pub(super) struct Words {
    /// The parameter of the mode, and others that mean the same.
    pub(super) mode: &'static [&'static str],
    /// Reads its value.
    pub(super) read: fn(&str) -> Option<Mode>,
    /// Its values, as they are reported.
    pub(super) modes: &'static str,
    /// The file of trusted authorities.
    pub(super) authorities: &'static [&'static str],
    /// Our certificate.
    pub(super) certificate: &'static [&'static str],
    /// Its key.
    pub(super) key: &'static [&'static str],
}

impl Parameters {
    /// Takes them off; `option` is told with what is wrong.
    pub(super) fn split(option: &str, url: &str) -> Result<(String, Self), String> {
        let (plain, asked) = url.split_once('?').unwrap_or((url, ""));
        let decode = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded.map(Cow::into_owned).map_err(|_| format!("{option}: a parameter is not UTF-8"))
        };
        let pairs = asked.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        Ok((plain.to_owned(), Self { option: option.to_owned(), all: pairs.collect::<Result<_, String>>()? }))
    }

    /// Takes one by any of its names; of several the last counts.
    pub(super) fn take(&mut self, names: &[&str]) -> Option<String> {
        let mut found = None;
        self.all.retain_mut(|(name, value)| {
            let is_it = names.contains(&name.as_str());
            if is_it {
                found = Some(std::mem::take(value));
            }
            !is_it
        });
        found
    }

    /// What they say of TLS, in the engine's words. Where authorities are named and no mode, or one that only asks for
    /// encryption, the server must be of them, as libpq and MySQL's clients have it.
    pub(super) fn take_tls(&mut self, words: &Words) -> Result<Settings, String> {
        let option = self.option.clone();
        let mode_name = words.mode.first().copied().unwrap_or_default();
        let mode = match self.take(words.mode) {
            None => None,
            Some(value) => Some((words.read)(&value).ok_or_else(|| {
                format!("{option}: {mode_name}={value} is not accepted; write one of {}", words.modes)
            })?),
        };
        let authorities = self.take(words.authorities);
        let is_system = authorities.as_deref() == Some("system");
        let mode = match (mode, &authorities) {
            (Some(mode), None) => mode,
            (None, None) => Mode::default(),
            (None, Some(_)) if is_system => Mode::VerifyFull,
            (None | Some(Mode::Require), Some(_)) if !is_system => Mode::VerifyCa,
            (Some(mode), Some(_)) if mode.verifies() => mode,
            (_, Some(file)) => {
                let name = words.authorities.first().copied().unwrap_or_default();
                return Err(format!(
                    "{option}: {name}={file} needs a {mode_name} that looks at it; write one of {}",
                    words.modes
                ));
            }
        };
        let settings = Settings {
            mode,
            authorities: authorities.filter(|_| !is_system).map(PathBuf::from),
            certificate: self.take(words.certificate).map(PathBuf::from),
            key: self.take(words.key).map(PathBuf::from),
        };
        if settings.certificate.is_some() != settings.key.is_some() {
            return Err(format!("{option}: a certificate needs its key, and a key its certificate"));
        }
        match Tls::new(settings.clone()).problem() {
            Some(wrong) => Err(format!("{option}: {wrong}")),
            None => Ok(settings),
        }
    }

    /// Fails where something is left that nobody took.
    pub(super) fn end(self, known: &str) -> Result<(), String> {
        match self.all.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(format!("{}: the parameter {name:?} is not known here; known are {known}", self.option))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words = Words {
        mode: &["sslmode"],
        read: Mode::of,
        modes: "them",
        authorities: &["sslrootcert"],
        certificate: &["sslcert"],
        key: &["sslkey"],
    };

    fn tls(url: &str) -> Result<Settings, String> {
        let (_, mut parameters) = Parameters::split("--from", url)?;
        let settings = parameters.take_tls(&WORDS)?;
        parameters.end("them").map(|()| settings)
    }

    #[test]
    fn a_parameter_means_what_it_says_or_is_an_error() {
        assert_eq!(tls("db://h/d").expect("valid").mode, Mode::Prefer);
        assert_eq!(tls("db://h/d?sslmode=verify%2Dfull").expect("valid").mode, Mode::VerifyFull);
        assert_eq!(tls("db://h/d?sslrootcert=system").expect("valid").mode, Mode::VerifyFull);
        for (url, reported) in [
            ("db://h/d?sslmode=allow", "sslmode=allow"),
            ("db://h/d?sslmode=prefer&sslrootcert=system", "needs a sslmode"),
            ("db://h/d?sslmode=require&sslrootcert=/nowhere/ca", "/nowhere/ca"),
            ("db://h/d?sslmode=require&sslcert=/nowhere/c", "needs its key"),
            ("db://h/d?sslmod=require", "\"sslmod\""),
            ("db://h/d?a=%ff", "not UTF-8"),
        ] {
            let text = tls(url).expect_err(url);
            assert!(text.starts_with("--from: ") && text.contains(reported), "{url}: {text}");
        }
    }
}
