//! Servers that behave like an older release (KEP-4330), and gates that are not as they are by default.

use std::process::Command;

use serde_json::{Value, json};

use super::daemon::{Daemon, OURS};

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
