//! Networks in the configuration, as `10.0.0.0/8, 192.0.2.7`.

use std::fmt;
use std::net::IpAddr;

/// Some networks; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// All addresses that begin like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Networks {
    /// Reads at least one, with commas in between.
    pub fn parse(text: &str) -> Option<Self> {
        let all = text.split(',').map(|one| Network::parse(one.trim()));
        all.collect::<Option<Vec<_>>>().map(Self)
    }

    /// Whether the address is in one of them. One of IPv4 is so too where IPv6 carries it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address.to_canonical()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Network { address, prefix }) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(formatter, "{comma}{address}/{prefix}")?;
        }
        Ok(())
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            // A sign is no digit.
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => prefix.parse().ok()?,
            Some(_) => return None,
            None => width,
        };
        (prefix <= width).then_some(Self { address, prefix })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(address)) => {
                let differing = own.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.prefix
            }
            (IpAddr::V6(own), IpAddr::V6(address)) => {
                let differing = own.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.prefix
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Networks;

    #[test]
    fn addresses_are_in_their_networks_and_in_no_other() {
        let networks = Networks::parse("10.0.0.0/8, 192.0.2.7,2001:db8::/33").expect("valid");
        let has = |address: &str| networks.contains(address.parse().expect("an address"));
        for inside in ["10.255.0.1", "::ffff:10.0.0.1", "192.0.2.7", "2001:db8:7fff::1"] {
            assert!(has(inside), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.8", "2001:db8:8000::1", "::ffff:11.0.0.1", "::1"] {
            assert!(!has(outside), "{outside}");
        }
        assert!(!Networks::default().contains("10.0.0.1".parse().expect("an address")));
        let everybody = Networks::parse("0.0.0.0/0").expect("valid");
        assert!(everybody.contains("9.9.9.9".parse().expect("v4")) && !everybody.contains("::1".parse().expect("v6")));
    }

    #[test]
    fn a_text_is_read_as_it_is_shown_and_anything_else_is_refused() {
        let text = "10.0.0.0/8, 192.0.2.7/32, ::1/128";
        let networks = Networks::parse("10.0.0.0/8,192.0.2.7, ::1").expect("valid");
        assert_eq!(networks.to_string(), text);
        assert_eq!(Networks::parse(text), Some(networks));
        for wrong in ["", ",", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "::/129", "lb.example", "10.0.0.0/255.0.0.0"]
        {
            assert_eq!(Networks::parse(wrong), None, "{wrong:?}");
        }
    }
}
