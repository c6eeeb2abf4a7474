//! What a server says to a client that logs in, in pieces.
#![no_main]

use bytes::BytesMut;
use protocol::postgres::auth::Credential;
use protocol::postgres::login::{Account, Login};
use protocol::progress::Progress;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let secret = Credential::password(b"secret");
    let mut login = Login::new(Account { user: b"shop", credential: Some(&secret), end_point: None, private: false, nonce: "nonce" });
    let (mut incoming, mut outgoing) = (BytesMut::new(), BytesMut::new());
    for part in bytes.chunks(usize::from(piece).max(1)) {
        incoming.extend_from_slice(part);
        match login.feed(&mut incoming, &mut outgoing) {
            Ok(Progress::More | Progress::Encrypt) => {}
            // In without a word of welcome.
            Ok(Progress::Done(_)) => assert!(bytes.windows(9).any(|part| part == b"R\0\0\0\x08\0\0\0\0")),
            Err(_) => break,
        }
    }
});
