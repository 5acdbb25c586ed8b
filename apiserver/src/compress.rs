//! Answers that are long and the client takes compressed (gate `APIResponseCompression`).
//!
//! Upstream's rule (`endpoints/handlers/responsewriters/writers.go`): more than 128 KiB, level 1, whatever the form. It is
//! compressed while it is sent. Only as much is made before as tells whether it is long.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use component::supervisor::BoxError;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame};

use crate::body::{Body, full};
use crate::chain::Exchange;

pub mod gzip;

use gzip::{Member, Pool};

/// Answers that are not longer go out as they are.
const THRESHOLD: usize = 128 * 1024;
/// How much is compressed before the connection's other answers have their turn.
const STEP: usize = 64 * 1024;

/// Whether the client takes gzip: its first header lists it by that very word. Qualities are not read, as upstream does not
/// read them (`ContentEncodingSupported`).
#[must_use]
pub fn is_accepted(headers: &HeaderMap) -> bool {
    let listed = headers.get(ACCEPT_ENCODING).and_then(|v| v.to_str().ok());
    listed.is_some_and(|listed| listed.split(',').any(|token| token.trim() == "gzip"))
}

/// Says that the answer is compressed.
pub fn mark(headers: &mut HeaderMap) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// The answer, compressed if it is long and the client takes that.
pub async fn answer(x: &Exchange, response: Response<Body>) -> Response<Body> {
    let gate = x.server.config.features.enabled("APIResponseCompression");
    if !gate || response.headers().contains_key(CONTENT_ENCODING) || !is_accepted(&x.headers) {
        return response;
    }
    let exact = response.body().size_hint().exact();
    if exact.is_some_and(|length| length <= THRESHOLD as u64) {
        return response;
    }
    let (mut head, mut body) = response.into_parts();
    if exact.is_none() {
        let first = begin(&mut body).await;
        if first.whole {
            return Response::from_parts(head, full(first.bytes));
        }
        let rest = BodyExt::into_data_stream(body);
        let first = futures::stream::iter([first.failed.map_or(Ok(first.bytes), Err)]);
        let all = futures::StreamExt::chain(first, rest);
        let all = futures::StreamExt::map(all, |piece| piece.map(Frame::data));
        body = StreamBody::new(all).boxed_unsync();
    }
    head.headers.remove(CONTENT_LENGTH);
    mark(&mut head.headers);
    let compressed = Compressed::new(body, Arc::clone(&x.server.gzip));
    Response::from_parts(head, compressed.boxed_unsync())
}

/// What is made of an answer to find out whether it is long.
struct First {
    bytes: Bytes,
    /// There is no more.
    whole: bool,
    failed: Option<BoxError>,
}

async fn begin(body: &mut Body) -> First {
    let mut bytes = BytesMut::new();
    let (mut whole, mut failed) = (false, None);
    while bytes.len() <= THRESHOLD {
        match body.frame().await {
            Some(Ok(frame)) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(error)) => {
                failed = Some(error);
                break;
            }
            None => {
                whole = true;
                break;
            }
        }
    }
    First {
        bytes: bytes.freeze(),
        whole,
        failed,
    }
}

/// A body that is compressed as it is taken.
struct Compressed {
    body: Body,
    /// Of the last piece.
    rest: Bytes,
    pool: Arc<Pool>,
    /// None once all is compressed.
    member: Option<Member>,
    /// What has been compressed and not been taken.
    out: Vec<u8>,
}

impl Compressed {
    fn new(body: Body, pool: Arc<Pool>) -> Self {
        let mut out = Vec::new();
        let member = Some(pool.begin(&mut out));
        Self {
            body,
            rest: Bytes::new(),
            pool,
            member,
            out,
        }
    }

    fn take(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        let out = std::mem::take(&mut self.out);
        Some(Ok(Frame::data(out.into())))
    }
}

impl hyper::body::Body for Compressed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.member.is_none() {
            return Poll::Ready(None);
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let this = &mut *self;
                    if let Some(member) = this.member.take() {
                        member.finish(&this.pool, &mut this.out);
                    }
                    return Poll::Ready(self.take());
                }
            }
        }
        let this = &mut *self;
        let step = this.rest.split_to(this.rest.len().min(STEP));
        if let Some(member) = &mut this.member {
            member.write(&step, &mut this.out);
        }
        if this.out.is_empty() {
            // It is all in the compressor still. Others have their turn first.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.take())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn gzip_is_taken_by_name_and_qualities_are_not_read() {
        let taken = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, text.parse().expect("a header value"));
            is_accepted(&headers)
        };
        assert!(taken("gzip") && taken("deflate, gzip") && taken(" br ,gzip "));
        for other in ["", "gzip;q=1.0", "GZIP", "identity", "*", "x-gzip"] {
            assert!(!taken(other), "{other}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }

    fn pieces(pieces: Vec<Result<Bytes, BoxError>>) -> Body {
        let frames = pieces.into_iter().map(|piece| piece.map(Frame::data));
        StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
    }

    #[tokio::test]
    async fn a_body_of_any_pieces_is_one_member() {
        let lines: Vec<Bytes> = (0..5000)
            .map(|n| Bytes::from(format!("{n} of them\n").repeat(n % 90)))
            .collect();
        let body = pieces(lines.iter().cloned().map(Ok).collect());
        let compressed = Compressed::new(body, Arc::default()).collect().await;
        let compressed = compressed.expect("it is whole").to_bytes();
        let (mut plain, all) = (Vec::new(), lines.concat());
        let read = GzDecoder::new(&compressed[..]).read_to_end(&mut plain);
        assert!(read.is_ok() && plain == all, "{read:?}");
        assert!(compressed.len() < all.len() / 5, "{}", compressed.len());
    }

    #[tokio::test]
    async fn a_body_that_breaks_has_no_end() {
        let broken = || vec![Ok(Bytes::from_static(b"begin")), Err("it broke".into())];
        let all = Compressed::new(pieces(broken()), Arc::default()).collect();
        assert!(all.await.is_err());
        let mut body = pieces(broken());
        let first = begin(&mut body).await;
        assert!(!first.whole && first.failed.is_some());
    }

    #[tokio::test]
    async fn no_more_is_made_than_tells_that_it_is_long() {
        let zeros = |count| pieces((0..count).map(|_| Ok(vec![0; 50_000].into())).collect());
        let mut body = zeros(10);
        let first = begin(&mut body).await;
        assert_eq!((first.bytes.len(), first.whole), (150_000, false));
        let mut short = zeros(2);
        let first = begin(&mut short).await;
        assert_eq!((first.bytes.len(), first.whole), (100_000, true));
    }
}
