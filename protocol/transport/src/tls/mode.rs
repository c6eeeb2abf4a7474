//! Whether a connection is encrypted, and what the server's certificate must prove.

/// What a connection must be, in the words of libpq's `sslmode`. None of them concerns Unix sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Not encrypted.
    Disable,
    /// Encrypted where that comes about, whoever the server is; else not.
    #[default]
    Prefer,
    /// Encrypted, whoever the server is.
    Require,
    /// Encrypted, and the server's certificate is of a trusted authority.
    VerifyCa,
    /// As before, and the certificate has the name of the host.
    VerifyFull,
}

impl Mode {
    /// All of them, the weakest first.
    pub const ALL: [Self; 5] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// libpq's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// The mode of that word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }

    /// Whether the server must prove who it is.
    pub fn verifies(self) -> bool {
        self >= Self::VerifyCa
    }
}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn modes_are_told_by_libpqs_words_and_order_by_strength() {
        for mode in Mode::ALL {
            assert_eq!(Mode::of(mode.word()), Some(mode));
        }
        assert!(Mode::of("allow").is_none());
        assert!(Mode::VerifyFull.verifies() && Mode::VerifyCa.verifies() && !Mode::Require.verifies());
    }
}
