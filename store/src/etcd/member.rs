//! One member of the cluster: its connection and how it is made.

use std::error::Error as StdError;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::pb::{
    kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient,
    watch_client::WatchClient,
};
use super::tls::{Files, Stream};
use super::{Error, MAX_RESPONSE};
use crate::trace::{self, Called};

/// To reach a member, TLS included.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A ping after this much silence under a request or a watch. Not optional: a stopped process keeps
/// its sockets open for ever. Not less than etcd's `--grpc-keepalive-min-time` (5 s) either, and none
/// while nothing is asked: etcd closes such connections with `too_many_pings`.
const KEEPALIVE: Duration = Duration::from_secs(6);
/// The connection is dead when the ping has no answer for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Windows large enough that a list or a catching-up watch never waits for an update of them.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A member and one connection to it, made when first used and again when it breaks.
#[derive(Clone)]
pub(super) struct Member {
    endpoint: Endpoint,
    tls: Option<Files>,
    channel: Channel,
}

pub(crate) type Chan = InterceptedService<Channel, RequireLeader>;

/// Marks requests so that a member without a leader fails them, and with the trace that they belong to.
#[derive(Clone)]
pub(crate) struct RequireLeader;

impl tonic::service::Interceptor for RequireLeader {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        trace::with(|trace| trace.tell(metadata.as_mut()));
        Ok(request)
    }
}

impl Member {
    pub(super) fn new(server: &str, tls: Option<&Files>) -> Result<Self, Error> {
        let bad = |why: &str| Error::Config(format!("server {server:?}: {why}"));
        let uri: Uri = server.parse().map_err(|_| bad("not a URL"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("the URL must begin with http:// or https://")),
        };
        if uri.host().is_none() {
            return Err(bad("the URL has no host"));
        }
        if secure && tls.is_none() {
            return Err(bad("https needs a CA file"));
        }
        let endpoint = Endpoint::from(plain(&uri).ok_or_else(|| bad("not a URL"))?)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let tls = tls.filter(|_| secure).cloned();
        let channel = connect(&endpoint, tls.clone());
        Ok(Self {
            endpoint,
            tls,
            channel,
        })
    }

    /// The same member over a connection of its own.
    pub(super) fn reconnected(&self) -> Self {
        Self {
            channel: connect(&self.endpoint, self.tls.clone()),
            ..self.clone()
        }
    }

    /// A call of this member.
    pub(super) fn called(&self, method: &'static str) -> Called<'_> {
        let uri = self.endpoint.uri();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        Called {
            method,
            server: (host, uri.port_u16().unwrap_or(0)),
        }
    }

    pub(super) fn kv(&self) -> KvClient<Chan> {
        KvClient::new(self.chan()).max_decoding_message_size(MAX_RESPONSE)
    }

    pub(super) fn watch(&self) -> WatchClient<Chan> {
        WatchClient::new(self.chan()).max_decoding_message_size(MAX_RESPONSE)
    }

    pub(super) fn lease(&self) -> LeaseClient<Chan> {
        LeaseClient::new(self.chan())
    }

    pub(super) fn maintenance(&self) -> MaintenanceClient<Chan> {
        MaintenanceClient::new(self.chan())
    }

    pub(super) fn chan(&self) -> Chan {
        InterceptedService::new(self.channel.clone(), RequireLeader)
    }
}

/// The URL as tonic may see it: TLS is made below tonic, where files are read for each connection,
/// and tonic refuses `https` without its own.
fn plain(uri: &Uri) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    let authority = parts.authority.as_ref()?;
    if authority.port().is_none() {
        let port = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        parts.authority = format!("{authority}:{port}").parse().ok();
    }
    Uri::from_parts(parts).ok()
}

fn connect(endpoint: &Endpoint, tls: Option<Files>) -> Channel {
    endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
        let tls = tls.clone();
        async move {
            match tokio::time::timeout(DIAL_TIMEOUT, dial(&uri, tls.as_ref())).await {
                Ok(Ok(stream)) => Ok(TokioIo::new(stream)),
                Ok(Err(cause)) => Err(DialError {
                    to: uri.to_string(),
                    cause: cause.to_string(),
                }),
                Err(_) => Err(DialError {
                    to: uri.to_string(),
                    cause: format!("no connection in {DIAL_TIMEOUT:?}"),
                }),
            }
        }
    }))
}

async fn dial(uri: &Uri, tls: Option<&Files>) -> Result<Stream, Box<dyn StdError + Send + Sync>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or(2379))).await?;
    tcp.set_nodelay(true)?;
    match tls {
        Some(files) => files.handshake(host, tcp).await,
        None => Ok(Stream::Plain(tcp)),
    }
}

/// No connection was made, so nothing was sent on it.
#[derive(thiserror::Error, Debug)]
#[error("cannot reach {to}: {cause}")]
struct DialError {
    to: String,
    cause: String,
}

/// The request failed before a connection existed that it could have been sent on.
pub(super) fn never_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<DialError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
