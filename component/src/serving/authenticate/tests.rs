use super::*;
use crate::serving::{Pair, TlsPeer};
use crate::testing::{Ask, Ca, FakeApi, Files};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A request over a connection with this client certificate.
fn request(certificate: Option<&Pair>, headers: &[(&'static str, &str)]) -> http::Request<()> {
    let chain = certificate.map(|p| CertificateDer::from_pem_slice(p.cert.as_bytes()).unwrap());
    let address = "127.0.0.1:1".parse().unwrap();
    let connection = Connection {
        peer: address,
        local: address,
        tls: Some(TlsPeer::new(chain.into_iter().collect(), None)),
        close: CancellationToken::new(),
    };
    let mut request = http::Request::get("/metrics");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.extension(Arc::new(connection)).body(()).unwrap()
}

fn review(authenticated: bool) -> Value {
    json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": "x"}, "status": {
        "authenticated": authenticated, "error": if authenticated { "" } else { "expired" },
        "user": {"username": "u", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}}}})
}

async fn asked(
    authenticator: &Authenticator,
    api: &mut FakeApi,
    request: &http::Request<()>,
    answer: &Value,
) -> Result<User, Unauthenticated> {
    let (user, seen) = tokio::join!(authenticator.authenticate(request), async {
        api.next().await.json(answer)
    });
    assert_eq!(seen.path, "/apis/authentication.k8s.io/v1/tokenreviews");
    user
}

#[tokio::test]
async fn a_token_is_reviewed_once_while_the_answer_is_fresh() {
    let mut api = FakeApi::plain();
    let ttl = Duration::from_millis(150);
    let authenticator = Authenticator::new(None, Some((api.client(), ttl)), true);
    let with_token = request(None, &[("authorization", "bearer secret")]);
    let user = asked(&authenticator, &mut api, &with_token, &review(true))
        .await
        .unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("u", "1"));
    assert_eq!(user.groups, ["g", "system:authenticated"]);
    assert_eq!(
        authenticator.authenticate(&with_token).await.unwrap(),
        user,
        "nobody was asked"
    );
    tokio::time::sleep(ttl).await;
    let refused = asked(&authenticator, &mut api, &with_token, &review(false))
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), "invalid bearer token: expired");
    let other = request(None, &[("authorization", "Bearer other")]);
    asked(&authenticator, &mut api, &other, &review(true))
        .await
        .unwrap();
}

#[tokio::test]
async fn who_says_nothing_is_anonymous_only_where_that_is_allowed() {
    let nobody = request(None, &[]);
    assert!(
        Authenticator::new(None, None, true)
            .authenticate(&nobody)
            .await
            .unwrap()
            .is_anonymous()
    );
    let refused = Authenticator::new(None, None, false)
        .authenticate(&nobody)
        .await;
    assert!(matches!(refused, Err(Unauthenticated::Anonymous)));
    // Somebody else's scheme is no token of ours.
    let basic = request(None, &[("authorization", "Basic dTpw")]);
    let api = FakeApi::plain();
    let authenticator = Authenticator::new(None, Some((api.client(), Duration::ZERO)), true);
    assert!(
        authenticator
            .authenticate(&basic)
            .await
            .unwrap()
            .is_anonymous()
    );
}

#[tokio::test]
async fn a_wrong_certificate_is_refused_unless_a_token_is_right() {
    let (ca, stranger, files) = (Ca::new("ca"), Ca::new("stranger"), Files::new());
    let trusted = ClientCa::from_file(&files.write("ca", &ca.pem)).unwrap();
    let mut api = FakeApi::plain();
    let authenticator =
        Authenticator::new(Some(trusted), Some((api.client(), Duration::ZERO)), true);
    let (mine, theirs) = (ca.client("me", &["g"]), stranger.client("me", &["g"]));
    let user = authenticator
        .authenticate(&request(Some(&mine), &[]))
        .await
        .unwrap();
    assert_eq!((user.name.as_str(), user.groups.len()), ("me", 2));
    let refused = authenticator
        .authenticate(&request(Some(&theirs), &[]))
        .await;
    assert!(
        matches!(refused, Err(Unauthenticated::Certificate(_))),
        "not anonymous: {refused:?}"
    );
    let both = request(Some(&theirs), &[("authorization", "Bearer t")]);
    assert_eq!(
        asked(&authenticator, &mut api, &both, &review(true))
            .await
            .unwrap()
            .name,
        "u"
    );
}

#[tokio::test]
async fn identity_headers_count_only_from_a_front_proxy() {
    let (ca, proxies, files) = (Ca::new("ca"), Ca::new("proxies"), Files::new());
    let trusted = ClientCa::from_file(&files.write("ca", &ca.pem)).unwrap();
    let authenticator = Authenticator::new(Some(trusted), None, true);
    authenticator.trust_proxies(Some(RequestHeader {
        ca: ClientCa::from_file(&files.write("proxy", &proxies.pem)).unwrap(),
        allowed_names: vec!["front".into()],
        username_headers: vec!["X-Remote-User".into()],
        uid_headers: vec!["X-Remote-Uid".into()],
        group_headers: vec!["X-Remote-Group".into()],
        extra_prefixes: vec!["X-Remote-Extra-".into()],
    }));
    let headers = [
        ("x-remote-user", "root"),
        ("x-remote-group", "a"),
        ("x-remote-group", "b"),
        ("x-remote-extra-some%2fkey+%+5", "v"),
    ];
    let user = authenticator
        .authenticate(&request(Some(&proxies.client("front", &[])), &headers))
        .await
        .unwrap();
    assert_eq!(
        (user.name.as_str(), user.groups),
        (
            "root",
            vec!["a".into(), "b".into(), User::AUTHENTICATED.to_owned()]
        )
    );
    assert_eq!(user.extra["some/key+%+5"], ["v"]);
    let user = authenticator
        .authenticate(&request(Some(&ca.client("me", &[])), &headers))
        .await
        .unwrap();
    assert_eq!(user.name, "me", "a client cannot speak for others");
    let refused = authenticator
        .authenticate(&request(Some(&proxies.client("other", &[])), &headers))
        .await;
    assert!(
        matches!(refused, Err(Unauthenticated::Certificate(_))),
        "{refused:?}"
    );
    let user = authenticator
        .authenticate(&request(None, &headers))
        .await
        .unwrap();
    assert!(user.is_anonymous());
}

#[tokio::test]
async fn whom_the_cluster_trusts_is_looked_up_and_followed() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let mut api = FakeApi::plain();
    let client = api.client();
    let informers = Informers::new(client.clone(), api.tasks.clone());
    let groups = [args::delegated_authentication()];
    let args = Args::parse("x", "x", &groups, Vec::<String>::new()).unwrap();
    let map = |ca: &Ca, version: u64| {
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE,
            "resourceVersion": version.to_string()}, "data": {"client-ca-file": ca.pem,
            "requestheader-client-ca-file": ca.pem, "requestheader-allowed-names": "[\"front\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]"}})
    };
    let metrics = Metrics::new();
    let made = Authenticator::from_flags(&args, Some((client, informers.clone())), &metrics);
    let (made, _) = tokio::join!(made, async { api.next().await.json(&map(&old, 1)) });
    let authenticator = made.unwrap();
    let mine = old.client("me", &[]);
    let early = authenticator
        .authenticate(&request(Some(&mine), &[]))
        .await
        .unwrap();
    assert!(
        early.is_anonymous(),
        "nobody is trusted before it is known whom to trust"
    );
    let (seen, lines) = Ask::stream(api.next().await);
    assert_eq!(
        seen.param("fieldSelector"),
        format!("metadata.name={CONFIG_MAP}")
    );
    lines.event("ADDED", &map(&old, 1)).await;
    let mark = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": "1",
        "annotations": {"k8s.io/initial-events-end": "true"}}});
    lines.event("BOOKMARK", &mark).await;
    informers.synced().await;
    assert_eq!(
        authenticator
            .authenticate(&request(Some(&mine), &[]))
            .await
            .unwrap()
            .name,
        "me"
    );
    let proxied = request(Some(&old.client("front", &[])), &[("x-remote-user", "you")]);
    assert_eq!(
        authenticator.authenticate(&proxied).await.unwrap().name,
        "you"
    );
    lines.event("MODIFIED", &map(&new, 2)).await;
    let changed = async {
        while authenticator
            .authenticate(&request(Some(&mine), &[]))
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), changed)
        .await
        .expect("the old authority is not trusted any more");
    assert_eq!(
        authenticator
            .authenticate(&request(Some(&new.client("me", &[])), &[]))
            .await
            .unwrap()
            .name,
        "me"
    );
}

#[tokio::test]
async fn a_lookup_that_is_refused_is_fatal_unless_tolerated() {
    for (flag, fatal) in [("false", true), ("true", false)] {
        let mut api = FakeApi::plain();
        let client = api.client();
        let informers = Informers::new(client.clone(), api.tasks.clone());
        let line = [format!("--authentication-tolerate-lookup-failure={flag}")];
        let args = Args::parse("x", "x", &[args::delegated_authentication()], line).unwrap();
        let metrics = Metrics::new();
        let made = Authenticator::from_flags(&args, Some((client, informers)), &metrics);
        let (made, _) = tokio::join!(made, async { api.next().await.status(403, "Forbidden") });
        assert_eq!(made.is_err(), fatal);
    }
}

/// How many certificates were counted, and how many of them had ended.
fn counted(metrics: &Metrics) -> (f64, f64) {
    let (_, text) = metrics.answer("");
    let name = "apiserver_client_certificate_expiration_seconds";
    let value = |sample: &str| -> f64 {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(&format!("{name}_{sample} ")));
        line.unwrap().parse().unwrap()
    };
    (value("count"), value("bucket{le=\"0.0\"}"))
}

#[tokio::test]
async fn the_rest_of_a_certificates_life_is_counted_for_each_request_believed_or_not() {
    let (ca, proxies, files) = (Ca::new("ca"), Ca::new("proxies"), Files::new());
    let metrics = Metrics::new();
    let trusted = ClientCa::from_file(&files.write("ca", &ca.pem)).unwrap();
    let authenticator = Authenticator::new(Some(trusted.counted(&metrics)), None, true);
    authenticator.trust_proxies(Some(RequestHeader {
        ca: ClientCa::from_file(&files.write("proxy", &proxies.pem)).unwrap(),
        allowed_names: Vec::new(),
        username_headers: vec!["X-Remote-User".into()],
        uid_headers: Vec::new(),
        group_headers: Vec::new(),
        extra_prefixes: Vec::new(),
    }));
    assert_eq!(counted(&metrics), (0.0, 0.0));
    let mine = request(Some(&ca.client("me", &[])), &[]);
    for _ in 0..2 {
        authenticator.authenticate(&mine).await.unwrap();
    }
    assert_eq!(counted(&metrics), (2.0, 0.0));
    let ended = request(
        Some(&ca.client_with("me", &[], |c| {
            c.not_after = rcgen::date_time_ymd(2001, 9, 9)
        })),
        &[],
    );
    authenticator.authenticate(&ended).await.unwrap_err();
    assert_eq!(counted(&metrics), (3.0, 1.0));
    // Neither who sends no certificate nor a front proxy is judged by this authority.
    let nobody = request(None, &[]);
    let proxied = request(Some(&proxies.client("p", &[])), &[("x-remote-user", "you")]);
    for request in [nobody, proxied] {
        authenticator.authenticate(&request).await.unwrap();
    }
    assert_eq!(counted(&metrics), (3.0, 1.0));
}
