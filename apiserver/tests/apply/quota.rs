//! Quotas: what is used never passes what is allowed, whoever asks for it at once.

use serde_json::{Value, json};

use super::daemon::{Daemon, User};

const NAMESPACE: &str = "/api/v1/namespaces/default";

/// A quota whose status is as the controller writes it. There is none here, so that nobody corrects what
/// a server charges.
async fn limit(api: &User, name: &str, hard: &Value) {
    let all = format!("{NAMESPACE}/resourcequotas");
    let quota = json!({"metadata": {"name": name}, "spec": {"hard": hard}});
    let (code, made) = api.send("POST", &all, &quota).await;
    assert_eq!(code, 201, "{made}");
    let unused: Value = hard
        .as_object()
        .unwrap()
        .keys()
        .map(|name| (name.clone(), json!("0")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let status = json!({"status": {"hard": hard, "used": unused}});
    let path = format!("{all}/{name}/status");
    let (code, told) = api.patch(&path, super::MERGE, &status).await;
    assert_eq!(code, 200, "{told}");
}

async fn used(api: &User, name: &str) -> Value {
    let (code, quota) = api.get(&format!("{NAMESPACE}/resourcequotas/{name}")).await;
    assert_eq!(code, 200, "{quota}");
    quota["status"]["used"].clone()
}

#[tokio::test]
async fn many_callers_of_two_servers_never_exceed_a_quota() {
    const CALLERS: usize = 60;
    const MAPS: usize = 25;
    const PODS: usize = 7;
    let first = Daemon::start().await;
    let second = first.second().await;
    limit(&first, "maps", &json!({"configmaps": MAPS.to_string()})).await;
    // 15 requests of 500m fit, but only 7 pods do.
    let hard = json!({"pods": PODS.to_string(), "requests.cpu": "7500m"});
    limit(&first, "pods", &hard).await;
    let seen = async || used(&second.admin, "pods").await != Value::Null;
    assert!(seen().await, "the other server knows the quotas");

    let servers: [&User; 2] = [&first, &second.admin];
    let asked = (0..CALLERS).map(|i| async move {
        let api = servers[i % 2];
        let map = json!({"metadata": {"name": format!("m{i}")}});
        let pod = json!({
            "metadata": {"name": format!("p{i}")},
            "spec": {"containers": [{
                "name": "c", "image": "i", "resources": {"requests": {"cpu": "500m"}},
            }]},
        });
        let (maps, pods) = (
            format!("{NAMESPACE}/configmaps"),
            format!("{NAMESPACE}/pods"),
        );
        let (map, pod) = tokio::join!(api.send("POST", &maps, &map), api.send("POST", &pods, &pod));
        (map, pod)
    });
    let answers = futures::future::join_all(asked).await;
    let (maps, pods): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    for (answers, allowed) in [(&maps, MAPS), (&pods, PODS)] {
        let made = answers.iter().filter(|(code, _)| *code == 201).count();
        assert_eq!(made, allowed, "all that fits and no more");
        let refused = answers.iter().filter(|(code, _)| *code != 201);
        for (code, status) in refused {
            assert_eq!(*code, 403, "{status}");
            let message = status["message"].as_str().unwrap();
            assert!(message.contains("exceeded quota"), "{message}");
        }
    }
    assert_eq!(used(&first, "maps").await["configmaps"], MAPS.to_string());
    let used = used(&first, "pods").await;
    assert_eq!(used["pods"], PODS.to_string());
    assert_eq!(used["requests.cpu"], "3500m");
    for (resource, allowed) in [("configmaps", MAPS), ("pods", PODS)] {
        let (_, list) = first.get(&format!("{NAMESPACE}/{resource}")).await;
        let items = list["items"].as_array().unwrap();
        let own = items
            .iter()
            .filter(|item| item["metadata"]["name"] != "kube-root-ca.crt");
        assert_eq!(own.count(), allowed);
    }
}

#[tokio::test]
async fn what_is_limited_needs_a_quota() {
    let api = Daemon::start_with(|files| {
        let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
             - name: ResourceQuota\n  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n\
             \x20   kind: ResourceQuotaConfiguration\n    limitedResources:\n\
             \x20   - {resource: pods, matchContains: [requests.memory]}\n";
        let file = files.write("admission.yaml", text);
        vec![format!("--admission-control-config-file={}", file.display())]
    })
    .await;
    let pod = |name: &str, resource: &str| {
        json!({
            "metadata": {"name": name},
            "spec": {"containers": [{
                "name": "c", "image": "i", "resources": {"requests": {resource: "1"}},
            }]},
        })
    };
    let pods = format!("{NAMESPACE}/pods");
    assert_eq!(api.send("POST", &pods, &pod("a", "cpu")).await.0, 201);
    let (code, status) = api.send("POST", &pods, &pod("b", "memory")).await;
    assert_eq!(code, 403, "{status}");
    let said = "pods \"b\" is forbidden: insufficient quota to consume: requests.memory";
    assert_eq!(status["message"], said);
    limit(&api, "memory", &json!({"requests.memory": "1"})).await;
    assert_eq!(api.send("POST", &pods, &pod("b", "memory")).await.0, 201);
    let (_, status) = api.send("POST", &pods, &pod("c", "memory")).await;
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("exceeded quota: memory"), "{message}");
}
