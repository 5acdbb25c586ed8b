//! One API server, asked directly: no client library, no cache, no retries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use e2e::cluster::Cluster;
use e2e::diff::resource::Resource;
use e2e::diff::value::{list, text};
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
        let roots = Resource::versions(&groups).into_iter();
        let roots = roots.map(|version| Resource::root(&version));
        roots
            .flat_map(|root| Resource::parse(&self.get(&root).good()))
            .filter(Resource::is_whole)
            .collect()
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
