use super::*;

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
    let subjects = vec![Subject::ServiceAccount("team:bot".into())];
    index.put_binding(("team".into(), "b".into()), Binding { role, subjects });
    let user = User {
        name: "system:serviceaccount:team:bot".into(),
        ..User::default()
    };
    let source = index.source(&user, "team", &mut Vec::new(), |_| true);
    assert_eq!(
        source.map(|s| s.to_string()),
        Some(r#"RoleBinding "b/team" of Role "read" to ServiceAccount "bot/team""#.to_owned())
    );
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
