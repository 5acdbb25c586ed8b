//! What webhooks are asked about, and what they are told: versions, selectors, deletions, subresources, connections.

use super::*;

const HPAS: &str = "namespaces/default/horizontalpodautoscalers";

#[tokio::test]
async fn an_object_is_shown_in_the_version_of_the_rule_and_comes_back() {
    let remote = webhooks(|path, _| match path {
        // A field that version 2 does not have.
        "/v1" => patch(
            &json!([{"op": "add", "path": "/spec/targetCPUUtilizationPercentage", "value": 55}]),
        ),
        _ => allowed(),
    });
    let api = Daemon::start().await;
    let rules = [json!({
        "operations": ["CREATE"],
        "apiGroups": ["autoscaling"],
        "apiVersions": ["v1"],
        "resources": ["horizontalpodautoscalers"],
    })];
    let exact = json!({"matchPolicy": "Exact"});
    let hooks = [
        hook(&remote, "/v1", &rules, json!({})),
        hook(&remote, "/exact", &rules, exact),
    ];
    configure(&api, &remote, "Mutating", "a", &hooks).await;
    let scaler = json!({
        "kind": "HorizontalPodAutoscaler",
        "apiVersion": "autoscaling/v2",
        "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "maxReplicas": 3},
    });
    let (code, made) = api
        .send("POST", &format!("/apis/autoscaling/v2/{HPAS}"), &scaler)
        .await;
    assert_eq!(code, 201, "{made}");
    let target = &made["spec"]["metrics"][0]["resource"]["target"];
    assert_eq!(target["averageUtilization"], 55, "{made}");
    let told = asked(&remote, "/v1").pop().unwrap();
    let gvk = |version| json!({"group": "autoscaling", "version": version, "kind": "HorizontalPodAutoscaler"});
    assert_eq!(
        (&told["kind"], &told["requestKind"]),
        (&gvk("v1"), &gvk("v2"))
    );
    assert_eq!(told["resource"]["version"], "v1");
    assert_eq!(told["requestResource"]["version"], "v2");
    assert_eq!(told["object"]["apiVersion"], "autoscaling/v1");
    assert!(asked(&remote, "/exact").is_empty());
}

#[tokio::test]
async fn selectors_say_about_what_webhooks_are_asked() {
    let remote = webhooks(|_, _| denied("selected"));
    let api = Daemon::start().await;
    let rules = [
        rule(&["CREATE", "UPDATE", "DELETE"], "configmaps"),
        rule(&["CREATE", "UPDATE"], "namespaces"),
    ];
    let selector = json!({"namespaceSelector": {"matchLabels": {"watched": "yes"}}});
    configure(
        &api,
        &remote,
        "Validating",
        "a",
        &[hook(&remote, "/ns", &rules, selector)],
    )
    .await;
    let namespace =
        |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
    let spaces = "/api/v1/namespaces";
    let make = async |object: Value| api.send("POST", spaces, &object).await.0;
    assert_eq!(make(namespace("open", json!({}))).await, 201);
    assert_eq!(
        make(namespace("watched", json!({"watched": "yes"}))).await,
        400,
        "a namespace is in itself"
    );
    let told = asked(&remote, "/ns").pop().unwrap();
    assert_eq!(
        (&told["name"], &told["namespace"]),
        (&json!("watched"), &json!("watched"))
    );
    let map = config_map("m", json!({}));
    let maps = "/api/v1/namespaces/open/configmaps";
    assert_eq!(api.send("POST", maps, &map).await.0, 201);
    // Its new labels count.
    let label = json!({"metadata": {"labels": {"watched": "yes"}}});
    assert_eq!(
        api.patch("/api/v1/namespaces/open", crate::MERGE, &label)
            .await
            .0,
        400
    );
    let told = asked(&remote, "/ns").pop().unwrap();
    assert_eq!(
        (&told["name"], &told["namespace"]),
        (&json!("open"), &json!("open"))
    );
    // Objects of cluster scope have no namespace to be exempt by.
    let rules = [rule(&["CREATE"], "clusterroles")];
    let selector = json!({"namespaceSelector": {"matchLabels": {"watched": "yes"}}});
    configure(
        &api,
        &remote,
        "Validating",
        "b",
        &[hook(&remote, "/cluster", &rules, selector)],
    )
    .await;
    let role = json!({"metadata": {"name": "r"}, "rules": []});
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    assert_eq!(api.send("POST", roles, &role).await.0, 400);
}

#[tokio::test]
async fn deletions_show_what_goes_one_by_one() {
    let remote = webhooks(
        |_, request| match request["oldObject"]["metadata"]["name"].as_str() {
            Some("kept") => denied("it stays"),
            _ => allowed(),
        },
    );
    let api = Daemon::start().await;
    let rules = [rule(&["DELETE"], "configmaps"), rule(&["DELETE"], "pods")];
    configure(
        &api,
        &remote,
        "Validating",
        "a",
        &[hook(&remote, "/gone", &rules, json!({}))],
    )
    .await;
    for name in ["a", "b", "kept"] {
        assert_eq!(create(&api, name).await.0, 201);
    }
    let options = json!({"propagationPolicy": "Background"});
    let (code, _) = api.send("DELETE", &format!("{MAPS}/a"), &options).await;
    assert_eq!(code, 200);
    let told = asked(&remote, "/gone").pop().unwrap();
    assert_eq!(
        (&told["name"], &told["operation"]),
        (&json!("a"), &json!("DELETE"))
    );
    assert_eq!(told["object"], Value::Null);
    assert_eq!(told["oldObject"]["data"], json!({"k": "v"}));
    assert_eq!(
        told["options"],
        json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "propagationPolicy": "Background"})
    );
    let (code, refused) = api
        .send("DELETE", &format!("{MAPS}?labelSelector=!x"), &json!({}))
        .await;
    assert_eq!(code, 400, "{refused}");
    let told = asked(&remote, "/gone").pop().unwrap();
    assert_eq!(told["name"], Value::Null, "of a collection nobody is named");
    assert_eq!(api.get(&format!("{MAPS}/kept")).await.0, 200);
    assert_eq!(api.get(&format!("{MAPS}/b")).await.0, 404);

    // A pod that waits for its end is not asked about again; its grace is told as it holds.
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "y"}]}});
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(api.send("POST", pods, &pod).await.0, 201);
    let before = asked(&remote, "/gone").len();
    for _ in 0..2 {
        let (code, _) = api.send("DELETE", &format!("{pods}/p"), &json!({})).await;
        assert_eq!(code, 200);
    }
    let all = asked(&remote, "/gone");
    assert_eq!(all.len(), before + 1);
    assert_eq!(all.last().unwrap()["options"]["gracePeriodSeconds"], 30);
}

#[tokio::test]
async fn a_dry_run_says_so() {
    let remote = webhooks(|_, _| allowed());
    let api = Daemon::start().await;
    let rules = [rule(&["CREATE"], "configmaps")];
    configure(
        &api,
        &remote,
        "Validating",
        "a",
        &[hook(&remote, "/dry", &rules, json!({}))],
    )
    .await;
    let path = format!("{MAPS}?dryRun=All&fieldManager=me&fieldValidation=Strict");
    assert_eq!(
        api.send("POST", &path, &config_map("m", json!({}))).await.0,
        201
    );
    let told = asked(&remote, "/dry").pop().unwrap();
    assert_eq!(told["dryRun"], true);
    assert_eq!(
        told["options"],
        json!({
            "kind": "CreateOptions",
            "apiVersion": "meta.k8s.io/v1",
            "dryRun": ["All"],
            "fieldManager": "me",
            "fieldValidation": "Strict",
        })
    );
    assert_eq!(told["userInfo"]["username"], "admin");
    assert_eq!(
        told["userInfo"]["groups"],
        json!(["system:masters", "system:authenticated"])
    );
    assert_eq!(api.get(&format!("{MAPS}/m")).await.0, 404);
}

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A pod that runs, as far as the server knows.
async fn running_pod(api: &Daemon, name: &str) {
    let pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "y"}]},
    });
    assert_eq!(api.send("POST", PODS, &pod).await.0, 201);
    let target = json!({"kind": "Node", "name": "n"});
    let binding = json!({"metadata": {"name": name}, "target": target});
    let path = format!("{PODS}/{name}/binding");
    assert_eq!(api.send("POST", &path, &binding).await.0, 201);
    let status = json!({"status": {"phase": "Running"}});
    let path = format!("{PODS}/{name}/status");
    assert_eq!(api.patch(&path, crate::MERGE, &status).await.0, 200);
}

/// A webhook for one operation on one resource.
fn about(remote: &Remote, path: &str, operation: &str, resource: &str) -> Value {
    hook(remote, path, &[rule(&[operation], resource)], json!({}))
}

/// What was asked last at a path.
fn told(remote: &Remote, path: &str) -> Value {
    asked(remote, path)
        .pop()
        .unwrap_or_else(|| panic!("{path}"))
}

#[tokio::test]
async fn subresources_are_shown_as_what_they_are() {
    let remote = webhooks(|path, request| match path {
        "/scale" if request["object"]["spec"]["replicas"] == 7 => {
            patch(&json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]))
        }
        _ => allowed(),
    });
    let api = Daemon::start().await;
    let hooks = [
        about(&remote, "/scale", "UPDATE", "deployments/scale"),
        about(&remote, "/binding", "CREATE", "pods/binding"),
        about(&remote, "/status", "UPDATE", "pods/status"),
        about(&remote, "/token", "CREATE", "serviceaccounts/token"),
    ];
    configure(&api, &remote, "Mutating", "a", &hooks).await;
    let template = json!({
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    });
    let selector = json!({"matchLabels": {"a": "b"}});
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": selector, "template": template},
    });
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(api.send("POST", deployments, &deployment).await.0, 201);
    let change = json!({"spec": {"replicas": 7}});
    let path = format!("{deployments}/d/scale");
    let (code, scale) = api.patch(&path, crate::MERGE, &change).await;
    assert_eq!(
        (code, &scale["spec"]["replicas"]),
        (200, &json!(5)),
        "{scale}"
    );
    let scaled = told(&remote, "/scale");
    assert_eq!(scaled["kind"]["kind"], "Scale");
    assert_eq!(scaled["subResource"], "scale");
    assert_eq!(scaled["object"]["kind"], "Scale");
    assert_eq!(scaled["oldObject"]["spec"]["replicas"], 1);
    let (_, deployment) = api.get(&format!("{deployments}/d")).await;
    assert_eq!(deployment["spec"]["replicas"], 5);

    running_pod(&api, "p").await;
    let bound = told(&remote, "/binding");
    assert_eq!(
        (&bound["kind"]["kind"], &bound["name"]),
        (&json!("Binding"), &json!("p"))
    );
    assert_eq!(
        told(&remote, "/status")["object"]["status"]["phase"],
        "Running"
    );

    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    api.send("POST", accounts, &json!({"metadata": {"name": "s"}}))
        .await;
    let token = json!({"spec": {"audiences": ["x"]}});
    let (code, made) = api
        .send("POST", &format!("{accounts}/s/token"), &token)
        .await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(told(&remote, "/token")["kind"]["kind"], "TokenRequest");
}

#[tokio::test]
async fn connections_are_shown_with_their_options_and_evictions_as_such() {
    let remote = webhooks(|path, request| match path {
        "/attach" if request["object"]["stdin"] == true => denied("no input"),
        _ => allowed(),
    });
    let api = Daemon::start().await;
    let hooks = [
        about(&remote, "/eviction", "CREATE", "pods/eviction"),
        about(&remote, "/deleted", "DELETE", "pods"),
        about(&remote, "/attach", "CONNECT", "pods/attach"),
    ];
    configure(&api, &remote, "Mutating", "a", &hooks).await;
    running_pod(&api, "p").await;
    let attach = format!("{PODS}/p/attach?stdin=true&container=c");
    let (code, refused) = api.send("POST", &attach, &Value::Null).await;
    let said = "admission webhook \"attach.example.com\" denied the request: no input";
    assert_eq!(
        (code, &refused["message"]),
        (400, &json!(said)),
        "{refused}"
    );
    let attached = told(&remote, "/attach");
    assert_eq!(attached["operation"], "CONNECT");
    assert_eq!(
        attached["object"],
        json!({"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": true, "container": "c"})
    );
    assert_eq!(attached["options"], Value::Null);

    let eviction =
        json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "p"}});
    let (code, answer) = api
        .send("POST", &format!("{PODS}/p/eviction"), &eviction)
        .await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(told(&remote, "/eviction")["kind"]["kind"], "Eviction");
    assert!(
        asked(&remote, "/deleted").is_empty(),
        "an eviction is asked about once"
    );
}

#[tokio::test]
async fn a_webhook_cannot_lock_anybody_out() {
    let remote = webhooks(|_, _| denied("everything"));
    let api = Daemon::start().await;
    let rules = [rule(&["*"], "*/*")];
    let unmarked = json!({"objectSelector": {"matchExpressions": [{"key": "ready", "operator": "DoesNotExist"}]}});
    for kind in ["Mutating", "Validating"] {
        let name = kind.to_lowercase();
        let hook = hook(&remote, &format!("/{name}"), &rules, unmarked.clone());
        configure(&api, &remote, kind, &name, &[hook]).await;
    }
    assert_eq!(create(&api, "m").await.0, 400);
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, answer) = api.send("POST", reviews, &review).await;
    assert_eq!(
        (code, &answer["status"]["allowed"]),
        (201, &json!(true)),
        "{answer}"
    );
    let policy = json!({
        "metadata": {"name": "p"},
        "spec": {"matchConstraints": {"resourceRules": [rule(&["CREATE"], "pods")]}, "validations": [{"expression": "true"}]},
    });
    let (code, made) = api
        .send(
            "POST",
            &format!("{GROUP}/validatingadmissionpolicies"),
            &policy,
        )
        .await;
    assert_eq!(code, 201, "{made}");
    for kind in ["mutating", "validating"] {
        let path = format!("{GROUP}/{kind}webhookconfigurations/{kind}");
        let label = json!({"metadata": {"labels": {"x": "y"}}});
        assert_eq!(api.patch(&path, crate::MERGE, &label).await.0, 200);
        assert_eq!(api.send("DELETE", &path, &json!({})).await.0, 200);
    }
    eventually("the webhooks are gone", async || {
        create(&api, "m").await.0 == 201
    })
    .await;
}

#[tokio::test]
async fn conditions_say_about_what_webhooks_are_asked() {
    let remote = webhooks(|_, _| denied("its conditions hold"));
    let api = Daemon::start().await;
    let rules = [rule(&["CREATE", "UPDATE"], "configmaps")];
    let of = |path: &str, policy: &str, expression: &str| {
        let selector = json!({"matchLabels": {"do": &path[1..]}});
        let conditions = json!([{"name": "c", "expression": expression}]);
        let more = json!({"matchConditions": conditions, "failurePolicy": policy, "objectSelector": selector});
        hook(&remote, path, &rules, more)
    };
    let named = "object.metadata.name != 'skipped' && request.userInfo.username == 'admin' && oldObject == null";
    let hooks = [
        of("/named", "Fail", named),
        of("/fails", "Fail", "object.data.missing == 'x'"),
        of("/ignores", "Ignore", "object.data.missing == 'x'"),
        of(
            "/glass",
            "Fail",
            "!authorizer.requestResource.check('breakglass').allowed()",
        ),
    ];
    configure(&api, &remote, "Validating", "a", &hooks).await;
    let make = async |user: &User, name: &str, label: &str| {
        let mut map = config_map(name, json!({}));
        map["metadata"]["labels"] = json!({"do": label});
        let (code, answer) = user.send("POST", MAPS, &map).await;
        (
            code,
            answer["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(make(&api, "asked", "named").await.0, 400);
    assert_eq!(make(&api, "skipped", "named").await.0, 201);
    let (code, said) = make(&api, "f", "fails").await;
    let why = "configmaps \"f\" is forbidden: expression 'object.data.missing == 'x'' resulted in error: no such key: data";
    assert_eq!((code, said.as_str()), (403, why));
    assert_eq!(make(&api, "i", "ignores").await.0, 201);
    assert!(asked(&remote, "/ignores").is_empty());
    // Members of `system:masters` may break every glass; somebody else is asked about.
    assert_eq!(make(&api, "g", "glass").await.0, 201);
    let role = json!({
        "metadata": {"name": "maps"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}],
    });
    let binding = json!({
        "metadata": {"name": "maps"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maps"},
        "subjects": [{"kind": "User", "name": "somebody"}],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    assert_eq!(
        api.send("POST", &format!("{rbac}/clusterroles"), &role)
            .await
            .0,
        201
    );
    assert_eq!(
        api.send("POST", &format!("{rbac}/clusterrolebindings"), &binding)
            .await
            .0,
        201
    );
    let somebody = api.user("somebody");
    eventually("somebody may write", async || {
        make(&somebody, "h", "glass").await.0 != 403
    })
    .await;
    assert_eq!(make(&somebody, "h", "glass").await.0, 400);

    let skipped = "apiserver_admission_match_condition_exclusions_total{name=\"named.example.com\",kind=\"webhook\",type=\"validate\",operation=\"CREATE\"}";
    assert!(counted(&api, skipped).await >= 1.0);

    let mut wrong = of("/wrong", "Fail", "object.metadata.name == 1 +");
    wrong["name"] = "wrong.example.com".into();
    let object = json!({"metadata": {"name": "w"}, "webhooks": [wrong]});
    let (code, refused) = api
        .send(
            "POST",
            &format!("{GROUP}/validatingwebhookconfigurations"),
            &object,
        )
        .await;
    let said = refused["message"].as_str().unwrap();
    assert_eq!(code, 422);
    assert!(
        said.contains("webhooks[0].matchConditions[0].expression: Invalid value"),
        "{said}"
    );
    assert!(
        said.contains("compilation failed: ERROR: <input>:1:"),
        "{said}"
    );
}
