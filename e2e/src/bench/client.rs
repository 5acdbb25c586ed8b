//! One HTTP/2 connection over TLS with a client certificate: what client-go opens to an API server.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

pub(crate) const JSON: &str = "application/json";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub(crate) const PROTOBUF_STREAM: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// What client-go asks for, so that flow control never waits for the client.
const WINDOW: u32 = 4 << 20;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("no connection to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path}")]
    Http {
        path: String,
        #[source]
        cause: hyper::Error,
    },
    #[error("{path} cannot be asked for")]
    Request {
        path: String,
        #[source]
        cause: http::Error,
    },
    #[error("{method} {path}: {status}: {text}")]
    Refused {
        method: Method,
        path: String,
        status: u16,
        text: String,
    },
}

/// What is asked.
#[derive(Clone)]
pub(crate) struct Call {
    pub method: Method,
    pub path: String,
    pub content: &'static str,
    pub accept: &'static str,
    /// Whether the answer may come compressed, as client-go's may.
    pub gzip: bool,
    pub body: Bytes,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, "")
    }

    pub(crate) fn new(method: Method, path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            method,
            path: path.into(),
            content: JSON,
            accept: JSON,
            gzip: false,
            body: body.into(),
        }
    }

    pub(crate) fn content(self, content: &'static str) -> Self {
        Self { content, ..self }
    }

    pub(crate) fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    pub(crate) fn gzip(self) -> Self {
        Self { gzip: true, ..self }
    }
}

/// A connection; clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    authority: String,
}

impl Connection {
    pub(crate) async fn open(
        address: SocketAddr,
        config: Arc<rustls::ClientConfig>,
    ) -> Result<Self, Error> {
        Self::with_window(address, config, WINDOW).await
    }

    /// A connection whose streams take `window` bytes before somebody reads them.
    pub(crate) async fn with_window(
        address: SocketAddr,
        config: Arc<rustls::ClientConfig>,
        window: u32,
    ) -> Result<Self, Error> {
        let failed = |cause| Error::Connect { address, cause };
        let mut config = (*config).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(address).await.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(ServerName::IpAddress(address.ip().into()), socket)
            .await
            .map_err(failed)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(1 << 30)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| Error::Http {
                path: address.to_string(),
                cause,
            })?;
        in_background(async move {
            // What breaks it is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            authority: address.to_string(),
        })
    }

    /// Sends a call; the answer's body is still to be read.
    pub(crate) async fn begin(&mut self, call: &Call) -> Result<Response<Incoming>, Error> {
        let http = |cause| Error::Http {
            path: call.path.clone(),
            cause,
        };
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("https://{}{}", self.authority, call.path))
            .header("accept", call.accept)
            .header("user-agent", "navarch-bench");
        if call.gzip {
            request = request.header("accept-encoding", "gzip");
        }
        if !call.body.is_empty() {
            request = request.header("content-type", call.content);
        }
        let request = request
            .body(Full::new(call.body.clone()))
            .map_err(|cause| Error::Request {
                path: call.path.clone(),
                cause,
            })?;
        let response = self.exchange(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let text = response.into_body().collect().await.map_err(http)?;
        let text = String::from_utf8_lossy(&text.to_bytes()).into_owned();
        Err(Error::Refused {
            method: call.method.clone(),
            path: call.path.clone(),
            status,
            text,
        })
    }

    /// Sends a request as it is; every answer is one, refusals too.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        let path = request.uri().path().to_owned();
        let http = |cause| Error::Http {
            path: path.clone(),
            cause,
        };
        self.sender.ready().await.map_err(http)?;
        self.sender.send_request(request).await.map_err(http)
    }

    /// The server's address, as requests name it.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether the server takes no more requests here.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a call and reads the whole answer; how long it is.
    pub(crate) async fn send(&mut self, call: &Call) -> Result<usize, Error> {
        let mut length = 0;
        self.read(call, |data| length += data.len()).await?;
        Ok(length)
    }

    /// Sends a call and hands over the answer as it comes.
    pub(crate) async fn read(
        &mut self,
        call: &Call,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        self.read_until(call, |data| {
            take(data);
            false
        })
        .await
    }

    /// The same until `take` has had enough.
    pub(crate) async fn read_until(
        &mut self,
        call: &Call,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Error> {
        let mut body = self.begin(call).await?.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|cause| Error::Http {
                path: call.path.clone(),
                cause,
            })?;
            if take(frame.data_ref().map_or(&[], Bytes::as_ref)) {
                break;
            }
        }
        Ok(())
    }
}

/// Runs beside the caller until it ends by itself.
pub(crate) fn in_background(work: impl Future<Output = ()> + Send + 'static) {
    TokioExecutor::new().execute(work);
}
