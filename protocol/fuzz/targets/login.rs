//! What a server says to a client that logs in, in pieces.
#![no_main]

use bytes::BytesMut;
use protocol::postgres::login::{Account, Login};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let mut login = Login::new(Account { user: b"shop", password: Some(b"secret"), nonce: "nonce" });
    let (mut incoming, mut outgoing) = (BytesMut::new(), BytesMut::new());
    for part in bytes.chunks(usize::from(piece).max(1)) {
        incoming.extend_from_slice(part);
        match login.feed(&mut incoming, &mut outgoing) {
            Ok(None) => {}
            // In without a word of welcome.
            Ok(Some(_)) => assert!(bytes.windows(9).any(|part| part == b"R\0\0\0\x08\0\0\0\0")),
            Err(_) => break,
        }
    }
});
