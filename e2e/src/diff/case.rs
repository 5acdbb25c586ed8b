//! What is asked: cases of requests, some of which use what earlier answers of the same server said.
//!
//! `${ns}` in a path, a header or a body is the case's namespace; `${made.metadata.uid}` is a field of the answer to the
//! request with the label `made`, `${made#etag}` one of its headers.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::value::text;

pub const JSON: &str = "application/json";
pub const YAML: &str = "application/yaml";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const JSON_PATCH: &str = "application/json-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

/// Between a field and what a request says it is, where that is what is special about the request.
pub const OF: &str = " = ";

/// When a case is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Before anything is written: what every client finds in a new cluster.
    First,
    #[default]
    Beside,
    /// One after the other, at the end: what is written changes how other requests are answered.
    Alone,
}

/// The namespace that `${ns}` stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// One for all: for requests that leave nothing behind.
    #[default]
    Shared,
    Own,
}

/// Requests that are sent one after the other.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Case {
    /// Unlike all others.
    pub name: String,
    /// What its differences are counted under: a kind as `apps/v1 Deployment`, or a subject.
    pub area: String,
    /// That somebody thought of it: no other stands for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// That nothing of it is meant to succeed ([`super::vain`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    pub phase: Phase,
    pub namespace: Namespace,
    /// Cases that would meet in one object run one after the other.
    pub lane: Option<String>,
    pub steps: Vec<Step>,
}

/// One request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Step {
    /// What later requests call its answer.
    pub label: Option<String>,
    /// What is special about it, in a few words.
    pub about: String,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    /// That a refusal or a difference here says nothing about later requests, which are compared all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cleanup: bool,
    /// That the answer's body is compared elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bodiless: bool,
    /// That it is asked again until it is allowed: rights reach who decides a moment after they are written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub until_allowed: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub enum Body {
    #[default]
    None,
    Text(String),
    /// The answer to an earlier request, as it came, changed by a merge patch where there is one.
    Answer(String, Option<Value>),
}

impl Step {
    pub fn new(method: &str, path: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            method: method.to_owned(),
            path: path.into(),
            about: about.into(),
            ..Self::default()
        }
    }

    pub fn get(path: impl Into<String>, about: impl Into<String>) -> Self {
        Self::new("GET", path, about)
    }

    pub fn label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn accept(self, accept: &str) -> Self {
        self.header("accept", accept)
    }

    /// Sends this body as JSON or as another media type.
    pub fn body(self, content: &str, body: &Value) -> Self {
        let text = Body::Text(body.to_string());
        self.with(content, text)
    }

    pub fn with(self, content: &str, body: Body) -> Self {
        let content = self.header("content-type", content);
        Self { body, ..content }
    }

    pub fn bodiless(self) -> Self {
        Self {
            bodiless: true,
            ..self
        }
    }

    pub fn until_allowed(self) -> Self {
        Self {
            until_allowed: true,
            ..self
        }
    }

    pub fn cleanup(self) -> Self {
        Self {
            cleanup: true,
            ..self
        }
    }

    /// Whether it asks for OpenAPI documents, by their path or by the address of their hash.
    pub fn is_of_schemas(&self) -> bool {
        self.path.starts_with("/openapi/") || self.path.contains("serverRelativeURL")
    }

    /// Whether it is about the server, not about a resource.
    pub fn is_of_no_resource(&self) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            ["api", rest @ ..] => rest.len() < 2,
            ["apis", rest @ ..] => rest.len() < 3,
            _ => true,
        }
    }

    /// All that it says itself, as it was written: what came with earlier answers is not its own.
    pub fn says(&self) -> String {
        let body = match &self.body {
            Body::None | Body::Answer(_, None) => String::new(),
            Body::Text(text) => text.clone(),
            Body::Answer(_, Some(change)) => change.to_string(),
        };
        let headers = self.headers.iter().map(|(_, value)| value.as_str());
        let parts: Vec<&str> = headers.chain([&*self.path, &*body]).collect();
        parts.join("\n")
    }

    /// Whether it may change something.
    pub fn writes(&self) -> bool {
        self.method != "GET" && !self.path.contains("dryRun")
    }
}

/// An answer as later requests of its case see it.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub headers: BTreeMap<String, String>,
    pub json: Value,
    pub body: Bytes,
}

/// What the names in a case's texts stand for.
#[derive(Default)]
pub struct Names {
    pub namespace: String,
    pub answers: BTreeMap<String, Answer>,
}

impl Names {
    /// The text with what its names stand for; nothing stands for what is not there.
    pub fn fill(&self, template: &str) -> String {
        let mut out = String::with_capacity(template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                out.push_str("${");
                rest = after;
                continue;
            };
            out.push_str(&self.value(name));
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn value(&self, name: &str) -> String {
        if name == "ns" {
            return self.namespace.clone();
        }
        if let Some((label, header)) = name.split_once('#') {
            let answer = self.answers.get(label);
            return answer
                .and_then(|of| of.headers.get(header))
                .cloned()
                .unwrap_or_default();
        }
        let mut parts = name.split('.');
        let answer = parts.next().and_then(|label| self.answers.get(label));
        let found = parts.try_fold(answer.map(|of| &of.json), |value, part| {
            let value = value?;
            Some(match part.parse::<usize>() {
                Ok(index) => value.get(index),
                Err(_) => value.get(part),
            })
        });
        match found.flatten() {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        }
    }

    /// The bytes that are sent.
    pub fn body(&self, body: &Body) -> Bytes {
        match body {
            Body::None => Bytes::new(),
            Body::Text(text) => self.fill(text).into(),
            Body::Answer(label, None) => self
                .answers
                .get(label)
                .map(|of| of.body.clone())
                .unwrap_or_default(),
            Body::Answer(label, Some(change)) => {
                let mut json = self
                    .answers
                    .get(label)
                    .map(|of| of.json.clone())
                    .unwrap_or_default();
                merge(&mut json, change);
                self.fill(&json.to_string()).into()
            }
        }
    }
}

/// A merge patch (RFC 7396).
pub(super) fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(serde_json::Map::new());
    }
    for (name, field) in fields {
        if field.is_null() {
            value.as_object_mut().map(|object| object.remove(name));
        } else {
            merge(&mut value[name.as_str()], field);
        }
    }
}

/// The name of an object as a path ends with it.
pub fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_about_a_resource_is_told_by_its_path() {
        let is = |path: &str| Step::get(path, "").is_of_no_resource();
        assert!(
            [
                "/",
                "/apis",
                "/apis/apps/v1",
                "/openapi/v2?a=/b/c",
                "/readyz"
            ]
            .map(is)
            .iter()
            .all(|of| *of)
        );
        assert!(!is("/api/v1/pods") && !is("/apis/apps/v1/deployments/a"));
    }

    #[test]
    fn names_stand_for_what_was_answered() {
        let made = Answer {
            headers: [("etag".to_owned(), "x".to_owned())].into(),
            json: json!({"metadata": {"uid": "u"}, "items": [{"n": 1}]}),
            body: Bytes::from_static(b"raw"),
        };
        let names = Names {
            namespace: "here".to_owned(),
            answers: [("made".to_owned(), made)].into(),
        };
        let text = "/${ns}/${made.metadata.uid}/${made.items.0.n}/${made#etag}/${made.no.such}${x}";
        assert_eq!(names.fill(text), "/here/u/1/x/");
        assert_eq!(names.fill("a ${b"), "a ${b");
        assert_eq!(names.body(&Body::Answer("made".to_owned(), None)), "raw");
        let changed = Body::Answer(
            "made".to_owned(),
            Some(json!({"items": null, "a": {"b": "${ns}"}})),
        );
        let wanted = json!({"metadata": {"uid": "u"}, "a": {"b": "here"}});
        assert_eq!(names.body(&changed), wanted.to_string());
    }
}
