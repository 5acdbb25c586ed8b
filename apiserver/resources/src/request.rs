//! What a request asks for, read from its path, method and query: upstream's `RequestInfo`.
//!
//! Authorization, fairness, audit and dispatch all work on this one reading, so that none of them can
//! disagree with another about what a path means.

use component::client::path_decode;
use http::{Method, Uri};

/// Path segments after a namespace's name that are subresources of the namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestInfo {
    /// False for `/healthz`, `/apis/apps/v1` and everything else that is not about a resource.
    pub is_resource: bool,
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; the
    /// method in lower case for a path that is not about a resource.
    pub verb: String,
    /// `api` or `apis`.
    pub prefix: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// The segments from the resource on.
    pub parts: Vec<String>,
    /// As given, for authorizers that look at selectors; empty if the request has none.
    pub field_selector: String,
    pub label_selector: String,
}

impl RequestInfo {
    /// Reads a request. Fails only for a `/watch` or `/proxy` prefix with nothing behind it.
    pub fn read(method: &Method, uri: &Uri, query: &Query) -> Result<Self, String> {
        let path = uri.path();
        let mut info = Self {
            path: path.to_owned(),
            verb: method.as_str().to_ascii_lowercase(),
            ..Self::default()
        };
        let decoded: Vec<String> = path.trim_matches('/').split('/').map(path_decode).collect();
        let mut parts: &[String] = if path.trim_matches('/').is_empty() {
            &[]
        } else {
            &decoded
        };
        let prefix = match parts.first().map(String::as_str) {
            Some(p @ ("api" | "apis")) if parts.len() >= 3 => p,
            _ => return Ok(info),
        };
        info.prefix = prefix.to_owned();
        parts = &parts[1..];
        if prefix == "apis" {
            if parts.len() < 3 {
                return Ok(info);
            }
            info.group.clone_from(&parts[0]);
            parts = &parts[1..];
        }
        info.is_resource = true;
        info.version.clone_from(&parts[0]);
        parts = &parts[1..];
        let by_prefix = matches!(parts[0].as_str(), "watch" | "proxy");
        if by_prefix {
            if parts.len() < 2 {
                return Err(format!(
                    "unable to determine kind and namespace from url, {uri}"
                ));
            }
            info.verb.clone_from(&parts[0]);
            parts = &parts[1..];
        } else {
            info.verb = verb_of(method).to_owned();
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace.clone_from(&parts[1]);
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2].as_str()) {
                parts = &parts[2..];
            }
        }
        info.parts = parts.to_vec();
        if parts.len() >= 3 && info.verb != "proxy" {
            info.subresource.clone_from(&parts[2]);
        }
        info.name = parts.get(1).cloned().unwrap_or_default();
        info.resource.clone_from(&parts[0]);
        info.refine(query);
        if !by_prefix && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            info.field_selector = query.get("fieldSelector").unwrap_or_default().to_owned();
            info.label_selector = query.get("labelSelector").unwrap_or_default().to_owned();
        }
        Ok(info)
    }

    /// A GET without a name is a list or a watch, a DELETE without one is of the collection. A field
    /// selector on one name makes that name visible to authorizers.
    fn refine(&mut self, query: &Query) {
        if !self.name.is_empty() {
            return;
        }
        if self.verb == "delete" {
            self.verb = "deletecollection".into();
        }
        if self.verb == "get" {
            self.verb = if query.flag("watch").unwrap_or(true) && query.get("watch").is_some() {
                "watch"
            } else {
                "list"
            }
            .into();
            let name = query
                .get("fieldSelector")
                .and_then(|s| proto::selector::FieldSelector::parse(s).ok())
                .and_then(|s| s.requires_exact("metadata.name").map(str::to_owned));
            if let Some(name) = name.filter(|n| proto::meta::path_segment_problems(n).is_empty()) {
                self.name = name;
            }
        }
    }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The query parameters, in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    #[must_use]
    pub fn parse(uri: &Uri) -> Self {
        let text = uri.query().unwrap_or_default().as_bytes();
        Self(
            form_urlencoded::parse(text)
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect(),
        )
    }

    /// The first value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    }

    /// Every value of a parameter that may be repeated.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    }

    /// A boolean as upstream's conversion reads it: present and neither `false` nor `0` is true.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name)
            .map(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, path: &str) -> RequestInfo {
        let uri: Uri = path.parse().expect("a uri");
        RequestInfo::read(&method, &uri, &Query::parse(&uri)).expect("readable")
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn paths_are_read_as_upstream_reads_them() {
        // (method, path, verb, group, namespace, resource, subresource, name)
        let cases = [
            (
                Method::GET,
                "/api/v1/namespaces",
                "list",
                "",
                "",
                "namespaces",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/other",
                "get",
                "",
                "other",
                "namespaces",
                "",
                "other",
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/other/finalize",
                "update",
                "",
                "other",
                "namespaces",
                "finalize",
                "other",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/other/pods",
                "list",
                "",
                "other",
                "pods",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/other/pods?watch=1",
                "watch",
                "",
                "other",
                "pods",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/other/pods?watch=false",
                "list",
                "",
                "other",
                "pods",
                "",
                "",
            ),
            (
                Method::POST,
                "/api/v1/namespaces/other/pods/a/exec",
                "create",
                "",
                "other",
                "pods",
                "exec",
                "a",
            ),
            (
                Method::GET,
                "/apis/apps/v1/deployments",
                "list",
                "apps",
                "",
                "deployments",
                "",
                "",
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/x/deployments",
                "deletecollection",
                "apps",
                "x",
                "deployments",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/watch/pods",
                "watch",
                "",
                "",
                "pods",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/pods?fieldSelector=metadata.name%3Dfoo",
                "list",
                "",
                "",
                "pods",
                "",
                "foo",
            ),
        ];
        for (method, path, verb, group, namespace, resource, subresource, name) in cases {
            let i = read(method, path);
            let got = (
                i.verb.as_str(),
                i.group.as_str(),
                i.namespace.as_str(),
                i.resource.as_str(),
                i.subresource.as_str(),
                i.name.as_str(),
            );
            assert_eq!(
                got,
                (verb, group, namespace, resource, subresource, name),
                "{path}"
            );
            assert!(i.is_resource);
        }
    }

    #[test]
    fn short_paths_are_not_about_resources() {
        for path in [
            "/",
            "/healthz",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/openapi/v2",
        ] {
            let i = read(Method::GET, path);
            assert!(!i.is_resource, "{path}");
            assert_eq!(i.verb, "get");
        }
    }
}
