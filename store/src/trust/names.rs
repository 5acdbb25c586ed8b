//! Whether a certificate is made out to a host: Go's `VerifyHostname`. The common name counts for nothing.

use std::net::IpAddr;

use rustls::pki_types::ServerName;

use super::Untrusted;
use super::certificate::Certificate;

/// How many names of a certificate a message lists.
const MOST_LISTED: usize = 100;

pub(super) fn verify(certificate: &Certificate, name: &ServerName<'_>) -> Result<(), Untrusted> {
    let matches = match name {
        ServerName::IpAddress(address) => {
            let address = IpAddr::from(*address).to_canonical();
            let mut own = certificate.names.iter().flat_map(|n| &n.addresses);
            own.any(|own| own.to_canonical() == address)
        }
        ServerName::DnsName(host) => {
            let host = host.as_ref().to_ascii_lowercase();
            let mut own = certificate.names.iter().flat_map(|n| &n.dns);
            own.any(|own| is_for(&own.to_ascii_lowercase(), &host))
        }
        _ => false,
    };
    match matches {
        true => Ok(()),
        false => Err(Untrusted::Name(mismatch(certificate, name))),
    }
}

/// Names that could be a host's may begin with a wildcard; whatever else stands there must be equal.
fn is_for(own: &str, host: &str) -> bool {
    if is_valid(host, false) && is_valid(own, true) {
        matches(own, host)
    } else {
        let empty = |name: &str| name.is_empty() || name == ".";
        !empty(own) && !empty(host) && own == host
    }
}

/// Label by label, in lower case; a host may end with a dot.
fn matches(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    if pattern.is_empty() {
        return false;
    }
    let (own, wanted) = (pattern.split('.'), host.split('.'));
    own.clone().count() == wanted.clone().count()
        && own
            .zip(wanted)
            .enumerate()
            .all(|(i, (own, wanted))| (i == 0 && own == "*") || own == wanted)
}

/// Whether it looks like a host's name; a pattern may have `*` for its first label, and no dot at its end.
fn is_valid(name: &str, pattern: bool) -> bool {
    let name = match pattern {
        true => name,
        false => name.strip_suffix('.').unwrap_or(name),
    };
    if name.is_empty() || name == "*" {
        return false;
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let mut labels = name.split('.').enumerate();
    labels.all(|(i, label)| (pattern && i == 0 && label == "*") || is_label(label))
}

/// Go's `HostnameError`.
fn mismatch(certificate: &Certificate, name: &ServerName<'_>) -> String {
    let host = name.to_str();
    let common = certificate.common_name.to_ascii_lowercase();
    if certificate.names.is_none() && matches(&common, &host.to_ascii_lowercase()) {
        return "certificate relies on legacy Common Name field, use SANs instead".to_owned();
    }
    let names = certificate.names.as_ref();
    let (valid, kind): (Vec<String>, _) = match name {
        ServerName::IpAddress(_) => {
            let addresses = names.map(|n| n.addresses.as_slice()).unwrap_or_default();
            if addresses.is_empty() {
                return format!(
                    "cannot validate certificate for {host} because it doesn't contain any IP SANs"
                );
            }
            let shown = addresses.iter().map(|a| a.to_canonical().to_string());
            (shown.collect(), "IP SANs")
        }
        _ => (names.map(|n| n.dns.clone()).unwrap_or_default(), "names"),
    };
    match valid.len() {
        0 => {
            format!("certificate is not valid for any names, but wanted to match {host}")
        }
        count if count >= MOST_LISTED => {
            format!("certificate is valid for {count} {kind}, but none matched {host}")
        }
        _ => format!("certificate is valid for {}, not {host}", valid.join(", ")),
    }
}
