//! Texts of statements, of both engines.
#![no_main]

use protocol::{mysql, postgres};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for backslash in [false, true] {
        let pieces = postgres::sql::Lexer::new(data, backslash).map(|piece| piece.text);
        assert_eq!(pieces.collect::<Vec<_>>().concat(), data);
        let pieces = mysql::sql::Lexer::new(data, backslash).map(|piece| piece.text);
        assert_eq!(pieces.collect::<Vec<_>>().concat(), data);
    }
});
