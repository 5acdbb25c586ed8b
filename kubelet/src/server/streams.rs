//! Exec, attach, port forwarding and run: which container or sandbox is meant, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use component::serving::{Request, Response, full, text};
use component::streaming::upgrade;
use component::supervisor::chain;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::Server;
use super::pods::{At, failed, has_terminal, no_pod, uid_of};
use super::port_forward::{self, Target};
use super::remote::{self, Wanted, Ways};
use super::request::Query;
use crate::runtime::{ExecRequest, PodSandboxFilter, PodSandboxState};

impl Server {
    fn ways(&self) -> Ways {
        Ways {
            idle: self.config.streaming_idle,
            new_websockets: self.config.new_websockets,
        }
    }

    fn count_websocket(&self, request: &Request, subresource: &'static str) {
        let headers = request.headers();
        let new = upgrade::subprotocols(headers).contains(&"v5.channel.k8s.io")
            || !upgrade::tunnelled(headers).is_empty();
        if self.config.new_websockets && new && upgrade::is_websocket(headers) {
            self.http.websocket(subresource);
        }
    }

    pub(super) async fn exec(&self, request: Request, at: At<'_>) -> Response {
        let query = Query::of(&request);
        let wanted = match Wanted::of(&query) {
            Ok(wanted) => wanted,
            Err(reason) => return text(StatusCode::BAD_REQUEST, reason),
        };
        let Some(pod) = self.pods.get(at.namespace, at.pod) else {
            return no_pod();
        };
        let running = match self.pod(&at) {
            Some(_) => self.running(&pod, at.container).await,
            None => Ok(None),
        };
        let id = match running {
            Ok(Some(container)) => container.id,
            Ok(None) => return failed(format!("container not found ({:?})", at.container)),
            Err(response) => return response,
        };
        self.count_websocket(&request, "exec");
        let command: Vec<String> = query.all("command").map(str::to_owned).collect();
        let asked = ExecRequest {
            command: command.clone(),
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
            size: None,
        };
        let runtime = Arc::clone(&self.runtime);
        let work = move |pipes| async move {
            remote::exec(pipes, command, runtime.exec(&id, asked)).await;
        };
        remote::serve(request, wanted, self.ways(), &self.tasks, work)
    }

    pub(super) async fn attach(&self, request: Request, at: At<'_>) -> Response {
        let query = Query::of(&request);
        let mut wanted = match Wanted::of(&query) {
            Ok(wanted) => wanted,
            Err(reason) => return text(StatusCode::BAD_REQUEST, reason),
        };
        let Some(pod) = self.pods.get(at.namespace, at.pod) else {
            return no_pod();
        };
        let full_name = format!("{}_{}", at.pod, at.namespace);
        if self.pod(&at).is_none() {
            return failed(format!("pod {full_name} not found"));
        }
        let id = match self.running(&pod, at.container).await {
            Ok(Some(container)) => container.id,
            Ok(None) => {
                let reason = format!("container {} not found in pod {full_name}", at.container);
                return failed(reason);
            }
            Err(response) => return response,
        };
        self.count_websocket(&request, "attach");
        // A container's terminal is what it was made with, and has one output.
        let tty = has_terminal(&pod, at.container);
        if tty && wanted.stderr {
            return failed("tty and stderr cannot both be true");
        }
        wanted.tty |= tty;
        let runtime = Arc::clone(&self.runtime);
        let stdin = wanted.stdin;
        let work = move |pipes| async move {
            remote::attach(pipes, runtime.attach(&id, stdin)).await;
        };
        remote::serve(request, wanted, self.ways(), &self.tasks, work)
    }

    pub(super) async fn port_forward(&self, request: Request, at: At<'_>) -> Response {
        let ports = match port_forward::ports(&request, &Query::of(&request), self.ways()) {
            Ok(ports) => ports,
            Err(reason) => return text(StatusCode::BAD_REQUEST, reason),
        };
        if self.pods.get(at.namespace, at.pod).is_none() {
            return no_pod();
        }
        let Some(pod) = self.pod(&at) else {
            return text(StatusCode::NOT_FOUND, "pod not found");
        };
        let filter = PodSandboxFilter {
            state: Some(PodSandboxState::Ready),
            pod_uid: Some(uid_of(&pod).to_owned()),
            ..PodSandboxFilter::default()
        };
        let sandbox = match self.runtime.list_pod_sandboxes(filter).await {
            Ok(mut found) => found.pop(),
            Err(error) => return failed(chain(&error)),
        };
        let Some(sandbox) = sandbox else {
            let reason = format!(
                "pod not found ({:?})",
                format!("{}_{}", at.pod, at.namespace)
            );
            return failed(reason);
        };
        self.count_websocket(&request, "portforward");
        let target = Target {
            runtime: Arc::clone(&self.runtime),
            pod: at.pod.to_owned(),
            uid: uid_of(&pod).to_owned(),
            sandbox: sandbox.id,
        };
        port_forward::serve(request, &ports, self.ways(), target, &self.tasks)
    }

    pub(super) async fn run(&self, request: &Request, at: At<'_>) -> Response {
        let Some(pod) = self.pods.get(at.namespace, at.pod) else {
            return no_pod();
        };
        let running = match self.pod(&at) {
            Some(_) => self.running(&pod, at.container).await,
            None => Ok(None),
        };
        let id = match running {
            Ok(Some(container)) => container.id,
            Ok(None) => return failed(format!("container not found ({:?})", at.container)),
            Err(response) => return response,
        };
        let query = Query::of(request);
        let command = query.get("cmd").unwrap_or_default();
        let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let ended = self
            .runtime
            .exec_sync(&id, command.clone(), Duration::ZERO)
            .await;
        match ended {
            Ok(output) if output.exit_code == 0 => {
                let both = [output.stdout, output.stderr].concat();
                let mut response = http::Response::new(full(both));
                let kind = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Ok(output) => failed(format!(
                "command '{}' exited with {}: {}",
                command.join(" "),
                output.exit_code,
                String::from_utf8_lossy(&output.stderr)
            )),
            Err(error) => failed(chain(&error)),
        }
    }
}
