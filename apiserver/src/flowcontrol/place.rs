//! What a request has while it is worked on, and what is told to one that is not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use component::{Supervisor, Task};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::FlowControl;
use super::class::Counted;
use super::flow::{Flow, Seat};
use super::limits::Permit;
use super::watches::Watching;
use crate::body::Body;

/// Names of the schema's and the level's UIDs in answers. UIDs and not names, which may tell clients
/// more than they should know.
static MARKS: [HeaderName; 2] = [
    HeaderName::from_static("x-kubernetes-pf-flowschema-uid"),
    HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid"),
];

/// What a request holds while it is worked on.
pub(super) struct Held {
    pub(super) _seat: Option<Seat>,
    pub(super) _permit: Option<Permit>,
    pub(super) _counted: Counted,
}

/// The place of a request among those that are worked on.
#[derive(Default)]
pub struct Place {
    held: Option<Held>,
    pub(super) watching: Option<Watching>,
    pub(super) flow: Option<Arc<Flow>>,
}

impl Place {
    pub(super) fn held(held: Held) -> Self {
        Self {
            held: Some(held),
            ..Self::default()
        }
    }

    /// What a watch takes with it.
    pub fn opening(&mut self, control: &FlowControl) -> Opening {
        Opening {
            held: self.held.take(),
            open: None,
            _watching: self.watching.take(),
            longest: control.request_timeout,
            tasks: control.tasks.clone(),
        }
    }

    /// The answer is there. An answer that is made while it is sent keeps the place until then, or
    /// until the request's time is over: a client that does not read must not keep others out.
    #[must_use]
    pub fn leave(
        self,
        mut response: Response<Body>,
        control: &FlowControl,
        deadline: Instant,
    ) -> Response<Body> {
        if let Some(flow) = &self.flow {
            mark(&mut response, flow);
        }
        let Some(held) = self.held else {
            return response;
        };
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        let open = keep(held, &control.tasks, deadline);
        response.map(|body| {
            body.map_frame(move |frame| {
                let _until_here = &open;
                frame
            })
            .boxed_unsync()
        })
    }
}

/// Keeps a place until the guard is dropped, but no longer than until `latest`.
fn keep(held: Held, tasks: &Supervisor, latest: Instant) -> DropGuard {
    let open = CancellationToken::new();
    let closed = open.clone();
    tasks.spawn(Task::Background, "seat", async move {
        let latest = tokio::time::Instant::from_std(latest);
        // Either way the place is given back.
        let _ = tokio::time::timeout_at(latest, closed.cancelled()).await;
        drop(held);
    });
    open.drop_guard()
}

/// The beginning of a watch, in which it sends what there is. Only that takes seats.
pub struct Opening {
    held: Option<Held>,
    open: Option<DropGuard>,
    _watching: Option<Watching>,
    /// A client that does not read has its place no longer than that.
    longest: Duration,
    tasks: Supervisor,
}

impl Opening {
    /// There is something to be sent, as fast as the client reads.
    pub fn begin(&mut self) {
        if let Some(held) = self.held.take() {
            self.open = Some(keep(held, &self.tasks, Instant::now() + self.longest));
        }
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// All that there was has been sent.
    pub fn end(&mut self) {
        self.held = None;
        self.open = None;
    }
}

fn mark(response: &mut Response<Body>, flow: &Flow) {
    let headers = response.headers_mut();
    for (name, value) in MARKS.iter().zip(&flow.marks) {
        headers.insert(name, value.clone());
    }
}

/// A request that is not worked on.
pub struct Refused {
    pub(super) retry_after: u64,
    pub(super) flow: Option<Arc<Flow>>,
}

impl Refused {
    pub(super) fn plain() -> Self {
        Self {
            retry_after: 1,
            flow: None,
        }
    }

    /// 429 as upstream sends it: text, no `Status`.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let text = "Too many requests, please try again later.\n";
        let mut response = component::serving::text(StatusCode::TOO_MANY_REQUESTS, text);
        if let Some(flow) = &self.flow {
            mark(&mut response, flow);
        }
        let seconds = HeaderValue::from(self.retry_after);
        let headers = response.headers_mut();
        headers.insert(http::header::RETRY_AFTER, seconds);
        response
    }
}
