use super::*;

fn read(rest: &str) -> Result<Policy, String> {
    Policy::read(format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rest}").as_bytes())
}

fn user(name: &str, group: &str) -> User {
    User {
        name: name.into(),
        groups: vec![group.into()],
        ..User::default()
    }
}

/// The level at which a user's GET of `resource[/subresource] name` is recorded.
fn level_of(policy: &Policy, user: &User, namespace: &str, resource: &str, name: &str) -> Level {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let asked = Attributes {
        subresource,
        namespace,
        name,
        ..Attributes::about(user, "get", "", "v1", resource)
    };
    let verdict = policy.verdict(Some(user), &asked);
    verdict.map_or(Level::None, |v| v.level)
}

#[test]
fn the_first_rule_that_fits_decides() {
    let policy = read(
        "omitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n\
         - {level: None, users: [quiet]}\n\
         - {level: Request, userGroups: [ops], verbs: [get], namespaces: [kube-system]}\n\
         - {level: RequestResponse, omitStages: [Panic], omitManagedFields: false, resources: [{group: '', resources: [pods]}]}\n\
         - {level: Metadata, resources: [{resources: [pods/log, '*/status', nodes/*]}, {resources: [secrets], resourceNames: [x]}]}\n",
    )
    .unwrap();
    let (quiet, ops, other) = (user("quiet", "ops"), user("o", "ops"), user("u", "users"));
    let level =
        |user, namespace, resource, name| level_of(&policy, user, namespace, resource, name);
    assert_eq!(level(&quiet, "kube-system", "pods", ""), Level::None);
    assert_eq!(level(&ops, "kube-system", "secrets", "y"), Level::Request);
    assert_eq!(level(&ops, "", "secrets", "y"), Level::None);
    assert_eq!(level(&other, "a", "pods", "p"), Level::RequestResponse);
    assert_eq!(level(&other, "a", "pods/log", "p"), Level::Metadata);
    assert_eq!(level(&other, "a", "pods/exec", "p"), Level::None);
    assert_eq!(level(&other, "a", "services/status", "s"), Level::Metadata);
    assert_eq!(level(&other, "", "nodes", "n"), Level::Metadata);
    assert_eq!(level(&other, "a", "secrets", "x"), Level::Metadata);
    assert_eq!(level(&other, "a", "secrets", "y"), Level::None);
    let pods = Attributes::about(&other, "list", "", "v1", "pods");
    let verdict = policy.verdict(Some(&other), &pods).unwrap();
    assert_eq!(verdict.omit_stages, [Stage::Panic, Stage::RequestReceived]);
    assert!(!verdict.omit_managed_fields);
    // Whoever is not known fits no rule about users.
    assert_eq!(
        policy.verdict(None, &pods).unwrap().level,
        Level::RequestResponse
    );
}

#[test]
fn paths_fit_as_a_whole_or_by_their_beginning() {
    let policy = read("rules: [{level: Metadata, nonResourceURLs: [/healthz, '/api*']}]").unwrap();
    let somebody = user("u", "users");
    let recorded = |path: &str, is_resource| {
        let asked = Attributes {
            is_resource,
            path,
            ..Attributes::about(&somebody, "get", "", "", "")
        };
        policy.verdict(Some(&somebody), &asked).is_some()
    };
    assert!(recorded("/healthz", false) && recorded("/apis/apps", false));
    assert!(!recorded("/healthz/etcd", false) && !recorded("/api/v1/pods", true));
}

#[test]
fn a_bad_policy_is_refused_in_upstreams_words() {
    let refused = |rest: &str, why: &str| {
        let error = read(rest).unwrap_err();
        assert!(error.contains(why), "{rest}: {error}");
    };
    refused("rules: []", "loaded illegal policy with 0 rules");
    refused("rules: [{}]", "rules[0].level: Required value");
    refused(
        "rules: [{level: All}]",
        "rules[0].level: Unsupported value: \"All\": supported values: \"None\", \"Metadata\", \"Request\", \"RequestResponse\"",
    );
    refused(
        "rules: [{level: None}]\nomitStages: [Later]",
        "omitStages[0]: Invalid value: \"Later\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
    );
    refused(
        "rules: [{level: None, nonResourceURLs: [healthz, /a*b]}]",
        "rules[0].nonResourceURLs[0]: Invalid value: \"healthz\": non-resource URL rules must begin with a '/' character",
    );
    refused(
        "rules: [{level: None, nonResourceURLs: [/a*b]}]",
        "non-resource URL wildcards '*' must be the final character of the rule",
    );
    refused(
        "rules: [{level: None, nonResourceURLs: [/], namespaces: [a]}]",
        "rules cannot apply to both regular resources and non-resource URLs",
    );
    refused(
        "rules: [{level: None, resources: [{group: apps/v1}]}]",
        "rules[0].resources.group: Invalid value: \"apps/v1\"",
    );
    refused(
        "rules: [{level: None, resources: [{resourceNames: [a]}]}]",
        "using resourceNames requires at least one resource",
    );
    let old = Policy::read(b"apiVersion: audit.k8s.io/v1beta1\nkind: Policy").unwrap_err();
    assert!(old.contains("audit.k8s.io/v1beta1"), "{old}");
    let none = Policy::read(b"rules: [{level: None}]").unwrap_err();
    assert!(none.contains("'kind' must be set"), "{none}");
}

#[test]
fn fields_that_nobody_knows_are_forgiven() {
    assert!(read("rules: [{level: Metadata, users: null, unknown: 1}]\nmore: 2").is_ok());
}
