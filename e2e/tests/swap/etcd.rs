//! etcd itself, over the JSON form of its API: what is really stored.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use e2e::cluster::Cluster;
use e2e::https::{Client, Request};
use serde_json::{Value, json};

use super::api::{list, text};

pub(super) struct Etcd {
    client: Client,
    address: SocketAddr,
}

/// A value with what etcd knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub value: Vec<u8>,
    /// How often the key was written.
    pub version: u64,
}

impl Etcd {
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self {
            client: cluster.etcd_client().unwrap(),
            address: cluster.etcd()[0],
        }
    }

    fn call(&self, path: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let request = Request {
            method: "POST",
            path,
            accept: "application/json",
            content: "application/json",
            body: body.as_bytes(),
        };
        let answer = self.client.send(self.address, &request);
        let answer = answer.map_err(|error| e2e::init::chain(&error))?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        match answer.status {
            200 => serde_json::from_str(&text).map_err(|error| error.to_string()),
            _ => Err(text),
        }
    }

    /// The value under a key, now or at a revision.
    pub(super) fn get_at(&self, key: &str, revision: u64) -> Result<Option<Stored>, String> {
        let asked = json!({"key": STANDARD.encode(key), "revision": revision.to_string()});
        let answer = self.call("/v3/kv/range", &asked)?;
        let Some(found) = list(&answer["kvs"]).first() else {
            return Ok(None);
        };
        let value = STANDARD.decode(text(&found["value"]));
        Ok(Some(Stored {
            value: value.map_err(|error| error.to_string())?,
            version: text(&found["version"]).parse().unwrap_or_default(),
        }))
    }

    pub(super) fn get(&self, key: &str) -> Option<Stored> {
        self.get_at(key, 0).unwrap()
    }

    pub(super) fn put(&self, key: &str, value: &[u8]) {
        let body = json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)});
        self.call("/v3/kv/put", &body).unwrap();
    }

    pub(super) fn delete(&self, key: &str) {
        let body = json!({"key": STANDARD.encode(key)});
        self.call("/v3/kv/deleterange", &body).unwrap();
    }

    /// The revision of the whole store.
    pub(super) fn revision(&self) -> u64 {
        let asked = json!({"key": STANDARD.encode("/"), "limit": "1"});
        let answer = self.call("/v3/kv/range", &asked).unwrap();
        text(&answer["header"]["revision"]).parse().unwrap()
    }
}
