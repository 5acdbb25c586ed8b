//! Validating webhooks: refusals, warnings, failure policies, answers that are none.

use super::super::warnings::ask;
use super::*;

#[tokio::test]
async fn a_refusal_reaches_the_client_as_the_webhook_said_it() {
    let remote = webhooks(|path, request| match path {
        "/deny" => json!({
            "allowed": false,
            "status": {"code": 418, "reason": "Teapot", "message": "short and stout", "details": {"retryAfterSeconds": 7}},
            "warnings": ["it is hot"],
            "auditAnnotations": {"kind": "teapot"},
        }),
        _ if request["object"]["data"]["k"] == "w" => denied("w is no value"),
        _ => json!({"allowed": true, "warnings": ["take care", "say \"please\""]}),
    });
    let api = Daemon::start().await;
    let selector = json!({"objectSelector": {"matchLabels": {"deny": "me"}}});
    let rules = [rule(&["CREATE", "UPDATE", "DELETE"], "configmaps")];
    let hooks = [
        hook(&remote, "/deny", &rules, selector),
        hook(&remote, "/check", &rules, json!({})),
    ];
    configure(&api, &remote, "Validating", "a", &hooks).await;
    let mut map = config_map("a", json!({}));
    map["metadata"]["labels"] = json!({"deny": "me"});
    let (code, refused) = api.send("POST", MAPS, &map).await;
    assert_eq!(
        (code, &refused["reason"]),
        (418, &json!("Teapot")),
        "{refused}"
    );
    assert_eq!(
        refused["message"],
        "admission webhook \"deny.example.com\" denied the request: short and stout"
    );
    assert_eq!(refused["details"]["retryAfterSeconds"], 7);

    assert_eq!(create(&api, "b").await.0, 201);
    let change = json!({"data": {"k": "w"}});
    let (code, refused) = api.patch(&format!("{MAPS}/b"), crate::MERGE, &change).await;
    assert_eq!((code, refused["reason"].as_str()), (400, None), "{refused}");
    let said = "admission webhook \"check.example.com\" denied the request: w is no value";
    assert_eq!(refused["message"], said);
    let (_, left) = api.get(&format!("{MAPS}/b")).await;
    assert_eq!(left["data"]["k"], "v");

    let labels = "{name=\"check.example.com\",type=\"validating\",operation=\"UPDATE\",error_type=\"no_error\",rejection_code=\"400\"}";
    let series = format!("apiserver_admission_webhook_rejection_count{labels}");
    assert!(counted(&api, &series).await >= 1.0);
}

#[tokio::test]
async fn what_webhooks_warn_of_reaches_the_client() {
    let remote = webhooks(|_, request| match request["name"].as_str() {
        Some("short") => json!({"allowed": true, "warnings": ["take care", "say \"please\""]}),
        _ => {
            json!({"allowed": true, "warnings": [format!("a{}", "x".repeat(3000)), format!("b{}", "x".repeat(3000))]})
        }
    });
    let api = Daemon::start().await;
    let rules = [rule(&["CREATE"], "configmaps")];
    configure(
        &api,
        &remote,
        "Validating",
        "a",
        &[hook(&remote, "/warn", &rules, json!({}))],
    )
    .await;
    let warnings = async |name: &str| {
        let body = config_map(name, json!({}));
        ask(&api, &format!("POST {MAPS}"), &body).await.1
    };
    assert_eq!(
        warnings("short").await,
        ["\"take care\"", "\"say \\\"please\\\"\""]
    );
    // More than fits makes all of them short.
    let long = warnings("long").await;
    let shortened = |c| format!("\"{c}{}\"", "x".repeat(255));
    assert_eq!(long, [shortened('a'), shortened('b')]);
}

#[tokio::test]
async fn who_gives_no_answer_is_passed_over_or_refuses_the_write() {
    let remote = Remote::start(|asked: Asked| -> BoxFuture<'static, Response> {
        Box::pin(async move {
            match asked.path.as_str() {
                READY => review(&asked, allowed()),
                "/never" => std::future::pending().await,
                "/garbage" => Response::new(full("<html>")),
                "/huge" => Response::new(full(vec![b' '; 100 << 20])),
                "/broken" => answer(500, &json!("it broke")),
                "/redirect" => {
                    let mut response = answer(307, &json!({}));
                    let to = http::HeaderValue::from_static(READY);
                    response.headers_mut().insert("location", to);
                    response
                }
                _ => review(
                    &asked,
                    json!({"allowed": true, "patch": "W10=", "patchType": "JSONPatch"}),
                ),
            }
        })
    });
    let api = Daemon::start().await;
    let rules = [rule(&["CREATE"], "configmaps")];
    let paths = [
        "/never",
        "/garbage",
        "/huge",
        "/broken",
        "/redirect",
        "/patching",
    ];
    let of = |policy: &str| -> Vec<Value> {
        let more = |path: &str| {
            let label = format!("{}-{policy}", &path[1..]);
            let seconds = if path == "/never" { 1 } else { 10 };
            let selector = json!({"matchLabels": {"do": label}});
            json!({"failurePolicy": policy, "timeoutSeconds": seconds, "objectSelector": selector})
        };
        paths
            .map(|path| hook(&remote, path, &rules, more(path)))
            .into()
    };
    configure(&api, &remote, "Validating", "fail", &of("Fail")).await;
    configure(&api, &remote, "Validating", "ignore", &of("Ignore")).await;
    let make = async |path: &str, policy: &str| {
        let label = format!("{}-{policy}", &path[1..]);
        let mut map = config_map(&label.to_lowercase(), json!({}));
        map["metadata"]["labels"] = json!({"do": label});
        let started = std::time::Instant::now();
        let (code, object) = api.send("POST", MAPS, &map).await;
        assert!(started.elapsed() < Duration::from_secs(9), "{path}");
        (
            code,
            object["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    for (path, why) in [
        ("/never", "context deadline exceeded"),
        ("/garbage", "invalid character"),
        ("/huge", "longer than"),
        (
            "/broken",
            "an error on the server (\"\\\"it broke\\\"\") has prevented the request from succeeding",
        ),
        ("/redirect", "307"),
        (
            "/patching",
            "received invalid webhook response: validating webhook may not return response.patch",
        ),
    ] {
        let (code, said) = make(path, "Fail").await;
        let name = format!("{}.example.com", &path[1..]);
        let head = format!("Internal error occurred: failed calling webhook \"{name}\": ");
        assert_eq!(code, 500, "{path}: {said}");
        assert!(
            said.starts_with(&head) && said.contains(why),
            "{path}: {said}"
        );
        assert_eq!(make(path, "Ignore").await.0, 201, "{path}");
    }
    let (_, said) = make("/never", "Fail").await;
    assert!(
        said.contains("/never?timeout=1s\": context deadline exceeded"),
        "{said}"
    );
    let open = "apiserver_admission_webhook_fail_open_count{name=\"never.example.com\",type=\"validating\"}";
    assert!(counted(&api, open).await >= 1.0);
    let request = "apiserver_admission_webhook_request_total{name=\"broken.example.com\",type=\"validating\",operation=\"CREATE\",code=\"500\",rejected=\"true\"}";
    assert!(counted(&api, request).await >= 1.0);
}

#[tokio::test]
async fn webhooks_are_asked_at_the_same_time_and_all_before_the_answer() {
    let remote = Remote::start(|asked: Asked| -> BoxFuture<'static, Response> {
        Box::pin(async move {
            if asked.path != READY {
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
            review(&asked, allowed())
        })
    });
    let api = Daemon::start().await;
    let rules = [rule(&["CREATE"], "configmaps")];
    let selector = json!({"objectSelector": {"matchExpressions": [{"key": "ready", "operator": "DoesNotExist"}]}});
    let hooks = ["/a", "/b", "/c", "/d"].map(|path| hook(&remote, path, &rules, selector.clone()));
    configure(&api, &remote, "Validating", "a", &hooks).await;
    let started = std::time::Instant::now();
    assert_eq!(create(&api, "m").await.0, 201);
    assert!(
        started.elapsed() < Duration::from_millis(2000),
        "one after the other takes 2.8 s"
    );
    assert_eq!(
        ["/a", "/b", "/c", "/d"].map(|path| asked(&remote, path).len()),
        [1; 4]
    );

    // A hundred writers at once.
    let api = Arc::new(api);
    let started = std::time::Instant::now();
    let writers = (0..100).map(|i| {
        let api = Arc::clone(&api);
        async move { create(&api, &format!("many-{i}")).await.0 }
    });
    let codes = futures::future::join_all(writers).await;
    assert!(codes.iter().all(|code| *code == 201), "{codes:?}");
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(asked(&remote, "/a").len(), 101);
}
