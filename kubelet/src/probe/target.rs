//! Where a probe or hook goes: ports by name, and addresses as upstream writes them.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The specification leads nowhere.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    #[error("invalid port number: {0}")]
    Number(i32),
    #[error("port {0:?} not found")]
    Name(String),
    #[error("invalid host {0:?}")]
    Host(String),
}

/// A port by number, or by its name in the container.
pub(crate) fn port(of: &IntOrString, container: &Container) -> Result<u16, Error> {
    let number = match of {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .map(|port| port.container_port)
            .ok_or_else(|| Error::Name(name.clone()))?,
    };
    match u16::try_from(number) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(Error::Number(number)),
    }
}

/// `host:port`, with brackets around addresses of IPv6.
pub(crate) fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// A duration as Go prints it.
pub(crate) fn go_duration(duration: Duration) -> String {
    let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    proto::time::Duration(nanos).to_string()
}

/// An address of the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) https: bool,
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The port as it is written: none where a redirect left it out.
    written_port: bool,
    /// Path and query, escaped; it may lack the slash at its start.
    pub(crate) path: String,
}

impl Url {
    /// An address out of a specification. The path may have a query; whatever it is, it is sent.
    pub(crate) fn new(scheme: &str, host: &str, port: u16, path: &str) -> Result<Self, Error> {
        let is_host = |host: &str| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !b"/?#@[]\\\"<>^`{|}".contains(&b))
        };
        if !is_host(host) {
            return Err(Error::Host(host.to_owned()));
        }
        Ok(Self {
            https: scheme.eq_ignore_ascii_case("https"),
            host: host.to_owned(),
            port,
            written_port: true,
            path: escaped(without_origin(path)),
        })
    }

    pub(crate) const fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// Host and port as they are written.
    pub(crate) fn authority(&self) -> String {
        match (self.written_port, self.host.contains(':')) {
            (true, _) => join(&self.host, self.port),
            (false, true) => format!("[{}]", self.host),
            (false, false) => self.host.clone(),
        }
    }

    /// What stands in the request's first line.
    pub(crate) fn request_target(&self) -> String {
        if self.path.starts_with('/') {
            self.path.clone()
        } else {
            format!("/{}", self.path)
        }
    }

    /// Where a `Location` leads that was sent from here.
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next().unwrap_or_default();
        let (scheme, rest) = match location.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            _ => match location.strip_prefix("//") {
                Some(rest) => (self.scheme().to_owned(), rest),
                None => {
                    return Some(Self {
                        path: relative(&self.request_target(), location),
                        ..self.clone()
                    });
                }
            },
        };
        if scheme != "http" && scheme != "https" {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit_once('@').map_or(authority, |(_, at)| at);
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']')?;
                (host, after.strip_prefix(':'))
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = port.filter(|port| !port.is_empty());
        let default = if scheme == "https" { 443 } else { 80 };
        let number = port.map_or(Some(default), |port| port.parse().ok())?;
        let joined = Self::new(&scheme, host, number, path).ok()?;
        Some(Self {
            written_port: port.is_some(),
            path: if joined.path.is_empty() {
                "/".into()
            } else {
                joined.path.clone()
            },
            ..joined
        })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())?;
        if !self.path.is_empty() && !self.path.starts_with(['/', '?']) {
            f.write_str("/")?;
        }
        f.write_str(&self.path)
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// A path that is a whole address keeps only what comes after its host.
fn without_origin(path: &str) -> &str {
    let path = path.split('#').next().unwrap_or_default();
    match path.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            &rest[end..]
        }
        _ => path,
    }
}

/// Escapes what cannot stand in an address. Escapes that are there stay, unless one is broken: then
/// none of them was meant as one.
fn escaped(text: &str) -> String {
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let broken = path.bytes().enumerate().any(|(at, byte)| {
        let digits = path.as_bytes().get(at + 1..at + 3);
        byte == b'%' && !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let mut out = String::new();
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || b"-_.~$&+,/:;=@!'()*[]".contains(&byte)
            || byte == b'%' && !broken;
        push(&mut out, byte, plain);
    }
    if let Some(query) = query {
        out.push('?');
        for byte in query.bytes() {
            let plain = byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
            push(&mut out, byte, plain);
        }
    }
    out
}

fn push(out: &mut String, byte: u8, plain: bool) {
    use std::fmt::Write;
    if plain {
        out.push(char::from(byte));
    } else {
        write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
    }
}

/// RFC 3986, 5.2: a reference without a host, resolved against a path.
fn relative(base: &str, to: &str) -> String {
    let base_path = base.split('?').next().unwrap_or_default();
    if to.is_empty() {
        return base.to_owned();
    }
    let (path, query) = match to.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (to, String::new()),
    };
    let whole = if path.is_empty() {
        base_path.to_owned()
    } else if path.starts_with('/') {
        path.to_owned()
    } else {
        let dir = base_path.rsplit_once('/').map_or("", |(dir, _)| dir);
        format!("{dir}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if whole.ends_with("/.") || whole.ends_with("/..") {
        parts.push("");
    }
    escaped(&format!("/{}{query}", parts.join("/")))
}
