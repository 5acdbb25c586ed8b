use serde_json::json;

use super::*;

/// An event of somebody's list of pods.
pub(in crate::audit) fn sample(level: Level) -> Event {
    Event {
        level,
        id: "id".into(),
        stage: Stage::ResponseComplete,
        request_uri: "/api/v1/namespaces/a/pods?limit=1".into(),
        verb: "list".into(),
        user: UserInfo {
            username: "u\"v".into(),
            groups: vec!["a".into(), "b".into()],
            ..UserInfo::default()
        },
        impersonated_user: None,
        authentication_metadata: None,
        source_ips: vec![[10, 0, 0, 1].into()],
        user_agent: "agent".into(),
        object_ref: Some(ObjectReference {
            namespace: "a".into(),
            ..ObjectReference::default()
        }),
        response_status: None,
        request_object: None,
        response_object: None,
        request_received_timestamp: UNIX_EPOCH + std::time::Duration::from_millis(1500),
        stage_timestamp: UNIX_EPOCH,
        annotations: BTreeMap::new(),
    }
}

#[test]
fn an_event_that_is_too_large_goes_without_bodies_or_not_at_all() {
    let mut event = sample(Level::Request);
    event.request_object = Some(json!({"data": "x".repeat(2000)}));
    assert!(event.to_json(None).unwrap().len() > 2000);
    let line: Value = serde_json::from_slice(&event.to_json(Some(1000)).unwrap()).unwrap();
    assert_eq!(line["requestObject"], Value::Null);
    assert_eq!(line["annotations"]["audit.k8s.io/truncated"], "true");
    assert_eq!(
        line["requestReceivedTimestamp"],
        "1970-01-01T00:00:01.500000Z"
    );
    assert!(event.to_json(Some(100)).is_none());
    // Only bodies are dropped, and here is none.
    let mut bare = sample(Level::Metadata);
    bare.user_agent = "x".repeat(1000);
    assert!(bare.to_json(Some(1000)).is_none());
}

#[test]
fn an_event_by_itself_says_what_it_is_and_a_member_of_a_list_does_not() {
    let event = sample(Level::Metadata);
    let line = event.to_line(None).unwrap();
    assert!(line.ends_with(b"}\n"));
    let mut alone: Value = serde_json::from_slice(&line).unwrap();
    let member: Value = serde_json::from_slice(&event.to_json(None).unwrap()).unwrap();
    assert_eq!(alone["kind"], "Event");
    assert_eq!(alone["apiVersion"], "audit.k8s.io/v1");
    for field in ["kind", "apiVersion"] {
        alone.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(alone, member);
    // The largest event is as large as its line, whatever takes it.
    assert!(event.to_json(Some(line.len())).is_some());
    assert!(event.to_json(Some(line.len() - 1)).is_none());
}

#[test]
fn what_was_said_first_stays() {
    let mut event = sample(Level::Metadata);
    event.annotate("k", "first");
    event.annotate("k", "second");
    assert_eq!(event.annotations["k"], "first");
}

#[test]
fn the_legacy_form_is_upstreams() {
    let mut event = sample(Level::Metadata);
    let text = |event: &Event| String::from_utf8(event.to_text()).unwrap();
    assert_eq!(
        text(&event),
        "1970-01-01T00:00:01.5Z AUDIT: id=\"id\" stage=\"ResponseComplete\" ip=\"10.0.0.1\" method=\"list\" user=\"u\\\"v\" groups=\"\\\"a\\\",\\\"b\\\"\" as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"agent\" namespace=\"a\" uri=\"/api/v1/namespaces/a/pods?limit=1\" response=\"<deferred>\"\n"
    );
    event.response_status = Some(Status {
        code: 200,
        ..Status::default()
    });
    let user = User {
        name: "w".into(),
        ..User::default()
    };
    event.impersonates(&user, "");
    assert!(text(&event).contains("as=\"w\" asgroups=\"<lookup>\""));
    assert!(text(&event).ends_with("response=\"200\"\n"));
}

#[test]
fn sources_are_the_proxies_and_then_the_peer() {
    let peer: IpAddr = [10, 0, 0, 9].into();
    let ips = |given: &[(&'static str, &str)]| {
        let headers = given.iter();
        let headers = headers.map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()));
        let found = source_ips(&HeaderMap::from_iter(headers), peer);
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(ips(&[]), ["10.0.0.9"]);
    assert_eq!(
        ips(&[
            ("x-forwarded-for", "1.1.1.1, x, ::2"),
            ("x-real-ip", "1.1.1.1")
        ]),
        ["1.1.1.1", "::2", "10.0.0.9"]
    );
    assert_eq!(ips(&[("x-real-ip", "10.0.0.9")]), ["10.0.0.9"]);
}
