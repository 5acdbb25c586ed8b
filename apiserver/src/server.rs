//! The server's shared state: what every request can reach.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use resources::status::{Details, Failure, qualified};
use store::{ReadError, Store, Undecodable, WriteError};

use crate::admission;
use crate::auth::Authenticators;
use crate::authz::Authorizers;
use crate::config::Config;
use crate::flowcontrol::FlowControl;
use crate::registry::{Endpoint, Registry};

pub struct Server {
    pub config: Config,
    /// Where everything is stored that `--etcd-servers-overrides` does not name.
    pub store: Store,
    pub storage: crate::storage::Storage,
    /// None if everything is stored as it is.
    pub encryption: Option<crate::encryption::Encryption>,
    pub registry: Registry,
    pub authenticators: Authenticators,
    pub authorizers: Authorizers,
    pub admission: admission::Chain,
    pub tokens: Arc<crate::auth::service_account::Issuer>,
    pub discovery: crate::discovery::Documents,
    pub openapi: crate::openapi::Documents,
    pub allocators: crate::alloc::Allocators,
    pub kubelets: crate::kubelet::Kubelets,
    pub streams: crate::stream::Counts,
    /// None if others are not asked for what is not served here.
    pub peers: Option<crate::peer::Peers>,
    pub endpoints: component::serving::Endpoints,
    pub requests: crate::metrics::Requests,
    /// Compresses answers.
    pub gzip: Arc<crate::compress::gzip::Pool>,
    pub flow_control: Arc<FlowControl>,
    /// None if nothing is recorded.
    pub audit: Option<crate::audit::Audit>,
    pub tracer: component::tracing::Tracer,
    pub identity: Identity,
    pub loopback: crate::loopback::Loopback,
}

/// How this server is known to the others.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name of its lease: `apiserver-` and a hash of the host's name, so that it outlives restarts.
    pub lease: String,
    /// The lease's name with something that is new in every process.
    pub holder: String,
    pub host: String,
}

impl Identity {
    #[must_use]
    pub fn of_this_process() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_owned();
        // Host and role, each behind its length: upstream's form, so that a server taken over keeps
        // its lease.
        let mut named = Vec::new();
        for part in [host.as_str(), "kube-apiserver"] {
            named.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            named.extend_from_slice(part.as_bytes());
        }
        let lease = format!("apiserver-{}", base32(&Sha256::digest(&named)[..16]));
        Self {
            holder: format!("{lease}_{}", uuid::Uuid::new_v4()),
            lease,
            host,
        }
    }
}

/// RFC 4648 in lower case, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut out = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut held, mut bits) = (0u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[(held >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[(held << (5 - bits) & 31) as usize]));
    }
    out
}

impl Server {
    /// One object, from the cache or, if that does not have it, once from etcd, as a tree of the hub's
    /// version.
    pub async fn lookup(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<proto::Value>, Failure> {
        let hub = &self.endpoint(group, resource)?.hub;
        let entry = self.lookup_entry(group, resource, namespace, name).await?;
        entry
            .map(|e| resources::object::from_body(&e.body, hub))
            .transpose()
    }

    /// The same as an entry: for who needs no more than labels and selectable fields.
    pub async fn lookup_entry(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<store::Entry>>, Failure> {
        let endpoint = self.endpoint(group, resource)?;
        let collection = &endpoint.collection;
        let entry = if endpoint.resource.namespaced {
            collection.cached(&format!("{namespace}/{name}")).await
        } else {
            collection.cached(name).await
        };
        entry.map_err(read_failure)
    }

    fn endpoint(&self, group: &str, resource: &str) -> Result<&Endpoint, Failure> {
        let endpoint = self.registry.any_version(group, resource);
        endpoint.ok_or_else(Failure::no_such_resource)
    }

    /// Every object of a resource, from the cache, as trees of the hub's version: for small collections
    /// and for loops that look at all of one.
    #[must_use]
    pub fn objects(&self, group: &str, resource: &str) -> Vec<proto::Value> {
        let Some(endpoint) = self.registry.any_version(group, resource) else {
            return Vec::new();
        };
        let Ok((entries, _)) = endpoint.collection.snapshot() else {
            return Vec::new();
        };
        entries
            .iter()
            .filter_map(|e| resources::object::from_body(&e.body, &endpoint.hub).ok())
            .collect()
    }
}

/// A failed read, as clients see it.
#[must_use]
pub fn read_failure(error: ReadError) -> Failure {
    let text = error.to_string();
    match error {
        ReadError::NotReady(e) => Failure::too_many_requests(text, e.retry_after()),
        ReadError::TooNew { wanted, current } => Failure::version_too_large(current, wanted),
        ReadError::Expired => Failure::gone(text),
        ReadError::ContinueExpired { resume } => Failure::gone(text).with_continue(resume),
        ReadError::InvalidContinue(_) | ReadError::RevisionWithContinue => {
            Failure::bad_request(text)
        }
        ReadError::Undecodable(object) => Failure::internal(corrupt(&object)),
        other => store_failure(&other),
    }
}

/// A failed list, as clients see it: which objects cannot be read is told, so that somebody can mend or delete them
/// (`storage/etcd3/corrupt_obj_deleter.go`).
#[must_use]
pub fn list_failure(error: ReadError, group: &str, resource: &str) -> Failure {
    const UNEXPECTED: &str = "UnexpectedServerResponse";
    let ReadError::Unreadable { objects, more } = error else {
        return read_failure(error);
    };
    let first = objects.first().map(corrupt).unwrap_or_default();
    let others = match objects.len() {
        0 | 1 => String::new(),
        many => format!(" (and {} more)", many - 1),
    };
    let what = qualified(group, resource);
    let message = format!("failed to read one or more {what} from the storage: {first}{others}");
    let mut failure = Failure::new(500, "StoreReadError", message).with_details(Details {
        group: group.to_owned(),
        kind: resource.to_owned(),
        name: "list".to_owned(),
        ..Details::default()
    });
    for object in &objects {
        failure = failure.with_cause(UNEXPECTED, &corrupt(object), &object.key);
    }
    if more {
        let why = "too many errors, the list is truncated";
        failure = failure.with_cause("FieldValueTooMany", why, "");
    }
    failure
}

/// An object that cannot be read, as upstream's storage says it.
fn corrupt(object: &Undecodable) -> String {
    let Undecodable { key, reason } = object;
    format!(
        "StorageError: corrupt object, Code: 7, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {reason}"
    )
}

/// A failed write, as clients see it.
#[must_use]
pub fn write_failure(error: &WriteError, group: &str, resource: &str, name: &str) -> Failure {
    match error {
        WriteError::AlreadyExists(_) => Failure::already_exists(group, resource, name),
        WriteError::NotFound(_) => Failure::not_found(group, resource, name),
        WriteError::Etcd(e @ store::etcd::Error::TooLarge) => Failure::too_large(&e.to_string()),
        other => store_failure(other),
    }
}

/// etcd does not answer, or answers what nobody expects: 500 with the chain of causes, as upstream.
fn store_failure(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::internal(component::supervisor::chain(error))
}
