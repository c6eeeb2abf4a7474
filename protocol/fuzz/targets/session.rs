//! Headers in any order.
#![no_main]

use protocol::postgres::reply::ReadyStatus;
use protocol::postgres::session::Session;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut session = Session::default();
    for &byte in data {
        match byte {
            0 => session.ready(ReadyStatus::Idle),
            1 => session.ready(ReadyStatus::InTransaction),
            128.. => session.server(byte & 127),
            tag => session.client(tag),
        }
        let _ = (session.at_boundary(), session.expecting());
    }
});
