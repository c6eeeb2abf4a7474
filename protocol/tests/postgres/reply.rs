//! Server frames: round trips and broken servers.

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;
use protocol::postgres::auth::{AuthRequest, SaslInitialResponse, password};
use protocol::postgres::error_response::{self, Refusal, Severity};
use protocol::postgres::frame;
use protocol::postgres::reply::{self, BackendKeyData, ErrorFields, ParameterStatus, ReadyStatus};

fn body(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    let frame = frame::take(&mut out, 1 << 20).unwrap().unwrap();
    assert!(out.is_empty());
    frame.body
}

#[test]
fn ready_for_query_has_three_statuses_and_nothing_else() {
    for status in [ReadyStatus::Idle, ReadyStatus::InTransaction, ReadyStatus::Failed] {
        assert_eq!(ReadyStatus::parse(&body(|out| status.encode(out))), Ok(status));
    }
    for broken in [&b""[..], b"X", b"II", b"\0"] {
        assert!(ReadyStatus::parse(broken).is_err());
    }
}

#[test]
fn keys_and_settings_survive_encoding() {
    let key = BackendKeyData { pid: -1, secret: Bytes::from(vec![9; 32]) };
    assert_eq!(BackendKeyData::parse(body(|out| key.encode(out))), Ok(key));
    let status = ParameterStatus { name: "TimeZone".into(), value: Bytes::from_static(b"\xff") };
    assert_eq!(ParameterStatus::parse(body(|out| status.encode(out))), Ok(status));
    assert!(BackendKeyData::parse(Bytes::from_static(b"\0\0\0\x01abc")).is_err());
    assert!(ParameterStatus::parse(Bytes::from_static(b"a\0b")).is_err());
}

#[test]
fn a_refusal_reads_back_as_what_was_said() {
    let said = Refusal::new(Severity::Fatal, "57P01", "good-bye").detail("moved").hint("come again");
    let fields = ErrorFields::parse(body(|out| said.encode(out)));
    assert_eq!(fields.summary(), "FATAL 57P01: good-bye");
    assert_eq!((fields.detail, fields.hint), ("moved".into(), "come again".into()));
    let mut out = BytesMut::new();
    error_response::query_cancelled(&mut out);
    assert_eq!(out[0], b'E');
    let mut out = BytesMut::new();
    Refusal::new(Severity::Notice, "00000", "well").encode(&mut out);
    assert_eq!(out[0], b'N');
}

#[test]
fn a_name_with_a_zero_byte_cannot_forge_a_field() {
    let fields = ErrorFields::parse(body(|out| error_response::unknown_route(out, "x\0C00000")));
    assert_eq!(fields.code, "3D000");
}

#[test]
fn an_error_without_fields_is_still_an_error() {
    for broken in [&b""[..], b"\0", b"S", b"SERROR", b"Mhalf\0C"] {
        let _ = ErrorFields::parse(Bytes::from_static(broken)).summary();
    }
    assert_eq!(ErrorFields::parse(Bytes::from_static(b"Mhalf\0C")).message, "half");
}

#[test]
fn demands_for_proof_survive_encoding() {
    for request in [
        AuthRequest::Ok,
        AuthRequest::Cleartext,
        AuthRequest::Md5 { salt: *b"salt" },
        AuthRequest::scram(false),
        AuthRequest::scram(true),
        AuthRequest::SaslContinue("r=x".into()),
        AuthRequest::SaslFinal("v=x".into()),
        AuthRequest::Other(7),
    ] {
        assert_eq!(AuthRequest::parse(body(|out| request.encode(out))), Ok(request));
    }
}

#[test]
fn sasl_lengths_that_lie_are_refused() {
    let message = |length: i32, data: &[u8]| {
        let parts = [&b"SCRAM-SHA-256\0"[..], &length.to_be_bytes(), data].concat();
        SaslInitialResponse::parse(parts.into())
    };
    assert_eq!(message(-1, b"").unwrap().data, None);
    assert_eq!(message(2, b"ab").unwrap().data.unwrap(), "ab");
    for (length, data) in [(-2, &b""[..]), (i32::MIN, b""), (i32::MAX, b"ab"), (3, b"ab"), (1, b"ab")] {
        assert!(message(length, data).is_err(), "{length}");
    }
    assert!(password(Bytes::from_static(b"no end")).is_err());
    assert_eq!(password(Bytes::from_static(b"secret\0")).unwrap(), "secret");
}

#[test]
fn row_descriptions_tell_names_and_types() {
    let mut text = BytesMut::from(&b"\0\x02"[..]);
    for (name, oid) in [("id", 23_u32), ("name", 25)] {
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b"\0\0\0\0\0\0\0");
        text.extend_from_slice(&oid.to_be_bytes());
        text.extend_from_slice(&[0; 8]);
    }
    let columns = reply::row_description(text.freeze()).unwrap();
    assert_eq!(columns[1].name, "name");
    assert_eq!(columns[0].type_oid, 23);
    let oids = Bytes::from_static(b"\0\x02\0\0\0\x17\0\0\0\x19");
    assert_eq!(reply::parameter_description(oids), Ok(vec![23, 25]));
    assert!(reply::parameter_description(Bytes::from_static(b"\xff\xff\0\0\0\x17")).is_err());
    assert_eq!(reply::command_complete(Bytes::from_static(b"SELECT 1\0")).unwrap(), "SELECT 1");
}

proptest! {
    #[test]
    fn random_bodies_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let body = Bytes::from(bytes);
        let _ = ReadyStatus::parse(&body);
        let _ = ParameterStatus::parse(body.clone());
        let _ = BackendKeyData::parse(body.clone());
        let _ = ErrorFields::parse(body.clone());
        let _ = reply::command_complete(body.clone());
        let _ = reply::parameter_description(body.clone());
        let _ = reply::row_description(body.clone());
        let _ = SaslInitialResponse::parse(body.clone());
        if let Ok(request) = AuthRequest::parse(body.clone()) {
            let mut out = BytesMut::new();
            request.encode(&mut out);
            out.advance(frame::HEADER_BYTES);
            if !matches!(request, AuthRequest::Other(_)) {
                prop_assert_eq!(out.freeze(), body);
            }
        }
    }
}
