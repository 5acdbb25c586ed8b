//! What requests cost, under upstream's names (`apiserver/pkg/endpoints/metrics/metrics.go`).
//!
//! Only requests for resources that are served are counted: the number of series is bounded by what
//! the server knows, not by what clients ask for.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use component::metrics::{Buckets, Gauges, Metrics};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::audit::Ending;
use crate::body::Body;
use crate::chain::Exchange;
use crate::dispatch::Route;
use crate::flowcontrol::{Class, FlowControl, Phase};

/// Upstream's, in seconds.
const SECONDS: Buckets = Buckets(&[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
]);

/// What has been asked of this server; cheap to clone.
#[derive(Clone)]
pub struct Requests {
    families: Arc<Families>,
}

struct Families {
    total: Family<Labels, Counter>,
    duration: Family<Labels, Histogram, Buckets>,
    long_running: Family<Labels, Gauge>,
    /// By group, version, resource, subresource and release.
    deprecated: Gauges<5>,
    terminations: Family<Labels, Counter>,
}

/// What requests are counted by. Every part is a name that the server knows, never a client's: nobody makes more series than
/// there are such names, and none of a request's is copied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Labels {
    code: Option<u16>,
    dry_run: Option<&'static str>,
    group: &'static str,
    resource: &'static str,
    scope: &'static str,
    subresource: &'static str,
    verb: &'static str,
    version: &'static str,
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        if let Some(code) = self.code {
            ("code", u32::from(code)).encode(encoder.encode_label())?;
        }
        ("component", "apiserver").encode(encoder.encode_label())?;
        if let Some(dry_run) = self.dry_run {
            ("dry_run", dry_run).encode(encoder.encode_label())?;
        }
        for label in [
            ("group", self.group),
            ("resource", self.resource),
            ("scope", self.scope),
            ("subresource", self.subresource),
            ("verb", self.verb),
            ("version", self.version),
        ] {
            label.encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl Requests {
    /// Registers the families, and how many requests are in flight.
    #[must_use]
    pub fn register(metrics: &Metrics, control: &FlowControl) -> Self {
        let families = Families {
            total: metrics.registered(
                "apiserver_request_total",
                "Requests by verb, resource, scope and code",
                Family::default(),
            ),
            duration: metrics.registered(
                "apiserver_request_duration_seconds",
                "How long requests took until they were answered; long-running ones until they ended",
                Family::new_with_constructor(SECONDS),
            ),
            long_running: metrics.registered(
                "apiserver_longrunning_requests",
                "Watches and streams that are open",
                Family::default(),
            ),
            deprecated: metrics.registered(
                "apiserver_requested_deprecated_apis",
                "Versions that go away and that somebody asked for, with the release that will not serve them",
                Gauges::default(),
            ),
            terminations: metrics.registered(
                "apiserver_request_terminations_total",
                "Requests that were given up because their time was over",
                Family::default(),
            ),
        };
        register_in_flight(metrics, control);
        Self {
            families: Arc::new(families),
        }
    }

    /// Notes that a version was asked for that goes away.
    pub(crate) fn deprecated(&self, x: &Exchange, removed: Option<&str>) {
        let info = &x.info;
        let labels = [
            ("group", info.group.clone()),
            ("version", info.version.clone()),
            ("resource", info.resource.clone()),
            ("subresource", info.subresource.clone()),
            ("removed_release", removed.unwrap_or_default().to_owned()),
        ];
        self.families.deprecated.get_or_create(&labels).set(1);
    }

    /// Counts a request from now on; none if it is for nothing that is served.
    pub(crate) fn begin(&self, x: &Exchange, route: Route<'_>) -> Option<Running> {
        let info = &x.info;
        let resource = route.resource(info)?;
        let mut subresources = resource.subresources.iter();
        let subresource = subresources.find(|s| s.name == info.subresource);
        let labels = Labels {
            code: None,
            dry_run: None,
            group: resource.group,
            resource: resource.name,
            scope: scope(x),
            subresource: subresource.map_or("", |s| s.name),
            verb: verb(x),
            version: resource.version,
        };
        let long_running = Class::of(info) == Class::LongRunning;
        if long_running {
            self.families.long_running.get_or_create(&labels).inc();
        }
        Some(Running {
            families: Arc::clone(&self.families),
            labels,
            dry_run: x.query.get("dryRun") == Some("All"),
            started: Instant::now(),
            long_running,
            code: None,
            recorded: None,
        })
    }
}

fn register_in_flight(metrics: &Metrics, control: &FlowControl) {
    let executing = metrics.registered(
        "apiserver_current_inflight_requests",
        "Requests that are worked on, by kind",
        Gauges::<1>::default(),
    );
    let waiting = metrics.registered(
        "apiserver_current_inqueue_requests",
        "Requests that wait for their turn, by kind",
        Gauges::<1>::default(),
    );
    let in_flight = control.in_flight();
    metrics.before_scrape(move || {
        for (kind, mutating) in [("mutating", true), ("readOnly", false)] {
            for (phase, family) in [(Phase::Executing, &executing), (Phase::Waiting, &waiting)] {
                let labels = [("request_kind", kind.to_owned())];
                let count = in_flight.count(phase, mutating);
                family.get_or_create(&labels).set(count);
            }
        }
    });
}

/// A request on its way. It is counted when it is dropped, if it was answered.
pub(crate) struct Running {
    families: Arc<Families>,
    labels: Labels,
    dry_run: bool,
    started: Instant,
    long_running: bool,
    code: Option<u16>,
    /// The last event of a long-running request is recorded at its end.
    pub(crate) recorded: Option<Ending>,
}

impl Running {
    /// What counts that the request's time was over before its answer was sent.
    pub(crate) fn termination(&self) -> impl Fn() + Send + Sync + use<> {
        let families = Arc::clone(&self.families);
        let labels = Labels {
            code: Some(StatusCode::GATEWAY_TIMEOUT.as_u16()),
            ..self.labels
        };
        move || {
            families.terminations.get_or_create(&labels).inc();
        }
    }

    /// The connection is handed over. The request ends when this is dropped.
    pub(crate) fn switched(mut self) -> Self {
        let code = StatusCode::SWITCHING_PROTOCOLS.as_u16();
        self.code = Some(code);
        if let Some(recorded) = &self.recorded {
            recorded.switched(code);
        }
        self
    }

    /// Notes the answer. A long-running request ends with its body, unless it is refused.
    pub(crate) fn answered(mut self, response: Response<Body>) -> Response<Body> {
        self.code = Some(response.status().as_u16());
        if !self.long_running || !response.status().is_success() {
            return response;
        }
        response.map(|body| {
            body.map_frame(move |frame| {
                let _until_here = &self;
                frame
            })
            .boxed_unsync()
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.long_running {
            self.families.long_running.get_or_create(&self.labels).dec();
        }
        let Some(code) = self.code else { return };
        let labels = Labels {
            dry_run: Some(if self.dry_run { "All" } else { "" }),
            ..self.labels
        };
        let took = self.started.elapsed().as_secs_f64();
        self.families.duration.get_or_create(&labels).observe(took);
        let labels = Labels {
            code: Some(code),
            ..labels
        };
        self.families.total.get_or_create(&labels).inc();
    }
}

/// Upstream's names for what is done, which are mostly the methods.
pub(crate) fn verb(x: &Exchange) -> &'static str {
    let info = &x.info;
    if matches!(
        info.subresource.as_str(),
        "exec" | "attach" | "portforward" | "proxy"
    ) {
        return "CONNECT";
    }
    match info.verb.as_str() {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" if is_apply(x) => "APPLY",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

fn is_apply(x: &Exchange) -> bool {
    let content = x.headers.get(http::header::CONTENT_TYPE);
    content.is_some_and(|c| c.as_bytes().starts_with(b"application/apply-patch"))
}

/// How much of a resource is asked about.
pub(crate) fn scope(x: &Exchange) -> &'static str {
    if !x.info.name.is_empty() || x.info.verb == "create" {
        "resource"
    } else if !x.info.namespace.is_empty() {
        "namespace"
    } else {
        "cluster"
    }
}
