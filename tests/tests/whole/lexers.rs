//! Real servers cut SQL where the lexers do: a text whose comments are replaced by spaces means the same to them.

use protocol::{mysql, postgres};
use tests::mysql::Mysql;
use tests::mysql::disposable::Kind;
use tests::postgres::{Postgres, rows};

/// The pieces that count, with a space in place of each of the others.
fn without_comments<'a>(pieces: impl Iterator<Item = (bool, &'a [u8])>) -> String {
    let texts = pieces.map(|(counts, text)| if counts { text } else { b" " });
    String::from_utf8(texts.collect::<Vec<_>>().concat()).expect("a text")
}

#[tokio::test]
async fn every_mysql_and_mariadb_cuts_sql_where_its_lexer_does() {
    use mysql::sql::{Lexer, Token, unquoted};
    for kind in [Kind::Mysql56, Kind::Mysql97, Kind::Mariadb1011] {
        let server = Mysql::start(kind).await;
        // A sixth digit of a version is MariaDB's alone; elsewhere it would be a number that a letter follows.
        let six = ["SELECT/*!100100EXP*/(0)", "SELECT/*!100100@a*/IS NULL"];
        let six = six.into_iter().filter(|_| kind == Kind::Mariadb1011);
        let all = [
            "SELECT 5--3",
            "SELECT 5-- 3\n+1 --",
            "SELECT 5--\u{1}3'\n+1",
            "SELECT\u{b}5 # it's\n+1",
            "SELECT /*!1+*/1",
            "SELECT /*!12*/+1",
            "SELECT /*!0500003+*/1",
            "SELECT /*!050000 +3+*/1",
            "SELECT/*!50000 3 + */1",
            "SELECT 2*/* it's */3",
            "SELECT /*! 2 /* it's */ * 3 */ * 4",
            "SELECT /*M it's */ 1",
            "SELECT '/* a' /* b' */ '*/c'",
            r"SELECT 'a\'b''c -- ' /* x */",
            "SELECT a\u{a0}b /* x */ FROM (SELECT 7 AS `a\u{a0}b`) AS `d\\`",
            "SELECT@a/* x */IS NULL",
        ];
        for text in all.into_iter().chain(six) {
            let pieces = Lexer::new(text.as_bytes(), true).map(|piece| {
                let counts = !matches!(
                    piece.token,
                    Token::Comment | Token::ExecutableStart | Token::ExecutableEnd | Token::Blank
                );
                (counts, piece.text)
            });
            let plain = without_comments(pieces);
            assert_eq!(server.value("", text).await, server.value("", &plain).await, "{kind:?}: {text} as {plain}");
        }
        for (mode, backslash) in [("", true), ("NO_BACKSLASH_ESCAPES", false)] {
            for literal in [r"'a\\b\nc\%d\_e''f\xg\\'", r#""it's ""\t""#] {
                let query = format!("SET sql_mode = '{mode}'; SELECT HEX({literal}), {literal}");
                let meant = unquoted(literal.as_bytes(), backslash);
                let hex: Vec<String> = meant.iter().map(|byte| format!("{byte:02X}")).collect();
                let rows = server.sql("", &query).await;
                let row = rows.last().expect("a row");
                assert_eq!(row.first().cloned().flatten(), Some(hex.concat()), "{kind:?}, {mode}: {literal}");
            }
        }
    }
}

#[tokio::test]
async fn every_postgres_cuts_sql_where_its_lexer_does() {
    use postgres::sql::{Lexer, Token};
    for version in [14, 18] {
        let server = Postgres::start(version).await;
        let client = server.connect("postgres").await;
        for (text, backslash) in [
            ("select E'a' -- it's\n '\\'' || 'b;' /* x */ || 'c'", false),
            ("select 'a\\' /* ' */ || '\\'", false),
            ("select 'a\\' /* x */' -- '", true),
            ("select B'1' /* ' */ || X'F'", true),
            ("select 1 /* a /* it's */ b */ + 1", false),
            ("select $x$ a -- $$ $x$ /* $x$ */ || $$ b /* $$", false),
            ("select \"a$$\" /* $$ */ from (select 7 as a$$) as \"b\"\"/*\"", false),
            ("select U&\"\\0061\" /* it's */ from (select 7 as a) as b -- c\r", false),
            ("select N'a''b' /* it's */ || e'\\'' || U&'\\0041'", false),
            ("select 7/*it's*/--$$\n+1", false),
        ] {
            let pieces = Lexer::new(text.as_bytes(), backslash)
                .map(|piece| (!matches!(piece.token, Token::Blank | Token::Comment), piece.text));
            let plain = without_comments(pieces);
            let conforming = if backslash { "off" } else { "on" };
            // A message is read as a whole before its first statement runs.
            rows(&client, &format!("set standard_conforming_strings = {conforming}")).await;
            assert_eq!(rows(&client, text).await, rows(&client, &plain).await, "{version}: {text} as {plain}");
        }
    }
}
