//! Through which proxy a registry is reached, as the environment says it: `HTTPS_PROXY`,
//! `HTTP_PROXY`, `NO_PROXY`, in capitals or not.

use std::io;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::Authority;
use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the environment says. Empty: no proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    except: Vec<Exception>,
}

/// A proxy that is spoken to in plain HTTP.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    host: String,
    port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A host that is reached without.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    Net(IpNet),
    /// A name and everything below it, on one port or all. With a dot in front, only what is below.
    Name {
        name: String,
        only_below: bool,
        port: Option<u16>,
    },
}

/// The environment says something that cannot be done.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("{variable}: only http:// proxies are supported")]
pub struct Error {
    variable: &'static str,
}

/// Bytes of a proxy's answer to CONNECT.
const ANSWER_MAX: usize = 8 * 1024;

impl Proxies {
    /// Reads the variables through `get`, which is [`std::env::var`] but in tests.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let either = |name: &str| get(name).or_else(|| get(&name.to_lowercase()));
        let proxy = |variable: &'static str| -> Result<Option<Proxy>, Error> {
            let text = either(variable).filter(|text| !text.is_empty());
            text.map(|text| Proxy::parse(&text).ok_or(Error { variable }))
                .transpose()
        };
        let except = either("NO_PROXY").unwrap_or_default();
        Ok(Self {
            http: proxy("HTTP_PROXY")?,
            https: proxy("HTTPS_PROXY")?,
            except: except.split(',').filter_map(Exception::parse).collect(),
        })
    }

    /// The proxy for this place. One's own machine is always reached directly, as Go's client does.
    pub(super) fn of(&self, tls: bool, to: &Authority) -> Option<&Proxy> {
        let host = to.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let port = to.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let ip: Option<IpAddr> = host.parse().ok();
        let local = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
        if local
            || self
                .except
                .iter()
                .any(|except| except.covers(&host, port, ip))
        {
            return None;
        }
        if tls {
            self.https.as_ref()
        } else {
            self.http.as_ref()
        }
    }
}

impl Proxy {
    fn parse(text: &str) -> Option<Self> {
        let text = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = text
            .parse()
            .ok()
            .filter(|uri: &Uri| uri.scheme_str() == Some("http"))?;
        let authority = uri.authority()?;
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
        Some(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authorization: user.map(|user| format!("Basic {}", STANDARD.encode(user))),
        })
    }

    /// What a plain request has to carry.
    pub(super) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect((self.host.as_str(), self.port)).await
    }

    /// A connection through the proxy to somewhere else, for TLS.
    pub(super) async fn tunnel(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut stream = self.connect().await?;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let authorization = self.authorization.as_ref();
        let authorization = authorization.map_or(String::new(), |value| {
            format!("Proxy-Authorization: {value}\r\n")
        });
        let request =
            format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // Byte by byte: what follows the empty line belongs to TLS.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == ANSWER_MAX {
                return Err(io::Error::other("the proxy's answer does not end"));
            }
            answer.push(stream.read_u8().await?);
        }
        let status = answer.split(|b| *b == b'\r').next().unwrap_or_default();
        let status = String::from_utf8_lossy(status).into_owned();
        match status.split(' ').nth(1) {
            Some("200") => Ok(stream),
            _ => Err(io::Error::other(format!("the proxy refused: {status}"))),
        }
    }
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self::All);
        }
        if let Ok(net) = text.parse() {
            return Some(Self::Net(net));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(Self::Net(ip.into()));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        let stripped = name.strip_prefix("*.").or_else(|| name.strip_prefix('.'));
        let (name, only_below) = (stripped.unwrap_or(name).to_owned(), stripped.is_some());
        Some(Self::Name {
            name,
            only_below,
            port,
        })
    }

    fn covers(&self, host: &str, port: u16, ip: Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Net(net) => ip.is_some_and(|ip| net.contains(&ip)),
            Self::Name {
                name,
                only_below,
                port: only,
            } => {
                let below = host
                    .strip_suffix(name.as_str())
                    .is_some_and(|h| h.ends_with('.'));
                only.is_none_or(|only| only == port) && (below || (!only_below && host == name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(no_proxy: &str) -> Proxies {
        Proxies::from_env(|name| match name {
            "HTTPS_PROXY" => Some("http://me:pw@proxy.corp:3128".into()),
            "http_proxy" => Some("proxy.corp".into()),
            "NO_PROXY" => Some(no_proxy.into()),
            _ => None,
        })
        .unwrap()
    }

    #[test]
    fn hosts_are_excepted_as_go_does() {
        let proxies = proxies("corp.example, .only-below.io,10.0.0.0/8,ported.io:5000");
        let proxied = |to: &str| proxies.of(true, &to.parse().unwrap()).is_some();
        for direct in [
            "corp.example",
            "r.corp.example:5000",
            "r.only-below.io",
            "10.1.2.3:5000",
            "ported.io:5000",
            "localhost:5000",
            "127.0.0.1",
            "[::1]:443",
        ] {
            assert!(!proxied(direct), "{direct}");
        }
        for through in [
            "quay.io",
            "evilcorp.example",
            "only-below.io",
            "11.0.0.1",
            "ported.io",
        ] {
            assert!(proxied(through), "{through}");
        }
    }

    #[test]
    fn names_and_passwords_are_read_and_not_printed() {
        let proxies = proxies("");
        let https = proxies.of(true, &"quay.io".parse().unwrap()).unwrap();
        assert_eq!(https.authorization(), Some("Basic bWU6cHc="));
        assert_eq!(format!("{https:?}"), "proxy.corp:3128");
        assert_eq!(
            proxies.of(false, &"quay.io".parse().unwrap()).unwrap().port,
            80
        );
        let socks = Proxies::from_env(|name| (name == "HTTPS_PROXY").then(|| "socks5://x".into()));
        assert!(socks.is_err());
    }
}
