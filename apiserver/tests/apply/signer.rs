//! Tokens that a plugin signs.

use std::path::PathBuf;
use std::process::Command;

use apiserver::plugin::testing::{Served, Signer, SigningKey};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use component::testing::Files;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::wire::Wire;

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

/// A server whose tokens a plugin signs.
async fn start(signer: &Signer) -> (Daemon, Served) {
    let mut served = None;
    let api = Daemon::start_with(|files| {
        let socket = socket(files);
        served = Some(signer.serve(&socket));
        vec![format!(
            "--service-account-signing-endpoint={}",
            socket.display()
        )]
    })
    .await;
    let account = json!({"metadata": {"name": "a"}});
    let (code, made) = api.send("POST", ACCOUNTS, &account).await;
    assert_eq!(code, 201, "{made}");
    (api, served.unwrap())
}

fn socket(files: &Files) -> PathBuf {
    files.write("here", "").with_file_name("signer.sock")
}

async fn request(api: &Daemon, seconds: i64) -> (u16, Value) {
    let request = json!({"spec": {"expirationSeconds": seconds}});
    api.send("POST", &format!("{ACCOUNTS}/a/token"), &request)
        .await
}

/// A new token.
async fn token(api: &Daemon) -> String {
    let (code, answer) = request(api, 3600).await;
    assert_eq!(code, 201, "{answer}");
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// Header or claims of a token.
fn part(token: &str, at: usize) -> Value {
    let part = token.split('.').nth(at).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn is_good(api: &Daemon, token: &str) -> bool {
    let review = json!({"spec": {"token": token}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (code, review) = api.send("POST", path, &review).await;
    assert_eq!(code, 201, "{review}");
    review["status"]["authenticated"] == true
}

/// The names of the published keys.
async fn published(api: &Daemon) -> Vec<String> {
    let (code, set) = api.get("/openid/v1/jwks").await;
    assert_eq!(code, 200, "{set}");
    let keys = set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_plugin_signs_tokens_and_has_the_keys_that_verify_them() {
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let signer = Signer::new(std::slice::from_ref(&old));
    let (api, served) = start(&signer).await;
    let first = token(&api).await;
    assert_eq!(
        part(&first, 0),
        json!({"alg": "ES256", "kid": "old", "typ": "JWT"})
    );
    assert_eq!(part(&first, 1)["sub"], "system:serviceaccount:default:a");
    assert!(is_good(&api, &first).await);
    assert_eq!(published(&api).await, ["old"]);
    let (_, document) = api.get("/.well-known/openid-configuration").await;
    assert_eq!(
        document["id_token_signing_alg_values_supported"],
        json!(["ES256"])
    );
    // Keys may be believed until they are fetched again.
    let mut wire = Wire::admin(&api).await;
    let head = wire
        .ask("GET /openid/v1/jwks", &["Connection: close"], "")
        .await;
    let age = head
        .split("cache-control: public, max-age=")
        .nth(1)
        .unwrap();
    let age: u64 = age.split("\r\n").next().unwrap().parse().unwrap();
    assert!(age <= 60, "{head}");

    // A key that is not known is asked for; the old one verifies, and is told no more.
    signer.rotate(&[new, old.hidden()]);
    let second = token(&api).await;
    assert_eq!(part(&second, 0)["kid"], "new");
    assert!(is_good(&api, &second).await && is_good(&api, &first).await);
    assert_eq!(published(&api).await, ["new"]);
    let (header, rest) = second.split_once('.').unwrap();
    let (claims, _) = rest.split_once('.').unwrap();
    let forged = format!("{header}.{claims}.{}", first.rsplit('.').next().unwrap());
    assert!(!is_good(&api, &forged).await);
    // Without the plugin tokens are good as before.
    drop(served);
    assert!(is_good(&api, &second).await);
    let metrics = api.text("/metrics").await;
    for line in [
        "apiserver_externaljwt_sign_request_total{code=\"OK\"} 2\n",
        "apiserver_externaljwt_fetch_keys_request_total{code=\"OK\"} 2\n",
        "apiserver_externaljwt_request_duration_seconds_count{method=\"/v1.ExternalJWTSigner/Sign\",code=\"OK\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn what_the_plugin_signs_is_looked_at() {
    let signer = Signer::new(&[SigningKey::new("key")]);
    let (api, _served) = start(&signer).await;
    // It says how long tokens last at most.
    let (code, answer) = request(&api, 7200).await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    let claims = part(answer["status"]["token"].as_str().unwrap(), 1);
    let lasts = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(lasts, 3600);
    for (header, why) in [
        (
            json!({"alg": "none", "kid": "key", "typ": "JWT"}),
            "bad signing algorithm \"none\"",
        ),
        (json!({"alg": "ES256", "typ": "JWT"}), "key id missing"),
    ] {
        signer.header(Some(header));
        let (code, status) = request(&api, 3600).await;
        assert_eq!(code, 500, "{status}");
        let said = status["message"].as_str().unwrap();
        let wanted = format!("failed to generate token: while validating header: {why}");
        assert!(said.ends_with(&wanted), "{said}");
    }
}

#[test]
fn flags_that_exclude_each_other_are_refused() {
    let started = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_kube-apiserver"))
            .args([
                "--etcd-servers=http://127.0.0.1:1",
                "--service-account-issuer=https://i",
            ])
            .args(more)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let endpoint = "--service-account-signing-endpoint=/run/signer.sock";
    let said = started(&[endpoint, "--service-account-signing-key-file=/sa.key"]);
    assert!(said.contains("are mutually exclusive"), "{said}");
    let said = started(&[endpoint, "--service-account-key-file=/sa.pub"]);
    assert!(said.contains("They are mutually exclusive"), "{said}");
    let said = started(&["--service-account-signing-endpoint=@a/b"]);
    assert!(
        said.contains("must be a valid abstract socket name"),
        "{said}"
    );
}
