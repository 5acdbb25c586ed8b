//! What every request passes before its handler, in upstream's order
//! (`apiserver/pkg/server/config.go`, `DefaultBuildHandlerChain`):
//!
//! the request gets an id, panics become 500, the path is read, the request gets its deadline, the user is
//! found, what is asked is recorded, its turn comes, the user is authorized, and what handlers warned of
//! goes out as headers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use component::serving::{Connection, Impatient};
use component::tracing as trace;
use futures::FutureExt;
use http::header::X_CONTENT_TYPE_OPTIONS;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use proto::Value;
use rand::Rng;
use resources::negotiate::{self, Media, Offers};
use resources::object::Type;
use resources::request::{Query, RequestInfo};
use resources::status::Failure;

use crate::audit::{self, Ending, Part, Trail};
use crate::auth::{self, User, impersonate};
use crate::authz::{Attributes, Decision, refusal};
use crate::body::{self, Body};
use crate::dispatch::{self, Route};
use crate::flowcontrol::{Class, Place};
use crate::metrics::Running;
use crate::server::Server;

pub mod browser;
pub(crate) mod traces;
mod warnings;

/// One request on its way through.
pub struct Exchange {
    pub server: Arc<Server>,
    pub connection: Arc<Connection>,
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
    pub query: Query,
    pub info: RequestInfo,
    pub user: User,
    pub deadline: Instant,
    /// The client's end of the connection, once it is handed over; none where that cannot be (HTTP/2).
    pub upgrade: Option<OnUpgrade>,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
    /// What `Audit-Id` says.
    pub audit_id: String,
    /// When the request came.
    pub received: SystemTime,
    /// What is recorded of the request, if anything is.
    pub trail: Option<Trail>,
    /// Annotations of its events, from before there is a trail.
    pub noted: Vec<(&'static str, String)>,
    /// The release that will not serve what is asked for, if that is known, of a version that goes away.
    pub deprecated: Option<Option<String>>,
    /// Until the answer is there, or whoever carries the connection on has it.
    pub(crate) counted: Option<Running>,
    /// Its place among the requests that are worked on.
    pub(crate) place: Place,
}

/// The longest that handlers of writes work; upstream's `requestTimeoutUpperBound`.
const LONGEST_WRITE: Duration = Duration::from_secs(34);

impl Exchange {
    /// When the time of a write is over, for whoever is asked about it.
    #[must_use]
    pub fn write_deadline(&self) -> Instant {
        self.deadline.min(Instant::now() + LONGEST_WRITE)
    }

    /// The user agent up to the first slash, what can be printed of it: the manager's name if the
    /// client gave none.
    #[must_use]
    pub fn default_manager(&self) -> String {
        let agent = self.headers.get(http::header::USER_AGENT);
        let agent = String::from_utf8_lossy(agent.map_or(&[], HeaderValue::as_bytes));
        let mut name = String::new();
        let head = agent.split('/').next().unwrap_or_default();
        for c in head.chars().filter(|c| proto::path::is_printable(*c)) {
            if name.len() + c.len_utf8() > resources::options::FIELD_MANAGER_MAX {
                break;
            }
            name.push(c);
        }
        name
    }

    /// The answer that tells of a failure, which is recorded.
    #[must_use]
    pub fn failed(&self, failure: &Failure) -> Response<Body> {
        // Upstream writes these past its recorder.
        if failure.reason() != "NotAcceptable" {
            self.record_status(&failure.to_value());
        }
        body::failure(failure, self.failure_media())
    }

    /// Records the `Status` that the request is answered with.
    pub fn record_status(&self, status: &Value) {
        if let Some(trail) = &self.trail {
            trail.answered_with(status);
        }
    }

    /// Records the object that the client sent.
    pub fn record_object(&self, object: &Value, of: &Type) {
        if let Some(trail) = &self.trail {
            trail.request_object(object, of);
        }
    }

    /// Records a patch as the client sent it.
    pub fn record_patch(&self, patch: &[u8], yaml: bool) {
        if let Some(trail) = &self.trail {
            trail.request_patch(patch, yaml);
        }
    }

    /// A part of the work took from then until now.
    pub fn spent(&self, part: Part, since: Instant) {
        if let Some(trail) = &self.trail {
            trail.spent(part, since.elapsed());
        }
    }

    /// Failures are sent in the form that the client takes, JSON if it takes none.
    #[must_use]
    pub fn failure_media(&self) -> Media {
        negotiate::output(&self.headers, &self.query, Offers::Plain).unwrap_or(Media::JSON)
    }
}

/// Serves one request.
pub async fn serve(server: Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    let id = audit::id(request.headers());
    let config = &server.config;
    let origin = config.browsers.origin(request.headers());
    send_elsewhere(&request, config.goaway_chance);
    let bodiless = request.method() == Method::HEAD;
    let passed = async {
        match config.browsers.preflight(request.method(), origin.as_ref()) {
            Some(response) => response,
            None => pass(server.clone(), request, id.clone()).await,
        }
    };
    let passed = AssertUnwindSafe(passed).catch_unwind().await;
    let mut response = if let Ok(response) = passed {
        response
    } else {
        tracing::error!("a handler panicked; the request is answered with 500");
        let text = "This request caused apiserver to panic. Look in the logs for details.\n";
        component::serving::text(http::StatusCode::INTERNAL_SERVER_ERROR, text)
    };
    config.browsers.mark(response.headers_mut(), origin);
    audit::add_id(&mut response, &id);
    if bodiless {
        body::head_alone(response)
    } else {
        response
    }
}

/// Now and then a client is asked to open another connection, which a load balancer may lead to
/// another server; what runs on this one is finished.
fn send_elsewhere<B>(request: &Request<B>, chance: f32) {
    let chosen = chance > 0.0 && rand::rng().random_bool(chance.into());
    if chosen
        && request.version() == Version::HTTP_2
        && let Some(connection) = Connection::of(request)
    {
        connection.close();
    }
}

async fn pass(server: Arc<Server>, request: Request<Incoming>, audit_id: String) -> Response<Body> {
    let received = SystemTime::now();
    let connection = Connection::of(&request)
        .cloned()
        .expect("the listener puts the connection into every request");
    let (mut head, incoming) = request.into_parts();
    let upgrade = head.extensions.remove::<OnUpgrade>();
    let query = Query::parse(&head.uri);
    let info = match RequestInfo::read(&head.method, &head.uri, &query) {
        Ok(info) => info,
        Err(why) => return body::failure(&Failure::bad_request(why), Media::JSON),
    };
    let (deadline, too_long) = match deadline(&query, &info, server.config.request_timeout) {
        Ok(deadline) => (deadline, None),
        Err(failure) => (Instant::now(), Some(failure)),
    };
    let user = User::default();
    let version = head.version;
    let (method, uri, headers) = (head.method, head.uri, head.headers);
    let mut x = Exchange {
        server,
        connection,
        method,
        uri,
        version,
        headers,
        query,
        info,
        user,
        deadline,
        upgrade,
        warnings: Vec::new(),
        audit_id,
        received,
        trail: None,
        noted: Vec::new(),
        deprecated: None,
        counted: None,
        place: Place::default(),
    };
    if let Some(failure) = too_long {
        record_refusal(&x, &failure).await;
        return body::failure(&failure, Media::JSON);
    }
    let server = x.server.clone();
    let route = Route::find(&server, &x.info);
    x.counted = server.requests.begin(&x, route);
    let identified = identified(&mut x).await;
    if version == Version::HTTP_2 && (identified.is_err() || auth::is_nobody(&x.user)) {
        limit_nobody(&x);
    }
    let mut response = match identified {
        Ok(()) => traces::traced(&mut x, route, incoming).await,
        Err(failure) => body::failure(&failure, x.failure_media()),
    };
    warnings::add(&mut response, &x.warnings);
    if !dispatch::is_stream(&x.info) {
        response.extensions_mut().insert(Impatient);
    }
    match x.counted.take() {
        Some(counted) => counted.answered(response),
        None => response,
    }
}

/// Streams of one connection cost a client little and the server much (CVE-2023-44487): who does not say
/// who he is has a connection for one request only.
fn limit_nobody(x: &Exchange) {
    let features = &x.server.config.features;
    if features.enabled("UnauthenticatedHTTP2DOSMitigation") {
        x.connection.close();
    }
}

/// Finds the user, and records that the request is there.
async fn identified(x: &mut Exchange) -> Result<(), Failure> {
    let server = x.server.clone();
    let started = Instant::now();
    x.user = match server.authenticators.authenticate(x).await {
        Ok(user) => user,
        Err(failure) => {
            record_refusal(x, &failure).await;
            return Err(failure);
        }
    };
    server.authenticators.hide(&mut x.headers);
    let Some(audit) = &server.audit else {
        return Ok(());
    };
    x.trail = audit.begin(x, Some(&x.user));
    let Some(trail) = &x.trail else {
        return Ok(());
    };
    trail.spent(Part::Authentication, started.elapsed());
    for (key, value) in &x.noted {
        trail.annotate(key, value);
    }
    trail.received().await
}

/// Records a request that nobody is known for.
async fn record_refusal(x: &Exchange, failure: &Failure) {
    let audit = x.server.audit.as_ref();
    if let Some(trail) = audit.and_then(|audit| audit.begin(x, None)) {
        trail.answered_with(&failure.to_value());
        trail.started(failure.code()).await;
    }
}

/// Handles a request and records how it is answered.
async fn recorded(x: &mut Exchange, route: Route<'_>, incoming: Incoming) -> Response<Body> {
    let _span = trace::span("audit", |_| {});
    let Some(trail) = x.trail.clone() else {
        return handled(x, route, incoming).await;
    };
    let mut ending = Some(Ending::of(&trail));
    let long_running = Class::of(&x.info) == Class::LongRunning;
    if let Some(counted) = x.counted.as_mut().filter(|_| long_running) {
        counted.recorded = ending.take();
    }
    let response = handled(x, route, incoming).await;
    if long_running {
        trail.started(response.status().as_u16()).await;
    }
    if let Some(removed) = &x.deprecated {
        trail.annotate("k8s.io/deprecated", "true");
        if let Some(release) = removed {
            trail.annotate("k8s.io/removed-release", release);
        }
    }
    match ending {
        Some(ending) => ending.completed(response).await,
        None => response,
    }
}

/// The user becomes who he wants to be; once it is the request's turn, it is answered.
async fn handled(x: &mut Exchange, route: Route<'_>, incoming: Incoming) -> Response<Body> {
    let _impersonation = traces::impersonating(x);
    if let Err(failure) = impersonate(x).await {
        return refused(x, &failure);
    }
    let _fairness = trace::span("priorityandfairness", |_| {});
    let server = x.server.clone();
    let started = Instant::now();
    let entered = server.flow_control.enter(x, route).await;
    // Less is the way past the queues, not a wait in one.
    if started.elapsed() > Duration::from_millis(1) {
        x.spent(Part::Queue, started);
    }
    x.place = match entered {
        Ok(place) => place,
        Err(refused) => return refused.response(),
    };
    let _authorization = trace::span("authorization", |_| {});
    let response = match authorize(x).await {
        Ok(()) => dispatch::dispatch(x, route, incoming).await,
        Err(failure) if failure.code() == 403 => refused(x, &failure),
        Err(failure) => x.failed(&failure),
    };
    let place = std::mem::take(&mut x.place);
    place.leave(response, &server.flow_control, x.deadline)
}

/// Who may not do it is told so, and his browser not to guess what the answer is.
fn refused(x: &Exchange, failure: &Failure) -> Response<Body> {
    let mut response = x.failed(failure);
    if matches!(failure.code(), 400 | 403) {
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    response
}

/// The user becomes who he wants to be, if he may.
async fn impersonate(x: &mut Exchange) -> Result<(), Failure> {
    let Some(wanted) = impersonate::wanted(&mut x.headers)? else {
        return Ok(());
    };
    let server = &x.server;
    let decide: &impersonate::Decide<'_> = &|asked| {
        let server = Arc::clone(server);
        Box::pin(async move {
            let started = Instant::now();
            let decision = server.authorizers.decide(asked).await;
            let counted = &server.authenticators.impersonations;
            counted.asked(asked.verb, decision == Decision::Allow, started);
            decision
        })
    };
    let constrained = server.config.features.enabled("ConstrainedImpersonation");
    let asked = Attributes::of(&x.user, &x.info);
    let started = Instant::now();
    let found = impersonate::impersonated(&wanted, &asked, constrained, decide).await;
    let constraint = found
        .as_ref()
        .ok()
        .map(|(_, constraint)| constraint.as_str());
    let counted = &server.authenticators.impersonations;
    counted.attempted(constraint, started);
    x.spent(Part::Impersonation, started);
    let (user, constraint) = found?;
    tracing::debug!(user = x.user.name, acting_as = user.name, "Impersonation");
    if let Some(trail) = &x.trail {
        trail.impersonates(&user, &constraint);
    }
    x.user = user;
    Ok(())
}

async fn authorize(x: &Exchange) -> Result<(), Failure> {
    let asked = Attributes::of(&x.user, &x.info);
    let started = Instant::now();
    let outcome = x.server.authorizers.admit(&asked, x.trail.is_some()).await;
    x.spent(Part::Authorization, started);
    let record = |decision: &str, reason: &str| {
        if let Some(trail) = &x.trail {
            trail.authorized(decision, reason);
        }
    };
    match (outcome.decision, outcome.error) {
        (Decision::Allow, _) => {
            record("allow", &outcome.reason);
            Ok(())
        }
        // Somebody who should have been asked did not answer.
        (_, Some(error)) => {
            if let Some(trail) = &x.trail {
                trail.undecided();
            }
            Err(Failure::internal(error))
        }
        (Decision::Deny(reason) | Decision::NoOpinion(reason), None) => {
            record("forbid", &reason);
            let (group, resource, name) = (asked.group, asked.resource, asked.name);
            Err(Failure::forbidden(
                group,
                resource,
                name,
                &refusal(&asked, &reason),
            ))
        }
    }
}

/// Requests may shorten their time by `?timeout=`; watches and streams have none of ours.
fn deadline(query: &Query, info: &RequestInfo, most: Duration) -> Result<Instant, Failure> {
    let now = Instant::now();
    if info.verb == "watch" || dispatch::is_stream(info) {
        return Ok(now + Duration::from_secs(u64::from(u32::MAX)));
    }
    let Some(text) = query.get("timeout").filter(|t| !t.is_empty()) else {
        return Ok(now + most);
    };
    // One that is over before it begins is none.
    match text.parse::<proto::time::Duration>() {
        Ok(asked) => {
            let asked = asked.to_std().filter(|asked| !asked.is_zero());
            Ok(now + asked.map_or(most, |asked| asked.min(most)))
        }
        Err(why) => Err(Failure::bad_request(format!(
            "invalid timeout specified in the request URL - {why}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::handler::{
        collection, create, delete, get, list, patch, subresource, update, watch,
    };
    use crate::registry::Endpoint;

    /// What a future may take: it is moved a few times on the way to the connection's task.
    const ROOM: usize = 8 * 1024;

    fn whole<F: Future>(_: impl Fn(Arc<Server>, Request<Incoming>) -> F) -> usize {
        size_of::<F>()
    }

    fn read<'a, F: Future>(_: impl Fn(&'a mut Exchange, &'a Endpoint) -> F) -> usize {
        size_of::<F>()
    }

    fn write<'a, F: Future>(_: impl Fn(&'a mut Exchange, &'a Endpoint, Incoming) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_is_small_enough_to_be_moved() {
        for (what, room) in [
            ("all around handlers", whole(serve)),
            ("get", read(get::serve)),
            ("list", read(list::serve)),
            ("watch", read(watch::serve)),
            ("create", write(create::serve)),
            ("update", write(update::serve)),
            ("patch", write(patch::serve)),
            ("delete", write(delete::serve)),
            ("deletecollection", write(collection::serve)),
            ("subresources", write(subresource::serve)),
        ] {
            assert!(room <= ROOM, "{what}: {room} bytes");
        }
    }
}
