//! Addresses and networks: `apiserver/pkg/cel/library/{ip,cidr}.go`.

use std::net::IpAddr;

use super::{Functions, opaque, overloads, text};
use crate::error::Error;
use crate::value::{Cidr, Opaque, Outcome, Value, parse_ip};

pub(super) fn add_ip(f: &mut Functions) {
    overloads!(f;
        function "ip" "string_to_ip" "string -> ip" |a| {
            let ip = parse_ip(text(a, 0)?).map_err(Error::new)?;
            Ok(Value::opaque(Opaque::Ip(ip)))
        };
        method "family" "ip_family" "ip -> int" |a| {
            Ok(Value::Int(if ip(a)?.is_ipv4() { 4 } else { 6 }))
        };
        function "ip.isCanonical" "ip_is_canonical" "string -> bool" |a| {
            let written = text(a, 0)?;
            let ip = parse_ip(written).map_err(Error::new)?;
            Ok(Value::Bool(ip.to_string() == written))
        };
    );
    let mut is = |name, id, body| f.method(name, id, "ip -> bool", body);
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
    overloads!(f;
        function "isIP" "is_ip" "string -> bool" |a| Ok(Value::Bool(parse_ip(text(a, 0)?).is_ok()));
        function "string" "ip_to_string" "ip -> string" |a| Ok(Value::owned(ip(a)?.to_string()));
    );
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
    overloads!(f;
        function "cidr" "string_to_cidr" "string -> cidr"
            |a| Ok(Value::opaque(Opaque::Cidr(parse_cidr(text(a, 0)?)?)));
        method "containsIP" "cidr_contains_ip_string" "cidr, string -> bool" |a| {
            // Upstream forgets why it is none.
            let address = parse_ip(text(a, 1)?).map_err(|_| Error::no_such_overload())?;
            Ok(Value::Bool(cidr(a, 0)?.contains(address)))
        };
        method "containsIP" "cidr_contains_ip_ip" "cidr, ip -> bool"
            |a| Ok(Value::Bool(cidr(a, 0)?.contains(ip(&a[1..])?)));
        method "containsCIDR" "cidr_contains_cidr_string" "cidr, string -> bool"
            |a| contains_all(cidr(a, 0)?, parse_cidr(text(a, 1)?)?);
        method "containsCIDR" "cidr_contains_cidr" "cidr, cidr -> bool"
            |a| contains_all(cidr(a, 0)?, cidr(a, 1)?);
        method "ip" "cidr_ip" "cidr -> ip" |a| Ok(Value::opaque(Opaque::Ip(cidr(a, 0)?.address())));
        method "prefixLength" "cidr_prefix_length" "cidr -> int"
            |a| Ok(Value::Int(cidr(a, 0)?.bits().into()));
        method "masked" "cidr_masked" "cidr -> cidr"
            |a| Ok(Value::opaque(Opaque::Cidr(cidr(a, 0)?.masked())));
        function "isCIDR" "is_cidr" "string -> bool"
            |a| Ok(Value::Bool(Cidr::parse(text(a, 0)?).is_ok()));
        function "string" "cidr_to_string" "cidr -> string"
            |a| Ok(Value::owned(cidr(a, 0)?.to_string()));
    );
}

fn contains_all<'a>(outer: Cidr, inner: Cidr) -> Outcome<'a> {
    Ok(Value::Bool(outer.contains_all_of(inner)))
}
