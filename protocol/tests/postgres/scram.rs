//! The server's side of SCRAM against the client that half of the Rust world uses.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use postgres_protocol::password::scram_sha_256;
use proptest::prelude::*;
use protocol::postgres::auth::{Binding, ClientKey, Refused, ScramClient, ScramKeys, ScramServer, Verifier};

const NONCE: &str = "3rfcNHYJY1ZVvWVs7j";

fn login(verifier: Verifier, password: &[u8], binding: ChannelBinding) -> Result<ClientKey, Refused> {
    let mut client = ScramSha256::new(password, binding);
    let mut server = ScramServer::new(verifier, NONCE);
    client.update(&server.first(client.message(), false)?).unwrap();
    let (last, key) = server.finish(client.message())?;
    client.finish(&last).expect("the client believes the server");
    Ok(key)
}

#[test]
fn a_client_with_the_password_is_let_in_and_reveals_the_same_key_each_time() {
    let verifier = Verifier::parse(&scram_sha_256(b"hunter2")).unwrap();
    let first = login(verifier.clone(), b"hunter2", ChannelBinding::unsupported()).unwrap();
    let again = login(verifier, b"hunter2", ChannelBinding::unrequested()).unwrap();
    assert_eq!(first, again);
}

#[test]
fn a_wrong_password_and_an_unknown_user_fail_alike() {
    let verifier = Verifier::parse(&scram_sha_256(b"hunter2")).unwrap();
    let wrong = login(verifier, b"hunter3", ChannelBinding::unsupported());
    let unknown = Verifier::doomed(b"secret", b"nobody");
    let doomed = login(unknown, b"hunter2", ChannelBinding::unsupported());
    assert_eq!(wrong, Err(Refused::Proof));
    assert_eq!(doomed, Err(Refused::Proof));
}

#[test]
fn an_unknown_user_always_sees_the_same_salt() {
    let first = |user: &[u8]| {
        let mut server = ScramServer::new(Verifier::doomed(b"secret", user), NONCE);
        server.first(b"n,,n=,r=abc", false).unwrap()
    };
    assert_eq!(first(b"a"), first(b"a"));
    assert_ne!(first(b"a"), first(b"b"));
    let real = Verifier::parse(&scram_sha_256(b"x")).unwrap();
    let real = ScramServer::new(real, NONCE).first(b"n,,n=,r=abc", false).unwrap();
    assert_eq!(first(b"a").len(), real.len(), "and it looks like everybody's");
}

#[test]
fn the_example_of_rfc_7677_holds() {
    let salt = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81";
    let verifier = Verifier::from_password(b"pencil", salt, 4096);
    let mut server = ScramServer::new(verifier, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    let first = server.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", false).unwrap();
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    assert_eq!(first, format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").into_bytes());
    let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let (last, _) = server.finish(format!("c=biws,r={nonce},p={proof}").as_bytes()).unwrap();
    assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn verifiers_are_written_as_they_were_read() {
    let text = scram_sha_256(b"hunter2");
    assert_eq!(Verifier::parse(&text).unwrap().to_string(), text);
    for broken in [
        "",
        "md5abc",
        "SCRAM-SHA-256$",
        "SCRAM-SHA-256$0:QQ==$QQ==:QQ==",
        "SCRAM-SHA-256$4096:QQ==$QQ==:QQ==",
        "SCRAM-SHA-256$99999999999:QQ==$QQ==:QQ==",
    ] {
        assert!(Verifier::parse(broken).is_none(), "{broken}");
    }
    assert!(Verifier::parse(&format!("{text}:x")).is_none());
}

#[test]
fn a_password_gives_the_verifier_that_clients_make() {
    let text = scram_sha_256(b"hunter2");
    let salt = text.split(['$', ':']).nth(2).unwrap();
    let salt = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, salt).unwrap();
    assert_eq!(Verifier::from_password(b"hunter2", &salt, 4096).to_string(), text);
}

#[test]
fn what_a_login_reveals_logs_in_where_the_same_verifier_is_and_nowhere_else() {
    let verifier = Verifier::from_password(b"hunter2", b"salt", 4096);
    let log_in = |client: ScramClient, verifier: &Verifier| {
        let mut server = ScramServer::new(verifier.clone(), NONCE);
        let challenge = server.first(client.first().as_bytes(), false).unwrap();
        let (answer, signature) = client.answer(&challenge).unwrap();
        let (last, key) = server.finish(answer.as_bytes())?;
        signature.check(&last)?;
        Ok(key)
    };
    let key = log_in(ScramClient::new(b"hunter2", "abc"), &verifier).expect("the password");
    let keys = ScramKeys::new(key, &verifier);
    assert!(log_in(ScramClient::from_keys(&keys, "def"), &verifier).is_ok());
    // The same password with another salt is another verifier.
    let other = Verifier::from_password(b"hunter2", b"pepper", 4096);
    assert_eq!(log_in(ScramClient::from_keys(&keys, "ghi"), &other), Err(Refused::Proof));
}

#[test]
fn a_login_is_bound_to_the_certificate_that_both_sides_see() {
    let verifier = Verifier::from_password(b"hunter2", b"salt", 1);
    let log_in = |binding: Binding, plus: bool, offered: Option<&[u8]>| {
        let client = ScramClient::new(b"hunter2", "abc").bound(binding);
        let mut server = ScramServer::new(verifier.clone(), NONCE).offering(offered);
        let challenge = server.first(client.first().as_bytes(), plus)?;
        let (answer, _) = client.answer(&challenge).unwrap();
        server.finish(answer.as_bytes()).map(drop)
    };
    let ours = || Binding::EndPoint(b"ours".to_vec());
    assert_eq!(log_in(ours(), true, Some(b"ours")), Ok(()));
    assert_eq!(log_in(Binding::None, false, Some(b"ours")), Ok(()), "a client that cannot");
    assert_eq!(log_in(Binding::NotOffered, false, None), Ok(()));
    // Somebody in between shows the client another certificate, or hides from it that there is a binding.
    assert_eq!(log_in(ours(), true, Some(b"theirs")), Err(Refused::ChannelBinding));
    assert_eq!(log_in(Binding::NotOffered, false, Some(b"ours")), Err(Refused::ChannelBinding));
    assert_eq!(log_in(ours(), true, None), Err(Refused::ChannelBinding));
    assert_eq!(log_in(ours(), false, Some(b"ours")), Err(Refused::ChannelBinding));
    assert_eq!(log_in(Binding::None, true, Some(b"ours")), Err(Refused::Malformed));
}

#[test]
fn messages_that_are_not_ours_to_accept_are_refused() {
    let verifier = Verifier::from_password(b"x", b"salt", 1);
    let first = |message: &[u8]| ScramServer::new(verifier.clone(), NONCE).first(message, false);
    for (message, expected) in [
        (&b"p=tls-unique,,n=,r=abc"[..], Refused::ChannelBinding),
        (b"x,,n=,r=abc", Refused::Malformed),
        (b"n,a=admin,n=,r=abc", Refused::Unsupported),
        (b"n,,m=x,n=,r=abc", Refused::Unsupported),
        (b"n,,n=", Refused::Malformed),
        (b"n,,n=,r=", Refused::Malformed),
        (b"n,,n=,r=\xc3\xa4", Refused::Malformed),
        (b"n,,n=\0,r=abc", Refused::Malformed),
        (b"\xff", Refused::Malformed),
        (b"", Refused::Malformed),
    ] {
        assert_eq!(first(message), Err(expected), "{message:?}");
    }
    let long = [&b"n,,n=,r="[..], &vec![b'a'; 1 << 20]].concat();
    assert_eq!(first(&long), Err(Refused::Malformed));

    let last = |message: &str| {
        let mut server = ScramServer::new(verifier.clone(), NONCE);
        server.first(b"n,,n=,r=abc", false).unwrap();
        server.finish(message.as_bytes()).map(|_| ())
    };
    let proof = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [0; 32]);
    for (message, expected) in [
        (format!("c=biws,r=abc{NONCE},p={proof}"), Refused::Proof),
        (format!("c=eSws,r=abc{NONCE},p={proof}"), Refused::ChannelBinding),
        (format!("c=biws,r=abc,p={proof}"), Refused::Nonce),
        (format!("c=biws,r=xyz{NONCE},p={proof}"), Refused::Nonce),
        (format!("c=biws,r=abc{NONCE}"), Refused::Malformed),
        (format!("c=biws,r=abc{NONCE},p=AAAA"), Refused::Malformed),
        (format!("c=biws,r=abc{NONCE},p=*"), Refused::Malformed),
    ] {
        assert_eq!(last(&message), Err(expected), "{message}");
    }
}

#[test]
fn messages_out_of_order_are_refused() {
    let mut server = ScramServer::new(Verifier::from_password(b"x", b"salt", 1), NONCE);
    assert_eq!(server.finish(b"c=biws,r=a,p=b").unwrap_err(), Refused::Order);
    assert_eq!(server.first(b"n,,n=,r=abc", false), Err(Refused::Order));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whoever_has_the_password_gets_in(password in "[ -~]{1,90}", salt in prop::collection::vec(any::<u8>(), 1..40), iterations in 1_u32..50) {
        let verifier = Verifier::from_password(password.as_bytes(), &salt, iterations);
        let verifier = Verifier::parse(&verifier.to_string()).unwrap();
        prop_assert!(login(verifier, password.as_bytes(), ChannelBinding::unsupported()).is_ok());
    }

    #[test]
    fn random_messages_never_panic_and_never_get_in(first in ".{0,60}", last in ".{0,120}") {
        let mut server = ScramServer::new(Verifier::from_password(b"x", b"salt", 1), NONCE);
        let _ = server.first(first.as_bytes(), false);
        prop_assert!(server.finish(last.as_bytes()).is_err());
    }
}
