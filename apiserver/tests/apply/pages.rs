//! What the server says of itself and of its neighbours.

use std::os::unix::fs::PermissionsExt;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

use crate::daemon::Daemon;
use crate::wire::Wire;

const COMPONENTS: &str = "/api/v1/componentstatuses";

#[tokio::test]
async fn the_root_names_every_path_that_leads_somewhere() {
    let api = Daemon::start().await;
    let (code, index) = api.get("/").await;
    assert_eq!(code, 200);
    let paths = index["paths"].as_array().unwrap();
    assert!(paths.len() > 40, "{index}");
    // Those that end with a slash are what others begin with.
    let whole = paths.iter().map(|path| path.as_str().unwrap());
    for path in whole.filter(|path| !path.ends_with('/')) {
        assert_eq!(api.asked(path).await, 200, "{path}");
    }
    for wanted in ["/apis/apps/v1", "/livez/etcd", "/metrics/slis", "/version"] {
        assert!(paths.iter().any(|path| path == wanted), "{wanted}: {index}");
    }
    assert_eq!(api.asked("//").await, 404);
}

#[tokio::test]
async fn ends_of_checks_are_counted_and_reset() {
    let api = Daemon::start().await;
    assert_eq!(api.asked("/livez").await, 200);
    let line = "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"livez\"} 1\n";
    let scores = api.text("/metrics/slis").await;
    assert!(scores.contains(line), "{scores}");
    // A single check says how it is to who asks, and counts for nothing.
    assert_eq!(api.asked("/livez/etcd").await, 200);
    let scores = api.text("/metrics/slis").await;
    assert!(scores.contains(line), "{scores}");
    let mut wire = Wire::admin(&api).await;
    let head = wire.ask("DELETE /metrics/slis", &[], "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let scores = api.text("/metrics/slis").await;
    assert!(!scores.contains("livez"), "{scores}");
}

#[tokio::test]
async fn components_are_asked_how_they_are_when_somebody_asks() {
    let api = Daemon::start().await;
    let (code, etcd) = api.get(&format!("{COMPONENTS}/etcd-0")).await;
    assert_eq!(code, 200);
    let well = serde_json::json!([{"type": "Healthy", "status": "True", "message": "ok"}]);
    assert_eq!(etcd["conditions"], well);
    let (code, all) = api.get(COMPONENTS).await;
    assert_eq!(
        (code, all["items"].as_array().map(Vec::len)),
        (200, Some(3))
    );
    let named = format!("{COMPONENTS}?fieldSelector=metadata.name%3Dscheduler");
    let (_, one) = api.get(&named).await;
    assert_eq!(one["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(api.get(&format!("{COMPONENTS}/kubelet")).await.0, 404);
    // Somebody there who does not speak TLS is not well; nobody there is not well either.
    let neighbour = TcpListener::bind("127.0.0.1:10259").await;
    if let Ok(listener) = &neighbour {
        let closed = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let path = format!("{COMPONENTS}/scheduler");
        let (_, (_, ill)) = tokio::join!(closed, api.get(&path));
        assert_eq!(ill["conditions"][0]["status"], "False", "{ill}");
    }
}

#[tokio::test]
async fn the_debug_socket_is_its_owners_and_replaces_what_was_there() {
    let mut path = std::path::PathBuf::new();
    let api = Daemon::start_with(|files| {
        path = files.write("debug.sock", "");
        vec![
            format!("--debug-socket-path={}", path.display()),
            "--profiling=false".to_owned(),
        ]
    })
    .await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let ask = "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("--debug-socket-path="), "{answer}");
    // Beside the API it was not asked for.
    assert_eq!(api.asked("/debug/pprof/").await, 404);
}
