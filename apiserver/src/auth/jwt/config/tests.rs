use component::testing::Ca;

use super::*;

fn file(rest: &str) -> String {
    format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{rest}")
}

/// One issuer, with more fields of the issuer and of the authenticator.
fn one(issuer: &str, more: &str) -> String {
    let issuer = if issuer.contains("url:") {
        issuer.to_owned()
    } else {
        format!("url: 'https://a.example'{issuer}")
    };
    let issuer = if issuer.contains("audiences:") {
        issuer
    } else {
        format!("{issuer}, audiences: [us]")
    };
    let mappings = if more.contains("claimMappings") {
        ""
    } else {
        ", claimMappings: {username: {claim: sub, prefix: ''}}"
    };
    file(&format!(
        "jwt:\n- {{issuer: {{{issuer}}}{mappings}{more}}}\n"
    ))
}

fn problems(text: &str) -> String {
    match read(text, &["https://own.example".to_owned()]) {
        Err(Error::Invalid(errors)) => proto::path::aggregate(&errors),
        other => panic!("{other:?}"),
    }
}

#[test]
fn issuers_and_paths_of_anonymous_requests_are_read() {
    let authority = Ca::new("ca").pem;
    let indented = authority.replace('\n', "\n      ");
    let text = file(&format!(
        "anonymous: {{enabled: true, conditions: [{{path: /livez}}, {{path: /readyz}}]}}
jwt:
- issuer:
    url: https://a.example
    discoveryURL: https://b.example/discovery
    audiences: [us, them]
    audienceMatchPolicy: MatchAny
    certificateAuthority: |
      {indented}
  claimMappings:
    username: {{claim: sub, prefix: 'oidc:'}}
    groups: {{claim: roles, prefix: ''}}
    uid: {{claim: id}}
  claimValidationRules:
  - {{claim: hd, requiredValue: example.com}}
"
    ));
    let settings = read(&text, &[]).unwrap();
    let anonymous = settings.anonymous.unwrap();
    assert!(anonymous.enabled);
    assert_eq!(anonymous.paths, ["/livez", "/readyz"]);
    let [jwt] = settings.jwt.as_slice() else {
        panic!()
    };
    assert_eq!(jwt.issuer, "https://a.example");
    assert_eq!(
        jwt.discovery.as_deref(),
        Some("https://b.example/discovery")
    );
    assert_eq!(jwt.audiences, ["us", "them"]);
    assert!(jwt.authorities.is_some());
    let mapping = |claim: &str, prefix: &str| Mapping {
        claim: claim.to_owned(),
        prefix: prefix.to_owned(),
    };
    assert_eq!(jwt.username, mapping("sub", "oidc:"));
    assert_eq!(jwt.groups, Some(mapping("roles", "")));
    assert_eq!(jwt.uid.as_deref(), Some("id"));
    assert_eq!(jwt.required, [("hd".to_owned(), "example.com".to_owned())]);
    let older = text.replace("config.k8s.io/v1", "config.k8s.io/v1beta1");
    assert_eq!(read(&older, &[]).unwrap().jwt, settings.jwt);
    // A server may begin without issuers.
    assert!(read(&file(""), &[]).unwrap().jwt.is_empty());
    assert!(read("", &[]).is_err());
    assert!(read(&file("jwts: []"), &[]).is_err());
}

#[test]
fn what_is_wrong_with_an_issuer_is_told_by_path() {
    let at = "jwt[0].issuer";
    for (issuer, wanted) in [
        ("url: ''", format!("{at}.url: Required value")),
        (
            "url: 'http://a.example'",
            format!("{at}.url: Invalid value: \"http://a.example\": URL scheme must be https"),
        ),
        (
            "url: 'https://u:p@a.example?q#f'",
            [
                "URL must not contain a username or password",
                "URL must not contain a query",
                "URL must not contain a fragment",
            ]
            .map(|why| format!("{at}.url: Invalid value: \"https://u:p@a.example?q#f\": {why}"))
            .join(", "),
        ),
        (
            "url: 'https://own.example'",
            format!(
                "{at}.url: Invalid value: \"https://own.example\": URL must not overlap with disallowed issuers: \
                 [https://own.example]"
            ),
        ),
        (
            ", discoveryURL: 'https://a.example/'",
            format!(
                "{at}.discoveryURL: Invalid value: \"https://a.example/\": discoveryURL must be different from URL"
            ),
        ),
        (
            ", audiences: []",
            format!("{at}.audiences: Required value: at least one {at}.audiences is required"),
        ),
        (
            ", audiences: [a, a], audienceMatchPolicy: MatchAny",
            format!("{at}.audiences[1]: Duplicate value: \"a\""),
        ),
        (
            ", audiences: [a, b]",
            format!(
                "{at}.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple \
                 audiences"
            ),
        ),
        (
            ", audienceMatchPolicy: All",
            format!(
                "{at}.audienceMatchPolicy: Invalid value: \"All\": audienceMatchPolicy must be empty or MatchAny for \
                 single audience"
            ),
        ),
        (
            ", certificateAuthority: none",
            format!(
                "{at}.certificateAuthority: Invalid value: \"<omitted>\": data does not contain any valid RSA or ECDSA \
                 certificates"
            ),
        ),
    ] {
        let found = problems(&one(issuer, ""));
        let found = found.trim_start_matches('[').trim_end_matches(']');
        let wanted = wanted.trim_end_matches(']');
        assert_eq!(found, wanted);
    }
}

#[test]
fn expressions_are_refused_wherever_they_stand() {
    let no = |at: &str, expression: &str| {
        format!("{at}: Invalid value: \"{expression}\": CEL expressions are not supported yet")
    };
    for (more, wanted) in [
        (
            ", claimValidationRules: [{expression: x, message: m}]",
            no("jwt[0].claimValidationRules[0].expression", "x"),
        ),
        (
            ", userValidationRules: [{expression: x, message: m}]",
            no("jwt[0].userValidationRules[0].expression", "x"),
        ),
        (
            ", claimMappings: {username: {expression: x}}",
            no("jwt[0].claimMappings.username.expression", "x"),
        ),
        (
            ", claimMappings: {username: {claim: sub, prefix: ''}, groups: {expression: x}}",
            no("jwt[0].claimMappings.groups.expression", "x"),
        ),
        (
            ", claimMappings: {username: {claim: sub, prefix: ''}, uid: {expression: x}}",
            no("jwt[0].claimMappings.uid.expression", "x"),
        ),
        (
            ", claimMappings: {username: {claim: sub, prefix: ''}, extra: [{key: a.b/c, valueExpression: x}]}",
            no("jwt[0].claimMappings.extra[0].valueExpression", "x"),
        ),
    ] {
        assert_eq!(problems(&one("", more)), wanted);
    }
}

#[test]
fn mappings_and_rules_are_complete() {
    for (more, wanted) in [
        (
            ", claimMappings: {username: {}}",
            "jwt[0].claimMappings.username: Required value: claim or expression is required",
        ),
        (
            ", claimMappings: {username: {claim: sub}}",
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to \
             an empty string to disable prefixing",
        ),
        (
            ", claimMappings: {username: {claim: sub, expression: x, prefix: ''}}",
            "jwt[0].claimMappings.username: Invalid value: \"\": claim and expression can't both be set",
        ),
        (
            ", claimValidationRules: [{}]",
            "jwt[0].claimValidationRules[0]: Required value: claim or expression is required",
        ),
        (
            ", claimValidationRules: [{claim: a, requiredValue: b}, {claim: a, requiredValue: c}]",
            "jwt[0].claimValidationRules[1].claim: Duplicate value: \"a\"",
        ),
        (
            ", claimValidationRules: [{claim: a, message: m}]",
            "jwt[0].claimValidationRules[0].message: Invalid value: \"m\": may not be specified when claim is set",
        ),
    ] {
        assert_eq!(problems(&one("", more)), wanted);
    }
    let twice = one("", "") + one("", "").split_once("jwt:\n").unwrap().1;
    assert_eq!(
        problems(&twice),
        "jwt[1].issuer.url: Duplicate value: \"https://a.example\""
    );
    let never = file("anonymous: {enabled: false, conditions: [{path: /x}]}");
    assert_eq!(
        problems(&never),
        "anonymous.conditions: Invalid value: [\"/x\"]: enabled should be set to true when conditions are defined"
    );
}
