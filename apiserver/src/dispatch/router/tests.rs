use http::{HeaderValue, Uri};
use proto::catalogue;
use resources::request::Query;

use super::*;

fn outcome(method: &str, path: &str, header: Option<(HeaderName, &'static str)>) -> u16 {
    let uri: Uri = path.parse().unwrap();
    let method: Method = method.parse().unwrap();
    let info = RequestInfo::read(&method, &uri, &Query::parse(&uri)).unwrap();
    let resource = catalogue::resource(&info.group, &info.version, &info.resource).unwrap();
    let mut headers = HeaderMap::new();
    if let Some((name, value)) = header {
        headers.insert(name, HeaderValue::from_static(value));
    }
    match check(resource, &info, &method, &headers) {
        Ok(()) => 200,
        Err(failure) => failure.code(),
    }
}

#[test]
fn a_path_has_the_methods_of_its_verbs() {
    for (method, path, code) in [
        ("GET", "/api/v1/pods", 200),
        ("HEAD", "/api/v1/pods", 405),
        ("POST", "/api/v1/pods", 405),
        ("OPTIONS", "/api/v1/namespaces/a/pods", 405),
        ("PUT", "/api/v1/namespaces/a/pods", 405),
        ("DELETE", "/api/v1/namespaces/a/pods", 200),
        ("POST", "/api/v1/namespaces/a/pods/b", 405),
        ("GET", "/api/v1/namespaces/a/pods/b/", 200),
        ("GET", "/api/v1/pods/b", 404),
        ("GET", "/api/v1/namespaces/a/pods//b", 404),
        ("GET", "/api/v1/namespaces/a/pods/b/none", 404),
        ("GET", "/api/v1/namespaces/a/pods/b/status/c", 404),
        ("POST", "/api/v1/namespaces/a/pods/b/binding", 200),
        ("GET", "/api/v1/namespaces/a/pods/b/binding", 405),
        ("HEAD", "/api/v1/namespaces/a/pods/b/proxy/c/d", 200),
        ("GET", "/api/v1/watch/pods", 200),
        ("GET", "/api/v1/watch/pods/a", 404),
        ("GET", "/api/v1/watch/namespaces/a/pods/b", 200),
        ("GET", "/api/v1/namespaces/a", 200),
        ("PUT", "/api/v1/namespaces/a/finalize", 200),
        ("POST", "/api/v1/namespaces/default/namespaces", 404),
        ("GET", "/api/v1/namespaces/a/nodes", 404),
        (
            "GET",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            405,
        ),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews/a",
            404,
        ),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/localsubjectaccessreviews",
            404,
        ),
    ] {
        assert_eq!(outcome(method, path, None), code, "{method} {path}");
    }
}

#[test]
fn types_are_matched_by_their_names_alone() {
    let get = |accept| outcome("GET", "/api/v1/pods", Some((ACCEPT, accept)));
    assert_eq!(get("application/json;as=Whatever"), 200);
    assert_eq!(get("text/html, */*;q=0.1"), 200);
    assert_eq!(get("application/*"), 406);
    assert_eq!(get("text/html"), 406);
    let log = |accept| {
        outcome(
            "GET",
            "/api/v1/namespaces/a/pods/b/log",
            Some((ACCEPT, accept)),
        )
    };
    assert_eq!((log("text/plain"), log("text/html")), (200, 406));
    let exec = "/api/v1/namespaces/a/pods/b/exec";
    assert_eq!(outcome("GET", exec, Some((ACCEPT, "text/html"))), 200);
}

#[test]
fn patches_are_of_four_types() {
    let patch = |media| outcome("PATCH", "/api/v1/nodes/a", media);
    let of = |media| Some((CONTENT_TYPE, media));
    assert_eq!(
        patch(of("application/merge-patch+json; charset=utf-8")),
        200
    );
    assert_eq!(patch(of("application/json")), 415);
    assert_eq!(patch(None), 415);
    let refused = Failure::routed(415, "415: Unsupported Media Type");
    assert_eq!(
        refused.to_value().at(&["details"]),
        Some(&proto::Value::object())
    );
}
