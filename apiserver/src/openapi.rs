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

use component::features::Features;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue,
    IF_NONE_MATCH, LOCATION, VARY,
};
use http::{Method, Response, StatusCode};
use proto::catalogue::{self, Resource};
use resources::negotiate;
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
    /// Whether values that strings may have are told.
    enums: bool,
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
const TEXT: &str = "text/plain; charset=utf-8";
const PROTOBUF_V3: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
const OLD_PROTOBUF_V3: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What clients call it that are older than the rules of such names.
const OLD_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

impl Documents {
    /// About everything that `served` lets through.
    pub fn new(served: impl Fn(&Resource) -> bool, features: &Features) -> Self {
        let resources = catalogue::resources()
            .iter()
            .filter(|r| served(r))
            .collect();
        Self {
            resources,
            enums: features.enabled("OpenAPIEnums"),
            made: OnceLock::new(),
            protobuf: OnceLock::new(),
        }
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let mut set = document::all(&self.resources);
            if !self.enums {
                set.v3.values_mut().for_each(without_enums);
                without_enums(&mut set.v2);
            }
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
                gzip: gzip(&gnostic::v2(&document)),
                digest: json.digest.clone(),
            }
        })
    }
}

/// Drops the values that strings may have (`pruneEnums`). A property may be called so too; what it is is no list.
fn without_enums(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(map) => {
            map.retain(|key, value| key != "enum" || !value.is_array());
            map.values_mut().for_each(without_enums);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_enums),
        _ => {}
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

    /// A v3 document in protobuf, under the tag of the one in JSON. Hardly anybody asks: it is not kept.
    fn in_protobuf(&self) -> Self {
        let text = self.text().unwrap_or_default();
        let document = serde_json::from_slice(&text).unwrap_or_default();
        Self {
            gzip: gzip(&gnostic::v3(&document)),
            digest: self.digest.clone(),
        }
    }

    /// Where clients find the v3 document of that name.
    fn address(&self, name: &str) -> String {
        format!("/openapi/v3/{name}?hash={}", self.digest)
    }

    /// The document, or that the client has it; compressed where `gzipped`.
    fn answer(&self, x: &Exchange, content_type: &'static str, gzipped: bool) -> Response<Body> {
        let tag = format!("\"{}\"", self.digest);
        let mut response = if has(x, &tag) {
            not_modified()
        } else if gzipped {
            body::answer(200, content_type, body::full(self.gzip.clone()))
        } else {
            self.whole(content_type)
        };
        let headers = response.headers_mut();
        if gzipped && headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        response
    }

    fn whole(&self, content_type: &'static str) -> Response<Body> {
        match self.text() {
            Ok(text) => body::answer(200, content_type, body::full(text)),
            Err(_) => body::answer(500, "text/plain", body::full("the document is damaged\n")),
        }
    }
}

/// Whether the client has what the tag names, or would have whatever there is (RFC 9110, section 13.1.2).
fn has(x: &Exchange, tag: &str) -> bool {
    let known = x.headers.get_all(IF_NONE_MATCH).iter();
    let known = known.filter_map(|value| value.to_str().ok());
    let mut tags = known.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || (!tag.is_empty() && known.trim_start_matches("W/") == tag))
}

/// Not found, and not a word of it.
fn nothing() -> Response<Body> {
    let mut response = Response::new(body::full(Vec::new()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn not_modified() -> Response<Body> {
    let mut response = Response::new(body::full(Vec::new()));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// The answer, if the path is one of them.
pub fn serve(x: &Exchange, path: &str) -> Option<Response<Body>> {
    if !path.starts_with("/openapi/") || !matches!(x.method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut response = match path {
        "/openapi/v2" => v2(x),
        // The index has no tag: it is made of those of all documents.
        "/openapi/v3" if x.info.path.ends_with('/') => return Some(nothing()),
        "/openapi/v3" if has(x, "") => not_modified(),
        // Nobody says what it is: Go guesses.
        "/openapi/v3" => x.server.openapi.made().index.whole(TEXT),
        _ => match v3(x, path.strip_prefix("/openapi/v3/")?) {
            Some(response) => response,
            None => return Some(nothing()),
        },
    };
    if path != "/openapi/v3" {
        let accept = HeaderValue::from_static("Accept");
        response.headers_mut().append(VARY, accept);
    }
    Some(response)
}

fn v2(x: &Exchange) -> Response<Body> {
    let documents = &x.server.openapi;
    let gzipped = takes_gzip(x);
    let mut response = match negotiate::first(&x.headers, &[JSON, OLD_PROTOBUF, PROTOBUF]) {
        Some(JSON) => documents.made().v2.answer(x, JSON, gzipped),
        Some(_) => documents.v2_protobuf().answer(x, PROTOBUF, gzipped),
        None => not_acceptable(),
    };
    let encoding = HeaderValue::from_static("Accept-Encoding");
    response.headers_mut().append(VARY, encoding);
    response
}

fn v3(x: &Exchange, name: &str) -> Option<Response<Body>> {
    let document = x.server.openapi.made().v3.get(name)?;
    let media = match negotiate::first(&x.headers, &[JSON, PROTOBUF_V3, OLD_PROTOBUF_V3]) {
        Some(JSON) => JSON,
        Some(_) => PROTOBUF_V3,
        None => return Some(not_acceptable()),
    };
    let asked = x.query.get("hash").filter(|hash| !hash.is_empty());
    if asked.is_some_and(|hash| hash != document.digest) {
        let mut response = body::answer(301, media, body::full(Vec::new()));
        let headers = response.headers_mut();
        headers.insert(
            LOCATION,
            HeaderValue::from_str(&document.address(name)).ok()?,
        );
        let tag = format!("\"{}\"", document.digest);
        headers.insert(ETAG, HeaderValue::from_str(&tag).ok()?);
        return Some(response);
    }
    let mut response = if media == JSON {
        document.answer(x, JSON, false)
    } else {
        document.in_protobuf().answer(x, PROTOBUF_V3, false)
    };
    if asked.is_some() {
        let forever = HeaderValue::from_static("public, immutable");
        response.headers_mut().insert(CACHE_CONTROL, forever);
    }
    Some(response)
}

fn takes_gzip(x: &Exchange) -> bool {
    let accepted = x.headers.get_all(ACCEPT_ENCODING).iter();
    let accepted = accepted.filter_map(|v| v.to_str().ok());
    accepted.flat_map(|v| v.split(',')).any(|clause| {
        let mut pieces = clause.split(';').map(str::trim);
        let name = pieces.next().unwrap_or_default();
        let quality = pieces.find_map(|p| p.strip_prefix("q=")?.parse::<f32>().ok());
        matches!(name, "gzip" | "*") && quality.unwrap_or(1.0) > 0.0
    })
}

fn not_acceptable() -> Response<Body> {
    let mut response = Response::new(body::full(Vec::new()));
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response
}

#[cfg(test)]
mod tests;
