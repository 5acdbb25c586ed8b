//! How webhooks are reached: services, credentials, changes of configurations, connections.

use tokio::sync::Semaphore;

use super::*;

#[tokio::test]
async fn a_service_is_reached_under_its_name_with_the_credentials_for_it() {
    let respond = |asked: Asked| -> BoxFuture<'static, Response> {
        Box::pin(async move { review(&asked, allowed()) })
    };
    let remote = Remote::start_as(&["hook.default.svc"], respond);
    let port: u16 = remote.url.rsplit(':').next().unwrap().parse().unwrap();
    let api = Daemon::start_with(|files| {
        let users = format!(
            "users:\n- {{name: '*.default.svc:{port}', user: {{token: for-the-namespace}}}}\n\
             - {{name: 'other.default.svc:{port}', user: {{token: for-the-other}}}}\n"
        );
        let kubeconfig = files.write("webhooks.kubeconfig", &format!("apiVersion: v1\nkind: Config\n{users}"));
        let plugin = |name: &str| {
            format!(
                "- name: {name}\n  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n    \
                 kind: WebhookAdmissionConfiguration\n    kubeConfigFile: {}\n",
                kubeconfig.display()
            )
        };
        let admission = files.write(
            "admission.yaml",
            &format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n{}",
                plugin("ValidatingAdmissionWebhook")
            ),
        );
        vec![format!("--admission-control-config-file={}", admission.display())]
    })
    .await;
    // Whatever the service resolves to: the certificate must be for the service's own name.
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    let services = "/api/v1/namespaces/default/services";
    assert_eq!(api.send("POST", services, &service("hook")).await.0, 201);
    assert_eq!(api.send("POST", services, &service("other")).await.0, 201);
    let of = |name: &str, label: &str| {
        let config = json!({
            "service": {"namespace": "default", "name": name, "port": port, "path": format!("/{name}")},
            "caBundle": STANDARD.encode(&remote.ca.pem),
        });
        let selector = json!({"matchLabels": {"do": label}});
        let more = json!({"clientConfig": config, "objectSelector": selector});
        hook(
            &remote,
            &format!("/{label}"),
            &[rule(&["CREATE"], "configmaps")],
            more,
        )
    };
    let hooks = [
        of("hook", "reach"),
        of("other", "misname"),
        of("absent", "absent"),
    ];
    let object = json!({"metadata": {"name": "a"}, "webhooks": hooks});
    let path = format!("{GROUP}/validatingwebhookconfigurations");
    let (code, made) = api.send("POST", &path, &object).await;
    assert_eq!(code, 201, "{made}");
    let make = async |name: &str, label: &str| {
        let mut map = config_map(name, json!({}));
        map["metadata"]["labels"] = json!({"do": label});
        let (code, answer) = api.send("POST", &format!("{MAPS}?dryRun=All"), &map).await;
        (
            code,
            answer["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    eventually("the service is asked", async || {
        make("m", "reach").await.0 == 201 && !remote.asked().is_empty()
    })
    .await;
    let asked = remote.asked().pop().unwrap();
    assert_eq!(
        (asked.path.as_str(), asked.authorization.as_str()),
        ("/hook", "Bearer for-the-namespace")
    );
    assert_eq!(asked.host, format!("hook.default.svc:{port}"));
    let (code, said) = make("m", "misname").await;
    assert_eq!(code, 500);
    assert!(
        said.contains("tls: failed to verify certificate: x509: "),
        "{said}"
    );
    let (code, said) = make("m", "absent").await;
    assert_eq!(code, 500);
    let why = format!(
        "Post \"https://absent.default.svc:{port}/absent?timeout=10s\": service \"absent\" not found"
    );
    assert!(said.ends_with(&why), "{said}");
}

#[tokio::test]
async fn a_changed_configuration_acts_at_once() {
    let remote = webhooks(|path, _| match path {
        "/deny" => denied("no"),
        _ => allowed(),
    });
    let api = Daemon::start().await;
    let rules = [rule(&["CREATE"], "configmaps")];
    let deny = hook(&remote, "/deny", &rules, json!({}));
    configure(&api, &remote, "Validating", "a", &[deny]).await;
    assert_eq!(create(&api, "m").await.0, 400);
    let path = format!("{GROUP}/validatingwebhookconfigurations/a");
    let other =
        json!([{"op": "replace", "path": "/webhooks/1/rules/0/operations", "value": ["UPDATE"]}]);
    let (code, changed) = api
        .patch(&path, "application/json-patch+json", &other)
        .await;
    assert_eq!(code, 200, "{changed}");
    eventually("creates pass", async || create(&api, "m").await.0 == 201).await;
    let change = json!({"data": {"k": "w"}});
    assert_eq!(
        api.patch(&format!("{MAPS}/m"), crate::MERGE, &change)
            .await
            .0,
        400
    );
    assert_eq!(api.send("DELETE", &path, &json!({})).await.0, 200);
    eventually("updates pass", async || {
        api.patch(&format!("{MAPS}/m"), crate::MERGE, &change)
            .await
            .0
            == 200
    })
    .await;
    // Another server on the same etcd knows what this one was told.
    let deny = hook(&remote, "/deny", &rules, json!({}));
    configure(&api, &remote, "Validating", "b", &[deny]).await;
    let second = api.second().await;
    eventually("the other server asks, too", async || {
        second
            .admin
            .send("POST", MAPS, &config_map("n", json!({})))
            .await
            .0
            == 400
    })
    .await;
}

#[tokio::test]
async fn nobody_is_believed_whom_the_bundle_does_not_vouch_for() {
    let remote = webhooks(|_, _| allowed());
    let stranger = component::testing::Ca::new("stranger");
    let api = Daemon::start().await;
    let mut unknown = hook(
        &remote,
        "/unknown",
        &[rule(&["CREATE"], "secrets")],
        json!({}),
    );
    unknown["clientConfig"]["caBundle"] = STANDARD.encode(&stranger.pem).into();
    let mut closed = hook(
        &remote,
        "/closed",
        &[rule(&["CREATE"], "services")],
        json!({}),
    );
    closed["clientConfig"]["url"] = "https://127.0.0.1:1/closed".into();
    configure(&api, &remote, "Mutating", "a", &[unknown, closed]).await;
    let secret = json!({"metadata": {"name": "s"}});
    let (code, refused) = api
        .send("POST", "/api/v1/namespaces/default/secrets", &secret)
        .await;
    let said = refused["message"].as_str().unwrap();
    assert_eq!(code, 500);
    assert!(
        said.ends_with("x509: certificate signed by unknown authority"),
        "{said}"
    );
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let (code, refused) = api
        .send("POST", "/api/v1/namespaces/default/services", &service)
        .await;
    let said = refused["message"].as_str().unwrap();
    assert_eq!(code, 500);
    assert!(
        said.ends_with("dial tcp 127.0.0.1:1: connect: connection refused"),
        "{said}"
    );
}

#[tokio::test]
async fn the_servers_own_service_is_this_server_which_asks_itself_as_itself() {
    let remote = webhooks(|_, _| allowed());
    let api = Daemon::start().await;
    let own = |name: &str, resource: &str, port: u16| {
        // Nobody but the server's own client may see that there is no such thing.
        let path = "/apis/nowhere.example.com/v1/things";
        let service =
            json!({"namespace": "default", "name": "kubernetes", "port": port, "path": path});
        let more = json!({"clientConfig": {"service": service}});
        hook(&remote, name, &[rule(&["CREATE"], resource)], more)
    };
    let hooks = [own("/own", "secrets", 443), own("/other", "services", 8443)];
    configure(&api, &remote, "Validating", "a", &hooks).await;
    let make = async |resource: &str, object: Value| {
        let path = format!("/api/v1/namespaces/default/{resource}");
        let (code, refused) = api.send("POST", &path, &object).await;
        (code, refused["message"].as_str().unwrap().to_owned())
    };
    let (code, said) = make("secrets", json!({"metadata": {"name": "s"}})).await;
    assert_eq!(code, 500);
    assert!(
        said.ends_with("failed to call webhook: the server could not find the requested resource"),
        "{said}"
    );
    // Another port is none of this server's.
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let (code, said) = make("services", service).await;
    assert_eq!(code, 500);
    assert!(
        said.ends_with("no service port 8443 found for service \"kubernetes\""),
        "{said}"
    );
    let anybody = api.text("/metrics").await;
    assert!(anybody.contains("# TYPE apiserver_admission_webhook_rejection_count counter\n"));
}

/// A service that leads to this name.
fn leads_to(name: &str) -> Value {
    json!({"spec": {"type": "ExternalName", "externalName": name}})
}

/// A webhook at a service that leads to `localhost`, which lets one thing wait until it may go on.
async fn at_a_service(flags: &[&str]) -> (Daemon, Remote, Arc<Semaphore>) {
    let may_go_on = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&may_go_on);
    let remote = Remote::start_as(&["hook.default.svc"], move |asked| {
        let waits = Arc::clone(&waits);
        Box::pin(async move {
            if asked.json()["request"]["name"] == "slow" {
                waits.acquire().await.unwrap().forget();
            }
            review(&asked, allowed())
        })
    });
    let port: u16 = remote.url.rsplit(':').next().unwrap().parse().unwrap();
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let api = Daemon::start_with(|_| flags).await;
    let mut service = leads_to("localhost");
    service["metadata"] = json!({"name": "hook"});
    let services = "/api/v1/namespaces/default/services";
    assert_eq!(api.send("POST", services, &service).await.0, 201);
    let config = json!({
        "service": {"namespace": "default", "name": "hook", "port": port},
        "caBundle": STANDARD.encode(&remote.ca.pem),
    });
    let more = json!({"clientConfig": config});
    let hook = hook(&remote, "/hook", &[rule(&["CREATE"], "secrets")], more);
    let object = json!({"metadata": {"name": "a"}, "webhooks": [hook]});
    let path = format!("{GROUP}/validatingwebhookconfigurations");
    let (code, made) = api.send("POST", &path, &object).await;
    assert_eq!(code, 201, "{made}");
    eventually("the service is asked", async || {
        secret(&api, "first").await.0 == 201 && !remote.asked().is_empty()
    })
    .await;
    (api, remote, may_go_on)
}

/// The code, and what is said.
async fn secret(api: &User, name: &str) -> (u16, String) {
    let path = "/api/v1/namespaces/default/secrets?dryRun=All";
    let object = json!({"metadata": {"name": name}});
    let (code, said) = api.send("POST", path, &object).await;
    (
        code,
        said["message"].as_str().unwrap_or_default().to_owned(),
    )
}

/// The service leads to where nobody listens, as the server knows.
async fn move_away(api: &Daemon) {
    let path = "/api/v1/namespaces/default/services/hook";
    let (code, service) = api.patch(path, crate::MERGE, &leads_to("127.0.0.2")).await;
    assert_eq!(code, 200, "{service}");
    let cached = format!("{path}?resourceVersion=0");
    eventually("the server knows", async || {
        api.get(&cached).await.1["spec"]["externalName"] == "127.0.0.2"
    })
    .await;
}

#[tokio::test]
async fn each_call_goes_where_its_service_is_by_then() {
    let (api, remote, _) = at_a_service(&[]).await;
    move_away(&api).await;
    let port = remote.url.rsplit(':').next().unwrap();
    let refused = format!("dial tcp 127.0.0.2:{port}: connect: connection refused");
    // There is a connection, of no use.
    let (code, said) = secret(&api, "m").await;
    assert!(code == 500 && said.ends_with(&refused), "{code} {said}");
}

#[tokio::test]
async fn without_the_gate_a_call_takes_a_connection_and_only_a_new_one_asks_for_the_service() {
    let flag = "--feature-gates=WebhookRoundTripLoadBalancing=false";
    let (api, remote, may_go_on) = at_a_service(&[flag]).await;
    move_away(&api).await;
    let port = remote.url.rsplit(':').next().unwrap();
    let refused = format!("dial tcp 127.0.0.2:{port}: connect: connection refused");
    let slow = secret(&api, "slow");
    let others = async {
        eventually("the connection is taken", async || {
            let asked = remote.asked();
            asked.iter().any(|a| a.json()["request"]["name"] == "slow")
        })
        .await;
        let (code, said) = secret(&api, "m").await;
        assert!(code == 500 && said.ends_with(&refused), "{code} {said}");
        may_go_on.add_permits(1);
    };
    let ((code, said), ()) = tokio::join!(slow, others);
    assert_eq!(code, 201, "{said}");
    // It is free again, and still leads to where the service was.
    assert_eq!(secret(&api, "m").await.0, 201);
    let path = "/api/v1/namespaces/default/services/hook";
    assert_eq!(api.send("DELETE", path, &json!({})).await.0, 200);
    assert_eq!(secret(&api, "m").await.0, 201);
}
