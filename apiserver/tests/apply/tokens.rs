//! Tokens of service accounts that lie in secrets.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::MERGE;
use super::daemon::{Daemon, eventually};
use super::wire::Wire;

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// The token that the controller would put into a secret.
fn token(api: &Daemon, uid: &str, secret: &str) -> String {
    let key = PrivatePkcs8KeyDer::from_pem_slice(api.signing_key().as_bytes()).unwrap();
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        key.secret_pkcs8_der(),
        &random,
    )
    .unwrap();
    let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:default:old",
        "kubernetes.io/serviceaccount/namespace": "default",
        "kubernetes.io/serviceaccount/service-account.name": "old",
        "kubernetes.io/serviceaccount/service-account.uid": uid,
        "kubernetes.io/serviceaccount/secret.name": secret,
    });
    let signed = format!("{}.{}", encode(json!({"alg": "ES256"})), encode(claims));
    let signature = key.sign(&random, signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// A secret for an account, filled.
async fn filled(api: &Daemon, uid: &str, name: &str) -> String {
    let secret = json!({
        "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": "old"}},
        "type": "kubernetes.io/service-account-token",
    });
    let (code, made) = api.send("POST", SECRETS, &secret).await;
    assert_eq!(code, 201, "{made}");
    let token = token(api, uid, name);
    let data = json!({"data": {"token": BASE64_STANDARD.encode(&token)}});
    let (code, made) = api.patch(&format!("{SECRETS}/{name}"), MERGE, &data).await;
    assert_eq!(code, 200, "{made}");
    token
}

async fn review(api: &Daemon, token: &str) -> Value {
    let review = json!({"spec": {"token": token}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (code, review) = api.send("POST", path, &review).await;
    assert_eq!(code, 201, "{review}");
    review["status"].clone()
}

#[tokio::test]
async fn a_token_in_a_secret_is_good_as_long_as_the_secret_is_there() {
    let api = Daemon::start().await;
    let account = json!({"metadata": {"name": "old"}, "secrets": [{"name": "generated"}]});
    let (code, account) = api.send("POST", ACCOUNTS, &account).await;
    assert_eq!(code, 201, "{account}");
    let uid = account["metadata"]["uid"].as_str().unwrap();
    let by_hand = filled(&api, uid, "by-hand").await;
    let generated = filled(&api, uid, "generated").await;

    let label = async |name: &str| {
        let (_, secret) = api.get(&format!("{SECRETS}/{name}")).await;
        secret["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"].clone()
    };
    assert_eq!(label("by-hand").await, Value::Null);
    let ask = async |token: &str| {
        let mut wire = Wire::anonymous(&api).await;
        let authorization = format!("Authorization: Bearer {token}");
        let headers = [
            authorization.as_str(),
            "Connection: close",
            "Content-Type: application/json",
        ];
        let line = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";
        let head = wire.ask(line, &headers, "{}").await;
        (head, wire.rest().await)
    };
    let (head, body) = ask(&by_hand).await;
    assert!(head.starts_with("http/1.1 201 "), "{head}{body}");
    assert!(body.contains("system:serviceaccount:default:old"), "{body}");
    assert!(body.contains("system:serviceaccounts:default"), "{body}");
    assert!(!head.contains("warning:"), "{head}");
    let day = label("by-hand").await;
    assert_eq!(
        day.as_str().map(str::len),
        Some("2026-01-01".len()),
        "{day}"
    );
    for _ in 0..2 {
        // What is remembered of a token warns as well.
        let (head, _) = ask(&generated).await;
        assert!(
            head.contains("warning: 299 - \"use tokens from the tokenrequest api"),
            "{head}"
        );
    }

    let status = review(&api, &by_hand).await;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["user"]["uid"], uid);
    // Another token in the same secret, and the same token in no secret.
    let invalid =
        json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}}});
    api.patch(&format!("{SECRETS}/generated"), MERGE, &invalid)
        .await;
    // Secrets are read from the cache.
    eventually("a token that is marked", async || {
        let status = review(&api, &generated).await;
        let error = status["error"].as_str().unwrap_or_default();
        status["authenticated"].is_null() && error.contains("has been marked invalid")
    })
    .await;
    let is_good = async || review(&api, &by_hand).await["authenticated"] == true;
    let other = json!({"data": {"token": BASE64_STANDARD.encode("other")}});
    api.patch(&format!("{SECRETS}/by-hand"), MERGE, &other)
        .await;
    eventually("another token", async || !is_good().await).await;
    let own = json!({"data": {"token": BASE64_STANDARD.encode(&by_hand)}});
    api.patch(&format!("{SECRETS}/by-hand"), MERGE, &own).await;
    eventually("the token again", is_good).await;
    let (code, _) = api
        .send("DELETE", &format!("{SECRETS}/by-hand"), &json!({}))
        .await;
    assert_eq!(code, 200);
    eventually("no secret", async || !is_good().await).await;
}
