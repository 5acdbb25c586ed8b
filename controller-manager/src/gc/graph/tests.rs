use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn target(kind: &str) -> Arc<Target> {
    Arc::new(Target::new("", "v1", &kind.to_lowercase(), kind))
}

fn meta(name: &str, owners: &[(&str, bool)]) -> ObjectMeta {
    let references = owners.iter().map(|(owner, blocks)| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "K".to_owned(),
        name: (*owner).to_owned(),
        uid: (*owner).to_owned(),
        block_owner_deletion: Some(*blocks),
        controller: None,
    });
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("ns".to_owned()),
        uid: Some(name.to_owned()),
        owner_references: Some(references.collect()),
        ..ObjectMeta::default()
    }
}

fn going(mut meta: ObjectMeta, finalizer: &str) -> ObjectMeta {
    meta.deletion_timestamp = Some(Time(component::clock::now()));
    meta.finalizers = Some(vec![finalizer.to_owned()]);
    meta
}

fn collect(names: &[&str]) -> Vec<Work> {
    names.iter().map(|n| Work::Collect((*n).into())).collect()
}

fn add(graph: &mut Graph, meta: &ObjectMeta) -> Vec<Work> {
    graph.observe(&target("K"), None, meta)
}

#[test]
fn an_owner_that_was_not_seen_is_looked_up() {
    let mut graph = Graph::default();
    assert_eq!(
        add(&mut graph, &meta("child", &[("owner", true)])),
        collect(&["owner"])
    );
    assert!(!graph.get(&"owner".into()).unwrap().is_observed());
    // It comes later than its dependent: all is well.
    assert_eq!(add(&mut graph, &meta("owner", &[])), []);
    assert!(graph.get(&"owner".into()).unwrap().is_observed());
    assert_eq!(graph.dependents(&"owner".into()).len(), 1);
}

#[test]
fn dependents_of_what_is_gone_are_looked_at() {
    let mut graph = Graph::default();
    add(&mut graph, &meta("owner", &[]));
    add(&mut graph, &meta("a", &[("owner", true)]));
    add(&mut graph, &meta("b", &[("owner", false)]));
    assert_eq!(graph.remove(&"owner".into()), collect(&["a", "b"]));
    assert_eq!(graph.remove(&"owner".into()), []);
}

#[test]
fn a_virtual_owner_goes_with_its_last_dependent() {
    let mut graph = Graph::default();
    add(&mut graph, &meta("child", &[("owner", true)]));
    graph.remove(&"child".into());
    assert_eq!(graph.len(), 0);
}

#[test]
fn deletion_in_the_foreground_looks_at_dependents_and_then_at_the_owner() {
    let mut graph = Graph::default();
    let owner = meta("owner", &[]);
    add(&mut graph, &owner);
    add(&mut graph, &meta("a", &[("owner", true)]));
    let waits = going(owner.clone(), FOREGROUND);
    let work = graph.observe(&target("K"), Some(&owner), &waits);
    assert_eq!(work, collect(&["a", "owner"]));
    assert!(graph.get(&"owner".into()).unwrap().deleting_dependents);
    let again = graph.observe(&target("K"), Some(&waits), &waits);
    assert_eq!(again, [], "it is told once");
    // One that comes late is looked at as well.
    assert_eq!(
        add(&mut graph, &meta("b", &[("owner", true)])),
        collect(&["b"])
    );
    assert_eq!(graph.remove(&"a".into()), collect(&["owner"]));
}

#[test]
fn orphaning_is_told_once() {
    let mut graph = Graph::default();
    let owner = meta("owner", &[]);
    add(&mut graph, &owner);
    let going = going(owner.clone(), ORPHAN);
    let work = graph.observe(&target("K"), Some(&owner), &going);
    assert_eq!(work, [Work::Orphan("owner".into())]);
    assert_eq!(graph.observe(&target("K"), Some(&going), &going), []);
}

#[test]
fn an_owner_is_looked_at_when_a_dependent_stops_to_block_it() {
    let mut graph = Graph::default();
    add(&mut graph, &meta("owner", &[]));
    let blocking = meta("a", &[("owner", true)]);
    add(&mut graph, &blocking);
    let free = meta("a", &[("owner", false)]);
    let work = graph.observe(&target("K"), Some(&blocking), &free);
    assert_eq!(work, collect(&["owner"]));
    let without = meta("a", &[]);
    assert_eq!(graph.observe(&target("K"), Some(&free), &without), []);
    assert!(graph.dependents(&"owner".into()).is_empty());
}

#[test]
fn an_owner_of_another_namespace_is_no_owner() {
    let mut graph = Graph::default();
    let mut owner = meta("owner", &[]);
    owner.namespace = Some("elsewhere".to_owned());
    add(&mut graph, &owner);
    let work = add(&mut graph, &meta("a", &[("owner", true)]));
    let misplaced = Work::Misplaced {
        dependent: "a".into(),
        owner: "owner".into(),
    };
    assert_eq!(work, [misplaced, Work::Collect("a".into())]);
}

#[test]
fn an_owner_of_cluster_scope_may_own_in_any_namespace() {
    let mut graph = Graph::default();
    let mut owner = meta("owner", &[]);
    owner.namespace = None;
    add(&mut graph, &owner);
    assert_eq!(add(&mut graph, &meta("a", &[("owner", true)])), []);
}

#[test]
fn a_reference_by_another_name_is_looked_at() {
    let mut graph = Graph::default();
    let mut owner = meta("real-name", &[]);
    owner.uid = Some("owner".to_owned());
    add(&mut graph, &owner);
    assert_eq!(
        add(&mut graph, &meta("a", &[("owner", true)])),
        collect(&["a"])
    );
}
