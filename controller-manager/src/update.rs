//! Writing objects that other people's fields may be in.
//!
//! Upstream's roles let most controllers `get` and `update`, not `patch`, and `k8s-openapi` structs drop
//! fields that they do not know. So the difference between what a controller saw and what it wants is put
//! onto the object as the server has it, and that is sent under the version that was seen.

use component::client::{self, Api, Kind, path_escape};
use http::Method;
use serde_json::{Map, Value, json};

use crate::error::Error;

/// Changes the status of `seen` and sends it if that makes a difference; the object as it is then, or none if nothing
/// was sent.
///
/// # Errors
/// `Conflict` if the object is not any more as it was seen: the runner looks again soon. An object that is gone is no
/// error.
pub async fn status<K: Kind>(
    api: &Api<K>,
    seen: &K,
    change: impl FnOnce(&mut K),
) -> Result<Option<K>, Error> {
    let mut changed = seen.clone();
    change(&mut changed);
    match update(api, "status", seen, &changed).await {
        Err(e) if e.is_not_found() => Ok(None),
        done => Ok(done?),
    }
}

/// What its controller's role may list and not get: group and resource.
const LISTED: [(&str, &str); 2] = [
    ("", "resourcequotas"),
    ("storagemigration.k8s.io", "storageversionmigrations"),
];

/// Makes an object what `new` is, if it is still what `old` is; none if they are equal. The subresource
/// is empty for the object itself.
///
/// # Errors
/// `Conflict` if it is not.
pub async fn update<K: Kind>(
    api: &Api<K>,
    subresource: &str,
    old: &K,
    new: &K,
) -> Result<Option<K>, client::Error> {
    let value = |k: &K| serde_json::to_value(k).map_err(client::Error::Encode);
    let Some(change) = difference(&value(old)?, &value(new)?) else {
        return Ok(None);
    };
    let meta = old.metadata();
    let namespace = meta.namespace.as_deref().filter(|ns| !ns.is_empty());
    let name = path_escape(meta.name.as_deref().unwrap_or_default());
    let path = format!("{}/{name}", api.target().path(namespace));
    let client = api.client();
    let mut live = live(api, namespace, &path, meta.name.as_deref()).await?;
    apply(&mut live, change);
    live["metadata"]["resourceVersion"] = json!(meta.resource_version);
    let slash = if subresource.is_empty() { "" } else { "/" };
    let path = format!("{path}{slash}{subresource}");
    let written = client.request(Method::PUT, &path, &[], Some(&live)).await?;
    Ok(Some(written))
}

/// The object as the server has it, with fields that this build does not know.
async fn live<K: Kind>(
    api: &Api<K>,
    namespace: Option<&str>,
    path: &str,
    name: Option<&str>,
) -> Result<Value, client::Error> {
    let (client, target) = (api.client(), api.target());
    if !LISTED.contains(&(target.group.as_ref(), target.resource.as_ref())) {
        return client.request(Method::GET, path, &[], None::<&()>).await;
    }
    let name = name.unwrap_or_default();
    let selector = format!("metadata.name={name}");
    let query = [("fieldSelector", selector.as_str())];
    let collection = target.path(namespace);
    let mut list: Value = client
        .request(Method::GET, &collection, &query, None::<&()>)
        .await?;
    match list["items"].get_mut(0).map(Value::take) {
        Some(item) => Ok(item),
        // Gone. What the server says about a write to it is the answer.
        None => Ok(json!({"metadata": {"name": name, "namespace": namespace}})),
    }
}

/// Whether two states of an object differ.
///
/// # Errors
/// If an object cannot be encoded.
pub fn differ<K: Kind>(old: &K, new: &K) -> Result<bool, client::Error> {
    let value = |k: &K| serde_json::to_value(k).map_err(client::Error::Encode);
    Ok(difference(&value(old)?, &value(new)?).is_some())
}

/// Applies a merge patch (RFC 7386).
fn apply(to: &mut Value, change: Value) {
    let Value::Object(change) = change else {
        *to = change;
        return;
    };
    if !to.is_object() {
        *to = Value::Object(Map::new());
    }
    for (key, value) in change {
        if value.is_null() {
            to.as_object_mut().map(|map| map.remove(&key));
        } else {
            apply(&mut to[&key], value);
        }
    }
}

/// The merge patch (RFC 7386) from one value to another; none if they are equal. What is empty and what
/// is absent is the same, as it is to the API.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut change = Map::new();
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                if !is_empty(&old[key]) {
                    change.insert(key.clone(), Value::Null);
                }
            }
            for (key, value) in new {
                match old.get(key) {
                    Some(before) => {
                        if let Some(inner) = difference(before, value) {
                            change.insert(key.clone(), inner);
                        }
                    }
                    None if is_empty(value) => {}
                    None => {
                        change.insert(key.clone(), value.clone());
                    }
                }
            }
            (!change.is_empty()).then_some(Value::Object(change))
        }
        (old, new) if old == new || (is_empty(old) && is_empty(new)) => None,
        (_, new) => Some(new.clone()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        let old = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1], "f": [], "g": "x"});
        let new = json!({"a": 1, "b": {"c": 1, "d": 3, "n": 4}, "e": [1, 2], "h": {}});
        assert_eq!(
            difference(&old, &new),
            Some(json!({"b": {"d": 3, "n": 4}, "e": [1, 2], "g": null}))
        );
        assert_eq!(difference(&new, &new), None);
    }

    #[test]
    fn a_difference_leads_from_the_old_to_the_new_and_leaves_others_alone() {
        let old = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1]});
        let new = json!({"b": {"c": 1, "d": 3}, "e": [2], "f": {"g": 1}});
        let mut live = json!({"a": 1, "b": {"c": 1, "d": 2, "theirs": true}, "e": [1], "mine": 1});
        apply(&mut live, difference(&old, &new).unwrap());
        assert_eq!(
            live,
            json!({"b": {"c": 1, "d": 3, "theirs": true}, "e": [2], "f": {"g": 1}, "mine": 1})
        );
    }

    #[test]
    fn empty_and_absent_are_the_same() {
        assert_eq!(difference(&json!({"a": []}), &json!({})), None);
        assert_eq!(difference(&json!({}), &json!({"a": {}})), None);
        assert_eq!(difference(&json!({"a": null}), &json!({"a": []})), None);
    }
}
