//! What stands in a certificate: when it is valid, whose it is, and what binds a login to it.

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::time::ASN1Time;

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    Ok(parsed)
}

/// Whether it is valid at that time. Fails with why not.
pub(super) fn is_valid_at(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let validity = parse(certificate)?.validity().clone();
    let now = i64::try_from(now.as_secs())
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .ok_or(Error::FailedToGetCurrentTime)?;
    if now < validity.not_before {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > validity.not_after {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}

/// Whether it is of that host: by its alternative names or, where it has none of a host, by its common name, as libpq
/// (`sslmode`, "SSL Client Usage") and MySQL's clients (`VERIFY_IDENTITY`) look.
pub(super) fn has_name(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> bool {
    let Ok(parsed) = parse(certificate) else {
        return false;
    };
    let Ok(alternative) = parsed.subject_alternative_name() else {
        return false;
    };
    let names = alternative.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let hosts = names.iter().filter(|name| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)));
    let mut has_any = false;
    for name in hosts {
        has_any = true;
        let fits = match (name, host) {
            (GeneralName::DNSName(pattern), ServerName::DnsName(host)) => matches(pattern, host.as_ref()),
            (GeneralName::IPAddress(bytes), ServerName::IpAddress(address)) => {
                let address = std::net::IpAddr::from(*address);
                match address {
                    std::net::IpAddr::V4(address) => address.octets() == *bytes,
                    std::net::IpAddr::V6(address) => address.octets() == *bytes,
                }
            }
            _ => false,
        };
        if fits {
            return true;
        }
    }
    if has_any {
        return false;
    }
    let mut common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let host = host.to_str();
    common.next().is_some_and(|pattern| matches(pattern, &host))
}

/// Whose it is, by its common name.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

/// Whether a name fits a pattern: as it is, or with one label in the place of a leading `*`.
fn matches(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(rest) = pattern.strip_prefix("*.") else {
        return false;
    };
    // Not every host of a top-level domain, and no address.
    let is_name = host.parse::<std::net::IpAddr>().is_err() && rest.contains('.') && !rest.contains('*');
    let tail = host.split_once('.').filter(|(first, _)| !first.is_empty());
    is_name && tail.is_some_and(|(_, tail)| tail.eq_ignore_ascii_case(rest))
}

/// What binds a login to a server's certificate: its hash (RFC 5929, `tls-server-end-point`), by the function that it was
/// signed with, or SHA-256 where that is MD5 or SHA-1. `None` where the signature names none, such as Ed25519's.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    const RSA_PSS: Oid<'static> = oid!(1.2.840.113549.1.1.10);
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let signed = &parsed.signature_algorithm;
    let function = if signed.algorithm == RSA_PSS {
        let parameters = RsaSsaPssParams::try_from(signed.parameters.as_ref()?).ok()?;
        by_hash(parameters.hash_algorithm_oid())?
    } else {
        by_signature(&signed.algorithm)?
    };
    Some(match function {
        Function::Sha256 => Sha256::digest(certificate).to_vec(),
        Function::Sha384 => Sha384::digest(certificate).to_vec(),
        Function::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

enum Function {
    Sha256,
    Sha384,
    Sha512,
}

/// The function of a signature with PKCS #1 or ECDSA.
fn by_signature(algorithm: &Oid<'_>) -> Option<Function> {
    const SHA256: [Oid<'static>; 5] = [
        // MD5 and SHA-1 with RSA, SHA-1 with ECDSA; then SHA-256 with either.
        oid!(1.2.840.113549.1.1.4),
        oid!(1.2.840.113549.1.1.5),
        oid!(1.2.840.10045.4.1),
        oid!(1.2.840.113549.1.1.11),
        oid!(1.2.840.10045.4.3.2),
    ];
    const SHA384: [Oid<'static>; 2] = [oid!(1.2.840.113549.1.1.12), oid!(1.2.840.10045.4.3.3)];
    const SHA512: [Oid<'static>; 2] = [oid!(1.2.840.113549.1.1.13), oid!(1.2.840.10045.4.3.4)];
    if SHA256.contains(algorithm) {
        Some(Function::Sha256)
    } else if SHA384.contains(algorithm) {
        Some(Function::Sha384)
    } else if SHA512.contains(algorithm) {
        Some(Function::Sha512)
    } else {
        None
    }
}

/// The function that RSASSA-PSS names.
fn by_hash(hash: &Oid<'_>) -> Option<Function> {
    const SHA1: Oid<'static> = oid!(1.3.14.3.2.26);
    const SHA256: Oid<'static> = oid!(2.16.840.1.101.3.4.2.1);
    const SHA384: Oid<'static> = oid!(2.16.840.1.101.3.4.2.2);
    const SHA512: Oid<'static> = oid!(2.16.840.1.101.3.4.2.3);
    if *hash == SHA1 || *hash == SHA256 {
        Some(Function::Sha256)
    } else if *hash == SHA384 {
        Some(Function::Sha384)
    } else if *hash == SHA512 {
        Some(Function::Sha512)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_one_label_and_never_for_an_address() {
        for (pattern, host) in [("db.example", "DB.example"), ("*.db.example", "a.db.example"), ("db", "db.")] {
            assert!(matches(pattern, host), "{pattern} {host}");
        }
        for (pattern, host) in [
            ("*.db.example", "a.b.db.example"),
            ("*.db.example", "db.example"),
            ("*.example", "db.example"),
            ("*", "db"),
            ("*.0.0.1", "127.0.0.1"),
            ("d*.db.example", "db.db.example"),
        ] {
            assert!(!matches(pattern, host), "{pattern} {host}");
        }
    }

    fn self_signed(names: &[&str], common: Option<&str>) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = rcgen::CertificateParams::new(names).expect("names");
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common) = common {
            parameters.distinguished_name.push(rcgen::DnType::CommonName, common);
        }
        let key = rcgen::KeyPair::generate().expect("a key");
        parameters.self_signed(&key).expect("signed").der().clone()
    }

    #[test]
    fn the_common_name_counts_only_where_no_host_is_named_otherwise() {
        let name = |host: &'static str| ServerName::try_from(host).expect("a name");
        let old = self_signed(&[], Some("db.example"));
        assert!(has_name(&old, &name("db.example")) && !has_name(&old, &name("other.example")));
        let new = self_signed(&["a.example", "127.0.0.1"], Some("db.example"));
        assert!(has_name(&new, &name("a.example")) && has_name(&new, &name("127.0.0.1")));
        assert!(!has_name(&new, &name("db.example")) && !has_name(&new, &name("127.0.0.2")));
    }

    #[test]
    fn a_certificate_that_is_not_valid_yet_or_any_more_is_refused() {
        let mut parameters = rcgen::CertificateParams::new(vec!["db".to_owned()]).expect("names");
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("signed").der().clone();
        let at = |seconds: u64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        assert!(is_valid_at(&certificate, at(1_590_000_000)).is_ok());
        assert_eq!(
            is_valid_at(&certificate, at(1_700_000_000)),
            Err(Error::InvalidCertificate(CertificateError::Expired))
        );
        assert_eq!(
            is_valid_at(&certificate, at(1_500_000_000)),
            Err(Error::InvalidCertificate(CertificateError::NotValidYet))
        );
    }

    #[test]
    fn a_login_is_bound_by_the_hash_of_the_whole_certificate() {
        let certificate = self_signed(&["db"], None);
        let bound = end_point(&certificate).expect("ECDSA with SHA-256");
        assert_eq!(bound, Sha256::digest(&certificate).to_vec());
        assert!(end_point(b"no certificate").is_none());
    }
}
