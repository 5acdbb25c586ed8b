//! The task of one collection: list, then apply events for as long as the history holds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::inbox::Received;
use super::{Cache, Change, Phase};
use crate::backoff::Backoff;
use crate::line::{Batch, Epoch};

/// After a failed list, growing to [`MAX_PAUSE`] while they fail.
const PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Events that are applied under one lock, so that readers are not held up by a long batch.
const APPLY_AT_ONCE: usize = 64;

/// Why a collection is listed again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Again {
    Epoch,
    /// It fell behind what may wait.
    Lost,
    /// etcd forgot the revision of the list while it was read.
    Compacted,
    /// Its decoder changed, or it was found to differ from etcd.
    Asked,
    /// An undecodable value was overwritten; what lay between is not known.
    Superseded,
    Closed,
}

/// Runs until the collection is closed.
pub(super) async fn run(cache: Arc<Cache>) {
    let mut epochs = cache.line.epochs();
    let mut backoff = Backoff::new(PAUSE, MAX_PAUSE);
    loop {
        if cache.is_closed() {
            return;
        }
        // A suspension comes a moment before the epoch is announced.
        let current = cache.state.read().epoch.max(1);
        let epoch = match epochs.wait_for(|epoch| epoch.number >= current).await {
            Ok(epoch) => epoch.number,
            Err(_) => return, // the line is gone, and so is the process
        };
        epochs.mark_unchanged();
        match cache.load(epoch, &mut epochs).await {
            Ok(Some(_)) => continue,
            Ok(None) => backoff.reset(),
            Err(failure) => {
                warn!(resource = %cache.config.path, error = %failure, "list from etcd failed");
                cache.metrics.load_errors.inc();
                cache.failed(&failure.to_string());
                cache.pause(backoff.pause(), &mut epochs).await;
                continue;
            }
        }
        let why = cache.live(&mut epochs).await;
        info!(resource = %cache.config.path, ?why, "listing again");
        cache.unready();
    }
}

impl Cache {
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state.read().phase, Phase::Closed)
    }

    fn failed(&self, why: &str) {
        let mut state = self.state.write();
        if let Phase::Loading { failure, .. } = &mut state.phase {
            *failure = Some(why.into());
        }
    }

    fn unready(&self) {
        let mut state = self.state.write();
        if matches!(state.phase, Phase::Live { .. }) {
            state.phase = Phase::loading();
        }
        drop(state);
        self.moved.notify_waiters();
    }

    /// Waits before the next try, or until there is a reason to hurry. The inbox fills meanwhile, up
    /// to its bound; the next list begins by emptying it.
    async fn pause(&self, pause: Duration, epochs: &mut watch::Receiver<Epoch>) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = epochs.changed() => {}
            () = self.control.notified() => {}
        }
    }

    /// What was asked of the task besides events.
    pub(super) fn interrupt(&self, epochs: &watch::Receiver<Epoch>) -> Option<Again> {
        let state = self.state.read();
        if matches!(state.phase, Phase::Closed) {
            return Some(Again::Closed);
        }
        if state.relist {
            return Some(Again::Asked);
        }
        epochs
            .has_changed()
            .unwrap_or(false)
            .then_some(Again::Epoch)
    }

    /// Applies events until the collection must be listed again.
    async fn live(&self, epochs: &mut watch::Receiver<Epoch>) -> Again {
        loop {
            if let Some(again) = self.interrupt(epochs) {
                return again;
            }
            let received = tokio::select! {
                biased;
                _ = epochs.changed() => return Again::Epoch,
                () = self.control.notified() => continue,
                received = self.inbox.pop() => received,
            };
            match received {
                Received::Lost => return Again::Lost,
                Received::Batch(batch) => {
                    if let Some(again) = self.digest(batch, epochs).await {
                        return again;
                    }
                    self.inbox.applied();
                    self.moved.notify_waiters();
                }
            }
        }
    }

    /// Decodes and applies one batch. Nothing of a revision is applied before all of it is decoded.
    pub(super) async fn digest(
        &self,
        batch: Batch,
        epochs: &mut watch::Receiver<Epoch>,
    ) -> Option<Again> {
        self.applied.fetch_max(batch.after, Ordering::AcqRel);
        let mut changes: Vec<Change> = Vec::with_capacity(batch.events.len().min(APPLY_AT_ONCE));
        for (i, event) in batch.events.iter().enumerate() {
            if changes.len() >= APPLY_AT_ONCE
                && changes.last().is_some_and(|c| c.revision < event.revision)
            {
                self.apply(std::mem::take(&mut changes));
            }
            let entry = match &event.value {
                None => None,
                Some(value) => match self.decode(&event.key, value, event.revision).await {
                    Ok(entry) => Some(entry),
                    Err(_) => {
                        self.apply_whole(&mut changes, event.revision);
                        match self.stall(&batch, i, epochs).await {
                            Ok(entry) => Some(entry),
                            Err(again) => return Some(again),
                        }
                    }
                },
            };
            changes.push(Change {
                key: event.key.clone(),
                revision: event.revision,
                entry,
            });
        }
        self.apply(changes);
        None
    }

    /// Applies what comes before `revision`, so that it is not held up with it.
    fn apply_whole(&self, changes: &mut Vec<Change>, revision: i64) {
        let whole = changes.partition_point(|c| c.revision < revision);
        let rest = changes.split_off(whole);
        self.apply(std::mem::replace(changes, rest));
    }

    /// A value cannot be opened or decoded. The collection stays where it is, and only it: the value
    /// is tried again, since a key service may be away for a while, until a later event replaces it.
    async fn stall(
        &self,
        batch: &Batch,
        at: usize,
        epochs: &mut watch::Receiver<Epoch>,
    ) -> Result<Arc<crate::entry::Entry>, Again> {
        let (event, later) = (&batch.events[at], &batch.events[at + 1..]);
        let value = event.value.as_ref().expect("only a put can fail to decode");
        let mut backoff = Backoff::new(PAUSE, MAX_PAUSE);
        loop {
            let failure = match self.decode(&event.key, value, event.revision).await {
                Ok(entry) => {
                    self.set_stalled(None);
                    return Ok(entry);
                }
                Err(failure) => failure,
            };
            if later.iter().any(|e| e.key == event.key) || self.inbox.holds(&event.key) {
                return Err(Again::Superseded);
            }
            error!(resource = %self.config.path, revision = event.revision, error = %failure, "watch cache stalled");
            self.set_stalled(Some(failure.to_string().into()));
            let until = Instant::now() + backoff.pause();
            loop {
                if let Some(again) = self.interrupt(epochs) {
                    return Err(again);
                }
                tokio::select! {
                    () = tokio::time::sleep_until(until) => break,
                    _ = epochs.changed() => return Err(Again::Epoch),
                    () = self.control.notified() => {}
                    () = self.inbox.pushed() => {
                        if self.inbox.holds(&event.key) {
                            return Err(Again::Superseded);
                        }
                    }
                }
            }
        }
    }

    fn set_stalled(&self, why: Option<Arc<str>>) {
        let mut state = self.state.write();
        if let Phase::Live { stalled } = &mut state.phase {
            *stalled = why;
        }
        drop(state);
        self.moved.notify_waiters();
    }
}
