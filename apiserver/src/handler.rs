//! Handlers: one file a verb. They read options and bodies, call the registry or the store, and render
//! the answer.

use std::sync::Arc;

use bytes::Bytes;
use component::tracing as trace;
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use resources::clock;
use resources::negotiate::Media;
use resources::status::Failure;
use store::Entry;

use crate::chain::{Exchange, traces};
use crate::registry::Endpoint;
use crate::registry::generic::Write;
use crate::render;

pub mod apply;
pub mod binding;
pub mod collection;
pub mod component_status;
pub mod create;
pub mod delete;
pub mod eviction;
pub mod get;
pub mod list;
pub mod patch;
pub mod review;
pub mod scale;
pub mod subresource;
pub mod token;
pub mod unread;
pub mod update;
pub mod watch;

/// The largest request body, upstream's `MaxRequestBodyBytes`: twice what etcd takes by default.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// The whole body, refused when it is larger than upstream takes.
pub async fn read_body(headers: &HeaderMap, incoming: Incoming) -> Result<Bytes, Failure> {
    let too_large = || Failure::too_large(&format!("limit is {MAX_BODY}"));
    let announced = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|n| n > MAX_BODY) {
        return Err(too_large());
    }
    match Limited::new(incoming, MAX_BODY).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let length = || i64::try_from(body.len()).unwrap_or(i64::MAX);
            trace::event("limitedReadBody succeeded", |a| a.int("len", length()));
            Ok(body)
        }
        Err(e) if e.is::<LengthLimitError>() => Err(too_large()),
        Err(e) => Err(Failure::bad_request(format!(
            "error reading the request body: {e}"
        ))),
    }
}

/// An object as the answer has it.
pub fn rendered(
    x: &Exchange,
    endpoint: &Endpoint,
    media: Media,
    entry: &Arc<Entry>,
) -> Result<Bytes, Failure> {
    let _span = traces::serializing(x, media.content_type());
    render::entry(endpoint, media, entry, clock::seconds())
}

/// The answer to a write.
pub fn answered(
    x: &Exchange,
    endpoint: &Endpoint,
    media: Media,
    written: &Arc<Entry>,
) -> Result<Bytes, Failure> {
    let _span = traces::serializing(x, media.content_type());
    render::written(endpoint, media, written, clock::seconds())
}

/// Records an object of the hub's version as it is in the request's, defaults included.
pub fn record(x: &Exchange, endpoint: &Endpoint, object: &proto::Value) {
    if x.trail.is_none() {
        return;
    }
    let (hub, served) = (&endpoint.hub, &endpoint.served);
    if hub.message == served.message {
        x.record_object(object, served);
        return;
    }
    match resources::object::convert(object.clone(), hub, served) {
        Ok(object) => x.record_object(&object, served),
        Err(error) => tracing::error!(%error, "a request's object cannot be recorded"),
    }
}

/// A write in the name of the exchange's user.
pub fn write<'a>(x: &'a Exchange, endpoint: &'a Endpoint, manager: &'a str) -> Write<'a> {
    let namespace = if endpoint.resource.namespaced {
        x.info.namespace.as_str()
    } else {
        ""
    };
    let mut write = Write::new(&x.server, endpoint, &x.user, namespace, manager);
    write.subresource = &x.info.subresource;
    write.verb = &x.info.verb;
    write.trail = x.trail.as_ref();
    write.deadline = Some(x.write_deadline());
    write
}

/// The manager of a write: the option, or what the user agent calls itself.
#[must_use]
pub fn manager(x: &Exchange, option: &str) -> String {
    if option.is_empty() {
        x.default_manager()
    } else {
        option.to_owned()
    }
}
