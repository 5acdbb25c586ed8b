//! The ports for health and metrics: bound at the start or, where that may wait, as soon as they are free.

use std::net::SocketAddr;
use std::time::Duration;

use component::events::{Event, Recorder, Type};
use component::serving::{self, Options, Request, Response, Server};
use component::{Supervisor, Task};
use http::{HeaderValue, StatusCode};
use k8s_openapi::api::core::v1::ObjectReference;

/// Between attempts to bind; upstream's figure.
const RETRY: Duration = Duration::from_secs(5);

/// A port to serve at.
pub(super) struct Port {
    /// None serves nothing.
    pub(super) address: Option<SocketAddr>,
    pub(super) recorder: Recorder,
    pub(super) node: ObjectReference,
    /// What the event says when it cannot be bound.
    pub(super) reason: &'static str,
    /// Whether that ends the process.
    pub(super) hard: bool,
}

impl Port {
    /// Answers requests; where, if it is bound at once.
    ///
    /// # Errors
    /// If it cannot be bound and has to be.
    pub(super) fn serve<F, A>(
        self,
        tasks: &Supervisor,
        name: &'static str,
        answer: F,
    ) -> Result<Option<SocketAddr>, serving::Error>
    where
        F: Fn(Request) -> A + Clone + Send + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        let Some(address) = self.address else {
            return Ok(None);
        };
        match Server::bind(Options::plain(address)) {
            Ok(server) => {
                let bound = server.address();
                start(server, tasks, name, answer);
                Ok(Some(bound))
            }
            Err(err) if self.hard => {
                self.complain(&err);
                Err(err)
            }
            Err(err) => {
                tracing::error!(%address, error = %component::supervisor::chain(&err), "Cannot listen, trying again");
                let own = tasks.clone();
                tasks.spawn(Task::Background, format!("bind {name}"), async move {
                    let server = loop {
                        tokio::time::sleep(RETRY).await;
                        if let Ok(server) = Server::bind(Options::plain(address)) {
                            break server;
                        }
                    };
                    start(server, &own, name, answer);
                });
                Ok(None)
            }
        }
    }

    fn complain(&self, err: &serving::Error) {
        self.recorder.event(Event {
            regarding: self.node.clone(),
            related: None,
            kind: Type::Warning,
            reason: self.reason.to_owned(),
            action: "StartKubeProxy".to_owned(),
            message: component::supervisor::chain(err),
        });
    }
}

fn start<F, A>(server: Server, tasks: &Supervisor, name: &'static str, answer: F)
where
    F: Fn(Request) -> A + Clone + Send + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let service = tower::service_fn(move |request: Request| {
        let answered = answer(request);
        async move { Ok(answered.await) }
    });
    server.serve(tasks, Task::Server, name, service);
}

/// An answer in JSON, as upstream's health server sends it.
pub(super) fn json(code: StatusCode, value: &serde_json::Value) -> Response {
    let mut response = serving::json(code, value);
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert("x-content-type-options", nosniff);
    response
}
