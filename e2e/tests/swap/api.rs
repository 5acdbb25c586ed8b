//! One API server, asked directly: no client library, no cache, no retries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use e2e::cluster::Cluster;
use e2e::https::{Client, Request};
use serde_json::{Value, json};

use super::fixture::{SOON, eventually};

pub(super) const JSON: &str = "application/json";
pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub(super) const MERGE: &str = "application/merge-patch+json";

/// An API server and who it is.
#[derive(Clone)]
pub(super) struct Api {
    pub name: &'static str,
    client: Client,
    address: SocketAddr,
}

pub(super) struct Answer {
    /// Who was asked for what.
    asked: String,
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null where it is something else.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body of an answer that has to be a success.
    pub(super) fn good(self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        let Self { asked, status, .. } = &self;
        assert!((200..300).contains(status), "{asked}: {status} {text}");
        self.json()
    }
}

/// A resource as discovery tells of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Resource {
    /// As `apps/v1`.
    pub version: String,
    pub name: String,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Resource {
    pub(super) fn group(&self) -> &str {
        self.version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    pub(super) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// The path of the collection; of all namespaces without one.
    pub(super) fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group().is_empty() {
            "/api"
        } else {
            "/apis"
        };
        let within = match namespace {
            Some(namespace) if self.namespaced => format!("/namespaces/{namespace}"),
            _ => String::new(),
        };
        format!("{root}/{}{within}/{}", self.version, self.name)
    }
}

impl Api {
    /// The API server on the host of this name.
    pub(super) fn on(cluster: &Cluster, name: &'static str, host: &str) -> Self {
        let servers = cluster.api_servers();
        let (_, address) = servers.iter().find(|(known, _)| known == host).unwrap();
        Self {
            name,
            client: cluster.client().clone(),
            address: *address,
        }
    }

    pub(super) fn ip(&self) -> String {
        self.address.ip().to_string()
    }

    /// Waits until the `kubernetes` Service leads to exactly these API servers.
    pub(super) fn knows_servers(&self, addresses: &BTreeSet<String>) {
        eventually(SOON, || {
            let object = self
                .get("/api/v1/namespaces/default/endpoints/kubernetes")
                .json();
            let found: BTreeSet<String> = list(&object["subsets"][0]["addresses"])
                .iter()
                .map(|address| text(&address["ip"]).to_owned())
                .collect();
            (found == *addresses)
                .then_some(())
                .ok_or(format!("{}: {found:?}", self.name))
        });
    }

    pub(super) fn send(&self, request: &Request<'_>) -> Answer {
        let Request { method, path, .. } = request;
        let asked = format!("{} {method} {path}", self.name);
        let answer = self.client.send(self.address, request);
        let answer = answer.unwrap_or_else(|error| {
            panic!("{asked}: {}", e2e::init::chain(&error));
        });
        Answer {
            asked,
            status: answer.status,
            body: answer.body,
        }
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.get_as(path, JSON)
    }

    pub(super) fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send(&Request {
            accept,
            ..Request::get(path)
        })
    }

    pub(super) fn write(
        &self,
        method: &'static str,
        path: &str,
        content: &str,
        body: &Value,
    ) -> Answer {
        self.send(&Request {
            method,
            path,
            accept: JSON,
            content,
            body: body.to_string().as_bytes(),
        })
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Answer {
        self.write("POST", path, JSON, body)
    }

    pub(super) fn put(&self, path: &str, body: &Value) -> Answer {
        self.write("PUT", path, JSON, body)
    }

    pub(super) fn merge(&self, path: &str, body: &Value) -> Answer {
        self.write("PATCH", path, MERGE, body)
    }

    pub(super) fn delete(&self, path: &str) -> Answer {
        let at_once = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
        self.write("DELETE", path, JSON, &at_once)
    }

    /// Every resource of every version that is served.
    pub(super) fn resources(&self) -> Vec<Resource> {
        let groups = self.get("/apis").good();
        let versions = list(&groups["groups"])
            .iter()
            .flat_map(|group| list(&group["versions"]))
            .map(|version| format!("/apis/{}", text(&version["groupVersion"])));
        let mut all = Vec::new();
        for path in std::iter::once("/api/v1".to_owned()).chain(versions) {
            let answer = self.get(&path).good();
            let version = text(&answer["groupVersion"]);
            // Those of a subresource are named after it.
            let whole = |resource: &&Value| !text(&resource["name"]).contains('/');
            all.extend(
                list(&answer["resources"])
                    .iter()
                    .filter(whole)
                    .map(|of| Resource {
                        version: version.to_owned(),
                        name: text(&of["name"]).to_owned(),
                        kind: text(&of["kind"]).to_owned(),
                        namespaced: of["namespaced"] == true,
                        verbs: list(&of["verbs"]).iter().map(|v| text(v).into()).collect(),
                    }),
            );
        }
        all
    }

    /// Every object, of kinds that are not written all the time.
    pub(super) fn inventory(&self) -> Inventory {
        let mut all = Inventory::default();
        for resource in self.resources() {
            // Events come all the time; statuses of components are no objects.
            let passing = ["events", "componentstatuses"].contains(&&*resource.name);
            if passing || !resource.can("list") {
                continue;
            }
            let found = self.get(&resource.path(None)).good();
            for object in list(&found["items"]) {
                let meta = &object["metadata"];
                let [uid, namespace, name] = ["uid", "namespace", "name"].map(|of| text(&meta[of]));
                // An API server makes its own lease anew when it starts.
                let own = namespace == "kube-system" && name.starts_with("apiserver-");
                if !own {
                    let told = (resource.name.clone(), format!("{namespace}/{name}"));
                    all.objects.insert(uid.to_owned(), told);
                }
            }
            all.kinds.insert(resource.name);
        }
        all
    }
}

/// What an API server has.
#[derive(Default)]
pub(super) struct Inventory {
    pub kinds: BTreeSet<String>,
    /// By uid: kind and name.
    pub objects: BTreeMap<String, (String, String)>,
}

/// The members of a list; none where there is none.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text; empty where there is none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Where two values differ, by path, with both sides.
pub(super) fn differences(ours: &Value, theirs: &Value) -> Vec<String> {
    let mut found = Vec::new();
    differ(ours, theirs, String::new(), &mut found);
    found
}

fn differ(ours: &Value, theirs: &Value, path: String, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differ(a, b, path, found),
                    (a, b) => found.push(format!("{path}: {} | {}", short(a), short(b))),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differ(a, b, format!("{path}[{index}]"), found);
            }
        }
        _ if ours == theirs => {}
        (a, b) => found.push(format!("{path}: {} | {}", short(Some(a)), short(Some(b)))),
    }
}

/// The beginning of a value.
fn short(value: Option<&Value>) -> String {
    value.map_or_else(
        || "none".to_owned(),
        |value| value.to_string().chars().take(80).collect(),
    )
}
