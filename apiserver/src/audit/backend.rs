//! How events come to where they go: a queue before each backend, and one task that empties it.
//!
//! Whoever writes in a blocking mode waits until his event is delivered, and longer when the queue is
//! full. In batch mode nobody waits: an event that the queue has no room for is dropped, which is
//! counted. So no backend, however slow, makes the server hold more than its queue and the batches on
//! their way. Upstream: `plugin/pkg/audit/{buffered,truncate}`, which does not bound the latter.

use std::future::Future;
use std::time::Duration;

use component::Supervisor;
use component::client::RateLimit;
use component::supervisor::Task;
use futures::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::event::Event;
use super::metrics::Counters;

/// Events that may wait in the blocking modes; whoever brings more waits before the queue.
const BLOCKING_QUEUE: usize = 1024;

/// How events come to a backend.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub mode: Mode,
    /// The largest event, in bytes.
    pub max_event: Option<usize>,
}

/// Who waits for a backend.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    Blocking {
        /// A request that cannot be recorded is refused.
        strict: bool,
    },
    Batch(Batch),
}

#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// Events that may wait.
    pub buffer: usize,
    pub max_size: usize,
    /// How long a batch waits until it is full.
    pub max_wait: Duration,
    pub throttle: Option<Throttle>,
}

/// At most so many batches a second.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    pub qps: f32,
    pub burst: usize,
}

impl Throttle {
    fn limit(self) -> RateLimit {
        RateLimit::new(self.qps, i32::try_from(self.burst).unwrap_or(i32::MAX))
    }
}

/// What an event looks like to a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// A line of JSON.
    Line,
    /// A line of text.
    Legacy,
    /// A member of an `EventList`.
    Member,
}

/// An event, and whoever waits until it is delivered.
pub(super) struct Item {
    pub(super) event: Vec<u8>,
    delivered: Option<oneshot::Sender<bool>>,
}

impl Item {
    /// Tells who waits how it went.
    pub(super) fn delivered(self, well: bool) {
        if let Some(waiting) = self.delivered {
            // Whoever waited may have gone.
            let _ = waiting.send(well);
        }
    }
}

/// What takes batches.
pub(super) trait Output: Send + Sync + 'static {
    /// How many are on their way at once.
    const AT_ONCE: usize;
    /// The most events of one that requests wait for.
    const WAITED_FOR: usize;

    /// Delivers a batch and tells those who wait. It hurries once `stop` is cancelled.
    fn deliver(
        &self,
        batch: Vec<Item>,
        stop: &CancellationToken,
    ) -> impl Future<Output = ()> + Send;
}

/// The way to one backend.
pub(super) struct Queue {
    items: mpsc::Sender<Item>,
    form: Form,
    delivery: Delivery,
    counters: Counters,
}

impl Queue {
    /// Starts the task `name`, which delivers to `output`.
    pub(super) fn start<O: Output>(
        name: &'static str,
        form: Form,
        delivery: Delivery,
        output: O,
        tasks: &Supervisor,
        counters: Counters,
    ) -> Self {
        let room = match delivery.mode {
            Mode::Blocking { .. } => BLOCKING_QUEUE,
            Mode::Batch(batch) => batch.buffer,
        };
        let (items, queued) = mpsc::channel(room);
        let mode = delivery.mode;
        tasks.spawn_graceful(Task::Background, name, move |stop| async move {
            run(output, mode, queued, stop).await;
        });
        Self {
            items,
            form,
            delivery,
            counters,
        }
    }

    /// An event as the backend takes it; none if it is too large.
    pub(super) fn form(&self, event: &Event) -> Option<Vec<u8>> {
        let max = self.delivery.max_event;
        let formed = match self.form {
            Form::Legacy if max.is_none() => Some(event.to_text()),
            // A text is as large as the JSON that it stands for.
            Form::Legacy => event.to_json(max).map(|_| event.to_text()),
            Form::Line => event.to_line(max),
            Form::Member => event.to_json(max),
        };
        if formed.is_none() {
            self.counters.lost("truncate", 1);
            tracing::error!("an audit event is too large even after truncating, it is dropped");
        }
        formed
    }

    /// Delivers an event as the mode has it; whether the request may go on.
    pub(super) async fn write(&self, event: Vec<u8>) -> bool {
        let Mode::Blocking { strict } = self.delivery.mode else {
            self.offer(event);
            return true;
        };
        let (delivered, done) = oneshot::channel();
        let item = Item {
            event,
            delivered: Some(delivered),
        };
        let well = self.items.send(item).await.is_ok() && done.await.unwrap_or(false);
        well || !strict
    }

    /// Hands over an event without waiting.
    pub(super) fn offer(&self, event: Vec<u8>) {
        let item = Item {
            event,
            delivered: None,
        };
        let why = match self.items.try_send(item) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(_)) => "audit buffer queue blocked",
            Err(mpsc::error::TrySendError::Closed(_)) => "audit backend shut down",
        };
        self.counters.lost("buffered", 1);
        tracing::error!("{why}, an event is dropped");
    }
}

/// Delivers until nobody is left who could have something to deliver: what is on its way when the
/// server stops is recorded, too.
async fn run<O: Output>(
    output: O,
    mode: Mode,
    items: mpsc::Receiver<Item>,
    stop: CancellationToken,
) {
    let throttle = match mode {
        Mode::Batch(batch) => batch.throttle.map(Throttle::limit),
        Mode::Blocking { .. } => None,
    };
    let throttle = throttle.unwrap_or_else(RateLimit::none);
    let (output, stop) = (&output, &stop);
    let batches = stream::unfold((items, throttle), |(mut items, throttle)| async move {
        let batch = collect(&mut items, mode, O::WAITED_FOR, stop).await;
        if batch.is_empty() {
            return None;
        }
        throttle.wait().await;
        Some((batch, (items, throttle)))
    });
    let deliver = |batch| output.deliver(batch, stop);
    batches.for_each_concurrent(O::AT_ONCE, deliver).await;
}

/// The next events; none once the queue is closed and empty.
async fn collect(
    items: &mut mpsc::Receiver<Item>,
    mode: Mode,
    waited_for: usize,
    stop: &CancellationToken,
) -> Vec<Item> {
    let mut batch = Vec::new();
    let Mode::Batch(of) = mode else {
        items.recv_many(&mut batch, waited_for).await;
        return batch;
    };
    items.recv_many(&mut batch, of.max_size).await;
    // What is collected is delivered in any case.
    let fill = async {
        while batch.len() < of.max_size && !batch.is_empty() {
            match items.recv().await {
                Some(item) => batch.push(item),
                None => return,
            }
        }
    };
    tokio::select! {
        () = fill => {}
        () = tokio::time::sleep(of.max_wait) => {}
        () = stop.cancelled() => {}
    }
    batch
}

#[cfg(test)]
mod tests;
