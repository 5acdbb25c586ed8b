//! A registry for tests: read-only, over TLS on loopback, with the faults that real ones have.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_RANGE, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kubelet::image::reference::Digest;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What the server holds and how it behaves; changed while it runs.
#[derive(Default)]
pub(crate) struct State {
    /// `repository/manifests/tag-or-digest` and `repository/blobs/digest`.
    pub(crate) content: HashMap<String, Bytes>,
    /// Name and password that pulls need.
    pub(crate) login: Option<(String, String)>,
    /// Whether to ask for a token instead of the password.
    pub(crate) bearer: bool,
    /// Ends the next answers with a large blob after so many bytes each, the last one first.
    pub(crate) cut: Vec<usize>,
    /// Statuses of the next answers.
    pub(crate) fail: Vec<StatusCode>,
    /// Where blobs are really.
    pub(crate) redirect: Option<String>,
    /// Blobs whose bytes are wrong, once.
    pub(crate) corrupt: Option<String>,
    /// Answers every manifest with bytes that do not end.
    pub(crate) endless: bool,
    pub(crate) log: Vec<Seen>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
}

/// The last is reached through a proxy only.
const NAMES: [&str; 2] = ["localhost", "registry.test"];

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// PEM of the authority that signed its certificate.
    pub(crate) authority: String,
    pub(crate) state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

impl Server {
    pub(crate) async fn start() -> Self {
        let key = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned)).unwrap();
        let authority = key.cert.pem();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((tcp, _)) = listener.accept().await else {
                    return;
                };
                let (acceptor, state) = (acceptor.clone(), shared.clone());
                connections.spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let service = service_fn(|request| {
                        let state = state.clone();
                        async move { Ok::<_, Infallible>(answer(&state, &request)) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Self {
            address,
            authority,
            state,
            _tasks: tasks,
        }
    }

    /// The name under which its images are pulled.
    pub(crate) fn domain(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    pub(crate) fn put(&self, path: String, bytes: impl Into<Bytes>) {
        self.state.lock().content.insert(path, bytes.into());
    }

    /// Requests whose path has this in it.
    pub(crate) fn seen(&self, part: &str) -> Vec<Seen> {
        self.state
            .lock()
            .log
            .iter()
            .filter(|seen| seen.path.contains(part))
            .cloned()
            .collect()
    }
}

fn answer(state: &Mutex<State>, request: &Request<Incoming>) -> Answer {
    let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok());
    let path = request.uri().path().to_owned();
    let mut state = state.lock();
    let seen = Seen {
        path: path.clone(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        authorization: header(AUTHORIZATION).map(str::to_owned),
        range: header(RANGE).map(str::to_owned),
    };
    state.log.push(seen.clone());
    if path == "/token" {
        return token(&state, &seen);
    }
    if let Some(refusal) = refuse(
        &state,
        &seen,
        header(http::header::HOST).unwrap_or_default(),
    ) {
        return refusal;
    }
    if let Some(status) = state.fail.pop() {
        return plain(status, "not now");
    }
    let Some(name) = path.strip_prefix("/v2/") else {
        return plain(StatusCode::NOT_FOUND, "no such path");
    };
    if state.endless && name.contains("/manifests/") {
        let forever = futures::stream::repeat_with(|| {
            Ok(Frame::data(Bytes::from_static(&[b' '; 64 * 1024])))
        });
        return Response::new(BodyExt::boxed(StreamBody::new(forever)));
    }
    let Some(content) = state.content.get(name).cloned() else {
        return plain(StatusCode::NOT_FOUND, "unknown");
    };
    match name.contains("/blobs/") {
        true => blob(&mut state, name, content, seen.range.as_deref()),
        false => full(StatusCode::OK, content),
    }
}

fn token(state: &State, seen: &Seen) -> Answer {
    let right = state
        .login
        .as_ref()
        .is_none_or(|login| seen.authorization == Some(basic(login)));
    match right {
        true => full(
            StatusCode::OK,
            r#"{"token":"let-me-in","expires_in":60}"#.into(),
        ),
        false => plain(StatusCode::UNAUTHORIZED, "who are you"),
    }
}

fn refuse(state: &State, seen: &Seen, host: &str) -> Option<Answer> {
    let login = state.login.as_ref()?;
    let given = seen.authorization.as_deref();
    let (wanted, challenge) = match state.bearer {
        true => (
            "Bearer let-me-in".to_owned(),
            format!(r#"Bearer realm="https://{host}/token",service="test""#),
        ),
        false => (basic(login), r#"Basic realm="test""#.to_owned()),
    };
    if given == Some(wanted.as_str()) {
        return None;
    }
    let mut refusal = plain(StatusCode::UNAUTHORIZED, "authentication required");
    refusal
        .headers_mut()
        .insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
    Some(refusal)
}

fn basic((name, password): &(String, String)) -> String {
    use base64::Engine;
    let pair = format!("{name}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

fn blob(state: &mut State, name: &str, mut content: Bytes, range: Option<&str>) -> Answer {
    if let Some(to) = &state.redirect {
        let mut answer = plain(StatusCode::TEMPORARY_REDIRECT, "");
        answer
            .headers_mut()
            .insert(LOCATION, format!("{to}/v2/{name}").parse().unwrap());
        return answer;
    }
    if state.corrupt.as_deref() == Some(name) {
        state.corrupt = None;
        content = content
            .iter()
            .map(|byte| byte ^ 1)
            .collect::<Vec<_>>()
            .into();
    }
    let total = content.len();
    let start = range.and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    let start = start.filter(|start| *start < total).unwrap_or(0);
    let body = content.slice(start..);
    let is_large = body.len() > 10_000;
    let mut answer = match is_large.then(|| state.cut.pop()).flatten() {
        // The announced length is never reached: the connection breaks.
        Some(cut) => {
            let part = body.slice(..cut.min(body.len()));
            let first = futures::stream::once(async { Ok(Frame::data(part)) });
            // A body that is waited for is flushed first.
            let broken = futures::stream::once(async {
                tokio::task::yield_now().await;
                Err(io::Error::other("cut"))
            });
            let ended = first.chain(broken);
            let mut answer = Response::new(BodyExt::boxed(StreamBody::new(ended)));
            answer
                .headers_mut()
                .insert("content-length", body.len().into());
            answer
        }
        None => full(StatusCode::OK, body),
    };
    if start > 0 {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let value = format!("bytes {start}-{}/{total}", total - 1);
        answer
            .headers_mut()
            .insert(CONTENT_RANGE, value.parse().unwrap());
    }
    answer
}

fn full(status: StatusCode, bytes: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    answer
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    full(status, Bytes::from_static(text.as_bytes()))
}

/// An image that the server has.
pub(crate) struct Published {
    pub(crate) manifest: Digest,
    pub(crate) config: Digest,
    pub(crate) layers: Vec<Digest>,
}

/// Puts an image of these uncompressed layers on the server, under a tag.
pub(crate) fn publish(
    server: &Server,
    repository: &str,
    tag: &str,
    layers: &[Vec<u8>],
) -> Published {
    let mut descriptors = Vec::new();
    let mut digests = Vec::new();
    for layer in layers {
        let packed = pack(layer);
        let digest = Digest::of(&packed);
        descriptors.push(serde_json::json!({ "digest": digest, "size": packed.len() }));
        server.put(format!("{repository}/blobs/{digest}"), packed);
        digests.push(digest);
    }
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Cmd": ["sh"], "Labels": { "repository": repository } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string();
    let config_digest = Digest::of(config.as_bytes());
    let size = config.len();
    server.put(format!("{repository}/blobs/{config_digest}"), config);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": { "digest": config_digest, "size": size },
        "layers": descriptors,
    })
    .to_string();
    let digest = Digest::of(manifest.as_bytes());
    server.put(format!("{repository}/manifests/{digest}"), manifest.clone());
    server.put(format!("{repository}/manifests/{tag}"), manifest);
    Published {
        manifest: digest,
        config: config_digest,
        layers: digests,
    }
}

/// Small layers with gzip, large ones with zstd, which is quick in an unoptimised build too.
fn pack(layer: &[u8]) -> Vec<u8> {
    if layer.len() > 100_000 {
        return zstd::encode_all(layer, 1).unwrap();
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(layer).unwrap();
    gzip.finish().unwrap()
}
