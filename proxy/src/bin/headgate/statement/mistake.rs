//! Why a text is not a statement.

use proxy::config::nearest;

/// Why a text is not a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The SQLSTATE.
    pub code: &'static str,
    /// What is wrong.
    pub text: String,
    /// The nearest valid form, or what to do instead.
    pub hint: String,
    /// Where, in characters from the start of the whole text, counted from 1.
    pub position: usize,
}

impl Mistake {
    pub(super) fn syntax(text: impl Into<String>, hint: impl Into<String>, position: usize) -> Self {
        Self { code: "42601", text: text.into(), hint: hint.into(), position }
    }
}

pub(super) fn nearest_word<'a>(given: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let all = known.clone().into_iter().collect::<Vec<_>>().join(", ");
    match nearest(given, known) {
        Some(near) => format!("did you mean {near}? known are {all}"),
        None => format!("known are {all}"),
    }
}
