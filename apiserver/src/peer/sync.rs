//! Learning what the others serve: whenever one comes, goes or begins anew, all are asked.
//!
//! Upstream: `apiserver/pkg/util/peerproxy/peer_discovery.go`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use component::serving::User;
use component::{Supervisor, Task};
use http::header::{ACCEPT, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use proto::Value;
use proto::catalogue::messages::apidiscovery_v2::API_GROUP_DISCOVERY_LIST;
use proto::catalogue::names as n;
use proto::codec::json::{self, Strictness};
use resources::object;
use resources::status::Failure;
use store::{Entry, Scope};
use tokio::sync::watch;

use super::known::{Peer, list};
use super::{Known, Peers, address, merge};
use crate::bootstrap::{Hook, identity};
use crate::registry::Endpoint;
use crate::registry::follow::{Told, follow_in};
use crate::server::Server;

/// How long to wait after a failure, at first and at most: a server that is gone leaves its identity for an hour.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));
/// How long a peer may take to say what it serves, and how much it may say.
const TIMEOUT: Duration = Duration::from_secs(10);
const MOST: usize = 32 << 20;
/// What the peer itself serves, from those that can tell it apart.
const ALONE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer,\
    application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// Whoever asks is answered once it is known who else there is.
pub(super) const HOOK: Hook = Hook {
    name: "mixed-version-proxy-handler",
    once: |server| {
        Box::pin(async move {
            if let Some(leases) = leases(&server) {
                leases.collection.wait_ready().await;
            }
            Ok(())
        })
    },
    keep: None,
    end: None,
};

/// Holders of the identity leases of the others, by the leases' names.
type Identities = BTreeMap<String, String>;

fn leases(server: &Server) -> Option<&Endpoint> {
    server.registry.any_version("coordination.k8s.io", "leases")
}

/// Follows who there is, if the server is to know.
pub fn start(server: &Arc<Server>, tasks: &Supervisor) {
    let (true, Some(leases)) = (server.peers.is_some(), leases(server)) else {
        return;
    };
    let (tell, hear) = watch::channel(Identities::new());
    let (collection, hub) = (leases.collection.clone(), leases.hub);
    let own = server.identity.lease.clone();
    let read = move |entry: &Entry| {
        let lease = object::from_body(&entry.body, &hub).ok()?;
        identity::of_server(&lease).filter(|(id, _)| *id != own)
    };
    tasks.spawn(Task::Worker, "peer-identities", async move {
        let mut whole = true;
        let scope = Scope::Namespace(identity::NAMESPACE.into());
        let mut next = Identities::new();
        follow_in(collection, scope, move |told| {
            match told {
                Told::Reset => {
                    whole = false;
                    next.clear();
                }
                Told::Complete => whole = true,
                Told::Put(entry) => {
                    if let Some((id, holder)) = read(&entry) {
                        next.insert(id, holder);
                    }
                }
                Told::Gone(entry) => {
                    if let Some((id, _)) = read(&entry) {
                        next.remove(&id);
                    }
                }
            }
            if whole {
                tell.send_if_modified(|said| {
                    let differs = *said != next;
                    if differs {
                        said.clone_from(&next);
                    }
                    differs
                });
            }
        })
        .await;
    });
    let server = server.clone();
    tasks.spawn(Task::Worker, "peer-discovery", keep(server, hear));
}

async fn keep(server: Arc<Server>, mut hear: watch::Receiver<Identities>) {
    let mut wait = RETRY.0;
    loop {
        let ids = hear.borrow_and_update().clone();
        let all = match &server.peers {
            Some(peers) => refresh(&server, peers, &ids).await,
            None => return,
        };
        let changed = if all {
            wait = RETRY.0;
            hear.changed().await
        } else {
            let changed = tokio::time::timeout(wait, hear.changed()).await;
            wait = (wait * 2).min(RETRY.1);
            changed.unwrap_or(Ok(()))
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Asks all of them; says whether all answered.
async fn refresh(server: &Server, peers: &Peers, ids: &Identities) -> bool {
    peers.ways.retain(|id| ids.contains_key(id));
    let mut found = Vec::new();
    for id in ids.keys() {
        match serves(server, peers, id).await {
            Ok(peer) => found.push(peer),
            Err(failure) => {
                tracing::info!(peer = id, error = %failure, "It is not known what a peer serves");
            }
        }
    }
    let all = found.len() == ids.len();
    let merged = (!found.is_empty()).then(|| {
        server.discovery.merged(|own| {
            let mut servers: BTreeMap<&str, &[Value]> = found
                .iter()
                .map(|peer| (peer.id.as_str(), &peer.groups[..]))
                .collect();
            servers.insert(&server.identity.lease, own);
            merge::groups(&servers)
        })
    });
    let merged = merged.map(Arc::new);
    *peers.known.write() = Arc::new(Known {
        peers: found,
        merged,
    });
    all
}

async fn serves(server: &Server, peers: &Peers, id: &str) -> Result<Peer, Failure> {
    let core = groups(server, peers, id, "/api").await?;
    let others = groups(server, peers, id, "/apis").await?;
    Ok(Peer::new(id, &core, others))
}

/// What a peer says at one of the two paths.
async fn groups(
    server: &Server,
    peers: &Peers,
    id: &str,
    path: &'static str,
) -> Result<Vec<Value>, Failure> {
    let target = peers.target(server, id).await;
    let target = target.inspect_err(|_| peers.counted.sync("hostport_resolution"))?;
    let asked = async {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = Uri::from_static(path);
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static(ALONE));
        address(&mut request, &target, &asking())?;
        let response = peers.way(id, &target)?.forward(request).await;
        let response = response.map_err(|e| Failure::internal(component::supervisor::chain(&e)))?;
        let (head, body) = response.into_parts();
        peers.counted.request(head.status, [""; 3]);
        if head.status != StatusCode::OK {
            let text = format!(
                "discovery request failed with status: {}",
                head.status.as_u16()
            );
            return Err(Failure::internal(text));
        }
        let body = Limited::new(body, MOST).collect().await;
        let body = body.map_err(Failure::internal)?.to_bytes();
        let document = json::decode(&body, API_GROUP_DISCOVERY_LIST, Strictness::Lenient);
        let document = document
            .map_err(|e| Failure::internal(e.to_string()))?
            .value;
        Ok(list(&document, n::ITEMS).to_vec())
    };
    let answered = tokio::time::timeout(TIMEOUT, asked).await;
    let answered = answered.unwrap_or_else(|_| Err(Failure::timeout("a peer does not answer")));
    answered.inspect_err(|_| peers.counted.sync("fetch_discovery"))
}

/// Who asks peers what they serve.
fn asking() -> User {
    const SERVER: &str = "system:apiserver";
    User {
        name: SERVER.to_owned(),
        uid: SERVER.to_owned(),
        groups: vec![User::AUTHENTICATED.to_owned()],
        ..User::default()
    }
}
