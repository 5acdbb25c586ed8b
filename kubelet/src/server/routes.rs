//! Which path is answered by what.

use std::sync::Arc;

use component::serving::{Debug, Request, Response, exposed, json, text};
use component::supervisor::chain;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};

use super::pods::{At, failed, pods};
use super::request::{Query, segments};
use super::stats::Detail;
use super::{Port, Server, exposition, files};

/// The media type of the text form of metrics.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Paths that are there for debugging, which may be switched off.
const DEBUGGING: &[&str] = &[
    "run",
    "exec",
    "attach",
    "portForward",
    "containerLogs",
    "runningpods",
    "debug",
    "logs",
];

const DEBUG: Debug = Debug { command_line: true };

/// Answers a request that was let pass.
pub(super) async fn route(server: &Arc<Server>, request: Request, port: Port) -> Response {
    let path = segments(request.uri().path());
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let get = request.method() == Method::GET;
    match path[..] {
        ["healthz", ..] => server.healthz(&request),
        ["metrics"] => exposed(&request, |accept| server.metrics.answer(accept)),
        ["metrics", "probes"] => exposed(&request, |accept| server.probe_metrics.answer(accept)),
        ["metrics", "cadvisor"] => server.cadvisor().await,
        ["metrics", "resource"] => server.resource().await,
        ["metrics", "slis"] => server.health.results().serve(&request),
        ["pods"] if get => pods(server.pods.all().iter().map(|pod| &**pod)),
        ["flagz" | "statusz"] if get => server.pages.answer(&request).unwrap_or_else(not_found),
        ["pods"] => only_get(),
        ["stats", "summary"] if get || request.method() == Method::POST => {
            server.summary(&request).await
        }
        _ if port == Port::ReadOnly || !server.config.enable_debugging_handlers => {
            match path.first() {
                Some(first) if DEBUGGING.contains(first) => text(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "Debug endpoints are disabled.\n",
                ),
                _ => not_found(),
            }
        }
        _ => debugging(server, request, &path).await,
    }
}

async fn debugging(server: &Arc<Server>, request: Request, path: &[&str]) -> Response {
    let get = request.method() == Method::GET;
    let post = request.method() == Method::POST;
    let streams = get || post;
    match *path {
        ["containerLogs", namespace, pod, container] if get => {
            server
                .container_logs(&request, namespace, pod, container)
                .await
        }
        ["exec", namespace, pod, container] if streams => {
            server
                .exec(request, At::new(namespace, pod, "", container))
                .await
        }
        ["exec", namespace, pod, uid, container] if streams => {
            server
                .exec(request, At::new(namespace, pod, uid, container))
                .await
        }
        ["attach", namespace, pod, container] if streams => {
            server
                .attach(request, At::new(namespace, pod, "", container))
                .await
        }
        ["attach", namespace, pod, uid, container] if streams => {
            server
                .attach(request, At::new(namespace, pod, uid, container))
                .await
        }
        ["portForward", namespace, pod] if streams => {
            server
                .port_forward(request, At::new(namespace, pod, "", ""))
                .await
        }
        ["portForward", namespace, pod, uid] if streams => {
            server
                .port_forward(request, At::new(namespace, pod, uid, ""))
                .await
        }
        ["run", namespace, pod, container] if post => {
            server
                .run(&request, At::new(namespace, pod, "", container))
                .await
        }
        ["run", namespace, pod, uid, container] if post => {
            server
                .run(&request, At::new(namespace, pod, uid, container))
                .await
        }
        ["runningpods"] if get => server.running_pods().await,
        ["configz"] => json(StatusCode::OK, &server.configz),
        ["checkpoint", namespace, pod, container] if post => {
            server.checkpoint(&At::new(namespace, pod, "", container))
        }
        ["logs", ..] => server.logs(&request, path).await,
        ["debug", "flags", "v"] if !server.config.enable_debug_flags_handler => {
            disabled("flags endpoint is disabled.\n")
        }
        ["debug", "pprof", ..] if !server.config.enable_profiling_handler => {
            disabled("profiling endpoint is disabled.\n")
        }
        ["debug", ..] => DEBUG.answer(request).await.unwrap_or_else(not_found),
        ["containerLogs" | "runningpods", ..] if !get => only_get(),
        ["exec" | "attach" | "portForward" | "run" | "checkpoint", ..] if !streams => {
            text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed")
        }
        _ => not_found(),
    }
}

fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn only_get() -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

fn disabled(reason: &'static str) -> Response {
    text(StatusCode::METHOD_NOT_ALLOWED, reason)
}

fn in_text(metrics: String) -> Response {
    let mut response = text(StatusCode::OK, metrics);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(METRICS));
    response
}

impl Server {
    fn healthz(&self, request: &Request) -> Response {
        let path = request.uri().path().trim_end_matches('/');
        let query = request.uri().query().unwrap_or_default();
        self.health.answer(path, query).unwrap_or_else(not_found)
    }

    async fn cadvisor(&self) -> Response {
        let root = self.stats.root().ok();
        match self.stats.seen().await {
            Ok(seen) => in_text(exposition::cadvisor(root.as_ref(), &seen)),
            Err(error) => failed(chain(&error)),
        }
    }

    async fn resource(&self) -> Response {
        let summary = self.stats.summary(Detail::CpuAndMemory).await;
        if let Err(error) = &summary {
            tracing::error!(error = %chain(error), "Error getting summary for resourceMetric prometheus endpoint");
        }
        in_text(exposition::resource(summary.ok().as_ref()))
    }

    async fn summary(&self, request: &Request) -> Response {
        let query = Query::of(request);
        let only = query.all("only_cpu_and_memory").collect::<Vec<_>>() == ["true"];
        let detail = if only {
            Detail::CpuAndMemory
        } else {
            Detail::All
        };
        match self.stats.summary(detail).await {
            Ok(summary) => json(StatusCode::OK, &summary),
            Err(error) => failed(format!("Internal Error: {}", chain(&error))),
        }
    }

    async fn logs(&self, request: &Request, path: &[&str]) -> Response {
        if !self.config.enable_system_log_handler {
            return disabled("logs endpoint is disabled.\n");
        }
        if request.method() != Method::GET {
            return only_get();
        }
        if self.config.enable_system_log_query && Query::of(request).get("query").is_some() {
            let reason = "queries of system logs are not implemented\n";
            return text(StatusCode::NOT_IMPLEMENTED, reason);
        }
        let inner = path.get(1..).unwrap_or_default().join("/");
        let has_slash = request.uri().path().ends_with('/') || inner.is_empty();
        let (dir, headers) = (&self.config.log_dir, request.headers());
        files::answer(dir, inner, has_slash, headers, &self.tasks).await
    }
}
