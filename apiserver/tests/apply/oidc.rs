//! Tokens of other issuers: what is believed of them, and what keys are asked for.

use std::time::{Duration, Instant};

use component::testing::Files;
use serde_json::{Value, json};

use super::bearer::{ask, review, who};
use super::daemon::Daemon;
use super::issuer::{CLIENT, Issuer, Key, now};

/// Waits until something is so.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What somebody without the issuer's key can make of its tokens.
fn forged(
    key: &Key,
    issuer: &Issuer,
    stranger: (&Key, &Issuer),
    good: &str,
) -> Vec<(&'static str, String)> {
    let (other, stranger) = stranger;
    let claims = |more: Value| issuer.claims(&more);
    let header = |more: Value| {
        let mut header = json!({"alg": "ES256", "kid": key.id});
        for (name, value) in more.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    };
    let plain = claims(json!({}));
    let part = |token: &str, i: usize| token.split('.').nth(i).unwrap().to_owned();
    let unsigned = key.sign(&header(json!({"alg": "none"})), &plain);
    let admin = key.token(&claims(json!({"sub": "admin"})));
    let spliced = format!("{}.{}.{}", part(good, 0), part(&admin, 1), part(good, 2));
    vec![
        ("no algorithm", unsigned.clone()),
        (
            "no signature",
            format!("{}.{}.", part(&unsigned, 0), part(&unsigned, 1)),
        ),
        ("a digest with the public key", key.confused(&plain)),
        (
            "another algorithm's name",
            key.sign(&header(json!({"alg": "RS256"})), &plain),
        ),
        (
            "an algorithm that is not allowed",
            key.sign(&header(json!({"alg": "ES384"})), &plain),
        ),
        ("a stranger's key under the same id", other.token(&plain)),
        (
            "a stranger's key without an id",
            other.sign(&json!({"alg": "ES256"}), &plain),
        ),
        (
            "the stranger's key inside",
            other.sign(&header(json!({"jwk": other.jwk()})), &plain),
        ),
        (
            "the stranger's keys' address inside",
            other.sign(
                &header(json!({"jku": format!("{}/keys", stranger.url())})),
                &plain,
            ),
        ),
        (
            "an unknown id",
            key.sign(&header(json!({"kid": "two"})), &plain),
        ),
        (
            "an extension that must be known",
            key.sign(&header(json!({"crit": ["exp"]})), &plain),
        ),
        ("other claims", spliced),
        ("another issuer", other.token(&stranger.claims(&json!({})))),
        ("four parts", format!("{good}.x")),
        ("padding", format!("{good}=")),
    ]
}

#[tokio::test]
async fn a_token_is_good_only_as_its_issuer_made_it() {
    let key = Key::new("one");
    let issuer = Issuer::start(std::slice::from_ref(&key));
    let api = Daemon::start_with(|files| issuer.flags(files)).await;
    let claims = |more: Value| issuer.claims(&more);
    let good = key.token(&claims(json!({"jti": "id"})));
    let (code, user) = who(&api, &good).await;
    assert_eq!(code, 201, "{user}");
    assert_eq!(user["username"], "oidc:ann");
    assert_eq!(user["groups"], json!(["oidc:dev", "system:authenticated"]));
    assert_eq!(
        user["extra"],
        json!({"authentication.kubernetes.io/credential-id": ["JTI=id"]})
    );

    let other = Key::new("one");
    let stranger = Issuer::start(std::slice::from_ref(&other));
    let plain = |more: Value| key.token(&claims(more));
    let mut bad = forged(&key, &issuer, (&other, &stranger), &good);
    bad.extend([
        (
            "another issuer's name",
            plain(json!({"iss": stranger.url()})),
        ),
        ("another audience", plain(json!({"aud": "other"}))),
        ("no audience", plain(json!({"aud": null}))),
        ("an end in the past", plain(json!({"exp": now() - 1}))),
        ("no end", plain(json!({"exp": null}))),
        (
            "a beginning in the future",
            plain(json!({"nbf": now() + 120})),
        ),
        ("no name", plain(json!({"sub": null}))),
        ("groups that are none", plain(json!({"groups": 1}))),
    ]);
    for (what, token) in &bad {
        let (code, user) = who(&api, token).await;
        assert_eq!((code, user), (401, Value::Null), "{what}");
        let status = review(&api, token, &[]).await;
        assert!(status["authenticated"].is_null(), "{what}: {status}");
        let error = status["error"].as_str().unwrap();
        assert!(error.contains("invalid bearer token"), "{what}: {error}");
    }
    assert_eq!(stranger.remote.asked().len(), 0, "nobody asks a stranger");
    let fetches = issuer.fetches();
    assert!(
        (1..=3).contains(&fetches),
        "bad tokens had keys fetched {fetches} times"
    );
    assert_eq!(who(&api, &good).await.0, 201);
    // For another audience than the API's it is no token of ours.
    let own = review(&api, &good, &[]).await;
    assert_eq!(own["authenticated"], true, "{own}");
    assert_eq!(own["audiences"], json!(["https://kubernetes.default.svc"]));
    assert!(review(&api, &good, &[CLIENT]).await["authenticated"].is_null());
}

#[tokio::test]
async fn replaced_keys_are_fetched_when_a_token_needs_them_and_the_old_ones_are_gone() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let issuer = Issuer::start(std::slice::from_ref(&old));
    let api = Daemon::start_with(|files| issuer.flags(files)).await;
    let token = |key: &Key, id: i32| key.token(&issuer.claims(&json!({"jti": id.to_string()})));
    assert_eq!(who(&api, &token(&old, 1)).await.0, 201);
    assert_eq!(issuer.fetches(), 1);
    issuer.rotate(std::slice::from_ref(&new));
    assert_eq!(who(&api, &token(&old, 2)).await.0, 201, "keys are kept");
    let mut id = 3;
    eventually("the new key is known", async || {
        id += 1;
        who(&api, &token(&new, id)).await.0 == 201
    })
    .await;
    assert_eq!(who(&api, &token(&old, 3)).await.0, 401);
    let fetches = issuer.fetches();
    assert!((2..=4).contains(&fetches), "{fetches}");
    let text = api.text("/metrics").await;
    for line in [
        "apiserver_authentication_jwt_authenticator_latency_seconds_count{result=\"success\",jwt_issuer_hash=\"sha256:",
        "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds{result=\"success\",",
        "apiserver_authentication_jwt_authenticator_jwks_fetch_last_key_set_info{",
        "authentication_attempts{result=\"error\"}",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test]
async fn fetches_of_keys_are_counted_while_their_gate_is_on() {
    let key = Key::new("one");
    let issuer = Issuer::start(std::slice::from_ref(&key));
    let api = Daemon::start_with(|files| {
        let mut flags = issuer.flags(files);
        let gate = "StructuredAuthenticationConfigurationJWKSMetrics=false";
        flags.push(format!("--feature-gates={gate}"));
        flags
    })
    .await;
    assert_eq!(
        who(&api, &key.token(&issuer.claims(&json!({})))).await.0,
        201
    );
    let text = api.text("/metrics").await;
    assert!(
        text.contains("jwt_authenticator_latency_seconds_count"),
        "{text}"
    );
    assert!(
        !text.contains("jwks_fetch_last_timestamp_seconds{"),
        "{text}"
    );
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_keeps_nobody_else_waiting() {
    let key = Key::new("one");
    let issuer = Issuer::start(std::slice::from_ref(&key));
    issuer.answers(false);
    let api = Daemon::start_with(|files| issuer.flags(files)).await;
    let token = key.token(&issuer.claims(&json!({})));
    let other = key.token(&issuer.claims(&json!({"sub": "bob"})));
    let others = async {
        eventually("the issuer is asked", async || {
            !issuer.remote.asked().is_empty()
        })
        .await;
        let started = Instant::now();
        assert_eq!(api.get("/api/v1/namespaces").await.0, 200);
        assert_eq!(api.user("somebody").get("/api/v1/namespaces").await.0, 403);
        assert_eq!(who(&api, "nonsense").await.0, 401);
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
        issuer.answers(true);
    };
    let ((ann, _), (bob, _), ()) = tokio::join!(who(&api, &token), who(&api, &other), others);
    assert_eq!((ann, bob), (201, 201));
    assert_eq!(issuer.fetches(), 1, "those who wait share one fetch");
}

#[tokio::test]
async fn groups_that_lie_elsewhere_are_fetched_and_verified() {
    let key = Key::new("one");
    let issuer = Issuer::start(std::slice::from_ref(&key));
    let api = Daemon::start_with(|files| issuer.flags(files)).await;
    let token = |page: &str| {
        key.token(&issuer.claims(&json!({
            "groups": null,
            "_claim_names": {"groups": "src"},
            "_claim_sources": {"src": {"endpoint": format!("{}{page}", issuer.url()), "access_token": "secret"}},
        })))
    };
    issuer.page(
        "/groups",
        &key.token(&issuer.claims(&json!({"groups": ["far", "away"]}))),
    );
    let stranger = Key::new("one");
    issuer.page(
        "/forged",
        &stranger.token(&issuer.claims(&json!({"groups": ["far"]}))),
    );
    issuer.page(
        "/expired",
        &key.token(&issuer.claims(&json!({"exp": now() - 1}))),
    );
    issuer.page(
        "/others",
        &key.token(&issuer.claims(&json!({"aud": "other"}))),
    );
    let (code, user) = who(&api, &token("/groups")).await;
    assert_eq!(code, 201);
    assert_eq!(
        user["groups"],
        json!(["oidc:far", "oidc:away", "system:authenticated"])
    );
    let asked = issuer.remote.asked();
    let asked = asked.iter().find(|a| a.path == "/groups").unwrap();
    assert_eq!(asked.authorization, "Bearer secret");
    for page in ["/forged", "/expired", "/others", "/absent"] {
        assert_eq!(who(&api, &token(page)).await.0, 401, "{page}");
    }
    // Who is not asked to look anywhere has no groups.
    let none = key.token(&issuer.claims(&json!({"groups": null})));
    let (code, user) = who(&api, &none).await;
    assert_eq!(
        (code, &user["groups"]),
        (201, &json!(["system:authenticated"]))
    );
}

/// Writes the file of authentication; its path.
fn configure(files: &Files, issuers: &[&Issuer]) -> String {
    let jwt: Vec<Value> = issuers.iter().map(|i| i.entry()).collect();
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}]},
        "jwt": jwt,
    });
    let path = files.write("authentication.json", &config.to_string());
    path.display().to_string()
}

#[tokio::test]
async fn a_file_of_issuers_takes_effect_when_it_changes_and_stays_when_it_is_wrong() {
    let (a, b) = (Key::new("a"), Key::new("b"));
    let (first, second) = (
        Issuer::start(std::slice::from_ref(&a)),
        Issuer::start(std::slice::from_ref(&b)),
    );
    let api = Daemon::start_with(|files| {
        vec![format!(
            "--authentication-config={}",
            configure(files, &[&first])
        )]
    })
    .await;
    let mut id = 0;
    let mut of = |issuer: &Issuer, key: &Key| {
        id += 1;
        key.token(&issuer.claims(&json!({"jti": id.to_string()})))
    };
    let (code, user) = who(&api, &of(&first, &a)).await;
    assert_eq!((code, user["username"].as_str()), (201, Some("file:ann")));
    assert_eq!(who(&api, &of(&second, &b)).await.0, 401);
    // Anonymous requests are for the path that is named.
    assert_eq!(ask(&api, "", "GET /livez", "").await.0, 200);
    assert_eq!(ask(&api, "", "GET /version", "").await.0, 401);
    assert_eq!(ask(&api, "", "GET /livez/ping", "").await.0, 401);

    configure(api.files(), &[&first, &second]);
    eventually("the second issuer is known", async || {
        who(&api, &of(&second, &b)).await.0 == 201
    })
    .await;
    assert_eq!(who(&api, &of(&first, &a)).await.0, 201);
    assert_eq!(first.fetches(), 1, "an issuer that stays keeps its keys");

    let reloads = async |status: &str| {
        let text = api.text("/metrics").await;
        let name = "apiserver_authentication_config_controller_automatic_reloads_total";
        let line = format!("{name}{{status=\"{status}\",");
        let found = text
            .lines()
            .find(|l| l.starts_with(&line))
            .map(str::to_owned);
        found
            .and_then(|l| l.rsplit(' ').next()?.parse::<u32>().ok())
            .unwrap_or(0)
    };
    assert_eq!((reloads("success").await, reloads("failure").await), (1, 0));
    api.files()
        .write("authentication.json", "{\"kind\": \"Nothing\"}");
    eventually("the failure is counted", async || {
        reloads("failure").await == 1
    })
    .await;
    assert_eq!(
        who(&api, &of(&second, &b)).await.0,
        201,
        "the old file stays in use"
    );

    configure(api.files(), &[&second]);
    eventually("the first issuer is gone", async || {
        who(&api, &of(&first, &a)).await.0 == 401
    })
    .await;
    assert_eq!(who(&api, &of(&second, &b)).await.0, 201);
    assert_eq!(reloads("success").await, 2);
}

/// The file of one issuer whose claims expressions read.
fn by_expressions(files: &Files, issuer: &Issuer, rules: &Value) -> String {
    let mut entry = issuer.entry();
    entry["claimMappings"] = json!({
        "username": {"expression": "'cel:' + claims.email"},
        "groups": {"expression": "claims.roles.split(',').map(r, 'role:' + r) + claims.groups"},
        "uid": {"expression": "claims.ids[0]"},
        "extra": [{"key": "example.com/tenant", "valueExpression": "claims.example__dot__com.tenant"}],
    });
    entry["claimValidationRules"] = json!([
        {"expression": "claims.?email_verified.orValue(true) == true", "message": "the address is not verified"},
        {"expression": "claims.exp - claims.iat <= 3600", "message": "it is good for too long"},
    ]);
    entry["userValidationRules"] = rules.clone();
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1beta1",
        "kind": "AuthenticationConfiguration",
        "jwt": [entry],
    });
    let path = files.write("authentication.json", &config.to_string());
    path.display().to_string()
}

#[tokio::test]
async fn expressions_make_a_user_of_claims_and_say_which_are_refused() {
    let key = Key::new("one");
    let issuer = Issuer::start(std::slice::from_ref(&key));
    let rule = |text: &str, message: &str| json!({"expression": text, "message": message});
    let rules = json!([rule(
        "!user.groups.exists(g, g.startsWith('role:root'))",
        "no roots"
    )]);
    let api = Daemon::start_with(|files| {
        let file = by_expressions(files, &issuer, &rules);
        vec![format!("--authentication-config={file}")]
    })
    .await;
    let token = |more: Value| {
        let mut claims = json!({
            "email": "ann@example.com", "roles": "dev,ops", "iat": now(), "ids": ["u-1"],
            "example.com": {"tenant": ["red", ""]}, "jti": now().to_string(),
        });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        key.token(&issuer.claims(&claims))
    };
    let (code, user) = who(&api, &token(json!({}))).await;
    assert_eq!(code, 201);
    assert_eq!(user["username"], "cel:ann@example.com");
    assert_eq!(user["uid"], "u-1");
    assert_eq!(
        user["groups"],
        json!(["role:dev", "role:ops", "dev", "system:authenticated"])
    );
    assert_eq!(user["extra"]["example.com/tenant"], json!(["red"]));
    for (more, why) in [
        (
            json!({"email_verified": false}),
            "error evaluating claim validation expression: validation expression 'claims.?email_verified.orValue(true) == \
             true' failed: the address is not verified",
        ),
        (
            json!({"exp": now() + 7200}),
            "failed: it is good for too long",
        ),
        (
            json!({"email": null}),
            "error evaluating username claim expression: expression ''cel:' + claims.email' resulted in error: no such \
             key: email",
        ),
        (
            json!({"roles": "rooty"}),
            "error evaluating user info validation rule: validation expression",
        ),
        (
            json!({"groups": {"a": 1}}),
            "error evaluating group claim expression: expression",
        ),
    ] {
        let token = token(more.clone());
        assert_eq!(who(&api, &token).await.0, 401, "{more}");
        let status = review(&api, &token, &[]).await;
        let error = status["error"].as_str().unwrap();
        assert!(error.contains(why), "{more}: {error}");
    }

    // Another rule takes effect; a file whose expressions are wrong does not.
    let nobody = rule("user.username != 'cel:ann@example.com'", "not Ann");
    by_expressions(api.files(), &issuer, &json!([nobody]));
    let mut n = 0;
    let mut ask = async || {
        n += 1;
        who(&api, &token(json!({"jti": format!("again-{n}")})))
            .await
            .0
    };
    eventually("the new rule holds", async || ask().await == 401).await;
    by_expressions(api.files(), &issuer, &json!([rule("user.name == ''", "")]));
    let failure =
        "apiserver_authentication_config_controller_automatic_reloads_total{status=\"failure\",";
    eventually("the failure is counted", async || {
        ask().await;
        let text = api.text("/metrics").await;
        text.lines()
            .any(|l| l.starts_with(failure) && l.ends_with(" 1"))
    })
    .await;
    assert_eq!(ask().await, 401, "the old file stays in use");
    assert_eq!(issuer.fetches(), 1, "keys are kept");
}

#[tokio::test]
async fn keys_come_from_whom_the_authority_vouches_for() {
    let key = Key::new("one");
    let issuer = Issuer::start(std::slice::from_ref(&key));
    let other = Issuer::start(&[]);
    let api = Daemon::start_with(|files| {
        let mut flags = issuer.flags(files);
        let ca = files.write("other.ca", &other.remote.ca.pem);
        flags.push(format!("--oidc-ca-file={}", ca.display()));
        flags
    })
    .await;
    let token = key.token(&issuer.claims(&json!({})));
    assert_eq!(who(&api, &token).await.0, 401);
    assert_eq!(issuer.remote.asked().len(), 0);
    let status = review(&api, &token, &[]).await;
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("authenticator not initialized"), "{error}");
}
