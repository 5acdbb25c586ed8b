//! What the server counts about itself, under upstream's names.

use std::time::Instant;

use component::metrics::{Buckets, Counters, Gauges, Histograms, Labels, Metrics};
use http::Method;

/// Prometheus' default buckets, in seconds.
const SECONDS: Buckets = Buckets(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
]);

/// First parts of paths that are counted by name; others are `other`.
const BUCKETS: &[&str] = &[
    "healthz",
    "pods",
    "stats",
    "metrics",
    "metrics/cadvisor",
    "metrics/probes",
    "metrics/resource",
    "run",
    "exec",
    "attach",
    "portForward",
    "containerLogs",
    "configz",
    "runningpods",
    "checkpoint",
    "logs",
    "debug",
    "pprof",
    "flagz",
    "statusz",
];

/// Of those, the ones that may take long. Upstream compares with `portforward` here.
const LONG_RUNNING: &[&str] = &["exec", "attach", "portforward", "debug"];

#[derive(Clone)]
pub(super) struct Http {
    requests: Counters<4>,
    durations: Histograms<4>,
    inflight: Gauges<4>,
    websockets: Counters<1>,
}

/// A request under way.
pub(super) struct UnderWay {
    http: Http,
    labels: Labels<4>,
    start: Instant,
}

impl Http {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let http = Self {
            requests: Counters::default(),
            durations: Histograms::new_with_constructor(SECONDS),
            inflight: Gauges::default(),
            websockets: Counters::default(),
        };
        metrics.register(
            "kubelet_http_requests_total",
            "Number of the http requests received since the server started",
            http.requests.clone(),
        );
        metrics.register(
            "kubelet_http_requests_duration_seconds",
            "Duration in seconds to serve http requests",
            http.durations.clone(),
        );
        metrics.register(
            "kubelet_http_inflight_requests",
            "Number of the inflight http requests",
            http.inflight.clone(),
        );
        metrics.register(
            "kubelet_websocket_streaming_requests_total",
            "Total number of WebSocket streaming requests (exec/attach/portforward) received by the kubelet",
            http.websockets.clone(),
        );
        let provider = Gauges::<1>::default();
        provider
            .get_or_create(&[("provider", "cadvisor".to_owned())])
            .set(1);
        metrics.register(
            "kubelet_metrics_provider",
            "Where container statistics come from: 'cadvisor' or 'cri'",
            provider,
        );
        http
    }

    pub(super) fn begin(&self, method: &Method, path: &str, server: &'static str) -> UnderWay {
        let path = bucket(path);
        let long = LONG_RUNNING.contains(&path.as_str());
        let labels = [
            ("method", method_bucket(method).to_owned()),
            ("path", path),
            ("server_type", server.to_owned()),
            ("long_running", long.to_string()),
        ];
        self.requests.get_or_create(&labels).inc();
        self.inflight.get_or_create(&labels).inc();
        UnderWay {
            http: self.clone(),
            labels,
            start: Instant::now(),
        }
    }

    pub(super) fn websocket(&self, subresource: &'static str) {
        self.websockets
            .get_or_create(&[("subresource", subresource.to_owned())])
            .inc();
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.http.inflight.get_or_create(&self.labels).dec();
        self.http
            .durations
            .get_or_create(&self.labels)
            .observe(self.start.elapsed().as_secs_f64());
    }
}

fn bucket(path: &str) -> String {
    let mut parts = path.strip_prefix('/').unwrap_or(path).splitn(3, '/');
    let first = parts.next().unwrap_or_default();
    let root = match (first, parts.next()) {
        ("metrics", Some(second)) => format!("metrics/{second}"),
        _ => first.to_owned(),
    };
    if BUCKETS.contains(&root.as_str()) {
        root
    } else {
        "other".to_owned()
    }
}

fn method_bucket(method: &Method) -> &str {
    match *method {
        Method::OPTIONS
        | Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::TRACE
        | Method::CONNECT => method.as_str(),
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_clients_make_up_make_no_labels() {
        for (path, expected) in [
            ("/exec/a/b/c", "exec"),
            ("/metrics", "metrics"),
            ("/metrics/resource", "metrics/resource"),
            ("/metrics/made-up", "other"),
            ("/made-up", "other"),
            ("", "other"),
        ] {
            assert_eq!(bucket(path), expected, "{path}");
        }
    }
}
