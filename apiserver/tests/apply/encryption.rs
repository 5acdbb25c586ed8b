//! Encryption at rest: what etcd holds, and what follows when keys are replaced.

use std::time::{Duration, Instant};

use component::testing::Files;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::{config_map, version};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// 32 bytes.
const KEY_A: &str = "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=";
const KEY_B: &str = "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=";

/// Says which providers secrets have; the path of the file.
fn configure(files: &Files, providers: &[Value]) -> String {
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": providers}],
    });
    files
        .write("encryption.json", &config.to_string())
        .display()
        .to_string()
}

fn provider(name: &str, key: &str, secret: &str) -> Value {
    json!({name: {"keys": [{"name": key, "secret": secret}]}})
}

/// A server with one provider for secrets, which looks after its file.
async fn start() -> Daemon {
    Daemon::start_with(|files| {
        let file = configure(files, &[provider("aesgcm", "a", KEY_A)]);
        vec![
            format!("--encryption-provider-config={file}"),
            "--encryption-provider-config-automatic-reload".to_owned(),
        ]
    })
    .await
}

async fn stored(api: &Daemon, key: &str) -> String {
    api.etcd().get(key).await.unwrap().1
}

fn secret(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"password": "in the clear"},
    })
}

#[tokio::test]
async fn a_replaced_key_is_used_without_a_restart_and_old_values_are_written_anew() {
    let api = start().await;
    let (code, made) = api.send("POST", SECRETS, &secret("s")).await;
    assert_eq!(code, 201, "{made}");
    let (code, _) = api.send("POST", MAPS, &config_map("m", json!({}))).await;
    assert_eq!(code, 201);
    let sealed = stored(&api, "/registry/secrets/default/s").await;
    assert!(sealed.starts_with("k8s:enc:aesgcm:v1:a:"), "{sealed}");
    assert!(!sealed.contains("in the clear"), "{sealed}");
    let plain = stored(&api, "/registry/configmaps/default/m").await;
    assert!(plain.starts_with("k8s\0"), "{plain}");
    let path = format!("{SECRETS}/s");
    let (code, same) = api.send("PUT", &path, &made).await;
    assert_eq!((code, version(&same)), (200, version(&made)));

    let (old, new) = (
        provider("aesgcm", "a", KEY_A),
        provider("secretbox", "b", KEY_B),
    );
    configure(api.files(), &[new, old]);
    let start = Instant::now();
    let anew = loop {
        let (code, now) = api.send("PUT", &path, &made).await;
        assert_eq!(code, 200, "{now}");
        if version(&now) != version(&made) {
            break now;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "not read again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let sealed = stored(&api, "/registry/secrets/default/s").await;
    assert!(sealed.starts_with("k8s:enc:secretbox:v1:b:"), "{sealed}");
    assert_eq!(anew["data"], made["data"]);
    let (_, again) = api.send("PUT", &path, &anew).await;
    assert_eq!(version(&again), version(&anew));
    let (code, read) = api.get(&path).await;
    assert_eq!((code, &read["data"]), (200, &made["data"]));
}

#[tokio::test]
async fn a_value_that_cannot_be_opened_holds_up_its_kind_alone() {
    let api = start().await;
    let (code, _) = api.send("POST", SECRETS, &secret("s")).await;
    assert_eq!(code, 201);
    let etcd = api.etcd();
    let bad = "/registry/secrets/default/bad";
    etcd.put(bad, "k8s:enc:aesgcm:v1:lost:sealed").await;
    let (code, status) = api.get(&format!("{SECRETS}/bad")).await;
    assert_eq!(code, 500, "{status}");
    let (code, made) = api.send("POST", MAPS, &config_map("m", json!({}))).await;
    assert_eq!(code, 201, "{made}");
    let (code, maps) = api.get(MAPS).await;
    assert_eq!(code, 200);
    let names = maps["items"].as_array().unwrap().iter();
    assert!(names.clone().any(|m| m["metadata"]["name"] == "m"));
    // Another of its kind is still read.
    let (code, read) = api.get(&format!("{SECRETS}/s")).await;
    assert_eq!(code, 200, "{read}");
    etcd.delete(bad).await;
    let (code, list) = api.get(SECRETS).await;
    assert_eq!(code, 200, "{list}");
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}
