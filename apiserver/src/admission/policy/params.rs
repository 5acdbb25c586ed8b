//! The parameters of a policy: objects that its bindings name, and the namespace of a write.
//!
//! Upstream: `CollectParams` in `apiserver/pkg/admission/plugin/policy/generic/policy_dispatcher.go`.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::catalogue::{Resource, names as n};
use proto::{Map, Value, meta};
use resources::object;
use resources::status::Failure;
use store::Entry;

use super::super::webhook::forms;
use super::super::webhook::selected::stored_namespace;
use super::compile::{ParamKind, ParamRef};
use crate::registry::{Endpoint, Registry};
use crate::server::{Server, read_failure};

/// Where the parameters of a policy are.
pub(super) enum Params {
    /// It has none.
    None,
    /// Nothing serves their kind: a text.
    Unknown(String),
    Known(&'static Resource),
}

impl Params {
    pub(super) fn resolve(registry: &Registry, kind: Option<&ParamKind>) -> Self {
        let Some(ParamKind { api_version, kind }) = kind else {
            return Self::None;
        };
        let (group, version) = meta::parse_api_version(api_version).unwrap_or_default();
        let mut all = registry.iter().map(|endpoint| endpoint.resource);
        let found = all.find(|r| (r.group, r.version, r.kind) == (group, version, kind.as_str()));
        found.map_or_else(
            || {
                let wanted = format!("{group}/{version}, Kind={kind}");
                let why = format!("failed to find resource referenced by paramKind: '{wanted}'");
                Self::Unknown(why)
            },
            Self::Known,
        )
    }

    /// The parameters with which a policy is evaluated, one after the other; without any, once without.
    ///
    /// # Errors
    /// Why there are none: a text.
    pub(super) async fn collect(
        &self,
        server: &Server,
        memo: &Memo,
        param: Option<&ParamRef>,
        namespace: &str,
    ) -> Result<Vec<Option<Arc<Value>>>, String> {
        let (Self::Known(resource), Some(param)) = (self, param) else {
            return Ok(vec![None]);
        };
        let served = server
            .registry
            .find(resource.group, resource.version, resource.name);
        let Some(endpoint) = served else {
            return Ok(Vec::new());
        };
        let namespace = place(resource.namespaced, param, namespace)?;
        let text = |failure: Failure| failure.message().to_owned();
        let entries = match (param.name.as_str(), &param.selector) {
            ("", None) => return Err("one of name or selector must be provided".to_owned()),
            ("", Some(selector)) => {
                let selector = selector.as_ref().map_err(Clone::clone)?;
                let snapshot = endpoint.collection.snapshot();
                let (entries, _) = snapshot.map_err(|e| text(read_failure(e.into())))?;
                let prefix = namespace.map(|namespace| format!("{namespace}/"));
                let entries = entries.prefix(prefix.as_deref().unwrap_or_default());
                let selected = entries.filter(|e| selector.matches(|key| e.labels.get(key)));
                selected.cloned().collect()
            }
            (name, _) => {
                let key = namespace.map_or_else(|| name.to_owned(), |ns| format!("{ns}/{name}"));
                let found = endpoint.collection.cached(&key).await;
                found
                    .map_err(|e| text(read_failure(e)))?
                    .into_iter()
                    .collect::<Vec<_>>()
            }
        };
        if entries.is_empty() && param.denies_absence {
            return Err(
                "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned(),
            );
        }
        let read = entries.iter().map(|e| memo.read(endpoint, e, As::Params));
        read.map(|read| read.map(Some).map_err(text)).collect()
    }
}

/// The namespace in which parameters are looked for; none for those that are in no namespace.
fn place<'a>(
    namespaced: bool,
    param: &'a ParamRef,
    namespace: &'a str,
) -> Result<Option<&'a str>, String> {
    match (namespaced, param.namespace.as_str(), namespace) {
        (true, "", "") => Err(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                .to_owned(),
        ),
        (true, "", own) => Ok(Some(own)),
        (true, named, _) => Ok(Some(named)),
        (false, "", _) => Ok(None),
        (false, ..) => Err(
            "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned(),
        ),
    }
}

/// The namespace of a write, as expressions see it.
///
/// # Errors
/// If there is none, or it cannot be read.
pub(super) async fn namespace(
    server: &Server,
    memo: &Memo,
    name: &str,
) -> Result<Arc<Value>, Failure> {
    let (endpoint, entry) = stored_namespace(server, name).await?;
    memo.read(endpoint, &entry, As::Namespace)
}

/// As what an object is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum As {
    Params,
    Namespace,
}

/// Endpoint, form and key of an object.
type Place = (u16, As, Box<str>);

/// Parameters and namespaces as expressions see them, as long as they do not change.
#[derive(Default)]
pub(super) struct Memo(Mutex<Read>);

#[derive(Default)]
struct Read {
    /// With their revision.
    objects: HashMap<Place, (i64, Arc<Value>)>,
    /// Bytes of their stored form.
    size: usize,
}

/// What is kept of them, by their stored form.
const MOST: usize = 8 << 20;

impl Memo {
    fn read(&self, endpoint: &Endpoint, entry: &Entry, form: As) -> Result<Arc<Value>, Failure> {
        let key = (endpoint.index, form, entry.key.clone());
        if let Some((revision, known)) = self.0.lock().objects.get(&key)
            && *revision == entry.revision
        {
            return Ok(Arc::clone(known));
        }
        let object = object::from_body(&entry.body, &endpoint.hub)?;
        let mut tree = forms::tree(&object, &endpoint.hub, endpoint.strategy, &endpoint.served)?;
        if form == As::Namespace {
            of_namespace(&mut tree);
        }
        let tree = Arc::new(tree);
        let mut read = self.0.lock();
        read.size += entry.body.len();
        if read.size > MOST {
            read.objects.clear();
            read.size = entry.body.len();
        }
        read.objects
            .insert(key, (entry.revision, Arc::clone(&tree)));
        Ok(tree)
    }
}

/// Leaves what `namespaceObject` has (upstream's `CreateNamespaceObject`).
fn of_namespace(tree: &mut Value) {
    const KEPT: [&str; 12] = [
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "name",
        "namespace",
        "resourceVersion",
        "uid",
    ];
    let Some(map) = tree.as_map_mut() else { return };
    map.remove(n::KIND);
    map.remove(n::API_VERSION);
    if let Some(metadata) = map.get_mut(n::METADATA).and_then(Value::as_map_mut) {
        Map::retain(metadata, |name, _| KEPT.contains(&name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_looked_for_in_the_namespace_that_is_said_or_that_of_the_write() {
        let param = |namespace: &str| ParamRef {
            name: "p".to_owned(),
            namespace: namespace.to_owned(),
            selector: None,
            denies_absence: true,
        };
        assert_eq!(place(true, &param("a"), "b"), Ok(Some("a")));
        assert_eq!(place(true, &param(""), "b"), Ok(Some("b")));
        assert!(place(true, &param(""), "").is_err());
        assert_eq!(place(false, &param(""), "b"), Ok(None));
        assert!(place(false, &param("a"), "b").is_err());
    }

    #[test]
    fn a_namespace_shows_neither_its_managers_nor_its_type() {
        let text = br#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"a","managedFields":[],"labels":{"k":"v"}},"status":{"phase":"Active"}}"#;
        let mut tree = proto::codec::json::parse(text).unwrap();
        of_namespace(&mut tree);
        let mut out = Vec::new();
        proto::codec::json::write(&tree, &mut out);
        let wanted = r#"{"metadata":{"labels":{"k":"v"},"name":"a"},"status":{"phase":"Active"}}"#;
        let wanted = proto::codec::json::parse(wanted.as_bytes()).unwrap();
        assert_eq!(tree, wanted, "{}", String::from_utf8_lossy(&out));
    }
}
