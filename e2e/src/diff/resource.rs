//! Resources as discovery tells of them.

use serde_json::Value;

use super::value::{list, text};

/// A resource or subresource of one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// As `apps/v1`.
    pub version: String,
    /// A subresource is named after its resource: `pods/status`.
    pub name: String,
    pub kind: String,
    /// The version of the kind, where it is another: a `Scale` is of `autoscaling/v1`.
    pub kind_version: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Resource {
    /// All of an `APIResourceList`, subresources too.
    pub fn parse(answer: &Value) -> Vec<Self> {
        let version = text(&answer["groupVersion"]);
        let parse = |of: &Value| {
            let own = match (text(&of["group"]), text(&of["version"])) {
                (_, "") => version.to_owned(),
                ("", version) => version.to_owned(),
                (group, version) => format!("{group}/{version}"),
            };
            Self {
                version: version.to_owned(),
                name: text(&of["name"]).to_owned(),
                kind: text(&of["kind"]).to_owned(),
                kind_version: own,
                namespaced: of["namespaced"] == true,
                verbs: list(&of["verbs"])
                    .iter()
                    .map(|verb| text(verb).into())
                    .collect(),
            }
        };
        list(&answer["resources"]).iter().map(parse).collect()
    }

    pub fn group(&self) -> &str {
        self.version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    pub fn is_whole(&self) -> bool {
        !self.name.contains('/')
    }

    /// The path of all resources of the version.
    pub fn root(version: &str) -> String {
        let root = if version.contains('/') {
            "/apis"
        } else {
            "/api"
        };
        format!("{root}/{version}")
    }

    /// The path of the collection; of all namespaces without one.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let within = match namespace {
            Some(namespace) if self.namespaced => format!("/namespaces/{namespace}"),
            _ => String::new(),
        };
        format!("{}{within}/{}", Self::root(&self.version), self.name)
    }

    /// The paths of all versions that an `APIGroupList` names, and of the core's.
    pub fn versions(groups: &Value) -> Vec<String> {
        let versions = list(&groups["groups"])
            .iter()
            .flat_map(|group| list(&group["versions"]))
            .map(|version| text(&version["groupVersion"]).to_owned());
        std::iter::once("v1".to_owned()).chain(versions).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn resources_are_read_with_their_subresources() {
        let answer = json!({"groupVersion": "apps/v1", "resources": [
            {"name": "deployments", "kind": "Deployment", "namespaced": true, "verbs": ["get", "list"]},
            {"name": "deployments/scale", "kind": "Scale", "group": "autoscaling", "version": "v1",
             "namespaced": true, "verbs": ["get"]},
        ]});
        let all = Resource::parse(&answer);
        assert_eq!(
            all[0].path(Some("a")),
            "/apis/apps/v1/namespaces/a/deployments"
        );
        assert_eq!(all[0].path(None), "/apis/apps/v1/deployments");
        assert!(all[0].can("list") && !all[0].can("watch") && all[0].is_whole());
        assert_eq!(
            (&*all[1].kind_version, all[1].is_whole()),
            ("autoscaling/v1", false)
        );
    }
}
