//! Response bodies: whole, or streamed piece by piece as the client takes them.

use bytes::Bytes;
use futures::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use resources::negotiate::Media;
use resources::status::Failure;

use crate::render;

pub use component::serving::{Body, full};

/// A body that is made while it is sent; nothing is made before the connection asks for it.
pub fn stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    use futures::StreamExt;
    StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
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
