//! Ports at which load balancers ask whether a Service has endpoints on this node.
//!
//! Source: `pkg/proxy/healthcheck/service_health.go`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use component::events::{Event, Recorder, Type};
use component::informer::Key;
use component::{Supervisor, Task};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::health::ProxyHealth;
use crate::nft::Family;

/// Connections to one port at a time: load balancers are few.
const CONNECTIONS: usize = 64;
/// How long a client may take.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// The ports of one family that are open.
pub(crate) struct ServiceHealth {
    node: String,
    /// Where to listen; empty for all addresses.
    ips: Vec<IpAddr>,
    family: Family,
    health: ProxyHealth,
    recorder: Recorder,
    tasks: Supervisor,
    open: HashMap<Key, Open>,
}

struct Open {
    port: u16,
    endpoints: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl ServiceHealth {
    pub(crate) fn new(
        node: &str,
        family: Family,
        ips: Vec<IpAddr>,
        health: ProxyHealth,
        recorder: Recorder,
        tasks: Supervisor,
    ) -> Self {
        Self {
            node: node.to_owned(),
            ips,
            family,
            health,
            recorder,
            tasks,
            open: HashMap::new(),
        }
    }

    /// A Service's port, 0 if it has none, and how many endpoints it has on this node.
    pub(crate) fn set(&mut self, key: &Key, port: u16, endpoints: usize) {
        if let Some(open) = self.open.get(key).filter(|open| open.port == port) {
            open.endpoints.store(endpoints, Ordering::Relaxed);
            return;
        }
        self.open.remove(key);
        if port == 0 {
            return;
        }
        match self.listen(port) {
            Ok(listeners) => self.serve(key, port, endpoints, listeners),
            Err(err) => self.complain(key, port, &err),
        }
    }

    fn listen(&self, port: u16) -> io::Result<Vec<TcpListener>> {
        let any = match self.family {
            Family::Ipv4 => IpAddr::from([0; 4]),
            Family::Ipv6 => IpAddr::from([0_u16; 8]),
        };
        let ips = if self.ips.is_empty() {
            &[any][..]
        } else {
            &self.ips
        };
        ips.iter()
            .map(|ip| listen(SocketAddr::new(*ip, port)))
            .collect()
    }

    fn serve(&mut self, key: &Key, port: u16, endpoints: usize, listeners: Vec<TcpListener>) {
        let open = Open {
            port,
            endpoints: Arc::new(AtomicUsize::new(endpoints)),
            stop: CancellationToken::new(),
        };
        for listener in listeners {
            let answer = Answer {
                key: key.clone(),
                endpoints: Arc::clone(&open.endpoints),
                health: self.health.clone(),
            };
            let (stop, tasks) = (open.stop.clone(), self.tasks.clone());
            self.tasks.spawn(
                Task::Background,
                format!("health check {key}"),
                async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = accept(listener, answer, tasks, stop.clone()) => {}
                    }
                },
            );
        }
        self.open.insert(key.clone(), open);
    }

    fn complain(&self, key: &Key, port: u16, err: &io::Error) {
        tracing::error!(service = %key, port, error = %err, "Failed to start healthcheck");
        let message = format!(
            "node {} failed to start healthcheck {:?} on port {port}: {err}",
            self.node,
            key.as_str()
        );
        self.recorder.event(Event {
            regarding: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Service".to_owned()),
                namespace: Some(key.namespace().to_owned()),
                name: Some(key.name().to_owned()),
                ..ObjectReference::default()
            },
            related: None,
            kind: Type::Warning,
            reason: "FailedToStartServiceHealthcheck".to_owned(),
            action: "Listen".to_owned(),
            message,
        });
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

async fn accept(listener: TcpListener, answer: Answer, tasks: Supervisor, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: others have to give some back first.
                tracing::warn!(%error, "Cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (answer, stop) = (answer.clone(), stop.clone());
        tasks.spawn(Task::Background, "health check", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = tokio::time::timeout(TIMEOUT, connection(stream, answer)) => {}
            }
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, answer: Answer) {
    let service = hyper::service::service_fn(move |_| {
        let response = answer.response();
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "Health check connection");
    }
}

#[derive(Clone)]
struct Answer {
    key: Key,
    endpoints: Arc<AtomicUsize>,
    health: ProxyHealth,
}

impl Answer {
    fn response(&self) -> Response<Full<Bytes>> {
        let count = self.endpoints.load(Ordering::Relaxed);
        let healthy = self.health.is_healthy();
        let body = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": {:?},\n\t\t\"name\": {:?}\n\t}},\n\t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": {healthy}\n}}",
            self.key.namespace(),
            self.key.name(),
        );
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = if count != 0 && healthy {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let headers = response.headers_mut();
        headers.insert(
            "content-type",
            http::HeaderValue::from_static("application/json"),
        );
        headers.insert(
            "x-content-type-options",
            http::HeaderValue::from_static("nosniff"),
        );
        headers.insert("x-load-balancing-endpoint-weight", count.into());
        response
    }
}
