use serde_json::json;

use super::*;
use crate::auth::jwt::jws::Algorithm;

const ISSUER: &str = "https://issuer.example";
const NOW: i64 = 1_772_323_200;

fn claims(json: Value) -> Claims {
    Claims::read(json.to_string().as_bytes()).unwrap()
}

fn settings() -> JwtSettings {
    let mapping = |claim: &str, prefix: &str| Mapping {
        claim: claim.to_owned(),
        prefix: prefix.to_owned(),
    };
    JwtSettings {
        issuer: ISSUER.to_owned(),
        discovery: None,
        authorities: None,
        audiences: vec!["us".to_owned(), "them".to_owned()],
        algorithms: Algorithm::all(),
        username: mapping("sub", "oidc:"),
        groups: Some(mapping("groups", "g:")),
        uid: Some("uid".to_owned()),
        required: vec![("hd".to_owned(), "example.com".to_owned())],
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
    claims(with(more)).check(ISSUER, &settings().audiences, NOW)
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
    assert_eq!(claims.check(GOOGLE, &settings().audiences, NOW), Ok(()));
    assert!(claims.check(ISSUER, &settings().audiences, NOW).is_err());
}

#[test]
fn claims_make_a_user() {
    let user = |more| claims(with(more)).user(&settings());
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
    let settings = JwtSettings {
        username: Mapping {
            claim: "email".to_owned(),
            prefix: String::new(),
        },
        ..settings()
    };
    let user = |more| claims(with(more)).user(&settings).map(|user| user.name);
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
