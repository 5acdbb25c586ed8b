//! The webhook: a server that lists of events are posted to.
//!
//! There is hardly an error after which the same server could not take the same events, so that all
//! are tried again, a few times. Upstream: `plugin/pkg/audit/webhook`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::{BufMut, Bytes, BytesMut};
use component::Supervisor;
use component::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use super::backend::{Delivery, Form, Item, Output, Queue};
use super::metrics::Counters;
use crate::webhook::{self, Webhook};

/// How long an answer is waited for when the server stops: twice it, and what is queued then once more,
/// is less than the supervisor waits for its tasks.
const AT_THE_END: Duration = Duration::from_secs(2);

/// The webhook as it is asked for.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    pub kubeconfig: PathBuf,
    /// How long after the first failure a batch is posted again.
    pub initial_backoff: Duration,
    pub delivery: Delivery,
}

/// Opens the webhook, which is connected to when there is something to post.
///
/// # Errors
/// If its kubeconfig cannot be used.
pub(super) fn open(
    config: &WebhookConfig,
    tasks: &Supervisor,
    metrics: &Metrics,
    counters: Counters,
) -> anyhow::Result<Queue> {
    // Its connections must outlive the server's tasks: the last batches are posted when those stop.
    let connections = Supervisor::current();
    let file = &config.kubeconfig;
    let webhook = Webhook::open(file, webhook::TIMEOUT, &connections, metrics)
        .with_context(|| format!("--audit-webhook-config-file {}", file.display()))
        .context("initializing audit webhook")?;
    let hook = Hook {
        webhook,
        initial_backoff: config.initial_backoff,
        counters: counters.clone(),
    };
    let name = "audit-webhook";
    let queue = Queue::start(name, Form::Member, config.delivery, hook, tasks, counters);
    Ok(queue)
}

struct Hook {
    webhook: Webhook,
    initial_backoff: Duration,
    counters: Counters,
}

impl Output for Hook {
    /// Six seconds' worth of batches at the default throttle. A batch that is not taken is on its way
    /// for minutes; when so many are, the queue fills.
    const AT_ONCE: usize = 64;
    /// Nobody shall wait for, or fail with, the event of another request.
    const WAITED_FOR: usize = 1;

    async fn deliver(&self, batch: Vec<Item>, stop: &CancellationToken) {
        let posted = self.post(list(&batch), stop).await;
        if let Err(error) = &posted {
            let lost = batch.len();
            self.counters.lost("webhook", lost);
            tracing::error!(%error, lost, "audit events cannot be posted");
        }
        for item in batch {
            item.delivered(posted.is_ok());
        }
    }
}

impl Hook {
    /// Posts a list until it is taken, or was posted often enough. Once the server stops there is no
    /// time to wait: it is posted once more.
    async fn post(&self, list: Bytes, stop: &CancellationToken) -> Result<(), webhook::Error> {
        let mut waits = webhook::waits(self.initial_backoff);
        loop {
            let last = stop.is_cancelled();
            let posted = tokio::select! {
                posted = self.webhook.post(list.clone()) => posted,
                () = late(stop) => Err(webhook::Error::Timeout(AT_THE_END)),
            };
            let error = match posted {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let Some(wait) = waits.next().filter(|_| !last) else {
                return Err(error);
            };
            tracing::debug!(%error, "Audit events are posted again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// Until a webhook that has not answered by then will not keep the server from stopping.
async fn late(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(AT_THE_END).await;
}

/// The events as an `EventList`.
fn list(batch: &[Item]) -> Bytes {
    const HEAD: &[u8] =
        br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    let length: usize = batch.iter().map(|item| item.event.len() + 1).sum();
    let mut list = BytesMut::with_capacity(HEAD.len() + length + 3);
    list.put_slice(HEAD);
    for (i, item) in batch.iter().enumerate() {
        if i > 0 {
            list.put_u8(b',');
        }
        list.put_slice(&item.event);
    }
    list.put_slice(b"]}\n");
    list.freeze()
}
