//! Keeps the watch alive: opens it, resumes it where it broke, and begins a new epoch when that is
//! not possible.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::assemble::{Assembler, OutOfOrder};
use super::mark::Mark;
use super::{COMPACT_KEY, Line, revision};
use crate::backoff::Backoff;
use crate::etcd::{self, Version, WatchStream, pb, prefix_end};

/// For each answer while a stream is being set up.
const SETUP: Duration = Duration::from_secs(10);
/// Before the stream is opened again, growing to [`MAX_PAUSE`] while that fails.
const PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Why a stream ended.
#[derive(thiserror::Error, Debug)]
enum Lost {
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    #[error("no answer in {SETUP:?}")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error(transparent)]
    Order(#[from] OutOfOrder),
    #[error("etcd ended the stream")]
    Ended,
    #[error("etcd cancelled the watch: {0}")]
    Cancelled(String),
    #[error("answers of etcd do not fit the history so far")]
    Doubt,
    #[error("the member does not answer other requests")]
    Left,
    #[error("the events after revision {0} are compacted")]
    Compacted(i64),
    #[error("etcd has another history than before")]
    Replaced,
    #[error("etcd permits no watch beyond the prefix")]
    Narrow,
}

/// How the next stream begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// Where the last one ended.
    Resume,
    /// A new epoch; `true` when the old history is not its past.
    Anew(bool),
}

/// Follows etcd until the process ends.
pub(super) async fn run(line: Arc<Line>) {
    let backoff = Backoff::new(PAUSE, MAX_PAUSE);
    let mut follow = Follow {
        line,
        begin: Begin::Anew(false),
        wide: true,
        backoff,
        mark: None,
        version: None,
    };
    loop {
        let lost = follow.stream().await;
        let Err(lost) = lost;
        match &lost {
            Lost::Compacted(_) => follow.begin = Begin::Anew(false),
            Lost::Replaced | Lost::Etcd(etcd::Error::OtherCluster) => {
                follow.line.client.forget_cluster();
                follow.begin = Begin::Anew(true);
            }
            Lost::Narrow => follow.wide = false,
            _ => {}
        }
        warn!(error = %lost, "etcd watch lost");
        tokio::time::sleep(follow.backoff.pause()).await;
    }
}

struct Follow {
    line: Arc<Line>,
    begin: Begin,
    /// Whether the watch spans the compaction key too. It does unless etcd's permissions forbid it.
    wide: bool,
    backoff: Backoff,
    /// The last event of the history.
    mark: Option<Mark>,
    /// What the last member said of its version.
    version: Option<Option<Version>>,
}

impl Follow {
    /// Opens a stream and follows it until it is lost.
    async fn stream(&mut self) -> Result<std::convert::Infallible, Lost> {
        let line = Arc::clone(&self.line);
        let member = line.client.dedicated();
        let opened = self.open(&member).await;
        let (mut stream, mut assembler) = match opened {
            Ok(opened) => opened,
            Err(lost) => {
                if !matches!(lost, Lost::Compacted(_) | Lost::Replaced | Lost::Narrow) {
                    member.abandon();
                }
                return Err(lost);
            }
        };
        line.metrics.streams.inc();
        loop {
            tokio::select! {
                biased;
                response = stream.responses.message() => {
                    let response = response.map_err(etcd::Error::from);
                    let response = match response {
                        Ok(response) => response.ok_or(Lost::Ended)?,
                        Err(error) => {
                            member.abandon();
                            return Err(error.into());
                        }
                    };
                    line.hear();
                    check(&line, &response, line.frontier())?;
                    if let Some(whole) = assembler.push(response)? {
                        self.mark = whole.events.last().and_then(Mark::of).or(self.mark.take());
                        line.deliver(whole.events, whole.applied);
                    }
                    self.backoff.reset();
                }
                () = line.progress_wanted.notified() => {
                    line.metrics.progress_requests.inc();
                    let request = pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                    // Full: enough of them are on their way.
                    let _ = stream.requests.try_send(pb::WatchRequest { request_union: Some(request) });
                }
                () = line.doubt.notified() => return Err(Lost::Doubt),
                () = member.left() => return Err(Lost::Left),
            }
        }
    }

    /// Opens the stream at the right place and waits until etcd has created the watch.
    async fn open(&mut self, member: &etcd::Dedicated) -> Result<(WatchStream, Assembler), Lost> {
        let line = &self.line;
        let answer = timeout(SETUP, member.range(line.ask_request())).await??;
        let now = revision(answer.header.as_ref())?;
        let version = timeout(SETUP, member.version()).await??;
        let after = match self.begin {
            Begin::Resume if now < line.frontier() => return Err(Lost::Replaced),
            Begin::Resume => {
                self.recognise(member).await?;
                line.frontier()
            }
            Begin::Anew(_) => now,
        };
        let mut stream = timeout(SETUP, member.watch(self.request(after))).await??;
        let created = timeout(SETUP, stream.responses.message())
            .await?
            .map_err(etcd::Error::from)?;
        check(line, &created.ok_or(Lost::Ended)?, after)?;

        let true_progress = version.is_some_and(Version::progress_is_true);
        line.progress_true.store(true_progress, Ordering::Relaxed);
        line.range_stream.store(
            version.is_some_and(Version::has_range_stream),
            Ordering::Relaxed,
        );
        line.hear();
        if self.version.replace(version) != Some(version) {
            judge(line, version);
        }
        if let Begin::Anew(replaced) = self.begin {
            if replaced {
                line.metrics.replaced.inc();
                error!(
                    revision = after,
                    "etcd has another history than before: another cluster or a restored backup; \
                     everything is listed anew and all watches end"
                );
            }
            line.begin(after, replaced);
            self.begin = Begin::Resume;
            self.mark = None;
            info!(revision = after, version = %Shown(version), replaced, "etcd history begins");
        } else {
            debug!(revision = after, behind = now - after, "etcd watch resumed");
        }
        Ok((stream, Assembler::new(after, true_progress)))
    }

    /// Makes sure that the history to resume is the one that was followed.
    async fn recognise(&self, member: &etcd::Dedicated) -> Result<(), Lost> {
        let Some(mark) = &self.mark else {
            return Ok(());
        };
        match timeout(SETUP, member.range(mark.request())).await? {
            Ok(response) if mark.is_in(&response) => Ok(()),
            Ok(_) | Err(etcd::Error::FutureRevision) => Err(Lost::Replaced),
            // Forgotten: it cannot be told, and resuming may still be possible.
            Err(etcd::Error::Compacted) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// One watch over the one range that spans the prefix and the compaction key: what others write
    /// between them moves the frontier for free.
    fn request(&self, after: i64) -> pb::WatchCreateRequest {
        let prefix = self.line.prefix.as_bytes();
        let (mut key, mut end) = (Bytes::copy_from_slice(prefix), prefix_end(prefix));
        if self.wide {
            let compact = COMPACT_KEY.as_bytes();
            key = key.min(Bytes::from_static(compact));
            let after_compact = Bytes::from([compact, b"\0"].concat());
            if *end != *b"\0" {
                end = end.max(after_compact);
            }
        }
        pb::WatchCreateRequest {
            key,
            range_end: end,
            start_revision: after + 1,
            watch_id: 0,
            fragment: true,
        }
    }
}

/// Tells a response that ends the watch.
fn check(line: &Line, response: &pb::WatchResponse, after: i64) -> Result<(), Lost> {
    if response.compact_revision > 0 {
        line.saw_compaction(response.compact_revision);
        return Err(Lost::Compacted(after));
    }
    if !response.canceled {
        return Ok(());
    }
    if response.cancel_reason.contains("permission denied") {
        return Err(Lost::Narrow);
    }
    Err(Lost::Cancelled(response.cancel_reason.clone()))
}

/// Tells once per version what is missing in it.
fn judge(line: &Line, version: Option<Version>) {
    let shortcoming = Version::shortcoming(version);
    line.metrics
        .shortcoming
        .set(i64::from(shortcoming.is_some()));
    if let Some(shortcoming) = shortcoming {
        warn!(version = %Shown(version), "etcd falls short: {shortcoming}");
    }
}

/// A version that may be unknown.
struct Shown(Option<Version>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(version) => version.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}
