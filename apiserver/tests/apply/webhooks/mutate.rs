//! Mutating webhooks: order, patches, rounds.

use super::*;

/// Adds a label with a name of its own.
fn label(name: &str) -> Value {
    patch(&json!([
        {"op": "add", "path": "/metadata/labels", "value": {}},
        {"op": "add", "path": format!("/metadata/labels/{name}"), "value": "set"},
    ]))
}

fn labels(object: &Value) -> Vec<String> {
    let labels = object["metadata"]["labels"].as_object();
    labels
        .into_iter()
        .flatten()
        .map(|(key, _)| key.clone())
        .collect()
}

#[tokio::test]
async fn each_webhook_sees_what_those_before_it_made_of_the_object() {
    let remote = webhooks(|path, request| {
        let data = request["object"]["data"].clone();
        let step = path.trim_start_matches('/');
        let mut seen: Vec<&str> = data["seen"].as_str().unwrap_or("").split(' ').collect();
        seen.push(step);
        let seen = seen.join(" ");
        patch(&json!([{"op": "add", "path": "/data/seen", "value": seen.trim()}]))
    });
    let api = Daemon::start().await;
    let rules = [rule(&["CREATE", "UPDATE"], "configmaps")];
    let of = |path| hook(&remote, path, &rules, json!({}));
    // Made in the other order than they are asked in.
    configure(&api, &remote, "Mutating", "b", &[of("/three")]).await;
    configure(&api, &remote, "Mutating", "a", &[of("/one"), of("/two")]).await;
    let (code, made) = create(&api, "m").await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["data"], json!({"k": "v", "seen": "one two three"}));
    let (code, updated) = api
        .patch(
            &format!("{MAPS}/m"),
            crate::MERGE,
            &json!({"data": {"k": "w"}}),
        )
        .await;
    assert_eq!(code, 200, "{updated}");
    assert_eq!(updated["data"]["seen"], "one two three one two three");
    let last = asked(&remote, "/one").pop().unwrap();
    assert_eq!(last["operation"], "UPDATE");
    assert_eq!(
        last["oldObject"]["data"],
        json!({"k": "v", "seen": "one two three"})
    );
    assert_eq!(last["options"]["kind"], "UpdateOptions", "of patches, too");
    // The client, not the webhook, manages what it sent and what came of that.
    let managers = crate::managers(&made);
    assert!(
        managers.iter().all(|m| !m.contains("f:seen")),
        "{managers:?}"
    );
}

#[tokio::test]
async fn who_wants_to_is_asked_again_after_a_change() {
    let remote = webhooks(|path, request| match path {
        // Says nothing new in the second round.
        "/first" if request["object"]["metadata"]["labels"]["first"] == "set" => allowed(),
        "/first" => label("first"),
        "/second" => {
            patch(&json!([{"op": "add", "path": "/metadata/labels/second", "value": "set"}]))
        }
        _ => allowed(),
    });
    let mut log = None;
    let api = Daemon::start_with(|files| {
        let policy = files.write(
            "policy.yaml",
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n\
             - {level: Request, omitStages: [RequestReceived], resources: [{resources: [configmaps]}]}\n",
        );
        let path = log.insert(files.write("audit.log", ""));
        vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", path.display()),
        ]
    })
    .await;
    let rules = [rule(&["CREATE"], "configmaps")];
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let hooks = [
        hook(&remote, "/first", &rules, again.clone()),
        hook(&remote, "/once", &rules, json!({})),
        hook(&remote, "/second", &rules, again),
    ];
    configure(&api, &remote, "Mutating", "a", &hooks).await;
    let (code, made) = create(&api, "m").await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(labels(&made), ["first", "second"]);
    let calls = ["/first", "/once", "/second"].map(|path| asked(&remote, path).len());
    assert_eq!(
        calls,
        [2, 1, 1],
        "only the first saw the object before it changed"
    );
    let again = asked(&remote, "/first").pop().unwrap();
    assert_eq!(again["object"]["metadata"]["labels"]["second"], "set");

    let text = std::fs::read_to_string(log.unwrap()).unwrap();
    let line = text
        .lines()
        .rfind(|l| l.contains("\"name\":\"m\""))
        .unwrap();
    let event: Value = serde_json::from_str(line).unwrap();
    let noted = |key: &str| -> Value {
        let text = event["annotations"][key]
            .as_str()
            .unwrap_or_else(|| panic!("{key}: {event}"));
        serde_json::from_str(text).unwrap()
    };
    let about = |webhook: &str, mutated| json!({"configuration": "a", "webhook": webhook, "mutated": mutated});
    let mutation = "mutation.webhook.admission.k8s.io/";
    for (at, webhook, mutated) in [
        ("round_0_index_1", "first.example.com", true),
        ("round_0_index_2", "once.example.com", false),
        ("round_0_index_3", "second.example.com", true),
        ("round_1_index_1", "first.example.com", false),
    ] {
        assert_eq!(noted(&format!("{mutation}{at}")), about(webhook, mutated));
    }
    let patched = noted("patch.webhook.admission.k8s.io/round_0_index_3");
    assert_eq!(patched["patchType"], "JSONPatch");
    assert_eq!(patched["patch"][0]["path"], "/metadata/labels/second");
}

#[tokio::test]
async fn what_a_webhook_adds_gets_its_defaults_and_is_validated() {
    let remote = webhooks(|path, _| match path {
        "/container" => patch(&json!([
            {"op": "add", "path": "/spec/initContainers", "value": [{"image": "x", "name": "added", "resources": {}}]},
        ])),
        _ => patch(&json!([{"op": "add", "path": "/spec/restartPolicy", "value": "Sometimes"}])),
    });
    let api = Daemon::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "y"}]}});
    let selected = |label: &str| json!({"objectSelector": {"matchLabels": {"do": label}}});
    let rules = [rule(&["CREATE"], "pods")];
    let hooks = [
        hook(&remote, "/container", &rules, selected("add")),
        hook(&remote, "/invalid", &rules, selected("break")),
    ];
    configure(&api, &remote, "Mutating", "a", &hooks).await;
    let make = async |label: &str| {
        let mut pod = pod.clone();
        pod["metadata"]["labels"] = json!({"do": label});
        api.send("POST", pods, &pod).await
    };
    let (code, made) = make("add").await;
    assert_eq!(code, 201, "{made}");
    let added = &made["spec"]["initContainers"][0];
    assert_eq!(
        (&added["name"], &added["image"]),
        (&json!("added"), &json!("x"))
    );
    assert_eq!(added["terminationMessagePolicy"], "File");
    assert_eq!(added["imagePullPolicy"], "Always");
    let (code, refused) = make("break").await;
    assert_eq!(
        (code, &refused["reason"]),
        (422, &json!("Invalid")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_patch_that_cannot_be_applied_is_the_servers_failure_whatever_the_policy() {
    let remote = webhooks(|path, _| match path {
        "/missing" => patch(&json!([{"op": "remove", "path": "/data/nothing"}])),
        "/moved" => patch(
            &json!([{"op": "replace", "path": "/metadata/namespace", "value": "kube-system"}]),
        ),
        "/delete" => label("x"),
        _ => json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode("{")}),
    });
    let api = Daemon::start().await;
    let ignore = |label: &str| json!({"failurePolicy": "Ignore", "objectSelector": {"matchLabels": {"do": label}}});
    let rules = [rule(&["CREATE"], "configmaps")];
    let hooks = [
        hook(&remote, "/missing", &rules, ignore("missing")),
        hook(&remote, "/moved", &rules, ignore("moved")),
        hook(&remote, "/garbled", &rules, ignore("garbled")),
        hook(
            &remote,
            "/delete",
            &[rule(&["DELETE"], "configmaps")],
            ignore("delete"),
        ),
    ];
    configure(&api, &remote, "Mutating", "a", &hooks).await;
    let make = async |label: &str| {
        let mut map = config_map(label, json!({}));
        map["metadata"]["labels"] = json!({"do": label});
        api.send("POST", MAPS, &map).await
    };
    assert_eq!(make("missing").await.0, 500);
    let (code, moved) = make("moved").await;
    assert_eq!(code, 400, "{moved}");
    // One that is no patch is an answer that is none.
    assert_eq!(make("garbled").await.0, 201);
    assert_eq!(make("delete").await.0, 201);
    let (code, refused) = api
        .send("DELETE", &format!("{MAPS}/delete"), &json!({}))
        .await;
    let said = refused["message"].as_str().unwrap();
    assert_eq!(code, 500, "{refused}");
    assert!(
        said.contains("attempted to modify the object, which is not supported"),
        "{said}"
    );
}
