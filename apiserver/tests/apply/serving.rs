//! How the server is reached, and how it leaves.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::daemon::Daemon;
use crate::wire::Wire;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SHORT: &str = "--request-timeout=20s";

/// Clients that watch shall look for another server at once, not when their time is up.
#[tokio::test]
async fn a_server_that_stops_ends_its_watches_and_takes_back_what_it_claimed() {
    let mut api = Daemon::start_with(|_| vec![SHORT.into()]).await;
    let etcd = api.etcd();
    let (code, leases) = api
        .get("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases")
        .await;
    assert_eq!(code, 200);
    let lease = leases["items"][0]["metadata"]["name"].as_str().unwrap();
    let claims = [
        format!("/registry/leases/kube-system/{lease}"),
        "/registry/masterleases/10.1.2.3".to_owned(),
    ];
    for key in &claims {
        assert!(etcd.get(key).await.is_some(), "{key}");
    }
    let mut watch = Wire::admin(&api).await;
    let line = format!("GET {MAPS}?watch=true");
    let head = watch.ask(&line, &["Connection: close"], "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let asked = Instant::now();
    let (rest, ()) = tokio::join!(watch.rest(), api.terminate());
    // The end of a chunked body: the watch was ended, not cut off.
    assert!(rest.ends_with("0\r\n\r\n"), "{rest:?}");
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        asked.elapsed()
    );
    for key in &claims {
        assert!(etcd.get(key).await.is_none(), "{key}");
    }
}

#[tokio::test]
async fn scripts_of_allowed_origins_may_ask() {
    let api = Daemon::start_with(|_| {
        vec![
            r"--cors-allowed-origins=^https://ui\.example(:|$)".into(),
            "--strict-transport-security-directives=max-age=60,includeSubDomains".into(),
        ]
    })
    .await;
    let mut wire = Wire::anonymous(&api).await;
    let preflight = format!("OPTIONS {MAPS}");
    let head = wire
        .ask(&preflight, &["Origin: https://ui.example"], "")
        .await;
    assert!(head.starts_with("http/1.1 204"), "{head}");
    assert!(
        head.contains("access-control-allow-origin: https://ui.example\r\n"),
        "{head}"
    );
    assert!(head.contains("strict-transport-security: max-age=60; includesubdomains\r\n"));
    // Nobody in particular is told so without the origin's blessing.
    let mut wire = Wire::anonymous(&api).await;
    let head = wire
        .ask(&preflight, &["Origin: https://ui.example.evil.org"], "")
        .await;
    assert!(head.starts_with("http/1.1 403"), "{head}");
    assert!(!head.contains("access-control"), "{head}");
    assert!(
        head.contains("cache-control: no-cache, private\r\n"),
        "{head}"
    );
}

/// One of fifty requests ends its connection: a thousand on one without that are a defect.
#[tokio::test]
async fn now_and_then_a_client_is_sent_to_another_connection() {
    let api = Daemon::start_with(|_| vec!["--goaway-chance=0.02".into()]).await;
    let io = TokioIo::new(Wire::http2(&api).await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let asking = async {
        for _ in 0..1000 {
            let request = http::Request::get(format!("https://127.0.0.1{MAPS}"));
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            // The request that the end is told with is answered all the same.
            match sender.send_request(request).await {
                Ok(answer) => assert_eq!(answer.status(), 200),
                Err(_) => return,
            }
        }
        panic!("the connection goes on");
    };
    let (ended, ()) = tokio::join!(connection, asking);
    // Ended as agreed, not broken.
    ended.unwrap();
}
