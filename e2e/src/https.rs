//! A blocking HTTPS GET: enough to ask a daemon for its health and the API server for an object.
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

/// A client certificate and the authority to trust.
#[derive(Clone)]
pub struct Client {
    config: Arc<rustls::ClientConfig>,
}

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(authority: &Path, cert: &Path, key: &Path) -> Result<Self, Error> {
        let bad = |path: &Path, reason: String| Error::Credentials {
            path: path.display().to_string(),
            reason,
        };
        let certs = |path: &Path| -> Result<Vec<_>, Error> {
            CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|cause| bad(path, cause.to_string()))
        };
        let mut roots = rustls::RootCertStore::empty();
        for root in certs(authority)? {
            roots.add(root).map_err(Error::Tls)?;
        }
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|cause| bad(key, cause.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_root_certificates(roots)
            .with_client_auth_cert(certs(cert)?, private)
            .map_err(Error::Tls)?;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// What it presents and trusts, for clients of other kinds.
    pub fn config(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.config)
    }

    /// GETs `path` from the server at `address`, whose certificate has to name that address.
    pub fn get(&self, address: SocketAddr, path: &str) -> Result<Answer, Error> {
        let name = ServerName::IpAddress(address.ip().into());
        let session =
            rustls::ClientConnection::new(self.config.clone(), name).map_err(Error::Tls)?;
        let socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(Error::Io)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(Error::Io)?;
        socket
            .set_write_timeout(Some(PATIENCE))
            .map_err(Error::Io)?;
        exchange(rustls::StreamOwned::new(session, socket), address, path)
    }
}

/// GETs `path` without TLS.
pub fn get_plain(address: SocketAddr, path: &str) -> Result<Answer, Error> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(Error::Io)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(Error::Io)?;
    exchange(socket, address, path)
}

/// HTTP/1.0: the server answers without chunks and closes, so the body ends where the stream does.
fn exchange(mut stream: impl Read + Write, host: SocketAddr, path: &str) -> Result<Answer, Error> {
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json, */*\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(Error::Io)?;
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
