//! etcd itself, over the JSON form of its API: what is really stored. Blocking, a connection per call.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::value::{list, text};
use crate::cluster::Cluster;
use crate::https::{self, Client, Request};

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("etcd")]
    Https(#[from] https::Error),
    #[error("etcd refuses: {0}")]
    Refused(String),
    #[error("etcd's answer cannot be read: {0}")]
    Malformed(String),
}

pub struct Etcd {
    client: Client,
    address: SocketAddr,
}

/// A value with what etcd knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub value: Vec<u8>,
    /// How often the key was written.
    pub version: u64,
}

impl Etcd {
    /// # Errors
    /// If the cluster's certificates cannot be read.
    pub fn of(cluster: &Cluster) -> Result<Self, Error> {
        Ok(Self {
            client: cluster.etcd_client()?,
            address: cluster.etcd()[0],
        })
    }

    fn call(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let body = body.to_string();
        let request = Request {
            method: "POST",
            path,
            accept: "application/json",
            content: "application/json",
            body: body.as_bytes(),
        };
        let answer = self.client.send(self.address, &request)?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        match answer.status {
            200 => serde_json::from_str(&text).map_err(|_| Error::Malformed(text)),
            _ => Err(Error::Refused(text)),
        }
    }

    /// The value under a key, now (0) or at a revision.
    ///
    /// # Errors
    /// If etcd does not answer, or has compacted the revision away.
    pub fn get_at(&self, key: &str, revision: u64) -> Result<Option<Stored>, Error> {
        let asked = json!({"key": STANDARD.encode(key), "revision": revision.to_string()});
        let answer = self.call("/v3/kv/range", &asked)?;
        let Some(found) = list(&answer["kvs"]).first() else {
            return Ok(None);
        };
        let value = STANDARD.decode(text(&found["value"]));
        Ok(Some(Stored {
            value: value.map_err(|error| Error::Malformed(error.to_string()))?,
            version: text(&found["version"]).parse().unwrap_or_default(),
        }))
    }

    /// # Errors
    /// If etcd does not answer.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        let body = json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)});
        self.call("/v3/kv/put", &body).map(drop)
    }

    /// # Errors
    /// If etcd does not answer.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        let body = json!({"key": STANDARD.encode(key)});
        self.call("/v3/kv/deleterange", &body).map(drop)
    }

    /// The revision of the whole store.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub fn revision(&self) -> Result<u64, Error> {
        let asked = json!({"key": STANDARD.encode("/"), "limit": "1"});
        let answer = self.call("/v3/kv/range", &asked)?;
        let revision = text(&answer["header"]["revision"]).parse();
        revision.map_err(|_| Error::Malformed(answer.to_string()))
    }
}
