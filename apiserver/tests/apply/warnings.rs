//! Warnings on the wire: of strategies and of versions that go away.

use serde_json::{Value, json};

use super::daemon::Daemon;
use super::wire::Wire;

/// The first line of an answer, and the texts of its warnings, in lower case.
pub(crate) async fn ask(api: &Daemon, line: &str, body: &Value) -> (String, Vec<String>) {
    let mut wire = Wire::admin(api).await;
    let headers = ["Connection: close", "Content-Type: application/json"];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let head = wire.ask(line, &headers, &body).await;
    let status = head.lines().next().unwrap_or_default().to_owned();
    let warnings = head
        .lines()
        .filter_map(|line| line.strip_prefix("warning: 299 - "));
    (status, warnings.map(str::to_owned).collect())
}

#[tokio::test]
async fn answers_should_carry_the_warnings_of_strategies() {
    let api = Daemon::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service = json!({
        "metadata": {"name": "s"},
        "spec": {
            "ports": [{"port": 80}],
            "externalIPs": ["FD00::1"],
            "trafficDistribution": "PreferClose",
        },
    });
    let told = [
        "\"spec.externalips[0]: ipv6 address \\\"fd00::1\\\" should be in rfc 5952 canonical format (\\\"fd00::1\\\")\"",
        "\"spec.externalips is deprecated and may no longer be implemented in some clusters\"",
        "\"spec.trafficdistribution: \\\"preferclose\\\" is deprecated; use \\\"prefersamezone\\\"\"",
    ];
    let told = told.map(str::to_owned);
    let (status, warnings) = ask(&api, &format!("POST {services}"), &service).await;
    assert_eq!(
        (status.as_str(), &warnings[..]),
        ("http/1.1 201 created", &told[..])
    );
    let (code, mut made) = api.get(&format!("{services}/s")).await;
    assert_eq!(code, 200, "{made}");
    made["metadata"]["labels"] = json!({"a": "b"});
    let line = format!("PUT {services}/s");
    let (status, warnings) = ask(&api, &line, &made).await;
    assert_eq!(
        (status.as_str(), &warnings[..]),
        ("http/1.1 200 ok", &told[..])
    );

    // The template of a deployment is read again when it changes, not on every write.
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {
                    "nodeSelector": {"beta.kubernetes.io/os": "linux"},
                    "containers": [{"name": "c", "image": "i"}],
                },
            },
        },
    });
    let told = [
        "\"spec.template.spec.nodeselector[beta.kubernetes.io/os]: deprecated since v1.14; use \\\"kubernetes.io/os\\\" instead\"",
    ];
    let (status, warnings) = ask(&api, &format!("POST {deployments}"), &deployment).await;
    assert_eq!(
        (status.as_str(), &warnings[..]),
        ("http/1.1 201 created", &told.map(str::to_owned)[..])
    );
    let (_, mut made) = api.get(&format!("{deployments}/d")).await;
    let line = format!("PUT {deployments}/d");
    made["metadata"]["labels"] = json!({"a": "b"});
    let (status, warnings) = ask(&api, &line, &made).await;
    assert_eq!((status.as_str(), warnings.len()), ("http/1.1 200 ok", 0));
    let (_, mut made) = api.get(&format!("{deployments}/d")).await;
    made["spec"]["replicas"] = json!(1);
    let (_, warnings) = ask(&api, &line, &made).await;
    assert_eq!(warnings, told);
}

#[tokio::test]
async fn deletions_of_jobs_should_say_what_becomes_of_pods() {
    let api = Daemon::start().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let spec = json!({"template": {"spec": {
        "restartPolicy": "Never",
        "containers": [{"name": "c", "image": "i"}],
    }}});
    for name in ["a", "b"] {
        let job = json!({"metadata": {"name": name}, "spec": spec});
        let (code, made) = api.send("POST", jobs, &job).await;
        assert_eq!(code, 201, "{made}");
    }
    let told = "\"child pods are preserved by default when jobs are deleted; set propagationpolicy=background to remove them or set propagationpolicy=orphan to suppress this warning\"";
    let none = Value::Null;
    let (_, warnings) = ask(&api, &format!("DELETE {jobs}/a"), &none).await;
    assert_eq!(warnings, [told]);
    let line = format!("DELETE {jobs}/b?propagationPolicy=Background");
    let (_, warnings) = ask(&api, &line, &none).await;
    assert!(warnings.is_empty(), "{warnings:?}");
    let (_, warnings) = ask(&api, &format!("DELETE {jobs}"), &none).await;
    assert_eq!(warnings, [told]);
}

#[tokio::test]
async fn every_answer_of_a_version_that_goes_away_should_say_so() {
    let api = Daemon::start().await;
    let told = ["\"v1 endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 endpointslice\""];
    let endpoints = "/api/v1/namespaces/default/endpoints";
    let made = json!({"metadata": {"name": "e"}});
    for (line, body, status) in [
        (format!("POST {endpoints}"), &made, "http/1.1 201 created"),
        (format!("GET {endpoints}"), &Value::Null, "http/1.1 200 ok"),
        (
            format!("GET {endpoints}/e"),
            &Value::Null,
            "http/1.1 200 ok",
        ),
        (
            format!("GET {endpoints}/none"),
            &Value::Null,
            "http/1.1 404 not found",
        ),
        (
            format!("DELETE {endpoints}/e"),
            &Value::Null,
            "http/1.1 200 ok",
        ),
    ] {
        let (first, warnings) = ask(&api, &line, body).await;
        assert_eq!(
            (first.as_str(), warnings),
            (status, told.map(str::to_owned).to_vec()),
            "{line}"
        );
    }
    let line = "GET /apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let (status, warnings) = ask(&api, line, &Value::Null).await;
    assert_eq!((status.as_str(), warnings.len()), ("http/1.1 200 ok", 0));
}
