//! Blocking HTTPS requests: enough to ask a daemon for its health, and the API server or etcd for an object.
//!
//! Every call opens its own connection and never retries, so that what it sees is what a new client sees.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// How long connecting, and how long each read, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Larger answers are refused: nothing that is asked for here is this long.
const MAX_ANSWER: u64 = 16 << 20;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{path}: {reason}")]
    Credentials { path: String, reason: String },
    #[error("TLS")]
    Tls(#[source] rustls::Error),
    #[error("no answer")]
    Io(#[source] std::io::Error),
    #[error("the answer is not HTTP")]
    NotHttp,
}

/// Whom to trust, and who to be.
#[derive(Clone)]
pub struct Client {
    config: Arc<rustls::ClientConfig>,
}

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'static str,
    /// With the query.
    pub path: &'a str,
    pub accept: &'a str,
    /// The media type of `body`, which is sent if this is not empty.
    pub content: &'a str,
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    pub fn get(path: &'a str) -> Self {
        Self {
            method: "GET",
            path,
            accept: "application/json, */*",
            content: "",
            body: &[],
        }
    }
}

impl Client {
    /// A client that is known by a certificate.
    pub fn new(authority: &Path, cert: &Path, key: &Path) -> Result<Self, Error> {
        let private = PrivateKeyDer::from_pem_file(key).map_err(credentials(key))?;
        let config = trusting(authority)?
            .with_client_auth_cert(certificates(cert)?, private)
            .map_err(Error::Tls)?;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// A client that does not say who it is.
    pub fn anonymous(authority: &Path) -> Result<Self, Error> {
        Ok(Self {
            config: Arc::new(trusting(authority)?.with_no_client_auth()),
        })
    }

    /// What it presents and trusts, for clients of other kinds.
    pub fn config(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.config)
    }

    /// GETs `path` from the server at `address`, whose certificate has to name that address.
    pub fn get(&self, address: SocketAddr, path: &str) -> Result<Answer, Error> {
        self.send(address, &Request::get(path))
    }

    /// Sends a request to the server at `address`, whose certificate has to name that address.
    pub fn send(&self, address: SocketAddr, request: &Request<'_>) -> Result<Answer, Error> {
        let name = ServerName::IpAddress(address.ip().into());
        let session =
            rustls::ClientConnection::new(self.config.clone(), name).map_err(Error::Tls)?;
        let socket = connect(address)?;
        exchange(rustls::StreamOwned::new(session, socket), address, request)
    }
}

fn credentials<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> Error {
    move |cause| Error::Credentials {
        path: path.display().to_string(),
        reason: cause.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(credentials(path))
}

fn trusting(
    authority: &Path,
) -> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>, Error> {
    let mut roots = rustls::RootCertStore::empty();
    for root in certificates(authority)? {
        roots.add(root).map_err(Error::Tls)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_root_certificates(roots))
}

fn connect(address: SocketAddr) -> Result<TcpStream, Error> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(Error::Io)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(Error::Io)?;
    socket
        .set_write_timeout(Some(PATIENCE))
        .map_err(Error::Io)?;
    Ok(socket)
}

/// GETs `path` without TLS.
pub fn get_plain(address: SocketAddr, path: &str) -> Result<Answer, Error> {
    exchange(connect(address)?, address, &Request::get(path))
}

/// HTTP/1.0: the server answers without chunks and closes, so the body ends where the stream does.
fn exchange(
    mut stream: impl Read + Write,
    host: SocketAddr,
    request: &Request<'_>,
) -> Result<Answer, Error> {
    let Request {
        method,
        path,
        accept,
        content,
        body,
    } = request;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: {accept}\r\n");
    if !content.is_empty() {
        let length = body.len();
        head.push_str(&format!(
            "Content-Type: {content}\r\nContent-Length: {length}\r\n"
        ));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).map_err(Error::Io)?;
    stream.write_all(body).map_err(Error::Io)?;
    let mut answer = Vec::new();
    match stream.take(MAX_ANSWER).read_to_end(&mut answer) {
        // Some servers close without the TLS goodbye; HTTP/1.0 has no length to miss in what is asked here.
        Err(cause) if cause.kind() != std::io::ErrorKind::UnexpectedEof => {
            return Err(Error::Io(cause));
        }
        _ => {}
    }
    parse(&answer)
}

fn parse(answer: &[u8]) -> Result<Answer, Error> {
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or(Error::NotHttp)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| Error::NotHttp)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or(Error::NotHttp)?;
    Ok(Answer {
        status,
        body: answer[end + 4..].to_vec(),
    })
}
