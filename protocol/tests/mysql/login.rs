//! The client's side of a login, against servers that keep to the protocol and servers that do not.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use protocol::mysql::auth::{self, caching_sha2, ed25519, native, put_more_data, put_switch};
use protocol::mysql::frame;
use protocol::mysql::handshake::{Capabilities, FirstPacket, Greeting, NONCE_BYTES, Response};
use protocol::mysql::login::{Channel, Client, Credential, Encryption, Failed, Identity, Login, Welcome};
use protocol::mysql::reply;
use protocol::progress::Progress;

const PASSWORD: &[u8] = b"hunter2";
const NONCE: [u8; NONCE_BYTES] = [7; NONCE_BYTES];
const OTHER: [u8; NONCE_BYTES] = [9; NONCE_BYTES];
const KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----";
const OKAY: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

fn identity(credential: Credential) -> Identity {
    Identity {
        user: b"shop".to_vec(),
        credential,
        capabilities: Capabilities::LOCAL_FILES,
        charset: 45,
        attributes: Bytes::from_static(b"\x01a\x01b"),
        max_packet: 1 << 24,
        plain: false,
    }
}

fn clear(password: &[u8]) -> Identity {
    identity(Credential::Clear(password.to_vec().into()))
}

/// What the server gets in place of what RSA would make of it.
fn sealed(key: &[u8], clear: &[u8]) -> Option<Vec<u8>> {
    key.starts_with(KEY).then(|| [b"sealed:", clear].concat())
}

fn client(identity: &Identity, channel: Channel) -> Login<'_> {
    in_tls(identity, channel, Encryption::Never)
}

fn in_tls(identity: &Identity, channel: Channel, encryption: Encryption) -> Login<'_> {
    let also = Capabilities::SESSION_TRACK;
    Login::new(Client { identity, also, database: Some("depot"), channel, encryption, seal: sealed })
}

fn greeting(plugin: &'static [u8]) -> Vec<u8> {
    greeting_offering(Capabilities(u32::MAX).without(Capabilities::SSL), plugin)
}

fn greeting_offering(capabilities: Capabilities, plugin: &'static [u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    let greeting = Greeting {
        version: Bytes::from_static(b"9.7.0"),
        thread: 42,
        nonce: NONCE,
        capabilities,
        extended: 0,
        charset: 255,
        status: 2,
        plugin: Bytes::from_static(plugin),
    };
    greeting.encode(&mut out);
    out.to_vec()
}

fn switch(plugin: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_switch(&mut out, plugin, &OTHER);
    out.to_vec()
}

/// As MariaDB asks for a signature.
fn challenge(bytes: &[u8]) -> Vec<u8> {
    [&b"\xfe"[..], auth::ED25519, b"\0", bytes].concat()
}

fn more(data: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_more_data(&mut out, data);
    out.to_vec()
}

fn packet(sequence: u8, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    frame::put(&mut out, &mut { sequence }, body);
    out
}

/// Says `bodies` one after the other, each in pieces; the outcome, and what the client said to each.
fn exchange(login: &mut Login<'_>, bodies: &[Vec<u8>], piece: usize) -> (Result<Option<Welcome>, Failed>, Vec<Bytes>) {
    let (mut incoming, mut answers, mut sequence) = (BytesMut::new(), Vec::new(), 0);
    for body in bodies {
        let mut said = BytesMut::new();
        for part in packet(sequence, body).chunks(piece) {
            incoming.extend_from_slice(part);
            match login.feed(&mut incoming, &mut said).map(Progress::done) {
                Ok(None) => {}
                outcome => return (outcome, answers),
            }
        }
        sequence = sequence.wrapping_add(1);
        if let Some(answer) = frame::take(&mut said, 1 << 20).unwrap() {
            assert_eq!(answer.sequence, sequence, "packets are counted by both sides");
            sequence = sequence.wrapping_add(1);
            answers.push(answer.body);
        }
        assert!(said.is_empty(), "one answer to one packet");
    }
    (Ok(None), answers)
}

fn response(answer: &[u8]) -> Response {
    match FirstPacket::parse(answer) {
        Ok(FirstPacket::Response(response)) => *response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_answer_to_the_greeting_says_who_it_is_and_what_was_agreed() {
    let who = clear(PASSWORD);
    let mut login = client(&who, Channel::Network);
    let (outcome, answers) = exchange(&mut login, &[greeting(auth::CACHING_SHA2), OKAY.to_vec()], usize::MAX);
    let said = response(&answers[0]);
    assert_eq!((&said.user[..], said.charset, said.max_packet), (&b"shop"[..], 45, 1 << 24));
    assert_eq!(said.database.as_deref(), Some(&b"depot"[..]));
    assert_eq!((&said.plugin[..], &said.attributes[..]), (auth::CACHING_SHA2, &b"\x01a\x01b"[..]));
    assert!(caching_sha2::check(PASSWORD, &NONCE, &said.proof));
    let welcome = outcome.expect("let in").expect("welcome");
    assert_eq!((welcome.greeting.thread, welcome.status, &welcome.okay[..]), (42, 2, OKAY));
    assert_eq!(welcome.capabilities, said.capabilities);
    assert!(said.capabilities.has(Capabilities::LOCAL_FILES | Capabilities::SESSION_TRACK));
    assert!(!said.capabilities.has(Capabilities::DEPRECATE_EOF), "which nobody wanted");
}

/// What a server says, and what it must hear: the first is the proof of the answer to the greeting.
fn heard(who: &Identity, channel: Channel, says: &[Vec<u8>]) -> Vec<Bytes> {
    let mut bodies = says.to_vec();
    bodies.push(OKAY.to_vec());
    let mut all = Vec::new();
    for piece in [usize::MAX, 1, 2, 3, 5, 8, 13] {
        let (outcome, mut answers) = exchange(&mut client(who, channel), &bodies, piece);
        assert!(outcome.expect("let in").is_some(), "in pieces of {piece}");
        answers[0] = response(&answers[0]).proof;
        all.push(answers);
    }
    all.dedup();
    assert_eq!(all.len(), 1, "it matters not how the bytes are torn");
    all.remove(0)
}

#[test]
fn each_plugin_hears_its_proof_wherever_the_bytes_are_torn() {
    let who = clear(PASSWORD);
    let verifier = native::Key::of(PASSWORD).verifier();
    let closed = [PASSWORD, b"\0"].concat();
    let in_seal = |nonce| [b"sealed:", &auth::mask(&closed, nonce)[..]].concat();
    let caching = greeting(auth::CACHING_SHA2);

    let said = heard(&who, Channel::Network, &[greeting(auth::NATIVE)]);
    assert!(verifier.check(&NONCE, &said[0]).is_some());
    let said = heard(&who, Channel::Network, &[caching.clone(), switch(auth::NATIVE)]);
    assert!(verifier.check(&OTHER, &said[1]).is_some());
    let said = heard(&who, Channel::Network, &[greeting(b"client_ed25519"), switch(auth::CACHING_SHA2)]);
    assert!(caching_sha2::check(PASSWORD, &OTHER, &said[1]));
    let said = heard(&who, Channel::Network, &[caching.clone(), more(&[auth::FAST_OK])]);
    assert_eq!(said.len(), 1, "nothing to say to a proof that was right");

    for who in [&who, &clear(b"")] {
        let Credential::Clear(password) = &who.credential else { unreachable!("it was made so") };
        let said = heard(who, Channel::Network, &[greeting(auth::NATIVE), challenge(&[8; 32])]);
        assert_eq!(said[1][..], ed25519::prove(password, &[8; 32]));
    }

    // The whole password: sealed over a network, as it is over the server's own socket.
    let full = [caching.clone(), more(&[auth::FULL_NEEDED])];
    let said = heard(&who, Channel::Network, &[&full[..], &[more(KEY)]].concat());
    assert_eq!(said[1..], [&[auth::KEY_WANTED][..], &in_seal(&NONCE)]);
    assert_eq!(heard(&who, Channel::Socket, &full)[1..], [&closed[..]]);
    for channel in [Channel::Network, Channel::Socket] {
        let said = heard(&who, channel, &[caching.clone(), switch(auth::SHA256), more(KEY)]);
        assert_eq!(said[1..], [&[auth::KEY_WANTED_SHA256][..], &in_seal(&OTHER)]);
    }
    assert_eq!(heard(&who, Channel::Socket, &[caching.clone(), switch(auth::CLEAR)])[1..], [&closed[..]]);

    let empty = clear(b"");
    let said = heard(&empty, Channel::Network, &[caching.clone(), switch(auth::NATIVE), switch(auth::SHA256)]);
    assert_eq!(said, [&b""[..], b"", b"\0"]);

    let key = identity(Credential::NativeKey(native::Key::of(PASSWORD)));
    let said = heard(&key, Channel::Network, &[caching, switch(auth::NATIVE)]);
    assert!(verifier.check(&NONCE, &said[0]).is_some() && verifier.check(&OTHER, &said[1]).is_some());
}

#[test]
fn nothing_but_the_wish_for_tls_is_said_before_it_and_the_password_is_said_behind_it() {
    let who = clear(b"hunter2");
    let everything = greeting_offering(Capabilities(u32::MAX), auth::CACHING_SHA2);
    for encryption in [Encryption::WhereOffered, Encryption::Always] {
        let mut login = in_tls(&who, Channel::Network, encryption);
        let (mut incoming, mut said) = (packet(0, &everything), BytesMut::new());
        assert!(matches!(login.feed(&mut incoming, &mut said), Ok(Progress::Encrypt)));
        let request = frame::take(&mut said, 1 << 20).unwrap().expect("a request");
        assert_eq!((request.sequence, request.body.len()), (1, 32), "no name and no proof");
        assert!(
            matches!(FirstPacket::parse(&request.body), Ok(FirstPacket::Ssl(asked)) if asked.has(Capabilities::SSL))
        );
        assert!(said.is_empty());
        assert!(matches!(login.feed(&mut incoming, &mut said), Ok(Progress::More)));
        let answer = frame::take(&mut said, 1 << 20).unwrap().expect("who it is");
        assert_eq!((answer.sequence, &response(&answer.body).user[..]), (2, &who.user[..]));
        for (sequence, full) in [(3, more(&[auth::FULL_NEEDED])), (5, switch(auth::CLEAR)), (7, switch(auth::SHA256))] {
            assert!(matches!(login.feed(&mut packet(sequence, &full), &mut said), Ok(Progress::More)));
            let password = frame::take(&mut said, 1 << 20).unwrap().expect("the password");
            assert_eq!(password.body[..], *b"hunter2\0");
        }
    }
}

#[test]
fn a_server_without_tls_is_told_nothing_where_it_must_be_and_is_gone_on_with_where_it_may_be() {
    let who = clear(b"hunter2");
    let mut said = BytesMut::new();
    let mut must = in_tls(&who, Channel::Network, Encryption::Always);
    let failed = must.feed(&mut packet(0, &greeting(auth::NATIVE)), &mut said).expect_err("no TLS");
    assert!(matches!(failed, Failed::Unsupported { why, .. } if why.contains("TLS")) && said.is_empty());
    let mut may = in_tls(&who, Channel::Network, Encryption::WhereOffered);
    assert!(matches!(may.feed(&mut packet(0, &greeting(auth::NATIVE)), &mut said), Ok(Progress::More)));
    let answer = frame::take(&mut said, 1 << 20).unwrap().expect("who it is");
    assert!(!response(&answer.body).capabilities.has(Capabilities::SSL));
}

const ONLY_THE_KEY: &str = "the password is needed";

fn why(outcome: Result<Option<Welcome>, Failed>) -> &'static str {
    match outcome {
        Err(Failed::Unsupported { why, .. }) => why,
        Err(Failed::PasswordNeeded) => ONLY_THE_KEY,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_answered_is_named_and_nothing_is_told() {
    let password = clear(PASSWORD);
    let key = identity(Credential::NativeKey(native::Key::of(PASSWORD)));
    let caching = || greeting(auth::CACHING_SHA2);
    let full = || more(&[auth::FULL_NEEDED]);
    let cases: [(&Identity, Vec<Vec<u8>>, &str); 12] = [
        (&key, vec![greeting(auth::NATIVE), challenge(&[8; 32])], ONLY_THE_KEY),
        (&password, vec![greeting(auth::NATIVE), challenge(&[8; 31])], "sent a challenge that is too short"),
        (&key, vec![caching(), switch(auth::CACHING_SHA2)], ONLY_THE_KEY),
        (&key, vec![caching(), switch(auth::SHA256)], ONLY_THE_KEY),
        (&key, vec![caching(), full()], ONLY_THE_KEY),
        (
            &password,
            vec![caching(), switch(auth::CLEAR)],
            "asks for the password in clear text, which goes over TLS or its Unix socket only",
        ),
        (&password, vec![caching(), full(), more(b"no key")], "sent a public key that cannot be used"),
        (&password, vec![caching(), more(b"something")], "asks for more than its login plugin knows"),
        (&password, vec![greeting(auth::NATIVE), full()], "asks for more than its login plugin knows"),
        (&password, vec![caching(), vec![0xFE]], "asks for a proof from before version 4.1"),
        (&password, vec![caching(), vec![0x02]], "asks for a second factor"),
        // The key was asked for by one plugin, and what another says is none.
        (
            &password,
            vec![caching(), full(), switch(auth::NATIVE), more(KEY)],
            "asks for more than its login plugin knows",
        ),
    ];
    for (who, bodies, named) in cases {
        let mut login = client(who, Channel::Network);
        let (outcome, answers) = exchange(&mut login, &bodies, usize::MAX);
        assert_eq!(why(outcome), named);
        assert_eq!(answers.len(), bodies.len() - 1, "nothing is said to the last");
        assert!(answers.iter().all(|said| !said.windows(PASSWORD.len()).any(|part| part == PASSWORD)), "{named}");
        let (outcome, _) = exchange(&mut login, &[OKAY.to_vec()], usize::MAX);
        assert_eq!(why(outcome), "goes on with a login that is over");
    }
}

#[test]
fn a_plugin_that_is_not_known_is_named_as_far_as_it_can_be_shown() {
    let long = [b'x'; 1000];
    for (plugin, shown) in
        [(&b"dialog"[..], "dialog".to_owned()), (b"a\x1b\xff b", "a???b".to_owned()), (&long, "x".repeat(64))]
    {
        let who = clear(PASSWORD);
        let mut login = client(&who, Channel::Network);
        let (outcome, answers) = exchange(&mut login, &[greeting(auth::NATIVE), switch(plugin)], usize::MAX);
        assert_eq!(outcome.unwrap_err(), Failed::UnknownPlugin(shown));
        assert_eq!(answers.len(), 1, "nothing is said to it");
    }
}

#[test]
fn a_server_that_lacks_what_the_client_has_agreed_on_is_refused() {
    let mut who = clear(PASSWORD);
    who.capabilities = Capabilities::DEPRECATE_EOF;
    let old = Greeting {
        capabilities: Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION,
        ..Greeting::parse(&greeting(auth::NATIVE)).unwrap()
    };
    let mut body = BytesMut::new();
    old.encode(&mut body);
    let (outcome, answers) = exchange(&mut client(&who, Channel::Network), &[body.to_vec()], usize::MAX);
    assert_eq!(why(outcome), "lacks a capability that the client uses");
    assert!(answers.is_empty());
}

#[test]
fn a_refusal_is_handed_on_as_it_came() {
    let refusal = b"\xff\x15\x04#28000Access denied".to_vec();
    for before in [vec![], vec![greeting(auth::NATIVE)], vec![greeting(auth::NATIVE), switch(auth::CACHING_SHA2)]] {
        let who = clear(PASSWORD);
        let (outcome, _) =
            exchange(&mut client(&who, Channel::Network), &[before, vec![refusal.clone()]].concat(), usize::MAX);
        assert_eq!(outcome.unwrap_err(), Failed::Refused(refusal.clone().into()));
    }
    assert_eq!(refusal[0], reply::ERR);
}

#[test]
fn a_server_that_talks_without_end_is_cut_off() {
    let who = clear(PASSWORD);
    for endless in [switch(auth::NATIVE), switch(auth::CACHING_SHA2), switch(auth::SHA256)] {
        let mut bodies = vec![greeting(auth::NATIVE)];
        bodies.resize(1000, endless);
        let (outcome, answers) = exchange(&mut client(&who, Channel::Network), &bodies, usize::MAX);
        assert_eq!(why(outcome), "does not come to an end with the login");
        assert_eq!(answers.len(), 17);
    }
    let mut bodies = vec![greeting(auth::CACHING_SHA2)];
    bodies.resize(1000, more(&[auth::FAST_OK]));
    let (outcome, _) = exchange(&mut client(&who, Channel::Network), &bodies, usize::MAX);
    assert_eq!(why(outcome), "does not come to an end with the login");
    // A length is refused before its bytes arrive.
    let mut login = client(&who, Channel::Network);
    let failed = login.feed(&mut BytesMut::from(&b"\xff\xff\xff\x00"[..]), &mut BytesMut::new()).unwrap_err();
    assert!(matches!(failed, Failed::Malformed(_)));
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        bytes(),
        bytes().prop_map(|rest| [b"\x01", &rest[..]].concat()),
        Just(more(&[auth::FULL_NEEDED])),
        Just(more(&[auth::FAST_OK])),
        Just(more(KEY)),
        prop_oneof![
            Just(auth::NATIVE),
            Just(auth::CACHING_SHA2),
            Just(auth::SHA256),
            Just(auth::CLEAR),
            Just(&b"dialog"[..])
        ]
        .prop_map(switch),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| challenge(&bytes)),
        Just(OKAY.to_vec()),
    ]
}

proptest! {
    #[test]
    fn nothing_that_a_server_sends_lets_in_without_an_ok_or_gets_the_password_over_a_network(
        begins in any::<bool>(),
        rest in proptest::collection::vec(any_body(), 0..20),
        piece in 1_usize..50,
    ) {
        let bodies = [if begins { vec![greeting(auth::CACHING_SHA2)] } else { vec![] }, rest].concat();
        let who = clear(PASSWORD);
        let run = |piece| {
            let (outcome, answers) = exchange(&mut client(&who, Channel::Network), &bodies, piece);
            (outcome.map(|welcome| welcome.map(|welcome| (welcome.status, welcome.okay))), answers)
        };
        let (outcome, answers) = run(usize::MAX);
        prop_assert!(!matches!(outcome, Ok(Some(_))) || bodies.iter().any(|body| body.first() == Some(&0)));
        for said in &answers {
            prop_assert!(!said.windows(PASSWORD.len()).any(|part| part == PASSWORD));
        }
        prop_assert_eq!(run(piece), (outcome, answers), "and it matters not how the bytes are torn");
    }
}
