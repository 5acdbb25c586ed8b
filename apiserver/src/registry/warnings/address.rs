//! Addresses and ranges in forms that software reads differently.
//!
//! Old fields take more than the standard forms: leading zeros (which some read as octal), IPv4 addresses
//! in IPv6 form, ranges with bits beyond their prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto::path::quote;

/// `GetWarningsForIP`: what is wrong with the form of an address.
#[must_use]
pub fn ip(value: &str) -> Option<String> {
    let sloppy = parse_sloppy(value)?;
    match value.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => {
            let canonical = v6.to_string();
            (canonical != value).then(|| {
                format!(
                    "IPv6 address {} should be in RFC 5952 canonical format ({})",
                    quote(value),
                    quote(&canonical)
                )
            })
        }
        Ok(IpAddr::V4(_)) => None,
        _ => Some(format!(
            "non-standard IP address {} is invalid: use {}",
            quote(value),
            quote(&sloppy.to_canonical().to_string())
        )),
    }
}

/// `GetWarningsForCIDR`: what is wrong with the form of a range.
#[must_use]
pub fn cidr(value: &str) -> Vec<String> {
    let Some((address, length)) = parse_range(value) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let network = masked(address, length);
    let shown = show_range(network, length);
    if network != address {
        let one = format!("{}/{}", address.to_canonical(), bits(address));
        found.push(format!(
            "CIDR value {} is ambiguous in this context (should be {} or {}?)",
            quote(value),
            quote(&shown),
            quote(&one)
        ));
    }
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if mapped || !is_standard(value) {
        found.push(format!(
            "non-standard CIDR value {} is invalid: use {}",
            quote(value),
            quote(&shown)
        ));
    }
    if found.is_empty() && address.is_ipv6() && shown != value {
        found.push(format!(
            "IPv6 CIDR value {} should be in RFC 5952 canonical format ({})",
            quote(value),
            quote(&shown)
        ));
    }
    found
}

/// An address, whose decimal numbers may have leading zeros.
fn parse_sloppy(value: &str) -> Option<IpAddr> {
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

/// A decimal number without its leading zeros.
fn without_zeros(number: &str) -> &str {
    match number.trim_start_matches('0') {
        "" => &number[..number.len().min(1)],
        rest => rest,
    }
}

fn parse_range(value: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = value.split_once('/')?;
    let address = parse_sloppy(address)?;
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let length: u32 = length.parse().ok().filter(|_| digits)?;
    (length <= bits(address)).then_some((address, length))
}

/// Neither part has leading zeros.
fn is_standard(value: &str) -> bool {
    value.split_once('/').is_some_and(|(address, length)| {
        address.parse::<IpAddr>().is_ok() && without_zeros(length) == length
    })
}

fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, length: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            Ipv4Addr::from(u32::from(v4) & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            Ipv6Addr::from(u128::from(v6) & mask).into()
        }
    }
}

/// A range of IPv4 addresses in IPv6 form is shown as what it is.
fn show_range(network: IpAddr, length: u32) -> String {
    const MAPPED: u32 = 96;
    match network {
        IpAddr::V6(v6) if length >= MAPPED && v6.to_ipv4_mapped().is_some() => {
            format!("{}/{}", network.to_canonical(), length - MAPPED)
        }
        _ => format!("{network}/{length}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_should_be_in_their_standard_form() {
        for (value, text) in [
            ("10.0.0.1", None),
            ("fd00::1", None),
            ("not an address", None),
            (
                "010.000.0.001",
                Some(r#"non-standard IP address "010.000.0.001" is invalid: use "10.0.0.1""#),
            ),
            (
                "::ffff:1.2.3.4",
                Some(r#"non-standard IP address "::ffff:1.2.3.4" is invalid: use "1.2.3.4""#),
            ),
            (
                "::ffff:1.2.03.4",
                Some(r#"non-standard IP address "::ffff:1.2.03.4" is invalid: use "1.2.3.4""#),
            ),
            (
                "FD00:0::1",
                Some(
                    r#"IPv6 address "FD00:0::1" should be in RFC 5952 canonical format ("fd00::1")"#,
                ),
            ),
        ] {
            assert_eq!(ip(value).as_deref(), text, "{value}");
        }
    }

    #[test]
    fn ranges_should_have_no_bits_beyond_their_prefix() {
        let cases: [(&str, &[&str]); 8] = [
            ("10.0.0.0/8", &[]),
            ("fd00::/64", &[]),
            ("10.0.0.0/33", &[]),
            ("10.0.0.0", &[]),
            (
                "10.1.2.3/8",
                &[
                    r#"CIDR value "10.1.2.3/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.1.2.3/32"?)"#,
                ],
            ),
            (
                "010.1.0.0/08",
                &[
                    r#"CIDR value "010.1.0.0/08" is ambiguous in this context (should be "10.0.0.0/8" or "10.1.0.0/32"?)"#,
                    r#"non-standard CIDR value "010.1.0.0/08" is invalid: use "10.0.0.0/8""#,
                ],
            ),
            (
                "::ffff:10.0.0.0/104",
                &[r#"non-standard CIDR value "::ffff:10.0.0.0/104" is invalid: use "10.0.0.0/8""#],
            ),
            (
                "FD00:0::/64",
                &[
                    r#"IPv6 CIDR value "FD00:0::/64" should be in RFC 5952 canonical format ("fd00::/64")"#,
                ],
            ),
        ];
        for (value, texts) in cases {
            assert_eq!(cidr(value), texts, "{value}");
        }
    }
}
