//! Controller revisions: what a daemon set's or stateful set's template was over time.
//!
//! A revision is found by its data, as a value: bytes of upstream's revisions may differ from ours, and a set that
//! changes its controller manager must not be rolled out again for that. Source: `pkg/controller/history`.

use component::client::{self, Api, Client, Kind};
use component::informer::Key;
use http::Method;
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::Error;
use crate::owners;
use crate::selector::Labels;
use crate::template::filled;

/// The label that pods and revisions carry.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// A revision's data: a strategic merge patch that puts the template back.
#[must_use]
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut tree = serde_json::to_value(template).unwrap_or_default();
    if let Some(fields) = tree.as_object_mut() {
        fields.insert("$patch".to_owned(), "replace".into());
    }
    json!({"spec": {"template": tree}})
}

/// The template in a revision's data; none if the data are no template's.
#[must_use]
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let tree = revision.data.0.get("spec")?.get("template")?.clone();
    proto::typed::from_json_value(tree).ok()
}

/// Whether a revision holds that data. What is empty and what is absent is the same: Go's encoder writes structs that
/// hold nothing, such as a container's `resources`.
#[must_use]
pub fn holds(revision: &ControllerRevision, data: &Value) -> bool {
    revision.data.0 == *data || filled(&revision.data.0) == filled(data)
}

/// Data as upstream's controllers write and compare them, byte for byte: Go's encoder escapes what could be HTML.
#[must_use]
pub fn text(data: &Value) -> String {
    escaped(&data.to_string())
}

/// Outside of its strings a JSON text has none of these.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            c => text.push(c),
        }
    }
    text
}

#[must_use]
pub fn number(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or(0)
}

#[must_use]
pub fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

/// The hash that its pods carry.
#[must_use]
pub fn hash(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels
        .and_then(|l| l.get(HASH_LABEL))
        .map_or("", String::as_str)
}

/// The number that the next revision gets.
#[must_use]
pub fn next<'r>(revisions: impl IntoIterator<Item = &'r ControllerRevision>) -> i64 {
    let most = revisions.into_iter().map(number).max();
    most.unwrap_or(0).saturating_add(1)
}

/// A revision that is not stored yet, with its hash under a label.
#[must_use]
pub fn made<O: Kind>(
    owner: &O,
    labels: Option<&Labels>,
    (key, hash): (&str, &str),
    data: Value,
    revision: i64,
) -> ControllerRevision {
    let meta = owner.metadata();
    let own = meta.name.as_deref().unwrap_or_default();
    let mut labels = labels.cloned().unwrap_or_default();
    labels.insert(key.to_owned(), hash.to_owned());
    // Upstream cuts the name so that the whole is one.
    let own = own.get(..223).unwrap_or(own);
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{own}-{hash}")),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: meta.annotations.clone(),
            owner_references: Some(vec![owners::reference(owner)]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data),
        revision: Some(revision),
    }
}

/// What became of a new revision.
pub enum Stored {
    Revision(Box<ControllerRevision>),
    /// Another revision has its name: its owner counts a collision, which gives another hash.
    Collision,
}

/// Stores a revision, or finds it stored.
///
/// # Errors
/// If the server refuses.
pub async fn store(client: &Client, revision: &ControllerRevision) -> Result<Stored, Error> {
    let namespace = revision.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<ControllerRevision> = client.namespaced(namespace);
    match create(&api, namespace, revision).await {
        Ok(stored) => Ok(Stored::Revision(Box::new(stored))),
        Err(e) if e.is_already_exists() => {
            let there = api.get(name(revision)).await?;
            let same = holds(&there, &revision.data.0);
            Ok(if same {
                Stored::Revision(Box::new(there))
            } else {
                Stored::Collision
            })
        }
        Err(e) => Err(e.into()),
    }
}

/// Creates a revision whose data have the bytes that upstream would give them.
async fn create(
    api: &Api<ControllerRevision>,
    namespace: &str,
    revision: &ControllerRevision,
) -> Result<ControllerRevision, client::Error> {
    let json = serde_json::to_string(revision).map_err(client::Error::Encode)?;
    let raw = RawValue::from_string(escaped(&json)).map_err(client::Error::Encode)?;
    let path = api.target().path(Some(namespace));
    let stored = api.client().request(Method::POST, &path, &[], Some(&raw));
    proto::typed::from_json_value(stored.await?).map_err(|e| client::Error::Decode {
        expected: ControllerRevision::KIND.to_owned(),
        problem: e.to_string(),
    })
}

/// Gives a revision another number: an old template came back.
///
/// # Errors
/// If the server refuses.
pub async fn renumber(
    client: &Client,
    revision: &ControllerRevision,
    number: i64,
) -> Result<ControllerRevision, Error> {
    let key = Key::of(&revision.metadata);
    let patch = json!({"metadata": {"uid": revision.metadata.uid}, "revision": number});
    let patch = client::Patch::merge(&patch)?;
    let api: Api<ControllerRevision> = client.namespaced(key.namespace());
    Ok(api.patch(key.name(), &patch).await?)
}

/// Deletes a revision.
///
/// # Errors
/// If the server refuses.
pub async fn delete(client: &Client, revision: &ControllerRevision) -> Result<(), Error> {
    let key = Key::of(&revision.metadata);
    let api: Api<ControllerRevision> = client.namespaced(key.namespace());
    match api.delete(key.name(), &DeleteOptions::default()).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}

/// The revisions that may go: the oldest beyond `limit` of those that are not `live`.
#[must_use]
pub fn surplus<'r>(
    old: &[&'r ControllerRevision],
    live: impl Fn(&ControllerRevision) -> bool,
    limit: usize,
) -> Vec<&'r ControllerRevision> {
    let mut idle: Vec<_> = old.iter().copied().filter(|r| !live(r)).collect();
    idle.sort_by_key(|r| number(r));
    let surplus = idle.len().saturating_sub(limit);
    idle.truncate(surplus);
    idle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(n: i64) -> ControllerRevision {
        ControllerRevision {
            revision: Some(n),
            ..ControllerRevision::default()
        }
    }

    #[test]
    fn data_is_compared_as_a_value() {
        let template = PodTemplateSpec::default();
        let mut stored = revision(1);
        let text = r#"{"spec":{"template":{"$patch":"replace"}}}"#;
        stored.data = RawExtension(serde_json::from_str(text).unwrap());
        assert!(holds(&stored, &data(&template)));
    }

    #[test]
    fn what_go_writes_besides_makes_no_difference() {
        let ours = json!({"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}});
        let go = json!({"spec": {"template": {"metadata": {"creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "resources": {}}]}}}});
        let mut stored = revision(1);
        stored.data = RawExtension(go);
        assert!(holds(&stored, &ours));
        let other = json!({"spec": {"template": {"spec": {"containers": [{"name": "d"}]}}}});
        assert!(!holds(&stored, &other));
    }

    #[test]
    fn texts_are_escaped_as_go_does() {
        let data = json!({"b": "a && b > c", "a": "<\u{2028}>"});
        let go = r#"{"a":"\u003c\u2028\u003e","b":"a \u0026\u0026 b \u003e c"}"#;
        assert_eq!(text(&data), go);
    }

    #[test]
    fn the_oldest_that_no_pod_has_go() {
        let all = [revision(3), revision(1), revision(2), revision(4)];
        let old: Vec<_> = all.iter().collect();
        let gone = surplus(&old, |r| number(r) == 1, 2);
        assert_eq!(gone.iter().map(|r| number(r)).collect::<Vec<_>>(), [2]);
        assert_eq!(next(all.iter()), 5);
    }
}
