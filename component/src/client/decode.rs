//! Answers as objects.

use bytes::Bytes;
use http::HeaderMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Error, Target};

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

pub(super) fn object<K: DeserializeOwned>(
    _headers: &HeaderMap,
    body: &Bytes,
    target: &Target,
) -> Result<K, Error> {
    json(body, &target.kind)
}

pub(super) fn list<K: DeserializeOwned>(
    _headers: &HeaderMap,
    body: &Bytes,
    target: &Target,
) -> Result<List<K>, Error> {
    json(body, &format!("{}List", target.kind))
}

pub(super) fn json<K: DeserializeOwned>(body: &[u8], expected: &str) -> Result<K, Error> {
    serde_json::from_slice(body).map_err(|e| Error::Decode {
        expected: expected.to_owned(),
        problem: e.to_string(),
    })
}
