use proto::catalogue::messages::meta_v1::STATUS;
use serde_json::{Value as Json, json};

use super::super::super::testing::{Asked, decode, pod, resource};
use super::super::hook::of_configuration;
use super::*;

fn candidate(name: &str) -> Candidate {
    let text = r#"{"metadata":{"name":"c"},"webhooks":[{"name":"a.b.c"}]}"#;
    let message = messages::admissionregistration_v1::MUTATING_WEBHOOK_CONFIGURATION;
    let hook = of_configuration(&decode(text, message)).remove(0);
    Candidate {
        index: 0,
        hook: hook.into(),
        resource: resource(name),
        kind: kind(resource(name), ""),
    }
}

#[test]
fn a_webhook_is_told_of_the_request_and_its_objects() {
    let mut asked = Asked::create("pods", pod("{}")).by("someone");
    asked.user.groups = vec!["g".to_owned()];
    asked.user.extra = BTreeMap::from([("k".to_owned(), vec!["v".to_owned()])]);
    let objects = Objects {
        object: Some(Bytes::from_static(b"{\"kind\":\"Pod\"}")),
        ..Objects::default()
    };
    let sent =
        asked.ask(|write| question(Version::V1, "u", write, &candidate("pods"), &objects).unwrap());
    let sent: Json = serde_json::from_slice(&sent).unwrap();
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    assert_eq!(
        sent,
        json!({
            "kind": "AdmissionReview",
            "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "u",
                "kind": kind,
                "resource": resource,
                "requestKind": kind,
                "requestResource": resource,
                "name": "name",
                "namespace": "ns",
                "operation": "CREATE",
                "userInfo": {"username": "someone", "groups": ["g"], "extra": {"k": ["v"]}},
                "dryRun": false,
                "object": {"kind": "Pod"},
                "oldObject": null,
                "options": null,
            },
        })
    );
}

fn read(version: Version, mutating: bool, response: &Json) -> Result<Answer, String> {
    let review = json!({
        "apiVersion": version.api_version(),
        "kind": "AdmissionReview",
        "response": response,
    });
    let read = answer(review.to_string().as_bytes(), version, "u", mutating);
    read.map_err(|e| e.to_string())
}

#[test]
fn an_answer_is_to_the_question_and_of_its_kind() {
    let allowed = json!({"uid": "u", "allowed": true});
    assert!(read(Version::V1, true, &allowed).unwrap().allowed);
    let why = |review: Json, version| {
        let read = answer(review.to_string().as_bytes(), version, "u", true);
        read.map(|a| a.allowed).map_err(|e| e.to_string())
    };
    const HEAD: &str = "received invalid webhook response: ";
    let other = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": "x"}});
    assert_eq!(
        why(other, Version::V1),
        Err(format!("{HEAD}expected response.uid=\"u\", got \"x\""))
    );
    let bare = json!({"response": allowed});
    assert_eq!(
        why(bare.clone(), Version::V1),
        Err(format!(
            "{HEAD}expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="
        ))
    );
    assert_eq!(
        why(bare, Version::V1beta1),
        Ok(true),
        "the old version is not strict"
    );
    assert_eq!(why(json!({"response": {}}), Version::V1beta1), Ok(false));
    assert_eq!(
        why(json!({}), Version::V1beta1),
        Err(format!("{HEAD}webhook response was absent"))
    );
    let kind = why(json!({"kind": "Pod", "response": allowed}), Version::V1);
    assert!(
        kind.unwrap_err()
            .starts_with("failed to call webhook: no kind \"Pod\"")
    );
    let text = why(json!({"response": {"allowed": "yes"}}), Version::V1beta1);
    assert!(text.unwrap_err().starts_with("failed to call webhook: "));
    let garbage = answer(b"<html>", Version::V1, "u", true);
    assert!(
        garbage
            .unwrap_err()
            .to_string()
            .starts_with("failed to call webhook: ")
    );
}

#[test]
fn patches_have_a_type_and_come_from_who_may_change_something() {
    let with = |fields: Json| {
        let mut response = json!({"uid": "u", "allowed": true});
        let all = response.as_object_mut().unwrap();
        all.extend(fields.as_object().unwrap().clone());
        response
    };
    let both = with(json!({"patch": "W10=", "patchType": "JSONPatch"}));
    let answer = read(Version::V1, true, &both).unwrap();
    assert_eq!(
        (&*answer.patch, answer.patch_type.as_str()),
        (&b"[]"[..], "JSONPatch")
    );
    let alone = with(json!({"patch": "W10="}));
    assert!(read(Version::V1, true, &alone).is_err());
    assert!(read(Version::V1, true, &with(json!({"patchType": "JSONPatch"}))).is_err());
    assert!(
        read(
            Version::V1,
            true,
            &with(json!({"patch": "W10=", "patchType": ""}))
        )
        .is_err()
    );
    assert!(read(Version::V1, false, &alone).is_err());
    assert!(read(Version::V1, false, &with(json!({"patchType": "JSONPatch"}))).is_err());
    // The old version has one type, and what a validating webhook sends is not looked at.
    let old = read(Version::V1beta1, true, &alone).unwrap();
    assert_eq!(old.patch_type, "JSONPatch");
    assert!(
        read(Version::V1beta1, false, &both)
            .unwrap()
            .patch
            .is_empty()
    );
}

#[test]
fn a_refusal_is_the_webhooks_own() {
    let refused = |status: &str| {
        let status = (!status.is_empty()).then(|| decode(status, STATUS));
        let failure = refusal("w.x.y", status.as_ref());
        let text = failure.message().to_owned();
        let head = "admission webhook \"w.x.y\" denied the request";
        (
            failure.code(),
            text.strip_prefix(head).unwrap().to_owned(),
            failure,
        )
    };
    for (status, code, rest) in [
        ("", 400, " without explanation"),
        ("{}", 400, " without explanation"),
        (r#"{"message":"no"}"#, 400, ": no"),
        (r#"{"reason":"Forbidden"}"#, 400, ": Forbidden"),
        (r#"{"message":"no","reason":"Forbidden"}"#, 400, ": no"),
        (r#"{"code":401}"#, 401, " without explanation"),
        (r#"{"code":500}"#, 500, " without explanation"),
        (r#"{"code":200}"#, 400, " without explanation"),
        (r#"{"code":399}"#, 400, " without explanation"),
    ] {
        let (is, text, _) = refused(status);
        assert_eq!((is, text.as_str()), (code, rest), "{status}");
    }
    let full = r#"{"status":"Success","code":418,"reason":"Teapot","message":"short","details":{"name":"n","kind":"k","causes":[{"field":"f","message":"m","reason":"r"}],"retryAfterSeconds":3}}"#;
    let (_, _, failure) = refused(full);
    assert_eq!(
        (failure.reason(), failure.retry_after()),
        ("Teapot", Some(3))
    );
    let shown = failure.to_value();
    assert_eq!(
        shown.get(n::STATUS).and_then(Value::as_str),
        Some("Failure")
    );
    assert_eq!(
        shown.at(&[n::DETAILS, n::KIND]).and_then(Value::as_str),
        Some("k")
    );
    let causes = shown
        .at(&[n::DETAILS, n::CAUSES])
        .and_then(Value::as_list)
        .unwrap();
    assert_eq!(causes[0].get(n::FIELD).and_then(Value::as_str), Some("f"));
    let (_, _, custom) = refused(r#"{"status":"custom"}"#);
    let custom = custom.to_value();
    assert_eq!(
        custom.get(n::STATUS).and_then(Value::as_str),
        Some("custom")
    );
}
