//! Addresses and networks: `apiserver/pkg/cel/library/{ip,cidr}.go`.

use std::net::IpAddr;

use super::{Functions, opaque, text};
use crate::error::Error;
use crate::types::Type;
use crate::value::{Cidr, Opaque, Outcome, Value, parse_ip};

fn ip_type() -> Type {
    Type::opaque("net.IP")
}

fn cidr_type() -> Type {
    Type::opaque("net.CIDR")
}

pub(super) fn add_ip(f: &mut Functions) {
    f.function("ip", "string_to_ip", [Type::String], ip_type(), |a| {
        let ip = parse_ip(text(a, 0)?).map_err(Error::new)?;
        Ok(Value::opaque(Opaque::Ip(ip)))
    });
    f.method("family", "ip_family", [ip_type()], Type::Int, |a| {
        Ok(Value::Int(if ip(a)?.is_ipv4() { 4 } else { 6 }))
    });
    f.function(
        "ip.isCanonical",
        "ip_is_canonical",
        [Type::String],
        Type::Bool,
        |a| {
            let written = text(a, 0)?;
            let ip = parse_ip(written).map_err(Error::new)?;
            Ok(Value::Bool(ip.to_string() == written))
        },
    );
    let mut is = |name, id, body| f.method(name, id, [ip_type()], Type::Bool, body);
    is("isUnspecified", "ip_is_unspecified", |a| {
        Ok(Value::Bool(ip(a)?.is_unspecified()))
    });
    is("isLoopback", "ip_is_loopback", |a| {
        Ok(Value::Bool(ip(a)?.is_loopback()))
    });
    is("isLinkLocalMulticast", "ip_is_link_local_multicast", |a| {
        Ok(Value::Bool(match ip(a)? {
            IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
            IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
        }))
    });
    is("isLinkLocalUnicast", "ip_is_link_local_unicast", |a| {
        Ok(Value::Bool(is_link_local(ip(a)?)))
    });
    is("isGlobalUnicast", "ip_is_global_unicast", |a| {
        let ip = ip(a)?;
        let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        Ok(Value::Bool(
            !ip.is_unspecified()
                && !is_broadcast
                && !ip.is_loopback()
                && !ip.is_multicast()
                && !is_link_local(ip),
        ))
    });
    f.function("isIP", "is_ip", [Type::String], Type::Bool, |a| {
        Ok(Value::Bool(parse_ip(text(a, 0)?).is_ok()))
    });
    f.function("string", "ip_to_string", [ip_type()], Type::String, |a| {
        Ok(Value::owned(ip(a)?.to_string()))
    });
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn ip(args: &[Value<'_>]) -> Result<IpAddr, Error> {
    match opaque(args, 0)? {
        Opaque::Ip(ip) => Ok(*ip),
        _ => Err(Error::no_such_overload()),
    }
}

fn cidr(args: &[Value<'_>], index: usize) -> Result<Cidr, Error> {
    match opaque(args, index)? {
        Opaque::Cidr(cidr) => Ok(*cidr),
        _ => Err(Error::no_such_overload()),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, Error> {
    Cidr::parse(text).map_err(|why| {
        Error::new(format!(
            "network address parse error during conversion from string: {why}"
        ))
    })
}

pub(super) fn add_cidr(f: &mut Functions) {
    f.function("cidr", "string_to_cidr", [Type::String], cidr_type(), |a| {
        Ok(Value::opaque(Opaque::Cidr(parse_cidr(text(a, 0)?)?)))
    });
    f.method(
        "containsIP",
        "cidr_contains_ip_string",
        [cidr_type(), Type::String],
        Type::Bool,
        |a| {
            // Upstream forgets why it is none.
            let address = parse_ip(text(a, 1)?).map_err(|_| Error::no_such_overload())?;
            Ok(Value::Bool(cidr(a, 0)?.contains(address)))
        },
    );
    f.method(
        "containsIP",
        "cidr_contains_ip_ip",
        [cidr_type(), ip_type()],
        Type::Bool,
        |a| Ok(Value::Bool(cidr(a, 0)?.contains(ip(&a[1..])?))),
    );
    f.method(
        "containsCIDR",
        "cidr_contains_cidr_string",
        [cidr_type(), Type::String],
        Type::Bool,
        |a| contains_all(cidr(a, 0)?, parse_cidr(text(a, 1)?)?),
    );
    f.method(
        "containsCIDR",
        "cidr_contains_cidr",
        [cidr_type(), cidr_type()],
        Type::Bool,
        |a| contains_all(cidr(a, 0)?, cidr(a, 1)?),
    );
    f.method("ip", "cidr_ip", [cidr_type()], ip_type(), |a| {
        Ok(Value::opaque(Opaque::Ip(cidr(a, 0)?.address())))
    });
    f.method(
        "prefixLength",
        "cidr_prefix_length",
        [cidr_type()],
        Type::Int,
        |a| Ok(Value::Int(cidr(a, 0)?.bits().into())),
    );
    f.method("masked", "cidr_masked", [cidr_type()], cidr_type(), |a| {
        Ok(Value::opaque(Opaque::Cidr(cidr(a, 0)?.masked())))
    });
    f.function("isCIDR", "is_cidr", [Type::String], Type::Bool, |a| {
        Ok(Value::Bool(Cidr::parse(text(a, 0)?).is_ok()))
    });
    f.function(
        "string",
        "cidr_to_string",
        [cidr_type()],
        Type::String,
        |a| Ok(Value::owned(cidr(a, 0)?.to_string())),
    );
}

fn contains_all<'a>(outer: Cidr, inner: Cidr) -> Outcome<'a> {
    Ok(Value::Bool(outer.contains_all_of(inner)))
}
