//! A manifest at a URL, asked for from time to time (`staticPodURL`, `httpCheckFrequency`).

use std::time::Duration;

use tokio::sync::mpsc;

use super::Heard;
use super::decode::{self, Origin};
use crate::pod::registry::Source;

/// Where manifests are, and how to ask for them.
#[derive(Clone, Debug)]
pub struct Url {
    pub url: String,
    /// `staticPodURLHeader`
    pub headers: Vec<(String, String)>,
    /// `httpCheckFrequency`
    pub period: Duration,
}

/// Answers are read up to here.
const MAX: usize = 10 << 20;

#[derive(thiserror::Error, Debug)]
enum Error {
    #[error("{0}")]
    Request(String),
    #[error("answered {0}")]
    Status(http::StatusCode),
    #[error("zero-length data received")]
    Empty,
    #[error(transparent)]
    Decode(#[from] decode::Error),
}

pub(super) async fn follow(url: Url, node: String, to: mpsc::Sender<Heard>) {
    let mut last = Vec::new();
    loop {
        match ask(&url).await {
            Ok(bytes) if bytes == last => {}
            Ok(bytes) => match decode::pods(&bytes, Origin::Url(&url.url), &node) {
                Ok(pods) => {
                    last = bytes;
                    if to.send((Source::Http, pods)).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!(url = url.url, %error, "No static pods at the URL"),
            },
            Err(Error::Empty) if to.send((Source::Http, Vec::new())).await.is_err() => return,
            Err(error) => tracing::warn!(url = url.url, %error, "Cannot read static pods"),
        }
        tokio::time::sleep(url.period).await;
    }
}

async fn ask(url: &Url) -> Result<Vec<u8>, Error> {
    let text = |err: &dyn std::fmt::Display| Error::Request(err.to_string());
    let uri: http::Uri = url.url.parse().map_err(|err| text(&err))?;
    if uri.scheme_str() != Some("http") {
        return Err(Error::Request("only http:// URLs are supported".into()));
    }
    let host = uri.host().ok_or_else(|| Error::Request("no host".into()))?;
    let port = uri.port_u16().unwrap_or(80);
    let stream = tokio::net::TcpStream::connect((host, port));
    let stream = stream.await.map_err(|err| text(&err))?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let connected = hyper::client::conn::http1::handshake(io).await;
    let (mut sender, connection) = connected.map_err(|err| text(&err))?;
    let mut request = http::Request::get(uri.path_and_query().map_or("/", |p| p.as_str())).header(
        http::header::HOST,
        uri.authority().map_or(host, |a| a.as_str()),
    );
    for (name, value) in &url.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .map_err(|err| text(&err))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|err| text(&err))?;
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), MAX);
        let body = http_body_util::BodyExt::collect(body).await;
        let bytes = body.map_err(|err| text(&err))?.to_bytes();
        match status {
            http::StatusCode::OK if bytes.is_empty() => Err(Error::Empty),
            http::StatusCode::OK => Ok(bytes.to_vec()),
            status => Err(Error::Status(status)),
        }
    };
    // The exchange needs the connection to be driven; what it has received outlives it.
    let (exchange, connection) = (std::pin::pin!(exchange), std::pin::pin!(connection));
    match futures::future::select(exchange, connection).await {
        futures::future::Either::Left((answer, _)) => answer,
        futures::future::Either::Right((_, exchange)) => exchange.await,
    }
}
