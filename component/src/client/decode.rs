//! Answers as objects. Protobuf says that it is protobuf by its first bytes, and of which kind it is
//! by its envelope; everything else is JSON.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status};
use proto::catalogue::message_of;
use proto::codec::protobuf;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Error, Kind, Object, Target};

/// A page of objects.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(bound = "K: DeserializeOwned")]
pub struct List<K> {
    #[serde(default)]
    pub metadata: ListMeta,
    #[serde(default = "Vec::new", deserialize_with = "null_is_empty")]
    pub items: Vec<K>,
}

impl<K> List<K> {
    /// The version that the list is of.
    #[must_use]
    pub fn resource_version(&self) -> &str {
        self.metadata
            .resource_version
            .as_deref()
            .unwrap_or_default()
    }

    /// Where the next page begins; none after the last.
    #[must_use]
    pub fn continue_token(&self) -> Option<&str> {
        self.metadata.continue_.as_deref().filter(|t| !t.is_empty())
    }
}

/// Go prints an empty list as null where a field is not `omitempty`.
fn null_is_empty<'de, K: DeserializeOwned, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Vec<K>, D::Error> {
    Ok(Option::<Vec<K>>::deserialize(from)?.unwrap_or_default())
}

pub(super) fn object<K: DeserializeOwned>(body: &[u8], target: &Target) -> Result<K, Error> {
    any(body, &target.kind)
}

pub(super) fn list<K: DeserializeOwned>(body: &[u8], target: &Target) -> Result<List<K>, Error> {
    any(body, &format!("{}List", target.kind))
}

/// How an answer is read.
pub(super) type Decode<T> = fn(&[u8], &Target) -> Result<T, Error>;

/// How an object and a list of them are read; see [`super::Object`].
#[derive(Clone, Copy)]
pub(crate) struct Decoders {
    pub(super) object: Decode<Arc<dyn Object>>,
    pub(super) list: Decode<List<Arc<dyn Object>>>,
}

impl Decoders {
    pub(super) fn of<K: Kind>() -> Self {
        Self {
            object: |body, target| object::<K>(body, target).map(shared),
            list: |body, target| {
                let List { metadata, items } = list::<K>(body, target)?;
                let items = items.into_iter().map(shared).collect();
                Ok(List { metadata, items })
            },
        }
    }
}

/// Without managed fields: no daemon reads them, and they are a third of an object.
fn shared<K: Kind>(mut object: K) -> Arc<dyn Object> {
    object.metadata_mut().managed_fields = None;
    Arc::new(object)
}

/// What the server says instead of an answer; none if it is no `Status` of a failure.
pub(super) fn failure(body: &[u8]) -> Option<Status> {
    let status: Status = any(body, "Status").ok()?;
    (status.status.as_deref() == Some("Failure")).then_some(status)
}

/// Reads either form.
pub(super) fn any<K: DeserializeOwned>(body: &[u8], expected: &str) -> Result<K, Error> {
    let failed = |problem: String| Error::Decode {
        expected: expected.to_owned(),
        problem,
    };
    if !protobuf::is_sealed(body) {
        return proto::typed::from_json(body).map_err(|e| failed(e.to_string()));
    }
    let envelope = protobuf::open(body).map_err(|e| failed(e.to_string()))?;
    let (group, version) = envelope
        .api_version
        .split_once('/')
        .unwrap_or(("", envelope.api_version));
    let message = message_of(group, version, envelope.kind).ok_or_else(|| {
        failed(format!(
            "it is an unknown {} of {}",
            envelope.kind, envelope.api_version
        ))
    })?;
    proto::typed::from_protobuf(envelope.raw, message).map_err(|e| failed(e.to_string()))
}
