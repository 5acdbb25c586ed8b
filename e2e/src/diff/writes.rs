//! Every value that is written to an etcd, by the revision that wrote it: what a write left behind is read without asking.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::value::{list, text};
use crate::bench::client::Connection;
use crate::gateway::{self, Watch};

/// How long a write that was answered may stay unseen.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Etcd(#[from] gateway::Error),
    #[error("etcd ended the watch")]
    Ended,
}

/// A key and what was written under it; nothing if it was deleted.
pub type Write = (String, Option<Vec<u8>>);

/// What was written so far; clones see the same.
#[derive(Clone)]
pub struct Writes(Arc<Inner>);

struct Inner {
    /// Writes that were looked for and not seen in time.
    missed: AtomicUsize,
    by_revision: Mutex<BTreeMap<u64, Vec<Write>>>,
    upto: watch::Sender<u64>,
}

impl Default for Writes {
    fn default() -> Self {
        Self(Arc::new(Inner {
            missed: AtomicUsize::new(0),
            by_revision: Mutex::default(),
            upto: watch::Sender::new(0),
        }))
    }
}

impl Writes {
    /// Sees every write from now on, until the connection ends.
    ///
    /// # Errors
    /// When it ends: what is written then is not seen.
    pub async fn follow(
        self,
        address: SocketAddr,
        tls: Arc<rustls::ClientConfig>,
    ) -> Result<(), Error> {
        let opened = Connection::open(address, tls).await;
        let mut connection = opened.map_err(gateway::Error::from)?;
        let mut watch = Watch::begin(&mut connection, 1).await?;
        while let Some(result) = watch.next().await? {
            self.see(list(&result["events"]))?;
        }
        Err(Error::Ended)
    }

    fn see(&self, events: &[Value]) -> Result<(), gateway::Error> {
        let mut last = None;
        for event in events {
            let kv = &event["kv"];
            let bytes = |field: &str| {
                BASE64
                    .decode(text(&kv[field]))
                    .map_err(|_| gateway::Error::Malformed)
            };
            let revision: u64 = text(&kv["mod_revision"])
                .parse()
                .map_err(|_| gateway::Error::Malformed)?;
            let key = String::from_utf8(bytes("key")?).map_err(|_| gateway::Error::Malformed)?;
            let value = match text(&event["type"]) {
                "DELETE" => None,
                _ => Some(bytes("value")?),
            };
            let mut seen = self.0.by_revision.lock();
            seen.entry(revision).or_default().push((key, value));
            last = Some(revision);
        }
        if let Some(last) = last {
            self.0.upto.send_replace(last);
        }
        Ok(())
    }

    /// How many writes that servers told of were not seen. Without them, nothing is known of what is stored.
    pub fn missed(&self) -> usize {
        self.0.missed.load(Ordering::Relaxed)
    }

    /// What was written at a revision that a server has told.
    pub async fn at(&self, revision: u64) -> Vec<Write> {
        let mut upto = self.0.upto.subscribe();
        let seen = timeout(PATIENCE, upto.wait_for(|upto| *upto >= revision)).await;
        if !matches!(seen, Ok(Ok(_))) {
            self.0.missed.fetch_add(1, Ordering::Relaxed);
        }
        drop(seen);
        self.0
            .by_revision
            .lock()
            .get(&revision)
            .cloned()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_write_is_found_by_its_revision() {
        let writes = Writes::default();
        let waits = writes.clone();
        let event = |kind: &str, revision: &str| json!({"type": kind, "kv": {"key": BASE64.encode("/a"), "value": BASE64.encode("b"), "mod_revision": revision}});
        let later = async {
            writes
                .see(&[event("PUT", "7"), event("DELETE", "8")])
                .unwrap()
        };
        let (found, ()) = tokio::join!(waits.at(7), later);
        assert_eq!(found, [("/a".to_owned(), Some(b"b".to_vec()))]);
        assert_eq!(writes.at(8).await, [("/a".to_owned(), None)]);
    }
}
