//! Which hosts an account is for, as the server itself compares them.

use std::cmp::Reverse;
use std::net::IpAddr;

/// How exact a pattern is; the server takes the most exact one, which sorts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(u8, Reverse<usize>);

/// Whether a client from `name`, and from `address` where it is known, is meant by `pattern`.
pub fn matches(pattern: &str, name: &str, address: Option<IpAddr>) -> bool {
    if pattern.is_empty() {
        return true;
    }
    if let Some((network, mask)) = pattern.split_once('/') {
        return address.is_some_and(|address| is_inside(network, mask, address));
    }
    let text = address.map(|address| address.to_string());
    like(pattern.as_bytes(), name.as_bytes()) || text.is_some_and(|text| like(pattern.as_bytes(), text.as_bytes()))
}

/// Whether `pattern` may mean a host by its name, which is not "localhost": that is this host's, whose address tells.
pub fn may_be_a_name(pattern: &str) -> bool {
    let has_letters = pattern.bytes().any(|byte| byte.is_ascii_alphabetic());
    has_letters && !pattern.contains([':', '/']) && !pattern.eq_ignore_ascii_case("localhost")
}

/// How exact `pattern` is.
pub fn rank(pattern: &str) -> Rank {
    let wild = pattern.find(['%', '_']);
    match wild {
        _ if pattern.is_empty() => Rank(3, Reverse(0)),
        _ if pattern.contains('/') => Rank(1, Reverse(pattern.len())),
        None => Rank(0, Reverse(0)),
        Some(at) => Rank(2, Reverse(at)),
    }
}

fn is_inside(network: &str, mask: &str, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let Ok(network) = network.parse::<IpAddr>() else {
        return false;
    };
    if network.is_ipv4() != address.is_ipv4() {
        return false;
    }
    let width = if network.is_ipv4() { 32 } else { 128 };
    let mask = match mask.parse::<u32>() {
        Ok(length) if length <= width => {
            let all = u128::MAX.checked_shr(128 - width).unwrap_or_default();
            all & !(all.checked_shr(length).unwrap_or_default())
        }
        Ok(_) => return false,
        Err(_) => match mask.parse::<IpAddr>() {
            Ok(mask) if mask.is_ipv4() == network.is_ipv4() => bits(mask),
            _ => return false,
        },
    };
    bits(address) & mask == bits(network)
}

/// LIKE without regard to case: `%` is any text, `_` any character, and a backslash takes the meaning from the next.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where the last `%` was, and how much of the text it has taken.
    let mut back: Option<(usize, usize)> = None;
    loop {
        let (wild, literal, next) = match pattern.get(at) {
            Some(b'%') => {
                back = Some((at, read));
                at += 1;
                continue;
            }
            Some(b'_') => (true, None, at + 1),
            Some(b'\\') if at + 1 < pattern.len() => (false, pattern.get(at + 1), at + 2),
            one => (false, one, at + 1),
        };
        let here = text.get(read);
        let fits = match (here, literal) {
            (Some(_), _) if wild => true,
            (Some(here), Some(literal)) => here.eq_ignore_ascii_case(literal),
            (None, None) if !wild => return true,
            _ => false,
        };
        if fits {
            (at, read) = (next, read + 1);
            continue;
        }
        match back {
            Some((percent, taken)) if taken < text.len() => {
                back = Some((percent, taken + 1));
                (at, read) = (percent + 1, taken + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_as_the_server_does() {
        let from = |pattern, name, address: &str| matches(pattern, name, address.parse().ok());
        for pattern in [
            "%",
            "",
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.%",
            "127.0.0._",
            "local%st",
            "127.0.0.0/255.0.0.0",
            "127.0.0.0/8",
        ] {
            assert!(from(pattern, "localhost", "127.0.0.1"), "{pattern}");
        }
        for pattern in [
            "localhos",
            "local_",
            "128.%",
            "10.0.0.0/8",
            "127.0.0.0/255.255.255.255",
            "::/0",
            "127.0.0.0/33",
            "local\\%",
            "%x",
        ] {
            assert!(!from(pattern, "localhost", "127.0.0.1"), "{pattern}");
        }
        assert!(from("%.example.com", "db.EXAMPLE.com", ""));
        assert!(from("a\\_b", "a_b", "") && !from("a\\_b", "axb", ""));
        assert!(from("fe80::/10", "x", "fe80::1") && from("0.0.0.0/0", "x", "9.9.9.9"));
    }

    #[test]
    fn patterns_with_letters_may_be_names_and_addresses_are_none() {
        for name in ["%.example.com", "db1", "10-1-%.internal"] {
            assert!(may_be_a_name(name), "{name}");
        }
        for other in ["", "%", "10.1.%", "10.1.0.0/16", "fe80::%", "LocalHost"] {
            assert!(!may_be_a_name(other), "{other}");
        }
    }

    #[test]
    fn the_more_exact_pattern_comes_first() {
        let mut patterns = ["", "%", "10.%", "10.1.%", "10.1.0.0/255.255.0.0", "10.1.2.3"];
        let wanted = ["10.1.2.3", "10.1.0.0/255.255.0.0", "10.1.%", "10.%", "%", ""];
        patterns.sort_by_key(|pattern| rank(pattern));
        assert_eq!(patterns, wanted);
    }
}
