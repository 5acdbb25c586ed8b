//! Addresses and ranges in forms that software reads differently.
//!
//! Old fields take more than the standard forms: leading zeros (which some read as octal), IPv4 addresses
//! in IPv6 form, ranges with bits beyond their prefix.

use std::net::IpAddr;

use proto::meta::address::{self, Range};
use proto::path::quote;

/// `GetWarningsForIP`: what is wrong with the form of an address.
#[must_use]
pub fn ip(value: &str) -> Option<String> {
    let sloppy = address::parse(value)?;
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
    let Some(range) = Range::parse(value) else {
        return Vec::new();
    };
    let Range { address, .. } = range;
    let mut found = Vec::new();
    let shown = range.to_string();
    if range.network() != address {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let one = format!("{}/{bits}", address.to_canonical());
        found.push(format!(
            "CIDR value {} is ambiguous in this context (should be {} or {}?)",
            quote(value),
            quote(&shown),
            quote(&one)
        ));
    }
    if !range.is_written_plainly(value) {
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
