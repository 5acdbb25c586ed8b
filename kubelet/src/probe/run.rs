//! Runs a probe once and says what came of it: upstream's `prober.go` and `pkg/probe/exec`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use component::events::Recorder;
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Pod, Probe};
use tokio::sync::Semaphore;

use super::results::Verdict;
use super::stream::Tls;
use super::web::{self, Fetch};
use super::{Kind, grpc, stream, target};
use crate::make::{self, expand};
use crate::runtime::{self, Runtime};

/// A probe that cannot be made is tried this often before its turn is given up.
const ATTEMPTS: usize = 3;
/// Bytes of output that are looked at.
pub(crate) const MAX_OUTPUT: usize = 10 << 10;
/// Commands that run at once; each is a process or two of the node.
const EXECS: usize = 64;
/// Connections that are open at once.
const CONNECTIONS: usize = 256;

/// Whom to probe.
pub(super) struct Subject<'a> {
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    pub(super) id: &'a str,
    pub(super) kind: Kind,
    pub(super) pod_ip: Option<IpAddr>,
    pub(super) timeout: Duration,
}

/// What came of a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Success,
    /// Good, but something has to be said.
    Warning(String),
    Failure(String),
    /// Nothing was found out.
    Errored {
        state: &'static str,
        error: String,
    },
}

impl Outcome {
    pub(super) fn unknown(error: impl ToString) -> Self {
        Self::Errored {
            state: "unknown",
            error: error.to_string(),
        }
    }
}

pub(super) struct Prober {
    runtime: Arc<dyn Runtime>,
    recorder: Recorder,
    tls: Tls,
    execs: Semaphore,
    connections: Semaphore,
}

impl Prober {
    pub(super) fn new(runtime: Arc<dyn Runtime>, recorder: Recorder) -> Self {
        Self {
            runtime,
            recorder,
            tls: Tls::new(),
            execs: Semaphore::new(EXECS),
            connections: Semaphore::new(CONNECTIONS),
        }
    }

    /// Probes and tells the pod's owner if it is not well. Nothing if it could not be found out.
    pub(super) async fn probe(&self, of: &Subject<'_>, probe: &Probe) -> Option<Verdict> {
        let mut outcome = self.once(of, probe).await;
        for _ in 1..ATTEMPTS {
            if !matches!(outcome, Outcome::Errored { .. }) {
                break;
            }
            outcome = self.once(of, probe).await;
        }
        let kind = of.kind.name();
        match outcome {
            Outcome::Success => Some(Verdict::Success),
            Outcome::Warning(text) => {
                self.warn(of, "ProbeWarning", &format!("{kind} probe warning: {text}"));
                Some(Verdict::Success)
            }
            Outcome::Failure(text) => {
                self.warn(of, "Unhealthy", &format!("{kind} probe failed: {text}"));
                Some(Verdict::Failure(text))
            }
            Outcome::Errored { state, error } => {
                let text = format!("{kind} probe errored and resulted in {state} state: {error}");
                self.warn(of, "Unhealthy", &text);
                None
            }
        }
    }

    fn warn(&self, of: &Subject<'_>, reason: &str, message: &str) {
        let regarding = make::reference(of.pod, &of.container.name);
        self.recorder.warning(&regarding, reason, message);
    }

    async fn once(&self, of: &Subject<'_>, probe: &Probe) -> Outcome {
        let places = if probe.exec.is_some() {
            &self.execs
        } else {
            &self.connections
        };
        let Ok(_place) = places.acquire().await else {
            return Outcome::unknown("the kubelet is stopping");
        };
        if let Some(exec) = &probe.exec {
            self.exec(of, exec).await
        } else if let Some(get) = &probe.http_get {
            self.http_get(of, get).await
        } else if let Some(socket) = &probe.tcp_socket {
            let host = match socket.host.as_deref() {
                None | Some("") => match host(of) {
                    Ok(host) => host,
                    Err(outcome) => return outcome,
                },
                Some(host) => host.to_owned(),
            };
            match target::port(&socket.port, of.container) {
                Ok(port) => tcp(&host, port, of.timeout).await,
                Err(error) => Outcome::unknown(error),
            }
        } else if let Some(action) = &probe.grpc {
            match host(of) {
                Ok(host) => grpc::check(&host, action, of.timeout, &self.tls).await,
                Err(outcome) => outcome,
            }
        } else {
            let pod = make::describe(of.pod);
            let name = &of.container.name;
            Outcome::unknown(format!("missing probe handler for {pod}:{name}"))
        }
    }

    async fn exec(&self, of: &Subject<'_>, exec: &ExecAction) -> Outcome {
        let command = static_command(exec, of.container);
        let line = command.join(" ");
        match self.runtime.exec_sync(of.id, command, of.timeout).await {
            Ok(output) if output.exit_code == 0 => Outcome::Success,
            Ok(output) => {
                let mut all = output.stdout;
                all.extend(output.stderr);
                all.truncate(MAX_OUTPUT);
                Outcome::Failure(String::from_utf8_lossy(&all).into_owned())
            }
            Err(runtime::Error::Timeout(after)) => {
                let after = target::go_duration(after);
                Outcome::Failure(format!(
                    "command timed out: {line:?} timed out after {after}"
                ))
            }
            Err(error) => Outcome::unknown(component::supervisor::chain(&error)),
        }
    }

    async fn http_get(&self, of: &Subject<'_>, get: &HTTPGetAction) -> Outcome {
        let own = match get.host.as_deref() {
            None | Some("") => match host(of) {
                Ok(host) => host,
                Err(outcome) => return outcome,
            },
            Some(host) => host.to_owned(),
        };
        let request = match web::Request::of(get, of.container, &own, "probe") {
            Ok(request) => request,
            Err(error) => return Outcome::unknown(error),
        };
        let fetch = Fetch {
            tls: &self.tls,
            timeout: Some(of.timeout),
            h2c: get.protocol.as_deref() == Some("HTTP2"),
        };
        match web::fetch(&request, &fetch).await {
            Ok(answer) if (200..300).contains(&answer.status) => Outcome::Success,
            Ok(answer) if (300..400).contains(&answer.status) => {
                let body = String::from_utf8_lossy(&answer.body);
                Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"))
            }
            // Never with the body: who may read events may not be meant to read it.
            Ok(answer) => {
                let code = answer.status;
                Outcome::Failure(format!("HTTP probe failed with statuscode: {code}"))
            }
            Err(web::Error::Body(error)) => Outcome::Errored {
                state: "failure",
                error,
            },
            Err(error) => Outcome::Failure(error.to_string()),
        }
    }
}

fn host(of: &Subject<'_>) -> Result<String, Outcome> {
    match of.pod_ip {
        Some(ip) => Ok(ip.to_string()),
        None => Err(Outcome::unknown("the pod has no address")),
    }
}

/// A probe's command sees variables that are written in the specification, no others.
fn static_command(exec: &ExecAction, container: &Container) -> Vec<String> {
    let variables = container.env.iter().flatten();
    let env: Vec<(String, String)> = variables
        .map(|v| (v.name.clone(), v.value.clone().unwrap_or_default()))
        .collect();
    expand::all(exec.command.as_ref(), &env)
}

async fn tcp(host: &str, port: u16, timeout: Duration) -> Outcome {
    let deadline = tokio::time::Instant::now() + timeout;
    match stream::connect(host, port, Some(deadline)).await {
        Ok(_) => Outcome::Success,
        Err(error) => Outcome::Failure(error.to_string()),
    }
}
