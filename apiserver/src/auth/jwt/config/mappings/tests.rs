use serde_json::{Value as Json, json};

use super::*;

/// What is wrong with an authenticator, one a line.
fn problems(of: &Json) -> Vec<String> {
    let part = |name: &str| of.get(name).cloned();
    let list = |name| part(name).unwrap_or_else(|| json!([]));
    let mappings = part("claimMappings").unwrap_or_else(named);
    let mut errors = Vec::new();
    let (rules, users): (Vec<ClaimRule>, Vec<UserRule>) = (
        serde_json::from_value(list("claimValidationRules")).unwrap(),
        serde_json::from_value(list("userValidationRules")).unwrap(),
    );
    let mappings: ClaimMappings = serde_json::from_value(mappings).unwrap();
    read(&rules, &mappings, &users, "jwt[0]", &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

fn named() -> Json {
    json!({"username": {"claim": "sub", "prefix": ""}})
}

fn mapped(more: Json) -> Json {
    let mut mappings = named();
    for (name, value) in more.as_object().unwrap() {
        mappings[name] = value.clone();
    }
    json!({"claimMappings": mappings})
}

const UNDECLARED: &str = "compilation failed: ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x\n | ^";

#[test]
fn a_mapping_is_a_claim_with_a_prefix_or_an_expression() {
    for part in ["username", "groups"] {
        let at = format!("jwt[0].claimMappings.{part}");
        for (of, wanted) in [
            (json!({"claim": "a", "prefix": ""}), vec![]),
            (json!({"expression": "claims.a"}), vec![]),
            (
                json!({"claim": "a", "expression": "claims.a", "prefix": ""}),
                vec![format!("{at}: Invalid value: \"\": {BOTH}")],
            ),
            (
                json!({"claim": "a"}),
                vec![format!("{at}.prefix: Required value: {NO_PREFIX}")],
            ),
            (
                json!({"expression": "x", "prefix": "p"}),
                vec![
                    format!("{at}.prefix: Invalid value: \"p\": {BESIDE_EXPRESSION}"),
                    format!("{at}.expression: Invalid value: \"x\": {UNDECLARED}"),
                ],
            ),
        ] {
            assert_eq!(problems(&mapped(json!({part: of}))), wanted, "{of}");
        }
    }
    assert_eq!(
        problems(&mapped(json!({"username": {}}))),
        [format!(
            "jwt[0].claimMappings.username: Required value: {NEITHER}"
        )]
    );
    let uid = |of: Json| problems(&mapped(json!({"uid": of})));
    assert_eq!(uid(json!({"claim": "a"})), [""; 0]);
    assert_eq!(
        uid(json!({"claim": "a", "expression": "b"})),
        [format!(
            "jwt[0].claimMappings.uid: Invalid value: \"\": {BOTH}"
        )]
    );
    assert_eq!(
        uid(json!({"expression": "x"})),
        [format!(
            "jwt[0].claimMappings.uid.expression: Invalid value: \"x\": {UNDECLARED}"
        )]
    );
}

#[test]
fn keys_of_what_is_extra_are_lower_case_and_nobody_elses() {
    let problems_of = |key: &str| {
        let extra = json!([{"key": key, "valueExpression": "claims.a"}]);
        problems(&mapped(json!({ "extra": extra })))
    };
    let at = "jwt[0].claimMappings.extra[0].key";
    for good in ["a.b/c", "ak8s.io/x", "x.bkubernetes.io/x", "a.b/c/d"] {
        assert_eq!(problems_of(good), [""; 0], "{good}");
    }
    let prefixed = "must be a domain-prefixed path (such as \"acme.io/foo\")";
    for (key, wanted) in [
        ("", format!("{at}: Required value")),
        ("a", format!("{at}: Invalid value: \"a\": {prefixed}")),
        (
            "a.b/C",
            format!("{at}: Invalid value: \"a.b/C\": must be lowercase"),
        ),
        (
            "k8s.io/x",
            format!("{at}: Invalid value: \"k8s.io/x\": {RESERVED}"),
        ),
        (
            "a.kubernetes.io/x",
            format!("{at}: Invalid value: \"a.kubernetes.io/x\": {RESERVED}"),
        ),
    ] {
        assert_eq!(problems_of(key), [wanted], "{key}");
    }
    let twice = json!([
        {"key": "a.b/c", "valueExpression": ""},
        {"key": "a.b/c", "valueExpression": "("},
        {"key": "a.b/d", "valueExpression": "x"},
    ]);
    let at = "jwt[0].claimMappings.extra";
    assert_eq!(
        problems(&mapped(json!({ "extra": twice }))),
        [
            format!("{at}[0].valueExpression: Required value"),
            format!("{at}[1].key: Duplicate value: \"a.b/c\""),
            format!("{at}[2].valueExpression: Invalid value: \"x\": {UNDECLARED}"),
        ]
    );
}

#[test]
fn rules_are_of_a_claim_or_give_a_bool() {
    let rules = json!([
        {"claim": "a", "expression": "b"}, {}, {"claim": "a", "message": "m"}, {"claim": "a"},
        {"expression": "true", "requiredValue": "v"}, {"expression": "true"},
        {"expression": "claims.a"}, {"expression": "1"}, {"expression": "x"},
    ]);
    let at = "jwt[0].claimValidationRules";
    assert_eq!(
        problems(&json!({ "claimValidationRules": rules })),
        [
            format!("{at}[0]: Invalid value: \"a\": {BOTH}"),
            format!("{at}[1]: Required value: {NEITHER}"),
            format!("{at}[2].message: Invalid value: \"m\": {BESIDE_CLAIM}"),
            format!("{at}[3].claim: Duplicate value: \"a\""),
            format!("{at}[4].requiredValue: Invalid value: \"v\": {BESIDE_EXPRESSION}"),
            format!("{at}[5].expression: Duplicate value: \"true\""),
            format!("{at}[6].expression: Invalid value: \"claims.a\": must evaluate to bool"),
            format!("{at}[7].expression: Invalid value: \"1\": must evaluate to bool"),
            format!("{at}[8].expression: Invalid value: \"x\": {UNDECLARED}"),
        ]
    );
    let rules = json!([
        {}, {"expression": "true"}, {"expression": "true", "message": "m"}, {"expression": "user.groups"},
        {"expression": "user.nothing == 1"}, {"expression": "x"},
    ]);
    let at = "jwt[0].userValidationRules";
    assert_eq!(
        problems(&json!({ "userValidationRules": rules })),
        [
            format!("{at}[0].expression: Required value"),
            format!("{at}[2].expression: Duplicate value: \"true\""),
            format!("{at}[3].expression: Invalid value: \"user.groups\": must evaluate to bool"),
            format!(
                "{at}[4].expression: Invalid value: \"user.nothing == 1\": compilation failed: ERROR: <input>:1:5: \
                 undefined field 'nothing'\n | user.nothing == 1\n | ....^"
            ),
            format!("{at}[5].expression: Invalid value: \"x\": {UNDECLARED}"),
        ]
    );
    // Claims are not there where the user is judged, and the other way round.
    for (rules, name) in [
        ("claimValidationRules", "user"),
        ("userValidationRules", "claims"),
    ] {
        let of = json!({rules: [{"expression": format!("has({name}.a)")}]});
        let told = problems(&of);
        let wanted = format!("undeclared reference to '{name}'");
        assert!(
            matches!(told.as_slice(), [one] if one.contains(&wanted)),
            "{told:?}"
        );
    }
}

#[test]
fn who_is_called_by_his_address_has_it_verified() {
    let username = |text: &str| mapped(json!({"username": {"expression": text}}));
    let told = |text: &str| {
        let shown = quote(text);
        vec![format!(
            "jwt[0].claimMappings.username.expression: Invalid value: {shown}: {UNVERIFIED}"
        )]
    };
    for text in [
        "claims.email",
        "claims.?email.orValue('')",
        "has(claims.email) ? claims.email : claims.sub",
        "claims.email.lowerAscii() + string(claims.email_verified_)",
    ] {
        assert_eq!(problems(&username(text)), told(text), "{text}");
    }
    for text in [
        "claims.email_",
        "claims['email']",
        "claims.other.claims.email",
        "claims.email_verified ? claims.email : claims.sub",
        "claims.?email_verified.orValue(true) ? claims.email : claims.sub",
    ] {
        assert_eq!(problems(&username(text)), [""; 0], "{text}");
    }
    let mut by_rule = username("claims.email");
    by_rule["claimValidationRules"] = json!([{"expression": "claims.email_verified == true"}]);
    assert_eq!(problems(&by_rule), [""; 0]);
    let mut by_extra = username("claims.email");
    by_extra["claimMappings"]["extra"] =
        json!([{"key": "a.b/c", "valueExpression": "string(claims.email_verified)"}]);
    assert_eq!(problems(&by_extra), [""; 0]);
    // Groups say nothing of it, and neither does a rule that is none.
    let mut by_groups = username("claims.email");
    by_groups["claimMappings"]["groups"] = json!({"expression": "claims.email_verified"});
    assert_eq!(problems(&by_groups), told("claims.email"));
    by_rule["claimValidationRules"] = json!([{"expression": "claims.email_verified"}]);
    assert_eq!(problems(&by_rule).last(), told("claims.email").last());
}
