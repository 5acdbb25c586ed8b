//! Which objects a client speaks of.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, Metadata, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::uri::path_escape;

/// A kind of object with metadata: every such struct of `k8s-openapi`.
pub trait Kind:
    Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
}

impl<K> Kind for K where
    K: Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// An object whose kind the code that handles it does not know. What is written for it is made once,
/// and not for each kind.
pub trait Object: Any + Send + Sync {
    fn meta(&self) -> &ObjectMeta;
}

impl<K: Kind> Object for K {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
}

impl dyn Object {
    /// The object as one of a kind, if it is of that kind.
    #[must_use]
    pub fn as_kind<K: Kind>(&self) -> Option<&K> {
        (self as &dyn Any).downcast_ref()
    }

    /// The same for one that is shared.
    #[must_use]
    pub fn into_kind<K: Kind>(self: Arc<Self>) -> Option<Arc<K>> {
        let any: Arc<dyn Any + Send + Sync> = self;
        any.downcast().ok()
    }
}

/// A resource in paths.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Target {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    /// The plural name in paths.
    pub resource: Cow<'static, str>,
    pub kind: Cow<'static, str>,
}

impl Target {
    /// The resource of a kind.
    #[must_use]
    pub fn of<K: Resource>() -> Self {
        Self {
            group: K::GROUP.into(),
            version: K::VERSION.into(),
            resource: K::URL_PATH_SEGMENT.into(),
            kind: K::KIND.into(),
        }
    }

    /// A resource that is not known when the program is built.
    #[must_use]
    pub fn new(group: &str, version: &str, resource: &str, kind: &str) -> Self {
        Self {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            resource: resource.to_owned().into(),
            kind: kind.to_owned().into(),
        }
    }

    /// The path of its collection.
    #[must_use]
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            "/api/".to_owned()
        } else {
            format!("/apis/{}/", self.group)
        };
        match namespace {
            Some(ns) => format!(
                "{root}{}/namespaces/{}/{}",
                self.version,
                path_escape(ns),
                self.resource
            ),
            None => format!("{root}{}/{}", self.version, self.resource),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.group.is_empty() {
            write!(f, "{}/{}", self.version, self.resource)
        } else {
            write!(f, "{}/{}/{}", self.group, self.version, self.resource)
        }
    }
}

/// The metadata of an object of any kind.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PartialObjectMetadata {
    pub metadata: ObjectMeta,
}

impl Resource for PartialObjectMetadata {
    const API_VERSION: &'static str = "meta.k8s.io/v1";
    const GROUP: &'static str = "meta.k8s.io";
    const KIND: &'static str = "PartialObjectMetadata";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "";
    type Scope = ClusterResourceScope;
}

impl Metadata for PartialObjectMetadata {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
