//! Servers of one cluster that do not serve the same (KEP-4020, `UnknownVersionInteroperabilityProxy`): while a cluster
//! is upgraded, or ours stands beside upstream's.
//!
//! Each says in etcd where it is ([`place`]) and that it is there (its identity lease). With `--peer-ca-file` a server
//! asks the others what they serve ([`sync`]), tells it in its own discovery ([`merge`]), and hands on to them what
//! it does not serve itself. A request is handed on once: the other serves it or says that there is no such thing.
//!
//! Upstream: `apiserver/pkg/util/peerproxy`, `apiserver/pkg/reconcilers/peer_endpoint_lease.go`,
//! `apiserver/pkg/endpoints/discovery/aggregated/peer_aggregated_handler.go`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use component::Supervisor;
use component::client::Client;
use component::metrics::{Counters, Metrics};
use component::serving::User;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::RwLock;
use rand::seq::SliceRandom;
use resources::request::RequestInfo;
use resources::status::Failure;

use crate::body::Body;
use crate::chain::Exchange;
use crate::config::{Kubelet, PeerConfig};
use crate::discovery::Aggregated;
use crate::handler;
use crate::kubelet::{Kubelets, Target, Trust};
use crate::server::Server;
use crate::stream::forward;

mod known;
mod merge;
mod place;
mod sync;
mod ways;

use known::Peer;
pub use place::hooks;
pub use sync::start;
use ways::{NAME, Ways};

/// Says that a request comes from another server that does not serve it.
const PROXIED: &str = "x-kubernetes-peer-proxied";

/// The other servers of the cluster.
pub struct Peers {
    ways: Ways,
    /// For requests that are upgraded.
    upgrades: Kubelets,
    known: RwLock<Arc<Known>>,
    counted: Counted,
}

/// What the others said last.
#[derive(Default)]
struct Known {
    peers: Vec<Peer>,
    /// What this server and they serve; nothing if they serve what it does.
    merged: Option<Arc<Aggregated>>,
}

struct Counted {
    requests: Counters<4>,
    errors: Counters<4>,
    syncs: Counters<1>,
}

impl Peers {
    /// None without `--peer-ca-file`.
    ///
    /// # Errors
    /// If certificates cannot be used.
    pub fn open(
        config: &PeerConfig,
        tasks: &Supervisor,
        metrics: &Metrics,
    ) -> anyhow::Result<Option<Self>> {
        let Some(ca) = &config.ca else {
            return Ok(None);
        };
        let upgrades = Kubelet {
            ca: Some(ca.clone()),
            client: config.client.clone(),
            address_types: Vec::new(),
            timeout: Duration::ZERO,
        };
        Ok(Some(Self {
            ways: Ways::open(ca, config.client.as_ref(), tasks, metrics)?,
            upgrades: Kubelets::new(&upgrades, tasks)?,
            known: RwLock::default(),
            counted: Counted::register(metrics),
        }))
    }

    /// Everything that is served at `/apis`, here or elsewhere; nothing if that is what is served here.
    #[must_use]
    pub fn discovery(&self) -> Option<Arc<Aggregated>> {
        self.known.read().merged.clone()
    }

    /// Who serves what is asked for, by its identity.
    fn able(&self, info: &RequestInfo) -> Vec<String> {
        let known = self.known.read().clone();
        let serves = |peer: &&Peer| peer.serves(&info.group, &info.version, &info.resource);
        let able = known.peers.iter().filter(serves);
        able.map(|peer| peer.id.clone()).collect()
    }

    /// A way to a peer, as etcd has it now.
    async fn target(&self, server: &Server, id: &str) -> Result<Target, Failure> {
        let (host, port) = place::of(server, id).await?;
        Ok(Target {
            host,
            port,
            trust: Trust::Kubelet,
            name: Some(NAME),
            global_only: false,
        })
    }

    /// The connections to a peer that is there.
    fn way(&self, id: &str, target: &Target) -> Result<Client, Failure> {
        let way = self.ways.to(id, &target.authority());
        way.map_err(|e| Failure::internal(component::supervisor::chain(&e)))
    }
}

impl Counted {
    fn register(metrics: &Metrics) -> Self {
        Self {
            requests: metrics.registered(
                "apiserver_rerouted_request_total",
                "Requests that a peer answered because this server does not serve what they ask for; without group, \
                 version and resource those for what the peer serves",
                Counters::default(),
            ),
            errors: metrics.registered(
                "apiserver_peer_proxy_errors_total",
                "Requests that no peer was found for",
                Counters::default(),
            ),
            syncs: metrics.registered(
                "apiserver_peer_discovery_sync_errors_total",
                "Failures to learn what a peer serves",
                Counters::default(),
            ),
        }
    }

    fn request(&self, code: StatusCode, [group, version, resource]: [&str; 3]) {
        let labels = [
            ("code", code.as_u16().to_string()),
            ("group", group.to_owned()),
            ("version", version.to_owned()),
            ("resource", resource.to_owned()),
        ];
        self.requests.get_or_create(&labels).inc();
    }

    fn error(&self, kind: &str, info: &RequestInfo) {
        let labels = [
            ("type", kind.to_owned()),
            ("group", info.group.clone()),
            ("version", info.version.clone()),
            ("resource", info.resource.clone()),
        ];
        self.errors.get_or_create(&labels).inc();
    }

    fn sync(&self, kind: &str) {
        self.syncs.get_or_create(&[("type", kind.to_owned())]).inc();
    }
}

/// The peers that serve what this server does not; none for what a peer sent here.
#[must_use]
pub fn able(x: &Exchange) -> Vec<String> {
    let sent = x.headers.get(PROXIED).is_some_and(|v| v == "true");
    match &x.server.peers {
        Some(peers) if !sent => peers.able(&x.info),
        _ => Vec::new(),
    }
}

/// Hands a request on to one of these peers.
pub async fn hand_on(
    x: &mut Exchange,
    mut able: Vec<String>,
    incoming: Incoming,
) -> Response<Body> {
    let server = x.server.clone();
    let Some(peers) = &server.peers else {
        return x.failed(&Failure::no_such_resource());
    };
    able.shuffle(&mut rand::rng());
    let mut found = None;
    for id in &able {
        match peers.target(&server, id).await {
            Ok(target) => {
                found = Some((id, target));
                break;
            }
            Err(failure) => tracing::warn!(peer = id, error = %failure, "A peer is not found"),
        }
    }
    let Some((id, target)) = found else {
        peers.counted.error("endpoint_resolution", &x.info);
        let text = "Error getting ip and port info of the remote server while proxying";
        return x.failed(&Failure::unavailable(text));
    };
    tracing::debug!(
        path = x.info.path,
        peer = target.authority(),
        "Handing a request on"
    );
    let deadline = tokio::time::Instant::from_std(x.deadline);
    let late = Failure::timeout("request did not complete within the allotted timeout");
    let read = handler::read_body(&x.headers, incoming);
    let body = match tokio::time::timeout_at(deadline, read).await {
        Ok(Ok(body)) => body,
        Ok(Err(failure)) => return x.failed(&failure),
        Err(_) => return x.failed(&late),
    };
    let asked = ask(x, peers, id, &target, body);
    let response = match tokio::time::timeout_at(deadline, asked).await {
        Ok(Ok(response)) => response,
        Ok(Err(text)) => component::serving::text(StatusCode::SERVICE_UNAVAILABLE, text),
        Err(_) => return x.failed(&late),
    };
    let info = &x.info;
    let what = [&info.group, &info.version, &info.resource].map(String::as_str);
    peers.counted.request(response.status(), what);
    response
}

/// The peer's answer, as it is; else why there is none.
async fn ask(
    x: &mut Exchange,
    peers: &Peers,
    id: &str,
    target: &Target,
    body: Bytes,
) -> Result<Response<Body>, String> {
    let upgrade = forward::upgrade(&x.headers, &mut x.upgrade);
    let path = x.uri.path_and_query().map_or("/", |path| path.as_str());
    let problem = |failure: Failure| failure.to_string();
    let mut request = forward::head(x, target, path).map_err(problem)?;
    address(&mut request, target, &x.user).map_err(problem)?;
    let audit_id = forward::value(&x.audit_id).map_err(problem)?;
    request.headers_mut().insert("audit-id", audit_id);
    if let Some(client) = upgrade {
        let joined = forward::upgraded(&peers.upgrades, target, request, client, &mut x.counted);
        return joined.await.map_err(problem);
    }
    let way = peers.way(id, target).map_err(problem)?;
    let answered = way.forward(request.map(|_| body)).await;
    let answered = answered.map_err(|e| component::supervisor::chain(&e))?;
    let (head, incoming) = answered.into_parts();
    let Parts {
        status,
        headers,
        extensions,
        ..
    } = head;
    // What is in them stands for the place on the connection, until the answer is over.
    let incoming = incoming.map_frame(move |frame| {
        let _held = &extensions;
        frame
    });
    let mut answer = Response::new(incoming.map_err(Into::into).boxed_unsync());
    *answer.status_mut() = status;
    *answer.headers_mut() = forward::end_to_end(&headers);
    Ok(answer)
}

/// To whom a request goes, and for whom: the peer believes a certificate of the front proxy.
fn address<B>(request: &mut Request<B>, target: &Target, user: &User) -> Result<(), Failure> {
    let headers = request.headers_mut();
    headers.insert(HOST, forward::value(&target.authority())?);
    headers.insert(PROXIED, HeaderValue::from_static("true"));
    says_who(headers, user)
}

/// Client-go's `SetAuthProxyHeaders`.
fn says_who(headers: &mut HeaderMap, user: &User) -> Result<(), Failure> {
    headers.insert("x-remote-user", said(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert("x-remote-uid", said(&user.uid)?);
    }
    for group in &user.groups {
        headers.append("x-remote-group", said(group)?);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escape(key));
        let name = HeaderName::try_from(name).map_err(|e| Failure::bad_request(e.to_string()))?;
        for value in values {
            headers.append(name.clone(), said(value)?);
        }
    }
    Ok(())
}

/// Names are texts of any script, which clients and servers in Go send and read byte by byte.
fn said(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|e| Failure::bad_request(e.to_string()))
}

/// A key with `%` and two digits for each byte that no header's name may have, and for `%` (RFC 3986, 2.1).
fn escape(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b);
    key.bytes()
        .fold(String::with_capacity(key.len()), |mut out, b| {
            if plain(b) {
                out.push(char::from(b));
            } else {
                out.push_str(&format!("%{b:02x}"));
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_told_who_the_user_is_and_nothing_that_the_client_said_of_it() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        let user = User {
            name: "jane".to_owned(),
            uid: "7".to_owned(),
            groups: vec!["a".to_owned(), "b".to_owned()],
            extra: [("acme.com/project".to_owned(), vec!["x".to_owned()])].into(),
        };
        says_who(&mut headers, &user).unwrap();
        let far = User {
            name: "j\u{fc}rgen".to_owned(),
            ..User::default()
        };
        let mut others = HeaderMap::new();
        says_who(&mut others, &far).unwrap();
        assert_eq!(others["x-remote-user"].as_bytes(), far.name.as_bytes());
        let broken = User {
            name: "a\nb".to_owned(),
            ..User::default()
        };
        assert!(says_who(&mut others, &broken).is_err());
        assert_eq!(headers.get_all("x-remote-user").iter().count(), 1);
        assert_eq!(headers["x-remote-user"], "jane");
        assert_eq!(headers["x-remote-uid"], "7");
        let groups: Vec<_> = headers.get_all("x-remote-group").iter().collect();
        assert_eq!(groups, ["a", "b"]);
        assert_eq!(headers["x-remote-extra-acme.com%2fproject"], "x");
    }
}
