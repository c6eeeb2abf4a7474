//! What a login needs next, in either engine's protocol.

/// How far a login has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// The peer speaks next.
    More,
    /// The connection is to be encrypted before anything more is said or heard.
    Encrypt,
    /// It is over.
    Done(T),
}

impl<T> Progress<T> {
    /// What it came to, where it is over.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(outcome) => Some(outcome),
            Self::More | Self::Encrypt => None,
        }
    }
}
