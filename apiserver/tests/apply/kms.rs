//! Encryption at rest by way of a key management service, and what an outage of it holds up.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use apiserver::plugin::testing::{Kms, Served};
use component::testing::Files;
use serde_json::{Value, json};

use super::daemon::{Daemon, OURS, User};
use super::{config_map, version};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const STORED: &str = "/registry/secrets/default/s";
const RELOAD: &str = "--encryption-provider-config-automatic-reload";
/// What a server notices by itself, also on a busy machine.
const SOON: Duration = Duration::from_secs(90);

/// A service, where it is, and who asks it.
struct Plugin {
    kms: Kms,
    socket: PathBuf,
    served: Option<Served>,
}

impl Plugin {
    /// One that listens beside the files.
    fn start(files: &Files) -> Self {
        let (kms, socket) = (Kms::new("key-1"), beside(files, "kms.sock"));
        let served = Some(kms.serve(&socket));
        Self {
            kms,
            socket,
            served,
        }
    }

    fn leave(&mut self) {
        self.served.take();
    }

    fn come(&mut self) {
        self.served = Some(self.kms.serve(&self.socket));
    }

    /// As the configuration names it.
    fn provider(&self) -> Value {
        service("test", &self.socket)
    }
}

fn beside(files: &Files, name: &str) -> PathBuf {
    files.write("here", "").with_file_name(name)
}

fn service(name: &str, socket: &Path) -> Value {
    let endpoint = format!("unix://{}", socket.display());
    json!({"kms": {"apiVersion": "v2", "name": name, "endpoint": endpoint, "timeout": "1s"}})
}

/// Says which providers secrets have; the path of the file.
fn configure(files: &Files, providers: &[Value]) -> String {
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": providers}],
    });
    let path = files.write("encryption.json", &config.to_string());
    format!("--encryption-provider-config={}", path.display())
}

/// A server whose secrets the service's keys seal.
async fn start() -> (Daemon, Plugin) {
    let mut plugin = None;
    let api = Daemon::start_with(|files| {
        let plugin = plugin.insert(Plugin::start(files));
        vec![configure(files, &[plugin.provider()])]
    })
    .await;
    (api, plugin.unwrap())
}

fn secret(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"password": "in the clear"},
    })
}

async fn make(api: &User, name: &str) -> Value {
    let (code, made) = api.send("POST", SECRETS, &secret(name)).await;
    assert_eq!(code, 201, "{made}");
    made
}

async fn stored(api: &Daemon) -> String {
    api.etcd().get(STORED).await.unwrap().1
}

async fn names(api: &User) -> Vec<String> {
    let (code, list) = api.get(SECRETS).await;
    assert_eq!(code, 200, "{list}");
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The code of a path, whatever else is said.
async fn code(api: &User, path: &str) -> u16 {
    api.asked(path).await
}

/// Asks until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn another_key_of_the_service_is_used_without_a_restart_and_old_values_are_written_anew() {
    let (api, plugin) = start().await;
    let made = make(&api, "s").await;
    make(&api, "t").await;
    let first = stored(&api).await;
    assert!(first.starts_with("k8s:enc:kms:v2:test:"), "{first}");
    assert!(
        !first.contains("in the clear") && first.contains("key-1"),
        "{first}"
    );
    let path = format!("{SECRETS}/s");
    let (_, same) = api.send("PUT", &path, &made).await;
    assert_eq!(version(&same), version(&made));
    assert_eq!(
        (plugin.kms.calls("Encrypt"), plugin.kms.calls("Decrypt")),
        (1, 0)
    );
    assert_eq!(code(&api, "/healthz/kms-providers").await, 200);
    assert_eq!(code(&api, "/livez/kms-providers").await, 404);

    plugin.kms.rotate("key-2");
    let mut anew = made.clone();
    until("the key is not followed", async || {
        assert_eq!(code(&api, "/readyz").await, 200);
        let (code, now) = api.send("PUT", &path, &made).await;
        assert_eq!(code, 200, "{now}");
        anew = now;
        version(&anew) != version(&made)
    })
    .await;
    let second = stored(&api).await;
    assert!(
        second.contains("key-2") && !second.contains("key-1"),
        "{second}"
    );
    assert_eq!(anew["data"], made["data"]);
    let (_, again) = api.send("PUT", &path, &anew).await;
    assert_eq!(version(&again), version(&anew));
    assert_eq!(names(&api).await, ["s", "t"]);
    assert_eq!(
        (plugin.kms.calls("Encrypt"), plugin.kms.calls("Decrypt")),
        (2, 0)
    );
    let metrics = api.text("/metrics").await;
    for (name, labels) in [
        (
            "envelope_encryption_key_id_hash_total",
            "transformation_type=\"to_storage\"",
        ),
        (
            "envelope_encryption_key_id_hash_last_timestamp_seconds",
            "provider_name=\"test\"",
        ),
        (
            "envelope_encryption_key_id_hash_status_last_timestamp_seconds",
            "provider_name=\"test\"",
        ),
        (
            "envelope_encryption_dek_source_cache_size",
            "provider_name=\"test\"} 2",
        ),
        (
            "envelope_encryption_kms_operations_latency_seconds_count",
            "/v2.KeyManagementService/Status",
        ),
        (
            "storage_transformation_operations_total",
            "transformer_prefix=\"k8s:enc:kms:v2:test:\"",
        ),
        (
            "encryption_config_controller_last_config_info",
            "hash=\"sha256:",
        ),
    ] {
        let is_it = |l: &&str| l.starts_with(&format!("apiserver_{name}{{")) && l.contains(labels);
        assert!(
            metrics.lines().any(|l| is_it(&l)),
            "{name} {labels}\n{metrics}"
        );
    }
}

#[tokio::test]
async fn an_outage_of_the_service_holds_up_its_kind_alone() {
    let (api, mut plugin) = start().await;
    make(&api, "own").await;
    let other = api.second().await;
    plugin.leave();
    // Each has its seed, which the other does not know.
    make(&other.admin, "foreign").await;
    make(&api, "own-too").await;
    let (code_, status) = api.get(&format!("{SECRETS}/foreign")).await;
    assert_eq!(code_, 500, "{status}");
    let said = status["message"].as_str().unwrap();
    assert!(
        said.contains("failed to decrypt DEK, error: rpc error: code = "),
        "{said}"
    );
    // It is counted under the name that gRPC has for it.
    let status = said
        .split("code = ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let labels = [
        "resource=\"secrets\"".to_owned(),
        "transformation_type=\"from_storage\"".to_owned(),
        "transformer_prefix=\"k8s:enc:kms:v2:test:\"".to_owned(),
        format!("status=\"{}\"", status.unwrap()),
    ];
    let metrics = api.text("/metrics").await;
    let is_it = |l: &&str| {
        l.starts_with("apiserver_storage_transformation_operations_total{")
            && labels.iter().all(|of| l.contains(of))
    };
    assert!(metrics.lines().any(|l| is_it(&l)), "{labels:?}");
    // What was read before is read, and other kinds do not notice.
    let (code_, _) = api.get(&format!("{SECRETS}/own")).await;
    assert_eq!(code_, 200);
    let started = Instant::now();
    let (code_, made) = api.send("POST", MAPS, &config_map("m", json!({}))).await;
    assert_eq!(code_, 201, "{made}");
    let (code_, maps) = api.get(MAPS).await;
    assert_eq!(code_, 200, "{maps}");
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    until("an outage is not told", async || {
        code(&api, "/readyz").await == 500
    })
    .await;
    assert_eq!(code(&api, "/healthz/kms-providers").await, 500);
    assert_eq!(code(&api, "/livez").await, 200);

    plugin.come();
    until("secrets stay away", async || {
        api.get(SECRETS).await.0 == 200
    })
    .await;
    assert_eq!(names(&api).await, ["foreign", "own", "own-too"]);
    until("health stays away", async || {
        code(&api, "/readyz").await == 200
    })
    .await;
}

#[tokio::test]
async fn a_server_starts_without_the_service_and_has_its_secrets_once_it_comes() {
    let (api, mut plugin) = start().await;
    let made = make(&api, "s").await;
    plugin.leave();
    let later = api.second_when(Path::new(OURS), "/livez").await;
    let admin = &later.admin;
    let (code_, map) = admin.send("POST", MAPS, &config_map("m", json!({}))).await;
    assert_eq!(code_, 201, "{map}");
    let (code_, status) = admin.send("POST", SECRETS, &secret("t")).await;
    assert_eq!(code_, 500, "{status}");
    assert_ne!(admin.get(&format!("{SECRETS}/s")).await.0, 200);
    assert_eq!(code(admin, "/readyz").await, 500);
    plugin.come();
    until("the service is not found", async || {
        code(admin, "/readyz").await == 200
    })
    .await;
    let (code_, read) = admin.get(&format!("{SECRETS}/s")).await;
    assert_eq!((code_, &read["data"]), (200, &made["data"]));
    make(admin, "t").await;
    until("secrets stay away", async || {
        admin.get(SECRETS).await.0 == 200
    })
    .await;
}

#[tokio::test]
async fn what_the_first_version_of_services_sealed_is_read_and_written_if_the_gate_is_open() {
    let mut plugin = None;
    let api = Daemon::start_with(|files| {
        let (kms, socket) = (Kms::new("key-1"), beside(files, "kms.sock"));
        let served = kms.serve_v1(&socket);
        let endpoint = format!("unix://{}", socket.display());
        let old = json!({"kms": {"name": "old", "endpoint": endpoint, "timeout": "1s"}});
        plugin = Some((kms, served));
        let file = configure(files, &[old]);
        vec![file, "--feature-gates=KMSv1=true".to_owned()]
    })
    .await;
    let (kms, _served) = plugin.unwrap();
    let made = make(&api, "s").await;
    let sealed = stored(&api).await;
    assert!(sealed.starts_with("k8s:enc:kms:v1:old:"), "{sealed}");
    assert!(!sealed.contains("in the clear"));
    assert_eq!(code(&api, "/healthz/kms-provider-0").await, 200);
    assert_eq!(code(&api, "/healthz/kms-providers").await, 404);
    let asked = kms.calls("Decrypt");
    let second = api.second().await;
    let (code_, read) = second.admin.get(&format!("{SECRETS}/s")).await;
    assert_eq!((code_, &read["data"]), (200, &made["data"]));
    assert!(kms.calls("Decrypt") > asked, "it knows no key");
    // A service that does not answer holds up writes, and nothing else.
    kms.silence(true);
    assert_eq!(api.send("POST", SECRETS, &secret("t")).await.0, 500);
    let (code_, map) = api.send("POST", MAPS, &config_map("m", json!({}))).await;
    assert_eq!(code_, 201, "{map}");
    assert_eq!(api.get(&format!("{SECRETS}/s")).await.0, 200);
}

#[tokio::test]
async fn a_changed_file_takes_effect_when_its_services_are_well() {
    let key = json!({"aescbc": {"keys": [{"name": "a", "secret": "YWFhYWFhYWFhYWFhYWFhYQ=="}]}});
    let api = Daemon::start_with(|files| {
        vec![
            configure(files, std::slice::from_ref(&key)),
            RELOAD.to_owned(),
        ]
    })
    .await;
    let made = make(&api, "s").await;
    let path = format!("{SECRETS}/s");
    let reloads = async |status: &str| {
        let metrics = api.text("/metrics").await;
        let name = "apiserver_encryption_config_controller_automatic_reloads_total{";
        metrics
            .lines()
            .any(|l| l.starts_with(name) && l.contains(status))
    };
    // Nobody is there.
    let nobody = service("nobody", &beside(api.files(), "nobody.sock"));
    configure(api.files(), &[nobody, key.clone()]);
    until("the file is not tried", async || {
        let (code, same) = api.send("PUT", &path, &made).await;
        assert_eq!((code, version(&same)), (200, version(&made)));
        reloads("failure").await
    })
    .await;

    let plugin = Plugin::start(api.files());
    configure(api.files(), &[plugin.provider(), key]);
    until("the file is not read again", async || {
        let (code, now) = api.send("PUT", &path, &made).await;
        assert_eq!(code, 200, "{now}");
        version(&now) != version(&made)
    })
    .await;
    let sealed = stored(&api).await;
    assert!(sealed.starts_with("k8s:enc:kms:v2:test:"), "{sealed}");
    assert!(reloads("success").await);
    assert_eq!(code(&api, "/healthz/kms-providers").await, 200);
}
