//! Requests to the kubelet as traces. What a client says of them counts on the port that knows its clients.
//!
//! Upstream: `InstallTracingFilter` of `pkg/kubelet/server/server.go`.

use std::sync::Arc;
use std::time::SystemTime;

use component::serving::{Connection, Request, Response};
use component::tracing::Incoming;
use hyper::body::Body as _;

use super::request::segments;
use super::{Port, Server, routes};

/// Answers a request, within its trace if it is of one.
pub(super) async fn traced(server: &Arc<Server>, request: Request, port: Port) -> Response {
    let serving = Connection::of(&request).and_then(|connection| {
        let came = Incoming {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            connection,
            body: request.body().size_hint().exact(),
            received: SystemTime::now(),
            audit_id: "",
            server: Some("kubelet"),
        };
        let name = || name(&segments(request.uri().path()));
        let trusted = || port == Port::Secure;
        server.config.tracer.incoming(&came, trusted, name)
    });
    let Some(serving) = serving else {
        return routes::route(server, request, port).await;
    };
    let response = Box::pin(serving.within(routes::route(server, request, port))).await;
    serving.answered(response)
}

/// What stands behind these, in upstream's words.
const PATHS: &[(&str, &[&str])] = &[
    ("run", POD),
    ("exec", POD),
    ("attach", POD),
    ("portForward", &["podNamespace", "podID", "uid"]),
    ("containerLogs", POD),
    ("checkpoint", POD),
];
const POD: &[&str] = &["podNamespace", "podID", "uid", "containerName"];

/// The path without the names in it.
fn name(path: &[String]) -> String {
    let Some(first) = path.first() else {
        return "/".to_owned();
    };
    let Some((_, names)) = PATHS.iter().find(|(own, _)| *own == first.as_str()) else {
        let fixed = path
            .iter()
            .take_while(|step| FIXED.contains(&step.as_str()));
        let fixed: Vec<&str> = fixed.map(String::as_str).collect();
        return format!("/{}", fixed.join("/"));
    };
    let given = path.len() - 1;
    // Everything but the uid is always there.
    let names = names
        .iter()
        .filter(|name| **name != "uid" || given == names.len());
    let steps = names.take(given).map(|name| format!("/{{{name}}}"));
    steps.fold(format!("/{first}"), |path, step| path + &step)
}

/// Steps of all other paths that name no file and no profile.
const FIXED: [&str; 18] = [
    "healthz",
    "log",
    "ping",
    "syncloop",
    "metrics",
    "cadvisor",
    "probes",
    "resource",
    "slis",
    "pods",
    "runningpods",
    "stats",
    "summary",
    "configz",
    "flagz",
    "statusz",
    "logs",
    "debug",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_without_the_names_in_it() {
        for (path, expected) in [
            ("/", "/"),
            ("/pods", "/pods"),
            ("/stats/summary", "/stats/summary"),
            ("/metrics/cadvisor", "/metrics/cadvisor"),
            ("/logs/pods/x.log", "/logs/pods"),
            ("/logs/syslog", "/logs"),
            ("/debug/pprof/heap", "/debug"),
            ("/secret", "/"),
            (
                "/containerLogs/ns/pod/c",
                "/containerLogs/{podNamespace}/{podID}/{containerName}",
            ),
            (
                "/exec/ns/pod/uid/c",
                "/exec/{podNamespace}/{podID}/{uid}/{containerName}",
            ),
            ("/portForward/ns/pod", "/portForward/{podNamespace}/{podID}"),
            (
                "/portForward/ns/pod/uid",
                "/portForward/{podNamespace}/{podID}/{uid}",
            ),
            ("/exec/ns", "/exec/{podNamespace}"),
        ] {
            assert_eq!(name(&segments(path)), expected, "{path}");
        }
    }
}
