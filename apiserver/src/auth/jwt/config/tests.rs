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
    let mapping = |claim: &str, prefix: &str| {
        Mapped::Claim(Mapping {
            claim: claim.to_owned(),
            prefix: prefix.to_owned(),
        })
    };
    let made = &jwt.mappings;
    assert_eq!(made.username, mapping("sub", "oidc:"));
    assert_eq!(made.groups, Some(mapping("roles", "")));
    assert_eq!(made.uid, Some(mapping("id", "")));
    assert_eq!(made.required, [("hd".to_owned(), "example.com".to_owned())]);
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
fn issuers_differ_and_who_is_never_anonymous_has_no_paths() {
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
