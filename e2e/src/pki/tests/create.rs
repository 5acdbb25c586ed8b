//! What an operator's cluster is made of, and what is left alone.

use super::*;

fn operators() -> Names {
    Names {
        server: "https://[fd00::1]:6443".to_owned(),
        api_servers: vec![host("api.example.org"), host("fd00::1")],
        kubernetes_service: vec!["10.96.0.1".parse().unwrap(), "fd01::1".parse().unwrap()],
        nodes: vec![(
            "worker".to_owned(),
            vec![host("192.0.2.7"), host("fd00::7")],
        )],
        registry: None,
        ..names(0)
    }
}

#[test]
fn certificates_carry_names_and_addresses_of_both_families() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let made = create(dir.path(), &operators(), now).unwrap();
    let pki = Pki::at(dir.path());
    let [ca, apiserver] = ["ca", "apiserver"].map(|name| text(&pki.cert(name)));
    for name in [
        "api.example.org",
        "fd00::1",
        "fd01::1",
        "10.96.0.1",
        "::1",
        "kubernetes.default.svc.cluster.local",
    ] {
        assert!(believes(&ca, &apiserver, Some(name), now), "{name}");
    }
    assert!(!believes(&ca, &apiserver, Some("fd00::2"), now));
    let worker = text(&pki.cert("worker-server"));
    assert!(believes(&ca, &worker, Some("fd00::7"), now));
    assert!(believes(&ca, &text(&pki.cert("worker")), None, now));
    assert!(made.iter().all(|made| made.why == "there was none"));
    assert!(text(&pki.kubeconfig("worker")).contains("https://[fd00::1]:6443"));
    assert!(!pki.cert("registry").exists());
}

#[test]
fn what_is_valid_stays_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    create(dir.path(), &operators(), now).unwrap();
    let before = snapshot(dir.path());
    let later = now + DAY * 360;
    let fewer = Names {
        api_servers: vec![host("fd00::1")],
        ..operators()
    };
    assert_eq!(create(dir.path(), &fewer, later).unwrap(), []);
    assert_eq!(before, snapshot(dir.path()));
    let ended = create(dir.path(), &fewer, now + DAY * 366).unwrap();
    let pki = Pki::at(dir.path());
    for path in [pki.cert("apiserver"), pki.kubeconfig("admin")] {
        assert!(ended.iter().any(|made| made.path == path), "{path:?}");
    }
    assert!(ended.iter().all(|made| made.path != pki.cert("ca")));
}

#[test]
fn a_name_that_is_lacking_makes_a_certificate_anew() {
    let (dir, pki, now) = fresh();
    let before = snapshot(dir.path());
    let mut more = names(1);
    more.api_servers.push(host("api.example.org"));
    let made = create(dir.path(), &more, now).unwrap();
    let paths: Vec<_> = made.iter().map(|made| &made.path).collect();
    assert_eq!(paths, [&pki.cert("apiserver")]);
    assert_eq!(
        before[&pki.kubeconfig("admin")],
        text(&pki.kubeconfig("admin"))
    );
}

#[test]
fn an_authority_is_never_replaced() {
    type Spoil = fn(&Pki);
    let cases: &[(Spoil, &str)] = &[
        (|pki| fs::remove_file(pki.key("ca")).unwrap(), "--new-key"),
        (
            |pki| fs::remove_file(pki.cert("ca")).unwrap(),
            "put it back",
        ),
        (
            |pki| fs::write(pki.key("ca"), text(&pki.key("etcd/ca"))).unwrap(),
            "holds no certificate that its key belongs to",
        ),
        (
            |pki| fs::write(pki.key("ca"), "-----BEGIN ENCRYPTED PRIVATE KEY-----\n").unwrap(),
            "not encrypted",
        ),
        (
            |pki| fs::write(pki.cert("ca"), "").unwrap(),
            "not a certificate",
        ),
    ];
    for (spoil, says) in cases {
        let (dir, pki, now) = fresh();
        spoil(&pki);
        let before = snapshot(dir.path());
        let error = create(dir.path(), &names(1), now).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(before, snapshot(dir.path()));
    }
    let (dir, _, now) = fresh();
    let error = create(dir.path(), &names(1), now + DAY * 3630).unwrap_err();
    let says = format!("hack/pki renew {} --authority ca", dir.path().display());
    assert!(error.to_string().contains(&says), "{error}");
}

#[test]
fn the_key_of_tokens_is_never_replaced() {
    let (dir, pki, now) = fresh();
    fs::remove_file(pki.key("sa")).unwrap();
    let error = create(dir.path(), &names(1), now).unwrap_err();
    assert!(matches!(error, Error::NoTokenKey(_)), "{error}");
    fs::write(pki.key("sa"), "not a key").unwrap();
    create(dir.path(), &names(1), now).unwrap();
    assert_eq!(text(&pki.key("sa")), "not a key");
}

#[test]
fn hosts_are_addresses_or_names() {
    for good in [
        "a",
        "api.example.org",
        "*.example.org",
        "10.0.0.1",
        "fd00::1",
        "1.a",
    ] {
        assert!(good.parse::<Host>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "a..b",
        "-a",
        "A",
        "10.0.0.256",
        "a/b",
        "a b",
        "https://a",
        "[::1]",
        "ä",
    ] {
        assert!(bad.parse::<Host>().is_err(), "{bad}");
    }
    assert_eq!(host("FD00:0::1").to_string(), "fd00::1");
    assert_eq!(host("fd00::1").in_url(), "[fd00::1]");
}
