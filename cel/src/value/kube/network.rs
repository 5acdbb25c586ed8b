//! Addresses and networks, as Go's `net/netip` reads them. IPv4 written as IPv6 and zones are refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::quote;

/// An address and the length of its prefix. Host bits are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

/// An address, or what is wrong with it.
pub(crate) fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let address = parse(text).map_err(|why| {
        format!(
            "IP Address {} parse error during conversion from string: {why}",
            quote(text)
        )
    })?;
    match address {
        (_, true) => Err(format!(
            "IP address {} with zone value is not allowed",
            quote(text)
        )),
        (address, _) if is_mapped(address) => Err(format!(
            "IPv4-mapped IPv6 address {} is not allowed",
            quote(text)
        )),
        (address, _) => Ok(address),
    }
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// An address, and whether it has a zone.
fn parse(text: &str) -> Result<(IpAddr, bool), String> {
    let wrong = |why: &str| format!("ParseAddr({}): {why}", quote(text));
    match text.find(['.', ':', '%']).map(|i| text.as_bytes()[i]) {
        Some(b'.') => v4(text)
            .map(|a| (IpAddr::V4(a), false))
            .map_err(|(why, at)| {
                if at.is_empty() {
                    wrong(why)
                } else {
                    format!("{} (at {})", wrong(why), quote(at))
                }
            }),
        Some(b':') => v6(text).map_err(|why| wrong(&why)),
        Some(_) => Err(wrong("missing IPv6 address")),
        None => Err(wrong("unable to parse IP")),
    }
}

fn v4(text: &str) -> Result<Ipv4Addr, (&'static str, &str)> {
    let bytes = text.as_bytes();
    let mut fields = [0_u8; 4];
    let (mut value, mut position, mut digits) = (0_u32, 0, 0);
    for (i, c) in bytes.iter().enumerate() {
        match c {
            b'0'..=b'9' => {
                if digits == 1 && value == 0 {
                    return Err(("IPv4 field has octet with leading zero", ""));
                }
                value = value * 10 + u32::from(c - b'0');
                digits += 1;
                if value > 255 {
                    return Err(("IPv4 field has value >255", ""));
                }
            }
            b'.' => {
                if i == 0 || i == bytes.len() - 1 || bytes[i - 1] == b'.' {
                    return Err(("IPv4 field must have at least one digit", &text[i..]));
                }
                if position == 3 {
                    return Err(("IPv4 address too long", ""));
                }
                fields[position] = u8::try_from(value).unwrap_or(0);
                position += 1;
                (value, digits) = (0, 0);
            }
            _ => return Err(("unexpected character", text.get(i..).unwrap_or(""))),
        }
    }
    if position < 3 {
        return Err(("IPv4 address too short", ""));
    }
    fields[3] = u8::try_from(value).unwrap_or(0);
    Ok(Ipv4Addr::from(fields))
}

fn v6(text: &str) -> Result<(IpAddr, bool), String> {
    let (address, zone) = match text.split_once('%') {
        Some((_, "")) => return Err("zone must be a non-empty string".into()),
        Some((address, _)) => (address, true),
        None => (text, false),
    };
    let at = |why: &str, rest: &str| {
        if rest.is_empty() {
            why.to_owned()
        } else {
            format!("{why} (at {})", quote(rest))
        }
    };
    if let Ok(parsed) = address.parse::<Ipv6Addr>() {
        return Ok((IpAddr::V6(parsed), zone));
    }
    // Why it is none: the groups from the left, as Go reads them.
    let mut rest = address.strip_prefix("::").unwrap_or(address);
    let mut groups = 0;
    let mut ellipsis = address.starts_with("::");
    while !rest.is_empty() && groups < 8 {
        let digits = rest
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(rest.len());
        if digits > 4 {
            return Err(at("each group must have 4 or less digits", rest));
        }
        if digits == 0 {
            return Err(at(
                "each colon-separated field must have at least one digit",
                rest,
            ));
        }
        groups += 1;
        let after = &rest[digits..];
        if after.starts_with('.') {
            return match v4(rest) {
                Err((why, rest)) => Err(at(why, rest)),
                Ok(_) => Err(at(
                    "embedded IPv4 address must replace the final 2 fields of the address",
                    rest,
                )),
            };
        }
        if after.is_empty() {
            rest = after;
            break;
        }
        let Some(next) = after.strip_prefix(':') else {
            return Err(at("unexpected character, want colon", after));
        };
        if next.is_empty() {
            return Err(at("colon must be followed by more characters", after));
        }
        rest = next;
        if let Some(next) = rest.strip_prefix(':') {
            if ellipsis {
                return Err(at("multiple :: in address", rest));
            }
            ellipsis = true;
            rest = next;
        }
    }
    if !rest.is_empty() {
        return Err(at("trailing garbage after address", rest));
    }
    if groups < 8 && !ellipsis {
        return Err("address string too short".into());
    }
    Err("the :: must expand to at least one field of zeros".into())
}

impl Cidr {
    /// A network, or what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const PREFIX: &str = "network address parse error during conversion from string";
        let wrong = |why: &str| format!("{PREFIX}: netip.ParsePrefix({}): {why}", quote(text));
        let (address, bits) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'"))?;
        let (address, zone) = parse(address).map_err(|why| wrong(&why))?;
        if zone {
            return Err(wrong("IPv6 zones cannot be present in a prefix"));
        }
        let bad = || wrong(&format!("bad bits after slash: {}", quote(bits)));
        if bits.len() > 1 && !matches!(bits.as_bytes()[0], b'1'..=b'9') {
            return Err(bad());
        }
        let length: i64 = bits.parse().map_err(|_| bad())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = u8::try_from(length)
            .ok()
            .filter(|bits| *bits <= longest)
            .ok_or_else(|| wrong("prefix length out of range"))?;
        if is_mapped(address) {
            return Err(format!(
                "IPv4-mapped IPv6 address {} is not allowed",
                quote(text)
            ));
        }
        Ok(Self { address, bits })
    }

    pub(crate) fn address(self) -> IpAddr {
        self.address
    }

    pub(crate) fn bits(self) -> u8 {
        self.bits
    }

    /// Without its host bits.
    pub(crate) fn masked(self) -> Self {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.bits))
                    .unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
            }
        };
        Self { address, ..self }
    }

    pub(crate) fn contains(self, address: IpAddr) -> bool {
        let other = Self { address, ..self };
        self.address.is_ipv4() == address.is_ipv4() && self.masked() == other.masked()
    }

    pub(crate) fn contains_all_of(self, other: Self) -> bool {
        self.bits <= other.bits && self.contains(other.address)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}
