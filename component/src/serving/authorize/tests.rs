use super::*;
use crate::metrics::Metrics;
use crate::serving::{Authenticator, Endpoints, Health, Options, Server};
use crate::supervisor::Task;
use crate::testing::FakeApi;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.into(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        ..User::default()
    }
}

fn metrics() -> Attributes {
    Attributes {
        verb: "get".into(),
        path: "/metrics".into(),
        resource: None,
    }
}

fn answer(allowed: bool) -> serde_json::Value {
    json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {},
        "status": {"allowed": allowed, "reason": "because"}})
}

#[tokio::test]
async fn answers_are_remembered_for_each_user_and_question() {
    let mut api = FakeApi::plain();
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(100));
    let authorizer = Authorizer::new(Some(api.client()), long, short, vec![]);
    let (a, b) = (user("a", &["g"]), user("b", &[]));
    let question = metrics();
    let (decision, seen) = tokio::join!(authorizer.authorize(&a, &question), async {
        api.next().await.json(&answer(true))
    });
    assert_eq!(decision.unwrap(), Decision::Allowed);
    assert_eq!(
        seen.path,
        "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    );
    let spec = &seen.json()["spec"];
    assert_eq!(
        spec["nonResourceAttributes"],
        json!({"path": "/metrics", "verb": "get"})
    );
    assert_eq!(
        (&spec["user"], &spec["groups"]),
        (&json!("a"), &json!(["g"]))
    );
    assert_eq!(
        authorizer.authorize(&a, &question).await.unwrap(),
        Decision::Allowed,
        "nobody was asked"
    );
    for _ in 0..2 {
        let (decision, _) = tokio::join!(authorizer.authorize(&b, &question), async {
            api.next().await.json(&answer(false))
        });
        assert_eq!(decision.unwrap(), Decision::Denied("because".into()));
        assert!(matches!(
            authorizer.authorize(&b, &question).await.unwrap(),
            Decision::Denied(_)
        ));
        tokio::time::sleep(short).await;
    }
    let resource = Attributes {
        verb: "create".into(),
        path: String::new(),
        resource: Some(Resource {
            resource: "nodes".into(),
            subresource: "proxy".into(),
            name: "n".into(),
            ..Resource::default()
        }),
    };
    let (_, seen) = tokio::join!(authorizer.authorize(&a, &resource), async {
        api.next().await.json(&answer(true))
    });
    let spec = &seen.json()["spec"];
    assert_eq!(
        spec["resourceAttributes"],
        json!({"resource": "nodes", "subresource": "proxy", "name": "n", "verb": "create"})
    );
    assert!(spec.get("nonResourceAttributes").is_none());
}

#[tokio::test]
async fn some_need_not_be_asked_about_and_without_an_api_server_nobody_else_passes() {
    let paths = vec!["/healthz".to_owned(), "/livez/*".to_owned()];
    let authorizer = Authorizer::new(None, Duration::ZERO, Duration::ZERO, paths);
    assert!(authorizer.always_allows("/healthz") && authorizer.always_allows("/livez/ping"));
    assert!(!authorizer.always_allows("/healthz/x") && !authorizer.always_allows("/metrics"));
    let question = metrics();
    assert_eq!(
        authorizer
            .authorize(&user("a", &["system:masters"]), &question)
            .await
            .unwrap(),
        Decision::Allowed
    );
    assert!(matches!(
        authorizer
            .authorize(&user("a", &[]), &question)
            .await
            .unwrap(),
        Decision::Denied(_)
    ));
}

#[tokio::test]
async fn a_question_that_fails_is_asked_again_and_then_told() {
    let mut api = FakeApi::plain();
    let authorizer = Authorizer::new(Some(api.client()), Duration::ZERO, Duration::ZERO, vec![]);
    let (a, question) = (user("a", &[]), metrics());
    let (decision, _) = tokio::join!(authorizer.authorize(&a, &question), async {
        api.next().await.status(500, "InternalError");
        api.next().await.json(&answer(true))
    });
    assert_eq!(decision.unwrap(), Decision::Allowed);
    let (decision, _) = tokio::join!(authorizer.authorize(&a, &question), async {
        api.next().await.status(403, "Forbidden")
    });
    assert!(decision.unwrap_err().is_forbidden());
}

/// The whole way: health is open, metrics only for those whom the API server allows.
#[tokio::test]
async fn a_daemons_endpoints_are_guarded() {
    let mut api = FakeApi::plain();
    let endpoints = Endpoints::open(Health::new(&api.tasks), Metrics::new());
    endpoints.configz("x", json!({"a": 1}));
    let authorizer = Authorizer::new(
        Some(api.client()),
        Duration::ZERO,
        Duration::ZERO,
        vec!["/healthz".into()],
    );
    let guarded = endpoints.guarded(Authenticator::new(None, None, true), authorizer);
    let server = Server::bind(Options::plain("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = server.address();
    let service = tower::service_fn(move |request| {
        let endpoints = guarded.clone();
        async move { Ok(endpoints.serve(request).await) }
    });
    server.serve(&api.tasks, Task::Server, "test", service);
    let get = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(get("/healthz").await.ends_with("ok"));
    let (refused, seen) = tokio::join!(get("/metrics"), async {
        api.next().await.json(&answer(false))
    });
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    assert!(
        refused.contains("User \"system:anonymous\" cannot get path \"/metrics\": because"),
        "{refused}"
    );
    assert_eq!(
        seen.json()["spec"]["groups"],
        json!(["system:unauthenticated"])
    );
    let (shown, _) = tokio::join!(get("/metrics"), async {
        api.next().await.json(&answer(true))
    });
    assert!(
        shown.contains("text/plain; version=0.0.4") && shown.contains("process_open_fds"),
        "{shown}"
    );
    let (shown, _) = tokio::join!(get("/configz"), async {
        api.next().await.json(&answer(true))
    });
    assert!(shown.ends_with("{\"x\":{\"a\":1}}"), "{shown}");
    let (missing, _) = tokio::join!(get("/nothing"), async {
        api.next().await.json(&answer(true))
    });
    assert!(missing.starts_with("HTTP/1.1 404"));
}
