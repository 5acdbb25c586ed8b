//! Hooks of a container's life, `postStart` and `preStop`: upstream's `pkg/kubelet/lifecycle`.

use std::net::IpAddr;
use std::time::Duration;

use component::events::{self, Recorder};
use component::metrics::Metrics;
use http::header::AUTHORIZATION;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Pod};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use crate::make;
use crate::probe::target;
use crate::probe::web::{self, Fetch, Request};
use crate::runtime::{self, Runtime};

/// A hook failed. The text is the message of the container's status; it goes into no event, because
/// what a server answered may be secret.
#[derive(thiserror::Error, Debug)]
#[error("{message}")]
pub struct Error {
    message: String,
}

/// What all hooks need; one per kubelet.
pub struct Hooks {
    recorder: Recorder,
    tls: web::Tls,
    fallbacks: Counter,
    cut_short: Counter,
}

/// Whose hook it is.
pub struct Hooked<'a> {
    pub runtime: &'a dyn Runtime,
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub id: &'a str,
    pub pod_ip: Option<IpAddr>,
}

impl Hooks {
    pub fn new(recorder: Recorder, metrics: &Metrics) -> Self {
        Self {
            recorder,
            tls: web::Tls::new(),
            fallbacks: metrics.registered(
                "kubelet_lifecycle_handler_http_fallbacks_total",
                "The number of times lifecycle handlers successfully fell back to http from https",
                Counter::default(),
            ),
            cut_short: metrics.registered(
                "kubelet_sleep_action_terminated_early_total",
                "The number of times lifecycle sleep handler got terminated before it finishes",
                Counter::default(),
            ),
        }
    }

    /// Runs the `postStart` hook of a container that was started, if it has one.
    ///
    /// # Errors
    /// If it failed, which was told in an event: the container has to be stopped
    /// (`PostStartHookError`).
    pub async fn post_start(&self, of: &Hooked<'_>) -> Result<(), Error> {
        let hooks = of.container.lifecycle.as_ref();
        let Some(handler) = hooks.and_then(|hooks| hooks.post_start.as_ref()) else {
            return Ok(());
        };
        let done = self.run(of, handler).await;
        if let Err(error) = &done {
            let pod = make::describe(of.pod);
            tracing::warn!(pod, container = of.container.name, %error, "PostStart hook failed");
            self.warn(of, "FailedPostStartHook", "PostStartHook failed");
        }
        done
    }

    /// Runs the `preStop` hook of a container that is to be stopped, if it has one, for at most
    /// `grace`. Returns what is left of the grace. A failure is told in an event and holds nothing up.
    ///
    /// A command that did not end by then goes on, until the container is stopped.
    pub async fn pre_stop(&self, of: &Hooked<'_>, grace: Duration) -> Duration {
        let hooks = of.container.lifecycle.as_ref();
        let Some(handler) = hooks.and_then(|hooks| hooks.pre_stop.as_ref()) else {
            return grace;
        };
        let began = Instant::now();
        let pod = make::describe(of.pod);
        match tokio::time::timeout(grace, self.run(of, handler)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(pod, container = of.container.name, %error, "PreStop hook failed");
                self.warn(of, "FailedPreStopHook", "PreStopHook failed");
            }
            Err(_) => {
                let container = &of.container.name;
                tracing::info!(
                    pod,
                    container,
                    ?grace,
                    "PreStop hook not completed in grace period"
                );
                if handler.sleep.is_some() {
                    self.cut_short.inc();
                }
            }
        }
        grace.saturating_sub(began.elapsed())
    }

    fn warn(&self, of: &Hooked<'_>, reason: &str, message: &str) {
        let regarding = make::reference(of.pod, &of.container.name);
        self.recorder.warning(&regarding, reason, message);
    }

    /// Runs a handler to its end, with no limit of time.
    async fn run(&self, of: &Hooked<'_>, handler: &LifecycleHandler) -> Result<(), Error> {
        let container = &of.container.name;
        let pod = make::describe(of.pod);
        let failed = |which: String, error: String| Error {
            message: format!(
                "{which} for Container {container:?} in Pod {pod:?} failed - error: {error}"
            ),
        };
        if let Some(exec) = &handler.exec {
            let command = exec.command.clone().unwrap_or_default();
            let which = format!("Exec lifecycle hook ([{}])", command.join(" "));
            let done = exec_hook(of, command).await;
            done.map_err(|(error, output)| failed(which, format!("{error}, message: {output:?}")))
        } else if let Some(get) = &handler.http_get {
            let path = get.path.as_deref().unwrap_or_default();
            let which = format!("HTTP lifecycle hook ({path})");
            let done = self.http_get(of, get).await;
            done.map_err(|error| failed(which, error))
        } else if let Some(sleep) = &handler.sleep {
            let seconds = u64::try_from(sleep.seconds).unwrap_or_default();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(())
        } else {
            // `tcpSocket` is in the API and was never made.
            let text = serde_json::to_string(handler).unwrap_or_default();
            Err(Error {
                message: format!("Cannot run handler: invalid handler: {text}"),
            })
        }
    }

    /// Any answer is a good one.
    async fn http_get(&self, of: &Hooked<'_>, get: &HTTPGetAction) -> Result<(), String> {
        let host = match get.host.as_deref() {
            None | Some("") => {
                let ip = of.pod_ip.map(|ip| ip.to_string());
                ip.ok_or("failed to find networking container: the pod has no address")?
            }
            Some(host) => host.to_owned(),
        };
        let request = Request::of(get, of.container, &host, "lifecycle");
        let mut request = request.map_err(|error: target::Error| error.to_string())?;
        let fetch = Fetch {
            tls: &self.tls,
            timeout: None,
            h2c: false,
        };
        match web::fetch(&request, &fetch).await {
            // The body is not looked at, so it may break off.
            Ok(_) | Err(web::Error::Body(_)) => Ok(()),
            Err(error) if error.is_not_tls() => {
                request.url.https = false;
                web::remove(&mut request.headers, &AUTHORIZATION);
                if web::fetch(&request, &fetch).await.is_err() {
                    return Err(error.to_string());
                }
                self.fallbacks.inc();
                let at = request.url.authority();
                let text = format!(
                    "request to HTTPS lifecycle hook {at} got HTTP response, retry with HTTP \
                     succeeded"
                );
                let pod = events::reference(of.pod);
                self.recorder.warning(&pod, "LifecycleHTTPFallback", &text);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Runs a command; what went wrong and what it said.
async fn exec_hook(of: &Hooked<'_>, command: Vec<String>) -> Result<(), (String, String)> {
    let line = command.join(" ");
    let ran = of.runtime.exec_sync(of.id, command, Duration::ZERO).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match ran {
        Ok(output) if output.exit_code == 0 => Ok(()),
        Ok(output) => {
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            let code = output.exit_code;
            let error = format!("command '{line}' exited with {code}: {err}");
            Err((error, out + &err))
        }
        Err(error) => Err((chain(&error), String::new())),
    }
}

fn chain(error: &runtime::Error) -> String {
    component::supervisor::chain(error)
}

#[cfg(test)]
mod tests;
