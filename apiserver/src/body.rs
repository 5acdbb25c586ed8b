//! Response bodies: whole, or streamed piece by piece as the client takes them.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use component::serving::{PIECE, Until};
use component::supervisor::BoxError;
use futures::{Stream, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame};
use resources::negotiate::Media;
use resources::status::Failure;

use crate::render;

pub use component::serving::{Body, full};

/// A body that is made while it is sent; nothing is made before the connection asks for it.
pub fn stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    try_stream(pieces.map(Ok))
}

/// The same of pieces that can fail, which breaks the answer off.
pub fn try_stream(pieces: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// The answer, broken off when its time is over: what it holds must not be held for as long as a client likes. `cut` is called
/// then.
#[must_use]
pub fn until(
    mut response: Response<Body>,
    deadline: Instant,
    cut: impl Fn() + Send + Sync + 'static,
) -> Response<Body> {
    let exact = response.body().size_hint().exact();
    if exact.is_none_or(|length| length > PIECE as u64) {
        let at = deadline.into();
        let cut = Arc::new(cut);
        response.extensions_mut().insert(Until { at, cut });
    }
    response
}

/// An answer with a body of a known type.
#[must_use]
pub fn answer(code: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The answer to a HEAD: that to a GET, without its body.
#[must_use]
pub fn head_alone(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, full(Bytes::new()))
}

/// The answer to a path that nothing serves.
#[must_use]
pub fn not_found() -> Response<Body> {
    component::serving::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// A failure as a `Status` in the form that the client takes.
#[must_use]
pub fn failure(failure: &Failure, media: Media) -> Response<Body> {
    let media = Media {
        form: resources::negotiate::Form::Full,
        ..media
    };
    let status = proto::catalogue::messages::meta_v1::STATUS;
    let bytes = render::encode(&failure.to_value(), status, "Status", "v1", media);
    let mut response = answer(failure.code(), media.content_type(), full(bytes));
    if let Some(seconds) = failure.retry_after() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
