//! Watches etcd itself, beside all API servers, so that what really happened is known.
//!
//! It asks etcd's HTTP gateway for every change of every key, goes on at the next revision when a member falls silent, and
//! says which revisions it missed if etcd compacted them away meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::BodyExt;
use hyper::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::record::{Change, Gap, Object, Revision, Truth};
use super::stored;
use crate::bench::client::{Call, Connection, Error as ClientError};
use crate::gateway::{self, Watch};

/// Something is written all the time: a member that says nothing for this long is asked no more for now.
const SILENCE: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(50);

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Etcd(#[from] gateway::Error),
    #[error("etcd does not answer in time")]
    Silent,
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        gateway::Error::from(error).into()
    }
}

/// Where etcd is.
#[derive(Clone)]
pub(super) struct Etcd {
    pub members: Vec<SocketAddr>,
    pub tls: Arc<rustls::ClientConfig>,
    /// The prefix of the keys whose changes count, with a slash at its end.
    pub prefix: String,
}

#[derive(Default)]
struct Observed {
    truth: Truth,
    /// Everything up to here was seen.
    upto: Revision,
}

/// What was seen so far; clones see the same.
#[derive(Clone, Default)]
pub(super) struct Observer(Arc<Mutex<Observed>>);

impl Observer {
    /// Everything up to this revision was seen.
    pub(super) fn upto(&self) -> Revision {
        self.0.lock().upto
    }

    /// Observes from the next revision on; ends with the runtime.
    pub(super) async fn run(self, etcd: Etcd, since: Revision) {
        self.0.lock().upto = since;
        let mut member = 0;
        loop {
            // How it ended does not matter: what counts goes on at the next revision.
            let _ = self.watch(&etcd, member).await;
            member = (member + 1) % etcd.members.len();
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn watch(&self, etcd: &Etcd, member: usize) -> Result<(), Error> {
        let mut connection = etcd.connect(member).await?;
        let begun = Watch::begin(&mut connection, self.upto() + 1);
        let mut watch = within(begun).await??;
        while let Ok(next) = timeout(SILENCE, watch.next()).await {
            let Some(result) = next? else { break };
            if number(&result["compact_revision"]) > 0 {
                return self.jump(etcd, member).await;
            }
            self.see(etcd, &result)?;
        }
        Err(Error::Silent)
    }

    fn see(&self, etcd: &Etcd, result: &Value) -> Result<(), Error> {
        let mut observed = self.0.lock();
        let upto = observed.upto;
        for event in result["events"].as_array().into_iter().flatten() {
            let kv = &event["kv"];
            let revision = number(&kv["mod_revision"]);
            if revision <= upto {
                continue;
            }
            observed.upto = revision;
            let Some(key) = etcd.own(&kv["key"]) else {
                continue;
            };
            let object = if event["type"] == "DELETE" {
                None
            } else {
                Some(object(&key, kv)?)
            };
            observed.truth.changes.push(Change {
                revision,
                key,
                object,
            });
        }
        Ok(())
    }

    /// What comes next was compacted away: goes on with the state as it is now.
    async fn jump(&self, etcd: &Etcd, member: usize) -> Result<(), Error> {
        let (until, objects) = etcd.state(member).await?;
        let mut observed = self.0.lock();
        let after = observed.upto;
        observed.truth.gaps.push(Gap {
            after,
            until,
            objects,
        });
        observed.upto = until;
        Ok(())
    }

    /// Waits until everything that etcd has was seen, and says all that was. Every revision changes some key, and all keys are
    /// watched: none can be missed on the way.
    ///
    /// # Errors
    /// If etcd does not answer any more, or what is watched falls behind for good.
    pub(super) async fn finish(&self, etcd: &Etcd, patience: Duration) -> Result<Truth, Error> {
        let deadline = Instant::now() + patience;
        let mut member = 0;
        loop {
            let failed = match etcd.state(member).await {
                Ok((until, end)) => match self.truth(until, end) {
                    Some(truth) => return Ok(truth),
                    None => Error::Silent,
                },
                Err(error) => {
                    member = (member + 1) % etcd.members.len();
                    error
                }
            };
            if Instant::now() > deadline {
                return Err(failed);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What was seen, when nobody can say what there is besides.
    pub(super) fn partial(&self) -> Truth {
        let observed = self.0.lock();
        observed.truth.clone().open_ended(observed.upto)
    }

    /// What was seen, if that reaches to `until`.
    fn truth(&self, until: Revision, end: Vec<Object>) -> Option<Truth> {
        let observed = self.0.lock();
        if observed.upto < until {
            return None;
        }
        let mut truth = observed.truth.clone();
        truth.changes.retain(|change| change.revision <= until);
        Some(Truth {
            until,
            end,
            ..truth
        })
    }
}

impl Etcd {
    async fn connect(&self, member: usize) -> Result<Connection, Error> {
        Ok(within(Connection::open(
            self.members[member],
            Arc::clone(&self.tls),
        ))
        .await??)
    }

    /// The name of the object that a key of etcd is for, if it is one of those that count.
    fn own(&self, key: &Value) -> Option<String> {
        let key = String::from_utf8(bytes(key)?).ok()?;
        key.strip_prefix(&self.prefix).map(str::to_owned)
    }

    /// etcd's revision and all objects then, as a majority of its members has them.
    pub(super) async fn state(&self, member: usize) -> Result<(Revision, Vec<Object>), Error> {
        let end = self
            .prefix
            .strip_suffix('/')
            .map(|prefix| format!("{prefix}0"));
        let body = json!({
            "key": BASE64.encode(&self.prefix), "range_end": BASE64.encode(end.unwrap_or_default()),
        });
        let call = Call::new(Method::POST, "/v3/kv/range", body.to_string());
        let mut connection = self.connect(member).await?;
        let response = within(connection.begin(&call)).await??;
        let answer = within(response.into_body().collect())
            .await?
            .map_err(gateway::Error::Body)?;
        let answer: Value =
            serde_json::from_slice(&answer.to_bytes()).map_err(|_| gateway::Error::Malformed)?;
        let revision = number(&answer["header"]["revision"]);
        let kvs = answer["kvs"].as_array().into_iter().flatten();
        let objects =
            kvs.map(|kv| object(&self.own(&kv["key"]).ok_or(gateway::Error::Malformed)?, kv));
        Ok((revision, objects.collect::<Result<_, _>>()?))
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    timeout(ANSWER, work).await.map_err(|_| Error::Silent)
}

fn object(key: &str, kv: &Value) -> Result<Object, gateway::Error> {
    let value = bytes(&kv["value"]).ok_or(gateway::Error::Malformed)?;
    stored::config_map(key, number(&kv["mod_revision"]), &value).ok_or(gateway::Error::Malformed)
}

fn bytes(text: &Value) -> Option<Vec<u8>> {
    BASE64.decode(text.as_str()?).ok()
}

/// The gateway writes 64-bit numbers as strings, and leaves zeros out.
pub(super) fn number(text: &Value) -> u64 {
    text.as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}
