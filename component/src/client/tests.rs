use super::*;
use crate::serving::{Identity, Pair};
use crate::supervisor::Task;
use crate::testing::{Ask, Ca, FakeApi, Files, status};

use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::{Binding, ConfigMap, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions, Status};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

fn config_map(name: &str, version: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"namespace": "ns", "name": name, "resourceVersion": version}, "data": {"a": "1"}})
}

/// What `call` returns while the server answers as `answer` says.
macro_rules! with {
    ($api:ident, $call:expr, $answer:expr) => {{
        let answer = async {
            let ask = $api.next().await;
            #[allow(clippy::redundant_closure_call, reason = "the macro takes closures")]
            ($answer)(ask)
        };
        let (result, seen) = tokio::join!($call, answer);
        (result, seen)
    }};
}

#[tokio::test]
async fn typed_calls_have_upstreams_paths_and_bodies() {
    let mut api = FakeApi::plain();
    let client = api.client();
    let maps = client.namespaced::<ConfigMap>("ns");
    let (got, seen) = with!(api, maps.get("a"), |a: Ask| a.json(&config_map("a", "5")));
    assert_eq!(got.unwrap().data.unwrap()["a"], "1");
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("GET", "/api/v1/namespaces/ns/configmaps/a")
    );
    assert!(
        seen.header("user-agent")
            .starts_with("test/v1.37.1 (linux/"),
        "{}",
        seen.header("user-agent")
    );

    let options = DeleteOptions {
        preconditions: Some(Preconditions {
            uid: Some("u".into()),
            resource_version: None,
        }),
        propagation_policy: Some("Background".into()),
        ..DeleteOptions::default()
    };
    let (done, seen) = with!(api, maps.delete("a", &options), |a: Ask| a
        .json(&config_map("a", "6")));
    done.unwrap();
    assert_eq!(seen.method, Method::DELETE);
    assert_eq!(seen.json()["preconditions"], json!({"uid": "u"}));
    assert_eq!(seen.json()["propagationPolicy"], "Background");

    let patch = Patch::apply("me", true, &json!({"data": {}})).unwrap();
    let (done, seen) = with!(api, maps.patch("a", &patch), |a: Ask| a
        .json(&config_map("a", "7")));
    done.unwrap();
    assert_eq!(seen.header("content-type"), "application/apply-patch+yaml");
    assert_eq!(
        (seen.param("fieldManager"), seen.param("force")),
        ("me", "true")
    );

    let nodes = client.all::<Node>();
    let patch = Patch::strategic(&json!({"status": {}})).unwrap();
    let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}});
    let (done, seen) = with!(api, nodes.patch_status("n", &patch), |a: Ask| a.json(&node));
    done.unwrap();
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("PATCH", "/api/v1/nodes/n/status")
    );

    let pods = client.namespaced::<Pod>("ns");
    let binding = Binding::default();
    let call = pods.create_subresource::<_, Status>("p", "binding", &binding);
    let (done, seen) = with!(api, call, |a: Ask| a
        .json(&json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})));
    done.unwrap();
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("POST", "/api/v1/namespaces/ns/pods/p/binding")
    );

    let params = ListParams {
        label_selector: "a=b,c in (d)".into(),
        resource_version: Some("0".into()),
        ..ListParams::default()
    };
    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "9", "continue": "x"},
        "items": [{"metadata": {"name": "a"}}]});
    let (got, seen) = with!(api, maps.list(&params), |a: Ask| a.json(&list));
    let got = got.unwrap();
    assert_eq!(
        (
            got.resource_version(),
            got.continue_token(),
            got.items.len()
        ),
        ("9", Some("x"), 1)
    );
    assert_eq!(seen.param("labelSelector"), "a=b,c in (d)");
    assert_eq!(seen.param("resourceVersion"), "0");

    let target = Target::new("x.io", "v1", "things", "Thing");
    let things = client.metadata(target, None);
    let meta = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "t", "uid": "u"}});
    let (got, seen) = with!(api, things.get("t"), |a: Ask| a.json(&meta));
    assert_eq!(got.unwrap().metadata.uid.as_deref(), Some("u"));
    assert_eq!(seen.path, "/apis/x.io/v1/things/t");
    assert!(
        seen.header("accept")
            .contains("as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
    );
}

#[tokio::test]
async fn a_failure_carries_the_servers_status() {
    let mut api = FakeApi::plain();
    let maps = api.client().namespaced::<ConfigMap>("ns");
    let (gone, _) = with!(api, maps.get("a"), |a: Ask| a.status(410, "Expired"));
    assert!(gone.unwrap_err().is_gone());
    let (none, _) = with!(api, maps.find("a"), |a: Ask| a.status(404, "NotFound"));
    assert_eq!(none.unwrap(), None);
    let (conflict, _) = with!(api, maps.get("a"), |a: Ask| a.status(409, "Conflict"));
    let conflict = conflict.unwrap_err();
    assert!(conflict.is_conflict() && !conflict.is_already_exists());
    // A 409 that says AlreadyExists is no conflict.
    let map = ConfigMap::default();
    let (exists, _) = with!(api, maps.create(&map), |a: Ask| a
        .status(409, "AlreadyExists"));
    let exists = exists.unwrap_err();
    assert!(exists.is_already_exists() && !exists.is_conflict());
    // Something between us and the server answers in text.
    let text = || crate::serving::text(StatusCode::NOT_FOUND, "404 page not found");
    let (missing, _) = with!(api, maps.get("a"), |a: Ask| a.answer(text()));
    let missing = missing.unwrap_err();
    assert!(
        missing.is_not_found() && missing.to_string().contains("404 page not found"),
        "{missing}"
    );
}

#[tokio::test]
async fn a_server_that_says_when_to_come_back_is_asked_again_then() {
    let mut api = FakeApi::plain();
    let maps = api.client().namespaced::<ConfigMap>("ns");
    let busy = || {
        let mut response = status(429, "TooManyRequests");
        response
            .headers_mut()
            .insert("retry-after", "1".parse().unwrap());
        response
    };
    let start = Instant::now();
    let map = ConfigMap::default();
    let answers = async {
        api.next().await.answer(busy());
        api.next().await.json(&config_map("a", "1"))
    };
    let (created, seen) = tokio::join!(maps.create(&map), answers);
    created.unwrap();
    assert_eq!(
        seen.method,
        Method::POST,
        "writes too: the server did not begin with them"
    );
    assert!(start.elapsed() >= Duration::from_secs(1));
    // Without a time it is an answer like any other.
    let (refused, _) = with!(api, maps.get("a"), |a: Ask| a
        .status(429, "TooManyRequests"));
    assert!(refused.unwrap_err().is_too_many_requests());
}

fn pki() -> (Ca, Pair) {
    let ca = Ca::new("ca");
    let pair = ca.server(&["127.0.0.1"]);
    (ca, pair)
}

fn trusting(api: &FakeApi, ca: &Ca) -> Client {
    let config = Config {
        ca: Some(config::Source::Inline(ca.pem.clone().into_bytes())),
        ..api.config()
    };
    Client::new(config, "test", &api.tasks, &api.metrics).unwrap()
}

#[tokio::test]
async fn many_requests_share_one_connection_and_a_full_one_is_helped_by_another() {
    // A connection takes 100.
    const CALLS: usize = 130;
    let (ca, pair) = pki();
    let mut api = FakeApi::secure(Identity::Memory(pair));
    let maps = trusting(&api, &ca).namespaced::<ConfigMap>("ns");
    let calls = futures::future::join_all((0..CALLS).map(|_| maps.get("a")));
    let answers = async {
        let mut asks = Vec::new();
        for _ in 0..CALLS {
            asks.push(api.next().await);
        }
        let connections = api.connections();
        for ask in asks {
            ask.json(&config_map("a", "1"));
        }
        connections
    };
    let (got, connections) = tokio::join!(calls, answers);
    assert!(got.iter().all(Result::is_ok), "all were under way at once");
    assert_eq!(connections, 2);
}

#[tokio::test]
async fn a_connection_that_goes_away_is_replaced() {
    let (ca, pair) = pki();
    let tls = || crate::serving::Tls::new(Identity::Memory(pair.clone()));
    let mut api = FakeApi::start(
        crate::serving::Options::secure("127.0.0.1:0".parse().unwrap(), tls()),
        "https",
    );
    let maps = trusting(&api, &ca).namespaced::<ConfigMap>("ns");
    for _ in 0..3 {
        let (got, _) = with!(api, maps.get("a"), |a: Ask| {
            let mut response = crate::serving::json(StatusCode::OK, &config_map("a", "1"));
            response
                .headers_mut()
                .insert("x-close", "1".parse().unwrap());
            a.answer(response)
        });
        got.unwrap();
        api.close_connections();
    }
    // Many writes race with the connection's end: each reaches the server exactly once.
    for round in 0..10 {
        let map = ConfigMap::default();
        let calls = futures::future::join_all((0..8).map(|_| maps.create(&map)));
        let answers = async {
            for i in 0..8 {
                if i == round % 8 {
                    api.close_connections();
                }
                api.next().await.json(&config_map("a", "1"));
            }
        };
        let (done, ()) = tokio::join!(calls, answers);
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }
    assert!(api.is_quiet().await);
}

/// A server that answers each request with what `answer` says: a reset, or 200.
async fn resetting(
    pair: &Pair,
    tasks: &Supervisor,
    answer: fn(usize) -> Option<h2::Reason>,
) -> (String, Arc<AtomicUsize>) {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut config = config
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    tasks.spawn(Task::Background, "resets", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                match answer(seen.fetch_add(1, Ordering::SeqCst)) {
                    Some(reason) => respond.send_reset(reason),
                    None => {
                        let mut body = respond
                            .send_response(http::Response::new(()), false)
                            .unwrap();
                        body.send_data(config_map("a", "1").to_string().into(), true)
                            .unwrap();
                    }
                }
            }
        }
    });
    (url, count)
}

#[tokio::test]
async fn only_a_write_that_the_server_did_not_begin_with_is_sent_again() {
    let (ca, pair) = pki();
    let tasks = Supervisor::current();
    let client = |url: &str| {
        let ca = Some(config::Source::Inline(ca.pem.clone().into_bytes()));
        let config = Config {
            ca,
            qps: -1.0,
            ..Config::new(url)
        };
        Client::new(config, "test", &tasks, &Metrics::new())
            .unwrap()
            .namespaced::<ConfigMap>("ns")
    };
    let map = ConfigMap::default();
    let (url, count) = resetting(&pair, &tasks, |n| {
        (n < 2).then_some(h2::Reason::REFUSED_STREAM)
    })
    .await;
    client(&url).create(&map).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 3);
    let (url, count) = resetting(&pair, &tasks, |_| Some(h2::Reason::INTERNAL_ERROR)).await;
    assert!(matches!(
        client(&url).create(&map).await,
        Err(Error::Transport { .. })
    ));
    assert_eq!(count.load(Ordering::SeqCst), 1, "it may have been done");
}

#[tokio::test]
async fn a_read_whose_connection_breaks_is_repeated_and_a_write_is_not() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let tasks = Supervisor::current();
    let client = Client::new(
        Config {
            qps: -1.0,
            ..Config::new(&url)
        },
        "test",
        &tasks,
        &Metrics::new(),
    )
    .unwrap();
    let maps = client.namespaced::<ConfigMap>("ns");
    let count = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&count);
    tasks.spawn(Task::Background, "breaks", async move {
        use tokio::io::AsyncReadExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            accepted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 512]).await;
        }
    });
    assert!(matches!(
        maps.create(&ConfigMap::default()).await,
        Err(Error::Transport { .. })
    ));
    assert_eq!(count.swap(0, Ordering::SeqCst), 1);
    assert!(matches!(maps.get("a").await, Err(Error::Transport { .. })));
    assert_eq!(
        count.load(Ordering::SeqCst),
        11,
        "once, and ten times again"
    );
}

#[tokio::test]
async fn a_changed_client_certificate_is_used_by_a_new_connection() {
    let (ca, pair) = pki();
    let files = Files::new();
    let (old, new) = (ca.client("old", &[]), ca.client("new", &[]));
    let users = crate::serving::ClientCa::from_file(&files.write("ca.crt", &ca.pem)).unwrap();
    let tasks = Supervisor::current();
    let options = crate::serving::Options::secure(
        "127.0.0.1:0".parse().unwrap(),
        crate::serving::Tls::new(Identity::Memory(pair)),
    );
    let server = crate::serving::Server::bind(options).unwrap();
    let url = format!("https://{}", server.address());
    server.serve(
        &tasks,
        Task::Server,
        "who",
        tower::service_fn(move |request: crate::serving::Request| {
            let user = users
                .user(crate::serving::Connection::of(&request).unwrap())
                .unwrap()
                .unwrap();
            async move {
                Ok(crate::serving::json(
                    StatusCode::OK,
                    &config_map(&user.name, "1"),
                ))
            }
        }),
    );
    let (cert, key) = (files.write("crt", &old.cert), files.write("key", &old.key));
    let config = Config {
        ca: Some(config::Source::File(files.write("ca.crt", &ca.pem))),
        certificate: Some((config::Source::File(cert), config::Source::File(key))),
        qps: -1.0,
        ..Config::new(&url)
    };
    let mut client = Client::new(config, "test", &tasks, &Metrics::new()).unwrap();
    Arc::get_mut(&mut client.inner)
        .unwrap()
        .transport
        .look_always();
    let maps = client.namespaced::<ConfigMap>("ns");
    let who = async || maps.get("me").await.unwrap().metadata.name.unwrap();
    assert_eq!(who().await, "old");
    files.write("crt", &new.cert);
    assert_eq!(who().await, "old", "half a pair is no pair");
    files.write("key", &new.key);
    assert_eq!(who().await, "new");
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_not_spoken_to() {
    let (ca, pair) = pki();
    let api = FakeApi::secure(Identity::Memory(pair));
    let stranger = trusting(&api, &Ca::new("other"))
        .namespaced::<ConfigMap>("ns")
        .get("a")
        .await
        .unwrap_err();
    let said = crate::supervisor::chain(&stranger);
    assert!(
        said.contains("cannot connect") && said.contains("UnknownIssuer"),
        "{said}"
    );
    let name = Config {
        ca: Some(config::Source::Inline(ca.pem.clone().into_bytes())),
        server_name: Some("elsewhere".into()),
        ..api.config()
    };
    let client = Client::new(name, "test", &api.tasks, &api.metrics).unwrap();
    let said = crate::supervisor::chain(
        &client
            .namespaced::<ConfigMap>("ns")
            .get("a")
            .await
            .unwrap_err(),
    );
    assert!(said.contains("not valid for name"), "{said}");
}

#[tokio::test]
async fn a_watch_is_a_stream_of_events_whatever_the_frames_are() {
    let mut api = FakeApi::plain();
    let maps = api.client().namespaced::<ConfigMap>("ns");
    let params = WatchParams {
        resource_version: "3".into(),
        bookmarks: true,
        ..WatchParams::default()
    };
    let (stream, (seen, lines)) = with!(api, maps.watch(&params), Ask::stream);
    assert_eq!(
        (
            seen.param("watch"),
            seen.param("allowWatchBookmarks"),
            seen.param("resourceVersion")
        ),
        ("true", "true", "3")
    );
    let mut stream = stream.unwrap();
    let text = format!(
        "{}\n",
        json!({"type": "ADDED", "object": config_map("a", "4")})
    );
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    lines.bytes(first).await;
    let mark = json!({"type": "BOOKMARK", "object": {"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}}});
    let rest = [second, format!("{mark}\n").as_bytes()].concat();
    lines.bytes(&rest).await;
    let Some(Ok(WatchEvent::Added(map))) = stream.next().await else {
        panic!("an added object")
    };
    assert_eq!(map.metadata.name.as_deref(), Some("a"));
    let mark = stream.next().await.unwrap().unwrap();
    assert_eq!(
        mark,
        WatchEvent::Bookmark {
            resource_version: "7".into(),
            initial_events_end: true
        }
    );
    lines.event("ERROR", &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"})).await;
    assert!(stream.next().await.unwrap().unwrap_err().is_gone());
    lines
        .bytes(b"{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\"}}\n")
        .await;
    assert!(matches!(
        stream.next().await,
        Some(Err(Error::Decode { .. }))
    ));
    drop(lines);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_slow_server_is_given_up_but_not_by_watches() {
    let mut api = FakeApi::plain();
    let client = api.client().with_timeout(Duration::from_millis(100));
    let maps = client.namespaced::<ConfigMap>("ns");
    assert!(maps.get("a").await.unwrap_err().is_timeout());
    drop(api.next().await);
    let watch = async { maps.watch(&WatchParams::default()).await };
    let (stream, lines) = tokio::join!(watch, async {
        let ask = api.next().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        ask.stream().1
    });
    drop(lines);
    assert!(stream.unwrap().next().await.is_none());
}

fn kubeconfig(cluster: &str, user: &str) -> Result<Config, String> {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nextensions: []\n\
         clusters:\n- name: k\n  cluster: {{{cluster}}}\n\
         users:\n- name: u\n  user: {{{user}}}\n\
         contexts:\n- name: c\n  context: {{cluster: k, user: u, namespace: team}}\n"
    );
    Kubeconfig::read(text.as_bytes())?.client(None, std::path::Path::new("/dir"))
}

#[test]
fn a_kubeconfig_holds_its_credentials_inline_or_beside_it() {
    let config = kubeconfig(
        "server: 'https://h:1', certificate-authority: ca.crt, tls-server-name: s",
        "client-certificate-data: YQ==, client-key: /abs/key, tokenFile: tok, as: other, as-groups: [g]",
    )
    .unwrap();
    assert_eq!(config.ca, Some(config::Source::File("/dir/ca.crt".into())));
    let (cert, key) = config.certificate.unwrap();
    assert_eq!(
        (cert, key),
        (
            config::Source::Inline(b"a".to_vec()),
            config::Source::File("/abs/key".into())
        )
    );
    assert!(
        matches!(config.bearer, Some(config::Bearer::TokenFile(path)) if path.to_str() == Some("/dir/tok"))
    );
    assert_eq!(
        (
            config.server_name.as_deref(),
            config.impersonate.user.as_str()
        ),
        (Some("s"), "other")
    );
}

#[test]
fn a_kubeconfig_that_cannot_work_says_why() {
    let said = |cluster, user| kubeconfig(cluster, user).unwrap_err();
    assert_eq!(
        said("certificate-authority: x", ""),
        "cluster \"k\" has no server"
    );
    assert_eq!(
        said("server: x", "client-certificate: x"),
        "user \"u\": client certificate without client key"
    );
    assert!(said("server: x", "username: x, password: y").contains("not supported"));
    assert!(said("server: x", "client-certificate-data: '%'").contains("client-certificate-data"));
    assert!(
        said(
            "server: x",
            "exec: {command: x, apiVersion: client.authentication.k8s.io/v1alpha1}"
        )
        .contains("v1alpha1")
    );
    let none = Kubeconfig::read(b"apiVersion: v1\nkind: Config\nusers: null\n").unwrap();
    assert_eq!(
        none.client(None, std::path::Path::new("")).unwrap_err(),
        "there is no current-context"
    );
}

#[tokio::test]
async fn a_plugin_is_run_once_while_its_token_is_good_and_again_when_it_was_refused() {
    let files = Files::new();
    let script = files.write("plugin", "#!/bin/sh\necho x >> $0.runs\n\
        n=$(wc -l < $0.runs)\n\
        echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{\"token\":\"t'$n'\"}}'\n");
    std::process::Command::new("chmod")
        .arg("+x")
        .arg(&script)
        .status()
        .unwrap();
    let mut api = FakeApi::plain();
    let text = format!(
        "exec: {{command: {}, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never}}",
        script.display()
    );
    let config = kubeconfig(&format!("server: '{}'", api.url), &text).unwrap();
    let client = Client::new(
        Config {
            qps: -1.0,
            ..config
        },
        "test",
        &api.tasks,
        &api.metrics,
    )
    .unwrap();
    let maps = client.namespaced::<ConfigMap>("ns");
    for _ in 0..2 {
        let (got, seen) = with!(api, maps.get("a"), |a: Ask| a.json(&config_map("a", "1")));
        got.unwrap();
        assert_eq!(seen.header("authorization"), "Bearer t1");
    }
    let (refused, _) = with!(api, maps.get("a"), |a: Ask| a.status(401, "Unauthorized"));
    assert!(refused.unwrap_err().is_unauthorized());
    let (_, seen) = with!(api, maps.get("a"), |a: Ask| a.json(&config_map("a", "1")));
    assert_eq!(seen.header("authorization"), "Bearer t2");
}

#[tokio::test]
async fn a_handle_with_another_name_shares_the_connection_but_not_the_limit() {
    let mut api = FakeApi::plain();
    let config = Config {
        qps: 0.001,
        burst: 1,
        ..api.config()
    };
    let client = Client::new(config, "test", &api.tasks, &api.metrics).unwrap();
    let lease = client.named("leader-election", RateLimit::none());
    let maps = client.namespaced::<ConfigMap>("ns");
    with!(api, maps.get("a"), |a: Ask| a.json(&config_map("a", "1")))
        .0
        .unwrap();
    let limited = tokio::time::timeout(Duration::from_millis(100), maps.get("a"));
    assert!(limited.await.is_err(), "the burst is used up");
    let maps = lease.namespaced::<ConfigMap>("ns");
    let (got, seen) = with!(api, maps.get("a"), |a: Ask| a.json(&config_map("a", "1")));
    got.unwrap();
    assert!(seen.header("user-agent").ends_with("/leader-election"));
    let text = api.metrics.answer("").1;
    assert!(
        text.contains("rest_client_requests_total{code=\"200\",method=\"GET\""),
        "{text}"
    );
}

/// An object as the server sends it in protobuf.
fn sealed(value: &Value, api_version: &str, kind: &str) -> Vec<u8> {
    use proto::codec::json::{self, Strictness};
    use proto::codec::protobuf;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let message = proto::catalogue::message_of(group, version, kind).unwrap();
    let tree = json::decode(value.to_string().as_bytes(), message, Strictness::Strict).unwrap();
    assert!(tree.problems.is_empty(), "{:?}", tree.problems);
    let mut out = Vec::new();
    protobuf::seal(&tree.value, message, api_version, kind, &mut out);
    out
}

fn in_protobuf(code: u16, content_type: &'static str, body: Vec<u8>) -> crate::serving::Response {
    let mut response = http::Response::new(crate::serving::full(body));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
        .headers_mut()
        .insert("content-type", content_type.parse().unwrap());
    response
}

/// An event of a watch, field by field as upstream's encoder writes a WatchEvent.
fn watch_event(kind: &str, object: &[u8]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8], out: &mut Vec<u8>| {
        out.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
    };
    let (mut extension, mut message) = (Vec::new(), Vec::new());
    field(1, object, &mut extension);
    field(1, kind.as_bytes(), &mut message);
    field(2, &extension, &mut message);
    [
        u32::try_from(message.len())
            .unwrap()
            .to_be_bytes()
            .as_slice(),
        &message,
    ]
    .concat()
}

#[tokio::test]
async fn objects_lists_and_failures_are_read_in_protobuf() {
    const TYPE: &str = "application/vnd.kubernetes.protobuf";
    let mut api = FakeApi::plain();
    let maps = api.client().namespaced::<ConfigMap>("ns");
    let map = config_map("a", "5");
    let (got, seen) = with!(api, maps.get("a"), |a: Ask| a.answer(in_protobuf(
        200,
        TYPE,
        sealed(&map, "v1", "ConfigMap")
    )));
    assert_eq!(got.unwrap(), serde_json::from_value(map.clone()).unwrap());
    assert!(
        seen.header("accept")
            .starts_with("application/vnd.kubernetes.protobuf,application/json")
    );

    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": [map.clone()]});
    let params = ListParams::default();
    let (got, _) = with!(api, maps.list(&params), |a: Ask| a.answer(in_protobuf(
        200,
        TYPE,
        sealed(&list, "v1", "ConfigMapList")
    )));
    let got = got.unwrap();
    assert_eq!(
        (
            got.resource_version(),
            got.items[0].data.as_ref().unwrap()["a"].as_str()
        ),
        ("9", "1")
    );

    let failed = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "AlreadyExists", "code": 409,
        "details": {"name": "a", "kind": "configmaps"}});
    let (refused, _) = with!(api, maps.get("a"), |a: Ask| a.answer(in_protobuf(
        409,
        TYPE,
        sealed(&failed, "v1", "Status")
    )));
    let refused = refused.unwrap_err();
    assert!(
        refused.is_already_exists()
            && refused
                .status()
                .unwrap()
                .details
                .as_ref()
                .unwrap()
                .name
                .as_deref()
                == Some("a")
    );

    let target = Target::new("x.io", "v1", "things", "Thing");
    let things = api.client().metadata(target, None);
    let meta = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "t", "uid": "u"}});
    let body = sealed(&meta, "meta.k8s.io/v1", "PartialObjectMetadata");
    let (got, _) = with!(api, things.get("t"), |a: Ask| a
        .answer(in_protobuf(200, TYPE, body)));
    assert_eq!(got.unwrap().metadata.uid.as_deref(), Some("u"));
}

#[tokio::test]
async fn a_watch_is_read_in_protobuf() {
    let mut api = FakeApi::plain();
    let maps = api.client().namespaced::<ConfigMap>("ns");
    let map = config_map("a", "5");
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410});
    let mark =
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": "8"}});
    let stream = [
        watch_event("ADDED", &sealed(&map, "v1", "ConfigMap")),
        watch_event("BOOKMARK", &sealed(&mark, "v1", "ConfigMap")),
        watch_event("ERROR", &sealed(&gone, "v1", "Status")),
    ];
    let params = WatchParams::default();
    let watch_type = "application/vnd.kubernetes.protobuf;stream=watch";
    let (watch, _) = with!(api, maps.watch(&params), |a: Ask| a.answer(in_protobuf(
        200,
        watch_type,
        stream.concat()
    )));
    let mut watch = watch.unwrap();
    assert!(
        matches!(watch.next().await, Some(Ok(WatchEvent::Added(m))) if m.metadata.name.as_deref() == Some("a"))
    );
    let bookmark = WatchEvent::Bookmark {
        resource_version: "8".into(),
        initial_events_end: false,
    };
    assert_eq!(watch.next().await.unwrap().unwrap(), bookmark);
    assert!(watch.next().await.unwrap().unwrap_err().is_gone());
}
