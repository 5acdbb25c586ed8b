use std::io::Read;

use super::*;
use crate::image::archive_of;

fn registry(dir: &Path) -> Registry {
    let archives = ["registry.k8s.io/a/b:1", "gcr.io/k8s-authenticated-test/b:2"]
        .map(|name| archive_of(dir, name));
    Registry::open(&archives).unwrap()
}

fn ask(registry: &Registry, method: Method, uri: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    registry.answer(&request.body(Bytes::new()).unwrap())
}

fn bytes(answer: Response<Body>) -> Vec<u8> {
    match answer.into_body() {
        Body::Bytes(bytes) => bytes.to_vec(),
        Body::Part(path, place) => {
            let mut bytes = Vec::new();
            place.open(&path).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    let hex: String = sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

#[test]
fn an_image_is_pulled_by_tag_and_by_digest_down_to_its_layers() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path());
    let by_tag = ask(
        &registry,
        Method::GET,
        "/v2/a/b/manifests/1?ns=registry.k8s.io",
        &[],
    );
    assert_eq!(by_tag.status(), StatusCode::OK);
    let digest = by_tag.headers()["Docker-Content-Digest"]
        .to_str()
        .unwrap()
        .to_owned();
    let manifest = bytes(by_tag);
    assert_eq!(sha256(&manifest), digest);
    let by_digest = ask(
        &registry,
        Method::GET,
        &format!("/v2/a/b/manifests/{digest}"),
        &[],
    );
    assert_eq!(bytes(by_digest), manifest);

    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for blob in [&manifest["config"], &manifest["layers"][0]] {
        let digest = blob["digest"].as_str().unwrap();
        let whole = bytes(ask(
            &registry,
            Method::GET,
            &format!("/v2/a/b/blobs/{digest}"),
            &[],
        ));
        assert_eq!(sha256(&whole), digest);
        let range = [("Range", "bytes=3-6")];
        let some = ask(
            &registry,
            Method::GET,
            &format!("/v2/a/b/blobs/{digest}"),
            &range,
        );
        assert_eq!(some.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(bytes(some), whole[3..=6]);
        let head = ask(
            &registry,
            Method::HEAD,
            &format!("/v2/a/b/blobs/{digest}"),
            &[],
        );
        assert_eq!(
            head.headers()["Content-Length"].to_str().unwrap(),
            whole.len().to_string()
        );
        assert!(bytes(head).is_empty());
    }
}

#[test]
fn what_is_not_there_or_belongs_to_another_host_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path());
    for uri in [
        "/v2/a/b/manifests/2",
        "/v2/a/c/manifests/1",
        "/v2/a/b/manifests/1?ns=docker.io",
        "/v2/a/b/blobs/sha256:00",
        "/other",
    ] {
        let answer = ask(&registry, Method::GET, uri, &[]);
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{uri}");
    }
    let pushed = ask(&registry, Method::PUT, "/v2/a/b/manifests/1", &[]);
    assert_eq!(pushed.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn a_private_repository_asks_who_pulls() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path());
    let uri = "/v2/k8s-authenticated-test/b/manifests/2?ns=gcr.io";
    let stranger = ask(&registry, Method::GET, uri, &[]);
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
    assert!(stranger.headers().contains_key("WWW-Authenticate"));
    let login = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    let (wrong, right) = (login("somebody:key"), login("_json_key:key"));
    let wrong = ask(&registry, Method::GET, uri, &[("Authorization", &wrong)]);
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let right = ask(&registry, Method::GET, uri, &[("Authorization", &right)]);
    assert_eq!(right.status(), StatusCode::OK);
}

#[test]
fn a_range_beyond_the_blob_is_cut_or_ignored() {
    let whole = Place {
        offset: 100,
        size: 10,
    };
    let place = |offset, size| Some(Place { offset, size });
    assert_eq!(part("bytes=0-", whole), place(100, 10));
    assert_eq!(part("bytes=4-99", whole), place(104, 6));
    for ignored in [
        "bytes=10-",
        "bytes=5-4",
        "bytes=-3",
        "items=1-2",
        "bytes=x-",
    ] {
        assert_eq!(part(ignored, whole), None, "{ignored}");
    }
    assert_eq!(part("bytes=0-", Place { offset: 0, size: 0 }), None);
}
