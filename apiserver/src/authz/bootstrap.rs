//! The roles and bindings that every cluster starts with, and gets back what it lost of them.
//!
//! What they are is a fact of upstream's release (`bootstrap/rbac.txt`). Reconciliation only adds:
//! labels, annotations, rules and subjects that somebody else put there stay; an object with the
//! annotation `rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone. The role of a
//! binding cannot be changed, so a binding to another role is made anew.
//!
//! Upstream: `pkg/registry/rbac/rest/storage_rbac.go`,
//! `component-helpers/auth/rbac/reconciliation`.

use std::sync::Arc;

use futures::StreamExt;
use proto::catalogue::{GateId, Gates, names as n};
use proto::{NameId, Value, meta};
use resources::status::Failure;

use super::rbac::{Rule, uncovered};
use crate::bootstrap::{Hook, Own};
use crate::server::Server;

const POLICY: &str = include_str!("../bootstrap/rbac.txt");
const GROUP: &str = "rbac.authorization.k8s.io";
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Objects that are written at once: the start of a cluster waits for etcd's disk, not for a sum of it.
const AT_ONCE: usize = 16;

/// Makes the policy so.
pub const HOOK: Hook = Hook {
    name: "rbac/bootstrap-roles",
    once: |server| Box::pin(async move { ensure(&server).await }),
    keep: None,
    end: None,
};

/// One object as it should at least be.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    resource: &'static str,
    namespace: &'static str,
    name: &'static str,
    object: Value,
}

async fn ensure(server: &Arc<Server>) -> Result<(), Failure> {
    if server.registry.any_version(GROUP, "clusterroles").is_none() {
        return Ok(());
    }
    let policy = parse(POLICY, server.registry.gates).map_err(Failure::internal)?;
    let all = futures::stream::iter(policy)
        .map(|wanted| reconcile(server.clone(), wanted))
        .buffer_unordered(AT_ONCE);
    // As many as possible are brought about, whatever became of the others.
    let outcomes: Vec<Result<(), Failure>> = all.collect().await;
    outcomes.into_iter().find(Result::is_err).unwrap_or(Ok(()))
}

async fn reconcile(server: Arc<Server>, wanted: Wanted) -> Result<(), Failure> {
    let own = Own::new(&server, GROUP, wanted.resource, wanted.namespace)?;
    if wanted.object.get(n::ROLE_REF).is_some()
        && let Some(there) = own.get(wanted.name).await?
        && there.get(n::ROLE_REF) != wanted.object.get(n::ROLE_REF)
        && !is_protected(&there)
    {
        own.delete(wanted.name).await?;
    }
    own.ensure(wanted.name, |object| merge(object, &wanted.object))
        .await
}

/// The rules of a cluster role of the policy, where these gates are on.
///
/// # Errors
/// If the policy does not have it.
pub fn rules(cluster_role: &str, gates: Gates) -> Result<Vec<Rule>, String> {
    let policy = parse(POLICY, gates)?;
    let role = policy
        .iter()
        .find(|w| w.resource == "clusterroles" && w.name == cluster_role);
    let role =
        role.ok_or_else(|| format!("the bootstrap policy has no cluster role {cluster_role}"))?;
    let rules = role
        .object
        .get(n::RULES)
        .and_then(Value::as_list)
        .unwrap_or_default();
    Ok(rules.iter().map(Rule::of).collect())
}

fn is_protected(object: &Value) -> bool {
    meta::annotation(object, AUTO_UPDATE) == Some("false")
}

/// Adds to an object what it lacks of the wanted one.
fn merge(object: &mut Value, wanted: &Value) {
    if is_protected(object) {
        return;
    }
    for field in [n::LABELS, n::ANNOTATIONS] {
        let Some(entries) = wanted.at(&[n::METADATA, field]).and_then(Value::as_map) else {
            continue;
        };
        let there = object.ensure(&[n::METADATA, field]).make_map();
        for (key, value) in entries
            .iter()
            .filter(|(key, _)| !there.contains(*key))
            .collect::<Vec<_>>()
        {
            there.insert(key, value.clone());
        }
    }
    merge_rules(object, wanted);
    match wanted.at(&SELECTORS) {
        Some(_) => add_missing(object, wanted, &SELECTORS),
        None => drop(object.remove(&[n::AGGREGATION_RULE])),
    }
    add_missing(object, wanted, &[n::SUBJECTS]);
    if let Some(role) = wanted
        .get(n::ROLE_REF)
        .filter(|_| object.get(n::ROLE_REF).is_none_or(is_unset))
    {
        object.set(&[n::ROLE_REF], role.clone());
    }
}

const SELECTORS: [NameId; 2] = [n::AGGREGATION_RULE, n::CLUSTER_ROLE_SELECTORS];

fn is_unset(role: &Value) -> bool {
    role.get(n::NAME)
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
}

fn merge_rules(object: &mut Value, wanted: &Value) {
    let Some(wanted) = wanted.get(n::RULES).and_then(Value::as_list) else {
        return;
    };
    let there = object.ensure(&[n::RULES]).make_list();
    if there.is_empty() {
        *there = wanted.to_vec();
        return;
    }
    let held: Vec<Rule> = there.iter().map(Rule::of).collect();
    let wanted: Vec<Rule> = wanted.iter().map(Rule::of).collect();
    there.extend(uncovered(&held, &wanted).iter().map(Rule::to_value));
}

/// Appends the items of a list that are not in it.
fn add_missing(object: &mut Value, wanted: &Value, list: &[NameId]) {
    let Some(items) = wanted.at(list).and_then(Value::as_list) else {
        return;
    };
    let there = object.ensure(list).make_list();
    for item in items {
        if !there.contains(item) {
            there.push(item.clone());
        }
    }
}

/// The objects of a policy text, see its header, with what these gates make of them.
fn parse(text: &'static str, gates: Gates) -> Result<Vec<Wanted>, String> {
    let mut all: Vec<Wanted> = Vec::new();
    // Whether the object that is read is one of this server's.
    let mut is_there = true;
    let lines = text.lines().enumerate();
    let mut lines = lines
        .filter(|(_, l)| !l.starts_with('#') && !l.trim().is_empty())
        .map(|(i, line)| (i, line, line.split_whitespace().collect::<Vec<_>>()))
        .peekable();
    while let Some((i, line, words)) = lines.next() {
        let wrong = || format!("line {} of the bootstrap policy is not understood", i + 1);
        let needs = lines.next_if(|(_, _, next)| next[0] == "needs");
        let needs = needs.map_or_else(Vec::new, |(_, _, words)| words);
        let mut on = true;
        for gate in needs.iter().skip(1) {
            on &= is_on(gates, gate).ok_or_else(wrong)?;
        }
        if !line.starts_with(' ') {
            is_there = on;
            let head = head(&words).ok_or_else(wrong)?;
            all.extend(Some(head).filter(|_| is_there));
        } else if is_there && on {
            let current = all.last_mut().ok_or_else(wrong)?;
            part(&mut current.object, &words, gates).ok_or_else(wrong)?;
        }
    }
    Ok(all)
}

/// None if there is no such gate.
fn is_on(gates: Gates, gate: &str) -> Option<bool> {
    GateId::find(gate).map(|gate| gates.has(gate))
}

fn head(words: &[&'static str]) -> Option<Wanted> {
    let (resource, named, role) = match words {
        ["clusterrole", name] => ("clusterroles", *name, None),
        ["role", name] => ("roles", *name, None),
        ["clusterrolebinding", name, role] => ("clusterrolebindings", *name, Some(*role)),
        ["rolebinding", name, role] => ("rolebindings", *name, Some(*role)),
        _ => return None,
    };
    let (namespace, name) = if resource.starts_with("cluster") {
        ("", named)
    } else {
        named.split_once('/')?
    };
    let mut object = Value::object();
    meta::set_label(&mut object, "kubernetes.io/bootstrapping", "rbac-defaults");
    meta::set_annotation(&mut object, AUTO_UPDATE, "true");
    if let Some(role) = role {
        let (kind, role) = role.split_once('/')?;
        let kind = if kind == "clusterrole" {
            "ClusterRole"
        } else {
            "Role"
        };
        object.set(
            &[n::ROLE_REF],
            fields(&[(n::API_GROUP, GROUP), (n::KIND, kind), (n::NAME, role)]),
        );
    }
    Some(Wanted {
        resource,
        namespace,
        name,
        object,
    })
}

fn part(object: &mut Value, words: &[&str], gates: Gates) -> Option<()> {
    match words {
        ["label", key, value] => meta::set_label(object, key, value),
        ["aggregate", key, value] => {
            let mut selector = Value::object();
            selector
                .ensure(&[n::MATCH_LABELS])
                .make_map()
                .insert(*key, *value);
            object.ensure(&SELECTORS).make_list().push(selector);
        }
        ["rule", groups, resources, verbs, names @ ..] => {
            let names = names.first().map(|l| list(l)).unwrap_or_default();
            let rule = Rule {
                verbs: list(verbs),
                groups: list(groups),
                resources: list(resources),
                names,
                paths: Vec::new(),
            };
            object.ensure(&[n::RULES]).make_list().push(rule.to_value());
        }
        ["url", paths, verbs] => {
            let mut there = Vec::new();
            for path in paths.split(',') {
                match path.split_once('?') {
                    Some((path, gate)) if is_on(gates, gate)? => there.push(path.into()),
                    Some(_) => {}
                    None => there.push(path.into()),
                }
            }
            let rule = Rule {
                verbs: list(verbs),
                paths: there,
                ..Rule::default()
            };
            object.ensure(&[n::RULES]).make_list().push(rule.to_value());
        }
        ["user", name] => subject(
            object,
            &[(n::API_GROUP, GROUP), (n::KIND, "User"), (n::NAME, name)],
        ),
        ["group", name] => subject(
            object,
            &[(n::API_GROUP, GROUP), (n::KIND, "Group"), (n::NAME, name)],
        ),
        ["serviceaccount", name] => {
            let (namespace, name) = name.split_once('/')?;
            subject(
                object,
                &[
                    (n::KIND, "ServiceAccount"),
                    (n::NAME, name),
                    (n::NAMESPACE, namespace),
                ],
            );
        }
        _ => return None,
    }
    Some(())
}

/// A list between commas; a dash is the empty text, which is the core group.
fn list(text: &str) -> Vec<Box<str>> {
    text.split(',')
        .map(|item| if item == "-" { "".into() } else { item.into() })
        .collect()
}

fn subject(object: &mut Value, of: &[(NameId, &str)]) {
    object.ensure(&[n::SUBJECTS]).make_list().push(fields(of));
}

fn fields(of: &[(NameId, &str)]) -> Value {
    let mut value = Value::object();
    for (name, text) in of {
        value.set(&[*name], *text);
    }
    value
}

#[cfg(test)]
mod tests {
    use proto::catalogue::{Release, gate};

    use super::*;

    fn wanted(name: &str) -> Wanted {
        let policy = parse(POLICY, Gates::defaults()).unwrap();
        policy.into_iter().find(|w| w.name == name).unwrap()
    }

    #[test]
    fn the_whole_policy_is_understood() {
        let policy = parse(POLICY, Gates::defaults()).unwrap();
        let count = |resource: &str| policy.iter().filter(|w| w.resource == resource).count();
        assert_eq!(policy.len(), 141);
        assert_eq!((count("roles"), count("rolebindings")), (7, 7));
        let unlabelled = policy
            .iter()
            .find(|w| meta::label(&w.object, "kubernetes.io/bootstrapping").is_none());
        assert_eq!(unlabelled, None);
        let admin = wanted("cluster-admin");
        let rules: Vec<Rule> = admin
            .object
            .get(n::RULES)
            .and_then(Value::as_list)
            .unwrap()
            .iter()
            .map(Rule::of)
            .collect();
        assert!(rules[0].groups == ["*".into()] && rules[1].paths == ["*".into()]);
        let reader = wanted("system::extension-apiserver-authentication-reader");
        assert_eq!(
            (reader.resource, reader.namespace),
            ("rolebindings", "kube-system")
        );
        assert_eq!(
            reader
                .object
                .at(&[n::ROLE_REF, n::KIND])
                .and_then(Value::as_str),
            Some("Role")
        );
    }

    #[test]
    fn a_wrong_line_is_an_error_and_no_smaller_policy() {
        assert!(parse("clusterrole a\n  rule - pods\n", Gates::defaults()).is_err());
        assert!(parse("  rule - pods get\n", Gates::defaults()).is_err());
        assert!(parse("role a\n", Gates::defaults()).is_err());
    }

    #[test]
    fn what_is_behind_a_gate_is_there_while_it_is_on() {
        let with = |gate, on| parse(POLICY, Gates::defaults().with(gate, on)).unwrap();
        let is_there = |policy: &[Wanted], name: &str| policy.iter().any(|w| w.name == name);
        let protection = "system:controller:podgroup-protection-controller";
        let workloads = gate::GENERIC_WORKLOAD;
        assert_eq!(
            [false, true].map(|on| is_there(&with(workloads, on), protection)),
            [false, true],
            "with its binding, or without"
        );
        assert_eq!(
            with(workloads, true).len(),
            with(workloads, false).len() + 2
        );
        let text = |on| {
            let policy = with(workloads, on);
            let view = policy.iter().find(|w| w.name == "system:aggregate-to-view");
            format!("{:?}", view.unwrap().object)
        };
        assert!(text(true).contains("podgroups") && !text(false).contains("podgroups"));
        let monitoring = |gates| {
            let rules = rules("system:monitoring", gates).unwrap();
            rules[0].paths.clone()
        };
        let (now, old) = (
            monitoring(Gates::defaults()),
            monitoring(Gates::at(Release::new(1, 34), Release::new(1, 34))),
        );
        assert!(now.contains(&"/flagz".into()) && now.contains(&"/statusz".into()));
        assert!(!old.contains(&"/flagz".into()) && old.contains(&"/metrics".into()));
        assert!(parse("role a/b\n  needs NoGate\n", Gates::defaults()).is_err());
    }

    #[test]
    fn a_fresh_object_becomes_the_wanted_one() {
        for wanted in parse(POLICY, Gates::defaults()).unwrap() {
            let mut object = Value::object();
            merge(&mut object, &wanted.object);
            assert_eq!(object, wanted.object, "{}", wanted.name);
            merge(&mut object, &wanted.object);
            assert_eq!(object, wanted.object, "{} is not merged twice", wanted.name);
        }
    }

    #[test]
    fn only_what_is_missing_is_added() {
        let wanted = wanted("system:basic-user");
        let mut object = Value::object();
        let own = Rule {
            verbs: list("get"),
            groups: list("-"),
            resources: list("pods"),
            ..Rule::default()
        };
        object.ensure(&[n::RULES]).make_list().push(own.to_value());
        meta::set_label(&mut object, "kubernetes.io/bootstrapping", "mine");
        match wanted.resource {
            "clusterroles" => merge(&mut object, &wanted.object),
            other => panic!("{other} came first"),
        }
        let rules = object.get(n::RULES).and_then(Value::as_list).unwrap();
        assert_eq!(
            rules.len(),
            1 + 3,
            "each missing permission alone, as upstream adds it"
        );
        assert_eq!(
            meta::label(&object, "kubernetes.io/bootstrapping"),
            Some("mine")
        );
    }

    #[test]
    fn a_protected_object_is_left_alone() {
        let wanted = wanted("system:basic-user");
        let mut object = Value::object();
        meta::set_annotation(&mut object, AUTO_UPDATE, "false");
        let before = object.clone();
        merge(&mut object, &wanted.object);
        assert_eq!(object, before);
    }

    #[test]
    fn a_role_that_should_not_aggregate_any_more_stops() {
        let wanted = wanted("system:basic-user");
        let mut object = wanted.object.clone();
        object.ensure(&SELECTORS).make_list().push(Value::object());
        merge(&mut object, &wanted.object);
        assert_eq!(object.get(n::AGGREGATION_RULE), None);
    }
}
