//! What each connection of the load sets before it is used.

use bytes::Buf;
use tokio::time::timeout;

use super::super::session::{self as settings, Odd};
use super::{Cell, Link, malformed, refused};
use crate::error::Result;
use crate::mysql::client::{CONNECT_TIMEOUT, Endpoint, late};
use crate::mysql::refusal::ACCOUNT;

/// What the load needs besides: rows unconverted, and whatever date the source has.
const SESSION: &str =
    "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', character_set_results = NULL";

/// Opens a connection, with a session that inherits nothing from the server.
pub(in crate::mysql) async fn open(endpoint: &Endpoint, purpose: &str) -> Result<Link> {
    let opening = async {
        let mut link = Link::connect(endpoint, purpose).await?;
        shed(&mut link).await?;
        Ok(link)
    };
    timeout(CONNECT_TIMEOUT, opening).await.unwrap_or_else(|_| Err(late(endpoint)))
}

async fn shed(link: &mut Link) -> Result<()> {
    const WHAT: &str = "cannot set a session up";
    link.execute(&settings::first(), WHAT).await?;
    let answer = link.command(transport::mysql::ALL_ROLES, WHAT).await?;
    if answer.first() == Some(&0xFF) && code(&answer) != transport::mysql::EMPTY_QUERY {
        return Err(refused(WHAT, &answer));
    }
    let text = |cell: &Cell| String::from_utf8_lossy(cell.as_deref().unwrap_or_default()).into_owned();
    for row in link.rows(&settings::rest(), WHAT).await? {
        let [name, shown] = row.as_slice() else {
            return Err(malformed(WHAT));
        };
        let Some(odd) = Odd::of(&text(name), &text(shown)) else {
            continue;
        };
        // Few servers have any, and none many.
        let answer = link.command(&settings::statement([&odd]), WHAT).await?;
        if answer.first() == Some(&0xFF) {
            let rows = link.rows(ACCOUNT, WHAT).await?;
            let account = rows.first().and_then(|row| row.first()).map_or_else(String::new, text);
            let failure = refused(WHAT, &answer);
            if let Some(refusal) = odd.refused(code(&answer), failure, &account) {
                return Err(refusal);
            }
        }
    }
    link.execute(SESSION, WHAT).await?;
    Ok(())
}

/// The number of an error.
fn code(answer: &[u8]) -> u16 {
    answer.get(1..3).unwrap_or(&[0, 0]).get_u16_le()
}
