//! TLS towards etcd. The files are read for each connection, so that a rotated certificate is used
//! from the next one on.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Config, Error};
use crate::trust::{self, Believe, Expiry, Origin, Role, Roots};

/// The PEM files of a client.
#[derive(Clone)]
pub(super) struct Files {
    ca: PathBuf,
    identity: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// The files that `config` names, if it names any; all must be readable now.
    pub(super) fn of(config: &Config) -> Result<Option<Self>, Error> {
        let identity = match (&config.cert_file, &config.key_file) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => {
                return Err(Error::Config(
                    "a client certificate needs both its file and its key's".into(),
                ));
            }
        };
        let Some(ca) = config.ca_file.clone() else {
            return match identity {
                Some(_) => Err(Error::Config(
                    "a client certificate needs a CA file too".into(),
                )),
                None => Ok(None),
            };
        };
        let files = Self { ca, identity };
        files.read().map_err(|e| Error::Config(e.to_string()))?;
        Ok(Some(files))
    }

    pub(super) async fn handshake(
        &self,
        host: &str,
        tcp: TcpStream,
    ) -> Result<Stream, Box<dyn std::error::Error + Send + Sync>> {
        let name = ServerName::try_from(host.to_owned())?;
        let connector = TlsConnector::from(Arc::new(self.read()?));
        let stream = connector.connect(name, tcp).await;
        Ok(Stream::Tls(Box::new(stream.map_err(trust::in_words)?)))
    }

    /// Small local files, read on the caller's thread.
    fn read(&self) -> Result<ClientConfig, ReadError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |cause: &dyn std::fmt::Display| ReadError {
                path,
                cause: cause.to_string(),
            }
        };
        let mut roots = Roots::default();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).map_err(|e| unusable(&self.ca)(&e))?;
        }
        let mut expiry = Expiry::default();
        expiry.add_roots(Origin::File(&self.ca), &roots);
        let believe = Believe::Roots(Arc::new(roots));
        let (identity, origin) = match &self.identity {
            None => (None, &self.ca),
            Some((cert, key)) => {
                let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key)(&e))?;
                let chain = certificates(cert)?;
                expiry.add(Role::Client, Origin::File(cert), &chain);
                (Some((chain, private)), cert)
            }
        };
        expiry.look();
        trust::client(&believe, identity, &[b"h2"]).map_err(|e| unusable(origin)(&e))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ReadError> {
    let unusable = |cause: &dyn std::fmt::Display| ReadError {
        path: path.to_owned(),
        cause: cause.to_string(),
    };
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unusable(&e))?;
    if found.is_empty() {
        Err(unusable(&"there is no certificate in it"))
    } else {
        Ok(found)
    }
}

#[derive(thiserror::Error, Debug)]
#[error("file {}: {cause}", path.display())]
struct ReadError {
    path: PathBuf,
    cause: String,
}

/// A connection to a member.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(s) => s.is_write_vectored(),
            Self::Tls(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
