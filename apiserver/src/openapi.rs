//! OpenAPI: what every kind looks like and which paths there are, for clients that check, explain and
//! merge by it (`kubectl apply`, `kubectl explain`).
//!
//! The documents are made of the catalogue when the first client asks, and kept compressed: few ask,
//! and those that do take gzip. v3 has one document per group version, and an index whose addresses
//! carry the digest of what is behind them, so that clients may keep them for ever. v2 is one document,
//! for older clients in protobuf.
//!
//! Upstream: `kube-openapi/pkg/{handler,handler3}`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::OnceLock;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderValue, IF_NONE_MATCH,
    LOCATION, VARY,
};
use http::{HeaderMap, Method, Response, StatusCode};
use proto::catalogue::{self, Resource};
use serde_json::json;
use sha2::{Digest, Sha512};

use crate::body::{self, Body};
use crate::chain::Exchange;

mod document;
mod gnostic;
mod paths;
mod schema;

/// The documents of a server.
pub struct Documents {
    resources: Vec<&'static Resource>,
    made: OnceLock<Made>,
    /// The v2 document in protobuf.
    protobuf: OnceLock<Document>,
}

struct Made {
    v2: Document,
    index: Document,
    v3: BTreeMap<String, Document>,
}

/// JSON or protobuf, compressed.
struct Document {
    gzip: Vec<u8>,
    /// Of the document in JSON, not compressed: upper-case hexadecimal SHA-512.
    digest: String,
}

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What clients call it that are older than the rules of such names.
const OLD_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

impl Documents {
    /// About everything that `served` lets through.
    pub fn new(served: impl Fn(&Resource) -> bool) -> Self {
        let resources = catalogue::resources()
            .iter()
            .filter(|r| served(r))
            .collect();
        Self {
            resources,
            made: OnceLock::new(),
            protobuf: OnceLock::new(),
        }
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let set = document::all(&self.resources);
            let v3: BTreeMap<String, Document> = set
                .v3
                .iter()
                .map(|(name, value)| (name.clone(), Document::new(value)))
                .collect();
            let paths: BTreeMap<&String, serde_json::Value> = v3
                .iter()
                .map(|(name, of)| (name, json!({"serverRelativeURL": of.address(name)})))
                .collect();
            Made {
                index: Document::new(&json!({"paths": paths})),
                v2: Document::new(&set.v2),
                v3,
            }
        })
    }

    /// Made of the one in JSON, whose tag it has: the `Vary` header tells them apart.
    fn v2_protobuf(&self) -> &Document {
        self.protobuf.get_or_init(|| {
            let json = &self.made().v2;
            let text = json.text().unwrap_or_default();
            let document = serde_json::from_slice(&text).unwrap_or_default();
            Document {
                gzip: gzip(&gnostic::document(&document)),
                digest: json.digest.clone(),
            }
        })
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(text)
        .and_then(|()| out.finish())
        .expect("writing to memory does not fail")
}

impl Document {
    fn new(value: &serde_json::Value) -> Self {
        let json = value.to_string();
        let digest = Sha512::digest(json.as_bytes())
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect();
        Self {
            gzip: gzip(json.as_bytes()),
            digest,
        }
    }

    fn text(&self) -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        GzDecoder::new(self.gzip.as_slice()).read_to_end(&mut text)?;
        Ok(text)
    }

    /// Where clients find the v3 document of that name.
    fn address(&self, name: &str) -> String {
        format!("/openapi/v3/{name}?hash={}", self.digest)
    }

    fn answer(&self, x: &Exchange, content_type: &'static str) -> Response<Body> {
        let tag = format!("\"{}\"", self.digest);
        let known = x
            .headers
            .get(IF_NONE_MATCH)
            .is_some_and(|v| v.as_bytes() == tag.as_bytes());
        let compressed = takes_gzip(x);
        let mut response = if known {
            let mut response = body::answer(304, content_type, body::full(Vec::new()));
            response.headers_mut().remove(http::header::CONTENT_TYPE);
            response
        } else if compressed {
            body::answer(200, content_type, body::full(self.gzip.clone()))
        } else {
            match self.text() {
                Ok(text) => body::answer(200, content_type, body::full(text)),
                Err(_) => body::answer(500, "text/plain", body::full("the document is damaged\n")),
            }
        };
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if compressed && !known {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        response
    }
}

/// The answer, if the path is one of them.
pub fn serve(x: &Exchange, path: &str) -> Option<Response<Body>> {
    if !path.starts_with("/openapi/") || !matches!(x.method, Method::GET | Method::HEAD) {
        return None;
    }
    let documents = &x.server.openapi;
    match path {
        "/openapi/v3" => return Some(documents.made().index.answer(x, JSON)),
        "/openapi/v2" => {
            return Some(
                match preferred(&x.headers, &[JSON, OLD_PROTOBUF, PROTOBUF]) {
                    Some(JSON) => documents.made().v2.answer(x, JSON),
                    Some(_) => documents.v2_protobuf().answer(x, PROTOBUF),
                    None => not_acceptable(),
                },
            );
        }
        _ if preferred(&x.headers, &[JSON]).is_none() => return Some(not_acceptable()),
        _ => {}
    }
    let name = path.strip_prefix("/openapi/v3/")?;
    let document = documents.made().v3.get(name)?;
    let asked = x.query.get("hash").filter(|hash| !hash.is_empty());
    if asked.is_some_and(|hash| hash != document.digest) {
        let mut response = Response::new(body::full(Vec::new()));
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let address = HeaderValue::from_str(&document.address(name)).ok()?;
        response.headers_mut().insert(LOCATION, address);
        return Some(response);
    }
    let mut response = document.answer(x, JSON);
    if asked.is_some() {
        let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
        response.headers_mut().insert(CACHE_CONTROL, forever);
    }
    Some(response)
}

fn takes_gzip(x: &Exchange) -> bool {
    list(&x.headers, &ACCEPT_ENCODING)
        .any(|(name, quality)| matches!(name, "gzip" | "*") && quality > 0.0)
}

fn not_acceptable() -> Response<Body> {
    let text = "406 not acceptable: application/json is served\n";
    component::serving::text(StatusCode::NOT_ACCEPTABLE, text)
}

/// The type that the client likes best, the first of those that it likes as well.
fn preferred(headers: &HeaderMap, offered: &[&'static str]) -> Option<&'static str> {
    let mut clauses: Vec<(&str, f32)> = list(headers, &ACCEPT).collect();
    if clauses.is_empty() {
        return offered.first().copied();
    }
    clauses.retain(|(_, quality)| *quality > 0.0);
    clauses.sort_by(|a, b| b.1.total_cmp(&a.1));
    clauses.iter().find_map(|(name, _)| match *name {
        "*/*" | "application/*" => offered.first().copied(),
        name => offered.iter().find(|o| **o == name).copied(),
    })
}

/// The alternatives of a header, with the quality of each.
fn list<'a>(
    headers: &'a HeaderMap,
    header: &http::HeaderName,
) -> impl Iterator<Item = (&'a str, f32)> {
    headers
        .get_all(header)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|clause| {
            let mut pieces = clause.split(';').map(str::trim);
            let name = pieces.next().unwrap_or_default();
            let quality = pieces.find_map(|p| p.strip_prefix("q=")?.parse().ok());
            (name, quality.unwrap_or(1.0))
        })
}

#[cfg(test)]
mod tests;
