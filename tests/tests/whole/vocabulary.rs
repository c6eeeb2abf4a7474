//! The words of the code are those that a database engineer would search for.

use proc_macro2::{TokenStream, TokenTree};

use super::tidy::{check, read, sources};

/// Words that name nothing to a reader who is new here, and what stands in their place.
const REFUSED: &[(&str, &str)] = &[
    ("Course", "CutoverRun"),
    ("Door", "ConsoleSlot, AdmissionSlot"),
    ("Ends", "ClusterPair, KillScope"),
    ("Entrance", "GateAccess"),
    ("Errand", "Task"),
    ("Hands", "ApplierState"),
    ("Heard", "ServerScan"),
    ("Learned", "SessionTracking"),
    ("Look", "GateSnapshot, UnderFence"),
    ("Met", "HoldResult"),
    ("PATIENCE", "TIMEOUT"),
    ("Plane", "DataPlane"),
    ("Said", "Reply"),
    ("Seat", "ActiveFlag, ThreadSlot"),
    ("Senseless", "InvalidValue"),
    ("Setback", "UndoReason, ApplyError"),
    ("Spare", "PrewarmedSession"),
    ("Speech", "ObjectNames"),
    ("Standing", "SessionGate"),
    ("Then", "NextStep"),
    ("Ticket", "GateHandle"),
    ("Told", "what it is: SessionInfo, TextRow"),
    ("Turnstile", "GateState"),
    ("Way", "HalfDuplex, ValueFormat"),
    ("Witness", "Introspection"),
    ("bell", "notify"),
    ("break_off", "abort"),
    ("carry_out", "run"),
    ("converse", "serve_admin, authenticate"),
    ("farewell", "close"),
    ("level_word", "Level::as_str"),
    ("loose", "idempotent"),
    ("obey", "apply_pause"),
    ("patience", "limit"),
    ("say_goodbye", "send_error_and_close"),
    ("spare", "prewarmed"),
    ("stream_patience", "slot_create_timeout"),
    ("told", "reported"),
    ("turn_away", "reject"),
    ("witness", "introspection"),
];

fn words(tokens: TokenStream, found: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(word) => found.push(word.to_string()),
            TokenTree::Group(group) => words(group.stream(), found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[test]
fn no_source_names_anything_by_a_word_of_its_own_making() {
    let mut findings = Vec::new();
    for file in sources() {
        let tokens: TokenStream = read(&file).parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut found = Vec::new();
        words(tokens, &mut found);
        found.sort();
        found.dedup();
        for (old, new) in REFUSED {
            // Names of limits end with their kind.
            let is = |word: &String| word == old || word.ends_with("_PATIENCE") && *old == "PATIENCE";
            if found.iter().any(is) {
                findings.push(format!("{file}: {old} (instead: {new})"));
            }
        }
    }
    check("standard terms", findings);
}
