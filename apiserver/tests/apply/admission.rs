//! Admission plugins that the configuration file tells what to do, and what they do to requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use component::testing::Files;
use serde_json::{Value, json};

use super::MERGE;
use super::daemon::{Daemon, User};
use super::remote::{Remote, json as answer};

const NAMESPACE: &str = "/api/v1/namespaces/default";

fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap_or_default()
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    let fields = pod["spec"].as_object_mut().unwrap();
    fields.extend(spec.as_object().unwrap().clone());
    pod
}

async fn make(api: &User, path: &str, object: &Value) -> Value {
    let (code, made) = api.send("POST", path, object).await;
    assert_eq!(code, 201, "{made}");
    made
}

/// The file of plugins, and the flag that names it.
fn configure(files: &Files, plugins: &Value) -> String {
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": plugins,
    });
    let path = files.write("admission.json", &config.to_string());
    format!("--admission-control-config-file={}", path.display())
}

/// A server with plugins that are told something, in the file and in one that it names.
async fn told() -> Daemon {
    Daemon::start_with(|files| {
        let selectors = json!({"podNodeSelectorPluginConfig": {
            "clusterDefaultNodeSelector": "pool=general", "listed": "pool=general,disk=ssd",
        }});
        files.write("selectors.json", &selectors.to_string());
        let tolerated = |key: &str| json!({"key": key, "operator": "Exists"});
        let plugins = json!([
            {"name": "PodNodeSelector", "path": "selectors.json"},
            {"name": "EventRateLimit", "configuration": {
                "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration",
                "limits": [{"type": "Namespace", "qps": 1, "burst": 2}],
            }},
            {"name": "PodTolerationRestriction", "configuration": {
                "apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1",
                "kind": "Configuration",
                "default": [tolerated("general")],
                "whitelist": [
                    tolerated("general"), tolerated("node.kubernetes.io/not-ready"),
                    tolerated("node.kubernetes.io/unreachable"),
                ],
            }},
            {"name": "PodSecurity", "configuration": {
                "apiVersion": "pod-security.admission.config.k8s.io/v1",
                "kind": "PodSecurityConfiguration",
                "defaults": {"enforce": "baseline"},
                "exemptions": {"namespaces": ["exempt"]},
            }},
        ]);
        let names = "PodNodeSelector,EventRateLimit,PodTolerationRestriction";
        vec![
            configure(files, &plugins),
            format!("--enable-admission-plugins={names}"),
        ]
    })
    .await
}

#[tokio::test]
async fn plugins_do_with_pods_what_the_file_tells_them() {
    let api = told().await;
    let pods = format!("{NAMESPACE}/pods");
    let made = make(
        &api,
        &pods,
        &pod("a", json!({"nodeSelector": {"disk": "hdd"}})),
    )
    .await;
    assert_eq!(
        made["spec"]["nodeSelector"],
        json!({"disk": "hdd", "pool": "general"})
    );
    let keys: Vec<&str> = { made["spec"]["tolerations"].as_array().unwrap().iter() }
        .map(|t| t["key"].as_str().unwrap())
        .collect();
    let own = ["not-ready", "unreachable"].map(|taint| format!("node.kubernetes.io/{taint}"));
    assert_eq!(keys, [own[0].as_str(), own[1].as_str(), "general"]);
    for (spec, code, why) in [
        (
            json!({"nodeSelector": {"pool": "gpu"}}),
            403,
            "conflicts with its namespace node label selector",
        ),
        (
            json!({"tolerations": [{"key": "gpu", "operator": "Exists"}]}),
            500,
            "its cluster whitelist",
        ),
        (
            json!({"hostNetwork": true}),
            403,
            "violates PodSecurity \"baseline:latest\"",
        ),
    ] {
        let (got, status) = api.send("POST", &pods, &pod("b", spec)).await;
        assert_eq!(got, code, "{status}");
        assert!(message(&status).contains(why), "{status}");
    }
    for name in ["listed", "exempt"] {
        make(
            &api,
            "/api/v1/namespaces",
            &json!({"metadata": {"name": name}}),
        )
        .await;
    }
    let listed = "/api/v1/namespaces/listed/pods";
    make(
        &api,
        listed,
        &pod("a", json!({"nodeSelector": {"disk": "ssd"}})),
    )
    .await;
    let other = pod("b", json!({"nodeSelector": {"disk": "hdd"}}));
    let (code, status) = api.send("POST", listed, &other).await;
    assert_eq!(code, 403, "{status}");
    assert!(
        message(&status).ends_with("namespace whitelist"),
        "{status}"
    );
    let exempt = "/api/v1/namespaces/exempt/pods";
    make(&api, exempt, &pod("a", json!({"hostNetwork": true}))).await;
    let text = api.text("/metrics").await;
    for line in [
        r#"pod_security_evaluations_total{decision="deny",mode="enforce",policy_level="baseline",policy_version="latest",request_operation="create",resource="pod",subresource=""} 1"#,
        r#"pod_security_exemptions_total{request_operation="create",resource="pod",subresource=""} 1"#,
    ] {
        assert!(has(&text, line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn events_come_no_faster_than_the_file_allows_and_what_plugins_do_is_measured() {
    let api = told().await;
    let events = format!("{NAMESPACE}/events");
    let mut codes = Vec::new();
    for i in 0..6 {
        let event = json!({
            "metadata": {"name": format!("e{i}")}, "involvedObject": {"namespace": "default"},
        });
        let (code, status) = api.send("POST", &events, &event).await;
        if code == 429 {
            let said = "Too many requests: limit reached on type Namespace for key default";
            assert_eq!(message(&status), said);
        }
        codes.push(code);
    }
    assert!(
        codes.starts_with(&[201, 201]) && codes.contains(&429),
        "{codes:?}"
    );
    // Connections pass admission, too.
    let exec = format!("{NAMESPACE}/pods/none/exec?command=x&stdout=true");
    assert_eq!(api.get(&exec).await.0, 404);
    let text = api.text("/metrics").await;
    let controller = "apiserver_admission_controller_admission_duration_seconds";
    let step = "apiserver_admission_step_admission_duration_seconds";
    for (name, labels) in [
        (
            controller,
            r#"_count{name="EventRateLimit",operation="CREATE",rejected="true",type="validate"}"#,
        ),
        (
            controller,
            r#"_bucket{le="0.005",name="NamespaceLifecycle",operation="CREATE",rejected="false",type="admit"}"#,
        ),
        (
            step,
            r#"_count{operation="CREATE",rejected="true",type="validate"}"#,
        ),
        (
            step,
            r#"_count{operation="CREATE",rejected="false",type="admit"}"#,
        ),
        (
            step,
            r#"_count{operation="CONNECT",rejected="false",type="validate"} 1"#,
        ),
    ] {
        assert!(
            has(&text, &format!("{name}{labels}")),
            "{name}{labels}\n{text}"
        );
    }
}

/// Whether a metric is there, whatever the order of its labels.
fn has(text: &str, line: &str) -> bool {
    let parts = |line: &str| -> Option<(String, Vec<String>, String)> {
        let (name, rest) = line.split_once('{')?;
        let (labels, value) = rest.split_once('}')?;
        let mut labels: Vec<String> = labels.split(',').map(str::to_owned).collect();
        labels.sort();
        Some((name.to_owned(), labels, value.trim().to_owned()))
    };
    let (name, labels, value) = parts(line).unwrap();
    { text.lines().filter_map(parts) }
        .any(|(n, l, v)| n == name && l == labels && (value.is_empty() || v == value))
}

#[tokio::test]
async fn images_are_asked_about_and_the_answer_is_remembered() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let remote = Remote::start(move |asked| {
        counted.fetch_add(1, Ordering::Relaxed);
        let review = asked.json();
        let images: Vec<&str> = { review["spec"]["containers"].as_array().unwrap().iter() }
            .map(|c| c["image"].as_str().unwrap())
            .collect();
        if images.contains(&"broken") {
            return Box::pin(std::future::ready(answer(403, &json!({}))));
        }
        let bad = images.contains(&"bad");
        let status = json!({"allowed": !bad, "reason": if bad { "it is bad" } else { "" }});
        let mut decided = review.clone();
        decided["status"] = status;
        Box::pin(std::future::ready(answer(200, &decided)))
    });
    let started = async |open: bool| {
        Daemon::start_with(|files| {
            let kubeconfig = remote.kubeconfig(files, "images.kubeconfig", "/images");
            let settings = json!({"imagePolicy": {
                "kubeConfigFile": kubeconfig, "allowTTL": 60, "denyTTL": 60, "retryBackoff": 1,
                "defaultAllow": open,
            }});
            // A file from before there were kinds.
            let file = files.write("images.json", &settings.to_string());
            vec![
                "--enable-admission-plugins=ImagePolicyWebhook".to_owned(),
                format!("--admission-control-config-file={}", file.display()),
            ]
        })
        .await
    };
    let with =
        |name: &str, image: &str| pod(name, json!({"containers": [{"name": "c", "image": image}]}));
    let api = started(false).await;
    let pods = format!("{NAMESPACE}/pods");
    make(&api, &pods, &with("good", "good")).await;
    make(&api, &pods, &with("again", "good")).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1, "the answer is remembered");
    let asked = remote.asked().pop().unwrap();
    assert_eq!(
        (asked.path.as_str(), asked.json()["kind"].as_str()),
        ("/images", Some("ImageReview"))
    );
    let (code, status) = api.send("POST", &pods, &with("bad", "bad")).await;
    let said = "pods \"bad\" is forbidden: image policy webhook backend denied one or more images: it is bad";
    assert_eq!((code, message(&status)), (403, said));
    assert_eq!(api.send("POST", &pods, &with("x", "broken")).await.0, 403);
    // CVE-2023-2727: a debugger's image is an image.
    let debug =
        |image: &str| json!({"spec": {"ephemeralContainers": [{"name": "d", "image": image}]}});
    let path = format!("{pods}/good/ephemeralcontainers");
    let strategic = "application/strategic-merge-patch+json";
    let (code, status) = api.patch(&path, strategic, &debug("bad")).await;
    assert_eq!(code, 403, "{status}");
    assert!(message(&status).ends_with("it is bad"), "{status}");
    assert_eq!(api.patch(&path, strategic, &debug("fine")).await.0, 200);

    let api = started(true).await;
    let open = make(&api, &pods, &with("x", "broken")).await;
    assert_eq!(
        open["metadata"]["annotations"]["alpha.image-policy.k8s.io/failed-open"],
        "true"
    );
}

#[tokio::test]
async fn older_plugins_make_namespaces_or_ask_for_them() {
    let api = Daemon::start_with(|_| {
        vec!["--enable-admission-plugins=NamespaceAutoProvision,NamespaceExists".to_owned()]
    })
    .await;
    let map = json!({"metadata": {"name": "m"}});
    let (code, _) = api
        .send("POST", "/api/v1/namespaces/new/configmaps?dryRun=All", &map)
        .await;
    assert_eq!(code, 404, "a rehearsal makes nothing");
    make(&api, "/api/v1/namespaces/new/configmaps", &map).await;
    assert_eq!(api.get("/api/v1/namespaces/new").await.0, 200);
    let (code, status) = api
        .send("POST", "/api/v1/namespaces/No/configmaps", &map)
        .await;
    assert_eq!(code, 403, "{status}");
    assert!(
        message(&status).starts_with("configmaps \"m\" is forbidden"),
        "{status}"
    );
}

#[tokio::test]
async fn a_pod_on_a_node_is_resized_within_the_node() {
    let api = Daemon::start().await;
    let node = json!({
        "metadata": {"name": "n", "labels": {
            "topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "o",
        }},
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}},
    });
    make(&api, "/api/v1/nodes", &node).await;
    let pods = format!("{NAMESPACE}/pods");
    let asks = |cpu: &str| json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}});
    let init = |cpu: &str| json!([asks(cpu)]);
    let mut wanted = pod(
        "p",
        json!({"containers": [asks("1")], "initContainers": init("1")}),
    );
    wanted["spec"]["initContainers"][0]["name"] = json!("i");
    make(&api, &pods, &wanted).await;
    // The binding brings the labels of the node.
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    make(&api, &format!("{pods}/p/binding"), &binding).await;
    let (_, bound) = api.get(&format!("{pods}/p")).await;
    assert_eq!(
        bound["metadata"]["labels"],
        json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"})
    );
    let resize = async |list: &str, name: &str, cpu: &str| {
        let body =
            json!({"spec": {list: [{"name": name, "resources": {"requests": {"cpu": cpu}}}]}});
        let strategic = "application/strategic-merge-patch+json";
        api.patch(&format!("{pods}/p/resize"), strategic, &body)
            .await
    };
    let (code, status) = resize("containers", "c", "2001m").await;
    assert_eq!(code, 403, "{status}");
    let said = "pods \"p\" is forbidden: node didn't have enough allocatable resources: cpu, requested: 2001, allocatable: 2000";
    assert_eq!(message(&status), said);
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "NodeCapacity"}])
    );
    let (code, resized) = resize("containers", "c", "2").await;
    assert_eq!(code, 200, "{resized}");
    // Other init containers than sidecars are resized by kubelets that say so.
    let (code, status) = resize("initContainers", "i", "1500m").await;
    assert_eq!(code, 403, "{status}");
    let said = "pod update requires features InPlacePodVerticalScalingInitContainers which are not available on node \"n\"";
    assert!(message(&status).ends_with(said), "{status}");
    let declares =
        json!({"status": {"declaredFeatures": ["InPlacePodVerticalScalingInitContainers"]}});
    let (code, told) = api.patch("/api/v1/nodes/n/status", MERGE, &declares).await;
    assert_eq!(code, 200, "{told}");
    let (code, resized) = resize("initContainers", "i", "1500m").await;
    assert_eq!(code, 200, "{resized}");
    let windows = json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}});
    assert_eq!(api.patch("/api/v1/nodes/n", MERGE, &windows).await.0, 200);
    let (code, status) = resize("containers", "c", "1").await;
    assert_eq!(code, 403, "{status}");
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "UnsupportedPlatform"}])
    );
}

/// CVE-2020-8554: whoever may write services could take the traffic of any address.
#[tokio::test]
async fn addresses_from_outside_are_not_for_everybody() {
    let api = Daemon::start_with(|_| {
        vec!["--enable-admission-plugins=DenyServiceExternalIPs".to_owned()]
    })
    .await;
    let services = format!("{NAMESPACE}/services");
    let service = |name: &str, addresses: &[&str]| {
        json!({
            "metadata": {"name": name},
            "spec": {"ports": [{"port": 80}], "externalIPs": addresses},
        })
    };
    let (code, status) = api
        .send("POST", &services, &service("a", &["192.0.2.1"]))
        .await;
    assert_eq!(code, 403, "{status}");
    let said = "services \"a\" is forbidden: Use of external IPs is denied by admission control";
    assert_eq!(message(&status), said);
    make(&api, &services, &service("a", &[])).await;
    let path = format!("{services}/a");
    let more = json!({"spec": {"externalIPs": ["192.0.2.1"]}});
    for path in [path.clone(), format!("{path}/status")] {
        let (code, changed) = api.patch(&path, MERGE, &more).await;
        // A status brings no address.
        let there = changed["spec"]["externalIPs"].is_array();
        assert!(code == 403 || code == 200 && !there, "{changed}");
    }
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(api.patch(&path, MERGE, &label).await.0, 200);
}

/// CVE-2023-2728, CVE-2024-3177: what an account does not list, its pods do not get by another way, be it
/// a debugger or the whole of a secret as environment.
#[tokio::test]
async fn an_account_that_lists_its_secrets_gives_no_others() {
    let api =
        Daemon::start_with(|_| vec!["--enable-admission-plugins=ServiceAccount".to_owned()]).await;
    let account = json!({
        "metadata": {
            "name": "app",
            "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"},
        },
        "secrets": [{"name": "known"}],
    });
    make(&api, &format!("{NAMESPACE}/serviceaccounts"), &account).await;
    let pods = format!("{NAMESPACE}/pods");
    let of = |name: &str, container: Value| {
        let mut all = json!({"name": "c", "image": "i"});
        let fields = all.as_object_mut().unwrap();
        fields.extend(container.as_object().unwrap().clone());
        pod(
            name,
            json!({"serviceAccountName": "app", "containers": [all]}),
        )
    };
    let whole = |name: &str| json!({"envFrom": [{"secretRef": {"name": name}}]});
    let single = |name: &str| json!({"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]});
    for (i, part) in [whole("other"), single("other")].into_iter().enumerate() {
        let (code, status) = api.send("POST", &pods, &of(&format!("p{i}"), part)).await;
        assert_eq!(code, 403, "{status}");
        let said = "referencing secret.secretName=\"other\" is not allowed because service account app does not reference that secret";
        assert!(message(&status).ends_with(said), "{status}");
    }
    make(&api, &pods, &of("p", whole("known"))).await;
    let path = format!("{pods}/p/ephemeralcontainers");
    let strategic = "application/strategic-merge-patch+json";
    for (part, wanted) in [
        (whole("other"), 403),
        (single("other"), 403),
        (whole("known"), 200),
    ] {
        let mut debug = json!({"name": "d", "image": "i"});
        let fields = debug.as_object_mut().unwrap();
        fields.extend(part.as_object().unwrap().clone());
        let body = json!({"spec": {"ephemeralContainers": [debug]}});
        let (code, answer) = api.patch(&path, strategic, &body).await;
        assert_eq!(code, wanted, "{answer}");
    }
}
