#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

fn read(kind: &str, body: &str) -> Result<Rules, String> {
    let text = format!("{kind}\n{body}");
    super::read(&text, &super::super::tests::means()).map_err(|e| e.to_string())
}

const KIND: &str = "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1";

fn problems(body: &str) -> String {
    read(KIND, body).map(|_| ()).unwrap_err()
}

fn named(resources: &str) -> String {
    format!("resources: [{{resources: {resources}, providers: [{{identity: {{}}}}]}}]")
}

fn with(provider: &str) -> String {
    format!("resources: [{{resources: [secrets], providers: [{provider}]}}]")
}

#[test]
fn what_upstream_accepts_is_accepted() {
    let all = "resources:\n\
        - resources: [secrets, configmaps]\n\
        \u{20} providers:\n\
        \u{20} - identity: {}\n\
        \u{20} - aesgcm: {keys: [{name: key1, secret: c2VjcmV0IGlzIHNlY3VyZQ==}, {name: key2, secret: dGhpcyBpcyBwYXNzd29yZA==}]}\n\
        \u{20} - aescbc: {keys: [{name: key1, secret: c2VjcmV0IGlzIHNlY3VyZQ==}]}\n\
        \u{20} - secretbox: {keys: [{name: key1, secret: YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=}]}\n\
        - resources: ['*.apps']\n\
        \u{20} providers: [{identity: {}}]\n\
        - resources: ['*.*']\n\
        \u{20} providers: [{identity: {}}]\n";
    let rules = read(KIND, all).unwrap();
    let names: Vec<_> = rules.of.iter().map(|(of, _)| of.to_string()).collect();
    assert_eq!(names, ["secrets", "configmaps", "*.apps", "*.*"]);
    let providers: Vec<_> = rules.of.iter().map(|(_, choice)| choice.of.len()).collect();
    assert_eq!(providers, [4, 4, 1, 1]);
    assert!(read("kind: EncryptionConfig\napiVersion: v1", all).is_ok());
}

#[test]
fn a_resource_that_is_named_again_has_the_later_providers_as_well() {
    let one = "{resources: [secrets], providers: [{identity: {}}]}";
    let rules = read(KIND, &format!("resources: [{one}, {one}]")).unwrap();
    assert_eq!((rules.of.len(), rules.of[0].1.of.len()), (1, 2));
}

fn said(all: &[(String, &str)]) {
    for (body, said) in all {
        assert_eq!(problems(body), *said);
    }
}

#[test]
fn problems_of_resources_have_upstreams_words() {
    said(&[
        (
            "resources: []".to_owned(),
            "resources: Required value: at least one resources is required",
        ),
        (
            named("[]"),
            "resources[0].resources: Required value: at least one resources[0].resources is required",
        ),
        (
            "resources: [{resources: [secrets]}]".to_owned(),
            "resources[0].providers: Required value: at least one resources[0].providers is required",
        ),
        (
            named("[secrets, secrets]"),
            "resources[0].resources: Invalid value: [\"secrets\",\"secrets\"]: the same resource cannot be \
             specified multiple times",
        ),
        (
            named("[secrets, '*.']"),
            "resources[0].resources: Invalid value: [\"secrets\",\"*.\"]: using overlapping resources such as \
             'secrets' and '*.' in the same resource list is not allowed as they will be masked",
        ),
        (
            named("[deployments.apps, '*.*']"),
            "resources[0].resources: Invalid value: [\"deployments.apps\",\"*.*\"]: using overlapping \
             resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be \
             masked",
        ),
        (
            named("[Secrets]"),
            "resources[0].resources[0]: Invalid value: \"Secrets\": resource name should not contain capital \
             letters",
        ),
        (
            named("['*']"),
            "resources[0].resources[0]: Invalid value: \"*\": use '*.' to encrypt all the resources from core \
             API group or *.* to encrypt all resources",
        ),
        (
            named("[apiserveripinfo]"),
            "resources[0].resources[0]: Invalid value: \"apiserveripinfo\": resources which do not have REST \
             API/s cannot be encrypted",
        ),
        (
            named("[events.events.k8s.io]"),
            "resources[0].resources[0]: Invalid value: \"events.events.k8s.io\": '*.events.k8s.io' objects are \
             stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        ),
        (
            named("['*.extensions']"),
            "resources[0].resources[0]: Invalid value: \"*.extensions\": 'extensions' group has been removed \
             and cannot be used for encryption",
        ),
        (
            named("['secrets.*']"),
            "resources[0].resources[0]: Invalid value: \"secrets.*\": encrypting the same resource across \
             groups is not supported",
        ),
    ]);
}

#[test]
fn problems_of_providers_have_upstreams_words() {
    said(&[
        (
            with("{}"),
            "resources[0].providers[0]: Invalid value: provider does not contain any of the expected \
             providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
        ),
        (
            with("{identity: {}, aescbc: {keys: []}}"),
            "resources[0].providers[0]: Invalid value: more than one provider specified in a single element, \
             should split into different list elements",
        ),
        (
            with("{aescbc: {keys: []}}"),
            "resources[0].providers[0].aescbc.keys: Required value: at least one keys is required",
        ),
        (
            with("{aesgcm: {keys: [{}]}}"),
            "[resources[0].providers[0].aesgcm.keys[0].name: Required value: name is a mandatory field for a \
             key, resources[0].providers[0].aesgcm.keys[0].secret: Required value: secret is a mandatory field \
             for a key]",
        ),
        (
            with("{secretbox: {keys: [{name: a, secret: '?'}]}}"),
            "resources[0].providers[0].secretbox.keys[0].secret: Invalid value: \"REDACTED\": secrets must be \
             base64 encoded",
        ),
        (
            with("{aescbc: {keys: [{name: a, secret: YWJj}]}}"),
            "resources[0].providers[0].aescbc.keys[0].secret: Invalid value: \"REDACTED\": secret is not of \
             the expected length, got 3, expected one of [16 24 32]",
        ),
        (
            "resources: [{resources: ['*.'], providers: [{identity: {}}]}, \
             {resources: [secrets], providers: [{identity: {}}]}]"
                .to_owned(),
            "resources[1].resources[0]: Invalid value: \"secrets\": resource \"secrets\" is masked by earlier \
             rule \"*.\"",
        ),
    ]);
}

#[test]
fn unknown_fields_and_kinds_are_refused() {
    let typo = problems("resources: [{resources: [secrets], provider: [{identity: {}}]}]");
    assert!(
        typo.contains("resources.0.provider: unknown field"),
        "{typo}"
    );
    let other = read(
        "kind: EncryptionConfig\napiVersion: apiserver.config.k8s.io/v1",
        "",
    );
    let other = other.map(|_| ()).unwrap_err();
    assert!(
        other.contains("kind: must be EncryptionConfiguration"),
        "{other}"
    );
}

fn kms(fields: &str) -> String {
    with(&format!("{{kms: {{{fields}}}}}"))
}

const GOOD: &str = "apiVersion: v2, name: k, endpoint: 'unix:///k.sock'";

#[tokio::test]
async fn services_that_upstream_accepts_are_accepted() {
    for fields in [
        GOOD,
        &format!("{GOOD}, timeout: 10s"),
        "apiVersion: v2, name: k, endpoint: 'unix:///@k'",
    ] {
        let rules = read(KIND, &kms(fields)).unwrap();
        assert_eq!(rules.plugins.len(), 1);
        assert_eq!(&*rules.of[0].1.of[0].prefix, b"k8s:enc:kms:v2:k:");
    }
    let both = format!(
        "resources: [{{resources: [secrets, configmaps], providers: [{{kms: {{{GOOD}}}}}, {{identity: {{}}}}]}}, \
         {{resources: [pods], providers: [{{kms: {{apiVersion: v2, name: l, endpoint: 'unix:///k.sock'}}}}]}}]"
    );
    let rules = read(KIND, &both).unwrap();
    assert_eq!(
        (rules.plugins.len(), rules.of.len()),
        (2, 3),
        "one for each entry"
    );
}

#[tokio::test]
async fn services_of_the_first_version_are_used_if_their_gate_is_open() {
    let means = Means {
        kms_v1: true,
        ..super::super::tests::means()
    };
    for fields in [
        "name: 'a:b'",
        "apiVersion: v1, name: 'a:b', cachesize: 5",
        "name: 'a:b', cachesize: -1",
    ] {
        let body = kms(&format!("{fields}, endpoint: 'unix:///k'"));
        let rules = super::read(&format!("{KIND}\n{body}"), &means).unwrap();
        assert!(matches!(rules.plugins[..], [Plugin::V1(_)]));
        assert_eq!(&*rules.of[0].1.of[0].prefix, b"k8s:enc:kms:v1:a:b:");
    }
}

#[tokio::test]
async fn problems_of_services_have_upstreams_words() {
    let at = "resources[0].providers[0].kms";
    for (fields, said) in [
        (
            "apiVersion: v2, endpoint: 'unix:///k.sock'",
            ".name: Required value: name is a mandatory field for a provider",
        ),
        (
            "apiVersion: v2, name: 'a:b', endpoint: 'unix:///k.sock'",
            ".name: Invalid value: \"a:b\": invalid KMS provider name a:b, must not contain ':'",
        ),
        (
            "apiVersion: v2, name: k",
            ".endpoint: Invalid value: \"\": endpoint is a mandatory field for a kms",
        ),
        (
            "apiVersion: v2, name: k, endpoint: 'https://k'",
            ".endpoint: Invalid value: \"https://k\": unsupported scheme \"https\" for KMS provider, only unix is \
             supported",
        ),
        (
            "apiVersion: v2, name: k, endpoint: 'unix:///k', timeout: 0s",
            ".timeout: Invalid value: \"0s\": timeout should be a positive value",
        ),
        (
            "apiVersion: v2, name: k, endpoint: 'unix:///k', timeout: -1s",
            ".timeout: Invalid value: \"-1s\": timeout should be a positive value",
        ),
        (
            "apiVersion: v2, name: k, endpoint: 'unix:///k', cachesize: 10",
            ".cachesize: Invalid value: 10: cachesize is not supported in v2",
        ),
        (
            "apiVersion: v3, name: k, endpoint: 'unix:///k'",
            ".apiVersion: Invalid value: \"v3\": unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are \
             supported",
        ),
    ] {
        assert_eq!(problems(&kms(fields)), format!("{at}{said}"));
    }
    for v1 in [
        "name: k",
        "apiVersion: v1, name: k",
        "apiVersion: v1, name: 'a:b'",
    ] {
        let fields = format!("{v1}, endpoint: 'unix:///k'");
        assert_eq!(
            problems(&kms(&fields)),
            "error while building transformers: KMSv1 is deprecated and will only receive security updates going forward. \
             Use KMSv2 instead.  Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature."
        );
        // What is wrong with it is told before.
        let wrong = format!("{fields}, timeout: 0s");
        assert!(problems(&kms(&wrong)).starts_with(&format!("{at}.timeout: ")));
    }
    let twice = format!(
        "resources: [{{resources: [secrets], providers: [{{kms: {{{GOOD}}}}}, {{kms: {{{GOOD}}}}}]}}]"
    );
    assert_eq!(
        problems(&twice),
        "resources[0].providers[1].kms.name: Invalid value: \"k\": duplicate KMS provider name k, names must be unique"
    );
}
