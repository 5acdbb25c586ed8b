use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;

use super::certificate::{Certificate, seconds};
use super::*;

mod create;
mod inspect;
mod kubeadm;
mod kubeconfig;
mod renew;

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

fn names(nodes: usize) -> Names {
    Names {
        server: "https://172.31.100.1:6443".to_owned(),
        api_servers: vec![host("172.31.100.1"), host("172.31.100.2")],
        kubernetes_service: vec![IpAddr::from([10, 96, 0, 1])],
        control_plane: vec![host("127.31.0.1"), host("127.31.0.2")],
        nodes: (1..=nodes)
            .map(|n| {
                let address = host(&format!("172.31.100.{}", 10 + n));
                (format!("node-{n}"), vec![address])
            })
            .collect(),
        domain: "cluster.local".to_owned(),
        registry: Some(host("172.31.100.1")),
    }
}

/// A cluster that was just made.
fn fresh() -> (tempfile::TempDir, Pki, SystemTime) {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let pki = Pki::ensure(dir.path(), &names(1), now).unwrap();
    (dir, pki, now)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The first certificate of a file.
fn certificate(path: &Path) -> Certificate {
    Certificate::all(&text(path)).unwrap().remove(0)
}

fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether rustls believes a chain: of a server with this name, or of a client.
fn believes(authorities: &str, chain: &str, server: Option<&str>, now: SystemTime) -> bool {
    let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(Result::unwrap)
            .collect()
    };
    let mut roots = rustls::RootCertStore::empty();
    for authority in certificates(authorities) {
        roots.add(authority).unwrap();
    }
    let chain = certificates(chain);
    let (leaf, others) = chain.split_first().unwrap();
    let time = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    match server {
        Some(name) => {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .unwrap()
                .verify_server_cert(leaf, others, &name, &[], time)
                .is_ok()
        }
        None => WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap()
            .verify_client_cert(leaf, others, time)
            .is_ok(),
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
        api_servers: vec![host("172.31.101.1")],
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
