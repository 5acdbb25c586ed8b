//! The etcd client: what an API server needs of etcd's gRPC API, and nothing else.
//!
//! Owns the connections. A client sticks to one member and moves to the next when that one is
//! unavailable; reads are retried, writes only when the request provably never left. Every connection
//! is kept alive by pings, without which a member that was stopped, not killed, would hang its
//! callers for ever. Certificates are read anew for every connection, so that rotation needs no
//! restart.
//!
//! The messages are generated from a trimmed copy of etcd's protocol (`hack/protos`).
//!
//! Invariant: every request demands a leader, so that a member cut off from its cluster fails instead
//! of answering from the past.

mod error;
mod lease;
mod member;
#[rustfmt::skip] // generated
#[allow(clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications, dead_code, reason = "generated code")]
pub(crate) mod pb;
mod tls;
mod transport;
mod version;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use tokio::sync::watch;
use tonic::{Request, Status, Streaming};

use crate::backoff::spread;
use crate::trace::{Called, Tried};
use member::Member;

pub use error::Error;
pub(crate) use lease::Leases;
pub use version::{Shortcoming, Version};

/// Where etcd is and how to get in: upstream's `--etcd-*` flags.
#[derive(Clone, Debug)]
pub struct Config {
    /// Member URLs, `http://` or `https://`: `--etcd-servers`.
    pub servers: Vec<String>,
    /// `--etcd-cafile`; needed for `https`.
    pub ca_file: Option<PathBuf>,
    /// `--etcd-certfile`, with [`Config::key_file`].
    pub cert_file: Option<PathBuf>,
    /// `--etcd-keyfile`.
    pub key_file: Option<PathBuf>,
}

/// How long reads are retried while no member answers, each being tried at least once; an election
/// takes about a second.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// How long one of several members may take to answer a read, or to begin to.
const READ_ATTEMPT: Duration = Duration::from_secs(3);
/// Between two tries of a read, with half as much jitter.
const RETRY_PAUSE: Duration = Duration::from_millis(25);
/// etcd's own client accepts as much; responses are bounded by the limits of our requests.
const MAX_RESPONSE: usize = i32::MAX as usize;

/// What is called, as traces name it.
mod method {
    pub(super) const RANGE: &str = "etcdserverpb.KV/Range";
    pub(super) const RANGE_STREAM: &str = "etcdserverpb.KV/RangeStream";
    pub(super) const TXN: &str = "etcdserverpb.KV/Txn";
    pub(super) const COMPACT: &str = "etcdserverpb.KV/Compact";
    pub(super) const GRANT: &str = "etcdserverpb.Lease/LeaseGrant";
    pub(super) const REVOKE: &str = "etcdserverpb.Lease/LeaseRevoke";
    pub(super) const STATUS: &str = "etcdserverpb.Maintenance/Status";
}

/// A client of one etcd cluster. Cloning is cheap.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    members: Vec<Member>,
    /// The member that requests go to.
    current: watch::Sender<usize>,
    /// The cluster that answered first; 0 before.
    cluster: AtomicU64,
}

/// A watch stream that the server has accepted requests on.
pub(crate) struct WatchStream {
    pub(crate) requests: mpsc::Sender<pb::WatchRequest>,
    pub(crate) responses: Streaming<pb::WatchResponse>,
}

impl Client {
    /// A client for these servers. Connections are made when they are needed.
    ///
    /// # Errors
    /// When a URL or a certificate file is unusable.
    pub fn new(config: &Config) -> Result<Self, Error> {
        if config.servers.is_empty() {
            return Err(Error::Config("no etcd servers are given".into()));
        }
        let tls = tls::Files::of(config)?;
        let members = config
            .servers
            .iter()
            .map(|server| Member::new(server, tls.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            inner: Arc::new(Inner {
                members,
                current: watch::Sender::new(0),
                cluster: AtomicU64::new(0),
            }),
        })
    }

    /// A linearizable or past read; retried.
    pub(crate) async fn range(
        &self,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Error> {
        let response = self
            .reading(method::RANGE, |member| {
                let request = request.clone();
                async move { member.kv().range(Request::new(request)).await }
            })
            .await?;
        self.same_cluster(response.header.as_ref())?;
        Ok(response)
    }

    /// A read as a stream of chunks (etcd 3.7); [`Error::Unimplemented`] elsewhere, at the latest
    /// with the first chunk. A stream that breaks is not resumed.
    pub(crate) async fn range_stream(
        &self,
        request: pb::RangeRequest,
    ) -> Result<Streaming<pb::RangeStreamResponse>, Error> {
        self.reading(method::RANGE_STREAM, |member| {
            let request = request.clone();
            async move { member.kv().range_stream(Request::new(request)).await }
        })
        .await
    }

    /// A transaction. Retried only when it was never sent: an answer that got lost may have been a
    /// success.
    pub(crate) async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        let response = self
            .writing(method::TXN, |member| {
                let request = request.clone();
                async move { member.kv().txn(Request::new(request)).await }
            })
            .await?;
        self.same_cluster(response.header.as_ref())?;
        Ok(response)
    }

    pub(crate) async fn compact(&self, revision: i64) -> Result<(), Error> {
        self.writing(method::COMPACT, |member| async move {
            member
                .kv()
                .compact(pb::CompactionRequest { revision })
                .await
        })
        .await?;
        Ok(())
    }

    /// A lease that etcd ends `ttl` seconds from now, with the keys attached to it.
    pub(crate) async fn grant(&self, ttl: i64) -> Result<i64, Error> {
        let grant = pb::LeaseGrantRequest { ttl, id: 0 };
        Ok(self
            .writing(method::GRANT, |member| async move {
                member.lease().lease_grant(grant).await
            })
            .await?
            .id)
    }

    pub(crate) async fn revoke(&self, id: i64) -> Result<(), Error> {
        let revoke = pb::LeaseRevokeRequest { id };
        self.writing(method::REVOKE, |member| async move {
            member.lease().lease_revoke(revoke).await
        })
        .await?;
        Ok(())
    }

    /// Version and size of the database of the member in use.
    ///
    /// # Errors
    /// When no member answers.
    pub async fn status(&self) -> Result<MemberStatus, Error> {
        let status = self
            .reading(method::STATUS, |member| async move {
                member.maintenance().status(pb::StatusRequest {}).await
            })
            .await?;
        Ok(MemberStatus {
            version: Version::parse(&status.version),
            db_size: status.db_size,
        })
    }

    /// The connection to the member in use, for what only tests ask of etcd.
    pub(crate) fn channel(&self) -> transport::Channel {
        self.inner.members[*self.inner.current.borrow()].channel()
    }

    /// A connection of its own to the member in use, for one watch: reads and writes never queue
    /// behind events, nor events behind them.
    pub(crate) fn dedicated(&self) -> Dedicated {
        let at = *self.inner.current.borrow();
        Dedicated {
            client: self.clone(),
            at,
            member: self.inner.members[at].reconnected(),
        }
    }

    /// The read that tells the revision.
    pub(crate) fn asked(&self) -> Called<'_> {
        let at = *self.inner.current.borrow();
        self.inner.members[at].called(method::RANGE)
    }

    /// Moves to the next member, unless somebody has moved on from `at` already.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.inner.members.len();
        self.inner.current.send_if_modified(|current| {
            let here = *current == at && next != at;
            if here {
                *current = next;
            }
            here
        });
    }

    async fn reading<T, F>(
        &self,
        method: &'static str,
        mut call: impl FnMut(Member) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let (start, mut tries) = (tokio::time::Instant::now(), 0);
        loop {
            let at = *self.inner.current.borrow();
            let member = &self.inner.members[at];
            let tried = Tried::begin(|| member.called(method));
            // Boxed, as in `writing`: tonic's future takes kilobytes, which every caller's would contain.
            let outcome = self.attempt(Box::pin(call(member.clone()))).await;
            tried.ended(&outcome);
            match outcome {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => {
                    let error = Error::from(status);
                    if !error.is_unavailable() {
                        return Err(error);
                    }
                    self.leave(at);
                    tries += 1;
                    if tries >= self.inner.members.len() && start.elapsed() > READ_PATIENCE {
                        return Err(error);
                    }
                    tokio::time::sleep(spread(RETRY_PAUSE, 0.5..1.5)).await;
                }
            }
        }
    }

    /// One try of a read. Where there is another member, this one does not get for ever.
    async fn attempt<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        if self.inner.members.len() == 1 {
            return call.await;
        }
        let late = |_| {
            Err(Status::deadline_exceeded(format!(
                "no answer in {READ_ATTEMPT:?}"
            )))
        };
        tokio::time::timeout(READ_ATTEMPT, call)
            .await
            .unwrap_or_else(late)
    }

    async fn writing<T, F>(
        &self,
        method: &'static str,
        mut call: impl FnMut(Member) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut tries = self.inner.members.len();
        loop {
            let at = *self.inner.current.borrow();
            let member = &self.inner.members[at];
            let tried = Tried::begin(|| member.called(method));
            let outcome = Box::pin(call(member.clone())).await;
            tried.ended(&outcome);
            match outcome {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => {
                    let never_sent = transport::never_sent(&status);
                    let error = Error::from(status);
                    if error.is_unavailable() {
                        self.leave(at);
                    }
                    tries -= 1;
                    if tries == 0 || !never_sent {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Refuses an answer from another cluster than the first one: its revisions mean nothing here.
    fn same_cluster(&self, header: Option<&pb::ResponseHeader>) -> Result<(), Error> {
        let Some(header) = header else { return Ok(()) };
        let known = &self.inner.cluster;
        match known.compare_exchange(0, header.cluster_id, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(first) if first == header.cluster_id => Ok(()),
            Err(_) => Err(Error::OtherCluster),
        }
    }

    /// Takes whichever cluster answers next for the right one.
    pub(crate) fn forget_cluster(&self) {
        self.inner.cluster.store(0, Ordering::Relaxed);
    }
}

/// What [`Client::status`] tells.
#[derive(Clone, Copy, Debug)]
pub struct MemberStatus {
    /// `None` when it cannot be read; nothing newer than etcd 3.4.0 is assumed then.
    pub version: Option<Version>,
    /// Bytes.
    pub db_size: i64,
}

/// One connection to one member; see [`Client::dedicated`].
pub(crate) struct Dedicated {
    client: Client,
    at: usize,
    member: Member,
}

impl Dedicated {
    pub(crate) async fn range(
        &self,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Error> {
        let response = self.member.kv().range(request).await?.into_inner();
        self.client.same_cluster(response.header.as_ref())?;
        Ok(response)
    }

    pub(crate) async fn version(&self) -> Result<Option<Version>, Error> {
        let status = self.member.maintenance().status(pb::StatusRequest {}).await;
        match status.map_err(Error::from) {
            Ok(status) => Ok(Version::parse(&status.into_inner().version)),
            // Not every user may ask. Then nothing is assumed of it.
            Err(Error::PermissionDenied) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Opens a watch stream and asks for one watch on it.
    pub(crate) async fn watch(&self, create: pb::WatchCreateRequest) -> Result<WatchStream, Error> {
        // One creation and a few progress requests; more progress requests than these say nothing new.
        let (mut requests, outgoing) = mpsc::channel(4);
        let request = pb::watch_request::RequestUnion::CreateRequest(create);
        requests
            .try_send(pb::WatchRequest {
                request_union: Some(request),
            })
            .expect("the channel is new and has room");
        let responses = self.member.watch().watch(outgoing).await?.into_inner();
        Ok(WatchStream {
            requests,
            responses,
        })
    }

    /// Requests have left the member for another one: it may be silent.
    pub(crate) async fn left(&self) {
        // The sender lives as long as the client.
        let _ = self
            .client
            .inner
            .current
            .subscribe()
            .wait_for(|current| *current != self.at)
            .await;
    }

    /// The member failed: the next connection goes to another one.
    pub(crate) fn abandon(self) {
        self.client.leave(self.at);
    }
}

/// The end of the range of all keys that begin with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0") // all keys from here on
}
