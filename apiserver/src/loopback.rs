//! The way from this server to itself: for webhooks that name the API server's own service, which nothing needs to route
//! and whose certificate need not be for that name.
//!
//! It leads through the listener as every client's does. A certificate that only this process trusts is shown to whoever asks
//! for [`NAME`], and a token that only this process has stands for the server as a user. Both are made at the start and are
//! never written down. Upstream: `apiserver/pkg/server/{config_selfclient.go,options/serving_with_loopback.go}`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use component::client::{Bearer, Config, Source};
use component::serving::{self, Identity, Options, Pair, Sni};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::auth::{self, User};

/// The name that the certificate is for; upstream's.
const NAME: &str = "apiserver-loopback-client";
/// How long the certificate holds, in days: upstream's three years, after which the server must have been started anew.
const VALIDITY: i64 = 3 * 365 + 1;
/// The service that the API server is in its cluster, and what webhooks call it that say so by a URL.
const SERVICE: (&str, &str, u16) = ("default", "kubernetes", 443);
const HOST: &str = "kubernetes.default.svc:443";

/// How this server reaches itself.
pub struct Loopback {
    certificate: String,
    token: String,
    uid: String,
    address: SocketAddr,
}

impl Loopback {
    /// Has the listener show the certificate.
    ///
    /// # Errors
    /// If none can be made.
    pub fn open(serving: &mut Options) -> Result<Self, serving::Error> {
        let Pair { cert, key } = serving::in_memory(&[NAME.to_owned()], VALIDITY)?;
        let own = Sni {
            identity: Identity::Memory(Pair {
                cert: cert.clone(),
                key,
            }),
            names: vec![NAME.to_owned()],
        };
        if let Some(tls) = &mut serving.tls {
            // No other is shown for that name.
            tls.sni.insert(0, own);
        }
        Ok(Self {
            certificate: cert,
            token: Uuid::new_v4().to_string(),
            uid: Uuid::new_v4().to_string(),
            address: serving.address,
        })
    }

    /// The same of a listener that has its port.
    #[must_use]
    pub fn bound(mut self, port: u16) -> Self {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        self.address = SocketAddr::new(ip, port);
        self
    }

    /// The server, if the token is its own.
    #[must_use]
    pub fn user(&self, token: &str) -> Option<User> {
        let own = self.token.as_bytes().ct_eq(token.as_bytes());
        bool::from(own).then(|| User {
            uid: self.uid.clone(),
            ..auth::loopback()
        })
    }

    /// Where a port of a service is, if it is this server's.
    #[must_use]
    pub fn resolve(&self, namespace: &str, name: &str, port: u16) -> Option<String> {
        ((namespace, name, port) == SERVICE).then(|| self.address.to_string())
    }

    /// Whether a client of `host` (`name:port`) shows what this server shows itself.
    #[must_use]
    pub fn is(host: &str) -> bool {
        host == HOST
    }

    /// Makes a client one of this server, which believes whom it believed besides.
    pub fn apply(&self, config: &mut Config) {
        let mut ca = self.certificate.clone().into_bytes();
        if let Some(Source::Inline(given)) = &config.ca {
            ca.push(b'\n');
            ca.extend_from_slice(given);
        }
        config.ca = Some(Source::Inline(ca));
        config.server_name = Some(NAME.to_owned());
        config.bearer = Some(Bearer::Token(self.token.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Loopback {
        let mut serving = Options::plain(address.parse().unwrap());
        Loopback::open(&mut serving).unwrap().bound(6443)
    }

    #[test]
    fn only_its_own_token_stands_for_the_server() {
        let (one, other) = (at("0.0.0.0:0"), at("0.0.0.0:0"));
        let user = one.user(&one.token).unwrap();
        assert_eq!(
            (user.name.as_str(), user.is_in(User::MASTERS)),
            ("system:apiserver", true)
        );
        for wrong in [other.token.as_str(), "", &one.token[1..]] {
            assert_eq!(one.user(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_servers_service_is_where_it_listens_and_nothing_else_is() {
        let found = |listens: &str| at(listens).resolve("default", "kubernetes", 443);
        for (listens, wanted) in [
            ("0.0.0.0:0", "127.0.0.1:6443"),
            ("[::]:0", "[::1]:6443"),
            ("10.1.2.3:0", "10.1.2.3:6443"),
        ] {
            assert_eq!(found(listens).as_deref(), Some(wanted));
        }
        let own = at("0.0.0.0:0");
        assert_eq!(own.resolve("default", "kubernetes", 8443), None);
        assert_eq!(own.resolve("kube-system", "kubernetes", 443), None);
        assert_eq!(own.resolve("default", "other", 443), None);
    }
}
