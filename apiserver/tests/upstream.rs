//! Ours beside upstream's API server on one etcd, with the same plugins: each opens what the other
//! sealed, and takes the tokens that the other had signed; a collector of traces is told the same by both.
//!
//! Not among the tests that run by themselves: upstream's has to be built first (`hack/test swap`).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "each program of tests has a use for a part")]
#[path = "apply/daemon.rs"]
mod daemon;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use apiserver::plugin::testing::{Kms, Served, Signer, SigningKey};
use component::Supervisor;
use component::config::TracingConfiguration;
use component::testing::{Collector, Files, Told};
use component::tracing::Tracer;
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use daemon::{Daemon, Second, User};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const SOON: Duration = Duration::from_secs(90);

/// Upstream's API server, which `hack/tools` builds.
fn theirs() -> PathBuf {
    let cache = std::env::var("NAVARCH_CACHE").map_or_else(
        |_| PathBuf::from(std::env::var("HOME").unwrap()).join(".cache/navarch"),
        PathBuf::from,
    );
    let program = cache.join("tools/kube-apiserver");
    assert!(program.exists(), "run: hack/tools kube-apiserver");
    program
}

fn beside(files: &Files, name: &str) -> PathBuf {
    files.write("here", "").with_file_name(name)
}

async fn both(more: impl FnOnce(&Files) -> Vec<String>) -> (Daemon, Second) {
    let ours = Daemon::start_with(more).await;
    let theirs = ours.second_when(&theirs(), "/readyz").await;
    (ours, theirs)
}

fn secret(name: &str) -> Value {
    json!({"metadata": {"name": name}, "stringData": {"password": "in the clear"}})
}

async fn good(api: &User, method: &str, path: &str, body: &Value) -> Value {
    let (code, answer) = api.send(method, path, body).await;
    assert!(code < 300, "{method} {path}: {answer}");
    answer
}

async fn read(api: &User, name: &str) -> Value {
    let (code, answer) = api.get(&format!("{SECRETS}/{name}")).await;
    assert_eq!(code, 200, "{answer}");
    answer
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

/// Writes an object back as it is, until that makes a new version of it; that one.
async fn written_anew(api: &User, name: &str) -> Value {
    let start = Instant::now();
    let old = read(api, name).await;
    loop {
        let now = good(api, "PUT", &format!("{SECRETS}/{name}"), &old).await;
        if version(&now) != version(&old) {
            return now;
        }
        assert!(start.elapsed() < SOON, "{name} is not stale");
        // Whoever asks for health has the service asked.
        api.asked("/healthz").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn each_opens_what_the_other_sealed_by_way_of_a_service() {
    let kms = Kms::new("key-1");
    let mut served: Option<Served> = None;
    let (ours, theirs) = both(|files| {
        let socket = beside(files, "kms.sock");
        served = Some(kms.serve(&socket));
        let endpoint = format!("unix://{}", socket.display());
        let provider = json!({"kms": {"apiVersion": "v2", "name": "test", "endpoint": endpoint}});
        let config = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": [provider]}],
        });
        let path = files.write("encryption.json", &config.to_string());
        vec![format!("--encryption-provider-config={}", path.display())]
    })
    .await;
    let (us, them) = (&*ours, &theirs.admin);
    good(us, "POST", SECRETS, &secret("ours")).await;
    good(them, "POST", SECRETS, &secret("theirs")).await;
    for name in ["ours", "theirs"] {
        let (_, stored, _) = ours
            .etcd()
            .get(&format!("/registry/secrets/default/{name}"))
            .await
            .unwrap();
        assert!(stored.starts_with("k8s:enc:kms:v2:test:"), "{stored}");
        assert_eq!(read(us, name).await, read(them, name).await);
    }
    // Nothing is stale: each takes the other's seed for as good as its own.
    for api in [us, them] {
        for name in ["ours", "theirs"] {
            let old = read(api, name).await;
            let same = good(api, "PUT", &format!("{SECRETS}/{name}"), &old).await;
            assert_eq!(version(&same), version(&old), "{name}");
        }
    }
    kms.rotate("key-2");
    let anew = [
        written_anew(us, "theirs").await,
        written_anew(them, "ours").await,
    ];
    for (name, anew) in ["theirs", "ours"].into_iter().zip(anew) {
        assert_eq!(read(us, name).await, anew);
        assert_eq!(read(them, name).await, anew);
    }
    for api in [us, them] {
        assert_eq!(api.asked("/readyz").await, 200);
        assert_eq!(api.asked("/healthz/kms-providers").await, 200);
        assert_eq!(api.asked("/livez/kms-providers").await, 404);
    }
}

#[tokio::test]
async fn each_takes_the_tokens_that_a_plugin_signed_for_the_other() {
    let signer = Signer::new(&[SigningKey::new("new"), SigningKey::new("old").hidden()]);
    let mut served: Option<Served> = None;
    let (ours, theirs) = both(|files| {
        let socket = beside(files, "signer.sock");
        served = Some(signer.serve(&socket));
        vec![format!(
            "--service-account-signing-endpoint={}",
            socket.display()
        )]
    })
    .await;
    let (us, them) = (&*ours, &theirs.admin);
    good(us, "POST", ACCOUNTS, &json!({"metadata": {"name": "a"}})).await;
    for (signs, verifies) in [(us, them), (them, us)] {
        let request = json!({"spec": {"expirationSeconds": 7200}});
        let answer = good(signs, "POST", &format!("{ACCOUNTS}/a/token"), &request).await;
        assert_eq!(answer["spec"]["expirationSeconds"], 3600, "{answer}");
        let review = json!({"spec": {"token": answer["status"]["token"]}});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let review = good(verifies, "POST", path, &review).await;
        assert_eq!(review["status"]["authenticated"], true, "{review}");
    }
    let (code, keys) = us.get("/openid/v1/jwks").await;
    assert_eq!((code, keys), them.get("/openid/v1/jwks").await);
    let document = async |api: &User| {
        let (_, mut document) = api.get("/.well-known/openid-configuration").await;
        // It names the port of who says it.
        document["jwks_uri"] = Value::Null;
        document
    };
    assert_eq!(document(us).await, document(them).await);
}

/// A network of its own, in which the advertised address exists: upstream's tells its peers that one, whatever
/// `--peer-advertise-ip` says. What the test starts from here on is in it.
fn alone() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    for args in ["link set lo up", "address add 10.1.2.3/32 dev lo"] {
        let status = Command::new("ip").args(args.split(' ')).status().unwrap();
        assert!(status.success(), "ip {args}");
    }
}

#[tokio::test]
async fn each_hands_on_to_the_other_what_it_does_not_serve() {
    const CANDIDATES: &str = "/apis/coordination.k8s.io/v1beta1/leasecandidates";
    // Ours does not aggregate; upstream's serves no candidates without being told to.
    const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
    alone();
    let ours = Daemon::start_with(|files| {
        let mut flags = daemon::peers(files);
        flags.push("--runtime-config=coordination.k8s.io/v1beta1=true".to_owned());
        flags
    })
    .await;
    let less = [
        "--runtime-config=coordination.k8s.io/v1beta1=false",
        "--bind-address=0.0.0.0",
    ]
    .map(str::to_owned);
    let other = ours.second_on("theirs", &theirs(), &less).await;
    let (us, them) = (&*ours, &other.admin);
    for (api, path) in [(us, SERVICES), (them, CANDIDATES)] {
        let start = Instant::now();
        while api.asked(path).await != 200 {
            assert!(start.elapsed() < SOON, "{path} is not handed on");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let (code, list) = us.get(SERVICES).await;
    assert_eq!(
        (code, list["kind"].as_str()),
        (200, Some("APIServiceList")),
        "{list}"
    );
    // What is served at both is told by both alike; what is at one, by both as well.
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let groups = async |api: &User| {
        let text = api.accepting("/apis", accept).await;
        let document: Value = serde_json::from_str(&text).unwrap();
        let items = document["items"].as_array().unwrap().clone();
        let name = |g: &Value| g["metadata"]["name"].as_str().unwrap().to_owned();
        items.iter().map(name).collect::<Vec<_>>()
    };
    let (ours, theirs) = (groups(us).await, groups(them).await);
    for group in ["apiregistration.k8s.io", "coordination.k8s.io"] {
        let told = |all: &[String]| all.iter().any(|g| g == group);
        assert!(told(&ours) && told(&theirs), "{group}: {ours:?} {theirs:?}");
    }
}

/// Spans of a request by name, each with the names of its attributes.
type Spans = BTreeMap<String, BTreeSet<String>>;

/// What the API server told of the trace that begins with this span; it is all there once the span is.
async fn told(collector: &Collector, first: &str) -> Spans {
    let is_first = |told: &Told| told.span.name == first;
    let trace = collector.until(first, is_first).await.span.trace_id;
    let of_server =
        |told: &&Told| told.resource["service.name"] == "apiserver" && told.span.trace_id == trace;
    let is_server = |told: &Told| of_server(&told) && told.attribute("http.target").is_some();
    collector.until("the server's span", is_server).await;
    let all = collector.told();
    let spans = all.iter().filter(of_server).map(|told| {
        let keys = told.span.attributes.iter().map(|a| a.key.clone());
        (told.span.name.clone(), keys.collect())
    });
    spans.collect()
}

/// Spans that only upstream has: it looks at etcd before it deletes, where ours looks into its cache.
const THEIRS: &[(&str, &str)] = &[("DELETE", "Get etcd3"), ("DELETE", "etcdserverpb.KV/Range")];
/// Attributes that only upstream has: Go's name of an encoder.
const THEIR_ATTRIBUTES: &[&str] = &["encoder"];

#[tokio::test]
async fn a_collector_is_told_the_same_by_both() {
    let collector = Collector::start().await;
    let endpoint = collector.address.to_string();
    let config = TracingConfiguration {
        endpoint: Some(endpoint.clone()),
        sampling_rate_per_million: Some(1_000_000),
    };
    let (ours, theirs) = both(|files| {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nendpoint: {endpoint}\n"
        );
        let path = files.write("tracing.yaml", &text);
        vec![format!("--tracing-config-file={}", path.display())]
    })
    .await;
    let service = [("service.name", "client")];
    let client = Tracer::open(&config, &service, &Supervisor::current());
    let object = secret("traced");
    let named = format!("{SECRETS}/traced");
    let mut differences = Vec::new();
    for (method, path) in [
        ("POST", SECRETS),
        ("GET", named.as_str()),
        ("GET", SECRETS),
        ("PUT", named.as_str()),
        ("DELETE", named.as_str()),
    ] {
        let mut both = Vec::new();
        for (who, api) in [("ours", &*ours), ("theirs", &theirs.admin)] {
            let first = format!("{method} {path} {who}");
            let mut object = object.clone();
            // Each has an object of its own, which the one before left.
            object["metadata"]["labels"] = json!({"by": who});
            let asked = async {
                match method {
                    "GET" => api.get(path).await,
                    "DELETE" => api.send(method, path, &json!({})).await,
                    _ => api.send(method, path, &object).await,
                }
            };
            let (code, answer) = client.work(&first, |_| {}, asked).await;
            assert!(code < 300, "{first}: {answer}");
            both.push(told(&collector, &first).await);
            if method == "POST" && who == "ours" {
                good(api, "DELETE", &named, &json!({})).await;
            } else if method == "DELETE" && who == "ours" {
                good(api, "POST", SECRETS, &secret("traced")).await;
            }
        }
        let (own, upstreams) = (&both[0], &both[1]);
        let names = own.keys().chain(upstreams.keys());
        for name in names.collect::<BTreeSet<_>>() {
            let mut theirs = upstreams.get(name).cloned();
            if let Some(keys) = &mut theirs {
                keys.retain(|key| !THEIR_ATTRIBUTES.contains(&key.as_str()));
            }
            if own.get(name) != theirs.as_ref() && !THEIRS.contains(&(method, name.as_str())) {
                let ours = own.get(name);
                differences.push(format!("{method} {path}: {name}: {ours:?}, not {theirs:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}
