//! What is counted of WebSockets that clients open to pods, under upstream's names
//! (`apiserver/pkg/util/proxy/metrics`).

use component::metrics::{Counters, Metrics};
use http::StatusCode;

/// How WebSockets of exec, attach and port-forward were dealt with; cheap to clone.
#[derive(Clone)]
pub struct Counts {
    ways: Counters<2>,
    translated: Counters<1>,
    tunnelled: Counters<1>,
}

impl Counts {
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            ways: metrics.registered(
                "apiserver_websocket_streaming_requests_total",
                "Streams of exec, attach and portforward by what serves their WebSockets: proxied_to_kubelet if that is the kubelet, translated_at_apiserver if it is this server",
                Counters::default(),
            ),
            translated: metrics.registered(
                "apiserver_stream_translator_requests_total",
                "WebSockets of exec and attach that were translated to SPDY, by how that ended",
                Counters::default(),
            ),
            tunnelled: metrics.registered(
                "apiserver_stream_tunnel_requests_total",
                "WebSockets of portforward that SPDY was tunnelled through, by what was answered",
                Counters::default(),
            ),
        }
    }

    pub(super) fn goes(&self, subresource: &str, way: &'static str) {
        let labels = [
            ("proxy_type", way.to_owned()),
            ("subresource", subresource.to_owned()),
        ];
        self.ways.get_or_create(&labels).inc();
    }

    pub(super) fn translated(&self, code: StatusCode) {
        self.translated.get_or_create(&labelled(code)).inc();
    }

    pub(super) fn tunnelled(&self, code: StatusCode) {
        self.tunnelled.get_or_create(&labelled(code)).inc();
    }
}

fn labelled(code: StatusCode) -> [(&'static str, String); 1] {
    [("code", code.as_str().to_owned())]
}
