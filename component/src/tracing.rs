//! Traces: what was done for a request, by whom, and how long it took, told to a collector of OpenTelemetry.
//!
//! A [`Tracer`] decides which requests are recorded and sends what was recorded, by OTLP over gRPC. A request
//! that came in has a span ([`Tracer::incoming`]); whatever is done for it while [`Serving::within`] runs may
//! open spans within it ([`span()`]), and everybody who is asked for it is told of the one that is open: etcd,
//! webhooks, peers, kubelets ([`Tracer::outgoing`], [`hand_on`]).
//!
//! ```text
//! headers -> context -> sampler -> span -> queue -> collector
//! ```
//!
//! Invariants: nobody waits for the collector, and what waits for it is bounded; where nothing is recorded a
//! span costs a look at a variable of the task, where nothing is told to anybody there is not even that
//! variable.
//!
//! Upstream: `k8s.io/component-base/tracing`, `k8s.io/apiserver/pkg/endpoints/filters/traces.go`, and the
//! libraries of OpenTelemetry that they use.

use std::sync::Arc;
use std::time::SystemTime;

use crate::config::TracingConfiguration;
use crate::metrics::Metrics;
use crate::supervisor::{Supervisor, Task};

mod context;
mod endpoint;
mod export;
#[rustfmt::skip] // generated
#[allow(clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications, dead_code, missing_docs, reason = "generated code")]
pub mod pb;
mod requests;
mod sampler;
mod span;

pub use requests::{Asking, Incoming, Serving, hand_on};
pub use span::{Attributes, Span, branch, event, failed, is_recorded, span};

use context::Carried;
use export::{Exporter, Pace, Queue};
use pb::span::SpanKind;
use sampler::Sampler;
use span::{Begin, Beside, Node, Slot};

/// What a process records and where it sends it; cheap to clone. The default one records nothing.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Running>>);

/// A tracer with a collector.
struct Running {
    sampler: Sampler,
    queue: Queue,
}

impl Tracer {
    /// Sends what is recorded to a collector, in the name of a service with these attributes
    /// (`service.name` and others). It is connected to when there is something to send.
    #[must_use]
    pub fn open(
        config: &TracingConfiguration,
        resource: &[(&str, &str)],
        tasks: &Supervisor,
    ) -> Self {
        Self::paced(config, resource, tasks, Pace::USUAL)
    }

    fn paced(
        config: &TracingConfiguration,
        resource: &[(&str, &str)],
        tasks: &Supervisor,
        pace: Pace,
    ) -> Self {
        let endpoint = config.endpoint.as_deref().filter(|e| !e.is_empty());
        let endpoint = endpoint.unwrap_or(endpoint::DEFAULT);
        let resource = pb::Resource {
            attributes: Attributes::of("", |a| {
                for (key, value) in resource {
                    a.text(key, value);
                }
            }),
        };
        let queue = Queue::default();
        let channel = endpoint::channel(endpoint);
        let exporter = Exporter::new(queue.clone(), channel, endpoint.to_owned(), resource, pace);
        // It stops with the connections, after the work whose spans it sends.
        tasks.spawn_graceful(Task::Background, "traces", |stop| exporter.run(stop));
        Self(Some(Arc::new(Running {
            sampler: Sampler::new(config.sampling_rate_per_million),
            queue,
        })))
    }

    fn running(&self) -> Option<&Running> {
        self.0.as_deref()
    }

    /// Registers the count of spans that did not reach the collector.
    pub fn register(&self, metrics: &Metrics) {
        if let Some(running) = self.running() {
            metrics.register(
                "navarch_dropped_spans_total",
                "Spans that did not reach the collector of traces",
                running.queue.dropped(),
            );
        }
    }

    /// Work that nobody asked for, as a trace of its own.
    pub async fn work<F: Future>(
        &self,
        name: &str,
        describe: impl FnOnce(&mut Attributes<'_>),
        work: F,
    ) -> F::Output {
        // On the heap, so that this future is not twice as large as its work.
        let work = Box::pin(work);
        let Some(Running { sampler, queue }) = self.running() else {
            return work.await;
        };
        let context = sampler.span(None);
        let record = context.is_sampled().then(|| {
            let begin = Begin {
                scope: span::scope::WORK,
                name: name.to_owned(),
                kind: SpanKind::Internal,
                start: SystemTime::now(),
                attributes: Attributes::of("", describe),
            };
            begin.record(&context, None, false, "")
        });
        let node = Node::first(context, record);
        let _span = Beside {
            queue: queue.clone(),
            node: Arc::clone(&node),
        };
        let slot = Slot::new(queue.clone(), Carried::default(), String::new(), node);
        store::trace::within(slot, work).await
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tracer").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests;
