use component::testing::{Ca, FakeApi, Files};
use serde_json::{Value, json};

use super::*;

#[test]
fn a_certificate_is_renewed_after_its_part_of_life() {
    assert_eq!(remaining(0, 1000, 0, 0.7).as_secs(), 700);
    assert_eq!(remaining(0, 1000, 500, 0.7).as_secs(), 200);
    assert_eq!(remaining(0, 1000, 900, 0.7), Duration::ZERO);
    assert_eq!(remaining(1000, 0, 0, 0.7), Duration::ZERO);
}

#[test]
fn a_store_links_to_its_newest_pair() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "kubelet-server");
    assert_eq!(store.current(), None);
    let pair = Ca::new("ca").server(&["node-1", "10.0.0.1"]);
    store.update(&pair.cert, &pair.key).unwrap();
    let current = store.current().unwrap();
    assert!(!current.has_expired());
    assert_eq!(current.names.dns, ["node-1"]);
    assert!(current.names.covers(&Names {
        dns: vec!["node-1".to_owned()],
        ips: vec!["10.0.0.1".parse().unwrap()],
    }));
    assert!(!current.names.covers(&Names {
        dns: Vec::new(),
        ips: vec!["10.0.0.2".parse().unwrap()],
    }));
    let link = std::fs::read_link(store.current_path()).unwrap();
    assert!(
        link.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("kubelet-server-2")
    );
}

/// Signs whatever the request says, as far as the kubelet looks at it.
async fn sign(api: &mut FakeApi, ca: &Ca, outcome: &str) -> Value {
    let asked = api.next().await;
    let created = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "csr-x"},
        "spec": {"request": "", "signerName": "s"},
    });
    let seen = asked.json(&created);
    let pair = ca.client("system:node:n", &["system:nodes"]);
    let certificate = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        pair.cert.as_bytes(),
    );
    let mut signed = created;
    signed["status"] = json!({
        "conditions": [{"type": outcome, "status": "True", "message": "because"}],
        "certificate": certificate,
    });
    let list = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequestList",
        "metadata": {"resourceVersion": "1"}, "items": [signed],
    });
    let asked = api.next().await.json(&list);
    assert_eq!(asked.param("fieldSelector"), "metadata.name=csr-x");
    seen.json()
}

fn config(files: &Files, bootstrap: &Path) -> config::Config {
    let dir = files.write("x", "");
    let dir = dir.parent().unwrap().display().to_string();
    config::tests::config(
        "rotateCertificates: true\n",
        &[
            &format!("--cert-dir={dir}"),
            &format!("--bootstrap-kubeconfig={}", bootstrap.display()),
        ],
    )
}

fn bootstrap(files: &Files, api: &FakeApi) -> PathBuf {
    files.write(
        "bootstrap.conf",
        &format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: '{}'}}}}]\n\
             users: [{{name: u, user: {{token: secret}}}}]\n",
            api.config().server
        ),
    )
}

#[tokio::test]
async fn a_bootstrap_token_is_exchanged_for_a_certificate_once() {
    let mut api = FakeApi::plain();
    let (files, ca) = (Files::new(), Ca::new("ca"));
    let bootstrap = bootstrap(&files, &api);
    let config = config(&files, &bootstrap);
    let kubeconfig = bootstrap.with_file_name("kubelet.conf");
    let tasks = Supervisor::current();
    let (got, asked) = tokio::join!(
        client_config(&config, &kubeconfig, "n", &tasks),
        sign(&mut api, &ca, "Approved")
    );
    let got = got.unwrap();
    assert!(got.certificate.is_some() && got.bearer.is_none());
    assert_eq!(
        asked["spec"]["signerName"],
        "kubernetes.io/kube-apiserver-client-kubelet"
    );
    assert_eq!(
        asked["spec"]["usages"],
        json!(["digital signature", "client auth"])
    );
    let written = std::fs::read_to_string(&kubeconfig).unwrap();
    assert!(written.contains("kubelet-client-current.pem") && !written.contains("secret"));

    // The second time nobody is asked.
    let again = client_config(&config, &kubeconfig, "n", &tasks)
        .await
        .unwrap();
    assert_eq!(again.server, api.config().server);
    assert!(api.is_quiet().await);
}

#[tokio::test]
async fn a_denied_request_is_told() {
    let mut api = FakeApi::plain();
    let (files, ca) = (Files::new(), Ca::new("ca"));
    let bootstrap = bootstrap(&files, &api);
    let config = config(&files, &bootstrap);
    let tasks = Supervisor::current();
    let kubeconfig = bootstrap.with_file_name("kubelet.conf");
    let (got, _) = tokio::join!(
        client_config(&config, &kubeconfig, "n", &tasks),
        sign(&mut api, &ca, "Denied")
    );
    let error = got.unwrap_err().to_string();
    assert_eq!(
        error,
        "certificate signing request csr-x is denied: because"
    );
    assert!(!kubeconfig.exists());
}

#[tokio::test]
async fn a_new_address_of_the_node_makes_a_new_serving_certificate() {
    let mut api = FakeApi::plain();
    let ca = Ca::new("ca");
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "kubelet-server");
    let pair = ca.server(&["10.0.0.1"]);
    store.update(&pair.cert, &pair.key).unwrap();
    let ips = |ip: &str| {
        Some(Names {
            dns: Vec::new(),
            ips: vec![ip.parse().unwrap()],
        })
    };
    let (names, receiver) = watch::channel(ips("10.0.0.1"));
    let metrics = Metrics::new();
    let manager = Manager {
        client: api.client(),
        store,
        purpose: Purpose::Server,
        node: "n".to_owned(),
        names: receiver,
        metrics: metrics.clone(),
    };
    let mut have = manager.start(&Supervisor::current());
    assert!(*have.borrow());
    assert!(api.is_quiet().await);
    let ttl = "kubelet_certificate_manager_server_ttl_seconds";
    let lived = "kubelet_certificate_manager_server_rotation_seconds_count";
    assert!(value(&metrics, ttl) > 1e9);
    assert_eq!(value(&metrics, lived), 0.0);
    names.send_replace(ips("10.0.0.2"));
    let asked = sign(&mut api, &ca, "Approved").await;
    assert_eq!(asked["spec"]["signerName"], "kubernetes.io/kubelet-serving");
    have.changed().await.unwrap();
    assert_eq!(value(&metrics, lived), 1.0);
    let failures = "kubelet_server_expiration_renew_errors";
    assert_eq!(value(&metrics, failures), 0.0);
    // The certificate that came is a client's, which has no names.
    sign(&mut api, &ca, "Denied").await;
    let counted = async {
        while value(&metrics, failures) == 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), counted)
        .await
        .expect("a refusal is counted");
    assert_eq!(value(&metrics, lived), 1.0);
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_as_none_until_it_is_renewed() {
    let mut api = FakeApi::plain();
    let ca = Ca::new("ca");
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), "kubelet-client");
    let pair = ca.client_with("system:node:n", &[], |c| {
        c.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    store.update(&pair.cert, &pair.key).unwrap();
    let metrics = Metrics::new();
    let (_names, names) = watch::channel(Some(Names::default()));
    let manager = Manager {
        client: api.client(),
        store,
        purpose: Purpose::Client,
        node: "n".to_owned(),
        names,
        metrics: metrics.clone(),
    };
    let ttl = "kubelet_certificate_manager_client_ttl_seconds";
    let mut have = manager.start(&Supervisor::current());
    assert!(!*have.borrow());
    assert!(metrics.answer("").1.contains(&format!("\n{ttl} +Inf\n")));
    sign(&mut api, &ca, "Approved").await;
    have.changed().await.unwrap();
    assert!(value(&metrics, ttl) > 1e9);
    let failures = "kubelet_certificate_manager_client_expiration_renew_errors";
    assert_eq!(value(&metrics, failures), 0.0);
}

/// A sample, by its name in the classic form.
fn value(metrics: &Metrics, name: &str) -> f64 {
    let (_, text) = metrics.answer("");
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name}: {text}"))
        .trim()
        .parse()
        .unwrap()
}
