//! Where servers are: a key for each, `peerserverleases/<identity>`, that lives as long as its server.
//!
//! Upstream: `apiserver/pkg/reconcilers/peer_endpoint_lease.go`.

use proto::Value;
use proto::catalogue::names as n;
use resources::status::Failure;

use crate::bootstrap::{Hook, alive};
use crate::config::Config;
use crate::server::Server;

/// Below the etcd prefix.
const KEYS: &str = "peerserverleases/";
/// The label that says whose key it is.
const IDENTITY: &str = "apiserverIdentity";

/// The key, once everything else is there.
const PLACE: &Hook = &Hook {
    name: "peer-endpoint-reconciler-controller",
    once: |_| Box::pin(async { Ok(()) }),
    keep: Some((alive::INTERVAL, |server| {
        Box::pin(async move { renew(&server).await })
    })),
    end: Some(|server| {
        Box::pin(async move { alive::remove(&server, &key(&server.identity.lease)).await })
    }),
};

/// Upstream's names of what starts with the server; of one that asks its peers there is more to wait for.
const ALONE: &[&Hook] = &[PLACE];
const WITH_PEERS: &[&Hook] = &[PLACE, &super::sync::HOOK];

/// What is kept while the gate is on.
#[must_use]
pub fn hooks(config: &Config) -> &'static [&'static Hook] {
    match (config.peers.enabled, &config.peers.ca) {
        (false, _) => &[],
        (true, None) => ALONE,
        (true, Some(_)) => WITH_PEERS,
    }
}

fn key(id: &str) -> String {
    format!("{KEYS}{id}")
}

async fn renew(server: &Server) -> Result<(), Failure> {
    let id = server.identity.lease.as_str();
    let (host, port) = server.config.peers.address(&server.config);
    alive::renew(server, &key(id), |object| {
        let labels = object.ensure(&[n::METADATA, n::LABELS]).make_map();
        labels.insert(IDENTITY, id);
        let mut address = Value::object();
        address.set(&[n::IP], host);
        let mut https = Value::object();
        https.set(&[n::NAME], "https");
        https.set(&[n::PORT], i64::from(port));
        https.set(&[n::PROTOCOL], "TCP");
        let mut subset = Value::object();
        subset.set(&[n::ADDRESSES], vec![address]);
        subset.set(&[n::PORTS], vec![https]);
        object.set(&[n::SUBSETS], vec![subset]);
    })
    .await
}

/// Where a server is.
pub(super) async fn of(server: &Server, id: &str) -> Result<(String, u16), Failure> {
    let stored = server.store.raw().get(&key(id)).await;
    let stored = stored.map_err(Failure::internal)?;
    let object = stored.and_then(|stored| alive::decode(&stored.value));
    let place = object.as_ref().and_then(read);
    place.ok_or_else(|| Failure::unavailable(format!("nobody knows where {id} is")))
}

fn read(object: &Value) -> Option<(String, u16)> {
    let subset = object.get(n::SUBSETS)?.as_list()?.first()?;
    let first = |list| subset.get(list)?.as_list()?.first();
    let host = first(n::ADDRESSES)?.get(n::IP)?.as_str()?;
    let port = first(n::PORTS)?.get(n::PORT)?.as_int()?;
    let port = u16::try_from(port).ok()?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}
