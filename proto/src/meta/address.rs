//! Addresses and ranges of addresses, as fields of different ages take them.
//!
//! Old fields read decimal numbers with leading zeros (which some software reads as octal) and IPv4
//! addresses in IPv6 form; since 1.36 new values of such fields may have neither (KEP-4858). New fields
//! take canonical forms only. Upstream: `apimachinery/pkg/util/validation/ip.go`, `k8s.io/utils/net`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::path::quote;

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NO_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// A range as it was written: the address may have bits beyond the prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub address: IpAddr,
    pub length: u32,
}

/// `IsValidIPForLegacyField`: the problems of a new value of an old field, which may have ambiguous forms if it is `lax`.
#[must_use]
pub fn legacy_ip_problems(value: &str, lax: bool) -> Vec<String> {
    if parse(value).is_none() {
        return vec![NO_ADDRESS.into()];
    }
    if lax {
        return Vec::new();
    }
    match value.parse::<IpAddr>() {
        Err(_) => vec!["must not have leading 0s".into()],
        Ok(address) if is_mapped(address) => {
            vec!["must not be an IPv4-mapped IPv6 address".into()]
        }
        Ok(_) => Vec::new(),
    }
}

/// `IsValidIP`: what is wrong with an address that must be in its canonical form.
#[must_use]
pub fn ip_problems(value: &str) -> Vec<String> {
    let problems = legacy_ip_problems(value, false);
    match parse(value).map(|address| address.to_canonical().to_string()) {
        Some(canonical) if problems.is_empty() && canonical != value => {
            vec![format!("must be in canonical form ({})", quote(&canonical))]
        }
        _ => problems,
    }
}

/// `IsValidCIDRForLegacyField`: the problems of a new value of an old field, which may have ambiguous forms if it is `lax`.
#[must_use]
pub fn legacy_cidr_problems(value: &str, lax: bool) -> Vec<String> {
    let Some(range) = Range::parse(value) else {
        return vec![NO_RANGE.into()];
    };
    if lax {
        return Vec::new();
    }
    let problem = if !is_standard(value) {
        "must not have leading 0s in IP or prefix length"
    } else if is_mapped(range.address) {
        "must not have an IPv4-mapped IPv6 address"
    } else if range.network() != range.address {
        "must not have bits set beyond the prefix length"
    } else {
        return Vec::new();
    };
    vec![problem.into()]
}

/// `IsValidCIDR`: what is wrong with a range that must be in its canonical form.
#[must_use]
pub fn cidr_problems(value: &str) -> Vec<String> {
    let problems = legacy_cidr_problems(value, false);
    match Range::parse(value).map(|range| range.to_string()) {
        Some(canonical) if problems.is_empty() && canonical != value => {
            vec![format!("must be in canonical form ({})", quote(&canonical))]
        }
        _ => problems,
    }
}

/// `ValidateEndpointIP`: addresses that traffic cannot be sent to.
#[must_use]
pub fn endpoint_ip_problems(value: &str) -> Vec<String> {
    let Some(address) = parse(value).map(|a| a.to_canonical()) else {
        return vec!["must be a valid IP address".into()];
    };
    let (unicast, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            (v6.is_unicast_link_local(), first & 0xff0f == 0xff02)
        }
    };
    let checks = [
        (
            address.is_unspecified(),
            format!("may not be unspecified ({value})"),
        ),
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".into(),
        ),
        (
            unicast,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".into(),
        ),
        (
            multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into(),
        ),
    ];
    let found = checks.into_iter().filter(|(is, _)| *is);
    found.map(|(_, text)| text).collect()
}

/// An address, whose decimal numbers may have leading zeros.
#[must_use]
pub fn parse(value: &str) -> Option<IpAddr> {
    if let Ok(address) = value.parse() {
        return Some(address);
    }
    // The decimal numbers of an IPv6 address are after its last colon.
    let (head, tail) = value
        .rsplit_once(':')
        .map_or(("", value), |(head, tail)| (&value[..=head.len()], tail));
    if !tail.contains('.') {
        return None;
    }
    let numbers: Vec<&str> = tail.split('.').map(without_zeros).collect();
    format!("{head}{}", numbers.join(".")).parse().ok()
}

/// Whether it is an address of IPv6; one of IPv4 in IPv6 form is not.
#[must_use]
pub fn is_ipv6(value: &str) -> bool {
    parse(value).is_some_and(|address| address.to_canonical().is_ipv6())
}

/// Whether both families are among the addresses.
#[must_use]
pub fn is_dual_stack<'a>(addresses: impl IntoIterator<Item = &'a str> + Clone) -> bool {
    let has = |six: bool| addresses.clone().into_iter().any(|a| is_ipv6(a) == six);
    has(true) && has(false)
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// A decimal number without its leading zeros.
fn without_zeros(number: &str) -> &str {
    match number.trim_start_matches('0') {
        "" => &number[..number.len().min(1)],
        rest => rest,
    }
}

/// Neither part has leading zeros.
fn is_standard(value: &str) -> bool {
    value.split_once('/').is_some_and(|(address, length)| {
        address.parse::<IpAddr>().is_ok() && without_zeros(length) == length
    })
}

impl Range {
    /// A range, whose numbers may have leading zeros.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (address, length) = value.split_once('/')?;
        let address = parse(address)?;
        let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        let length: u32 = length.parse().ok().filter(|_| digits)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (length <= bits).then_some(Self { address, length })
    }

    /// The address without the bits beyond the prefix.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - self.length).unwrap_or(0);
                Ipv4Addr::from(u32::from(v4) & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - self.length).unwrap_or(0);
                Ipv6Addr::from(u128::from(v6) & mask).into()
            }
        }
    }

    /// Whether the written form has no leading zeros and is no range of IPv4 in IPv6 form.
    #[must_use]
    pub fn is_written_plainly(self, value: &str) -> bool {
        !is_mapped(self.address) && is_standard(value)
    }
}

impl std::fmt::Display for Range {
    /// The network. A range of IPv4 addresses in IPv6 form is shown as what it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MAPPED: u32 = 96;
        let network = self.network();
        if self.length >= MAPPED && is_mapped(network) {
            write!(f, "{}/{}", network.to_canonical(), self.length - MAPPED)
        } else {
            write!(f, "{network}/{}", self.length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_fields_take_addresses_that_everyone_reads_alike() {
        for (value, problem) in [
            ("10.0.0.1", None),
            ("FD00:0::1", None),
            ("10.0.0.01", Some("must not have leading 0s")),
            (
                "::ffff:10.0.0.1",
                Some("must not be an IPv4-mapped IPv6 address"),
            ),
            ("10.0.0", Some(NO_ADDRESS)),
            ("", Some(NO_ADDRESS)),
        ] {
            let expected: Vec<String> = problem.into_iter().map(str::to_owned).collect();
            assert_eq!(legacy_ip_problems(value, false), expected, "{value}");
            let is_none = parse(value).is_none();
            assert_eq!(
                legacy_ip_problems(value, true).is_empty(),
                !is_none,
                "{value}"
            );
        }
        for (value, problem) in [
            ("10.0.0.0/8", None),
            ("0.0.0.0/0", None),
            ("::/0", None),
            (
                "10.0.0.1/8",
                Some("must not have bits set beyond the prefix length"),
            ),
            (
                "010.0.0.0/8",
                Some("must not have leading 0s in IP or prefix length"),
            ),
            (
                "10.0.0.0/08",
                Some("must not have leading 0s in IP or prefix length"),
            ),
            (
                "::ffff:10.0.0.0/104",
                Some("must not have an IPv4-mapped IPv6 address"),
            ),
            ("10.0.0.0/33", Some(NO_RANGE)),
            ("10.0.0.0", Some(NO_RANGE)),
        ] {
            let expected: Vec<String> = problem.into_iter().map(str::to_owned).collect();
            assert_eq!(legacy_cidr_problems(value, false), expected, "{value}");
            let is_none = Range::parse(value).is_none();
            assert_eq!(
                legacy_cidr_problems(value, true).is_empty(),
                !is_none,
                "{value}"
            );
        }
    }

    #[test]
    fn new_fields_take_canonical_forms() {
        assert!(ip_problems("fd00::1").is_empty());
        assert_eq!(
            ip_problems("FD00::1"),
            [r#"must be in canonical form ("fd00::1")"#]
        );
        assert!(cidr_problems("fd00::/64").is_empty());
        assert_eq!(
            cidr_problems("fd00:0::/64"),
            [r#"must be in canonical form ("fd00::/64")"#]
        );
    }

    #[test]
    fn endpoints_can_be_reached() {
        for value in ["10.0.0.1", "fd00::1", "ff05::1", "224.0.1.1"] {
            assert!(endpoint_ip_problems(value).is_empty(), "{value}");
        }
        for value in [
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.0.1",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "x",
        ] {
            assert_eq!(endpoint_ip_problems(value).len(), 1, "{value}");
        }
    }

    #[test]
    fn two_stacks_are_one_address_of_each() {
        assert!(is_dual_stack(["10.0.0.1", "fd00::1"]));
        assert!(!is_dual_stack(["10.0.0.1", "::ffff:10.0.0.2"]));
        assert!(!is_dual_stack(["fd00::1"]));
    }
}
