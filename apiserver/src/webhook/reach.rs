//! Webhooks that objects name (`clientConfig`): a URL, or a service of the cluster.
//!
//! A service is resolved for each call, as its addresses change: to its cluster IP, or to one of its endpoints if the server
//! is told to reach endpoints itself. Without `WebhookRoundTripLoadBalancing` it is resolved for each connection: a call goes
//! where there is one without a call, wherever the service is by then. The API server's own service is this server, by its
//! [`Loopback`]. Everything is read from caches. Connections are pooled by address, authorities and credentials, are shared by
//! all webhooks that agree on these, and go with the last of them. Several requests at a time go over several connections
//! (HTTP/1.1), so that they spread over the endpoints behind an address (k8s#75791).
//!
//! Redirects are not followed, answers are bounded.
//!
//! Upstream: `apiserver/pkg/util/webhook/{client,authentication}.go`, `kube-aggregator/pkg/apiserver/resolvers.go`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use component::Supervisor;
use component::client::{self, Client, Config, ConfigError, Source};
use component::metrics::Metrics;
use http::Method;
use parking_lot::Mutex;
use proto::catalogue::{gate, names as n};
use proto::view::Node;

use crate::loopback::Loopback;
use crate::server::Server;

mod credentials;
mod service;
mod text;

pub use credentials::Credentials;
use service::Place;

/// The longest answer that is read: a patch may hold a whole object, in base64.
const MAX_ANSWER: usize = 8 << 20;
/// Addresses of one service to which connections are kept.
const ADDRESSES: usize = 16;
/// Who asks, upstream's name for it.
const AGENT: &str = "kube-apiserver-admission";
const LOOPBACK_AGENT: &str = "kube-apiserver";

/// Where a webhook is, and whom to believe there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    to: To,
    /// As requests are sent to it.
    path: String,
    /// PEM; empty for the system's authorities.
    ca: Box<[u8]>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum To {
    /// `host` or `host:port`.
    Url(String),
    Service {
        namespace: String,
        name: String,
        port: u16,
    },
}

impl Address {
    /// Reads a `clientConfig`.
    ///
    /// # Errors
    /// If it leads nowhere, which validation does not let pass.
    pub fn read(config: Node<'_>) -> Result<Self, String> {
        let ca = config.opt_bytes(n::CA_BUNDLE).unwrap_or_default().into();
        if let Some(service) = config.get(n::SERVICE).map(Node::new) {
            let port = service.opt_int(n::PORT).unwrap_or(0);
            let to = To::Service {
                namespace: service.str(n::NAMESPACE).to_owned(),
                name: service.str(n::NAME).to_owned(),
                port: u16::try_from(port).ok().filter(|p| *p > 0).unwrap_or(443),
            };
            let path = cleaned(service.str(n::PATH));
            return Ok(Self { to, path, ca });
        }
        let url = config.str(n::URL);
        if url.is_empty() {
            return Err("webhook configuration must have either service or URL".to_owned());
        }
        let parsed = url.parse::<http::Uri>();
        let parsed = parsed.map_err(|e| format!("Unparsable URL: {e}"))?;
        let host = parsed.authority().map(|a| a.as_str().to_owned());
        let host = host.ok_or_else(|| format!("Unparsable URL: {url}: no host"))?;
        let path = cleaned(parsed.path());
        let to = To::Url(host);
        Ok(Self { to, path, ca })
    }

    /// What its certificate is for, with the port: as messages name it, and as credentials are looked up.
    fn host(&self) -> String {
        match &self.to {
            To::Url(host) => host.clone(),
            To::Service {
                namespace,
                name,
                port,
            } => format!("{name}.{namespace}.svc:{port}"),
        }
    }
}

/// A path as Go's client sends it (`path.Join`): with a slash before and none behind, and no steps that lead nowhere.
fn cleaned(path: &str) -> String {
    let mut steps = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop();
            }
            step => steps.push(step),
        }
    }
    format!("/{}", steps.join("/"))
}

/// What all webhooks of one plugin share.
pub struct Reach {
    credentials: Credentials,
    shared: Mutex<HashMap<Key, Weak<Client>>>,
    tasks: Supervisor,
    metrics: Metrics,
}

/// What connections must have in common to be shared.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// `host:port`, where connections are made to; what a service is called that they find themselves.
    address: String,
    /// Connections find the service.
    finds: bool,
    /// Whom the other side must be; credentials follow from it.
    host: String,
    ca: Box<[u8]>,
}

/// Why there is no answer.
#[derive(thiserror::Error, Debug)]
pub enum Failed {
    /// There is no way to it at all.
    #[error("could not get REST client: {0}")]
    Client(String),
    /// The call went wrong. The code is its answer's, if there was one that was none to read.
    #[error("failed to call webhook: {why}")]
    Call { why: String, code: u16 },
}

impl Reach {
    #[must_use]
    pub fn new(credentials: Credentials, tasks: &Supervisor, metrics: &Metrics) -> Self {
        Self {
            credentials,
            shared: Mutex::default(),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
        }
    }

    fn client(&self, server: &Server, key: Key, to: &To) -> Result<Arc<Client>, Failed> {
        let mut shared = self.shared.lock();
        if let Some(client) = shared.get(&key).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let client = self.open(server, &key, to).map_err(|e| {
            let why = component::supervisor::chain(&e);
            Failed::Client(why)
        })?;
        let client = Arc::new(client);
        shared.retain(|_, client| client.strong_count() > 0);
        shared.insert(key, Arc::downgrade(&client));
        Ok(client)
    }

    fn open(&self, server: &Server, key: &Key, to: &To) -> Result<Client, ConfigError> {
        let mut config = Config::new(&format!("https://{}", key.address));
        config.host = Some(key.host.clone());
        config.server_name = Some(bare_name(&key.host).to_owned());
        config.ca = (!key.ca.is_empty()).then(|| Source::Inline(key.ca.to_vec()));
        config.http1 = true;
        match to {
            To::Url(host) => config.http1 = !is_local(bare_name(host)),
            To::Service {
                namespace,
                name,
                port,
            } if key.finds => {
                config.dial = Some(Place::new(server, namespace, name, *port).dial());
            }
            To::Service { .. } => {}
        }
        config.qps = -1.0;
        let agent = if Loopback::is(&with_port(&key.host)) {
            server.loopback.apply(&mut config);
            LOOPBACK_AGENT
        } else {
            self.credentials.apply(&key.host, &mut config)?;
            AGENT
        };
        Client::new(config, agent, &self.tasks, &self.metrics)
    }
}

/// The way to one webhook: its address, and the connections that it holds open.
pub struct Way {
    address: Result<Address, String>,
    open: Mutex<Vec<(String, Arc<Client>)>>,
}

impl Way {
    /// Of a `clientConfig`; one that leads nowhere fails when it is gone.
    #[must_use]
    pub fn new(config: Node<'_>) -> Self {
        Self {
            address: Address::read(config),
            open: Mutex::default(),
        }
    }

    /// Posts JSON, and reads what comes back, until a point in time.
    ///
    /// # Errors
    /// If nothing does that is an answer.
    pub async fn post(
        &self,
        reach: &Reach,
        server: &Server,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Failed> {
        let address = self.address.as_ref();
        let address = address.map_err(|why| Failed::Client(why.clone()))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let host = address.host();
        let path = format!("{}?timeout={}", address.path, whole_seconds(left));
        let asked = format!(
            "Post {}: ",
            proto::path::quote(&format!("https://{host}{path}"))
        );
        let failed = |why: &str| Failed::Call {
            why: format!("{asked}{why}"),
            code: 0,
        };
        let resolved = match &address.to {
            To::Url(host) => with_port(host),
            To::Service {
                namespace,
                name,
                port,
            } if balances(server) => {
                let place = Place::new(server, namespace, name, *port);
                place.resolve().map_err(|why| failed(&why))?
            }
            // Its connections find it.
            To::Service { .. } => host.clone(),
        };
        let client = self.client(reach, server, address, host, &resolved)?;
        let whole = async {
            let content = Some(("application/json", body));
            let sent = client.raw(Method::POST, &path, "application/json, */*", content);
            let response = sent
                .await
                .map_err(|error| match text::of(&error, &resolved) {
                    (code, why) if code > 0 => Failed::Call { why, code },
                    (_, why) => failed(&why),
                })?;
            let (_head, body) = response.into_parts();
            let read = client::read_all(body, MAX_ANSWER).await;
            read.map_err(|e| failed(&component::supervisor::chain(&e)))
        };
        let whole = tokio::time::timeout_at(deadline.into(), whole).await;
        whole.unwrap_or_else(|_| Err(failed("context deadline exceeded")))
    }

    fn client(
        &self,
        reach: &Reach,
        server: &Server,
        address: &Address,
        host: String,
        resolved: &str,
    ) -> Result<Arc<Client>, Failed> {
        let mut open = self.open.lock();
        if let Some((_, client)) = open.iter().find(|(at, _)| at == resolved) {
            return Ok(Arc::clone(client));
        }
        let key = Key {
            address: resolved.to_owned(),
            finds: matches!(address.to, To::Service { .. }) && !balances(server),
            host,
            ca: address.ca.clone(),
        };
        let client = reach.client(server, key, &address.to)?;
        if open.len() >= ADDRESSES {
            open.remove(0);
        }
        open.push((resolved.to_owned(), Arc::clone(&client)));
        Ok(client)
    }
}

/// Whether each call asks where its service is, and not each connection.
fn balances(server: &Server) -> bool {
    let gates = server.registry.gates;
    gates.has(gate::WEBHOOK_ROUND_TRIP_LOAD_BALANCING)
}

/// A host with the port of HTTPS, if it has none.
fn with_port(host: &str) -> String {
    let bare = host.rsplit_once(']').map_or(host, |(_, port)| port);
    if bare.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:443")
    }
}

/// A host without its port, and without the brackets of an IPv6 address.
fn bare_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Servers on this machine are no service with endpoints: one connection does for them.
fn is_local(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
}

/// What a webhook is told of its time, rounded up, as Go prints it.
fn whole_seconds(left: Duration) -> proto::time::Duration {
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    let nanos = i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000_000);
    proto::time::Duration(nanos)
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::admissionregistration_v1::WEBHOOK_CLIENT_CONFIG;
    use proto::codec::json::{Strictness, decode};

    use super::*;

    fn read(json: &str) -> Result<Address, String> {
        let decoded = decode(json.as_bytes(), WEBHOOK_CLIENT_CONFIG, Strictness::Strict);
        Address::read(Node::new(&decoded.unwrap().value))
    }

    #[test]
    fn a_webhook_is_a_url_or_a_service() {
        let service = read(
            r#"{"service":{"namespace":"ns","name":"svc","path":"/a/b/","port":8443},"caBundle":"eA=="}"#,
        )
        .unwrap();
        assert_eq!(service.host(), "svc.ns.svc:8443");
        assert_eq!((service.path.as_str(), &*service.ca), ("/a/b", &b"x"[..]));
        let plain = read(r#"{"service":{"namespace":"ns","name":"svc"}}"#).unwrap();
        assert_eq!(
            (plain.host().as_str(), plain.path.as_str()),
            ("svc.ns.svc:443", "/")
        );
        let url = read(r#"{"url":"https://example.com:1/x"}"#).unwrap();
        assert_eq!(
            (url.host().as_str(), url.path.as_str()),
            ("example.com:1", "/x")
        );
        let roundabout = read(r#"{"url":"https://example.com/../a//./b/../c/"}"#);
        assert_eq!(roundabout.unwrap().path, "/a/c");
        assert!(read("{}").is_err());
        assert!(read(r#"{"url":"/x"}"#).is_err());
    }

    #[test]
    fn names_and_ports_of_hosts_are_told_apart() {
        for (host, named, whole) in [
            ("a.b", "a.b", "a.b:443"),
            ("a.b:1", "a.b", "a.b:1"),
            ("[::1]", "::1", "[::1]:443"),
            ("[::1]:1", "::1", "[::1]:1"),
        ] {
            assert_eq!((bare_name(host), with_port(host).as_str()), (named, whole));
        }
        assert!(is_local("LOCALHOST") && is_local("127.0.0.2") && is_local("::1"));
        assert!(!is_local("svc.ns.svc") && !is_local("10.0.0.1"));
    }

    #[test]
    fn a_webhook_is_told_of_whole_seconds() {
        let told = |ms| whole_seconds(Duration::from_millis(ms)).to_string();
        assert_eq!(told(1000), "1s");
        assert_eq!(told(9_001), "10s");
        assert_eq!(told(60_000), "1m0s");
    }
}
