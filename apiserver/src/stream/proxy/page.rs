//! A page on its way to the client: unpacked, its links changed, packed again.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzEncoder, MultiGzDecoder};
use futures::stream;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use component::supervisor::BoxError;

use super::html::Rewriter;
use super::links::Links;
use crate::body::Body;

/// One way of packing or unpacking.
trait Coder: Send {
    /// Takes a piece; what is ready of the other form.
    fn pass(&mut self, piece: &[u8], is_last: bool) -> io::Result<Vec<u8>>;
}

struct Plain;

impl Coder for Plain {
    fn pass(&mut self, piece: &[u8], _: bool) -> io::Result<Vec<u8>> {
        Ok(piece.to_vec())
    }
}

macro_rules! coders {
    ($($coder:ident)*) => {$(
        impl Coder for $coder<Vec<u8>> {
            fn pass(&mut self, piece: &[u8], is_last: bool) -> io::Result<Vec<u8>> {
                self.write_all(piece)?;
                if is_last {
                    self.try_finish()?;
                }
                Ok(std::mem::take(self.get_mut()))
            }
        }
    )*};
}

coders! { MultiGzDecoder GzEncoder DeflateDecoder DeflateEncoder }

struct Page {
    unpack: Box<dyn Coder>,
    rewriter: Rewriter,
    pack: Box<dyn Coder>,
}

impl Page {
    /// None if it is packed in a way that nobody can look into.
    fn of(headers: &HeaderMap, links: Links) -> Option<Self> {
        let coding = headers.get(CONTENT_ENCODING);
        let (unpack, pack): (Box<dyn Coder>, Box<dyn Coder>) =
            match coding.map_or(&b""[..], HeaderValue::as_bytes) {
                b"" => (Box::new(Plain), Box::new(Plain)),
                b"gzip" => (
                    Box::new(MultiGzDecoder::new(Vec::new())),
                    Box::new(GzEncoder::new(Vec::new(), Compression::default())),
                ),
                // Without the frame of zlib, as upstream reads and writes it.
                b"deflate" => (
                    Box::new(DeflateDecoder::new(Vec::new())),
                    Box::new(DeflateEncoder::new(Vec::new(), Compression::best())),
                ),
                _ => return None,
            };
        Some(Self {
            unpack,
            rewriter: Rewriter::new(links),
            pack,
        })
    }

    fn push(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        let page = self.unpack.pass(piece, false)?;
        let page = self.rewriter.push(&page);
        self.pack.pass(&page, false)
    }

    fn end(&mut self) -> io::Result<Vec<u8>> {
        let page = self.unpack.pass(&[], true)?;
        let mut page = self.rewriter.push(&page);
        page.extend(self.rewriter.end());
        self.pack.pass(&page, true)
    }
}

/// The body with its links changed, if the headers say that it is a page. The length, which changes,
/// goes out of the headers.
pub(super) fn through(links: Links, headers: &mut HeaderMap, body: Body) -> Body {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let kind = kind.and_then(|v| v.split(';').next());
    if kind.map(str::trim) != Some("text/html") {
        return body;
    }
    let Some(page) = Page::of(headers, links) else {
        tracing::debug!("A page is packed in a way that is not known; its links stay");
        return body;
    };
    headers.remove(CONTENT_LENGTH);
    let pieces = stream::try_unfold(Some((page, body)), |state| async move {
        let Some((mut page, mut body)) = state else {
            return Ok::<_, BoxError>(None);
        };
        loop {
            let Some(frame) = body.frame().await else {
                let last = Bytes::from(page.end()?);
                return Ok(Some((Frame::data(last), None)));
            };
            // Trailers are lost, as upstream loses them.
            let Ok(piece) = frame?.into_data() else {
                continue;
            };
            let ready = page.push(&piece)?;
            if !ready.is_empty() {
                let ready = Frame::data(Bytes::from(ready));
                return Ok(Some((ready, Some((page, body)))));
            }
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    async fn sent(coding: &'static str, page: Vec<u8>) -> Vec<u8> {
        let links = Links {
            prefix: "/p".into(),
            backend: "b".into(),
            host: "h".into(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(page.len()));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        let pieces: Vec<Bytes> = page.chunks(7).map(Bytes::copy_from_slice).collect();
        let body = crate::body::stream(stream::iter(pieces));
        let body = through(links, &mut headers, body);
        let known = matches!(coding, "" | "gzip" | "deflate");
        assert_eq!(headers.contains_key(CONTENT_LENGTH), !known);
        body.collect()
            .await
            .expect("a whole page")
            .to_bytes()
            .to_vec()
    }

    #[tokio::test]
    async fn a_page_is_changed_however_it_is_packed() {
        let page = b"<p>text</p><a href=\"/x\">".repeat(100);
        let seen = b"<p>text</p><a href=\"/p/x\">".repeat(100);
        assert_eq!(sent("", page.clone()).await, seen);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&page).expect("memory");
        let got = sent("gzip", packed.finish().expect("memory")).await;
        let mut text = Vec::new();
        let mut unpacked = flate2::read::GzDecoder::new(got.as_slice());
        unpacked.read_to_end(&mut text).expect("gzip");
        assert_eq!(text, seen);
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&page).expect("memory");
        let got = sent("deflate", packed.finish().expect("memory")).await;
        let mut text = Vec::new();
        let mut unpacked = flate2::read::DeflateDecoder::new(got.as_slice());
        unpacked.read_to_end(&mut text).expect("deflate");
        assert_eq!(text, seen);
        assert_eq!(sent("br", page.clone()).await, page);
    }
}
