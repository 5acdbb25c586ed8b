//! Validating policies: refusals, warnings, parameters, failures.

use serde_json::{Value, json};

use super::super::MERGE;
use super::super::daemon::{Daemon, eventually};
use super::super::warnings::ask;
use super::{GROUP, MAPS, bind, config_map, create, make, maps, message, object, rule, validating};

#[tokio::test]
async fn a_validation_that_fails_refuses_the_write_with_its_reason() {
    let api = Daemon::start().await;
    let spec = json!({
        "matchConstraints": maps(&["CREATE", "UPDATE"]),
        "matchConditions": [{"name": "not-exempt", "expression": "!('exempt' in object.data)"}],
        "variables": [
            {"name": "size", "expression": "object.data.?size.orValue('0')"},
            {"name": "number", "expression": "int(variables.size)"},
        ],
        "validations": [
            {"expression": "variables.number < 10", "messageExpression": "'size ' + variables.size + ' in ' + namespaceObject.metadata.name", "reason": "Forbidden"},
            {"expression": "request.operation == 'CREATE' || object.data == oldObject.data", "message": "data stays", "reason": "RequestEntityTooLarge"},
            {"expression": "!('secret' in object.data)"},
            {"expression": "!('nodes' in object.data) || authorizer.group('').resource('nodes').check('list').allowed()"},
        ],
    });
    validating(&api, "size", spec, json!({})).await;
    let (code, status) = create(&api, "a", json!({"size": "12"})).await;
    assert_eq!(
        (code, status["reason"].as_str()),
        (403, Some("Forbidden")),
        "{status}"
    );
    let told = "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'size' with binding 'size' denied request: size 12 in default";
    assert_eq!(message(&status), told);
    let cause = status["details"]["causes"][0]["message"].as_str().unwrap();
    assert_eq!(
        Some(cause),
        told.strip_prefix("configmaps \"a\" is forbidden: ")
    );
    let (code, status) = create(&api, "b", json!({"secret": "x"})).await;
    assert_eq!(
        (code, status["reason"].as_str()),
        (422, Some("Invalid")),
        "{status}"
    );
    assert!(
        message(&status).ends_with("failed expression: !('secret' in object.data)"),
        "{status}"
    );
    let (code, status) = create(&api, "c", json!({"size": "x"})).await;
    assert_eq!(code, 422, "{status}");
    assert!(
        message(&status)
            .contains("composited variable \"number\" fails to evaluate: type conversion error"),
        "{status}"
    );
    assert_eq!(
        create(&api, "d", json!({"size": "12", "exempt": ""}))
            .await
            .0,
        201
    );
    assert_eq!(
        create(&api, "e", json!({"nodes": ""})).await.0,
        201,
        "the administrator may"
    );
    assert_eq!(create(&api, "f", json!({"size": "9"})).await.0, 201);
    let path = format!("{MAPS}/f");
    let (code, status) = api
        .patch(&path, MERGE, &json!({"data": {"size": "8"}}))
        .await;
    assert_eq!(
        (code, status["reason"].as_str()),
        (413, Some("RequestEntityTooLarge")),
        "{status}"
    );
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(api.patch(&path, MERGE, &labels).await.0, 200);
}

#[tokio::test]
async fn what_somebody_may_is_asked_for_him() {
    let api = Daemon::start().await;
    let spec = json!({
        "matchConstraints": maps(&["CREATE"]),
        "validations": [{"expression": "authorizer.group('').resource('configmaps').namespace(request.namespace).name(object.metadata.name).check('use').allowed() && !authorizer.serviceAccount('default', 'default').path('/x').check('get').allowed()"}],
    });
    validating(&api, "use", spec, json!({})).await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["own"], "verbs": ["use"]},
    ]);
    make(
        &api,
        &format!("{roles}/roles"),
        &json!({"metadata": {"name": "r"}, "rules": rules}),
    )
    .await;
    let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"});
    let bound = json!({"metadata": {"name": "r"}, "roleRef": role, "subjects": [subject]});
    make(&api, &format!("{roles}/rolebindings"), &bound).await;
    let ann = api.user("ann");
    eventually("the role is in force", async || {
        create(&ann, "own", json!({})).await.0 != 403
    })
    .await;
    let (code, status) = create(&ann, "other", json!({})).await;
    assert_eq!(code, 422, "{status}");
    assert_eq!(api.get(&format!("{MAPS}/own")).await.0, 200);
}

#[tokio::test]
async fn warnings_and_records_let_the_write_pass() {
    let api = Daemon::start_with(|files| {
        let rules = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- {level: Metadata, resources: [{resources: [configmaps]}]}\n";
        let policy = files.write("policy.yaml", rules);
        let log = policy.with_file_name("audit.log");
        vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", log.display()),
        ]
    })
    .await;
    let spec = json!({
        "matchConstraints": maps(&["CREATE"]),
        "validations": [{"expression": "object.metadata.name != 'bad'", "message": "it is bad"}],
        "auditAnnotations": [
            {"key": "name", "valueExpression": "'called ' + object.metadata.name"},
            {"key": "never", "valueExpression": "null"},
        ],
    });
    validating(&api, "soft", spec, json!({})).await;
    let path = format!("{GROUP}/validatingadmissionpolicybindings/soft");
    let actions = json!({"spec": {"validationActions": ["Warn", "Audit"]}});
    assert_eq!(api.patch(&path, MERGE, &actions).await.0, 200);
    eventually("what fails is let pass", async || {
        let (code, _) = api
            .send(
                "POST",
                &format!("{MAPS}?dryRun=All"),
                &config_map("bad", json!({})),
            )
            .await;
        code == 201
    })
    .await;
    let line = format!("POST {MAPS}");
    let (status, warnings) = ask(&api, &line, &config_map("bad", json!({}))).await;
    assert!(status.contains("201"), "{status}");
    // Heads are read in small letters.
    let warning =
        "\"Validation failed for ValidatingAdmissionPolicy 'soft' with binding 'soft': it is bad\"";
    assert_eq!(warnings, [warning.to_lowercase()]);
    let log = api.files().write("probe", "").with_file_name("audit.log");
    let text = std::fs::read_to_string(log).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let event = events
        .iter()
        .rfind(|e| e["objectRef"]["name"] == "bad" && e["requestURI"] == MAPS)
        .unwrap();
    let annotations = &event["annotations"];
    assert_eq!(annotations["soft/name"], "called bad");
    assert!(annotations.get("soft/never").is_none());
    let failures = annotations["validation.policy.admission.k8s.io/validation_failure"]
        .as_str()
        .unwrap();
    let wanted = r#"[{"message":"it is bad","policy":"soft","binding":"soft","expressionIndex":0,"validationActions":["Warn","Audit"]}]"#;
    assert_eq!(failures, wanted);
    let metrics = api.text("/metrics").await;
    let series = "apiserver_validating_admission_policy_check_total{policy=\"soft\",policy_binding=\"soft\",error_type=\"invalid_error\",enforcement_action=\"warn\"}";
    assert!(metrics.contains(series), "{series}");
}

#[tokio::test]
async fn annotations_cannot_ask_the_authorizer() {
    let api = Daemon::start().await;
    let value = "object.data.?ask.orValue('') == '' ? 'no' : string(authorizer.path('/x').check('get').allowed())";
    let spec = json!({
        "matchConstraints": maps(&["CREATE"]),
        "validations": [],
        "auditAnnotations": [{"key": "may", "valueExpression": value}],
    });
    validating(&api, "may", spec, json!({})).await;
    assert_eq!(create(&api, "a", json!({"k": "v"})).await.0, 201);
    let (code, status) = create(&api, "b", json!({"ask": "x"})).await;
    assert_eq!(code, 422, "{status}");
    let told = "resulted in error: no such attribute(s): authorizer";
    assert!(message(&status).ends_with(told), "{status}");
}

#[tokio::test]
async fn parameters_come_by_name_or_by_selector() {
    let api = Daemon::start().await;
    let limits = |name: &str, max: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}, "data": {"max": max}});
    make(&api, MAPS, &limits("ten", "10", json!({"limits": "yes"}))).await;
    make(&api, MAPS, &limits("five", "5", json!({"limits": "yes"}))).await;
    let secrets = json!({"resourceRules": [rule(&["CREATE"], "", "secrets")]});
    let spec = |policy: &str| {
        json!({
            "failurePolicy": policy,
            "matchConstraints": secrets,
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "validations": [{"expression": "params == null || size(object.data) < int(params.data.max)", "messageExpression": "params.kind + ' ' + params.metadata.name"}],
        })
    };
    let path = format!("{GROUP}/validatingadmissionpolicies");
    make(
        &api,
        &path,
        &object("ValidatingAdmissionPolicy", "limit", &spec("Fail")),
    )
    .await;
    let named = |name: &str| json!({"paramRef": {"name": name, "parameterNotFoundAction": "Deny"}});
    let send = async |count: usize| {
        let data: Value = (0..count)
            .map(|i| (format!("k{i}"), json!("eA==")))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let secret = json!({"metadata": {"name": "s"}, "data": data});
        api.send(
            "POST",
            "/api/v1/namespaces/default/secrets?dryRun=All",
            &secret,
        )
        .await
    };
    let told = async |what: &str, count: usize, wanted: &str| {
        eventually(what, async || {
            message(&send(count).await.1).ends_with(wanted)
        })
        .await;
    };
    bind(&api, "Validating", "ten", "limit", named("ten")).await;
    told(
        "the named one counts",
        10,
        "with binding 'ten' denied request: ConfigMap ten",
    )
    .await;
    assert_eq!(send(9).await.0, 201);
    let selector = json!({"paramRef": {"selector": {"matchLabels": {"limits": "yes"}}, "parameterNotFoundAction": "Deny"}});
    bind(&api, "Validating", "all", "limit", selector).await;
    told(
        "all that are selected count",
        6,
        "with binding 'all' denied request: ConfigMap five",
    )
    .await;
    assert_eq!(send(4).await.0, 201);
    let change = json!({"data": {"max": "3"}});
    assert_eq!(
        api.patch(&format!("{MAPS}/five"), MERGE, &change).await.0,
        200
    );
    told("a change of parameters counts", 4, "ConfigMap five").await;
    for name in ["all", "ten"] {
        let path = format!("{GROUP}/validatingadmissionpolicybindings/{name}");
        assert_eq!(api.send("DELETE", &path, &json!({})).await.0, 200);
    }
    bind(&api, "Validating", "none", "limit", named("none")).await;
    told("none is denied", 1, "with binding 'none' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction").await;
    let (code, made) = api
        .patch(
            &format!("{path}/limit"),
            MERGE,
            &json!({"spec": {"failurePolicy": "Ignore"}}),
        )
        .await;
    assert_eq!(code, 200, "{made}");
    eventually("failures are ignored", async || send(1).await.0 == 201).await;
    let unknown = json!({"spec": {"failurePolicy": "Fail", "paramKind": {"apiVersion": "example.com/v1", "kind": "Limit"}}});
    assert_eq!(
        api.patch(&format!("{path}/limit"), MERGE, &unknown).await.0,
        200
    );
    told("a kind that nothing serves is told", 1, "ValidatingAdmissionPolicy 'limit' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limit'").await;
}

#[tokio::test]
async fn a_binding_narrows_and_policies_do_not_lock_anybody_out() {
    let api = Daemon::start().await;
    let spec = json!({
        "matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}], "excludeResourceRules": [rule(&["*"], "", "secrets")]},
        "validations": [{"expression": "request.resource.resource == 'configmaps' && object != null && object.metadata.name.startsWith('probe') && false"}],
    });
    let only = json!({"matchResources": {"objectSelector": {"matchLabels": {"policy": "yes"}}}});
    let path = format!("{GROUP}/validatingadmissionpolicies");
    make(
        &api,
        &path,
        &object("ValidatingAdmissionPolicy", "all", &spec),
    )
    .await;
    bind(&api, "Validating", "all", "all", only).await;
    let labelled = |name: &str, value: &str| {
        let mut map = config_map(name, json!({}));
        map["metadata"]["labels"] = json!({"policy": value});
        map
    };
    eventually("the policy is in force", async || {
        api.send("POST", MAPS, &labelled("a", "yes")).await.0 == 422
    })
    .await;
    assert_eq!(api.send("POST", MAPS, &labelled("b", "no")).await.0, 201);
    let secret = json!({"metadata": {"name": "s", "labels": {"policy": "yes"}}});
    assert_eq!(
        api.send("POST", "/api/v1/namespaces/default/secrets", &secret)
            .await
            .0,
        201,
        "it is excluded"
    );
    let (code, status) = api
        .patch(
            &format!("{MAPS}/b"),
            MERGE,
            &json!({"metadata": {"labels": {"policy": "yes"}}}),
        )
        .await;
    assert_eq!(code, 422, "{status}");
    let labels = json!({"metadata": {"labels": {"policy": "yes"}}});
    assert_eq!(
        api.patch(&format!("{path}/all"), MERGE, &labels).await.0,
        200,
        "policies are exempt"
    );
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(
        api.send("POST", reviews, &review).await.0,
        201,
        "so are reviews"
    );
    assert_eq!(
        api.send("DELETE", &format!("{path}/all"), &json!({}))
            .await
            .0,
        200
    );
    eventually("the policy is gone", async || {
        api.send("POST", &format!("{MAPS}?dryRun=All"), &labelled("c", "yes"))
            .await
            .0
            == 201
    })
    .await;
}

#[tokio::test]
async fn a_policy_sees_objects_in_the_version_of_its_rule() {
    let api = Daemon::start().await;
    let spec = json!({
        "matchConstraints": {"resourceRules": [rule(&["CREATE", "DELETE"], "autoscaling", "horizontalpodautoscalers")]},
        "validations": [{"expression": "request.operation == 'DELETE' ? oldObject.metadata.name != 'kept' : object.apiVersion == 'autoscaling/v1' && object.spec.targetCPUUtilizationPercentage < 90 && request.requestKind.version == 'v2' && request.kind.version == 'v1'"}],
    });
    let path = format!("{GROUP}/validatingadmissionpolicies");
    make(
        &api,
        &path,
        &object("ValidatingAdmissionPolicy", "v1", &spec),
    )
    .await;
    bind(&api, "Validating", "v1", "v1", json!({})).await;
    let scalers = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let scaler = |name: &str, percent: u32| {
        json!({"metadata": {"name": name}, "spec": {
            "maxReplicas": 2,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}}],
        }})
    };
    eventually("the policy is in force", async || {
        api.send("POST", &format!("{scalers}?dryRun=All"), &scaler("a", 95))
            .await
            .0
            == 422
    })
    .await;
    make(&api, scalers, &scaler("kept", 80)).await;
    let (code, status) = api
        .send("DELETE", &format!("{scalers}/kept"), &json!({}))
        .await;
    assert_eq!(code, 422, "{status}");
    let (code, status) = api.send("DELETE", scalers, &json!({})).await;
    assert_eq!(code, 422, "{status}");
}
