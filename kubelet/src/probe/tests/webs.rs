//! HTTP as pods see it, and as they answer it.

use super::stream::Tls;
use super::target::Url;
use super::web::{Answer, Error, Fetch, Request, fetch};
use super::*;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;

fn request(at: SocketAddr, action: Value) -> Request {
    let mut action = action;
    action["port"] = at.port().into();
    let action = proto::typed::from_json_value(action).unwrap();
    Request::of(
        &action,
        &Container::default(),
        &at.ip().to_string(),
        "probe",
    )
    .unwrap()
}

async fn get(at: SocketAddr, action: Value) -> Result<Answer, Error> {
    get_within(at, action, Duration::from_secs(20)).await
}

async fn get_within(at: SocketAddr, action: Value, timeout: Duration) -> Result<Answer, Error> {
    let h2c = action["protocol"] == "HTTP2";
    let tls = Tls::new();
    let how = Fetch {
        tls: &tls,
        timeout: Some(timeout),
        h2c,
    };
    fetch(&request(at, action), &how).await
}

fn body(answer: Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// A server that says what it was asked.
async fn echo() -> SocketAddr {
    serve(|head| Some(http("200 OK", "", head))).await
}

#[tokio::test]
async fn a_request_is_what_upstream_sends() {
    let at = echo().await;
    let asked = body(get(at, json!({ "path": "/a?b=c#d" })).await.unwrap());
    let mut lines: Vec<&str> = asked.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "GET /a?b=c HTTP/1.1");
    lines.sort_unstable();
    let host = format!("Host: {at}");
    assert_eq!(
        lines,
        [
            "Accept: */*",
            "Connection: close",
            &host,
            "User-Agent: kube-probe/1.37"
        ]
    );
}

#[tokio::test]
async fn headers_of_the_specification_take_the_place_of_ours() {
    let at = echo().await;
    let headers = json!([
        { "name": "host", "value": "example.com" }, { "name": "USER-AGENT", "value": "me" },
        { "name": "X-Twice", "value": "1" }, { "name": "x-twice", "value": "2" },
        { "name": "Accept", "value": "" }, { "name": "Content-Length", "value": "9" },
        { "name": "Transfer-Encoding", "value": "chunked" },
    ]);
    let asked = body(get(at, json!({ "httpHeaders": headers })).await.unwrap());
    let mut lines: Vec<&str> = asked.trim_end().split("\r\n").skip(1).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Connection: close",
            "Host: example.com",
            "User-Agent: me",
            "X-Twice: 1",
            "X-Twice: 2"
        ]
    );
    let silent = json!([{ "name": "User-Agent", "value": "" }]);
    let asked = body(get(at, json!({ "httpHeaders": silent })).await.unwrap());
    assert!(!asked.to_lowercase().contains("user-agent"), "{asked}");
    let split = json!([{ "name": "X", "value": "a\r\nEvil: 1" }]);
    let error = get(at, json!({ "httpHeaders": split })).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Get \"http://{at}\": net/http: invalid header field value for \"X\"")
    );
}

#[tokio::test]
async fn redirects_are_followed_on_the_host_and_nowhere_else() {
    let at = serve(|head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let redirect = |to: &str| http("302 Found", &format!("Location: {to}\r\n"), "moved");
        Some(match path {
            "/ok" => http("200 OK", "", head),
            "/relative" => redirect("ok"),
            "/again" => redirect("/relative"),
            "/loop" => redirect("/loop"),
            "/away" => redirect("http://example.invalid/"),
            "/nowhere" => http("302 Found", "", "no location"),
            "/scheme" => redirect("ftp://127.0.0.1/"),
            "/not-modified" => http("304 Not Modified", "Location: /ok\r\n", ""),
            _ => http("404 Not Found", "", ""),
        })
    })
    .await;
    let get = |path: &str| get(at, json!({ "path": path }));
    let answer = get("/again").await.unwrap();
    assert_eq!(answer.status, 200);
    let head = body(answer);
    assert!(
        head.contains(&format!("Referer: http://{at}/relative")),
        "{head}"
    );
    assert!(head.contains("Accept: */*"), "{head}");
    for path in ["/away", "/nowhere", "/scheme"] {
        assert_eq!(get(path).await.unwrap().status, 302, "{path}");
    }
    assert_eq!(get("/not-modified").await.unwrap().status, 304);
    let error = get("/loop").await.unwrap_err();
    assert!(
        error.to_string().ends_with("stopped after 10 redirects"),
        "{error}"
    );
}

#[tokio::test]
async fn a_probe_that_is_led_away_is_a_success_with_a_warning() {
    let at = serve(|_| Some(http("302 Found", "Location: http://0.0.0.0/\r\n", "body"))).await;
    let mut bench = bench(Commands::ending(0, "", ""));
    let pod = pod(json!({ "name": "c", "readinessProbe": { "httpGet": { "port": at.port() } } }));
    bench.start(&pod, "1");
    bench.news().await;
    assert!(bench.probes.state("1").ready);
    let (reason, message, _) = event(&mut bench.api).await;
    assert_eq!(reason, "ProbeWarning");
    assert_eq!(
        message,
        "Readiness probe warning: Probe terminated redirects, Response body: body"
    );
}

#[tokio::test]
async fn failures_read_as_gos_do() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = free.local_addr().unwrap();
    drop(free);
    let silent = serve(|_| None).await;
    let mute = serve(|_| Some(String::new())).await;
    let plain = echo().await;
    let short = Duration::from_millis(200);
    let error = async |at, action| get_within(at, action, short).await.unwrap_err().to_string();
    assert_eq!(
        error(closed, json!({ "path": "/x" })).await,
        format!("Get \"http://{closed}/x\": dial tcp {closed}: connect: connection refused")
    );
    assert_eq!(
        error(silent, json!({})).await,
        format!(
            "Get \"http://{silent}\": context deadline exceeded (Client.Timeout exceeded while \
             awaiting headers)"
        )
    );
    assert_eq!(
        error(mute, json!({})).await,
        format!("Get \"http://{mute}\": EOF")
    );
    assert_eq!(
        error(plain, json!({ "scheme": "HTTPS" })).await,
        format!("Get \"https://{plain}\": http: server gave HTTP response to HTTPS client")
    );
}

#[tokio::test]
async fn no_more_of_a_body_is_read_than_is_looked_at() {
    let at = serve(|_| Some(http("200 OK", "", &"x".repeat(1 << 20)))).await;
    assert_eq!(get(at, json!({})).await.unwrap().body.len(), 10 << 10);
    let broken = serve(|_| Some("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxx".into())).await;
    assert!(matches!(get(broken, json!({})).await, Err(Error::Body(_))));
}

/// A server with a certificate that nobody knows, for these protocols. It answers with the version.
async fn secure(protocols: &[&[u8]]) -> SocketAddr {
    let key = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
    let der = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], der)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    Supervisor::current().spawn(Task::Background, "test", async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else {
                continue;
            };
            if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                answer_h2(tls).await;
            } else {
                let _ = tls.write_all(http("200 OK", "", "1").as_bytes()).await;
                let _ = tls.shutdown().await;
            }
        }
    });
    at
}

/// Answers one request over HTTP/2 with its host.
async fn answer_h2(io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let host = request.uri().authority().unwrap().to_string();
        let response = ::http::Response::new(());
        let mut body = respond.send_response(response, false).unwrap();
        body.send_data(host.into(), true).unwrap();
    }
}

#[tokio::test]
async fn any_certificate_is_good_enough() {
    let old = secure(&[b"http/1.1"]).await;
    assert_eq!(
        body(get(old, json!({ "scheme": "HTTPS" })).await.unwrap()),
        "1"
    );
    let new = secure(&[b"h2"]).await;
    let host = body(get(new, json!({ "scheme": "HTTPS" })).await.unwrap());
    assert_eq!(host, new.to_string());
}

#[tokio::test]
async fn http_2_is_spoken_in_the_clear_if_asked_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    Supervisor::current().spawn(Task::Background, "test", async move {
        while let Ok((tcp, _)) = listener.accept().await {
            answer_h2(tcp).await;
        }
    });
    let headers = json!([{ "name": "Host", "value": "example.com" }]);
    let action = json!({ "protocol": "HTTP2", "httpHeaders": headers });
    assert_eq!(body(get(at, action).await.unwrap()), "example.com");
}

#[test]
fn addresses_are_written_as_upstream_writes_them() {
    for (scheme, host, path, expected) in [
        ("http", "localhost", "", "http://localhost:93"),
        ("https", "localhost", "/path", "https://localhost:93/path"),
        ("http", "localhost", "?foo", "http://localhost:93?foo"),
        (
            "https",
            "localhost",
            "/path?bar",
            "https://localhost:93/path?bar",
        ),
        (
            "HTTP",
            "fd00::1",
            "relative",
            "http://[fd00::1]:93/relative",
        ),
        ("", "h", "http://other/x?y", "http://h:93/x?y"),
        ("", "h", "/a b", "http://h:93/a%20b"),
        ("", "h", "/a%20b?c=%41", "http://h:93/a%20b?c=%41"),
        ("", "h", "/%zz", "http://h:93/%25zz"),
        ("", "h", "/é?ü", "http://h:93/%C3%A9?%C3%BC"),
    ] {
        let url = Url::new(scheme, host, 93, path).unwrap();
        assert_eq!(url.to_string(), expected);
    }
    for host in ["", "a b", "a/b", "a@b", "[::1]", "a\nb"] {
        assert!(Url::new("http", host, 1, "/").is_err(), "{host:?}");
    }
    assert_eq!(Url::new("", "h", 1, "").unwrap().request_target(), "/");
    assert_eq!(Url::new("", "h", 1, "?a").unwrap().request_target(), "/?a");
}

#[test]
fn locations_are_resolved_as_the_standard_says() {
    let base = Url::new("http", "h", 8080, "/a/b?c").unwrap();
    for (location, expected) in [
        ("x", "http://h:8080/a/x"),
        ("/x", "http://h:8080/x"),
        ("../x", "http://h:8080/x"),
        ("../../../x", "http://h:8080/x"),
        ("./", "http://h:8080/a/"),
        ("..", "http://h:8080/"),
        ("?d", "http://h:8080/a/b?d"),
        ("#f", "http://h:8080/a/b?c"),
        ("//g", "http://g/"),
        ("https://g", "https://g/"),
        ("HTTPS://g:1/x?y", "https://g:1/x?y"),
        ("http://u:p@[::1]:7/x", "http://[::1]:7/x"),
        ("http://[::1]", "http://[::1]/"),
    ] {
        let joined = base.join(location).map(|url| url.to_string());
        assert_eq!(joined.as_deref(), Some(expected), "{location}");
    }
    for bad in [
        "ftp://h/",
        "http://h:x/",
        "http://h:99999/",
        "http:///x",
        "http://[::1/",
    ] {
        assert_eq!(base.join(bad), None, "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn no_location_breaks_anything(location in "\\PC{0,30}|[a-z:/?#@.%\\[\\]]{0,30}") {
        let base = Url::new("http", "h", 80, "/a").unwrap();
        if let Some(url) = base.join(&location) {
            let target = url.request_target();
            proptest::prop_assert!(target.starts_with('/'));
            proptest::prop_assert!(target.parse::<::http::Uri>().is_ok(), "{target}");
        }
    }
}
