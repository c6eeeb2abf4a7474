//! The client's side of a login, against servers that keep to the protocol and servers that do not.

use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::password::scram_sha_256;
use proptest::prelude::*;
use protocol::postgres::auth::{
    self, AuthRequest, Credential, Md5Verifier, Refused, SaslInitialResponse, ScramClient, ScramKeys, ScramServer,
    Verifier,
};
use protocol::postgres::login::{Account, Failed, Login, Welcome};
use protocol::postgres::reply::{self, ReadyStatus};
use protocol::postgres::{command, frame};
use protocol::progress::Progress;

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const USER: &str = "shop";
const PASSWORD: &str = "hunter2";
const SALT: [u8; 4] = [1, 2, 3, 4];

fn account(credential: Option<&Credential>) -> Account<'_> {
    Account { user: USER.as_bytes(), credential, end_point: None, private: false, nonce: NONCE }
}

fn password() -> Credential {
    Credential::password(PASSWORD.as_bytes())
}

fn request(request: &AuthRequest) -> BytesMut {
    let mut out = BytesMut::new();
    request.encode(&mut out);
    out
}

fn notice(text: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    frame::put(&mut out, reply::NOTICE_RESPONSE, |out| out.extend_from_slice(text));
    out
}

fn ready() -> BytesMut {
    let mut out = BytesMut::new();
    ReadyStatus::Idle.encode(&mut out);
    out
}

/// What a server says once it is content; the last frame is already the session's.
fn welcome() -> BytesMut {
    let mut out = request(&AuthRequest::Ok);
    let status =
        |name: &'static str, value: &'static str| reply::ParameterStatus { name: name.into(), value: value.into() };
    status("server_version", "18.1").encode(&mut out);
    status("TimeZone", "UTC").encode(&mut out);
    reply::BackendKeyData { pid: 7, secret: Bytes::from_static(b"1234") }.encode(&mut out);
    out.extend_from_slice(&notice(b"SNOTICE\0\0"));
    // What a newer server may add.
    frame::put(&mut out, b'~', |out| out.put_u8(0));
    out.extend_from_slice(&ready());
    out.extend_from_slice(&notice(b"later"));
    out
}

/// Gives `bytes` in pieces of at most `piece` bytes; the outcome, and what the client said.
fn feed(
    login: &mut Login<'_>,
    incoming: &mut BytesMut,
    bytes: &[u8],
    piece: usize,
) -> (Result<Option<Welcome>, Failed>, BytesMut) {
    let mut said = BytesMut::new();
    let mut outcome = Ok(None);
    for part in bytes.chunks(piece) {
        incoming.extend_from_slice(part);
        // Once it is done the rest of the bytes is the session's.
        if matches!(outcome, Ok(None)) {
            outcome = login.feed(incoming, &mut said).map(Progress::done);
        }
    }
    (outcome, said)
}

/// One frame that the client sent, alone.
fn answer(said: &mut BytesMut) -> Bytes {
    let frame = frame::take(said, 1 << 20).unwrap().expect("an answer");
    assert_eq!(frame.tag, command::PASSWORD);
    assert!(said.is_empty(), "one answer to one request");
    frame.body
}

fn check_welcome(outcome: Result<Option<Welcome>, Failed>, rest: &BytesMut) {
    let welcome = outcome.expect("let in").expect("ready");
    let names: Vec<&[u8]> = welcome.parameters.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, [&b"server_version"[..], b"TimeZone"]);
    assert_eq!((welcome.key.pid, &welcome.key.secret[..]), (7, &b"1234"[..]));
    assert_eq!(welcome.notices, notice(b"SNOTICE\0\0"));
    assert_eq!(*rest, notice(b"later"), "what came behind the login is the session's");
}

#[test]
fn every_kind_of_login_comes_to_its_welcome_wherever_the_bytes_are_torn() {
    let secret = password();
    for piece in [1, 2, 3, 5, 8, 13, 64, usize::MAX] {
        let mut rest = BytesMut::new();
        let mut trusted = Login::new(account(None));
        let (outcome, said) = feed(&mut trusted, &mut rest, &welcome(), piece);
        assert!(said.is_empty(), "nobody asked");
        check_welcome(outcome, &rest);

        let md5 = md5_hash(USER.as_bytes(), PASSWORD.as_bytes(), SALT);
        for (asked, proof) in [(AuthRequest::Cleartext, PASSWORD), (AuthRequest::Md5 { salt: SALT }, md5.as_str())] {
            let mut rest = BytesMut::new();
            let mut login = Login::new(account(Some(&secret)));
            let (outcome, mut said) = feed(&mut login, &mut rest, &request(&asked), piece);
            assert!(outcome.expect("on the way").is_none());
            assert_eq!(auth::password(answer(&mut said)).unwrap(), proof);
            check_welcome(feed(&mut login, &mut rest, &welcome(), piece).0, &rest);
        }

        let mut rest = BytesMut::new();
        let mut server = ScramServer::new(Verifier::parse(&scram_sha_256(PASSWORD.as_bytes())).unwrap(), "x!y");
        let mut login = Login::new(account(Some(&secret)));
        let mechanisms = vec![Bytes::from_static(b"SCRAM-SHA-256-PLUS"), Bytes::from_static(auth::SCRAM_SHA_256)];
        let (_, mut said) = feed(&mut login, &mut rest, &request(&AuthRequest::Sasl { mechanisms }), piece);
        let first = SaslInitialResponse::parse(answer(&mut said)).unwrap();
        assert_eq!(first.mechanism, auth::SCRAM_SHA_256);
        let challenge = server.first(&first.data.unwrap(), false).unwrap();
        let (_, mut said) = feed(&mut login, &mut rest, &request(&AuthRequest::SaslContinue(challenge.into())), piece);
        let (last, _) = server.finish(&answer(&mut said)).expect("the password is right");
        let (outcome, said) = feed(&mut login, &mut rest, &request(&AuthRequest::SaslFinal(last.into())), piece);
        assert!(outcome.expect("believed").is_none() && said.is_empty());
        check_welcome(feed(&mut login, &mut rest, &welcome(), piece).0, &rest);
    }
}

/// A login that has sent its SCRAM proof, and what an honest server would say to it.
fn proven(secret: &Credential) -> (Login<'_>, Bytes) {
    let mut server = ScramServer::new(Verifier::from_password(PASSWORD.as_bytes(), b"salt", 2), "x!y");
    let mut login = Login::new(account(Some(secret)));
    let (mut rest, all) = (BytesMut::new(), usize::MAX);
    let (_, mut said) = feed(&mut login, &mut rest, &request(&AuthRequest::scram(false)), all);
    let first = SaslInitialResponse::parse(answer(&mut said)).unwrap().data.unwrap();
    let challenge = AuthRequest::SaslContinue(server.first(&first, false).unwrap().into());
    let (_, mut said) = feed(&mut login, &mut rest, &request(&challenge), all);
    let (last, _) = server.finish(&answer(&mut said)).unwrap();
    (login, last.into())
}

fn outcome(login: &mut Login<'_>, bytes: &[u8]) -> Result<Option<Welcome>, Failed> {
    feed(login, &mut BytesMut::new(), bytes, usize::MAX).0
}

#[test]
fn a_server_that_does_not_prove_itself_is_not_believed() {
    let secret = password();
    let (mut honest, last) = proven(&secret);
    assert!(outcome(&mut honest, &request(&AuthRequest::SaslFinal(last.clone()))).unwrap().is_none());

    let mut wrong = last.to_vec();
    wrong[2] = if wrong[2] == b'A' { b'B' } else { b'A' };
    for (said, why) in [
        (wrong, Refused::Signature),
        (b"v=".to_vec(), Refused::Signature),
        (b"e=other-error".to_vec(), Refused::Server),
        (b"".to_vec(), Refused::Malformed),
        (b"v=?".to_vec(), Refused::Malformed),
    ] {
        let (mut login, _) = proven(&secret);
        let failed = outcome(&mut login, &request(&AuthRequest::SaslFinal(said.into()))).unwrap_err();
        assert_eq!(failed, Failed::Scram(why));
        assert_eq!(outcome(&mut login, &welcome()).unwrap_err(), Failed::OutOfOrder, "and nothing heals it");
    }
    // Without a word of proof.
    let (mut login, _) = proven(&secret);
    assert_eq!(outcome(&mut login, &welcome()).unwrap_err(), Failed::OutOfOrder);
}

#[test]
fn a_challenge_that_is_none_is_refused() {
    let secret = password();
    for (challenge, why) in [
        ("r=another,s=c2FsdA==,i=2", Refused::Nonce),
        ("r=rOprNGfwEbeRWgbNEkqO!,s=c2FsdA==,i=100001", Refused::Iterations),
        ("r=rOprNGfwEbeRWgbNEkqO!,s=c2FsdA==,i=0", Refused::Malformed),
        ("r=rOprNGfwEbeRWgbNEkqO!,s=c2FsdA==,i=-1", Refused::Malformed),
        ("r=rOprNGfwEbeRWgbNEkqO!,s=c2FsdA==,i=99999999999", Refused::Malformed),
        ("r=rOprNGfwEbeRWgbNEkqO!,s=?,i=2", Refused::Malformed),
        ("r=rOprNGfwEbeRWgbNEkqO!,s=c2FsdA==,i=2,m=more", Refused::Malformed),
        ("r=rOprNGfwEbeRWgbNEkqO!,i=2", Refused::Malformed),
        ("", Refused::Malformed),
    ] {
        let mut login = Login::new(account(Some(&secret)));
        outcome(&mut login, &request(&AuthRequest::scram(false))).unwrap();
        let failed = outcome(&mut login, &request(&AuthRequest::SaslContinue(challenge.into()))).unwrap_err();
        assert_eq!(failed, Failed::Scram(why), "{challenge}");
    }
}

#[test]
fn the_proof_is_that_of_an_exchange_which_was_recorded() {
    let client = ScramClient::new(b"foobar", "9IZ2O01zb9IgiIZ1WJ/zgpJB");
    assert_eq!(client.first(), "n,,n=,r=9IZ2O01zb9IgiIZ1WJ/zgpJB");
    let nonce = "9IZ2O01zb9IgiIZ1WJ/zgpJBjx/oIRLs02gGSHcw1KEty3eY";
    let (answer, signature) = client.answer(format!("r={nonce},s=fs3IXBy7U7+IvVjZ,i=4096").as_bytes()).unwrap();
    assert_eq!(answer, format!("c=biws,r={nonce},p=AmNKosjJzS31NTlQYNs5BTeQjdHdk7lOflDo5re2an8="));
    assert_eq!(signature.check(b"v=U+ppxD5XUKtradnv8e2MkeupiA8FU87Sg8CXzXHDAzw="), Ok(()));
}

#[test]
fn passwords_are_prepared_as_the_server_prepares_them() {
    // A compatibility form, a soft hyphen, and bytes that no preparation takes.
    for password in ["\u{2168}".as_bytes(), "I\u{ad}X".as_bytes(), b"\xff\xfe"] {
        let mut server = ScramServer::new(Verifier::parse(&scram_sha_256(password)).unwrap(), "x!y");
        let client = ScramClient::new(password, NONCE);
        let challenge = server.first(client.first().as_bytes(), false).unwrap();
        let (answer, signature) = client.answer(&challenge).unwrap();
        let (last, _) = server.finish(answer.as_bytes()).expect("the same password");
        assert_eq!(signature.check(&last), Ok(()));
    }
}

#[test]
fn steps_out_of_order_are_refused_wherever_they_come() {
    let secret = password();
    let asked = [
        AuthRequest::Cleartext,
        AuthRequest::Md5 { salt: SALT },
        AuthRequest::scram(false),
        AuthRequest::SaslContinue(Bytes::new()),
        AuthRequest::SaslFinal(Bytes::new()),
        AuthRequest::Ok,
        AuthRequest::Other(7),
    ];
    for again in &asked {
        // After the welcome nothing more may be asked, be it before the server is ready.
        let mut login = Login::new(account(Some(&secret)));
        outcome(&mut login, &request(&AuthRequest::Ok)).unwrap();
        assert_eq!(outcome(&mut login, &request(again)).unwrap_err(), Failed::OutOfOrder, "{again:?} after Ok");
        // After an answer nothing but Ok.
        if *again != AuthRequest::Ok {
            let mut login = Login::new(account(Some(&secret)));
            outcome(&mut login, &request(&AuthRequest::Cleartext)).unwrap();
            let failed = outcome(&mut login, &request(again)).unwrap_err();
            assert_eq!(failed, Failed::OutOfOrder, "{again:?} after an answer");
        }
        // In the middle of SCRAM nothing but SCRAM.
        if !matches!(again, AuthRequest::SaslContinue(_)) {
            let mut login = Login::new(account(Some(&secret)));
            outcome(&mut login, &request(&AuthRequest::scram(false))).unwrap();
            let failed = outcome(&mut login, &request(again)).unwrap_err();
            assert_eq!(failed, Failed::OutOfOrder, "{again:?} in place of a challenge");
        }
    }
    let mut unasked = Login::new(account(Some(&secret)));
    assert_eq!(outcome(&mut unasked, &ready()).unwrap_err(), Failed::OutOfOrder, "ready without a welcome");
    let mut done = Login::new(account(None));
    outcome(&mut done, &welcome()).unwrap().expect("ready");
    assert_eq!(outcome(&mut done, &ready()).unwrap_err(), Failed::OutOfOrder, "ready twice");
}

#[test]
fn what_cannot_be_answered_is_named() {
    let secret = password();
    for (known, asked, why) in [
        (None, AuthRequest::Cleartext, Failed::NoPassword),
        (None, AuthRequest::Md5 { salt: SALT }, Failed::NoPassword),
        (None, AuthRequest::scram(false), Failed::NoPassword),
        (Some(&secret), AuthRequest::Sasl { mechanisms: vec![Bytes::from_static(b"OAUTHBEARER")] }, Failed::Mechanism),
        (Some(&secret), AuthRequest::Other(7), Failed::Method),
    ] {
        let mut login = Login::new(account(known));
        let (failed, said) = feed(&mut login, &mut BytesMut::new(), &request(&asked), usize::MAX);
        assert_eq!(failed.unwrap_err(), why);
        assert!(said.is_empty(), "nothing is told to a server that asks for {asked:?}");
    }
}

#[test]
fn a_refusal_is_handed_on_as_it_came() {
    let secret = password();
    let mut refusal = BytesMut::new();
    frame::put(&mut refusal, reply::ERROR_RESPONSE, |out| out.extend_from_slice(b"SFATAL\0C28000\0Mno\0\0"));
    for (before, welcomed) in [(None, false), (Some(AuthRequest::Cleartext), false), (Some(AuthRequest::Ok), true)] {
        let mut bytes = before.as_ref().map(request).unwrap_or_default();
        bytes.extend_from_slice(&refusal);
        let mut login = Login::new(account(Some(&secret)));
        let expected = Failed::Refused { frame: refusal.clone().freeze(), welcomed };
        assert_eq!(outcome(&mut login, &bytes).unwrap_err(), expected);
    }
}

#[test]
fn a_server_that_talks_without_end_is_cut_off() {
    // A length is refused before its bytes arrive.
    let mut login = Login::new(account(None));
    assert!(matches!(outcome(&mut login, b"R\x7f\xff\xff\xff").unwrap_err(), Failed::Malformed(_)));
    for endless in [notice(&[b'x'; 1000]), notice(b""), {
        let mut out = BytesMut::new();
        frame::put(&mut out, b'~', |out| out.put_bytes(0, 100_000));
        out
    }] {
        let mut login = Login::new(account(None));
        let (mut incoming, mut said) = (BytesMut::new(), BytesMut::new());
        let ended = (0..3_000_000).any(|_| {
            incoming.extend_from_slice(&endless);
            matches!(login.feed(&mut incoming, &mut said), Err(Failed::Malformed(_)))
        });
        assert!(ended, "frames of {} bytes go on for ever", endless.len());
    }
}

#[test]
fn what_is_known_of_a_password_answers_its_own_method_and_no_other() {
    let scram = {
        let verifier = Verifier::from_password(PASSWORD.as_bytes(), b"salt", 2);
        let client = ScramClient::new(PASSWORD.as_bytes(), NONCE);
        let mut server = ScramServer::new(verifier.clone(), "x!y");
        let challenge = server.first(client.first().as_bytes(), false).unwrap();
        let (_, key) = server.finish(client.answer(&challenge).unwrap().0.as_bytes()).unwrap();
        Credential::Scram(ScramKeys::new(key, &verifier))
    };
    let md5 = Credential::Md5(Md5Verifier::of(USER.as_bytes(), PASSWORD.as_bytes()));
    let asks = [AuthRequest::Cleartext, AuthRequest::Md5 { salt: SALT }, AuthRequest::scram(false)];
    for (credential, answers) in [(&scram, [false, false, true]), (&md5, [false, true, false])] {
        for (ask, answers) in asks.iter().zip(answers) {
            let mut login = Login::new(account(Some(credential)));
            let (outcome, mut said) = feed(&mut login, &mut BytesMut::new(), &request(ask), usize::MAX);
            assert_eq!(outcome.is_ok(), answers, "{credential:?} {ask:?}");
            if let AuthRequest::Md5 { .. } = ask
                && answers
            {
                let expected = md5_hash(USER.as_bytes(), PASSWORD.as_bytes(), SALT);
                assert_eq!(answer(&mut said)[..], *[expected.as_bytes(), b"\0"].concat());
            }
        }
    }
}

#[test]
fn a_login_over_tls_is_bound_to_it_where_the_server_offers_that() {
    let secret = password();
    for (offered, mechanism, flag) in
        [(true, auth::SCRAM_SHA_256_PLUS, &b"p=tls-server-end-point,,"[..]), (false, auth::SCRAM_SHA_256, b"y,,")]
    {
        let mut login = Login::new(Account { end_point: Some(b"hash"), ..account(Some(&secret)) });
        let (_, mut said) = feed(&mut login, &mut BytesMut::new(), &request(&AuthRequest::scram(offered)), usize::MAX);
        let first = SaslInitialResponse::parse(answer(&mut said)).unwrap();
        assert_eq!(first.mechanism, mechanism);
        assert!(first.data.unwrap().starts_with(flag));
    }
}

fn any_frame() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let tag =
        prop_oneof![Just(b'R'), Just(b'R'), Just(b'S'), Just(b'K'), Just(b'Z'), Just(b'E'), Just(b'N'), any::<u8>()];
    let asks = (0_u32..14).prop_flat_map(|kind| {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(move |rest| [&kind.to_be_bytes()[..], &rest].concat())
    });
    (tag, prop_oneof![asks, proptest::collection::vec(any::<u8>(), 0..40), Just(b"I".to_vec())])
}

proptest! {
    #[test]
    fn nothing_that_a_server_sends_lets_in_without_an_ok(
        frames in proptest::collection::vec(any_frame(), 0..12),
        piece in 1_usize..50,
    ) {
        let secret = password();
        let mut bytes = BytesMut::new();
        for (tag, body) in &frames {
            frame::put(&mut bytes, *tag, |out| out.extend_from_slice(body));
        }
        let run = |piece| {
            let mut login = Login::new(account(Some(&secret)));
            let (outcome, said) = feed(&mut login, &mut BytesMut::new(), &bytes, piece);
            (outcome.map(|welcome| welcome.map(|welcome| (welcome.parameters, welcome.key, welcome.notices))), said)
        };
        let (outcome, said) = run(usize::MAX);
        let ok = |(tag, body): &(u8, Vec<u8>)| *tag == b'R' && *body == [0; 4];
        prop_assert!(!matches!(outcome, Ok(Some(_))) || frames.iter().any(ok));
        prop_assert_eq!(run(piece), (outcome, said), "and it matters not how the bytes are torn");
    }
}
