//! Renewing what there is: each chain is believed before, between and after the steps.

use super::*;
use crate::pki::renew::{self, Roll};

#[test]
fn only_what_ends_soon_is_renewed_and_wherever_it_is() {
    let (dir, pki, now) = fresh();
    let before = snapshot(dir.path());
    let outcome = renew::leaves(dir.path(), &[], 30, now).unwrap();
    assert_eq!((outcome.written.len(), outcome.left.len()), (0, 0));
    assert_eq!(before, snapshot(dir.path()));

    let outcome = renew::leaves(dir.path(), &[], 30, now + DAY * 340).unwrap();
    assert_eq!(outcome.left, []);
    let after = snapshot(dir.path());
    for (path, text) in &before {
        let name = path.strip_prefix(dir.path()).unwrap().to_string_lossy();
        let kept = name.contains("ca.") || name.contains("/sa.");
        assert_eq!(kept, *text == after[path], "{name}");
    }
    let ca = text(&pki.cert("ca"));
    let later = now + DAY * 700;
    assert!(believes(
        &ca,
        &text(&pki.cert("apiserver")),
        Some("172.31.100.1"),
        later
    ));
    // One identity, one key: the file and the kubeconfig that embeds it.
    let embedded = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        text(&pki.cert("admin")),
    );
    assert!(text(&pki.kubeconfig("admin")).contains(&embedded));
    assert!(create(dir.path(), &names(1), later).unwrap().is_empty());
}

#[test]
fn named_ones_are_renewed_always_in_kubeadms_names_too() {
    let (dir, pki, now) = fresh();
    let before = snapshot(dir.path());
    let names = ["etcd-server", "node-1.kubeconfig"].map(str::to_owned);
    let outcome = renew::leaves(dir.path(), &names, 30, now).unwrap();
    let changed: Vec<_> = before
        .iter()
        .filter(|(path, before)| text(path) != **before)
        .map(|(path, _)| path.clone())
        .collect();
    let wanted = [
        pki.kubeconfig("node-1"),
        pki.cert("etcd/server"),
        pki.key("etcd/server"),
        pki.cert("node-1"),
        pki.key("node-1"),
    ];
    assert_eq!(changed, wanted);
    let next = outcome.next.join("\n");
    assert!(next.contains("etcd reads its certificates"), "{next}");
    assert!(next.contains("restart what uses"), "{next}");

    let unknown = renew::leaves(dir.path(), &["apisever".to_owned()], 30, now).unwrap_err();
    assert!(unknown.is_usage() && unknown.to_string().contains("apiserver"));
    let authority = renew::leaves(dir.path(), &["etcd-ca".to_owned()], 30, now).unwrap_err();
    assert!(authority.to_string().contains("--authority etcd-ca"));
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let (dir, pki, now) = fresh();
    renew::leaves(dir.path(), &["apiserver".to_owned()], 30, now + DAY * 3500).unwrap();
    let [ca, leaf] = ["ca", "apiserver"].map(|name| certificate(&pki.cert(name)));
    assert_eq!(ca.not_after, leaf.not_after);
}

#[test]
fn what_cannot_be_renewed_is_left_and_says_why() {
    let (dir, pki, now) = fresh();
    fs::remove_file(pki.key("etcd/ca")).unwrap();
    let kubelets = dir.path().join("pki/kubelet-client-2026.pem");
    let both = text(&pki.cert("node-1")) + &text(&pki.key("node-1"));
    fs::write(&kubelets, both).unwrap();
    let link = dir.path().join("pki/kubelet-client-current.pem");
    std::os::unix::fs::symlink(&kubelets, link).unwrap();
    for name in ["node-1.crt", "node-1.key"] {
        fs::remove_file(dir.path().join("pki").join(name)).unwrap();
    }
    fs::remove_file(pki.kubeconfig("node-1")).unwrap();
    let outcome = renew::leaves(dir.path(), &[], 400, now).unwrap();
    let why = |name: &str| {
        let found = outcome.left.iter().find(|(left, _)| left == name);
        found.map_or("", |(_, why)| why.as_str())
    };
    assert!(
        why("etcd-server").contains("--authority etcd/ca --new-key"),
        "{outcome:?}"
    );
    assert!(why("kubelet-client-current").contains("kubelet renews it"));
    assert_eq!(outcome.left.len(), 4, "{:?}", outcome.left);
}

#[test]
fn a_kubeconfig_without_its_key_keeps_all_that_it_has() {
    let (dir, pki, now) = fresh();
    let path = pki.kubeconfig("scheduler");
    let key = format!("client-key: {}\n    x", pki.key("scheduler").display());
    fs::write(&path, text(&path).replace("client-key-data", &key)).unwrap();
    let before = snapshot(dir.path());
    let outcome = renew::leaves(dir.path(), &["scheduler".to_owned()], 30, now).unwrap();
    assert!(outcome.left[0].1.contains("without its key"), "{outcome:?}");
    assert_eq!(before, snapshot(dir.path()));
}

#[test]
fn an_authority_is_renewed_with_its_key_and_what_it_signed_stays_valid() {
    let (dir, pki, now) = fresh();
    let (old, key) = (text(&pki.cert("ca")), text(&pki.key("ca")));
    let leaf = text(&pki.cert("apiserver"));
    renew::authority(dir.path(), "ca", Roll::SameKey, now + DAY * 100).unwrap();
    let new = text(&pki.cert("ca"));
    assert_ne!(old, new);
    assert_eq!(key, text(&pki.key("ca")));
    assert_eq!(certificate(&pki.cert("ca")).subject, "CN=kubernetes-ca");
    let [server, soon] = [Some("172.31.100.1"), None].map(|name| (name, now + DAY * 101));
    assert!(believes(&new, &leaf, server.0, server.1));
    // Clients that trust the old certificate believe leaves that are signed from now on.
    renew::leaves(dir.path(), &["admin".to_owned()], 30, now + DAY * 100).unwrap();
    for trusted in [&old, &new] {
        assert!(believes(trusted, &text(&pki.cert("admin")), soon.0, soon.1));
    }
    let encoded =
        |pem: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    assert!(text(&pki.kubeconfig("scheduler")).contains(&encoded(&new)));
    assert!(!text(&pki.kubeconfig("scheduler")).contains(&encoded(&old)));
}

#[test]
fn an_authority_is_rolled_to_another_key() {
    let (dir, pki, now) = fresh();
    let (path, old) = (dir.path(), text(&pki.cert("ca")));
    let leaf = text(&pki.cert("apiserver"));
    let server = Some("172.31.100.1");
    let rolled = renew::authority(path, "ca", Roll::NewKey, now).unwrap();
    let bundle = text(&pki.cert("ca"));
    assert!(bundle.ends_with(&old));
    assert_eq!(
        text(&path.join("pki/ca.key.old")).matches("BEGIN").count(),
        1
    );
    let signing = text(&path.join("pki/ca-signing.crt"));
    assert_eq!(format!("{signing}{old}"), bundle);
    assert!(believes(&bundle, &leaf, server, now) && !believes(&signing, &leaf, server, now));
    // Nothing is missing meanwhile.
    assert!(create(path, &names(1), now).unwrap().is_empty());

    let early = renew::authority(path, "ca", Roll::DropOld, now).unwrap_err();
    assert!(matches!(early, Error::StillNeeded { .. }), "{early}");
    // The advice names all that it signed.
    let named = rolled
        .next
        .iter()
        .find_map(|step| step.split_once("only then: hack/pki renew "));
    let named: Vec<String> = named
        .unwrap()
        .1
        .split(' ')
        .skip(1)
        .map(str::to_owned)
        .collect();
    let outcome = renew::leaves(path, &named, 30, now).unwrap();
    assert_eq!(outcome.left, []);
    let leaf = text(&pki.cert("apiserver"));
    assert!(believes(&signing, &leaf, server, now) && !believes(&old, &leaf, server, now));
    renew::authority(path, "ca", Roll::DropOld, now).unwrap();
    assert_eq!(text(&pki.cert("ca")), signing);
    let report = crate::pki::inspect::inspect(&[path.to_owned()], 30, now).unwrap();
    assert!(report.is_fine(), "{}", report.table());
}

#[test]
fn an_authority_whose_key_is_lost_gets_another() {
    let (dir, pki, now) = fresh();
    let leaf = text(&pki.cert("etcd/server"));
    fs::remove_file(pki.key("etcd/ca")).unwrap();
    let refused = renew::authority(dir.path(), "etcd/ca", Roll::SameKey, now).unwrap_err();
    assert!(refused.to_string().contains("--new-key"), "{refused}");
    renew::authority(dir.path(), "etcd/ca", Roll::NewKey, now).unwrap();
    assert!(believes(
        &text(&pki.cert("etcd/ca")),
        &leaf,
        Some("localhost"),
        now
    ));
    renew::leaves(dir.path(), &["etcd/server".to_owned()], 30, now).unwrap();
    let leaf = text(&pki.cert("etcd/server"));
    assert!(believes(
        &text(&pki.cert("etcd/ca")),
        &leaf,
        Some("localhost"),
        now
    ));
}

#[test]
fn an_authority_that_another_signed_is_left_to_that() {
    let (dir, pki, now) = fresh();
    let read = |name: &str| {
        authority::Authority::read(&pki.cert(name), &pki.key(name), now)
            .unwrap()
            .unwrap()
            .unwrap()
    };
    let (above, own) = (read("front-proxy-ca"), read("ca"));
    let signed = above.sign(&own.certificate, &own.key, now, DAY).unwrap();
    fs::write(pki.cert("ca"), signed.pem()).unwrap();
    let error = renew::authority(dir.path(), "ca", Roll::SameKey, now).unwrap_err();
    assert!(matches!(error, Error::NotItsOwn { .. }), "{error}");
}

#[test]
fn owners_modes_and_links_of_files_stay() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (dir, pki, now) = fresh();
    let key = pki.key("etcd/server");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&key, Some(1234), Some(1234)).unwrap();
    }
    let owner = fs::metadata(&key).unwrap().uid();
    let (link, real) = (pki.cert("etcd/server"), dir.path().join("real.crt"));
    fs::rename(&link, &real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let before = text(&real);
    renew::leaves(dir.path(), &["etcd/server".to_owned()], 30, now).unwrap();
    let meta = fs::metadata(&key).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (owner, 0o640));
    assert!(link.is_symlink());
    assert_ne!(before, text(&real));
}
