//! Spans on their way to the collector: a bounded queue and a task that sends what is in it, in batches.
//!
//! Whoever ends a span never waits: what the queue has no room for is dropped and counted. A collector that
//! does not answer is told of once. Sizes and times are those of OpenTelemetry's Go
//! (`sdk/trace/batch_span_processor.go`, `exporters/otlp/otlptrace/otlptracegrpc`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::pb::trace_service_client::TraceServiceClient;
use super::pb::{self, ExportTraceServiceRequest, ResourceSpans, ScopeSpans};
use super::span::Record;

/// Spans that wait at most.
const ROOM: usize = 2048;
/// Spans in one request.
const BATCH: usize = 512;

/// How long things may take.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// A span waits for others that go with it.
    pub(super) delay: Duration,
    /// The collector answers.
    pub(super) timeout: Duration,
    /// The wait before a batch is sent again, at first and at most.
    pub(super) retry: (Duration, Duration),
    /// A batch is tried.
    pub(super) patience: Duration,
    /// The end of the process waits for the last spans.
    pub(super) flush: Duration,
}

impl Pace {
    pub(super) const USUAL: Self = Self {
        delay: Duration::from_secs(5),
        timeout: Duration::from_secs(10),
        retry: (Duration::from_secs(5), Duration::from_secs(30)),
        patience: Duration::from_secs(60),
        flush: Duration::from_secs(5),
    };
}

/// Spans that have ended; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Queue {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    ended: Mutex<Vec<Record>>,
    /// There is a first one, or a batch.
    filled: Notify,
    dropped: Counter,
}

impl Queue {
    pub(super) fn push(&self, span: Record) {
        let mut ended = self.inner.ended.lock();
        if ended.len() >= ROOM {
            drop(ended);
            self.inner.dropped.inc();
            return;
        }
        ended.push(span);
        let count = ended.len();
        drop(ended);
        if count == 1 || count == BATCH {
            self.inner.filled.notify_one();
        }
    }

    fn take(&self) -> Vec<Record> {
        let mut ended = self.inner.ended.lock();
        let count = ended.len().min(BATCH);
        let rest = ended.split_off(count);
        std::mem::replace(&mut *ended, rest)
    }

    fn len(&self) -> usize {
        self.inner.ended.lock().len()
    }

    /// Counts what did not reach the collector.
    pub(super) fn dropped(&self) -> Counter {
        self.inner.dropped.clone()
    }
}

/// What sends spans.
pub(super) struct Exporter {
    queue: Queue,
    client: TraceServiceClient<Channel>,
    endpoint: String,
    resource: pb::Resource,
    pace: Pace,
    /// How many were dropped when the collector began not to answer.
    failing: Option<u64>,
}

impl Exporter {
    pub(super) fn new(
        queue: Queue,
        channel: Channel,
        endpoint: String,
        resource: pb::Resource,
        pace: Pace,
    ) -> Self {
        Self {
            queue,
            client: TraceServiceClient::new(channel),
            endpoint,
            resource,
            pace,
            failing: None,
        }
    }

    /// Sends what comes until it has to stop, and then what is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while self.batch(&stop).await {
            self.drain(&stop).await;
        }
        let flush = self.pace.flush;
        if tokio::time::timeout(flush, self.drain(&stop))
            .await
            .is_err()
        {
            tracing::info!(
                left = self.queue.len(),
                "The collector does not take the last spans"
            );
        }
    }

    /// Delivers until nothing waits.
    async fn drain(&mut self, stop: &CancellationToken) {
        loop {
            let ended = self.queue.take();
            if ended.is_empty() {
                return;
            }
            self.deliver(ended, stop).await;
        }
    }

    /// Waits for spans, and a while for others that go with them. False once it has to stop.
    async fn batch(&self, stop: &CancellationToken) -> bool {
        let filled = &self.queue.inner.filled;
        tokio::select! {
            () = stop.cancelled() => return false,
            () = filled.notified() => {}
        }
        let until = Instant::now() + self.pace.delay;
        while (1..BATCH).contains(&self.queue.len()) {
            tokio::select! {
                () = stop.cancelled() => return false,
                () = filled.notified() => {}
                () = tokio::time::sleep_until(until) => break,
            }
        }
        true
    }

    async fn deliver(&mut self, ended: Vec<Record>, stop: &CancellationToken) {
        let count = ended.len() as u64;
        let request = self.request(ended);
        let started = Instant::now();
        let mut wait = self.pace.retry.0;
        loop {
            match self.send(request.clone()).await {
                Ok(rejected) => {
                    self.queue.inner.dropped.inc_by(rejected);
                    self.answered();
                    return;
                }
                Err(status) => {
                    self.silent(&status);
                    let over = started.elapsed() + wait > self.pace.patience || stop.is_cancelled();
                    if over || !may_pass(status.code()) {
                        self.queue.inner.dropped.inc_by(count);
                        return;
                    }
                }
            }
            // Whoever has to stop tries once more.
            let spread = wait.mul_f64(0.5 + rand::random::<f64>());
            let _ = tokio::time::timeout(spread, stop.cancelled()).await;
            wait = wait.mul_f64(1.5).min(self.pace.retry.1);
        }
    }

    fn request(&self, ended: Vec<Record>) -> ExportTraceServiceRequest {
        let mut scopes: BTreeMap<&'static str, Vec<pb::Span>> = BTreeMap::new();
        for record in ended {
            scopes.entry(record.scope).or_default().push(record.span);
        }
        let scope_spans = scopes.into_iter().map(|(name, spans)| ScopeSpans {
            scope: Some(pb::InstrumentationScope {
                name: name.to_owned(),
            }),
            spans,
        });
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: scope_spans.collect(),
            }],
        }
    }

    /// How many spans the collector did not want.
    async fn send(&mut self, request: ExportTraceServiceRequest) -> Result<u64, Status> {
        let timeout = self.pace.timeout;
        let late = || {
            Err(Status::deadline_exceeded(format!(
                "no answer in {timeout:?}"
            )))
        };
        let sent = tokio::time::timeout(timeout, self.client.export(request)).await;
        let answer = sent.unwrap_or_else(|_| late())?.into_inner();
        let Some(partial) = answer.partial_success.filter(|p| p.rejected_spans > 0) else {
            return Ok(0);
        };
        tracing::debug!(
            endpoint = self.endpoint,
            rejected = partial.rejected_spans,
            said = partial.error_message,
            "The collector does not take some spans"
        );
        Ok(partial.rejected_spans.unsigned_abs())
    }

    /// Says once that the collector does not answer.
    fn silent(&mut self, status: &Status) {
        if self.failing.is_some() {
            tracing::debug!(endpoint = self.endpoint, error = %status, "Spans cannot be sent");
            return;
        }
        self.failing = Some(self.queue.inner.dropped.get());
        tracing::warn!(
            endpoint = self.endpoint,
            error = %status,
            "Spans cannot be sent; until the collector answers, those that there is no room for are dropped"
        );
    }

    fn answered(&mut self) {
        if let Some(before) = self.failing.take() {
            let dropped = self.queue.inner.dropped.get() - before;
            tracing::info!(
                endpoint = self.endpoint,
                dropped,
                "The collector takes spans again"
            );
        }
    }
}

/// Whether the same request may be taken later (OTLP's specification, "Failures").
fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
    )
}
