use proto::catalogue::names as n;

use super::super::testing::Of;

const SCHEMAS: Of = Of("flowcontrol.apiserver.k8s.io", "v1", "flowschemas");
const LEVELS: Of = Of(
    "flowcontrol.apiserver.k8s.io",
    "v1",
    "prioritylevelconfigurations",
);

fn named(name: &str, spec: &str) -> String {
    format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{spec}}}"#)
}

fn schema(rule: &str) -> String {
    named(
        "x",
        &format!(r#"{{"priorityLevelConfiguration":{{"name":"l"}},"rules":[{rule}]}}"#),
    )
}

const WHO: &str = r#""subjects":[{"kind":"User","user":{"name":"*"}}]"#;

#[test]
fn a_schema_says_whose_requests_it_means() {
    for (rule, errors) in [
        (
            format!(r#"{{{WHO},"nonResourceRules":[{{"verbs":["get"],"nonResourceURLs":["/a/*"]}}]}}"#),
            &[][..],
        ),
        (
            "{}".into(),
            &[
                "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ],
        ),
        (
            r#"{"subjects":[{"kind":"User","group":{"name":"g"}},{"kind":"ServiceAccount","serviceAccount":{"name":"*","namespace":""}},{"kind":"X"}],
                "resourceRules":[{"verbs":["*","get"],"apiGroups":[],"resources":["*"],"namespaces":["A"]}]}"#.into(),
            &[
                "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[0].subjects[1].serviceAccount.namespace: Required value: must specify namespace for service account",
                r#"spec.rules[0].subjects[2].kind: Unsupported value: "X": supported values: "Group", "ServiceAccount", "User""#,
                r#"spec.rules[0].resourceRules[0].verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other verbs"#,
                "spec.rules[0].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group",
                r#"spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: "A": each member of this list must be '*' or a DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"#,
            ],
        ),
    ] {
        assert_eq!(SCHEMAS.refused(&schema(&rule)), errors, "{rule}");
    }
}

#[test]
fn what_the_server_needs_stays_as_it_is() {
    let spec = r#"{"type":"Limited","limited":{"nominalConcurrencyShares":5,"lendablePercent":0,"limitResponse":{"type":"Reject"}}}"#;
    assert!(LEVELS.refused(&named("catch-all", spec)).is_empty());
    let other = spec.replace(":5", ":6");
    let told = LEVELS.refused(&named("catch-all", &other));
    assert!(
        told[0].ends_with("spec of 'catch-all' must equal the fixed value"),
        "{told:?}"
    );
    let exempt = r#"{"type":"Exempt","exempt":{"nominalConcurrencyShares":7}}"#;
    assert!(LEVELS.refused(&named("exempt", exempt)).is_empty());
    assert_eq!(
        LEVELS.refused(&named("x", exempt)),
        [
            r#"spec.type: Invalid value: "Exempt": must be 'Exempt' if and only if `name` is 'exempt'"#
        ]
    );
}

#[test]
fn hands_are_dealt_of_few_queues() {
    let level = |queuing: &str| {
        named(
            "x",
            &format!(
                r#"{{"type":"Limited","limited":{{"limitResponse":{{"type":"Queue","queuing":{queuing}}}}}}}"#
            ),
        )
    };
    assert!(
        LEVELS.refused(&level("{}")).is_empty(),
        "all numbers have defaults"
    );
    let told = LEVELS.refused(&level(r#"{"queues":10000000,"handSize":8}"#));
    assert_eq!(
        told,
        [
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: required entropy bits of deckSize 10000000 and handSize 8 should not be greater than 60"
        ]
    );
    let told = LEVELS.refused(&level(r#"{"queues":2,"handSize":3}"#));
    assert_eq!(
        told,
        [
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 3: should not be greater than queues (2)"
        ]
    );
}

#[test]
fn a_status_brings_no_metadata_along() {
    let with = |metadata: &str| {
        format!(
            r#"{{"metadata":{{"name":"x"{metadata}}},"spec":{{"priorityLevelConfiguration":{{"name":"l"}}}}}}"#
        )
    };
    let new = with(r#","generateName":"y","labels":{"a":"b"}"#);
    let stored = SCHEMAS.update("status", &new, &with("")).unwrap();
    let metadata = stored.get(n::METADATA).unwrap();
    assert!(metadata.get(n::GENERATE_NAME).is_none() && metadata.get(n::LABELS).is_none());
}
