//! Spans of one request: which is open, what is told of it, and where it goes when it ends.
//!
//! A request that belongs to a trace is worked on within its [`Slot`]. Whoever does a part of the work opens a
//! span, which is the parent of what is opened until it ends; where nothing is recorded that is a look at
//! a variable of the task. What runs at the same time as others works in a [`branch`] of its own.

use std::any::Any;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use store::trace::{Call, Called, Trace};

use super::context::{Carried, SpanContext};
use super::export::Queue;
use super::pb::{self, any_value, span::SpanKind, status::StatusCode};

/// Who opens spans, as instrumentation libraries of upstream's daemons are called.
pub(super) mod scope {
    pub(crate) const WORK: &str = "k8s.io/component-base/tracing";
    pub(crate) const HTTP: &str = "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp";
    pub(crate) const GRPC: &str =
        "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc";
}

/// Attributes, events and links of a span: OpenTelemetry's limits.
const MOST: usize = 128;
/// Bytes of an attribute. Clients choose some of them, and a queue holds many spans.
const MOST_BYTES: usize = 4096;
/// That a span knows whether its parent is of another process, and that it is.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// What is told of a span or an event.
pub struct Attributes<'a> {
    list: Vec<pb::KeyValue>,
    request: &'a str,
}

impl<'a> Attributes<'a> {
    pub(super) fn of(request: &'a str, describe: impl FnOnce(&mut Self)) -> Vec<pb::KeyValue> {
        let mut all = Self {
            list: Vec::new(),
            request,
        };
        describe(&mut all);
        all.list
    }

    pub fn text(&mut self, key: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        let end = value.floor_char_boundary(MOST_BYTES);
        self.add(key, any_value::Value::StringValue(value[..end].to_owned()));
    }

    pub fn int(&mut self, key: &str, value: i64) {
        self.add(key, any_value::Value::IntValue(value));
    }

    /// The id of the request, by which the audit log names it.
    pub fn audit_id(&mut self) {
        self.text("audit-id", self.request);
    }

    fn add(&mut self, key: &str, value: any_value::Value) {
        if self.list.len() < MOST {
            self.list.push(pb::KeyValue {
                key: key.to_owned(),
                value: Some(pb::AnyValue { value: Some(value) }),
            });
        }
    }
}

/// A span. What is told of it is there as long as it is recorded and has not ended.
pub(super) struct Node {
    context: SpanContext,
    parent: Option<Arc<Node>>,
    record: Mutex<Option<Record>>,
}

/// Of a span that is recorded.
pub(super) struct Record {
    pub(super) scope: &'static str,
    pub(super) span: pb::Span,
}

/// How a span begins.
pub(super) struct Begin {
    pub(super) scope: &'static str,
    pub(super) name: String,
    pub(super) kind: SpanKind,
    pub(super) start: SystemTime,
    pub(super) attributes: Vec<pb::KeyValue>,
}

impl Begin {
    /// A span of this context.
    pub(super) fn record(
        self,
        context: &SpanContext,
        parent: Option<&SpanContext>,
        remote: bool,
        state: &str,
    ) -> Record {
        let span = pb::Span {
            trace_id: Bytes::copy_from_slice(&context.trace),
            span_id: Bytes::copy_from_slice(&context.span),
            trace_state: state.to_owned(),
            parent_span_id: parent.map_or_else(Bytes::new, |p| Bytes::copy_from_slice(&p.span)),
            name: self.name,
            kind: self.kind.into(),
            start_time_unix_nano: nanos(self.start),
            attributes: self.attributes,
            flags: flags(context, remote),
            ..pb::Span::default()
        };
        Record {
            scope: self.scope,
            span,
        }
    }
}

fn flags(context: &SpanContext, remote: bool) -> u32 {
    u32::from(context.flags) | KNOWN | if remote { REMOTE } else { 0 }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Record {
    /// Names the span that the client says this one belongs to, without belonging to it.
    pub(super) fn link(&mut self, to: &SpanContext) {
        self.span.links.push(pb::span::Link {
            trace_id: Bytes::copy_from_slice(&to.trace),
            span_id: Bytes::copy_from_slice(&to.span),
            trace_state: String::new(),
            flags: flags(to, true),
        });
    }
}

impl Node {
    /// The first span of a request in this process.
    pub(super) fn first(context: SpanContext, record: Option<Record>) -> Arc<Self> {
        Arc::new(Self {
            context,
            parent: None,
            record: Mutex::new(record),
        })
    }

    /// A part of a span that is recorded.
    fn child(self: &Arc<Self>, state: &str, begin: impl FnOnce() -> Begin) -> Option<Arc<Self>> {
        self.is_recorded().then(|| {
            let context = self.context.child();
            let record = begin().record(&context, Some(&self.context), false, state);
            Arc::new(Self {
                context,
                parent: Some(Arc::clone(self)),
                record: Mutex::new(Some(record)),
            })
        })
    }

    fn is_recorded(&self) -> bool {
        self.record.lock().is_some()
    }

    pub(super) fn tell(&self, describe: impl FnOnce(&mut pb::Span)) {
        if let Some(record) = &mut *self.record.lock() {
            describe(&mut record.span);
        }
    }

    pub(super) fn add(&self, more: Vec<pb::KeyValue>) {
        self.tell(|span| {
            for attribute in more {
                match span.attributes.len() < MOST {
                    true => span.attributes.push(attribute),
                    false => span.dropped_attributes_count += 1,
                }
            }
        });
    }

    /// It ended with an error; what is said of it may be nothing.
    pub(super) fn failed(&self, why: &str) {
        self.tell(|span| {
            span.status = Some(pb::Status {
                message: why.to_owned(),
                code: StatusCode::Error.into(),
            });
        });
    }

    pub(super) fn end(&self, to: &Queue) {
        let Some(mut record) = self.record.lock().take() else {
            return;
        };
        // A clock that was put back must not make it end before it began.
        let start = record.span.start_time_unix_nano;
        record.span.end_time_unix_nano = nanos(SystemTime::now()).max(start);
        to.push(record);
    }
}

/// The trace of one request, while it is worked on.
pub(super) struct Slot {
    /// Where spans go; none in a process that only hands on what clients say.
    queue: Option<Queue>,
    /// What the client said, as it is handed on while there is no span.
    carried: Carried,
    request: String,
    open: Mutex<Option<Arc<Node>>>,
}

impl Slot {
    pub(super) fn passing(carried: Carried) -> Arc<Self> {
        Arc::new(Self {
            queue: None,
            carried,
            request: String::new(),
            open: Mutex::new(None),
        })
    }

    pub(super) fn new(
        queue: Queue,
        carried: Carried,
        request: String,
        first: Arc<Node>,
    ) -> Arc<Self> {
        Arc::new(Self {
            queue: Some(queue),
            carried,
            request,
            open: Mutex::new(Some(first)),
        })
    }

    /// That of the task, if it has one.
    pub(super) fn current() -> Option<Arc<Self>> {
        store::trace::with(|trace| {
            let trace: Arc<dyn Trace> = Arc::clone(trace);
            let any: Arc<dyn Any + Send + Sync> = trace;
            any.downcast().ok()
        })
        .flatten()
    }

    pub(super) fn state(&self) -> &str {
        let state = self.carried.state.as_ref();
        state.and_then(|s| s.to_str().ok()).unwrap_or_default()
    }

    /// A part of what is open, if that is recorded.
    fn child(&self, begin: impl FnOnce() -> Begin) -> Option<(&Queue, Arc<Node>)> {
        let parent = self.open.lock().clone()?;
        let node = parent.child(self.state(), begin)?;
        Some((self.queue.as_ref()?, node))
    }

    /// What is told to others of a span.
    pub(super) fn carried(&self, span: SpanContext) -> Carried {
        Carried {
            span: Some(span),
            ..self.carried.clone()
        }
    }

    /// Opens a span within the one that is open.
    fn open(self: &Arc<Self>, begin: impl FnOnce() -> Begin) -> Option<Open> {
        let (_, node) = self.child(begin)?;
        *self.open.lock() = Some(Arc::clone(&node));
        Some(Open {
            slot: Arc::clone(self),
            node,
        })
    }

    /// A span beside what is done meanwhile: nothing is opened within it.
    pub(super) fn beside(&self, begin: impl FnOnce() -> Begin) -> Option<Beside> {
        let (queue, node) = self.child(begin)?;
        Some(Beside {
            queue: queue.clone(),
            node,
        })
    }

    /// Whatever ended is open no more.
    fn close(&self) {
        let mut open = self.open.lock();
        loop {
            let over = open.as_ref().filter(|node| !node.is_recorded());
            let Some(parent) = over.and_then(|node| node.parent.clone()) else {
                return;
            };
            *open = Some(parent);
        }
    }
}

impl Trace for Slot {
    fn begin(&self, called: Called<'_>) -> Option<Box<dyn Call>> {
        let slot = Self::current()?;
        let open = slot.open(|| Begin {
            scope: scope::GRPC,
            name: called.method.to_owned(),
            kind: SpanKind::Client,
            start: SystemTime::now(),
            attributes: Attributes::of("", |a| {
                a.text("rpc.method", called.method);
                a.text("rpc.system.name", "grpc");
                a.text("server.address", called.server.0);
                a.int("server.port", called.server.1.into());
            }),
        })?;
        Some(Box::new(open))
    }

    fn tell(&self, headers: &mut HeaderMap) {
        let open = self.open.lock().clone();
        match open {
            Some(node) => self.carried(node.context).write(headers),
            None => self.carried.write(headers),
        }
    }
}

/// A span that is open until this is dropped.
struct Open {
    slot: Arc<Slot>,
    node: Arc<Node>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(queue) = &self.slot.queue {
            self.node.end(queue);
        }
        self.slot.close();
    }
}

impl Call for Open {
    fn ended(self: Box<Self>, failed: Option<&tonic::Status>) {
        let code = failed.map_or(tonic::Code::Ok, tonic::Status::code);
        let name = code_name(code);
        let told = Attributes::of("", |a| a.text("rpc.response.status_code", name));
        self.node.add(told);
        if let Some(status) = failed {
            self.node.failed(status.message());
        }
    }
}

/// The name of a code in gRPC's own documents.
fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// A span that nothing is opened within. It ends when this is dropped.
pub(super) struct Beside {
    pub(super) queue: Queue,
    pub(super) node: Arc<Node>,
}

impl Beside {
    pub(super) fn context(&self) -> SpanContext {
        self.node.context
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.node.end(&self.queue);
    }
}

/// A part of the work on a request, from now until this is dropped.
#[must_use = "it ends when it is dropped"]
pub struct Span {
    _open: Option<Open>,
}

/// Opens a span within the one that is open, if the request is recorded; only then it is described.
pub fn span(name: &str, describe: impl FnOnce(&mut Attributes<'_>)) -> Span {
    let open = Slot::current().and_then(|slot| {
        slot.open(|| Begin {
            scope: scope::WORK,
            name: name.to_owned(),
            kind: SpanKind::Internal,
            start: SystemTime::now(),
            attributes: Attributes::of(&slot.request, describe),
        })
    });
    Span { _open: open }
}

/// Whether the span that is open, if there is one, is recorded.
#[must_use]
pub fn is_recorded() -> bool {
    let open = Slot::current().and_then(|slot| slot.open.lock().clone());
    open.is_some_and(|node| node.is_recorded())
}

/// Notes that something happened in the span that is open, if that is recorded.
pub fn event(name: &str, describe: impl FnOnce(&mut Attributes<'_>)) {
    let Some(slot) = Slot::current() else { return };
    let open = slot.open.lock().clone();
    let Some(node) = open else { return };
    node.tell(|span| {
        if span.events.len() >= MOST {
            span.dropped_events_count += 1;
            return;
        }
        span.events.push(pb::span::Event {
            time_unix_nano: nanos(SystemTime::now()),
            name: name.to_owned(),
            attributes: Attributes::of(&slot.request, describe),
        });
    });
}

/// Notes that the work of the span that is open failed, if that is recorded.
pub fn failed(why: &str) {
    event("exception", |a| a.text("exception.message", why));
    let open = Slot::current().and_then(|slot| slot.open.lock().clone());
    if let Some(node) = open {
        node.failed(why);
    }
}

/// Work at the same time as other work on the same request: its spans are within what is open now, and not
/// within what the others open.
pub async fn branch<F: Future>(work: F) -> F::Output {
    // On the heap, so that this future is not twice as large as its work.
    let work = Box::pin(work);
    let Some(slot) = Slot::current() else {
        return work.await;
    };
    let own = Slot {
        queue: slot.queue.clone(),
        carried: slot.carried.clone(),
        request: slot.request.clone(),
        open: Mutex::new(slot.open.lock().clone()),
    };
    store::trace::within(Arc::new(own), work).await
}
