//! Where the collector is, as gRPC names servers (<https://github.com/grpc/grpc/blob/master/doc/naming.md>).

use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};

/// OTLP's port on this machine.
pub(super) const DEFAULT: &str = "localhost:4317";
/// What gRPC's resolver of names assumes.
const PORT: u16 = 443;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Tcp(String, u16),
    /// One of Linux's abstract namespace begins with a zero.
    Unix(PathBuf),
    /// Nobody can be reached there.
    Nowhere(&'static str),
}

impl Place {
    fn read(endpoint: &str) -> Self {
        let scheme = endpoint.split_once(':').unwrap_or_default();
        match (scheme.0.to_ascii_lowercase().as_str(), scheme.1) {
            ("unix", rest) => match rest.strip_prefix("//") {
                None if !rest.is_empty() => Self::Unix(rest.into()),
                Some(path) if path.starts_with('/') => Self::Unix(path.into()),
                _ => Self::Nowhere("a Unix socket's address has no host"),
            },
            ("unix-abstract", rest) => match rest.strip_prefix("//") {
                None if !rest.is_empty() => Self::Unix(format!("\0{rest}").into()),
                Some(name) if name.starts_with('/') => Self::Unix(format!("\0{name}").into()),
                _ => Self::Nowhere("a Unix socket's address has no host"),
            },
            ("dns", rest) if rest.starts_with("//") => {
                // What stands before the name is the server to ask for it, which is the system's affair.
                let (before, name) = rest[2..].split_once('/').unwrap_or((&rest[2..], ""));
                Self::tcp(if name.is_empty() { before } else { name })
            }
            _ => Self::tcp(endpoint),
        }
    }

    fn tcp(name: &str) -> Self {
        let (host, port) = match name.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
            _ => (name, ""),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = match port {
            "" => Ok(PORT),
            port => port.parse(),
        };
        match (host, port) {
            ("", _) => Self::Nowhere("the address names no host"),
            (host, Ok(port)) => Self::Tcp(host.to_owned(), port),
            (_, Err(_)) => Self::Nowhere("the address has no such port"),
        }
    }

    /// What the collector is told as its own name.
    fn authority(&self) -> String {
        match self {
            Self::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp(host, port) => format!("{host}:{port}"),
            Self::Unix(_) | Self::Nowhere(_) => "localhost".to_owned(),
        }
    }

    async fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                Ok(Box::pin(stream))
            }
            Self::Unix(path) => Ok(Box::pin(UnixStream::connect(path).await?)),
            Self::Nowhere(why) => Err(io::Error::new(io::ErrorKind::InvalidInput, *why)),
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

type Stream = Pin<Box<dyn Duplex>>;

/// A connection, made when it is first used and again when it breaks.
pub(super) fn channel(endpoint: &str) -> Channel {
    let place = Place::read(endpoint);
    let told = Endpoint::from_shared(format!("http://{}", place.authority()));
    let told = told.unwrap_or_else(|_| Endpoint::from_static("http://localhost"));
    told.connect_with_connector_lazy(tower::service_fn(move |_| {
        let place = place.clone();
        async move { place.connect().await.map(TokioIo::new) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_a_host_or_of_a_socket() {
        let tcp = |host: &str, port| Place::Tcp(host.to_owned(), port);
        let unix = |path: &str| Place::Unix(path.into());
        for (endpoint, place) in [
            (DEFAULT, tcp("localhost", 4317)),
            (
                "collector.monitoring.svc:4317",
                tcp("collector.monitoring.svc", 4317),
            ),
            ("collector", tcp("collector", 443)),
            ("[::1]:4317", tcp("::1", 4317)),
            ("dns:///collector:4317", tcp("collector", 4317)),
            ("dns://9.9.9.9/collector:4317", tcp("collector", 4317)),
            ("dns://collector:4317", tcp("collector", 4317)),
            ("unix:///var/run/otel.sock", unix("/var/run/otel.sock")),
            ("unix:/var/run/otel.sock", unix("/var/run/otel.sock")),
            ("unix-abstract:///otel", unix("\0/otel")),
        ] {
            assert_eq!(Place::read(endpoint), place, "{endpoint}");
        }
        for endpoint in ["unix://path/to/socket", "unix:", "a:b", "dns:///"] {
            let place = Place::read(endpoint);
            assert!(matches!(place, Place::Nowhere(_)), "{endpoint}: {place:?}");
        }
        assert_eq!(Place::read("[::1]:4317").authority(), "[::1]:4317");
    }
}
