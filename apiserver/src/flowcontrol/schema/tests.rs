use http::{Method, Uri};
use proto::catalogue::messages::flowcontrol_v1 as m;
use proto::codec::json::{Strictness, decode};
use resources::request::Query;

use super::*;

fn schema(rules: &str) -> Schema {
    let text = format!(
        r#"{{"metadata": {{"name": "s", "uid": "u"}}, "spec": {{"matchingPrecedence": 7,
            "priorityLevelConfiguration": {{"name": "l"}}, "rules": [{rules}]}}}}"#
    );
    let object = decode(text.as_bytes(), m::FLOW_SCHEMA, Strictness::Strict).unwrap();
    assert_eq!(object.problems, [""; 0]);
    Schema::of(&object.value)
}

fn info(method: &Method, path: &str) -> RequestInfo {
    let uri: Uri = path.parse().unwrap();
    RequestInfo::read(method, &uri, &Query::parse(&uri)).unwrap()
}

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.into(),
        groups: groups.iter().map(|g| (*g).into()).collect(),
        ..User::default()
    }
}

const EVERYTHING: &str = r#""resourceRules": [{"verbs": ["*"], "apiGroups": ["*"],
    "resources": ["*"], "namespaces": ["*"], "clusterScope": true}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]"#;

#[test]
fn subjects_are_users_groups_and_service_accounts() {
    let by = |subject: &str| schema(&format!(r#"{{"subjects": [{subject}], {EVERYTHING}}}"#));
    let get = info(&Method::GET, "/api/v1/pods");
    let alice = user("alice", &["system:authenticated", "dev"]);
    let account = user("system:serviceaccount:kube-system:gc", &[]);
    let cases = [
        (
            r#"{"kind": "User", "user": {"name": "alice"}}"#,
            true,
            false,
        ),
        (r#"{"kind": "User", "user": {"name": "*"}}"#, true, true),
        (
            r#"{"kind": "Group", "group": {"name": "dev"}}"#,
            true,
            false,
        ),
        (r#"{"kind": "Group", "group": {"name": "*"}}"#, true, true),
        (
            r#"{"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "gc"}}"#,
            false,
            true,
        ),
        (
            r#"{"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}}"#,
            false,
            true,
        ),
        (
            r#"{"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube", "name": "*"}}"#,
            false,
            false,
        ),
        // A kind without what belongs to it is nobody.
        (r#"{"kind": "User"}"#, false, false),
    ];
    for (subject, is_alice, is_account) in cases {
        let schema = by(subject);
        assert_eq!(schema.matches(&alice, &get), is_alice, "{subject}");
        assert_eq!(schema.matches(&account, &get), is_account, "{subject}");
    }
}

#[test]
fn resources_match_with_their_subresource_and_scope() {
    let rule = |resources: &str, namespaces: &str, cluster: bool| {
        schema(&format!(
            r#"{{"subjects": [{{"kind": "Group", "group": {{"name": "*"}}}}],
                "resourceRules": [{{"verbs": ["get", "list"], "apiGroups": [""],
                "resources": [{resources}], "namespaces": [{namespaces}], "clusterScope": {cluster}}}]}}"#
        ))
    };
    let is =
        |schema: &Schema, path: &str| schema.matches(&user("u", &[]), &info(&Method::GET, path));
    let pods = rule(r#""pods""#, r#""a""#, false);
    assert!(is(&pods, "/api/v1/namespaces/a/pods/x"));
    assert!(!is(&pods, "/api/v1/namespaces/b/pods/x"));
    assert!(!is(&pods, "/api/v1/namespaces/a/pods/x/log"));
    assert!(!is(&pods, "/api/v1/pods"));
    assert!(!is(&pods, "/apis/apps/v1/namespaces/a/pods"));
    assert!(!is(&pods, "/api/v1/namespaces/a/pods?watch=1"));
    assert!(!is(&pods, "/healthz"));
    let log = rule(r#""pods/log""#, r#""*""#, true);
    assert!(is(&log, "/api/v1/namespaces/a/pods/x/log"));
    assert!(!is(&log, "/api/v1/namespaces/a/pods/x"));
    let all = rule(r#""*""#, r#""*""#, true);
    assert!(is(&all, "/api/v1/namespaces/a/pods/x/log"));
    assert!(is(&all, "/api/v1/nodes"));
    // A star beside others is a name like others.
    let some = rule(r#""*", "pods""#, r#""*""#, true);
    assert!(is(&some, "/api/v1/pods") && !is(&some, "/api/v1/nodes"));
}

#[test]
fn paths_match_with_all_below_them() {
    let rule = |path: &str| {
        schema(&format!(
            r#"{{"subjects": [{{"kind": "User", "user": {{"name": "*"}}}}],
                "nonResourceRules": [{{"verbs": ["get"], "nonResourceURLs": ["{path}"]}}]}}"#
        ))
    };
    let cases = [
        ("/healthz", "/healthz", true),
        ("/healthz", "/healthz/etcd", true),
        ("/healthz", "/healthzz", false),
        ("/healthz/*", "/healthz/etcd", true),
        ("/healthz/*", "/healthz", false),
        ("/debug/", "/debug/pprof", true),
        ("*", "/anything", true),
        ("/", "/anything", true),
    ];
    for (path, asked, matches) in cases {
        let got = rule(path).matches(&user("u", &[]), &info(&Method::GET, asked));
        assert_eq!(got, matches, "{path} {asked}");
    }
    let put = info(&Method::PUT, "/healthz");
    assert!(!rule("/healthz").matches(&user("u", &[]), &put));
}
