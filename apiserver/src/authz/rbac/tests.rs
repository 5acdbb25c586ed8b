#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proto::codec::json::{self, Strictness};

use super::*;

mod naive;

fn list(items: &[&str]) -> Vec<Box<str>> {
    items.iter().map(|i| (*i).into()).collect()
}

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
    Rule {
        verbs: list(verbs),
        groups: list(groups),
        resources: list(resources),
        names: list(names),
        paths: vec![],
    }
}

fn asked<'a>(
    user: &'a User,
    verb: &'a str,
    namespace: &'a str,
    resource: &'a str,
    subresource: &'a str,
    name: &'a str,
) -> Attributes<'a> {
    Attributes {
        user,
        verb,
        is_resource: true,
        group: "",
        version: "v1",
        resource,
        subresource,
        namespace,
        name,
        path: "",
        field_selector: "",
        label_selector: "",
    }
}

#[test]
fn a_rule_names_resources_and_subresources_apart() {
    let user = User::default();
    let pods = rule(&["get"], &[""], &["pods"], &[]);
    assert!(pods.allows(&asked(&user, "get", "a", "pods", "", "x")));
    assert!(!pods.allows(&asked(&user, "get", "a", "pods", "log", "x")));
    assert!(!pods.allows(&asked(&user, "list", "a", "pods", "", "")));
    let scales = rule(&["*"], &["*"], &["*/scale"], &[]);
    assert!(scales.allows(&asked(&user, "get", "a", "deployments", "scale", "x")));
    assert!(!scales.allows(&asked(&user, "get", "a", "deployments", "", "x")));
    let named = rule(&["get", "list"], &[""], &["pods"], &["x"]);
    assert!(named.allows(&asked(&user, "get", "a", "pods", "", "x")));
    assert!(!named.allows(&asked(&user, "list", "a", "pods", "", "")));
}

#[test]
fn a_role_binding_holds_in_its_namespace_only() {
    let mut index = Index::default();
    index.put_role(
        ("".into(), "view".into()),
        [rule(&["get"], &[""], &["pods"], &[])].into(),
    );
    let group = Subject::Group("devs".into());
    index.put_binding(
        ("team".into(), "b".into()),
        Binding {
            role: ("".into(), "view".into()),
            subjects: vec![group],
        },
    );
    let dev = User {
        name: "ann".into(),
        groups: vec!["devs".into()],
        ..User::default()
    };
    let allowed = |namespace: &str| {
        index.visit(&dev, namespace, &mut Vec::new(), |r| {
            r.allows(&asked(&dev, "get", namespace, "pods", "", "x"))
        })
    };
    assert!(allowed("team"));
    assert!(!allowed("other"));
    assert!(!allowed(""));
}

#[test]
fn a_binding_that_changes_leaves_no_subject_behind() {
    let mut index = Index::default();
    let key: Key = ("".into(), "b".into());
    let role = || ("".into(), "r".into());
    let of = |subjects: Vec<Subject>| Binding {
        role: role(),
        subjects,
    };
    index.put_role(role(), [rule(&["get"], &[""], &["pods"], &[])].into());
    let named = |name: &str| User {
        name: name.into(),
        ..User::default()
    };
    let may = |index: &Index, name: &str| {
        index.visit(&named(name), "", &mut Vec::new(), |r| {
            r.allows(&asked(&named(name), "get", "", "pods", "", "x"))
        })
    };
    let user = |name: &str| Subject::User(name.into());
    index.put_binding(key.clone(), of(vec![user("ann"), user("ann")]));
    assert!(may(&index, "ann"));
    index.put_binding(key.clone(), of(vec![user("bob")]));
    assert!(!may(&index, "ann") && may(&index, "bob"));
    let account = Subject::ServiceAccount("ns:a".into());
    index.put_binding(key.clone(), of(vec![account]));
    assert!(!may(&index, "bob") && may(&index, "system:serviceaccount:ns:a"));
    assert!(!may(&index, "ns:a"));
    index.drop_binding(&key);
    assert!(index.has_no_subject());
}

#[test]
fn a_reason_names_the_binding_its_role_and_the_subject() {
    let mut index = Index::default();
    let role: Key = ("team".into(), "read".into());
    index.put_role(role.clone(), [rule(&["get"], &[""], &["pods"], &[])].into());
    let subjects = vec![
        Subject::Group("a \"team\"".into()),
        Subject::ServiceAccount("team:bot".into()),
    ];
    index.put_binding(("team".into(), "b".into()), Binding { role, subjects });
    let mut user = User {
        name: "system:serviceaccount:team:bot".into(),
        ..User::default()
    };
    let source = |user: &User| {
        let source = index.source(user, "team", |_| true);
        source.map(|s| s.to_string())
    };
    assert_eq!(
        source(&user).as_deref(),
        Some(r#"RoleBinding "b/team" of Role "read" to ServiceAccount "bot/team""#)
    );
    // The first of the binding's subjects, not of what the user is.
    user.groups.push("a \"team\"".into());
    assert_eq!(
        source(&user).as_deref(),
        Some(r#"RoleBinding "b/team" of Role "read" to Group "a \"team\"""#)
    );
}

#[test]
fn many_bindings_of_one_role_are_one_visit_and_many_rules() {
    let mut index = Index::default();
    let role: Key = ("".into(), "view".into());
    index.put_role(role.clone(), [rule(&["get"], &[""], &["pods"], &[])].into());
    for i in (0..100).rev() {
        let binding = Binding {
            role: role.clone(),
            subjects: vec![Subject::Group("devs".into()), Subject::User("ann".into())],
        };
        index.put_binding(("".into(), format!("b{i:02}").into()), binding);
    }
    let mut visits = 0;
    let mut count = |user: &User| {
        index.visit(user, "team", &mut Vec::new(), |_| {
            visits += 1;
            false
        });
        std::mem::take(&mut visits)
    };
    let mut ann = User {
        name: "ann".into(),
        ..User::default()
    };
    assert_eq!(count(&ann), 1);
    ann.groups.push("devs".into());
    assert_eq!(count(&ann), 2, "once for each that she is");
    assert_eq!(
        index.rules_for(&ann, "team").0.len(),
        100,
        "upstream's list"
    );
    let source = index.source(&ann, "team", |_| true).unwrap().to_string();
    assert!(source.starts_with("ClusterRoleBinding \"b00\""), "{source}");
}

#[test]
fn an_account_without_a_namespace_is_nobody_everywhere() {
    let subject = |namespace: &str| {
        let text = format!(
            r#"{{"metadata":{{"name":"b","namespace":"{namespace}"}},"roleRef":{{"kind":"ClusterRole","name":"r"}},
            "subjects":[{{"kind":"ServiceAccount","name":"a"}}]}}"#
        );
        let message = proto::catalogue::messages::rbac_v1::ROLE_BINDING;
        let decoded = json::decode(text.as_bytes(), message, Strictness::Strict).unwrap();
        binding(&decoded.value).subjects
    };
    assert_eq!(subject(""), []);
    assert_eq!(subject("team"), [Subject::ServiceAccount("team:a".into())]);
}

#[test]
fn nobody_can_give_what_he_does_not_have() {
    let held = [
        rule(&["get", "list"], &[""], &["pods", "pods/log"], &[]),
        rule(&["*"], &["apps"], &["*"], &[]),
    ];
    assert!(uncovered(&held, &[rule(&["get"], &[""], &["pods"], &["x"])]).is_empty());
    assert!(
        uncovered(
            &held,
            &[rule(&["delete"], &["apps"], &["deployments/scale"], &[])]
        )
        .is_empty()
    );
    let missing = uncovered(&held, &[rule(&["get", "delete"], &[""], &["pods"], &[])]);
    assert_eq!(missing, [rule(&["delete"], &[""], &["pods"], &[])]);
    let only_one = [rule(&["get"], &[""], &["secrets"], &["a"])];
    assert_eq!(
        uncovered(&only_one, &[rule(&["get"], &[""], &["secrets"], &[])]).len(),
        1
    );
}
