//! Functions that programs call and that only one server has: a server reads a program's text when it is created, and
//! looks for what it calls only when it runs.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};
use protocol::mysql::sql::{Lexer, Token};

use super::super::super::catalogue::run;
use super::super::super::client::failed;
use super::super::super::sql::{quote_ident, quote_literal, title_of};
use super::remedy;
use crate::error::Result;
use crate::mysql::preflight::side::Side;
use crate::mysql::schema::archive::{Archive, Kind};

/// It is none of the server's own; whether somebody stored one, who may not call it is not told.
const NO_SUCH_FUNCTION: [u16; 2] = [1305, 1370];

/// The programs that call what the source has and the target has not, as (evidence, fix). Whether there is such a
/// function, each server's own parser says; nothing is called.
pub(super) async fn lacking(archive: &Archive, source: &mut Side, target: &mut Side) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut schema = "";
    let mut known: BTreeSet<(&str, String)> = BTreeSet::new();
    let mut absent: BTreeSet<(&str, String)> = BTreeSet::new();
    // What a view calls is looked for when it is created.
    for program in archive.programs.iter().filter(|one| one.kind != Kind::View) {
        if program.schema != schema {
            schema = &program.schema;
            let enter = format!("USE {}", quote_ident(schema));
            for side in [&mut *source, &mut *target] {
                run(&mut side.session, &enter, "cannot look for functions").await?;
            }
        }
        let mut missing = Vec::new();
        for name in calls(&program.create) {
            let bare = name.trim_matches('`').to_lowercase();
            let key = (schema, bare);
            // One that is refused itself is told as that.
            if known.contains(&key) || moves(archive, schema, &key.1) {
                continue;
            }
            if !absent.contains(&key) {
                let lacks = !has(&mut target.session, &name).await? && has(&mut source.session, &name).await?;
                if !lacks {
                    known.insert(key);
                    continue;
                }
                absent.insert(key);
            }
            missing.push(name);
        }
        for name in missing {
            let bare = name.trim_matches('`');
            found.push((
                format!(
                    "the {} {} calls {bare}(), which the target does not have",
                    program.kind.word().to_lowercase(),
                    title_of(&program.schema, &program.name)
                ),
                remedy::component(bare, target).unwrap_or_default(),
            ));
        }
    }
    Ok(found)
}

/// Whether a function of the databases that move has this name.
fn moves(archive: &Archive, schema: &str, name: &str) -> bool {
    archive.of(Kind::Function).any(|one| one.schema == schema && one.name.to_lowercase() == name)
}

/// Whether the server knows a function of this name, or takes the name for something else.
async fn has(session: &mut Conn, name: &str) -> Result<bool> {
    const WHAT: &str = "cannot look for a function";
    let text = quote_literal(&format!("SELECT {name}()"));
    let prepared = session.query_drop(format!("PREPARE headgate_call FROM {text}")).await;
    match prepared {
        Ok(()) => run(session, "DEALLOCATE PREPARE headgate_call", WHAT).await.map(|()| true),
        Err(Failure::Server(reported)) => Ok(!NO_SUCH_FUNCTION.contains(&reported.code)),
        Err(failure) => Err(failed(WHAT, failure)),
    }
}

/// The names before an opening parenthesis, as they are written, each once.
fn calls(text: &str) -> BTreeSet<String> {
    let mut lexer = Lexer::new(text.as_bytes(), true);
    let mut found = BTreeSet::new();
    let (mut name, mut before) = (None, Token::Blank);
    while let Some(piece) = lexer.next_significant() {
        if piece.token == Token::Sign(b'(') {
            found.extend(name.map(str::to_owned));
        }
        let is_name = match piece.token {
            Token::Word(word) => !word.first().is_some_and(u8::is_ascii_digit),
            token => token == Token::Quoted(b'`'),
        };
        let called = is_name && before != Token::Sign(b'.');
        name = text.get(piece.start..piece.start + piece.text.len()).filter(|_| called);
        before = piece.token;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::calls;

    #[test]
    fn a_call_is_a_name_before_a_parenthesis_outside_of_texts_and_comments() {
        let text = "CREATE TRIGGER `tr` BEFORE INSERT ON `t` FOR EACH ROW BEGIN -- old(x)\n # older(x)\n /* oldest(x) */ \
            SET NEW.b = MD5 (CONCAT('sha1(', \"q(\", 'it''s(', NEW.a)), @f(1), x = `hidden`(1), y = shop.own(2) /*!50000 , z = old_fn(1) */, z = `a``b`/* x */(1) /*Most(1)*/; END";
        let found: Vec<String> = calls(text).into_iter().collect();
        assert_eq!(found, ["CONCAT", "MD5", "`a``b`", "`hidden`", "old_fn"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".*") {
            let _ = calls(&text);
        }
    }
}
