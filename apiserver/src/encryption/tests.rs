#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

const KEY: &str = "/registry/secrets/default/s";

/// The bytes 0, 1, 2 and so on, or others if `first` is not 0.
fn secret(first: u8, len: u8) -> String {
    STANDARD.encode((first..first + len).collect::<Vec<_>>())
}

/// `provider: name secret, name secret` for each.
fn providers(given: &[(&str, &[(&str, String)])]) -> String {
    let mut text = String::new();
    for (provider, keys) in given {
        if keys.is_empty() {
            let _ = writeln!(text, "  - {provider}: {{}}");
            continue;
        }
        let _ = writeln!(text, "  - {provider}:\n      keys:");
        for (name, secret) in *keys {
            let _ = writeln!(text, "      - name: {name}\n        secret: {secret}");
        }
    }
    text
}

/// What is made of files in tests.
pub(super) fn means() -> Means {
    Means {
        kms: KmsMetrics::register(&Metrics::new(), "server"),
        kms_v1: false,
    }
}

fn rules(resources: &str, given: &[(&str, &[(&str, String)])]) -> Rules {
    let text = format!(
        "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n\
         - resources: {resources}\n  providers:\n{}",
        providers(given)
    );
    config::read(&text, &means()).unwrap()
}

fn seal(rules: &Rules, value: &[u8]) -> Bytes {
    let mut sealed = Vec::new();
    let choice = rules.of("", "secrets").unwrap();
    choice.seal(KEY, value, &mut sealed).unwrap();
    sealed.into()
}

/// The value, and whether it is stale; or the reason.
fn open_at(rules: &Rules, key: &str, sealed: &Bytes) -> Result<(Bytes, bool), String> {
    let choice = rules.of("", "secrets").unwrap();
    let opened = choice.open(key, sealed).and_then(Opening::at_once);
    opened.map(|o| (o.value, o.stale)).map_err(|e| e.reason)
}

fn open(rules: &Rules, sealed: &Bytes) -> Result<(Bytes, bool), String> {
    open_at(rules, KEY, sealed)
}

/// Every cipher, with every size of key.
const ALL: [(&str, u8); 7] = [
    ("aescbc", 16),
    ("aescbc", 24),
    ("aescbc", 32),
    ("aesgcm", 16),
    ("aesgcm", 24),
    ("aesgcm", 32),
    ("secretbox", 32),
];

/// One provider with one key, the bytes from 0.
fn one(cipher: &str, len: u8) -> Rules {
    rules(
        "[secrets]",
        &[(cipher, &[(format!("key{len}").as_str(), secret(0, len))])],
    )
}

/// What upstream's API server 1.37.1 wrote with the keys of [`one`], an object named `upstream` for each of
/// [`ALL`]: the etcd key, the prefix, and the rest in base64.
const OF_UPSTREAM: &str = include_str!("tests/upstream.txt");

#[test]
fn what_upstream_wrote_is_opened() {
    assert_eq!(OF_UPSTREAM.lines().count(), ALL.len());
    for ((cipher, len), line) in ALL.into_iter().zip(OF_UPSTREAM.lines()) {
        let [key, prefix, rest] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let sealed: Bytes = [prefix.as_bytes(), &STANDARD.decode(rest).unwrap()]
            .concat()
            .into();
        assert!(sealed.starts_with(format!("k8s:enc:{cipher}:v1:key{len}:").as_bytes()));
        let (value, stale) = open_at(&one(cipher, len), key, &sealed).unwrap();
        let object = String::from_utf8_lossy(&value);
        assert!(
            object.starts_with("k8s\0") && object.contains("upstream"),
            "{object}"
        );
        assert!(!stale);
    }
}

#[test]
fn what_was_changed_or_moved_is_not_opened() {
    for (cipher, len) in ALL {
        let rules = one(cipher, len);
        let sealed = seal(&rules, b"a value");
        let head = format!("k8s:enc:{cipher}:v1:key{len}:").len();
        for at in (head..sealed.len()).filter(|_| cipher != "aescbc") {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert!(open(&rules, &changed.into()).is_err(), "{cipher} {at}");
        }
        for end in head..sealed.len() {
            assert!(
                open(&rules, &sealed.slice(..end)).is_err(),
                "{cipher} {end}"
            );
        }
        let moved = open_at(&rules, "/registry/secrets/other/s", &sealed);
        assert_eq!(moved.is_ok(), cipher != "aesgcm", "{cipher}");
    }
}

#[test]
fn no_value_is_sealed_twice_into_the_same_bytes() {
    for (cipher, len) in ALL {
        let rules = one(cipher, len);
        assert_ne!(seal(&rules, b"a value"), seal(&rules, b"a value"));
    }
}

#[test]
fn what_the_first_key_of_the_first_provider_did_not_seal_is_stale() {
    let (a, b) = (("a", secret(0, 32)), ("b", secret(100, 32)));
    let both = [a.clone(), b.clone()];
    let by_a = seal(&rules("[secrets]", &[("aesgcm", &both[..1])]), b"1");
    let by_b = seal(&rules("[secrets]", &[("aesgcm", &both[1..])]), b"2");
    let plain = Bytes::from_static(b"k8s\0plain");
    let read = |given: &[(&str, &[(&str, String)])]| {
        let rules = rules("[secrets]", given);
        [&by_a, &by_b, &plain].map(|sealed| open(&rules, sealed).ok().map(|(_, stale)| stale))
    };
    assert_eq!(read(&[("aesgcm", &both)]), [Some(false), Some(true), None]);
    assert_eq!(
        read(&[("aesgcm", &both), ("identity", &[])]),
        [Some(false), Some(true), Some(true)]
    );
    // Away from encryption: plain values are read first, and others not taken for them.
    assert_eq!(
        read(&[("identity", &[]), ("aesgcm", &both)]),
        [Some(true), Some(true), Some(false)]
    );
    // A provider may be named twice, and a key's name may be that of another key.
    let renamed = ("a", b.1.clone());
    assert_eq!(
        read(&[("aesgcm", &[b]), ("aesgcm", &[renamed]), ("aesgcm", &[a])]),
        [Some(true), Some(false), None]
    );
}

#[test]
fn the_nearest_rule_is_that_of_a_resource() {
    let entry = |resources: &str, key: &str| {
        let key = (key, secret(0, 32));
        format!(
            "- resources: ['{resources}']\n  providers:\n{}",
            providers(&[("secretbox", &[key])])
        )
    };
    let text = format!(
        "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n{}{}{}{}",
        entry("secrets", "secrets"),
        entry("*.", "core"),
        entry("deployments.apps", "deployments"),
        entry("*.*", "all")
    );
    let rules = config::read(&text, &means()).unwrap();
    let key = |group: &str, resource: &str| {
        let mut sealed = Vec::new();
        rules
            .of(group, resource)
            .unwrap()
            .seal(KEY, b"", &mut sealed)
            .unwrap();
        let text = String::from_utf8_lossy(&sealed).into_owned();
        text.split(':').nth(4).unwrap().to_owned()
    };
    assert_eq!(
        [
            key("", "secrets"),
            key("", "pods"),
            key("apps", "deployments"),
            key("apps", "replicasets")
        ],
        ["secrets", "core", "deployments", "all"]
    );
}

#[tokio::test]
async fn who_is_not_named_is_stored_as_it_is() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n\
         - {{resources: [secrets], providers: [{{identity: {{}}}}, {{aescbc: {{keys: [{{name: k, secret: {}}}]}}}}]}}\n",
        secret(0, 32)
    );
    std::fs::write(&file, text).unwrap();
    let given = EncryptionConfig {
        file: file.path().to_owned(),
        reload: false,
    };
    let (tasks, metrics) = (Supervisor::current(), Metrics::new());
    let all = Encryption::load(&given, &Features::defaults(), &tasks, &metrics, "server")
        .await
        .unwrap();
    let pods = all.of("", "pods");
    let value = Bytes::from_static(b"pod");
    assert_eq!(pods.seal(KEY, value.clone()).await, Ok(value.clone()));
    assert_eq!(pods.open(KEY, value.clone()).await.unwrap().value, value);
    // Once it was encrypted: it is not taken for an object.
    assert!(
        pods.open(KEY, Bytes::from_static(b"k8s:enc:x"))
            .await
            .is_err()
    );
    // Of what is named it is counted.
    all.of("", "secrets").seal(KEY, value).await.unwrap();
    let (_, told) = metrics.answer("");
    let done: Vec<&str> = { told.lines() }
        .filter(|l| l.starts_with("apiserver_storage_transformation_operations_total{"))
        .collect();
    assert_eq!(done.len(), 1, "{done:?}");
    assert!(
        done[0].contains("resource=\"secrets\"") && done[0].contains("status=\"OK\""),
        "{done:?}"
    );
    // What nobody can open is counted by who had the prefix.
    for (sealed, by) in [
        ("k8s:enc:aescbc:v1:x", "k8s:enc:aescbc:v1:"),
        ("k8s:enc:x", "unknown"),
    ] {
        let sealed = Bytes::from_static(sealed.as_bytes());
        assert!(all.of("", "secrets").open(KEY, sealed).await.is_err());
        let (_, told) = metrics.answer("");
        let line = |l: &&str| {
            l.contains(&format!("transformer_prefix=\"{by}\""))
                && l.contains("status=\"unknown-non-grpc\"")
        };
        assert!(told.lines().any(|l| line(&l)), "{by}\n{told}");
    }
}

#[test]
fn reasons_name_what_is_missing() {
    let rules = rules("[secrets]", &[("aescbc", &[("a", secret(0, 32))])]);
    let reason = |sealed: &'static [u8]| open(&rules, &Bytes::from_static(sealed)).unwrap_err();
    assert_eq!(reason(b"k8s\0"), "no matching prefix found");
    assert_eq!(
        reason(b"k8s:enc:aescbc:v1:b:0123"),
        "no matching key was found for the provided AES transformer"
    );
}

proptest! {
    #[test]
    fn what_was_sealed_is_opened(value in prop::collection::vec(any::<u8>(), 0..100)) {
        for (cipher, len) in ALL {
            let rules = one(cipher, len);
            let sealed = seal(&rules, &value);
            prop_assert_eq!(open(&rules, &sealed), Ok((Bytes::from(value.clone()), false)));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(rest in prop::collection::vec(any::<u8>(), 0..100)) {
        for (cipher, len) in ALL {
            let sealed = [format!("k8s:enc:{cipher}:v1:key{len}:").as_bytes(), &rest].concat();
            let _ = open(&one(cipher, len), &sealed.into());
        }
    }
}
