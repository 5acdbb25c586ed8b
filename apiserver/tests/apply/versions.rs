//! Servers that behave like an older release (KEP-4330), and gates that are not as they are by default.

use std::process::Command;

use serde_json::{Value, json};

use super::daemon::{Daemon, OURS, User, eventually};

fn flags(all: &[&str]) -> Vec<String> {
    all.iter().map(|flag| (*flag).to_owned()).collect()
}

/// What a server says that does not start.
fn refusal(flags: &[&str]) -> String {
    let output = Command::new(OURS)
        .arg("--etcd-servers=http://127.0.0.1:1")
        .args(flags)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64), "{flags:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn an_emulated_release_has_its_own_resources_gates_and_version() {
    let old = flags(&[
        "--emulated-version=1.36",
        "--feature-gates=ClusterTrustBundle=true",
    ]);
    let api = Daemon::start_with(|_| old).await;
    let (_, version) = api.get("/version").await;
    let of = |field: &str| version[field].as_str().unwrap().to_owned();
    assert_eq!(of("minor"), "37");
    assert_eq!(
        (of("emulationMajor"), of("emulationMinor")),
        ("1".into(), "36".into())
    );
    assert_eq!(of("minCompatibilityMinor"), "35");
    // Stable since 1.37, and of 1.36.
    let bundles = "/apis/certificates.k8s.io/v1/clustertrustbundles";
    assert_eq!(api.asked(bundles).await, 404);
    let policies = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
    assert_eq!(api.asked(policies).await, 200);
    let (_, group) = api.get("/apis/certificates.k8s.io/v1").await;
    let listed = |name: &str| {
        let all = group["resources"].as_array().unwrap();
        all.iter().any(|r| r["name"] == name)
    };
    assert!(
        listed("certificatesigningrequests") && !listed("clustertrustbundles"),
        "{group}"
    );
    let metrics = api.text("/metrics").await;
    let info = "version_info{component=\"kube\",binary=\"1.37.1\",emulation=\"1.36\",min_compat=\"1.35\"} 1";
    assert!(metrics.contains(info), "{metrics}");
    assert!(
        metrics
            .contains("kubernetes_feature_enabled{name=\"ClusterTrustBundle\",stage=\"BETA\"} 1")
    );
}

#[test]
fn what_a_release_does_not_have_is_refused_at_the_start() {
    for (flags, why) in [
        (
            &["--emulated-version=1.33"][..],
            "emulation version 1.33 is not between [1.34, 1.37.0]",
        ),
        (
            &[
                "--emulated-version=1.34",
                "--feature-gates=EvictionRequestAPI=true",
            ],
            "cannot set feature gate EvictionRequestAPI to true, feature is PreAlpha at emulated version 1.34",
        ),
        (
            &["--emulation-forward-compatible"],
            "cannot be set to true if the emulation version is the same as the binary version",
        ),
        (
            &["--runtime-config=no.such/v1=true"],
            "unknown api groups no.such/v1",
        ),
        (
            &[
                "--feature-gates=UnknownVersionInteroperabilityProxy=false",
                "--peer-ca-file=/x",
            ],
            "--peer-ca-file requires UnknownVersionInteroperabilityProxy feature to be turned on",
        ),
        (&["--peer-ca-file=/x"], "proxy-cert-file not specified"),
    ] {
        let said = refusal(flags);
        assert!(said.contains(why), "{flags:?}: {said}");
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "hostnameOverride": "other",
            "containers": [{
                "name": "c",
                "image": "i",
                "lifecycle": {"stopSignal": "SIGUSR1"},
                "env": [{"name": "E", "value": "v"}],
            }],
            "os": {"name": "linux"},
            "tolerations": [{"key": "k", "operator": "Gt", "value": "5", "effect": "NoSchedule"}],
        },
    })
}

#[tokio::test]
async fn gates_that_are_turned_on_and_off_decide_what_of_a_pod_is_kept() {
    let gates = "--feature-gates=ContainerStopSignals=true,TaintTolerationComparisonOperators=true";
    let api = Daemon::start_with(|_| flags(&[gates])).await;
    let (code, made) = api.send("POST", PODS, &pod("a")).await;
    assert_eq!(code, 201, "{made}");
    let spec = &made["spec"];
    assert_eq!(spec["containers"][0]["lifecycle"]["stopSignal"], "SIGUSR1");
    assert_eq!(spec["hostnameOverride"], "other");

    let old = flags(&["--emulated-version=1.34"]);
    let api = Daemon::start_with(|_| old).await;
    let (code, failure) = api.send("POST", PODS, &pod("a")).await;
    assert_eq!(code, 422, "{failure}");
    let mut simple = pod("a");
    simple["spec"]
        .as_object_mut()
        .unwrap()
        .remove("tolerations");
    let (code, made) = api.send("POST", PODS, &simple).await;
    assert_eq!(code, 201, "{made}");
    // Of gates that 1.34 has and leaves off.
    assert!(
        made["spec"]["containers"][0].get("lifecycle").is_none(),
        "{made}"
    );
    assert!(made["spec"].get("hostnameOverride").is_none(), "{made}");
}

#[tokio::test]
async fn what_older_servers_have_to_read_is_stored_as_they_know_it() {
    const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings";
    let api = Daemon::start().await;
    let old = api
        .second_on(
            "old",
            OURS.as_ref(),
            &flags(&["--min-compatibility-version=1.35"]),
        )
        .await;
    let stored = async || {
        let key = "/registry/mutatingadmissionpolicybindings/b";
        let (_, value, _) = api.etcd().get(key).await.unwrap();
        let is_of = |version: &&str| {
            value.contains(&format!("admissionregistration.k8s.io/{version}\u{12}"))
        };
        ["v1", "v1beta1"].iter().position(is_of)
    };
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p"}});
    let (code, made) = api.send("POST", BINDINGS, &binding).await;
    assert_eq!((code, stored().await), (201, Some(0)), "{made}");
    // The other reads it, and stores it anew although nothing else changes.
    let path = format!("{BINDINGS}/b");
    let (code, seen) = old.admin.get(&path).await;
    assert_eq!((code, &seen), (200, &made));
    let (code, again) = old.admin.send("PUT", &path, &seen).await;
    assert_eq!((code, stored().await), (200, Some(1)), "{again}");
    assert_eq!(again["spec"], made["spec"]);
    assert_ne!(
        again["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    eventually("the new form is read", async || {
        api.get(&path).await == (200, again.clone())
    })
    .await;
    let hash = async |user: &User| {
        let (_, group) = user.get("/apis/admissionregistration.k8s.io/v1").await;
        let all = group["resources"].as_array().unwrap();
        let of = |r: &&Value| r["name"] == "mutatingadmissionpolicybindings";
        all.iter().find(of).unwrap()["storageVersionHash"].clone()
    };
    assert_ne!(hash(&api).await, hash(&old.admin).await);
}

#[tokio::test]
async fn a_gate_of_the_server_itself_takes_away_what_it_gave() {
    let off = [
        "APIServerIdentity",
        "UnknownVersionInteroperabilityProxy",
        "ComponentFlagz",
        "OpenAPIEnums",
        "TokenRequestServiceAccountUIDValidation",
        "GenericWorkload",
    ];
    let gates: Vec<String> = off.iter().map(|gate| format!("{gate}=false")).collect();
    let gates = format!("--feature-gates={}", gates.join(","));
    let api = Daemon::start_with(|_| flags(&[&gates])).await;
    let (_, leases) = api
        .get("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases")
        .await;
    let named = |l: &Value| {
        let name = l["metadata"]["name"].as_str().unwrap();
        name.starts_with("apiserver-")
    };
    assert!(
        !leases["items"].as_array().unwrap().iter().any(named),
        "{leases}"
    );
    assert_eq!(api.asked("/flagz").await, 404);
    assert_eq!(api.asked("/statusz").await, 200);
    let (_, index) = api.get("/").await;
    let told = index["paths"].as_array().unwrap();
    assert!(told.contains(&json!("/statusz")) && !told.contains(&json!("/flagz")));
    let schema = api.text("/openapi/v3/api/v1").await;
    assert!(schema.contains("restartPolicy") && !schema.contains("\"enum\":["));

    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"metadata": {"name": "a"}});
    assert_eq!(api.send("POST", accounts, &account).await.0, 201);
    let request = json!({"metadata": {"uid": "other"}, "spec": {"audiences": ["x"]}});
    let (code, token) = api
        .send("POST", &format!("{accounts}/a/token"), &request)
        .await;
    assert_eq!(code, 201, "{token}");
    assert_eq!(token["metadata"]["uid"], "other");
}
