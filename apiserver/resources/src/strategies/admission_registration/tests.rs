use super::*;

#[test]
fn parameters_are_named_or_selected() {
    let shown = |reference: &str| {
        let text = format!(r#"{{"spec":{{"policyName":"p","paramRef":{reference}}}}}"#);
        param(&proto::codec::json::parse(text.as_bytes()).expect("JSON"))
    };
    assert_eq!(shown("null"), "<unset>");
    assert_eq!(shown(r#"{"name":"a"}"#), "*/a");
    assert_eq!(shown(r#"{"name":"a","namespace":"b"}"#), "b/a");
    assert_eq!(
        shown(
            r#"{"selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"In","values":["d","e"]}]}}"#
        ),
        "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{\
         LabelSelectorRequirement{Key:c,Operator:In,Values:[d e],},},}"
    );
}

use super::super::testing::Of;

const HOOKS: Of = Of(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
);
const POLICIES: Of = Of(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicies",
);
const MUTATIONS: Of = Of(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingadmissionpolicies",
);
const BINDINGS: Of = Of(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
);

fn named(name: &str, rest: &str) -> String {
    format!(r#"{{"metadata":{{"name":"{name}"}},{rest}}}"#)
}

fn hook(fields: &str) -> String {
    named(
        "x",
        &format!(
            r#""webhooks":[{{"name":"a.b.c","sideEffects":"None","admissionReviewVersions":["v1"],"clientConfig":{{"url":"https://a/b"}},{fields}}}]"#
        ),
    )
}

const RULE: &str = r#""rules":[{"operations":["CREATE"],"apiGroups":[""],"apiVersions":["v1"],"resources":["pods"]}]"#;

#[test]
fn a_webhook_says_what_it_is_asked() {
    for (fields, errors) in [
        (RULE, &[][..]),
        (
            r#""rules":[{"operations":["*","CREATE"],"apiGroups":["*","a"],"apiVersions":[""],"resources":["*","pods","a/*","a/b"],"scope":"x"}]"#,
            &[
                r#"webhooks[0].rules[0].operations: Invalid value: ["*","CREATE"]: if '*' is present, must not specify other operations"#,
                r#"webhooks[0].rules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other API groups"#,
                "webhooks[0].rules[0].apiVersions[0]: Required value",
                r#"webhooks[0].rules[0].resources[3]: Invalid value: "a/b": if 'a/*' is present, must not specify a/b"#,
                r#"webhooks[0].rules[0].resources: Invalid value: ["*","pods","a/*","a/b"]: if '*' is present, must not specify other resources without subresources"#,
                r#"webhooks[0].rules[0].scope: Unsupported value: "x": supported values: "*", "Cluster", "Namespaced""#,
            ],
        ),
        (
            r#""timeoutSeconds":31,"matchConditions":[{"name":"a","expression":" "},{"name":"a","expression":"true"}]"#,
            &[
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                "webhooks[0].matchConditions[0].expression: Required value",
                r#"webhooks[0].matchConditions[1].name: Duplicate value: "a""#,
            ],
        ),
    ] {
        assert_eq!(HOOKS.refused(&hook(fields)), errors, "{fields}");
    }
    let bare = named("x.static.k8s.io", r#""webhooks":[{"name":"a"}]"#);
    assert_eq!(
        HOOKS.refused(&bare),
        [
            r#"webhooks[0].name: Invalid value: "a": should be a domain with at least three segments separated by dots"#,
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            r#"metadata.name: Invalid value: "x.static.k8s.io": names ending with ".static.k8s.io" are reserved for static manifest-based configurations and cannot be managed via the API"#,
        ]
    );
}

#[test]
fn what_an_old_configuration_had_wrong_may_stay() {
    let of = |effects: &str| {
        hook(RULE).replace(
            r#""sideEffects":"None""#,
            &format!(r#""sideEffects":"{effects}""#),
        )
    };
    let (some, none) = (of("Some"), of("None"));
    assert_eq!(HOOKS.refused_update("", &some, &none).len(), 1);
    assert!(HOOKS.refused_update("", &some, &some).is_empty());
}

#[test]
fn a_policy_says_what_it_is_about() {
    let spec = |rest: &str| {
        named(
            "x",
            &format!(
                r#""spec":{{"matchConstraints":{{"resourceRules":[{{"operations":["CREATE"],"apiGroups":["apps"],"apiVersions":["v1"],"resources":["deployments"]}}]}},{rest}}}"#
            ),
        )
    };
    for (rest, errors) in [
        (r#""validations":[{"expression":"true"}]"#, &[][..]),
        (
            r#""paramKind":{"apiVersion":"a/b/c","kind":"K_"},"variables":[{"name":"in","expression":""}]"#,
            &[
                r#"spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c"#,
                r#"spec.paramKind.kind: Invalid value: "K_": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"#,
                r#"spec.variables[0].name: Invalid value: "in": must be a valid CEL identifier"#,
                "spec.variables[0].expression: Required value: expression is not specified",
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ],
        ),
        (
            r#""validations":[{"expression":"true","message":"a\nb","reason":"x"}],"auditAnnotations":[{"key":"a","valueExpression":""},{"key":"a","valueExpression":"'a'"}]"#,
            &[
                r#"spec.validations[0].message: Invalid value: "a\nb": must not contain line breaks"#,
                r#"spec.validations[0].reason: Unsupported value: "x": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge""#,
                "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
                r#"spec.auditAnnotations[1].key: Duplicate value: "a""#,
            ],
        ),
    ] {
        assert_eq!(POLICIES.refused(&spec(rest)), errors, "{rest}");
    }
    let told = MUTATIONS.refused(&spec(
        r#""reinvocationPolicy":"Never","mutations":[{"patchType":"JSONPatch","applyConfiguration":{"expression":"a"}}]"#,
    ).replace("CREATE", "DELETE"));
    assert_eq!(
        told,
        [
            r#"spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE""#,
            "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
            r#"spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch"#,
        ]
    );
}

#[test]
fn a_binding_says_what_follows() {
    for (spec, errors) in [
        (
            r#"{"policyName":"p","validationActions":["Deny"]}"#,
            &[][..],
        ),
        (
            r#"{"policyName":"","paramRef":{"name":"a/b","selector":{}}}"#,
            &[
                r#"spec.paramRef.name: Invalid value: "a/b": may not contain '/'"#,
                "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.parameterNotFoundAction: Required value",
                "spec.policyName: Required value",
                "spec.validationActions: Required value",
            ],
        ),
        (
            r#"{"policyName":"p","validationActions":["Deny","Warn","Warn"]}"#,
            &[
                r#"spec.validationActions[2]: Duplicate value: "Warn""#,
                r#"spec.validationActions: Invalid value: ["Deny","Warn","Warn"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"#,
            ],
        ),
    ] {
        let binding = named("x", &format!(r#""spec":{spec}"#));
        assert_eq!(BINDINGS.refused(&binding), errors, "{spec}");
    }
}
