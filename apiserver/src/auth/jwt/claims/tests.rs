use serde_json::json;

use super::*;
use crate::auth::jwt::expressions::{claim_rule, mapping as expression, user_rule};

const ISSUER: &str = "https://issuer.example";
const NOW: i64 = 1_772_323_200;

fn claims(json: Value) -> Claims {
    Claims::read(json.to_string().as_bytes()).unwrap()
}

const AUDIENCES: [&str; 2] = ["us", "them"];

fn audiences() -> Vec<String> {
    AUDIENCES.map(str::to_owned).into()
}

fn mapping(claim: &str, prefix: &str) -> Mapping {
    Mapping {
        claim: claim.to_owned(),
        prefix: prefix.to_owned(),
    }
}

fn mappings() -> Mappings {
    Mappings {
        groups: Some(Mapped::Claim(mapping("groups", "g:"))),
        uid: Some(Mapped::Claim(mapping("uid", ""))),
        required: vec![("hd".to_owned(), "example.com".to_owned())],
        ..Mappings::named(mapping("sub", "oidc:"))
    }
}

/// Good claims, with something else in them.
fn with(more: Value) -> Value {
    let mut all = json!({
        "iss": ISSUER, "aud": "us", "sub": "ann", "exp": NOW + 10, "uid": "u", "hd": "example.com",
    });
    for (key, value) in more.as_object().unwrap() {
        if value == "absent" {
            all.as_object_mut().unwrap().remove(key);
        } else {
            all[key] = value.clone();
        }
    }
    all
}

fn checked(more: Value) -> Result<(), String> {
    claims(with(more)).check(ISSUER, &audiences(), NOW)
}

#[test]
fn a_token_is_of_its_issuer_for_us_and_good_now() {
    assert_eq!(checked(json!({})), Ok(()));
    assert_eq!(checked(json!({"aud": ["other", "them"]})), Ok(()));
    assert_eq!(checked(json!({"exp": NOW})), Ok(()));
    assert_eq!(checked(json!({"nbf": NOW + LEEWAY})), Ok(()));
    assert_eq!(checked(json!({"exp": (NOW + 10) as f64 + 0.5})), Ok(()));
    for (more, wanted) in [
        (
            json!({"iss": "https://issuer.example/"}),
            "issued by a different provider",
        ),
        (json!({"iss": "absent"}), "issued by a different provider"),
        (json!({"iss": [ISSUER]}), "issued by a different provider"),
        (json!({"aud": "other"}), "expected audience"),
        (json!({"aud": "absent"}), "expected audience"),
        (json!({"aud": []}), "expected audience"),
        (json!({"aud": ["us", 1]}), "expected audience"),
        (json!({"exp": NOW - 1}), "expired"),
        (json!({"exp": "absent"}), "expired"),
        (json!({"exp": null}), "expired"),
        (json!({"exp": -1}), "expired"),
        (json!({"exp": "9999999999"}), "no number"),
        (json!({"nbf": NOW + LEEWAY + 1}), "not before"),
        (json!({"nbf": 1e300}), "not before"),
    ] {
        let why = checked(more.clone()).unwrap_err();
        assert!(why.contains(wanted), "{more}: {why}");
    }
}

#[test]
fn googles_issuer_may_come_without_its_scheme() {
    let claims = claims(with(json!({"iss": GOOGLE_BARE})));
    assert_eq!(claims.check(GOOGLE, &audiences(), NOW), Ok(()));
    assert!(claims.check(ISSUER, &audiences(), NOW).is_err());
}

#[test]
fn claims_make_a_user() {
    let user = |more| claims(with(more)).user(&mappings());
    let ann = user(json!({"groups": ["dev", "ops"], "jti": "id"})).unwrap();
    assert_eq!((ann.name.as_str(), ann.uid.as_str()), ("oidc:ann", "u"));
    assert_eq!(ann.groups, ["g:dev", "g:ops"]);
    assert_eq!(ann.extra[CREDENTIAL_ID], ["JTI=id"]);
    let one = user(json!({"groups": "dev", "jti": 1})).unwrap();
    assert_eq!((one.groups, one.extra.len()), (vec!["g:dev".to_owned()], 0));
    assert_eq!(user(json!({})).unwrap().groups, [""; 0]);
    for (more, wanted) in [
        (
            json!({"sub": "absent"}),
            "parse username claims \"sub\": claim not present",
        ),
        (json!({"sub": 1}), "parse username claims"),
        (json!({"sub": ""}), "is empty"),
        (json!({"groups": {"a": 1}}), "parse groups claim"),
        (json!({"groups": ["a", 1]}), "parse groups claim"),
        (json!({"uid": "absent"}), "parse uid claim"),
        (
            json!({"hd": "absent"}),
            "required claim hd not present in ID token",
        ),
        (
            json!({"hd": "evil.example"}),
            "required claim hd value does not match",
        ),
        (json!({"hd": ["example.com"]}), "parse claim hd"),
    ] {
        let why = user(more.clone()).unwrap_err();
        assert!(why.contains(wanted), "{more}: {why}");
    }
}

#[test]
fn an_address_names_nobody_before_it_is_verified() {
    let mappings = Mappings {
        username: Mapped::Claim(mapping("email", "")),
        ..mappings()
    };
    let user = |more| claims(with(more)).user(&mappings).map(|user| user.name);
    let mail = "ann@example.com";
    assert_eq!(user(json!({"email": mail})), Ok(mail.to_owned()));
    assert_eq!(
        user(json!({"email": mail, "email_verified": true})),
        Ok(mail.to_owned())
    );
    for not in [json!(false), json!("true"), json!(null)] {
        assert!(
            user(json!({"email": mail, "email_verified": not})).is_err(),
            "{not}"
        );
    }
}

#[test]
fn an_issuer_is_read_from_tokens_only() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let of = |payload: &str| {
        let payload = URL_SAFE_NO_PAD.encode(payload);
        unverified_issuer(&format!("h.{payload}.s"))
    };
    assert_eq!(of(r#"{"iss":"https://a"}"#).as_deref(), Some("https://a"));
    assert_eq!(
        of(r#"{"iss":"accounts.google.com"}"#).as_deref(),
        Some(GOOGLE)
    );
    assert_eq!(of("{}").as_deref(), Some(""));
    assert_eq!(of(r#"{"iss":1}"#), None);
    assert_eq!(of("[]"), None);
    for bad in ["", "a.b", "a.b.c.d", "abcdef.0123456789abcdef"] {
        assert_eq!(unverified_issuer(bad), None);
    }
}

/// A user of whom the rest is made by an expression.
fn made(part: fn(&mut Mappings, Expression), text: &str, from: Value) -> Result<User, String> {
    let mut mappings = Mappings::named(mapping("sub", ""));
    part(&mut mappings, expression(text, "at").unwrap());
    claims(from).user(&mappings)
}

#[test]
fn a_name_is_what_an_expression_says() {
    let from = || {
        json!({
            "sub": "ann", "n": 3, "empty": "", "roles": ["a", "b"], "nothing": null, "time": 1_772_323_200,
            "k.io": {"x": "deep"}, "obj": {"a.b": "dot", "list": [{"c-d": "dash"}]},
        })
    };
    let name = |text: &str| {
        let user = made(|m, e| m.username = Mapped::Expression(e), text, from());
        user.map(|user| user.name)
    };
    for (text, wanted) in [
        ("claims.sub + '@x'", "ann@x"),
        ("claims['sub']", "ann"),
        ("claims.?missing.orValue('anon')", "anon"),
        ("string(claims.n)", "3"),
        ("string(int(claims.time))", "1772323200"),
        ("claims.k__dot__io.x", "deep"),
        ("claims[?'k.io']['x'].orValue('none')", "deep"),
        ("claims.obj.a__dot__b + claims.obj['a.b']", "dotdot"),
        ("claims.obj.list[0].c__dash__d", "dash"),
        (
            "has(claims.obj.a__dot__b) && !has(claims.obj.c) ? 'yes' : 'no'",
            "yes",
        ),
        (
            "'a.b' in claims.obj && !('a__dot__b' in claims.obj) ? 'yes' : 'no'",
            "yes",
        ),
        (
            "claims.obj == {'a.b': dyn('dot'), 'list': dyn([{'c-d': 'dash'}])} ? 'yes' : 'no'",
            "yes",
        ),
        (
            "type(claims.n) == double && claims.n == 3 ? 'yes' : 'no'",
            "yes",
        ),
        (
            "dyn(claims.roles).exists(r, r == 'b') ? 'yes' : 'no'",
            "yes",
        ),
        ("claims.all(c, c != 'other') ? 'yes' : 'no'", "yes"),
    ] {
        assert_eq!(name(text).as_deref(), Ok(wanted), "{text}");
    }
    let failed = "error evaluating username claim expression: ";
    for (text, wanted) in [
        (
            "claims.n",
            format!("{failed}username claim expression must return a string"),
        ),
        (
            "claims.nothing",
            format!("{failed}username claim expression must return a string"),
        ),
        (
            "claims.roles",
            format!("{failed}username claim expression must return a string"),
        ),
        (
            "claims.empty",
            "empty username via CEL expression is not allowed".to_owned(),
        ),
        (
            "claims.missing",
            format!("{failed}expression 'claims.missing' resulted in error: no such key: missing"),
        ),
        (
            "claims.obj.c.d",
            format!("{failed}expression 'claims.obj.c.d' resulted in error: no such key: c"),
        ),
        (
            "string(claims.n + 1)",
            format!(
                "{failed}expression 'string(claims.n + 1)' resulted in error: no such overload"
            ),
        ),
        (
            "'sub' in claims ? 'a' : 'b'",
            format!(
                "{failed}expression ''sub' in claims ? 'a' : 'b'' resulted in error: no such overload"
            ),
        ),
    ] {
        assert_eq!(name(text), Err(wanted), "{text}");
    }
}

#[test]
fn groups_are_a_string_or_strings_that_are_not_empty() {
    let from = || {
        json!({
            "sub": "ann", "list": ["a", "", "b"], "one": "x", "csv": "x,y", "mixed": ["a", 1],
            "nothing": null, "n": 1, "none": [], "empty": "",
        })
    };
    let groups = |text: &str| {
        let user = made(|m, e| m.groups = Some(Mapped::Expression(e)), text, from());
        user.map(|user| user.groups.join(" "))
    };
    for (text, wanted) in [
        ("claims.list", "a b"),
        ("claims.one", "x"),
        ("claims.csv.split(',').map(g, 'p:' + g)", "p:x p:y"),
        ("['z'] + claims.list", "z a b"),
        ("dyn(claims.list).filter(g, g != 'a')", "b"),
        ("claims.nothing", ""),
        ("claims.none", ""),
        ("claims.empty", ""),
        ("claims.?missing.orValue([])", ""),
    ] {
        assert_eq!(groups(text).as_deref(), Ok(wanted), "{text}");
    }
    let failed = "error evaluating group claim expression: ";
    let wrong = format!("{failed}expression must return a string or a list of strings");
    for text in [
        "claims.mixed",
        "claims.n",
        "claims.?missing",
        "{'a': 'b'}",
        "true",
    ] {
        assert_eq!(groups(text), Err(wrong.clone()), "{text}");
    }
    let missing = "expression 'claims.missing' resulted in error: no such key: missing";
    assert_eq!(groups("claims.missing"), Err(format!("{failed}{missing}")));
}

#[test]
fn a_uid_and_what_is_extra_are_computed() {
    let from =
        || json!({"sub": "ann", "uid": "u", "n": 7, "list": ["y", ""], "empty": "", "jti": "j"});
    let uid = |text: &str| {
        let user = made(|m, e| m.uid = Some(Mapped::Expression(e)), text, from());
        user.map(|user| user.uid)
    };
    assert_eq!(uid("claims.uid + '!'").as_deref(), Ok("u!"));
    assert_eq!(uid("''").as_deref(), Ok(""));
    let told = uid("claims.n").unwrap_err();
    assert_eq!(
        told,
        "error evaluating uid claim expression: uid claim expression must return a string"
    );
    let extra = |text: &str| {
        let user = made(|m, e| m.extra.push(("a.b/c".to_owned(), e)), text, from());
        user.map(|mut user| {
            assert_eq!(user.extra[CREDENTIAL_ID], ["JTI=j"]);
            user.extra.remove("a.b/c")
        })
    };
    assert_eq!(extra("claims.list"), Ok(Some(vec!["y".to_owned()])));
    assert_eq!(
        extra("string(int(claims.n))"),
        Ok(Some(vec!["7".to_owned()]))
    );
    for nothing in ["claims.empty", "[]", "null"] {
        assert_eq!(extra(nothing), Ok(None), "{nothing}");
    }
    assert_eq!(
        extra("claims.n").unwrap_err(),
        "error evaluating extra claim expression: claims.n: expression must return a string or a list of strings"
    );
    assert_eq!(
        extra("claims.missing").unwrap_err(),
        "expression 'claims.missing' resulted in error: no such key: missing"
    );
}

fn rule(expression: Expression, message: &str) -> Rule {
    let message = message.to_owned();
    Rule {
        expression,
        message,
    }
}

#[test]
fn rules_of_claims_and_of_the_user_must_hold() {
    let from =
        || json!({"sub": "ann", "hd": "x", "g": ["dev"], "nbf": 1000, "exp": 5000, "s": "v"});
    let of_claims = |rules: &[(&str, &str)]| {
        let rules = rules
            .iter()
            .map(|(text, message)| rule(claim_rule(text, "at").unwrap(), message));
        let mappings = Mappings {
            claim_rules: rules.collect(),
            ..Mappings::named(mapping("sub", ""))
        };
        claims(from()).user(&mappings).map(drop)
    };
    let failed = "error evaluating claim validation expression: ";
    for good in [
        "claims.hd == 'x'",
        "claims.exp - claims.nbf <= 86400",
        "claims.?email_verified.orValue(true) == true",
    ] {
        assert_eq!(of_claims(&[(good, "m")]), Ok(()), "{good}");
    }
    assert_eq!(
        of_claims(&[("claims.hd == 'y'", "not of y")]),
        Err(format!(
            "{failed}validation expression 'claims.hd == 'y'' failed: not of y"
        ))
    );
    assert_eq!(
        of_claims(&[("claims.hd == 'y'", "")]),
        Err(format!(
            "{failed}validation expression 'claims.hd == 'y'' failed: "
        ))
    );
    // All are evaluated before one is looked at.
    let missing = "expression 'claims.missing == 1' resulted in error: no such key: missing";
    assert_eq!(
        of_claims(&[("claims.hd == 'y'", ""), ("claims.missing == 1", "")]),
        Err(format!("{failed}{missing}"))
    );

    let of_user = |text: &str| {
        let mappings = Mappings {
            groups: Some(Mapped::Claim(mapping("g", "p:"))),
            extra: vec![("a.b/c".to_owned(), expression("claims.s", "at").unwrap())],
            user_rules: vec![rule(user_rule(text, "at").unwrap(), "no")],
            ..Mappings::named(mapping("sub", "oidc:"))
        };
        claims(from()).user(&mappings).map(drop)
    };
    for good in [
        "user.username == 'oidc:ann' && user.uid == ''",
        "user.groups == ['p:dev'] && 'p:dev' in user.groups",
        "user.extra['a.b/c'][0] == 'v' && user.extra.a__dot__b__slash__c[0] == 'v'",
        "!has(user.extra.other) && !('other' in user.extra)",
        "user.extra[?'other'].orValue([]) == []",
        "has(user.uid)",
    ] {
        assert_eq!(of_user(good), Ok(()), "{good}");
    }
    let failed = "error evaluating user info validation rule: ";
    assert_eq!(
        of_user("!user.username.startsWith('oidc:')"),
        Err(format!(
            "{failed}validation expression '!user.username.startsWith('oidc:')' failed: no"
        ))
    );
    assert_eq!(
        of_user("user.extra['other'][0] == 'z'"),
        Err(format!(
            "{failed}expression 'user.extra['other'][0] == 'z'' resulted in error: no such key: other"
        ))
    );
}
