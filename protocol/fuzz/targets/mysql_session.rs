//! Packets of both sides in any order: one byte says whose, then come a length and the first bytes.
#![no_main]

use protocol::mysql::frame::Header;
use protocol::mysql::reply::{self, Error, Okay};
use protocol::mysql::session::{Expected, HEAD_BYTES, Sent, Session};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&capabilities, mut rest)) = data.split_first() else {
        return;
    };
    let mut session = Session::new(u64::from(capabilities) << 20, 0);
    while let [whose, length, after @ ..] = rest {
        let shown = usize::from(*length).min(after.len());
        let (bytes, behind) = after.split_at(shown);
        rest = behind;
        let header = Header {
            length: if *whose > 250 { 0xFF_FFFF } else { shown },
            sequence: 0,
        };
        let _ = (Okay::parse(bytes, true), Error::parse(bytes), reply::text_row(bytes, 9));
        let _ = reply::strip_changes(&mut bytes.to_vec());
        if whose % 2 == 0 {
            let head = &bytes[..bytes.len().min(HEAD_BYTES)];
            let _ = session.is_okay(header, head);
            if session.server(header, head).is_err() {
                return;
            }
        } else if session.sent() == Sent::Command {
            session.command(
                header,
                Expected {
                    command: bytes.first().copied().unwrap_or_default(),
                    tag: 0,
                    cursor: whose % 3 == 0,
                    own: false,
                },
            );
        } else {
            session.more(header);
        }
        let _ = (session.at_boundary(), session.expecting());
    }
});
