//! The log: a file of lines that is rotated, or the standard output.
//!
//! One task owns it and writes what comes over a bounded queue. In the blocking modes a request waits
//! until its line is written; in batch mode a line that the queue has no room for is dropped, and that
//! is logged. Upstream: `plugin/pkg/audit/{log,buffered,truncate}`; files are rotated as lumberjack
//! rotates them, and backups have its names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use component::Supervisor;
use component::supervisor::Task;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::event::Event;
use super::metrics::Counters;

mod file;

use file::Output;

/// Lines that are written at once in the blocking modes, and that may wait for it.
const BLOCKING_QUEUE: usize = 1024;

/// The log as it is asked for.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// None for the standard output.
    pub path: Option<PathBuf>,
    pub rotation: Rotation,
    /// Upstream's legacy format in place of JSON.
    pub legacy: bool,
    pub mode: Mode,
    /// The largest event, in bytes.
    pub max_event: Option<usize>,
}

/// When files are replaced, and what becomes of old ones.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// In bytes; 0 for never.
    pub max_size: u64,
    /// Days; 0 for ever.
    pub max_age: u64,
    /// 0 for any number.
    pub max_backups: usize,
    /// Old files are compressed by gzip.
    pub compress: bool,
}

/// Who waits for the log.
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
    /// Lines that may wait.
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

/// A line, and whoever waits until it is written.
struct Item {
    line: Vec<u8>,
    written: Option<oneshot::Sender<bool>>,
}

/// The way to the log; cheap to clone.
#[derive(Clone)]
pub(super) struct Sink {
    queue: mpsc::Sender<Item>,
    config: Arc<LogConfig>,
    pub(super) counters: Counters,
}

impl Sink {
    /// Opens the log.
    ///
    /// # Errors
    /// If its file cannot be made.
    pub(super) fn open(
        config: &LogConfig,
        tasks: &Supervisor,
        counters: Counters,
    ) -> anyhow::Result<Self> {
        let output = match &config.path {
            None => Output::Standard,
            Some(path) => Output::file(path, config.rotation)
                .with_context(|| format!("--audit-log-path: {}", path.display()))?,
        };
        let room = match config.mode {
            Mode::Blocking { .. } => BLOCKING_QUEUE,
            Mode::Batch(batch) => batch.buffer,
        };
        let (queue, lines) = mpsc::channel(room);
        let mode = config.mode;
        let lost = counters.clone();
        tasks.spawn_graceful(Task::Background, "audit-log", move |stop| async move {
            run(output, mode, lines, stop, lost).await;
        });
        Ok(Self {
            queue,
            config: Arc::new(config.clone()),
            counters,
        })
    }

    /// The line of an event; none if it is too large.
    pub(super) fn line(&self, event: &Event) -> Option<Vec<u8>> {
        self.counters.event();
        let json = if self.config.legacy && self.config.max_event.is_none() {
            Some(Vec::new())
        } else {
            event.to_json(self.config.max_event)
        };
        if json.is_none() {
            self.counters.error("truncate");
            tracing::error!("an audit event is too large even after truncating, it is dropped");
        }
        json.map(|json| {
            if self.config.legacy {
                event.to_text()
            } else {
                json
            }
        })
    }

    /// Writes a line as the mode has it; whether the request may go on.
    pub(super) async fn write(&self, line: Vec<u8>) -> bool {
        let Mode::Blocking { strict } = self.config.mode else {
            self.offer(line);
            return true;
        };
        let (written, done) = oneshot::channel();
        let item = Item {
            line,
            written: Some(written),
        };
        let ok = self.queue.send(item).await.is_ok() && done.await.unwrap_or(false);
        ok || !strict
    }

    /// Hands over a line without waiting.
    pub(super) fn offer(&self, line: Vec<u8>) {
        let item = Item {
            line,
            written: None,
        };
        match self.queue.try_send(item) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.counters.error("buffered");
                tracing::error!("audit buffer queue blocked, an event is dropped");
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.counters.error("buffered");
                tracing::error!("audit backend shut down, an event is dropped");
            }
        }
    }
}

/// Writes until nobody is left who could have something to write: what is on its way when the server
/// stops is recorded, too.
async fn run(
    mut output: Output,
    mode: Mode,
    mut lines: mpsc::Receiver<Item>,
    stop: CancellationToken,
    counters: Counters,
) {
    let mut bucket = match mode {
        Mode::Batch(batch) => batch.throttle.map(Bucket::new),
        Mode::Blocking { .. } => None,
    };
    loop {
        let batch = collect(&mut lines, mode, &stop).await;
        if batch.is_empty() {
            return;
        }
        if let Some(bucket) = &mut bucket {
            bucket.take().await;
        }
        output = write(output, batch, counters.clone()).await;
    }
}

/// The next lines; none once the queue is closed and empty.
async fn collect(
    lines: &mut mpsc::Receiver<Item>,
    mode: Mode,
    stop: &CancellationToken,
) -> Vec<Item> {
    let mut batch = Vec::new();
    let Mode::Batch(of) = mode else {
        lines.recv_many(&mut batch, BLOCKING_QUEUE).await;
        return batch;
    };
    lines.recv_many(&mut batch, of.max_size).await;
    // What is collected is written in any case.
    let fill = async {
        while batch.len() < of.max_size && !batch.is_empty() {
            match lines.recv().await {
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

/// Writes a batch where blocking hurts nobody, and tells those who wait.
async fn write(mut output: Output, batch: Vec<Item>, counters: Counters) -> Output {
    let work = tokio::task::spawn_blocking(move || {
        for item in batch {
            let written = output.write(&item.line);
            if let Err(error) = &written {
                counters.error("log");
                tracing::error!(%error, "an audit event cannot be written");
            }
            if let Some(waiting) = item.written {
                // Whoever waited may have gone.
                let _ = waiting.send(written.is_ok());
            }
        }
        output
    });
    work.await
        .expect("writing does not panic and is not cancelled")
}

/// A token bucket.
struct Bucket {
    of: Throttle,
    tokens: f32,
    filled: Instant,
}

impl Bucket {
    fn new(of: Throttle) -> Self {
        Self {
            of,
            tokens: as_f32(of.burst),
            filled: Instant::now(),
        }
    }

    /// How long until there is a token, which is taken.
    fn wait(&mut self, now: Instant) -> Duration {
        let since = now.duration_since(self.filled).as_secs_f32();
        self.filled = now;
        self.tokens = (self.tokens + since * self.of.qps).min(as_f32(self.of.burst)) - 1.0;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            let seconds = -self.tokens / self.of.qps;
            Duration::try_from_secs_f32(seconds).unwrap_or(Duration::MAX)
        }
    }

    async fn take(&mut self) {
        tokio::time::sleep(self.wait(Instant::now())).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a burst is a small number")]
fn as_f32(burst: usize) -> f32 {
    burst as f32
}

#[cfg(test)]
mod tests;
