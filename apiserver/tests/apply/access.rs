//! Authorizers of the configuration: webhooks, policies in a file, the order of all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use component::testing::Files;
use http::StatusCode;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::remote::{Asked, Remote, json as answer};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Ann may list what has a label, Bob may do nothing, of others the server has no opinion; whoever is
/// called after a code gets that for an answer.
fn decider() -> Remote {
    Remote::start(|asked| {
        let review = asked.json();
        let user = review["spec"]["user"].as_str().unwrap().to_owned();
        if let Ok(code) = user.parse::<u16>() {
            return Box::pin(std::future::ready(answer(code, &json!({}))));
        }
        let selects = &review["spec"]["resourceAttributes"]["labelSelector"]["requirements"];
        let labelled = json!([{"key": "for", "operator": "In", "values": ["ann"]}]);
        let status = match user.as_str() {
            "ann" if *selects == labelled => json!({"allowed": true, "reason": "it is hers"}),
            "bob" => json!({"allowed": false, "denied": true, "reason": "not Bob"}),
            "confused" => json!({"allowed": true, "denied": true}),
            _ => json!({"allowed": false, "reason": "who is that"}),
        };
        let mut decided = review.clone();
        decided["status"] = status;
        Box::pin(std::future::ready(answer(201, &decided)))
    })
}

fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap()
}

#[tokio::test]
async fn a_webhook_is_asked_what_roles_do_not_allow() {
    let remote = decider();
    let api = Daemon::start_with(|files| {
        let kubeconfig = remote.kubeconfig(files, "webhook.kubeconfig", "/authorize");
        vec![
            "--authorization-mode=Webhook".to_owned(),
            format!("--authorization-webhook-config-file={kubeconfig}"),
            "--authorization-webhook-version=v1".to_owned(),
        ]
    })
    .await;
    let ann = api.user("ann");
    let hers = format!("{MAPS}?labelSelector=for%3Dann");
    let (code, list) = ann.get(&hers).await;
    assert_eq!(code, 200, "{list}");
    let of_ann = |asked: &Asked| asked.json()["spec"]["user"] == "ann";
    let asked: Vec<Asked> = remote.asked().into_iter().filter(of_ann).collect();
    let [question] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert_eq!(question.path, "/authorize");
    assert_eq!(question.authorization, "Bearer from-the-api-server");
    let review = question.json();
    assert_eq!(review["apiVersion"], "authorization.k8s.io/v1");
    assert_eq!(review["spec"]["groups"], json!(["system:authenticated"]));
    let mut attributes = review["spec"]["resourceAttributes"].clone();
    attributes.as_object_mut().unwrap().remove("labelSelector");
    assert_eq!(
        attributes,
        json!({"namespace": "default", "verb": "list", "version": "v1", "resource": "configmaps"})
    );
    assert_eq!(ann.get(&hers).await.0, 200);
    let (code, status) = ann.get(MAPS).await;
    assert_eq!(code, 403);
    assert!(
        message(&status).ends_with("in the namespace \"default\": default: who is that"),
        "{status}"
    );
    ann.get(MAPS).await;
    let asked = remote.asked().into_iter().filter(of_ann).count();
    assert_eq!(asked, 2, "both answers are remembered");

    let (code, status) = api.user("bob").get(MAPS).await;
    assert_eq!(code, 403);
    assert!(
        message(&status).ends_with("in the namespace \"default\": not Bob"),
        "{status}"
    );
    // What roles allow is not asked, and masters are not either.
    assert_eq!(api.user("bob").get("/api").await.0, 200);
    assert_eq!(api.get(MAPS).await.0, 200);
    // Who gives no answer has no opinion, but a request that is not allowed then is an error.
    for broken in ["503", "404", "confused"] {
        let (code, status) = api.user(broken).get(MAPS).await;
        assert_eq!(code, 500, "{status}");
        assert_eq!(api.user(broken).get("/api").await.0, 200);
    }
    review_of(&api, "bob", false, "not Bob").await;
    review_of(&api, "ann", true, "it is hers").await;
    let text = api.text("/metrics").await;
    for line in [
        "apiserver_authorization_decisions_total{type=\"Webhook\",name=\"default\",decision=\"denied\"}",
        "apiserver_authorization_decisions_total{type=\"RBAC\",name=\"rbac\",decision=\"allowed\"}",
        "apiserver_authorization_webhook_evaluations_total{name=\"default\",result=\"success\"}",
        "apiserver_authorization_webhook_evaluations_fail_open_total{name=\"default\",result=\"error\"}",
        "apiserver_authorization_webhook_duration_seconds_count{name=\"default\",result=\"error\"}",
        "authorization_attempts_total{result=\"error\"}",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// What a review says, which asks as requests do.
async fn review_of(api: &Daemon, user: &str, allowed: bool, reason: &str) {
    let review = json!({"spec": {
        "user": user,
        "resourceAttributes": {
            "verb": "list", "resource": "configmaps", "namespace": "default", "version": "v1",
            "labelSelector": {"requirements": [{"key": "for", "operator": "In", "values": ["ann"]}]},
        },
    }});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let (code, review) = api.send("POST", path, &review).await;
    assert_eq!(code, 201, "{review}");
    assert_eq!(review["status"]["allowed"], allowed, "{review}");
    assert_eq!(review["status"]["reason"], reason, "{review}");
}

#[tokio::test]
async fn a_policy_file_allows_what_its_lines_say() {
    let api = Daemon::start_with(|files| {
        let lines = concat!(
            "# policies\n\n",
            r#"{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","#,
            r#""spec":{"user":"ann","namespace":"default","resource":"configmaps","readonly":true}}"#,
            "\n",
        );
        let policy = files.write("policy.jsonl", lines);
        vec![
            "--authorization-mode=ABAC".to_owned(),
            format!("--authorization-policy-file={}", policy.display()),
        ]
    })
    .await;
    let ann = api.user("ann");
    assert_eq!(ann.get(MAPS).await.0, 200);
    let (code, status) = ann
        .send("POST", MAPS, &super::config_map("m", json!({})))
        .await;
    assert_eq!(code, 403);
    assert!(
        message(&status).ends_with(": abac: No policy matched."),
        "{status}"
    );
    assert_eq!(api.user("bob").get(MAPS).await.0, 403);
}

/// Writes the file of authorization; its path.
fn configure(files: &Files, authorizers: &[Value]) -> String {
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": authorizers,
    });
    let path = files.write("authorization.json", &config.to_string());
    path.display().to_string()
}

fn webhook(name: &str, kubeconfig: &str, policy: &str) -> Value {
    json!({"type": "Webhook", "name": name, "webhook": {
        "timeout": "1s", "authorizedTTL": "1ms", "unauthorizedTTL": "1ms",
        "subjectAccessReviewVersion": "v1", "failurePolicy": policy,
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": kubeconfig},
    }})
}

#[tokio::test]
async fn a_file_of_authorizers_takes_effect_when_it_changes() {
    let remote = decider();
    let roles = json!({"type": "RBAC", "name": "rbac"});
    let mut kubeconfig = String::new();
    let api = Daemon::start_with(|files| {
        kubeconfig = remote.kubeconfig(files, "webhook.kubeconfig", "/authorize");
        let file = configure(files, std::slice::from_ref(&roles));
        vec![format!("--authorization-config={file}")]
    })
    .await;
    let bob = api.user("bob");
    assert_eq!(bob.get("/api").await.0, 200);
    let before = webhook("before", &kubeconfig, "Deny");
    configure(api.files(), &[before.clone(), roles.clone()]);
    let start = Instant::now();
    while bob.get("/api").await.0 != 403 {
        assert!(start.elapsed() < Duration::from_secs(60), "not read again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Here no answer is a no, also where roles would allow it.
    for broken in ["503", "confused"] {
        let (code, status) = api.user(broken).get("/api").await;
        assert_eq!(code, 500, "{status}");
    }
    assert_eq!(api.user("nobody").get("/api").await.0, 200);
    // A file without an authorizer that the server began with is not taken.
    configure(api.files(), &[before]);
    let failed = async || {
        let text = api.text("/metrics").await;
        let name = "apiserver_authorization_config_controller_automatic_reloads_total";
        text.lines()
            .any(|l| l.starts_with(&format!("{name}{{status=\"failure\"")) && l.ends_with(" 1"))
    };
    let start = Instant::now();
    while !failed().await {
        assert!(start.elapsed() < Duration::from_secs(60), "not counted");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(api.user("nobody").get("/api").await.0, 200);
}

#[tokio::test]
async fn a_webhook_is_asked_only_what_its_conditions_let_through() {
    let remote = decider();
    let api = Daemon::start_with(|files| {
        let kubeconfig = remote.kubeconfig(files, "webhook.kubeconfig", "/authorize");
        let conditioned = |name: &str, policy: &str, conditions: &[&str]| {
            let mut hook = webhook(name, &kubeconfig, policy);
            let conditions = conditions.iter().map(|c| json!({"expression": c}));
            let of = hook["webhook"].as_object_mut().unwrap();
            of.insert("matchConditionSubjectAccessReviewVersion".into(), json!("v1"));
            of.insert("matchConditions".into(), conditions.collect());
            hook
        };
        let hers = "request.resourceAttributes.?labelSelector.requirements[0].values.orValue([]) == ['ann']";
        let maps = "has(request.resourceAttributes) && request.resourceAttributes.resource == 'configmaps'";
        let team = "request.extra['team'][0] == 'red'";
        let secrets = "request.?resourceAttributes.resource.orValue('') == 'secrets'";
        let authorizers = [
            conditioned("closed", "Deny", &[secrets, team]),
            conditioned("open", "NoOpinion", &["request.user == 'eve'", team]),
            json!({"type": "RBAC", "name": "rbac"}),
            conditioned("hers", "NoOpinion", &[maps, hers]),
        ];
        vec![format!("--authorization-config={}", configure(files, &authorizers))]
    })
    .await;
    let ann = api.user("ann");
    let (code, list) = ann.get(&format!("{MAPS}?labelSelector=for%3Dann")).await;
    assert_eq!(code, 200, "{list}");
    let asked = |user: &str| {
        let of = |asked: &&Asked| asked.json()["spec"]["user"] == user;
        remote.asked().iter().filter(of).count()
    };
    assert_eq!(asked("ann"), 1, "the other webhooks are not asked");
    // Without the label, and of other things, nobody has an opinion; that is no error.
    let (code, status) = ann.get(MAPS).await;
    assert_eq!(code, 403, "{status}");
    assert_eq!(ann.get("/api/v1/namespaces/default/pods").await.0, 403);
    assert_eq!(ann.get("/api").await.0, 200);
    assert_eq!(asked("ann"), 1);
    // A condition that cannot be evaluated is a no where the policy says so, also of what roles allow.
    let (code, status) = ann.get("/api/v1/namespaces/default/secrets").await;
    assert_eq!(code, 500, "{status}");
    let why = "cel evaluation error: expression 'request.extra['team'][0] == 'red'' resulted in error: no such key: team";
    assert!(status.to_string().contains(why), "{status}");
    assert_eq!(asked("ann"), 1);
    let eve = api.user("eve");
    assert_eq!(eve.get("/api").await.0, 200, "others may allow it");
    assert_eq!(eve.get(MAPS).await.0, 500);
    assert_eq!(asked("eve"), 0);
    let text = api.text("/metrics").await;
    for line in [
        "apiserver_authorization_match_condition_evaluation_errors_total{type=\"Webhook\",name=\"closed\"} 1",
        "apiserver_authorization_match_condition_evaluation_errors_total{type=\"Webhook\",name=\"open\"} 2",
        "apiserver_authorization_match_condition_exclusions_total{type=\"Webhook\",name=\"hers\"} 3",
        "apiserver_authorization_match_condition_evaluation_seconds_count{type=\"Webhook\",name=\"hers\"} 4",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_webhook_that_hangs_is_given_up_and_one_that_stumbles_is_asked_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let remote = Remote::start(move |asked| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if asked.json()["spec"]["user"] == "slow" {
                std::future::pending::<()>().await;
            }
            let code = if call == 0 {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::OK
            };
            answer(code.as_u16(), &json!({"status": {"allowed": true}}))
        })
    });
    let api = Daemon::start_with(|files| {
        let kubeconfig = remote.kubeconfig(files, "webhook.kubeconfig", "/authorize");
        let roles = json!({"type": "RBAC", "name": "rbac"});
        let hook = webhook("hook", &kubeconfig, "NoOpinion");
        vec![format!(
            "--authorization-config={}",
            configure(files, &[roles, hook])
        )]
    })
    .await;
    assert_eq!(api.user("ann").get(MAPS).await.0, 200);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let start = Instant::now();
    let slow = api.user("slow");
    let (slow, other) = tokio::join!(slow.get(MAPS), async {
        let start = Instant::now();
        let code = api.user("ann").get(MAPS).await.0;
        (code, start.elapsed())
    });
    assert_eq!(slow.0, 500, "{}", slow.1);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(other.0, 200);
    assert!(other.1 < Duration::from_millis(900), "{:?}", other.1);
}
