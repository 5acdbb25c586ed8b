//! The events of a watch.

use std::marker::PhantomData;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures::stream::{Stream, StreamExt};
use hyper::body::Incoming;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::transport::TransportError;
use super::{Error, Kind, Target, body};

/// One thing that happened, or how far the watch has come.
#[derive(Clone, PartialEq, Debug)]
pub enum WatchEvent<K> {
    Added(K),
    Modified(K),
    /// With the last state of the object.
    Deleted(K),
    /// All events up to this version were delivered. The initial ones end with the first bookmark that
    /// says so.
    Bookmark {
        resource_version: String,
        initial_events_end: bool,
    },
}

/// The annotation of the bookmark after the initial events (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// The longest event that is read: the largest object is 3 MiB on its way in, and grows in JSON.
const MAX_EVENT: usize = 64 << 20;

/// The events of a watch, in order, until it ends.
pub struct WatchStream<K> {
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>,
    frames: Frames,
    host: String,
    target: Target,
    /// The stream's place in its connection, which is taken until the watch ends.
    _place: http::Extensions,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> WatchStream<K> {
    pub(super) fn new(response: http::Response<Incoming>, host: &str, target: &Target) -> Self {
        let (head, body) = response.into_parts();
        Self {
            bytes: body::stream(body).boxed(),
            frames: Frames::default(),
            host: host.to_owned(),
            target: target.clone(),
            _place: head.extensions,
            kind: PhantomData,
        }
    }

    /// The next event; none when the server ended the watch, which is no failure.
    ///
    /// # Errors
    /// If the connection broke, or the server ended the watch with a reason (`Expired`).
    pub async fn next(&mut self) -> Option<Result<WatchEvent<K>, Error>> {
        loop {
            match self.frames.next() {
                Ok(Some(frame)) => return Some(self.event(&frame)),
                Ok(None) => {}
                Err(problem) => return Some(Err(self.undecodable(problem))),
            }
            match self.bytes.next().await? {
                Ok(bytes) => self.frames.push(&bytes),
                Err(cause) => {
                    return Some(Err(Error::Transport {
                        host: self.host.clone(),
                        cause,
                    }));
                }
            }
        }
    }

    fn event(&self, frame: &[u8]) -> Result<WatchEvent<K>, Error> {
        #[derive(Deserialize)]
        struct Event<'a> {
            #[serde(rename = "type")]
            kind: &'a str,
            #[serde(borrow)]
            object: &'a RawValue,
        }
        let event: Event<'_> = serde_json::from_slice(frame).map_err(|e| self.undecodable(e))?;
        let text = event.object.get();
        let object = || serde_json::from_str::<K>(text).map_err(|e| self.undecodable(e));
        match event.kind {
            "ADDED" => object().map(WatchEvent::Added),
            "MODIFIED" => object().map(WatchEvent::Modified),
            "DELETED" => object().map(WatchEvent::Deleted),
            "BOOKMARK" => {
                #[derive(Deserialize)]
                struct Bookmark {
                    metadata: ObjectMeta,
                }
                let mark: Bookmark = serde_json::from_str(text).map_err(|e| self.undecodable(e))?;
                Ok(bookmark(&mark.metadata))
            }
            "ERROR" => {
                let status: Status = serde_json::from_str(text).map_err(|e| self.undecodable(e))?;
                Err(Error::Status(Box::new(status)))
            }
            other => Err(self.undecodable(format_args!("unknown event type {other:?}"))),
        }
    }

    fn undecodable(&self, problem: impl std::fmt::Display) -> Error {
        Error::Decode {
            expected: format!("event of {}", self.target),
            problem: problem.to_string(),
        }
    }
}

fn bookmark<K>(meta: &ObjectMeta) -> WatchEvent<K> {
    let annotation = meta
        .annotations
        .as_ref()
        .and_then(|a| a.get(INITIAL_EVENTS_END));
    WatchEvent::Bookmark {
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        initial_events_end: annotation.is_some_and(|v| v == "true"),
    }
}

/// Cuts a stream of JSON lines into frames.
#[derive(Default)]
struct Frames {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    seen: usize,
}

impl Frames {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let Some(at) = self.buffer[self.seen..].iter().position(|b| *b == b'\n') else {
                self.seen = self.buffer.len();
                if self.seen > MAX_EVENT {
                    return Err(format!("an event longer than {MAX_EVENT} bytes"));
                }
                return Ok(None);
            };
            let line = self.buffer.split_to(self.seen + at + 1).freeze();
            self.seen = 0;
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }
}
