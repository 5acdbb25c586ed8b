//! Tokens of service accounts that somebody made up, changed, or kept for too long.

use serde_json::{Value, json};

use super::eventually;
use crate::bearer::{review, who};
use crate::daemon::Daemon;
use crate::issuer::{Key, now};

const ISSUER: &str = "https://kubernetes.default.svc";
const CORE: &str = "/api/v1";
const DEFAULT: &str = "/api/v1/namespaces/default";

/// Makes an object and refers to it.
async fn make(api: &Daemon, path: &str, object: &Value) -> Value {
    let (code, made) = api.send("POST", path, object).await;
    assert_eq!(code, 201, "{made}");
    json!({"name": made["metadata"]["name"], "uid": made["metadata"]["uid"]})
}

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

/// What a token of an account says, with something else in it.
fn claims(account: &Value, more: &Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "sub": "system:serviceaccount:default:app", "aud": [ISSUER],
        "exp": now() + 600, "nbf": now() - 10, "iat": now() - 10,
        "jti": uuid::Uuid::new_v4().to_string(),
        "kubernetes.io": {"namespace": "default", "serviceaccount": account},
    });
    merge(&mut claims, more);
    claims
}

fn merge(into: &mut Value, more: &Value) {
    match more {
        Value::Object(fields) if into.is_object() => {
            for (name, field) in fields {
                merge(&mut into[name.as_str()], field);
            }
        }
        other => *into = other.clone(),
    }
}

/// What somebody without the cluster's key can make.
fn forged(key: &Key, account: &Value) -> Vec<(&'static str, String)> {
    let stranger = Key::new("stranger");
    let plain = claims(account, &json!({}));
    let other = claims(
        account,
        &json!({"sub": "system:serviceaccount:kube-system:root"}),
    );
    let header = |more: Value| {
        let mut header = json!({"alg": "ES256"});
        merge(&mut header, &more);
        header
    };
    let good = key.sign(&header(json!({})), &plain);
    let changed = key.sign(&header(json!({})), &other);
    let part = |token: &str, i: usize| token.split('.').nth(i).unwrap().to_owned();
    let unsigned = key.sign(&header(json!({"alg": "none"})), &plain);
    let inside = json!({"jwk": stranger.jwk()});
    vec![
        ("no algorithm", unsigned.clone()),
        (
            "no signature",
            format!("{}.{}.", part(&unsigned, 0), part(&unsigned, 1)),
        ),
        ("no signature and no algorithm's end", part(&unsigned, 0)),
        ("a digest with the public key", key.confused(&plain)),
        (
            "the name of another algorithm",
            key.sign(&header(json!({"alg": "RS256"})), &plain),
        ),
        (
            "the name of a stronger algorithm",
            key.sign(&header(json!({"alg": "ES384"})), &plain),
        ),
        (
            "a stranger's key",
            stranger.sign(&header(json!({})), &plain),
        ),
        (
            "a stranger's key inside",
            stranger.sign(&header(inside), &plain),
        ),
        (
            "a key that nobody knows",
            key.sign(&header(json!({"kid": "unknown"})), &plain),
        ),
        (
            "an extension that must be known",
            key.sign(&header(json!({"crit": ["exp"]})), &plain),
        ),
        (
            "the signature of something else",
            format!(
                "{}.{}.{}",
                part(&good, 0),
                part(&changed, 1),
                part(&good, 2)
            ),
        ),
        ("more behind it", format!("{good}.{}", part(&good, 2))),
    ]
}

/// What somebody may have whom the cluster's key once signed for.
fn stale(account: &Value) -> Vec<(&'static str, Value)> {
    let private = |of: Value| json!({"kubernetes.io": of});
    vec![
        ("expired", json!({"exp": now() - 120})),
        ("to come", json!({"nbf": now() + 120})),
        ("for somebody else", json!({"aud": ["vault"]})),
        ("of another issuer", json!({"iss": "https://elsewhere"})),
        (
            "of the issuer of old tokens",
            json!({"iss": "kubernetes/serviceaccount"}),
        ),
        (
            "of an account that was there before",
            private(json!({"serviceaccount": {"uid": "before"}})),
        ),
        (
            "of any account of that name",
            private(json!({"serviceaccount": {"uid": ""}})),
        ),
        (
            "of an account that is not there",
            private(json!({"serviceaccount": {"name": "nobody"}})),
        ),
        (
            "of the account in another namespace",
            private(json!({"namespace": "kube-system", "serviceaccount": account})),
        ),
        (
            "of a pod that is not there",
            private(json!({"pod": {"name": "gone", "uid": "u"}})),
        ),
        (
            "of a secret that is not there",
            private(json!({"secret": {"name": "gone", "uid": "u"}})),
        ),
        (
            "of a node that is not there",
            private(json!({"node": {"name": "gone", "uid": "u"}})),
        ),
    ]
}

#[tokio::test]
async fn a_token_is_believed_only_as_the_cluster_signed_it_for_us_and_now() {
    let api = Daemon::start().await;
    let key = Key::read("", api.signing_key());
    let account = make(&api, &format!("{DEFAULT}/serviceaccounts"), &named("app")).await;
    let header = json!({"alg": "ES256"});
    let (code, user) = who(&api, &key.sign(&header, &claims(&account, &json!({})))).await;
    let name = "system:serviceaccount:default:app";
    assert_eq!(
        (code, user["username"].as_str()),
        (201, Some(name)),
        "{user}"
    );

    let signed = stale(&account).into_iter().map(|(what, more)| {
        let token = key.sign(&header, &claims(&account, &more));
        (what, token)
    });
    for (what, token) in forged(&key, &account).into_iter().chain(signed) {
        assert_eq!(who(&api, &token).await.0, 401, "{what}");
        let status = review(&api, &token, &[]).await;
        assert!(status["authenticated"].is_null(), "{what}: {status}");
        assert!(status["user"]["username"].is_null(), "{what}: {status}");
    }
    // Who asks for another audience is not told that this one is good here.
    let good = key.sign(&header, &claims(&account, &json!({})));
    assert!(review(&api, &good, &["vault"]).await["authenticated"].is_null());
    assert_eq!(review(&api, &good, &[ISSUER]).await["authenticated"], true);
}

#[tokio::test]
async fn a_token_goes_with_what_it_is_bound_to_and_does_not_come_back_with_its_name() {
    let api = Daemon::start().await;
    let key = Key::read("", api.signing_key());
    let accounts = format!("{DEFAULT}/serviceaccounts");
    let account = make(&api, &accounts, &named("app")).await;
    for (claim, path, object) in [
        ("pod", format!("{DEFAULT}/pods"), pod()),
        ("secret", format!("{DEFAULT}/secrets"), named("s")),
        ("node", format!("{CORE}/nodes"), named("n")),
        ("serviceaccount", accounts, named("other")),
    ] {
        let sign = |to: &Value| {
            let private = json!({"kubernetes.io": {claim: to}});
            let of = claims(&account, &private);
            key.sign(&json!({"alg": "ES256"}), &of)
        };
        let good = async |token: &str| review(&api, token, &[]).await["authenticated"] == true;
        let before = make(&api, &path, &object).await;
        let token = sign(&before);
        eventually(claim, async || good(&token).await).await;
        let name = before["name"].as_str().unwrap();
        let (code, gone) = api
            .send("DELETE", &format!("{path}/{name}"), &json!({}))
            .await;
        assert_eq!(code, 200, "{gone}");
        eventually(claim, async || !good(&token).await).await;
        let again = make(&api, &path, &object).await;
        eventually(claim, async || good(&sign(&again)).await).await;
        assert!(!good(&token).await, "{claim}");
        // The name of the one and the identity of the other.
        let mixed = json!({"name": before["name"], "uid": account["uid"]});
        assert!(!good(&sign(&mixed)).await, "{claim}");
    }
}

/// Upstream believes a token for ten seconds without looking again.
#[tokio::test]
async fn requests_with_a_token_that_was_revoked_end_soon() {
    let api = Daemon::start().await;
    let key = Key::read("", api.signing_key());
    let account = make(&api, &format!("{DEFAULT}/serviceaccounts"), &named("app")).await;
    let bound = make(&api, &format!("{DEFAULT}/pods"), &pod()).await;
    let of = claims(&account, &json!({"kubernetes.io": {"pod": bound}}));
    let token = key.sign(&json!({"alg": "ES256"}), &of);
    let path = format!("{DEFAULT}/pods/p");
    eventually("good", async || who(&api, &token).await.0 == 201).await;
    assert_eq!(api.send("DELETE", &path, &json!({})).await.0, 200);
    eventually("revoked", async || who(&api, &token).await.0 == 401).await;
}
