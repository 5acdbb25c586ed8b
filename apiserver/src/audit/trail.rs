//! The trail of one request: what is known of it so far, and its events.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::Response;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use resources::object::Type;
use resources::status::Failure;
use serde_json::Value;

use super::event::{Event, Status};
use super::latency::{Part, Spent};
use super::policy::{Level, Stage, Verdict};
use super::{Backends, Formed};
use crate::auth::User;
use crate::body::{self, Body};

const DECISION: &str = "authorization.k8s.io/decision";
const REASON: &str = "authorization.k8s.io/reason";

/// What is known of one request; cheap to clone.
#[derive(Clone)]
pub struct Trail(Arc<Inner>);

struct Inner {
    verdict: Verdict,
    backends: Arc<Backends>,
    state: Mutex<State>,
}

struct State {
    event: Event,
    /// What the time was spent on so far.
    spent: Spent,
    /// Whether `ResponseStarted` was recorded.
    started: bool,
}

impl Trail {
    pub(super) fn new(verdict: &Verdict, backends: &Arc<Backends>, event: Event) -> Self {
        Self(Arc::new(Inner {
            verdict: verdict.clone(),
            backends: Arc::clone(backends),
            state: Mutex::new(State {
                event,
                spent: Spent::default(),
                started: false,
            }),
        }))
    }

    #[cfg(test)]
    pub(super) fn backends(&self) -> &Backends {
        &self.0.backends
    }

    /// Records that the request is there.
    ///
    /// # Errors
    /// 500 if that could not be written and the log is strict.
    pub async fn received(&self) -> Result<(), Failure> {
        if self.stage(Stage::RequestReceived).await {
            return Ok(());
        }
        self.0.backends.counters.rejected();
        Err(Failure::internal("failed to store audit event"))
    }

    /// Says something about the request in its events from now on. What was said first stays.
    pub fn annotate(&self, key: &str, value: &str) {
        self.0.state.lock().event.annotate(key, value);
    }

    /// Whether what the client sent is recorded as well.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        self.0.verdict.level >= Level::Request
    }

    /// What the authorizers said, and why.
    pub fn authorized(&self, decision: &str, reason: &str) {
        self.annotate(DECISION, decision);
        self.annotate(REASON, reason);
    }

    /// The authorizers came to no decision.
    pub fn undecided(&self) {
        self.annotate(REASON, "internal error");
    }

    /// A part of the work took that long.
    pub fn spent(&self, part: Part, took: Duration) {
        self.0.state.lock().spent.add(part, took);
    }

    pub fn impersonates(&self, user: &User, constraint: &str) {
        self.0.state.lock().event.impersonates(user, constraint);
    }

    /// The object that the client sent, in the version of the request.
    pub fn request_object(&self, object: &proto::Value, of: &Type) {
        let mut state = self.0.state.lock();
        state.event.refer_to(object);
        if self.0.verdict.level >= Level::Request {
            let json = crate::render::tree(object, of, resources::negotiate::Media::JSON);
            state.event.request_object = self.body(&json);
        }
    }

    /// A patch as the client sent it, with all that is in it: whatever JSON it is, or what YAML stands for if it is an
    /// application of a configuration.
    pub fn request_patch(&self, patch: &[u8], yaml: bool) {
        if self.0.verdict.level >= Level::Request {
            let tree = if yaml {
                from_yaml(patch)
            } else {
                serde_json::from_slice(patch).ok()
            };
            self.0.state.lock().event.request_object = tree;
        }
    }

    /// The `Status` that the request is answered with.
    pub fn answered_with(&self, status: &proto::Value) {
        let message = proto::catalogue::messages::meta_v1::STATUS;
        let mut json = Vec::new();
        proto::codec::json::encode(status, message, &mut json);
        let tree: Value = serde_json::from_slice(&json).unwrap_or_default();
        let text = |name: &str| tree[name].as_str().unwrap_or_default().to_owned();
        let mut state = self.0.state.lock();
        state.event.response_status = Some(Status {
            status: text("status"),
            message: text("message"),
            reason: text("reason"),
            details: tree.get("details").cloned(),
            ..Status::default()
        });
        if self.0.verdict.level >= Level::RequestResponse {
            let mut object = tree;
            object["kind"] = "Status".into();
            object["apiVersion"] = "v1".into();
            state.event.response_object = Some(object);
        }
    }

    /// Records the head of a long-running answer.
    pub async fn started(&self, code: u16) {
        if self.begins(code) {
            self.stage(Stage::ResponseStarted).await;
        }
    }

    /// The same where nobody can wait: a connection is handed over.
    pub fn switched(&self, code: u16) {
        if self.begins(code) {
            self.offer(Stage::ResponseStarted);
        }
    }

    fn begins(&self, code: u16) -> bool {
        self.coded(code);
        !std::mem::replace(&mut self.0.state.lock().started, true)
    }

    /// Notes the code of the answer.
    fn coded(&self, code: u16) {
        let mut state = self.0.state.lock();
        state.event.response_status.get_or_insert_default().code = code;
    }

    /// Holds the answer's body back until it is read whole, as upstream does at this level.
    async fn response_object(&self, response: Response<Body>) -> Response<Body> {
        if self.0.verdict.level < Level::RequestResponse {
            return response;
        }
        let (head, incoming) = response.into_parts();
        let bytes = match incoming.collect().await {
            Ok(whole) => whole.to_bytes(),
            Err(error) => {
                // The client must see it broken, too.
                let broken = futures::stream::iter([Err(error)]);
                let body = http_body_util::StreamBody::new(broken).boxed_unsync();
                return Response::from_parts(head, body);
            }
        };
        // Schemas, versions and texts are no objects; a `Status` is known already, or is written past upstream's recorder.
        let zipped = head.headers.contains_key(CONTENT_ENCODING);
        let plain = if zipped {
            unzipped(&bytes)
        } else {
            Some(bytes.clone())
        };
        let object = plain.and_then(|plain| self.body(&plain));
        if let Some(object) = object.filter(|o| o["kind"].is_string() && o["kind"] != "Status") {
            self.0.state.lock().event.response_object = Some(object);
        }
        Response::from_parts(head, body::full(bytes))
    }

    /// A body of any encoding as a tree; none if it is no object.
    fn body(&self, bytes: &[u8]) -> Option<Value> {
        let mut tree: Value = if proto::codec::protobuf::is_sealed(bytes) {
            serde_json::from_slice(&opened(bytes)?).ok()?
        } else {
            serde_json::from_slice(bytes)
                .ok()
                .or_else(|| from_yaml(bytes))?
        };
        if !tree.is_object() {
            return None;
        }
        name_items(&mut tree);
        if self.0.verdict.omit_managed_fields {
            omit_managed_fields(&mut tree);
        }
        Some(tree)
    }

    /// Records a stage, as the backends' modes have it; whether that may be relied upon.
    async fn stage(&self, stage: Stage) -> bool {
        match self.formed(stage) {
            Some(formed) => self.0.backends.write(formed).await,
            None => true,
        }
    }

    /// The same without waiting.
    fn offer(&self, stage: Stage) {
        if let Some(formed) = self.formed(stage) {
            self.0.backends.offer(formed);
        }
    }

    fn formed(&self, stage: Stage) -> Option<Formed> {
        if self.0.verdict.omit_stages.contains(&stage) {
            return None;
        }
        let mut state = self.0.state.lock();
        let State {
            event,
            spent,
            started,
        } = &mut *state;
        event.stage = stage;
        event.stage_timestamp = match stage {
            Stage::RequestReceived => event.request_received_timestamp,
            _ => SystemTime::now(),
        };
        // What lasts as long as the client likes does not take long.
        if stage == Stage::ResponseComplete && !*started {
            let received = event.request_received_timestamp;
            let total = event.stage_timestamp.duration_since(received);
            for (key, took) in spent.told(total.unwrap_or_default()) {
                event.annotate(key, &took);
            }
        }
        Some(self.0.backends.form(event))
    }
}

/// Held as long as a request lasts. One that is dropped before it was answered, or whose answer ends
/// with its body, has its last event then.
pub struct Ending(Option<Trail>);

impl Ending {
    #[must_use]
    pub fn of(trail: &Trail) -> Self {
        Self(Some(trail.clone()))
    }

    /// Records the answer, with its body if the policy wants it.
    pub async fn completed(mut self, response: Response<Body>) -> Response<Body> {
        let Some(trail) = self.0.clone() else {
            return response;
        };
        trail.coded(response.status().as_u16());
        let response = trail.response_object(response).await;
        // From here on the event is on its way.
        self.0 = None;
        trail.stage(Stage::ResponseComplete).await;
        response
    }

    /// The connection is handed over.
    pub fn switched(&self, code: u16) {
        if let Some(trail) = &self.0 {
            trail.switched(code);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Some(trail) = self.0.take() else { return };
        if std::thread::panicking() {
            trail.0.state.lock().event.response_status = Some(Status {
                status: "Failure".to_owned(),
                message: "APIServer panic'd: a handler panicked".to_owned(),
                reason: "InternalError".to_owned(),
                code: 500,
                ..Status::default()
            });
            trail.offer(Stage::Panic);
            return;
        }
        {
            let mut state = trail.0.state.lock();
            state.event.response_status.get_or_insert_with(|| Status {
                status: "Success".to_owned(),
                message: "Connection closed early".to_owned(),
                code: 200,
                ..Status::default()
            });
        }
        trail.offer(Stage::ResponseComplete);
    }
}

/// Items of a list of metadata say what they are, in JSON; in protobuf nothing does.
fn name_items(tree: &mut Value) {
    if tree["kind"] != "PartialObjectMetadataList" {
        return;
    }
    let version = tree["apiVersion"].clone();
    for item in { tree.get_mut("items").and_then(Value::as_array_mut) }
        .into_iter()
        .flatten()
    {
        item["kind"] = "PartialObjectMetadata".into();
        item["apiVersion"] = version.clone();
    }
}

fn from_yaml(bytes: &[u8]) -> Option<Value> {
    let (json, _) = proto::codec::yaml::to_json(bytes).ok()?;
    serde_json::from_slice(&json).ok()
}

/// What this server compressed itself, as `crate::compress` does.
fn unzipped(bytes: &[u8]) -> Option<Bytes> {
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(bytes).read_to_end(&mut plain);
    read.is_ok().then(|| plain.into())
}

/// The JSON of protobuf in an envelope.
fn opened(bytes: &[u8]) -> Option<Vec<u8>> {
    use proto::codec::{protobuf, transcode};
    let open = protobuf::open(bytes).ok()?;
    let (group, version) = open
        .api_version
        .split_once('/')
        .unwrap_or(("", open.api_version));
    let message = proto::catalogue::message_of(group, version, open.kind)?;
    let of = transcode::TypeMeta {
        api_version: open.api_version,
        kind: open.kind,
    };
    let mut json = Vec::new();
    transcode::to_json(open.raw, message, Some(of), &mut json).ok()?;
    Some(json)
}

/// Of an object, of the items of a list, and of the objects in the rows of a table.
pub(super) fn omit_managed_fields(tree: &mut Value) {
    if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    for items in ["items", "rows"] {
        let Some(list) = tree.get_mut(items).and_then(Value::as_array_mut) else {
            continue;
        };
        for item in list {
            let object = match items {
                "rows" => item.get_mut("object"),
                _ => Some(item),
            };
            let metadata = object.and_then(|o| o.get_mut("metadata"));
            if let Some(metadata) = metadata.and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
        }
    }
}
