use component::testing::Files;

use super::*;

const VERSION: &str = "apiserver.config.k8s.io/v1";

fn file(authorizers: &str) -> String {
    format!("apiVersion: {VERSION}\nkind: AuthorizationConfiguration\nauthorizers:\n{authorizers}")
}

fn webhook(name: &str, kubeconfig: &str, more: &str) -> String {
    format!(
        "- {{type: Webhook, name: {name}, webhook: {{timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: Deny, \
         connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {kubeconfig}}}{more}}}}}\n"
    )
}

/// What is wrong with a list of authorizers.
fn problems(authorizers: &str) -> String {
    read(&file(authorizers), &[]).unwrap_err().to_string()
}

#[test]
fn authorizers_stand_in_order_with_upstreams_defaults() {
    let files = Files::new();
    let kubeconfig = files.write("webhook.kubeconfig", "{}");
    let shown = kubeconfig.display().to_string();
    let text = "- {type: Node, name: node}\n".to_owned()
        + &webhook("first.example", &shown, "")
        + &webhook(
            "second.example",
            &shown,
            ", cacheAuthorizedRequests: false, unauthorizedTTL: 5s",
        )
        + "- {type: RBAC, name: rbac}\n";
    let entries = read(&file(&text), &[Kind::Node, Kind::Rbac]).unwrap();
    let kinds: Vec<Kind> = entries.iter().map(|e| e.kind).collect();
    assert_eq!(
        kinds,
        [Kind::Node, Kind::Webhook, Kind::Webhook, Kind::Rbac]
    );
    let first = entries[1].webhook.as_ref().unwrap();
    let wanted = WebhookSettings {
        kubeconfig,
        timeout: Duration::from_secs(3),
        authorized_ttl: Duration::from_secs(300),
        unauthorized_ttl: Duration::from_secs(30),
        version: Version::V1,
        fail_closed: true,
        conditions: Conditions::default(),
    };
    assert_eq!(*first, wanted);
    let second = entries[2].webhook.as_ref().unwrap();
    assert_eq!(second.authorized_ttl, Duration::ZERO);
    assert_eq!(second.unauthorized_ttl, Duration::from_secs(5));
}

#[test]
fn a_file_that_says_something_wrong_is_refused_with_the_path() {
    let files = Files::new();
    let kubeconfig = files.write("k", "{}").display().to_string();
    let at_least_one =
        "authorizers: Required value: at least one authorization mode must be defined";
    let empty = format!("apiVersion: {VERSION}\nkind: AuthorizationConfiguration\n");
    assert_eq!(read(&empty, &[]).unwrap_err().to_string(), at_least_one);
    for (authorizers, wanted) in [
        ("- {name: x}", "authorizers[0].type: Required value"),
        (
            "- {type: Magic, name: x}",
            "authorizers[0].type: Unsupported value: \"Magic\": supported values: \"ABAC\", \"AlwaysAllow\", \
             \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\"",
        ),
        (
            "- {type: RBAC, name: rbac}\n- {type: RBAC, name: other}",
            "authorizers[1].type: Duplicate value: \"RBAC\"",
        ),
        ("- {type: RBAC}", "authorizers[0].name: Required value"),
        (
            "- {type: RBAC, name: mine}",
            "expected name rbac for authorizer RBAC instead of mine",
        ),
        (
            "- {type: Webhook, name: x}",
            "authorizers[0].webhook: Required value: required when type=Webhook",
        ),
        (
            "- {type: RBAC, name: rbac, webhook: {}}",
            "authorizers[0].webhook: Invalid value: \"non-null\": may only be specified when type=Webhook",
        ),
        (
            "- {type: RBAC, name: rbac, mode: 1}",
            "failed to load AuthorizationConfiguration from file: authorizers.0.mode: unknown field",
        ),
    ] {
        assert_eq!(problems(authorizers), wanted);
    }
    let twice = webhook("x", &kubeconfig, "") + &webhook("x", &kubeconfig, "");
    assert_eq!(
        problems(&twice),
        "authorizers[1].name: Duplicate value: \"x\""
    );
    let conditions = |version: &str, text: &str| {
        format!(
            ", matchConditionSubjectAccessReviewVersion: '{version}', matchConditions: [{{expression: {text}}}]"
        )
    };
    for (version, text, wanted) in [
        (
            "v1",
            "'1'",
            "authorizers[0].matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool but got int",
        ),
        (
            "",
            "'true'",
            "authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are \
             specified",
        ),
        (
            "v2",
            "'true'",
            "authorizers[0].matchConditionSubjectAccessReviewVersion: Unsupported value: \"v2\": supported values: \"v1\"",
        ),
    ] {
        let told = problems(&webhook("x", &kubeconfig, &conditions(version, text)));
        assert_eq!(told, wanted);
    }
    let good = webhook("x", &kubeconfig, &conditions("v1", "'true'"));
    assert!(read(&file(&good), &[]).is_ok());
    assert_eq!(
        problems(&webhook("x", "relative", "")),
        "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"relative\": must be an absolute path"
    );
    let bare = "- {type: Webhook, name: x, webhook: {timeout: 31s, subjectAccessReviewVersion: v2, failurePolicy: Never}}";
    assert_eq!(
        problems(bare),
        "[authorizers[0].timeout: Invalid value: \"31s\": must be > 0s and <= 30s, \
         authorizers[0].subjectAccessReviewVersion: Unsupported value: \"v2\": supported values: \"v1\", \"v1beta1\", \
         authorizers[0].failurePolicy: Unsupported value: \"Never\": supported values: \"NoOpinion\", \"Deny\", \
         authorizers[0].connectionInfo.type: Required value]"
    );
}

#[test]
fn what_the_server_began_with_stays_in_the_file() {
    let text = file("- {type: AlwaysAllow, name: alwaysallow}");
    let error = read(&text, &[Kind::Rbac, Kind::Node]).unwrap_err();
    assert_eq!(error.to_string(), "missing required types: [Node RBAC]");
}
