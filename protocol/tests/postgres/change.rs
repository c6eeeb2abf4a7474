//! pgoutput's messages: layouts, truncations, streamed blocks.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use protocol::postgres::change::replication::{Replication, StandbyStatusUpdate};
use protocol::postgres::change::{Change, Decoder, Identity, Tuple, Value};
use protocol::postgres::frame;
use protocol::postgres::position::Lsn;

fn put_tuple(out: &mut BytesMut, tuple: &Tuple) {
    out.put_u16(tuple.columns.len() as u16);
    for column in &tuple.columns {
        let (kind, value) = match column {
            Value::Null => (b'n', None),
            Value::UnchangedToast => (b'u', None),
            Value::Text(value) => (b't', Some(value)),
            Value::Binary(value) => (b'b', Some(value)),
        };
        out.put_u8(kind);
        if let Some(value) = value {
            out.put_u32(value.len() as u32);
            out.put_slice(value);
        }
    }
}

fn put_identity(out: &mut BytesMut, identity: &Identity) {
    let (mark, tuple) = match identity {
        Identity::Key(tuple) => (b'K', tuple),
        Identity::Full(tuple) => (b'O', tuple),
    };
    out.put_u8(mark);
    put_tuple(out, tuple);
}

/// Writes a row change as the server does; the other kinds are written out in the tests.
fn encode(change: &Change) -> Bytes {
    let mut out = BytesMut::new();
    let head = |out: &mut BytesMut, kind: u8, xid: &Option<u32>, relation: u32| {
        out.put_u8(kind);
        if let Some(xid) = xid {
            out.put_u32(*xid);
        }
        out.put_u32(relation);
    };
    match change {
        Change::Insert { xid, relation, new } => {
            head(&mut out, b'I', xid, *relation);
            out.put_u8(b'N');
            put_tuple(&mut out, new);
        }
        Change::Update { xid, relation, old, new } => {
            head(&mut out, b'U', xid, *relation);
            if let Some(old) = old {
                put_identity(&mut out, old);
            }
            out.put_u8(b'N');
            put_tuple(&mut out, new);
        }
        Change::Delete { xid, relation, old } => {
            head(&mut out, b'D', xid, *relation);
            put_identity(&mut out, old);
        }
        other => panic!("{other:?}"),
    }
    out.freeze()
}

fn value() -> impl Strategy<Value = Value> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    prop_oneof![
        Just(Value::Null),
        Just(Value::UnchangedToast),
        bytes().prop_map(Value::Text),
        bytes().prop_map(Value::Binary),
    ]
}

fn row_change(xid: Option<u32>) -> impl Strategy<Value = Change> {
    let tuple = || prop::collection::vec(value(), 0..6).prop_map(|columns| Tuple { columns });
    let identity = move || prop_oneof![tuple().prop_map(Identity::Key), tuple().prop_map(Identity::Full)];
    prop_oneof![
        (any::<u32>(), tuple()).prop_map(move |(relation, new)| Change::Insert { xid, relation, new }),
        (any::<u32>(), prop::option::of(identity()), tuple()).prop_map(move |(relation, old, new)| Change::Update {
            xid,
            relation,
            old,
            new
        }),
        (any::<u32>(), identity()).prop_map(move |(relation, old)| Change::Delete { xid, relation, old }),
    ]
}

proptest! {
    #[test]
    fn row_changes_are_read_as_they_were_written(change in row_change(None)) {
        let mut decoder = Decoder::default();
        prop_assert_eq!(decoder.decode(encode(&change)), Ok(change));
    }

    #[test]
    fn row_changes_inside_a_streamed_block_carry_their_transaction(change in row_change(Some(77))) {
        let mut decoder = Decoder::default();
        decoder.decode(Bytes::from_static(b"S\0\0\0\x4d\x01")).unwrap();
        prop_assert_eq!(decoder.decode(encode(&change)), Ok(change));
    }

    #[test]
    fn a_truncated_row_change_is_refused(change in row_change(None), cut in any::<prop::sample::Index>()) {
        let whole = encode(&change);
        let cut = whole.slice(..cut.index(whole.len()));
        prop_assert!(Decoder::default().decode(cut).is_err());
    }

    #[test]
    fn random_messages_never_panic(kind in prop::sample::select(&b"BCORYIUDTMSEcAbPKrp?"[..]), rest in prop::collection::vec(any::<u8>(), 0..80), block: bool) {
        let mut decoder = Decoder::default();
        if block {
            decoder.decode(Bytes::from_static(b"S\0\0\0\x4d\x01")).unwrap();
        }
        let _ = decoder.decode([&[kind][..], &rest].concat().into());
        let _ = Replication::parse(rest.into());
    }

    #[test]
    fn positions_survive_their_text(position: u64) {
        prop_assert_eq!(Lsn(position).to_string().parse(), Ok(Lsn(position)));
    }
}

#[test]
fn counts_that_lie_ask_for_no_memory() {
    for message in [
        &b"I\0\0\0\x01N\xff\xff"[..],
        b"T\xff\xff\xff\xff\0",
        b"T\x40\0\0\0\0",
        b"R\0\0\0\x01\0\0d\xff\xff",
        b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff",
        b"I\0\0\0\x01N\0\x01t\x7f\xff\xff\xff",
    ] {
        assert!(Decoder::default().decode(Bytes::copy_from_slice(message)).is_err(), "{message:?}");
    }
}

#[test]
fn a_recycled_tuple_is_used_again() {
    let message = Bytes::from_static(b"I\0\0\0\x01N\0\x01t\0\0\0\x01x");
    let mut decoder = Decoder::default();
    let Ok(Change::Insert { new, .. }) = decoder.decode(message.clone()) else { panic!() };
    let address = new.columns.as_ptr();
    decoder.recycle(new);
    let Ok(Change::Insert { new, .. }) = decoder.decode(message) else { panic!() };
    assert_eq!(new.columns.as_ptr(), address);
    assert_eq!(new.columns, [Value::Text("x".into())]);
}

#[test]
fn the_other_messages_are_read_field_by_field() {
    let numbers = |kind: &[u8], fields: &[u64], tail: &[u8]| {
        let mut out = BytesMut::from(kind);
        for field in fields {
            out.put_u64(*field);
        }
        out.put_slice(tail);
        out.freeze()
    };
    let mut decoder = Decoder::default();
    let mut decode = |message: Bytes| format!("{:?}", decoder.decode(message).unwrap());
    let cases = [
        (numbers(b"B", &[1, 2], b"\0\0\0\x03"), "Begin(Begin { commit: Lsn(1), at: 2, xid: 3 })"),
        (numbers(b"C\0", &[1, 2, 3], b""), "Commit(Commit { commit: Lsn(1), end: Lsn(2), at: 3 })"),
        (numbers(b"O", &[1], b"o\0"), "Origin(Origin { commit: Lsn(1), name: b\"o\" })"),
        (Bytes::from_static(b"Y\0\0\0\x09s\0n\0"), "Type { xid: None, oid: 9, schema: b\"s\", name: b\"n\" }"),
        (
            Bytes::from_static(b"T\0\0\0\x01\x03\0\0\0\x07"),
            "Truncate { xid: None, cascade: true, restart_identity: true, relations: [7] }",
        ),
        (
            numbers(b"M\x01", &[5], b"headgate\0\0\0\0\x02hi"),
            "Message(Message { xid: None, transactional: true, position: Lsn(5), prefix: b\"headgate\", content: b\"hi\" })",
        ),
        (
            Bytes::from_static(b"R\0\0\0\x07s\0t\0d\0\x01\x01id\0\0\0\0\x17\xff\xff\xff\xff"),
            "Relation { xid: None, relation: Relation { oid: 7, schema: b\"s\", name: b\"t\", replica_identity: 100, \
             columns: [RelationColumn { key: true, name: b\"id\", type_oid: 23, type_modifier: -1 }] } }",
        ),
        (
            numbers(b"b", &[1, 2, 3], b"\0\0\0\x04g\0"),
            "BeginPrepare(Prepared { record: Lsn(1), end: Lsn(2), at: 3, xid: 4, gid: b\"g\" })",
        ),
        (
            numbers(b"P\0", &[1, 2, 3], b"\0\0\0\x04g\0"),
            "Prepare(Prepared { record: Lsn(1), end: Lsn(2), at: 3, xid: 4, gid: b\"g\" })",
        ),
        (
            numbers(b"r\0", &[1, 2, 3, 4], b"\0\0\0\x05g\0"),
            "RollbackPrepared(RolledBack { prepare_end: Lsn(1), end: Lsn(2), prepared_at: 3, at: 4, xid: 5, gid: b\"g\" })",
        ),
        (Bytes::from_static(b"S\0\0\0\x09\0"), "StreamStart { xid: 9, first: false }"),
        (
            Bytes::from_static(b"D\0\0\0\x0a\0\0\0\x07K\0\x01n"),
            "Delete { xid: Some(10), relation: 7, old: Key(Tuple { columns: [Null] }) }",
        ),
        (Bytes::from_static(b"E"), "StreamStop"),
        (
            numbers(b"c\0\0\0\x09\0", &[1, 2, 3], b""),
            "StreamCommit(StreamCommit { xid: 9, commit: Commit { commit: Lsn(1), end: Lsn(2), at: 3 } })",
        ),
        (
            Bytes::from_static(b"A\0\0\0\x09\0\0\0\x0a"),
            "StreamAbort(StreamAbort { xid: 9, subxid: 10, aborted: None })",
        ),
        (
            numbers(b"A\0\0\0\x09\0\0\0\x0a", &[1, 2], b""),
            "StreamAbort(StreamAbort { xid: 9, subxid: 10, aborted: Some((Lsn(1), 2)) })",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(decode(message), expected);
    }
}

#[test]
fn replication_frames_are_read_and_answered() {
    let mut data = BytesMut::from(&b"w"[..]);
    for number in [1, 2, 3] {
        data.put_u64(number);
    }
    data.put_slice(b"payload");
    let expected = Replication::XLogData { start: Lsn(1), end: Lsn(2), clock: 3, data: "payload".into() };
    assert_eq!(Replication::parse(data.freeze()), Ok(expected));
    let alive = Bytes::from_static(b"k\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\x01");
    let expected = Replication::PrimaryKeepalive { end: Lsn(1), clock: 2, reply_requested: true };
    assert_eq!(Replication::parse(alive), Ok(expected));

    let mut out = BytesMut::new();
    StandbyStatusUpdate { written: Lsn(3), flushed: Lsn(2), applied: Lsn(1), clock: -1 }.encode(&mut out);
    let sent = frame::take(&mut out, 100).unwrap().unwrap();
    assert_eq!((sent.tag, sent.body.len(), sent.body[0]), (b'd', 34, b'r'));
    assert_eq!(&sent.body[1..9], 3_u64.to_be_bytes());
}

#[test]
fn positions_are_written_as_the_server_writes_them() {
    assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
    assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
    assert_eq!(Lsn::ZERO.to_string(), "0/0");
    for broken in ["", "/", "1", "1/", "/1", "1/2/3", "+1/2", "1/ 2", "123456789/1", "g/1"] {
        assert!(broken.parse::<Lsn>().is_err(), "{broken}");
    }
    assert!(Lsn(2).covers(Lsn(2)) && !Lsn(1).covers(Lsn(2)));
    assert_eq!(Lsn(1).behind_bytes(Lsn(5)), 4);
    assert_eq!(Lsn(5).behind_bytes(Lsn(1)), 0);
}
