use super::*;
use crate::auth::User;

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
    let key: BindingKey = ("".into(), "b".into());
    let of = |name: &str| Binding {
        role: ("".into(), "r".into()),
        subjects: vec![Subject::User(name.into())],
    };
    index.put_binding(key.clone(), of("ann"));
    index.put_binding(key.clone(), of("bob"));
    assert_eq!(index.by_subject.len(), 1);
    index.drop_binding(&key);
    assert!(index.by_subject.is_empty() && index.bindings.is_empty());
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
