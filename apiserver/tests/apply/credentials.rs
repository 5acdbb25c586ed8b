//! Tokens in files, tokens of bootstrap secrets, tokens that a webhook knows.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::MERGE;
use super::bearer::{review, who};
use super::daemon::Daemon;
use super::remote::{Remote, json as answer};

#[tokio::test]
async fn a_token_in_a_file_is_its_users() {
    let api = Daemon::start_with(|files| {
        let text = "secret-1,ann,u1,\"dev,ops\"\nsecret-2,bob,u2\n";
        vec![format!(
            "--token-auth-file={}",
            files.write("tokens.csv", text).display()
        )]
    })
    .await;
    let (code, user) = who(&api, "secret-1").await;
    assert_eq!(code, 201, "{user}");
    assert_eq!(
        user,
        json!({"username": "ann", "uid": "u1", "groups": ["dev", "ops", "system:authenticated"]})
    );
    assert_eq!(who(&api, "secret-2").await.1["username"], "bob");
    for bad in ["secret", "secret-11", "ann"] {
        assert_eq!(who(&api, bad).await.0, 401, "{bad}");
    }
    // It is for this server alone.
    assert_eq!(review(&api, "secret-2", &[]).await["authenticated"], true);
    assert!(review(&api, "secret-2", &["other"]).await["authenticated"].is_null());
}

#[tokio::test]
async fn a_bootstrap_token_is_good_as_long_as_its_secret_says_so() {
    let api = Daemon::start_with(|_| vec!["--enable-bootstrap-token-auth".to_owned()]).await;
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let secret = json!({
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:workers",
        },
    });
    let token = "abcdef.0123456789abcdef";
    assert_eq!(who(&api, token).await.0, 401);
    let (code, made) = api.send("POST", secrets, &secret).await;
    assert_eq!(code, 201, "{made}");
    let (code, user) = who(&api, token).await;
    assert_eq!(
        (code, user["username"].as_str()),
        (201, Some("system:bootstrap:abcdef"))
    );
    assert_eq!(
        user["groups"],
        json!([
            "system:bootstrappers",
            "system:bootstrappers:workers",
            "system:authenticated"
        ])
    );
    assert_eq!(who(&api, "abcdef.0123456789abcdee").await.0, 401);
    let path = format!("{secrets}/bootstrap-token-abcdef");
    for (key, bad, good) in [
        ("usage-bootstrap-authentication", "false", "true"),
        ("expiration", "2020-01-01T00:00:00Z", "2199-01-01T00:00:00Z"),
        ("auth-extra-groups", "system:masters", ""),
    ] {
        for (value, wanted) in [(bad, Value::Null), (good, Value::Bool(true))] {
            let data = json!({"data": {key: BASE64_STANDARD.encode(value)}});
            let (code, patched) = api.patch(&path, MERGE, &data).await;
            assert_eq!(code, 200, "{patched}");
            let status = review(&api, token, &[]).await;
            assert_eq!(status["authenticated"], wanted, "{key}={value}: {status}");
        }
    }
    let (code, _) = api.send("DELETE", &path, &json!({})).await;
    assert_eq!(code, 200);
    assert!(review(&api, token, &[]).await["authenticated"].is_null());
}

/// A server that knows some tokens.
fn reviewer() -> Remote {
    Remote::start(|asked| {
        let review = asked.json();
        let spec = &review["spec"];
        let user = |name: &str| json!({"username": name, "uid": "u", "groups": ["g"], "extra": {"k": ["v"]}});
        let status = match spec["token"].as_str().unwrap() {
            "ann" => json!({"authenticated": true, "user": user("ann")}),
            "elsewhere" => {
                json!({"authenticated": true, "user": user("bob"), "audiences": ["elsewhere"]})
            }
            "revoked" => {
                json!({"authenticated": false, "error": "it was revoked", "user": user("eve")})
            }
            "broken" => return Box::pin(std::future::ready(answer(503, &json!({})))),
            "odd" => {
                let other =
                    json!({"apiVersion": "v1", "kind": "Pod", "status": {"authenticated": true}});
                return Box::pin(std::future::ready(answer(200, &other)));
            }
            _ => json!({"authenticated": false, "user": user("eve")}),
        };
        let mut reviewed = review.clone();
        reviewed["status"] = status;
        Box::pin(std::future::ready(answer(200, &reviewed)))
    })
}

#[tokio::test]
async fn a_webhook_says_whose_a_token_is_and_is_asked_once() {
    let remote = reviewer();
    let api = Daemon::start_with(|files| {
        let kubeconfig = remote.kubeconfig(files, "webhook.kubeconfig", "/review");
        vec![
            format!("--authentication-token-webhook-config-file={kubeconfig}"),
            "--authentication-token-webhook-version=v1".to_owned(),
            "--api-audiences=api,elsewhere-too".to_owned(),
        ]
    })
    .await;
    let (code, user) = who(&api, "ann").await;
    assert_eq!(code, 201, "{user}");
    assert_eq!(
        user,
        json!({"username": "ann", "uid": "u", "groups": ["g", "system:authenticated"], "extra": {"k": ["v"]}})
    );
    let asked = remote.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/review");
    assert_eq!(asked[0].authorization, "Bearer from-the-api-server");
    let review_sent = asked[0].json();
    assert_eq!(review_sent["apiVersion"], "authentication.k8s.io/v1");
    assert_eq!(
        review_sent["spec"],
        json!({"token": "ann", "audiences": ["api", "elsewhere-too"]})
    );
    for bad in ["revoked", "unknown", "broken", "odd", "elsewhere"] {
        assert_eq!(who(&api, bad).await.0, 401, "{bad}");
    }
    let count = remote.asked().len();
    assert_eq!(who(&api, "ann").await.0, 201);
    assert_eq!(who(&api, "unknown").await.0, 401);
    assert_eq!(remote.asked().len(), count, "answers are remembered");
    assert_eq!(who(&api, "broken").await.0, 401);
    assert_eq!(
        remote.asked().len(),
        count + 1,
        "no answer is no answer to remember"
    );

    let status = review(&api, "revoked", &[]).await;
    assert_eq!(status["error"], "[invalid bearer token, it was revoked]");
    let status = review(&api, "elsewhere", &["elsewhere", "api"]).await;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["audiences"], json!(["elsewhere"]));
    assert_eq!(status["user"]["username"], "bob");
}
