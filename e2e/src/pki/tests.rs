use std::collections::BTreeMap;

use super::*;

fn names(nodes: usize) -> Names {
    Names {
        api_server: Ipv4Addr::new(172, 31, 100, 1),
        api_servers: vec![Ipv4Addr::new(172, 31, 100, 2)],
        kubernetes_service: Ipv4Addr::new(10, 96, 0, 1),
        loopback: vec![Ipv4Addr::new(127, 31, 0, 1), Ipv4Addr::new(127, 31, 0, 2)],
        nodes: (1..=nodes)
            .map(|n| {
                (
                    format!("node-{n}"),
                    Ipv4Addr::new(172, 31, 100, 10 + n as u8),
                )
            })
            .collect(),
    }
}

/// Every file below the directory with its text.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(snapshot(&path));
        } else {
            found.insert(path.clone(), fs::read_to_string(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_second_call_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    Pki::ensure(dir.path(), &names(2), now).unwrap();
    let first = snapshot(dir.path());
    Pki::ensure(dir.path(), &names(2), now + DAY).unwrap();
    assert_eq!(first, snapshot(dir.path()));
    assert!(first.contains_key(&dir.path().join("kubeconfigs/node-2.kubeconfig")));
}

#[test]
fn a_leaf_near_its_end_is_renewed_and_its_authority_kept() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let pki = Pki::ensure(dir.path(), &names(1), now).unwrap();
    let before = snapshot(dir.path());
    Pki::ensure(dir.path(), &names(1), now + DAY * 340).unwrap();
    let after = snapshot(dir.path());
    assert_eq!(before[&pki.cert("ca")], after[&pki.cert("ca")]);
    assert_ne!(
        before[&pki.cert("apiserver")],
        after[&pki.cert("apiserver")]
    );
    assert_ne!(
        before[&pki.kubeconfig("admin")],
        after[&pki.kubeconfig("admin")]
    );
    assert_eq!(
        before[&pki.key("sa")],
        after[&pki.key("sa")],
        "tokens that are out stay valid"
    );
}

#[test]
fn a_lost_authority_renews_all_it_signed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let pki = Pki::ensure(dir.path(), &names(1), now).unwrap();
    let before = snapshot(dir.path());
    fs::remove_file(pki.key("etcd/ca")).unwrap();
    Pki::ensure(dir.path(), &names(1), now).unwrap();
    let after = snapshot(dir.path());
    for changed in ["etcd/ca", "etcd/server", "apiserver-etcd-client"] {
        assert_ne!(
            before[&pki.cert(changed)],
            after[&pki.cert(changed)],
            "{changed}"
        );
    }
    assert_eq!(
        before[&pki.cert("apiserver")],
        after[&pki.cert("apiserver")]
    );
}

#[test]
fn a_new_address_renews_the_certificates_that_carry_it() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let pki = Pki::ensure(dir.path(), &names(1), now).unwrap();
    let before = snapshot(dir.path());
    let moved = Names {
        api_server: Ipv4Addr::new(172, 31, 101, 1),
        ..names(1)
    };
    Pki::ensure(dir.path(), &moved, now).unwrap();
    let after = snapshot(dir.path());
    assert_ne!(
        before[&pki.cert("apiserver")],
        after[&pki.cert("apiserver")]
    );
    assert_eq!(
        before[&pki.cert("scheduler")],
        after[&pki.cert("scheduler")]
    );
}

#[test]
fn keys_and_kubeconfigs_are_readable_by_root_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::ensure(dir.path(), &names(1), SystemTime::now()).unwrap();
    for path in [
        pki.key("ca"),
        pki.key("sa"),
        pki.kubeconfig("admin"),
        pki.kubeconfig("node-1"),
    ] {
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            path.display()
        );
    }
}
