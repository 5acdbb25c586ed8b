//! The events of a watch.

use std::pin::Pin;

use bytes::Bytes;
use futures::stream::{Stream, StreamExt};
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use serde::Deserialize;

use super::transport::TransportError;
use super::{Error, Target, body, decode, encoding};

pub(crate) mod frame;

use frame::{Frames, Raw};

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

/// The events of a watch, in order, until it ends.
pub struct WatchStream<T> {
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>,
    frames: Frames,
    host: String,
    target: Target,
    /// The stream's place in its connection, which is taken until the watch ends.
    _place: http::Extensions,
    /// Reads an event's object.
    decode: decode::Decode<T>,
}

impl<T> WatchStream<T> {
    pub(super) fn new(
        response: http::Response<Incoming>,
        host: &str,
        target: &Target,
        decode: decode::Decode<T>,
    ) -> Self {
        let (head, body) = response.into_parts();
        let content_type = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        Self {
            bytes: body::stream(body).boxed(),
            frames: Frames::new(encoding::is_protobuf(content_type)),
            host: host.to_owned(),
            target: target.clone(),
            _place: head.extensions,
            decode,
        }
    }

    /// The next event; none when the server ended the watch, which is no failure.
    ///
    /// # Errors
    /// If the connection broke, or the server ended the watch with a reason (`Expired`).
    pub async fn next(&mut self) -> Option<Result<WatchEvent<T>, Error>> {
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

    fn event(&self, frame: &[u8]) -> Result<WatchEvent<T>, Error> {
        let Raw { kind, object } = self
            .frames
            .open(frame)
            .map_err(|problem| self.undecodable(problem))?;
        let decoded = || (self.decode)(object, &self.target);
        match kind {
            "ADDED" => decoded().map(WatchEvent::Added),
            "MODIFIED" => decoded().map(WatchEvent::Modified),
            "DELETED" => decoded().map(WatchEvent::Deleted),
            "BOOKMARK" => {
                #[derive(Deserialize)]
                struct Bookmark {
                    metadata: ObjectMeta,
                }
                let mark: Bookmark = decode::any(object, "bookmark")?;
                Ok(bookmark(&mark.metadata))
            }
            "ERROR" => Err(Error::Status(Box::new(decode::any::<Status>(
                object, "Status",
            )?))),
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
