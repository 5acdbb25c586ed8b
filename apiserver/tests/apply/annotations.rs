//! Auditing: what events say of requests beside what was asked and answered.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use component::testing::Files;
use serde_json::{Value, json};

use super::MERGE;
use super::bearer::ask_over;
use super::daemon::Daemon;
use super::issuer::Key;
use super::remote::{Remote, json as answer};
use super::wire::Wire;

const DEFAULT: &str = "/api/v1/namespaces/default";
const AUTHORIZATION: [&str; 2] = [
    "authorization.k8s.io/decision",
    "authorization.k8s.io/reason",
];
const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
rules: [{level: Metadata}]
";

fn flags(files: &Files) -> Vec<String> {
    let policy = files.write("policy.yaml", POLICY);
    let log = policy.with_file_name("audit.log");
    vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log.display()),
    ]
}

async fn start() -> Daemon {
    Daemon::start_with(flags).await
}

/// The events of the request with an id, in order.
fn events(api: &Daemon, id: &str) -> Vec<Value> {
    let path = api.files().write("probe", "").with_file_name("audit.log");
    let text = std::fs::read_to_string(path).unwrap();
    let all = text
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    all.filter(|e| e["auditID"] == id).collect()
}

/// What an event says, without the authorizers' words.
fn said(event: &Value) -> BTreeMap<String, String> {
    let all = event["annotations"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    all.into_iter()
        .filter(|(key, _)| !AUTHORIZATION.contains(&key.as_str()))
        .map(|(key, value)| (key, value.as_str().unwrap().to_owned()))
        .collect()
}

fn pairs(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    of.iter().map(pair).collect()
}

/// Sends a request as the administrator; what its last event says beside the authorizers' words.
async fn ask(api: &Daemon, id: &str, line: &str, body: &Value) -> (u16, BTreeMap<String, String>) {
    let header = format!("Audit-ID: {id}");
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let wire = Wire::admin(api).await;
    let (code, _) = ask_over(wire, line, &[&header], &body).await;
    (code, said(events(api, id).last().unwrap()))
}

#[tokio::test]
async fn a_version_that_goes_away_is_recorded_as_such() {
    let api = start().await;
    let line = format!("GET {DEFAULT}/endpoints");
    let (code, told) = ask(&api, "old", &line, &Value::Null).await;
    assert_eq!(code, 200);
    assert_eq!(told, pairs(&[("k8s.io/deprecated", "true")]));
    let received = events(&api, "old")[0].clone();
    assert!(said(&received).is_empty(), "{received}");
    let line = format!("GET {DEFAULT}/configmaps");
    let (_, told) = ask(&api, "new", &line, &Value::Null).await;
    assert!(told.is_empty(), "{told:?}");
    // Somebody who may not ask has not asked.
    let wire = Wire::anonymous(&api).await;
    let line = format!("GET {DEFAULT}/endpoints");
    let (code, _) = ask_over(wire, &line, &["Audit-ID: nobody"], "").await;
    assert_eq!(code, 403);
    let refused = events(&api, "nobody").pop().unwrap();
    assert!(said(&refused).is_empty(), "{refused}");
    let text = api.text("/metrics").await;
    let gauge = "apiserver_requested_deprecated_apis{group=\"\",version=\"v1\",resource=\"endpoints\",subresource=\"\",removed_release=\"\"} 1";
    assert!(text.contains(gauge), "{text}");
}

#[tokio::test]
async fn a_token_is_recorded_by_its_id_when_it_is_issued_and_used() {
    let api = start().await;
    let account = json!({"metadata": {"name": "app"}});
    let accounts = format!("{DEFAULT}/serviceaccounts");
    assert_eq!(api.send("POST", &accounts, &account).await.0, 201);
    let header = "Audit-ID: issued";
    let wire = Wire::admin(&api).await;
    let line = format!("POST {accounts}/app/token");
    let (code, issued) = ask_over(wire, &line, &[header], r#"{"spec":{"audiences":[]}}"#).await;
    assert_eq!(code, 201, "{issued}");
    let event = events(&api, "issued").pop().unwrap();
    let told = said(&event);
    let id = &told["authentication.kubernetes.io/issued-credential-id"];
    assert!(id.starts_with("JTI="), "{id}");
    let token = issued["status"]["token"].as_str().unwrap();
    assert!(
        !event.to_string().contains(token),
        "tokens are never recorded"
    );

    let used = ["Audit-ID: used", &format!("Authorization: Bearer {token}")];
    let wire = Wire::anonymous(&api).await;
    let (code, _) = ask_over(wire, &format!("GET {DEFAULT}/configmaps"), &used, "").await;
    assert_eq!(code, 403);
    let event = events(&api, "used").pop().unwrap();
    let by = &event["user"]["extra"]["authentication.kubernetes.io/credential-id"];
    assert_eq!(by, &json!([id]));
    assert!(
        !event.to_string().contains(token),
        "tokens are never recorded"
    );
}

#[tokio::test]
async fn old_tokens_are_recorded_with_their_secrets() {
    let api = start().await;
    let account = json!({"metadata": {"name": "old"}, "secrets": [{"name": "generated"}]});
    let accounts = format!("{DEFAULT}/serviceaccounts");
    let (code, account) = api.send("POST", &accounts, &account).await;
    assert_eq!(code, 201, "{account}");
    let key = Key::read("", api.signing_key());
    let name = "system:serviceaccount:default:old";
    for (secret, kind) in [("by-hand", "manual"), ("generated", "autogenerated")] {
        let claims = json!({
            "iss": "kubernetes/serviceaccount", "sub": name,
            "kubernetes.io/serviceaccount/namespace": "default",
            "kubernetes.io/serviceaccount/service-account.name": "old",
            "kubernetes.io/serviceaccount/service-account.uid": account["metadata"]["uid"],
            "kubernetes.io/serviceaccount/secret.name": secret,
        });
        let token = key.sign(&json!({"alg": "ES256"}), &claims);
        let object = json!({
            "metadata": {"name": secret, "annotations": {"kubernetes.io/service-account.name": "old"}},
            "type": "kubernetes.io/service-account-token",
            "data": {"token": BASE64_STANDARD.encode(&token)},
        });
        let (code, made) = api
            .send("POST", &format!("{DEFAULT}/secrets"), &object)
            .await;
        assert_eq!(code, 201, "{made}");
        let key = format!("authentication.k8s.io/legacy-token-{kind}-secret");
        let wanted = pairs(&[
            ("authentication.k8s.io/legacy-token", name),
            (key.as_str(), secret),
        ]);
        // The second time it is remembered.
        for time in ["first", "second"] {
            let id = format!("{secret}-{time}");
            let headers = [
                format!("Audit-ID: {id}"),
                format!("Authorization: Bearer {token}"),
            ];
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            let wire = Wire::anonymous(&api).await;
            let line = format!("GET {DEFAULT}/configmaps");
            let (code, _) = ask_over(wire, &line, &headers, "").await;
            assert_eq!(code, 403);
            let all = events(&api, &id);
            assert_eq!(all.len(), 2, "{all:?}");
            // From the first event on.
            for event in &all {
                assert_eq!(said(event), wanted, "{event}");
            }
        }
    }
}

#[tokio::test]
async fn what_pod_security_thinks_of_a_pod_is_recorded() {
    let api = start().await;
    for (name, labels) in [
        ("open", json!({})),
        (
            "strict",
            json!({"enforce": "baseline", "audit": "restricted", "warn": "privileged"}),
        ),
        ("watched", json!({"audit": "baseline"})),
    ] {
        let labels = labels.as_object().unwrap().iter();
        let labels: Value = labels
            .map(|(mode, level)| (format!("pod-security.kubernetes.io/{mode}"), level.clone()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let namespace = json!({"metadata": {"name": name, "labels": labels}});
        let (code, made) = api.send("POST", "/api/v1/namespaces", &namespace).await;
        assert_eq!(code, 201, "{made}");
    }
    let pod = |spec: &Value| {
        let mut pod = json!({"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        for (field, value) in spec.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        pod
    };
    let template = json!({
        "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    const ENFORCED: &str = "pod-security.kubernetes.io/enforce-policy";
    const VIOLATED: &str = "pod-security.kubernetes.io/audit-violations";
    let careless = "would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    let host = "would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    let (plain, on_host) = (pod(&json!({})), pod(&json!({"hostNetwork": true})));
    let pods = |namespace: &str| format!("POST /api/v1/namespaces/{namespace}/pods");
    for (id, line, body, code, wanted) in [
        (
            "1",
            pods("open"),
            &on_host,
            201,
            pairs(&[(ENFORCED, "privileged:latest")]),
        ),
        (
            "2",
            pods("strict"),
            &plain,
            201,
            pairs(&[(ENFORCED, "baseline:latest"), (VIOLATED, careless)]),
        ),
        (
            "3",
            pods("watched"),
            &on_host,
            201,
            pairs(&[(ENFORCED, "privileged:latest"), (VIOLATED, host)]),
        ),
        // What is made of a template is judged when it is made.
        (
            "4",
            "POST /apis/apps/v1/namespaces/watched/deployments".to_owned(),
            &template,
            201,
            pairs(&[(VIOLATED, host)]),
        ),
    ] {
        assert_eq!(ask(&api, id, &line, body).await, (code, wanted), "{line}");
    }
    let (code, told) = ask(&api, "5", &pods("strict"), &on_host).await;
    assert_eq!(code, 403);
    assert_eq!(told[ENFORCED], "baseline:latest");
    assert!(told[VIOLATED].contains("hostNetwork=true"), "{told:?}");
    let labels =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let (code, warned) = api.patch("/api/v1/namespaces/open", MERGE, &labels).await;
    assert_eq!(code, 200, "{warned}");
}

#[tokio::test]
async fn a_request_that_took_long_says_what_took_it() {
    let slow = Remote::start(|asked| {
        Box::pin(async move {
            let user = asked.json()["spec"]["user"].clone();
            if user == "slow" {
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
            answer(200, &json!({"status": {"allowed": true}}))
        })
    });
    let api = Daemon::start_with(|files| {
        let mut flags = flags(files);
        let kubeconfig = slow.kubeconfig(files, "webhook.kubeconfig", "/authorize");
        flags.push("--authorization-mode=Webhook".to_owned());
        flags.push(format!("--authorization-webhook-config-file={kubeconfig}"));
        flags
    })
    .await;
    let (_, ca) = api.place();
    let line = format!("GET {DEFAULT}/configmaps");
    for (user, long) in [("quick", false), ("slow", true)] {
        let wire = Wire::with(&api, &ca.client(user, &[])).await;
        let header = format!("Audit-ID: {user}");
        let (code, _) = ask_over(wire, &line, &[&header], "").await;
        assert_eq!(code, 200);
        let event = events(&api, user).pop().unwrap();
        let told = said(&event);
        assert_eq!(told.is_empty(), !long, "{event}");
        if long {
            let seconds = |part: &str| {
                let text = &told[&format!("apiserver.latency.k8s.io/{part}")];
                let parsed = proto::time::parse_duration(text);
                parsed.unwrap().as_secs_f64()
            };
            let (part, total) = (seconds("authorization"), seconds("total"));
            assert!(part >= 0.7 && total >= part, "{told:?}");
            assert!(seconds("authentication") < 0.5, "{told:?}");
        }
    }
}
