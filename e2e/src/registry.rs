//! An image registry that serves archives as they lie on disk (OCI distribution 1.1, the part that pulls).
//!
//! Read-only, over TLS. Repositories below [`PRIVATE`] ask for credentials. Nothing is copied and nothing kept in memory
//! but where the blobs are.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use crate::image::layout::{Layout, Place};
use crate::image::{self};
use crate::serve::{self, Body};

/// Repositories whose pullers have to say who they are.
const PRIVATE: &str = "k8s-authenticated-test/";
/// Who may pull them. Upstream's suite logs in to Google's registry by a key, whose user is called so; the key itself
/// is not checked.
const USER: &str = "_json_key";

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Image(#[from] image::Error),
    #[error("cannot listen at {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: std::io::Error,
    },
    #[error("cannot serve")]
    Serve(#[source] std::io::Error),
    #[error("{path}: {reason}")]
    Credentials { path: PathBuf, reason: String },
    #[error("TLS")]
    Tls(#[source] rustls::Error),
}

/// Serves `archives` until killed.
pub fn run(
    address: SocketAddr,
    cert: &Path,
    key: &Path,
    archives: &[PathBuf],
) -> Result<(), Error> {
    let registry = Registry::open(archives)?;
    let tls = tls(cert, key)?;
    let listener = TcpListener::bind(address).map_err(|cause| Error::Listen { address, cause })?;
    let answer = move |request: Request<Bytes>| registry.answer(&request);
    serve::serve(listener, Some(Arc::new(tls)), Arc::new(answer)).map_err(Error::Serve)
}

pub(crate) fn tls(cert: &Path, key: &Path) -> Result<rustls::ServerConfig, Error> {
    let bad = |path: &Path, reason: String| Error::Credentials {
        path: path.to_owned(),
        reason,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|cause| bad(cert, cause.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|cause| bad(key, cause.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(Error::Tls)
}

struct Registry {
    images: Vec<Served>,
}

struct Served {
    /// Without the registry's host.
    repository: String,
    tag: String,
    /// The registry's host.
    host: String,
    manifest: Bytes,
    layout: Layout,
}

impl Registry {
    fn open(archives: &[PathBuf]) -> Result<Self, Error> {
        let images = archives.iter().map(|archive| {
            let layout = Layout::open(archive)?;
            let (host, repository, tag) = split(&layout.name);
            Ok(Served {
                repository: repository.to_owned(),
                tag: tag.to_owned(),
                host: host.to_owned(),
                manifest: layout.manifest()?.into(),
                layout,
            })
        });
        Ok(Self {
            images: images.collect::<Result<_, Error>>()?,
        })
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Body> {
        let head = request.method() == Method::HEAD;
        if !head && request.method() != Method::GET {
            let why = "this registry can be pulled from only";
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", why);
        }
        let Some(rest) = request.uri().path().strip_prefix("/v2/") else {
            return match request.uri().path() {
                "/v2" => json_answer(&json!({})),
                _ => refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "nothing is here"),
            };
        };
        if rest.is_empty() {
            return json_answer(&json!({}));
        }
        if rest.starts_with(PRIVATE) && !is_known(request.headers()) {
            return challenge();
        }
        // Mirrors are told which host the image is named after.
        let host = request.uri().query().and_then(|query| {
            let mut pairs = query.split('&');
            pairs.find_map(|pair| pair.strip_prefix("ns="))
        });
        let known = |repository: &str| -> Vec<&Served> {
            let named = |image: &&Served| {
                image.repository == repository && host.is_none_or(|host| host == image.host)
            };
            self.images.iter().filter(named).collect()
        };
        let mut answer = if let Some((repository, reference)) = rest.rsplit_once("/manifests/") {
            manifest(&known(repository), reference)
        } else if let Some((repository, digest)) = rest.rsplit_once("/blobs/") {
            blob(&known(repository), digest, request.headers())
        } else if let Some(repository) = rest.strip_suffix("/tags/list") {
            tags(repository, &known(repository))
        } else {
            refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "nothing is here")
        };
        if head {
            *answer.body_mut() = Body::Bytes(Bytes::new());
        }
        answer
    }
}

/// Host, repository and tag of a reference that has all three.
fn split(name: &str) -> (&str, &str, &str) {
    let (host, rest) = name.split_once('/').unwrap_or(("", name));
    let (repository, tag) = rest.rsplit_once(':').unwrap_or((rest, "latest"));
    (host, repository, tag)
}

fn is_known(headers: &HeaderMap) -> bool {
    let user = || {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let encoded = value.strip_prefix("Basic ")?;
        let pair = STANDARD.decode(encoded).ok()?;
        let pair = String::from_utf8(pair).ok()?;
        Some(pair.split_once(':')?.0.to_owned())
    };
    user().is_some_and(|user| user == USER)
}

fn challenge() -> Response<Body> {
    let why = "say who you are";
    let mut answer = refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", why);
    let basic = header::HeaderValue::from_static("Basic realm=\"navarch\"");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    answer
}

fn manifest(images: &[&Served], reference: &str) -> Response<Body> {
    let asked =
        |image: &&&Served| image.tag == reference || image.layout.manifest.digest == reference;
    let Some(image) = images.iter().find(asked) else {
        return refuse(
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
            "there is no such image",
        );
    };
    let manifest = &image.layout.manifest;
    build(
        Response::builder()
            .header(header::CONTENT_TYPE, &manifest.media_type)
            .header("Docker-Content-Digest", &manifest.digest)
            .header(header::CONTENT_LENGTH, image.manifest.len()),
        Body::Bytes(image.manifest.clone()),
    )
}

fn blob(images: &[&Served], digest: &str, headers: &HeaderMap) -> Response<Body> {
    let found = images.iter().find_map(|image| {
        let place = image.layout.place(digest)?;
        Some((image.layout.archive().to_owned(), place))
    });
    let Some((archive, whole)) = found else {
        return refuse(
            StatusCode::NOT_FOUND,
            "BLOB_UNKNOWN",
            "there is no such blob",
        );
    };
    let answer = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header("Docker-Content-Digest", digest)
        .header(header::ACCEPT_RANGES, "bytes");
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let Some(part) = range.and_then(|range| part(range, whole)) else {
        let answer = answer.header(header::CONTENT_LENGTH, whole.size);
        return build(answer, Body::Part(archive, whole));
    };
    let first = part.offset - whole.offset;
    let range = format!("bytes {first}-{}/{}", first + part.size - 1, whole.size);
    let answer = answer
        .status(StatusCode::PARTIAL_CONTENT)
        .header(header::CONTENT_RANGE, range)
        .header(header::CONTENT_LENGTH, part.size);
    build(answer, Body::Part(archive, part))
}

/// The part of a blob that `bytes=A-` or `bytes=A-B` asks for. What is anything else is answered with the whole, as
/// RFC 9110 section 14.2 allows.
fn part(range: &str, whole: Place) -> Option<Place> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let last = match last {
        "" => whole.size.checked_sub(1)?,
        last => last.parse::<u64>().ok()?.min(whole.size.checked_sub(1)?),
    };
    Some(Place {
        offset: whole.offset + first,
        size: last.checked_sub(first)? + 1,
    })
}

fn tags(repository: &str, images: &[&Served]) -> Response<Body> {
    if images.is_empty() {
        return refuse(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            "there is no such repository",
        );
    }
    let tags: Vec<&str> = images.iter().map(|image| image.tag.as_str()).collect();
    json_answer(&json!({ "name": repository, "tags": tags }))
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
    build(answer, Body::Bytes(value.to_string().into()))
}

fn refuse(status: StatusCode, code: &str, why: &str) -> Response<Body> {
    let mut answer = json_answer(&json!({ "errors": [{ "code": code, "message": why }] }));
    *answer.status_mut() = status;
    answer
}

fn build(answer: http::response::Builder, body: Body) -> Response<Body> {
    answer
        .body(body)
        .expect("names and values are made of digests, media types and numbers")
}

#[cfg(test)]
mod tests;
