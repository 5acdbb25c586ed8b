//! An answer as it is compared: the headers that clients act on, the body as a value, what the request left in etcd; all
//! masked. This is also what is kept of upstream's answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::case::Step;
use super::later;
use super::mask::{self, Mask};
use super::server::Raw;
use super::value::text;
use super::wire;
use super::writes::Write;
use super::yaml;

/// The headers that are compared.
const HEADERS: &[&str] = &[
    "allow",
    "cache-control",
    "content-encoding",
    "content-type",
    "etag",
    "location",
    "retry-after",
    "vary",
    "warning",
    "www-authenticate",
    "x-content-type-options",
];

/// What is listed as it is found out (`pkg/registry/core/componentstatus/rest.go`).
const COMPONENTS: &str = "/api/v1/componentstatuses";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// 0 where there was no answer.
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
    /// By key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stored: BTreeMap<String, Value>,
    /// What was recorded of the request ([`super::audit`]), by stage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, Value>,
}

impl Seen {
    /// `sent` is all that the case has sent so far.
    pub fn new(step: &Step, raw: &Raw, writes: Vec<Write>, mask: &Mask, sent: &str) -> Self {
        let mut headers: BTreeMap<String, String> = HEADERS
            .iter()
            .filter_map(|name| {
                let value = raw.headers.get(*name)?;
                Some(((*name).to_owned(), mask.text(value, sent)))
            })
            .collect();
        if let Some(etag) = headers.get_mut("etag") {
            *etag = if etag.starts_with('"') {
                "\"<tag>\""
            } else {
                "<tag>"
            }
            .to_owned();
        }
        if !raw.ended && raw.status != 0 {
            headers.insert("(end)".to_owned(), "the answer does not end".to_owned());
        }
        let media = raw.headers.get("content-type").map_or("", String::as_str);
        let mut body = if step.bodiless {
            Value::Null
        } else {
            body(media, &raw.body)
        };
        if step.is_of_schemas() {
            structure(&mut body);
        }
        if step.is_of_no_resource() {
            later::without(&mut body);
        }
        if step.path.starts_with(COMPONENTS) {
            mask::in_any_order(&mut body);
        }
        mask.value(&mut body, sent);
        let stored = writes.into_iter().map(|(key, value)| {
            let mut value = value.map_or(Value::Null, |value| wire::value(&value));
            mask.value(&mut value, sent);
            (mask.text(&key, sent), value)
        });
        Self {
            status: raw.status,
            headers,
            body,
            stored: stored.collect(),
            events: BTreeMap::new(),
        }
    }

    /// The same with what was recorded of the request.
    pub fn with(self, mut events: BTreeMap<String, Value>, mask: &Mask, sent: &str) -> Self {
        events
            .values_mut()
            .for_each(|event| mask.value(event, sent));
        Self { events, ..self }
    }

    /// Why a request was refused, if it was.
    pub fn reason(&self) -> &str {
        text(&self.body["reason"])
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The revision that an answer tells of its object.
pub fn revision(raw: &Raw) -> Option<u64> {
    let media = raw.headers.get("content-type").map_or("", String::as_str);
    let body = body(media, &raw.body);
    text(&body["metadata"]["resourceVersion"]).parse().ok()
}

/// A body as a value: one of a watch is a list of its events.
fn body(media: &str, bytes: &[u8]) -> Value {
    if media.contains("protobuf") {
        return if media.contains("stream=watch") {
            wire::frames(bytes).into()
        } else {
            wire::value(bytes)
        };
    }
    let text = String::from_utf8_lossy(bytes);
    if bytes.is_empty() {
        return Value::Null;
    }
    if media.contains("yaml") {
        return match yaml::parse(&text) {
            Ok(mut all) if all.len() == 1 => all.remove(0),
            Ok(all) if !all.is_empty() => all.into(),
            _ => (*text).into(),
        };
    }
    if let Ok(json) = serde_json::from_slice(bytes) {
        return json;
    }
    let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    match lines {
        Ok(lines) if media.contains("json") => lines.into(),
        _ => (*text).into(),
    }
}

/// What programs see of schemas: without the texts for people, and with each parameter where it is referred to, since the names
/// under which a document shares them are made of those texts (`kube-openapi/pkg/builder/parameters.go`).
fn structure(document: &mut Value) {
    without_descriptions(document);
    let shared = document
        .as_object_mut()
        .and_then(|of| of.remove("parameters"));
    if let Some(Value::Object(shared)) = shared {
        in_place(document, &shared);
    }
}

fn in_place(value: &mut Value, shared: &Map<String, Value>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            let name = name.and_then(|of| of.strip_prefix("#/parameters/"));
            if let Some(parameter) = name.and_then(|name| shared.get(name)) {
                *value = parameter.clone();
                return;
            }
            fields
                .values_mut()
                .for_each(|field| in_place(field, shared));
        }
        Value::Array(members) => members.iter_mut().for_each(|of| in_place(of, shared)),
        _ => {}
    }
}

fn without_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, field| !(name == "description" && field.is_string()));
            fields.values_mut().for_each(without_descriptions);
        }
        Value::Array(members) => members.iter_mut().for_each(without_descriptions),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies_are_read_by_their_media_type() {
        assert_eq!(body("application/json", br#"{"a": 1}"#), json!({"a": 1}));
        assert_eq!(
            body("application/json", b"{\"a\": 1}\n{\"b\": 2}\n"),
            json!([{"a": 1}, {"b": 2}])
        );
        assert_eq!(body("application/yaml", b"a: 1\n"), json!({"a": 1}));
        assert_eq!(body("text/plain", b"ok"), json!("ok"));
        assert_eq!(
            body("application/vnd.kubernetes.protobuf", b"k8s\0\x10\x07"),
            json!({"2": [7]})
        );
    }

    #[test]
    fn descriptions_do_not_count_in_schemas() {
        let mut schema = json!({"description": "a", "properties": {"description": {"description": "b", "type": "string"}}});
        structure(&mut schema);
        assert_eq!(
            schema,
            json!({"properties": {"description": {"type": "string"}}})
        );
    }

    #[test]
    fn a_shared_parameter_is_seen_where_it_is_used() {
        let mut schema = json!({
            "parameters": {"limit-x": {"in": "query", "name": "limit"}},
            "paths": {"/a": {"parameters": [{"$ref": "#/parameters/limit-x"}]}},
        });
        structure(&mut schema);
        let wanted = json!({"paths": {"/a": {"parameters": [{"in": "query", "name": "limit"}]}}});
        assert_eq!(schema, wanted);
    }
}
