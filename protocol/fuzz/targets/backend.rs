//! Bodies of a server.
#![no_main]

use bytes::Bytes;
use protocol::postgres::auth::AuthRequest;
use protocol::postgres::reply;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    let _ = reply::ParameterStatus::parse(body.clone());
    let _ = reply::BackendKeyData::parse(body.clone());
    let _ = reply::ErrorFields::parse(body.clone()).summary();
    let _ = reply::row_description(body.clone());
    let _ = reply::parameter_description(body.clone());
    let _ = AuthRequest::parse(body);
});
