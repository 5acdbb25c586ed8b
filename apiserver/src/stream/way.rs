//! Which way the streams of a client go to a kubelet. Pure.
//!
//! A WebSocket is handed on to kubelets that say that they take it, and to all where the gate is off that has this server do
//! anything about it. Others speak SPDY only: it ends here then. What is no WebSocket is handed on to everybody, and so are the
//! older protocols of WebSocket, which every kubelet speaks.
//!
//! Upstream: `pkg/registry/core/pod/rest/subresources.go`.

use component::streaming::remote::V5;
use component::streaming::upgrade;
use http::HeaderMap;
use proto::Value;
use proto::catalogue::{Gates, gate};
use proto::view::core_v1::Node;

/// What becomes of a client's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Its bytes go to the kubelet as they are.
    HandOn,
    /// The channels of exec and attach become streams of SPDY.
    Translate,
    /// SPDY comes out of the WebSocket that it is tunnelled through.
    Tunnel,
}

/// Whether a node's kubelet takes WebSockets.
pub(super) fn takes_websockets(node: Node<'_>) -> bool {
    let name = gate::EXTEND_WEB_SOCKETS_TO_KUBELET.gate().name;
    let declared = node.status().declared_features().iter();
    declared
        .filter_map(Value::as_str)
        .any(|feature| feature == name)
}

/// The way, and what is counted of it, if anything is.
pub(super) fn choose(
    gates: Gates,
    subresource: &str,
    takes_websockets: bool,
    headers: &HeaderMap,
) -> (Way, Option<&'static str>) {
    let (gate, way, fits) = if subresource == "portforward" {
        let fits = !upgrade::tunnelled(headers).is_empty();
        (gate::PORT_FORWARD_WEBSOCKETS, Way::Tunnel, fits)
    } else {
        let fits = upgrade::subprotocols(headers).contains(&V5);
        let gate = gate::TRANSLATE_STREAM_CLOSE_WEBSOCKET_REQUESTS;
        (gate, Way::Translate, fits)
    };
    if !gates.has(gate) {
        return (Way::HandOn, None);
    }
    if takes_websockets && gates.has(gate::EXTEND_WEB_SOCKETS_TO_KUBELET) {
        return (Way::HandOn, Some("proxied_to_kubelet"));
    }
    let translates = fits && upgrade::is_websocket(headers);
    let way = if translates { way } else { Way::HandOn };
    (way, Some("translated_at_apiserver"))
}

#[cfg(test)]
mod tests {
    use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE};

    use super::*;

    const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

    fn asking(upgrade: &'static str, protocol: &'static str) -> HeaderMap {
        HeaderMap::from_iter([
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (UPGRADE, HeaderValue::from_static(upgrade)),
            (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol)),
        ])
    }

    #[test]
    fn a_websocket_ends_here_unless_the_kubelet_takes_it() {
        let gates = Gates::defaults();
        let exec = asking("websocket", "v4.channel.k8s.io, v5.channel.k8s.io");
        let forward = asking("WebSocket", TUNNEL);
        for (what, headers, way) in [
            ("exec", &exec, Way::Translate),
            ("attach", &exec, Way::Translate),
            ("portforward", &forward, Way::Tunnel),
        ] {
            let here = (way, Some("translated_at_apiserver"));
            let there = (Way::HandOn, Some("proxied_to_kubelet"));
            assert_eq!(choose(gates, what, false, headers), here);
            assert_eq!(choose(gates, what, true, headers), there);
            let off = gates.with(gate::EXTEND_WEB_SOCKETS_TO_KUBELET, false);
            assert_eq!(choose(off, what, true, headers), here);
        }
    }

    #[test]
    fn each_gate_off_hands_on_what_is_its_own_and_counts_nothing() {
        let exec = asking("websocket", V5);
        let forward = asking("websocket", TUNNEL);
        let nothing = (Way::HandOn, None);
        let off = Gates::defaults().with(gate::TRANSLATE_STREAM_CLOSE_WEBSOCKET_REQUESTS, false);
        for declared in [false, true] {
            assert_eq!(choose(off, "exec", declared, &exec), nothing);
            assert_ne!(choose(off, "portforward", declared, &forward), nothing);
        }
        let off = Gates::defaults().with(gate::PORT_FORWARD_WEBSOCKETS, false);
        assert_eq!(choose(off, "portforward", false, &forward), nothing);
        assert_ne!(choose(off, "attach", false, &exec), nothing);
    }

    #[test]
    fn what_every_kubelet_speaks_is_handed_on() {
        let gates = Gates::defaults();
        let kept = (Way::HandOn, Some("translated_at_apiserver"));
        let old = asking("websocket", "v4.channel.k8s.io");
        assert_eq!(choose(gates, "exec", false, &old), kept);
        assert_eq!(choose(gates, "portforward", false, &old), kept);
        let spdy = asking("SPDY/3.1", V5);
        assert_eq!(choose(gates, "exec", false, &spdy), kept);
        // A protocol of something else.
        let other = asking("websocket", TUNNEL);
        assert_eq!(choose(gates, "attach", false, &other), kept);
    }
}
