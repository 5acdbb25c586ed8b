use super::*;
use crate::testing::{Ca, Files};
use std::sync::Mutex;

use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Who a connection says it is.
fn who() -> impl Service {
    tower::service_fn(|request: Request| async move {
        let connection = Connection::of(&request).unwrap();
        let certs = connection.tls.as_ref().map_or(0, |t| t.chain.len());
        Ok(text(
            StatusCode::OK,
            format!("{:?} {certs}", request.version()),
        ))
    })
}

async fn tls_to(
    address: SocketAddr,
    ca: &Ca,
    client: Option<&Pair>,
    alpn: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap())
        .unwrap();
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
    let mut config = match client {
        Some(pair) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("127.0.0.1").unwrap(), stream)
        .await
}

type Sender2 = http2::SendRequest<Empty<Bytes>>;

async fn http2_over(stream: TlsStream<TcpStream>, tasks: &Supervisor) -> Sender2 {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tasks.spawn(Task::Background, "client", async move {
        let _ = connection.await;
    });
    sender
}

async fn get(sender: &mut Sender2) -> Result<String, hyper::Error> {
    let request = http::Request::get("https://127.0.0.1/")
        .body(Empty::new())
        .unwrap();
    let body = sender
        .send_request(request)
        .await?
        .into_body()
        .collect()
        .await?
        .to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn both_http_versions_are_served_over_tls_and_any_client_certificate_passes() {
    let (ca, stranger) = (Ca::new("ca"), Ca::new("stranger"));
    let tasks = Supervisor::current();
    let server = Server::bind(Options::secure(
        loopback(),
        Tls::new(Identity::Memory(ca.server(&["127.0.0.1"]))),
    ))
    .unwrap();
    let address = server.address();
    server.serve(&tasks, Task::Server, "test", who());
    let client = stranger.client("somebody", &[]);
    let mut sender = http2_over(
        tls_to(address, &ca, Some(&client), "h2").await.unwrap(),
        &tasks,
    )
    .await;
    assert_eq!(get(&mut sender).await.unwrap(), "HTTP/2.0 1");
    let stream = tls_to(address, &ca, None, "http/1.1").await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tasks.spawn(Task::Background, "client", async move {
        let _ = connection.await;
    });
    let request = http::Request::get("/")
        .header("host", "x")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let body = sender
        .send_request(request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(body, "HTTP/1.1 0");
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_so() {
    let ca = Ca::new("ca");
    let tasks = Supervisor::current();
    let server = Server::bind(Options::secure(
        loopback(),
        Tls::new(Identity::Memory(ca.server(&["127.0.0.1"]))),
    ))
    .unwrap();
    let address = server.address();
    server.serve(&tasks, Task::Server, "test", who());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.0 400 Bad Request")
            && answer.contains("HTTP request to an HTTPS server")
    );
}

#[tokio::test]
async fn a_changed_certificate_is_used_by_the_next_handshake_and_disturbs_no_connection() {
    let (old, new, files) = (Ca::new("old"), Ca::new("new"), Files::new());
    let pair = old.server(&["127.0.0.1"]);
    let identity = Identity::Files {
        cert: files.write("crt", &pair.cert),
        key: files.write("key", &pair.key),
    };
    let tasks = Supervisor::current();
    let mut server = Server::bind(Options::secure(loopback(), Tls::new(identity))).unwrap();
    server.tls.as_mut().unwrap().look_always();
    let address = server.address();
    server.serve(&tasks, Task::Server, "test", who());
    let mut before = http2_over(tls_to(address, &old, None, "h2").await.unwrap(), &tasks).await;
    get(&mut before).await.unwrap();
    let pair = new.server(&["127.0.0.1"]);
    // Between the two writes certificate and key do not fit: the old pair stays in use.
    files.write("crt", &pair.cert);
    tls_to(address, &old, None, "h2").await.unwrap();
    files.write("key", &pair.key);
    tls_to(address, &new, None, "h2").await.unwrap();
    assert!(tls_to(address, &old, None, "h2").await.is_err());
    assert_eq!(get(&mut before).await.unwrap(), "HTTP/2.0 0");
}

#[tokio::test]
async fn a_certificate_can_depend_on_the_name_that_is_asked_for() {
    let (ca, files) = (Ca::new("ca"), Files::new());
    let named = ca.server(&["*.example.org"]);
    let mut tls = Tls::new(Identity::Memory(ca.server(&["127.0.0.1"])));
    let identity = Identity::Files {
        cert: files.write("crt", &named.cert),
        key: files.write("key", &named.key),
    };
    tls.sni = vec![Sni {
        identity,
        names: vec![],
    }];
    let tasks = Supervisor::current();
    let server = Server::bind(Options::secure(loopback(), tls)).unwrap();
    let address = server.address();
    server.serve(&tasks, Task::Server, "test", who());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap())
        .unwrap();
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for (name, fits) in [
        ("api.example.org", true),
        ("127.0.0.1", true),
        ("example.com", false),
    ] {
        let stream = TcpStream::connect(address).await.unwrap();
        let connected = connector
            .connect(ServerName::try_from(name).unwrap(), stream)
            .await;
        assert_eq!(connected.is_ok(), fits, "{name}");
    }
}

/// An answer under way is sent to its end; new requests are not taken; then the connection closes.
#[tokio::test]
async fn shutdown_lets_answers_finish() {
    let ca = Ca::new("ca");
    let tasks = Supervisor::current();
    let server = Server::bind(Options::secure(
        loopback(),
        Tls::new(Identity::Memory(ca.server(&["127.0.0.1"]))),
    ))
    .unwrap();
    let address = server.address();
    let (began, mut has_begun) = tokio::sync::mpsc::channel(1);
    let go_on = Arc::new(tokio::sync::Semaphore::new(0));
    let wait = Arc::clone(&go_on);
    let service = tower::service_fn(move |_: Request| {
        let (began, wait) = (began.clone(), Arc::clone(&wait));
        async move {
            began.send(()).await.unwrap();
            let _permit = wait.acquire().await.unwrap();
            Ok(text(StatusCode::OK, "done"))
        }
    });
    server.serve(&tasks, Task::Critical, "test", service);
    let client_tasks = Supervisor::current();
    let mut sender = http2_over(
        tls_to(address, &ca, None, "h2").await.unwrap(),
        &client_tasks,
    )
    .await;
    let mut second = sender.clone();
    let slow = tokio::task::JoinSet::from_iter([async move { get(&mut sender).await }]);
    has_begun.recv().await.unwrap();
    tasks.stop();
    let ended = tasks.finished(crate::supervisor::Shutdown::default());
    let (ended, slow) = tokio::join!(ended, async {
        // The listener is closed at once, the connection only after the answer.
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while !second.is_closed() && get(&mut second).await.is_ok() {}
        go_on.add_permits(10);
        slow.join_all().await.remove(0)
    });
    ended.unwrap();
    assert_eq!(slow.unwrap(), "done");
}

#[tokio::test]
async fn a_client_that_is_nobody_is_told_to_go_away() {
    let ca = Ca::new("ca");
    let tasks = Supervisor::current();
    let server = Server::bind(Options::secure(
        loopback(),
        Tls::new(Identity::Memory(ca.server(&["127.0.0.1"]))),
    ))
    .unwrap();
    let address = server.address();
    let service = tower::service_fn(|request: Request| async move {
        Connection::of(&request).unwrap().close();
        Ok(text(StatusCode::UNAUTHORIZED, "Unauthorized"))
    });
    server.serve(&tasks, Task::Server, "test", service);
    let mut sender = http2_over(tls_to(address, &ca, None, "h2").await.unwrap(), &tasks).await;
    assert_eq!(
        get(&mut sender).await.unwrap(),
        "Unauthorized",
        "the answer itself arrives"
    );
    let closed = async {
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed)
        .await
        .expect("the connection ends");
}

#[tokio::test]
async fn certificates_name_users_only_if_the_authority_signed_them() {
    let (ca, stranger, files) = (Ca::new("ca"), Ca::new("stranger"), Files::new());
    let trusted = ClientCa::from_file(&files.write("ca.crt", &ca.pem)).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let check = trusted.clone();
    let tasks = Supervisor::current();
    let server = Server::bind(Options::secure(
        loopback(),
        Tls::new(Identity::Memory(ca.server(&["127.0.0.1"]))),
    ))
    .unwrap();
    let address = server.address();
    let service = tower::service_fn(move |request: Request| {
        note.lock()
            .unwrap()
            .push(check.user(Connection::of(&request).unwrap()));
        async { Ok(text(StatusCode::OK, "")) }
    });
    server.serve(&tasks, Task::Server, "test", service);
    let node = ca.client("system:node:a", &["system:nodes"]);
    let authority = ca.client_with("authority", &[], |p| {
        p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    for client in [
        Some(&node),
        Some(&stranger.client("system:node:a", &["system:masters"])),
        Some(&ca.server(&["x"])),
        Some(&authority),
        None,
    ] {
        let mut sender =
            http2_over(tls_to(address, &ca, client, "h2").await.unwrap(), &tasks).await;
        get(&mut sender).await.unwrap();
    }
    let mut seen = std::mem::take(&mut *seen.lock().unwrap()).into_iter();
    let user = seen.next().unwrap().unwrap().unwrap();
    assert_eq!(
        (user.name.as_str(), &*user.groups),
        ("system:node:a", &["system:nodes".to_owned()][..])
    );
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
    assert!(
        matches!(seen.next().unwrap(), Err(Untrusted::Chain { .. })),
        "another authority"
    );
    assert!(
        matches!(seen.next().unwrap(), Err(Untrusted::Chain { .. })),
        "not a client's certificate"
    );
    let user = seen.next().unwrap().unwrap().unwrap();
    assert_eq!(user.name, "authority", "which may sign others, too");
    assert_eq!(seen.next().unwrap(), Ok(None));
}

#[test]
fn tls_settings_that_are_not_supported_are_refused_by_name() {
    let refused = |flags: &[&str]| {
        let args = Args::parse(
            "x",
            "x",
            &[args::secure_serving()],
            flags.iter().map(ToString::to_string),
        )
        .unwrap();
        Options::from_flags(&args, "x").unwrap_err().to_string()
    };
    assert_eq!(
        refused(&["--tls-cipher-suites=TLS_RSA_WITH_RC4_128_SHA"]),
        "cipher suite TLS_RSA_WITH_RC4_128_SHA is not supported"
    );
    assert!(refused(&["--tls-min-version=VersionTLS14"]).contains("VersionTLS14"));
    assert!(refused(&["--tls-curve-preferences=1"]).contains("no key exchange group"));
    assert!(refused(&["--tls-sni-cert-key=x"]).contains("malformed --tls-sni-cert-key"));
    assert!(refused(&["--tls-cert-file=x"]).contains("together"));
    let flags = [
        "--tls-cipher-suites=TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305,TLS_AES_128_GCM_SHA256",
        "--tls-min-version=VersionTLS13",
    ];
    let args = Args::parse("x", "x", &[args::secure_serving()], flags).unwrap();
    assert!(
        Options::from_flags(&args, "x")
            .unwrap()
            .unwrap()
            .tls
            .unwrap()
            .only_tls13
    );
}

#[tokio::test]
async fn a_daemon_without_certificates_makes_one_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let first = self_signed(Some(dir.path()), "kube-x", &hosts).unwrap();
    let cert = std::fs::read_to_string(dir.path().join("kube-x.crt")).unwrap();
    self_signed(Some(dir.path()), "kube-x", &hosts).unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.path().join("kube-x.crt")).unwrap(),
        cert
    );
    Server::bind(Options::secure(loopback(), Tls::new(first))).unwrap();
    Server::bind(Options::secure(
        loopback(),
        Tls::new(self_signed(None, "x", &hosts).unwrap()),
    ))
    .unwrap();
}

#[tokio::test]
async fn an_unspecified_address_is_of_both_families() {
    let tasks = Supervisor::current();
    let server = Server::bind(Options::plain("0.0.0.0:0".parse().unwrap())).unwrap();
    let port = server.address().port();
    server.serve(&tasks, Task::Server, "test", who());
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    if std::path::Path::new("/proc/net/if_inet6").exists() {
        TcpStream::connect(("::1", port)).await.unwrap();
    }
    let taken = Server::bind(Options::plain(SocketAddr::new(
        "127.0.0.1".parse().unwrap(),
        port,
    )))
    .unwrap_err();
    assert!(
        taken.to_string().starts_with("cannot listen on 127.0.0.1:"),
        "{taken}"
    );
}
