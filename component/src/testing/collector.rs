//! A collector of traces, by OTLP over gRPC.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

use crate::supervisor::{Supervisor, Task};
use crate::tracing::pb::any_value::Value;
use crate::tracing::pb::trace_service_server::{TraceService, TraceServiceServer};
use crate::tracing::pb::{ExportTraceServiceRequest, ExportTraceServiceResponse, KeyValue, Span};

/// How long spans are waited for, also on a busy machine: they are sent a few seconds after they ended.
const SOON: Duration = Duration::from_secs(60);

/// A span that was told of.
#[derive(Clone, Debug)]
pub struct Told {
    /// Of the service.
    pub resource: BTreeMap<String, String>,
    pub scope: String,
    pub span: Span,
}

impl Told {
    /// An attribute as text; none if it has none.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<String> {
        let all = texts(&self.span.attributes);
        all.get(key).cloned()
    }

    /// What happened meanwhile.
    #[must_use]
    pub fn events(&self) -> Vec<&str> {
        self.span.events.iter().map(|e| e.name.as_str()).collect()
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |a: &KeyValue| match a.value.clone().and_then(|v| v.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(n)) => n.to_string(),
        Some(Value::BoolValue(b)) => b.to_string(),
        None => String::new(),
    };
    attributes
        .iter()
        .map(|a| (a.key.clone(), text(a)))
        .collect()
}

#[derive(Clone, Default)]
struct Heard(Arc<Inner>);

#[derive(Default)]
struct Inner {
    told: Mutex<Vec<Told>>,
    /// What is answered instead, once for each.
    refusals: Mutex<Vec<Status>>,
    came: Notify,
}

/// A collector that listens; dropping it is its end.
pub struct Collector {
    pub address: SocketAddr,
    heard: Heard,
    _until: DropGuard,
}

#[tonic::async_trait]
impl TraceService for Heard {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if let Some(refusal) = self.0.refusals.lock().pop() {
            return Err(refusal);
        }
        let mut told = self.0.told.lock();
        for of_service in request.into_inner().resource_spans {
            let resource = of_service.resource.unwrap_or_default();
            let resource = texts(&resource.attributes);
            for of_scope in of_service.scope_spans {
                let scope = of_scope.scope.unwrap_or_default().name;
                told.extend(of_scope.spans.into_iter().map(|span| Told {
                    resource: resource.clone(),
                    scope: scope.clone(),
                    span,
                }));
            }
        }
        drop(told);
        self.0.came.notify_one();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// One on a port of its own.
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    /// One that stands where another one stood.
    pub async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Heard::default();
        let service = TraceServiceServer::new(heard.clone());
        let (stop, tasks) = (CancellationToken::new(), Supervisor::current());
        let (until, connections) = (stop.clone(), tasks.clone());
        let listening = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(service.clone());
                let serving = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                let until = until.clone();
                connections.spawn(Task::Background, "collector-connection", async move {
                    // How it ends is the client's affair.
                    let _ = until.run_until_cancelled(serving).await;
                });
            }
        };
        let until = stop.clone();
        tasks.spawn(Task::Background, "collector", async move {
            until.run_until_cancelled(listening).await;
        });
        Self {
            address,
            heard,
            _until: stop.drop_guard(),
        }
    }

    /// Does not take the next requests.
    pub fn refuse(&self, statuses: Vec<Status>) {
        *self.heard.0.refusals.lock() = statuses;
    }

    /// All spans so far.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.heard.0.told.lock().clone()
    }

    /// Waits for a span that is so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Told) -> bool) -> Told {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(told) = self.told().into_iter().find(&is_so) {
                return told;
            }
            let came = timeout_at(deadline, self.heard.0.came.notified()).await;
            assert!(came.is_ok(), "{what}: {:#?}", self.told());
        }
    }
}
