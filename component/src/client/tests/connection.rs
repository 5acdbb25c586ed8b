//! Connections: shared, full, going away, lost, replaced, not to be trusted.

use super::*;

fn pki() -> (Ca, Pair) {
    let ca = Ca::new("ca");
    let pair = ca.server(&["127.0.0.1"]);
    (ca, pair)
}

fn trusting(api: &FakeApi, ca: &Ca) -> Client {
    let config = Config {
        ca: Some(Source::Inline(ca.pem.clone().into_bytes())),
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
async fn without_http2_requests_at_once_have_connections_of_their_own_which_are_used_again() {
    const CALLS: usize = 5;
    let (ca, pair) = pki();
    let mut api = FakeApi::secure(Identity::Memory(pair));
    let config = Config {
        ca: Some(Source::Inline(ca.pem.clone().into_bytes())),
        host: Some("service.example:8443".to_owned()),
        server_name: Some("127.0.0.1".to_owned()),
        http1: true,
        ..api.config()
    };
    let client = Client::new(config, "test", &api.tasks, &api.metrics).unwrap();
    let maps = client.namespaced::<ConfigMap>("ns");
    for _ in 0..2 {
        let calls = futures::future::join_all((0..CALLS).map(|_| maps.get("a")));
        let answers = async {
            let mut asks = Vec::new();
            for _ in 0..CALLS {
                asks.push(api.next().await);
            }
            let connections = api.connections();
            for ask in asks {
                let seen = ask.json(&config_map("a", "1"));
                assert_eq!(seen.header("host"), "service.example:8443");
            }
            connections
        };
        let (got, connections) = tokio::join!(calls, answers);
        assert!(got.iter().all(Result::is_ok));
        assert_eq!(connections, CALLS);
    }
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
        let ca = Some(Source::Inline(ca.pem.clone().into_bytes()));
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
        ca: Some(Source::File(files.write("ca.crt", &ca.pem))),
        certificate: Some((Source::File(cert), Source::File(key))),
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
        said.ends_with(
            "cannot connect: tls: failed to verify certificate: x509: certificate signed by unknown authority"
        ),
        "{said}"
    );
    let name = Config {
        ca: Some(Source::Inline(ca.pem.clone().into_bytes())),
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
    let end = "x509: certificate is not valid for any names, but wanted to match elsewhere";
    assert!(said.ends_with(end), "{said}");
}

#[tokio::test]
async fn a_server_whose_certificate_is_its_own_authority_is_spoken_to() {
    let pair = crate::testing::self_signed(&["127.0.0.1"]);
    let mut api = FakeApi::secure(Identity::Memory(pair.clone()));
    let config = Config {
        ca: Some(Source::Inline(pair.cert.into_bytes())),
        ..api.config()
    };
    let client = Client::new(config, "test", &api.tasks, &api.metrics).unwrap();
    let maps = client.namespaced::<ConfigMap>("ns");
    let (got, _) = with!(api, maps.get("a"), |a: Ask| a.json(&config_map("a", "5")));
    assert_eq!(got.unwrap().metadata.name.unwrap(), "a");
}

#[test]
fn a_clients_certificate_that_cannot_be_used_yet_is_told_of_once() {
    let (ca, files) = (Ca::new("ca"), Files::new());
    let early = ca.client_with("early", &[], |c| {
        c.not_before = rcgen::date_time_ymd(4000, 1, 1);
    });
    let cert = files.write("client.crt", &early.cert);
    let key = files.write("client.key", &early.key);
    let config = Config {
        ca: Some(Source::Inline(ca.pem.clone().into())),
        certificate: Some((Source::File(cert.clone()), Source::File(key))),
        ..Config::new("https://127.0.0.1:1")
    };
    let log = crate::logging::tests::said(|| {
        for _ in 0..2 {
            tls::Tls::new(&config, None).unwrap();
        }
    });
    assert_eq!(log.lines().count(), 1, "{log}");
    for part in [
        "\"A certificate is not valid yet\"",
        &format!("origin=\"{}\"", cert.display()),
        "subject=\"early\"",
        "begins=\"4000-01-01T00:00:00Z\"",
        "check the clock",
    ] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
}
