//! Kubelets that somebody took over, and nodes that lie about where they are.

use component::serving::{Identity, text};
use component::testing::{Ca, FakeApi};
use http::StatusCode;
use http::header::LOCATION;

use crate::daemon::Daemon;
use crate::streams::pod_on;
use crate::wire::Wire;

const POD: &str = "/api/v1/namespaces/default/pods/p";

/// CVE-2020-8559: the server has credentials at every kubelet, and follows none of them to another.
#[tokio::test]
async fn a_kubelet_does_not_send_the_server_elsewhere() {
    let api = Daemon::start().await;
    let mut kubelet = pod_on(&api).await;
    let other = Ca::new("kubelets").server(&["127.0.0.1"]);
    let mut elsewhere = FakeApi::secure(Identity::Memory(other));
    let to = format!("{}/run/default/other/c?cmd=id", elsewhere.url);
    const HANDED_ON: &str = "Sec-WebSocket-Protocol: v4.channel.k8s.io";
    const TRANSLATED: &str = "Sec-WebSocket-Protocol: v5.channel.k8s.io";
    for (stream, protocol) in [
        ("log", ""),
        ("exec?command=id&stdout=true", HANDED_ON),
        ("exec?command=id&stdout=true", TRANSLATED),
        ("attach?stdout=true", HANDED_ON),
        ("attach?stdout=true", TRANSLATED),
        ("portforward?ports=1", HANDED_ON),
    ] {
        for code in [StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
            let sent = async {
                let mut moved = text(code, "elsewhere");
                moved.headers_mut().insert(LOCATION, to.parse().unwrap());
                kubelet.next().await.answer(moved);
            };
            let asked = async {
                let mut wire = Wire::admin(&api).await;
                let path = format!("{POD}/{stream}");
                if stream == "log" {
                    wire.ask(&format!("GET {path}"), &["Connection: close"], "")
                        .await
                } else {
                    wire.upgrade(&path, &[protocol]).await
                }
            };
            let ((), head) = tokio::join!(sent, asked);
            let code: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
            // What is translated is agreed on before the kubelet is asked.
            let refused = code >= 300 || protocol == TRANSLATED && code == 101;
            assert!(refused, "{stream}: {head}");
            assert!(elsewhere.is_quiet().await, "{stream}");
        }
    }
}

/// CVE-2022-3294: what a node says of its address does not lead through the proxy to the server's own
/// host.
#[tokio::test]
async fn a_node_that_says_it_is_the_servers_host_is_not_proxied_to() {
    let api = Daemon::start().await;
    let mut kubelet = pod_on(&api).await;
    for path in [
        "nodes/n/proxy/",
        "nodes/n/proxy/configz",
        "nodes/https:n:/proxy/",
    ] {
        let mut wire = Wire::admin(&api).await;
        let line = format!("GET /api/v1/{path}");
        let head = wire.ask(&line, &["Connection: close"], "").await;
        assert!(head.starts_with("http/1.1 400 "), "{path}: {head}");
        assert!(kubelet.is_quiet().await, "{path}");
    }
}
