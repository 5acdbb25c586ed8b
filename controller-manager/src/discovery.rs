//! What resources the API server has, in its aggregated form: two requests for all groups.
//!
//! Source: `k8s.io/client-go/discovery/aggregated_discovery.go`.

use std::collections::BTreeMap;

use component::client::{Client, Error as ClientError, Target, read_all};
use http::Method;
use serde::Deserialize;

use crate::error::Error;

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// Discovery of a cluster with thousands of custom resources stays below.
const LONGEST: usize = 64 << 20;

/// A resource at the version that its group prefers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resource {
    pub target: Target,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Resource {
    #[must_use]
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// `resource.group`, as `--gc-ignored-resources` and messages name it.
    #[must_use]
    pub fn group_resource(&self) -> (&str, &str) {
        (&self.target.group, &self.target.resource)
    }
}

/// All that discovery told.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Discovered {
    /// Each resource once.
    pub preferred: Vec<Resource>,
    /// Resources by group, version and kind, of all versions; the value is the plural name and whether it is
    /// namespaced.
    pub kinds: BTreeMap<(String, String, String), (String, bool)>,
    /// Group versions whose server does not answer.
    pub stale: Vec<String>,
}

impl Discovered {
    /// The resource of a kind as references name it.
    #[must_use]
    pub fn resource_of(&self, api_version: &str, kind: &str) -> Option<(Target, bool)> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let key = (group.to_owned(), version.to_owned(), kind.to_owned());
        let (plural, namespaced) = self.kinds.get(&key)?;
        Some((Target::new(group, version, plural, kind), *namespaced))
    }
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Named,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    freshness: String,
    #[serde(default)]
    resources: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    resource: String,
    response_kind: Option<Kind>,
    scope: String,
    verbs: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Kind {
    kind: String,
}

/// Asks the server.
///
/// # Errors
/// If it does not answer, or not in the aggregated form, which every server has since 1.27.
pub async fn discover(client: &Client) -> Result<Discovered, Error> {
    let mut all = Discovered::default();
    for path in ["/api", "/apis"] {
        let response = client.raw(Method::GET, path, ACCEPT, None).await?;
        let undecoded = |problem: String| {
            Error::Client(ClientError::Decode {
                expected: "APIGroupDiscoveryList".to_owned(),
                problem,
            })
        };
        let body = read_all(response.into_body(), LONGEST)
            .await
            .map_err(|e| undecoded(e.to_string()))?;
        let list: GroupList =
            serde_json::from_slice(&body).map_err(|e| undecoded(e.to_string()))?;
        for group in list.items {
            all.add(&group);
        }
    }
    Ok(all)
}

impl Discovered {
    fn add(&mut self, group: &Group) {
        let name = group.metadata.name.as_str();
        let mut seen: Vec<&str> = Vec::new();
        for version in &group.versions {
            if version.freshness == "Stale" {
                self.stale.push(join(name, &version.version));
            }
            for entry in &version.resources {
                let kind = entry.response_kind.as_ref().map_or("", |k| k.kind.as_str());
                let namespaced = entry.scope == "Namespaced";
                let key = (name.to_owned(), version.version.clone(), kind.to_owned());
                self.kinds
                    .entry(key)
                    .or_insert_with(|| (entry.resource.clone(), namespaced));
                if seen.contains(&entry.resource.as_str()) {
                    continue;
                }
                seen.push(&entry.resource);
                self.preferred.push(Resource {
                    target: Target::new(name, &version.version, &entry.resource, kind),
                    namespaced,
                    verbs: entry.verbs.clone(),
                });
            }
        }
    }
}

fn join(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_resource_is_taken_once_at_the_version_that_comes_first() {
        let group = r#"{
            "metadata": {"name": "example.com"},
            "versions": [
                {"version": "v2", "freshness": "Current", "resources": [
                    {"resource": "widgets", "responseKind": {"kind": "Widget"}, "scope": "Namespaced", "verbs": ["get", "delete"]}
                ]},
                {"version": "v1", "freshness": "Stale", "resources": [
                    {"resource": "widgets", "responseKind": {"kind": "Widget"}, "scope": "Namespaced", "verbs": ["get"]},
                    {"resource": "gadgets", "responseKind": {"kind": "Gadget"}, "scope": "Cluster", "verbs": ["list"]}
                ]}
            ]
        }"#;
        let mut all = Discovered::default();
        all.add(&serde_json::from_str(group).unwrap());
        let names: Vec<_> = all.preferred.iter().map(|r| r.target.to_string()).collect();
        assert_eq!(names, ["example.com/v2/widgets", "example.com/v1/gadgets"]);
        assert_eq!(all.stale, ["example.com/v1"]);
        let (old, namespaced) = all.resource_of("example.com/v1", "Widget").unwrap();
        assert_eq!((old.version.as_ref(), namespaced), ("v1", true));
        assert!(all.preferred[0].can("delete") && !all.preferred[1].can("delete"));
        assert_eq!(all.resource_of("v1", "Widget"), None);
    }
}
