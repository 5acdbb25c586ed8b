//! Keys that live as long as their servers, by which servers find each other in etcd.
//!
//! Upstream: `apiserver/pkg/reconcilers` and `pkg/controlplane/reconcilers`. Each is an `Endpoints` object under a lease of
//! etcd's, whose generation counts how often it was renewed.

use std::time::Duration;

use proto::catalogue::messages::core_v1::ENDPOINTS;
use proto::catalogue::names as n;
use proto::{Value, codec, meta};
use resources::status::Failure;
use store::raw::RawError;

use crate::server::Server;

/// Upstream's `DefaultEndpointReconcilerInterval` and `DefaultEndpointReconcilerTTL`, and the same of peers.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(15);

/// Keeps a key alive; what it says is filled in.
pub(crate) async fn renew(
    server: &Server,
    key: &str,
    fill: impl FnOnce(&mut Value),
) -> Result<(), Failure> {
    let raw = server.store.raw();
    let stored = raw.get(key).await.map_err(Failure::internal)?;
    let before = stored.as_ref().and_then(|stored| decode(&stored.value));
    let generation = before.and_then(|object| meta::generation(&object));
    let mut object = Value::object();
    object.set(&[n::METADATA, n::GENERATION], generation.unwrap_or(0) + 1);
    fill(&mut object);
    let mut value = Vec::new();
    codec::protobuf::seal(&object, ENDPOINTS, "v1", "Endpoints", &mut value);
    let expected = stored.map_or(0, |stored| stored.revision);
    let lives = Some(TTL.as_secs().cast_signed());
    match raw.put(key, expected, value.into(), lives).await {
        // The old key ended between read and write: the next round makes a new one.
        Ok(_) | Err(RawError::Conflict(_)) => Ok(()),
        Err(error) => Err(Failure::internal(error)),
    }
}

/// Takes a key away.
pub(crate) async fn remove(server: &Server, key: &str) -> Result<(), Failure> {
    let raw = server.store.raw();
    let Some(stored) = raw.get(key).await.map_err(Failure::internal)? else {
        return Ok(());
    };
    match raw.delete(key, stored.revision).await {
        Ok(_) | Err(RawError::Conflict(_)) => Ok(()),
        Err(error) => Err(Failure::internal(error)),
    }
}

/// What a key says, if it is one of these.
#[must_use]
pub(crate) fn decode(value: &[u8]) -> Option<Value> {
    let open = codec::protobuf::open(value).ok()?;
    codec::protobuf::decode(open.raw, ENDPOINTS).ok()
}
