//! Nobody gives what he does not have: whoever writes a role must hold everything that it allows, and
//! whoever binds a role everything that the role allows, unless he may `escalate` or `bind` it.
//!
//! It is no admission plugin, as it cannot be switched off. Upstream:
//! `pkg/registry/rbac/*/policybased/storage.go`, `pkg/registry/rbac/validation`.

use std::collections::{BTreeMap, BTreeSet};

use proto::catalogue::names as n;
use proto::path::quote;
use proto::{Value, meta};
use resources::equal::same;
use resources::status::Failure;

use super::rbac::{Rule, uncovered};
use super::{Attributes, Decision};
use crate::admission::{self, Operation};
use crate::auth::User;
use crate::server::Server;

const GROUP: &str = "rbac.authorization.k8s.io";
const ROLES: &str = "roles";
const CLUSTER_ROLES: &str = "clusterroles";

/// Refuses a write of a role or a binding that gives more than the writer has.
///
/// # Errors
/// 403 with what he lacks; 404 if the role that is bound does not exist.
pub async fn check(server: &Server, write: &admission::Attributes<'_>) -> Result<(), Failure> {
    if write.resource.group != GROUP
        || !matches!(write.operation, Operation::Create | Operation::Update)
        || write.user.is_in(User::MASTERS)
    {
        return Ok(());
    }
    let Some(new) = write.object.as_deref() else {
        return Ok(());
    };
    if write.old.is_some_and(|old| only_lets_go(new, old)) {
        return Ok(());
    }
    match write.resource.name {
        ROLES | CLUSTER_ROLES => role(server, write, new).await,
        _ => binding(server, write, new).await,
    }
}

async fn role(
    server: &Server,
    write: &admission::Attributes<'_>,
    new: &Value,
) -> Result<(), Failure> {
    let asked = Attributes {
        namespace: write.namespace,
        // What is created has no name in its request.
        name: write.old.map(|_| write.name).unwrap_or_default(),
        ..Attributes::about(write.user, "escalate", GROUP, "*", write.resource.name)
    };
    if server.authorizers.decide(&asked).await == Decision::Allow {
        return Ok(());
    }
    let held = held(server, write);
    confirm(write.user, &held, &rules_of(new)).map_err(|why| forbidden(write, new, &why))?;
    // It gathers whatever others will write into roles.
    if [Some(new), write.old].into_iter().flatten().any(aggregates)
        && !uncovered(&held.0, &everything()).is_empty()
    {
        let why = "must have cluster-admin privileges to use the aggregationRule";
        return Err(forbidden(write, new, why));
    }
    Ok(())
}

async fn binding(
    server: &Server,
    write: &admission::Attributes<'_>,
    new: &Value,
) -> Result<(), Failure> {
    let text = |name| {
        let found = new.at(&[n::ROLE_REF, name]);
        found.and_then(Value::as_str).unwrap_or_default()
    };
    let (resource, namespace) = match text(n::KIND) {
        "ClusterRole" => (CLUSTER_ROLES, ""),
        _ => (ROLES, write.namespace),
    };
    let name = text(n::NAME);
    let asked = Attributes {
        namespace: write.namespace,
        name,
        ..Attributes::about(write.user, "bind", text(n::API_GROUP), "*", resource)
    };
    if server.authorizers.decide(&asked).await == Decision::Allow {
        return Ok(());
    }
    let role = server.lookup(GROUP, resource, namespace, name).await?;
    let role = role.ok_or_else(|| Failure::not_found(GROUP, resource, name))?;
    confirm(write.user, &held(server, write), &rules_of(&role))
        .map_err(|why| forbidden(write, new, &why))
}

/// What the writer may do where he writes, and what is wrong with his bindings.
fn held(server: &Server, write: &admission::Attributes<'_>) -> (Vec<Rule>, Vec<String>) {
    let rbac = server.authorizers.rbac();
    rbac.map(|rbac| rbac.rules_for(write.user, write.namespace))
        .unwrap_or_default()
}

fn rules_of(role: &Value) -> Vec<Rule> {
    let rules = role.get(n::RULES).and_then(Value::as_list);
    rules.unwrap_or_default().iter().map(Rule::of).collect()
}

fn aggregates(role: &Value) -> bool {
    let selectors = role.at(&[n::AGGREGATION_RULE, n::CLUSTER_ROLE_SELECTORS]);
    selectors
        .and_then(Value::as_list)
        .is_some_and(|list| !list.is_empty())
}

fn everything() -> [Rule; 2] {
    let all = || vec![Box::from("*")];
    let resources = Rule {
        verbs: all(),
        groups: all(),
        resources: all(),
        ..Rule::default()
    };
    let paths = Rule {
        verbs: all(),
        paths: all(),
        ..Rule::default()
    };
    [resources, paths]
}

fn forbidden(write: &admission::Attributes<'_>, new: &Value, why: &str) -> Failure {
    Failure::forbidden(GROUP, write.resource.name, meta::name(new), why)
}

/// Whether nothing changes but what lets an object be deleted.
fn only_lets_go(new: &Value, old: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        for field in [n::OWNER_REFERENCES, n::FINALIZERS, n::MANAGED_FIELDS] {
            object.remove(&[n::METADATA, field]);
        }
        object
    };
    same(&bare(new), &bare(old))
}

/// Upstream's `ConfirmNoEscalation`, with what is missing in its words.
fn confirm(user: &User, held: &(Vec<Rule>, Vec<String>), wanted: &[Rule]) -> Result<(), String> {
    let (rules, errors) = held;
    let missing = uncovered(rules, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let missing: BTreeSet<String> = compact(missing).iter().map(describe).collect();
    let mut why = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        quote(&user.name),
        list(&user.groups),
        missing.into_iter().collect::<Vec<_>>().join("\n")
    );
    if !errors.is_empty() {
        why += &format!("; resolution errors: [{}]", proto::path::aggregate(errors));
    }
    Err(why)
}

/// Single permissions on one resource, put together by their verbs.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut simple = BTreeMap::<_, Rule>::new();
    let mut others = Vec::new();
    for rule in rules {
        let ([group], [resource]) = (&*rule.groups, &*rule.resources) else {
            others.push(rule);
            continue;
        };
        let key = (group.clone(), resource.clone(), rule.names.first().cloned());
        match simple.get_mut(&key) {
            Some(same) => same.verbs.extend(rule.verbs),
            None => drop(simple.insert(key, rule)),
        }
    }
    others.extend(simple.into_values());
    others
}

fn describe(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.paths),
        ("ResourceNames", &rule.names),
        ("Verbs", &rule.verbs),
    ];
    let given = parts.into_iter().filter(|(_, texts)| !texts.is_empty());
    let shown: Vec<String> = given
        .map(|(name, texts)| format!("{name}:{}", list(texts)))
        .collect();
    format!("{{{}}}", shown.join(", "))
}

/// A list as Go prints it.
fn list<T: AsRef<str>>(texts: &[T]) -> String {
    let quoted: Vec<String> = texts.iter().map(|t| quote(t.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], resources: &[&str]) -> Rule {
        let texts = |of: &[&str]| of.iter().map(|t| (*t).into()).collect();
        Rule {
            verbs: texts(verbs),
            groups: texts(&[""]),
            resources: texts(resources),
            ..Rule::default()
        }
    }

    #[test]
    fn what_is_missing_is_told_by_resource() {
        let user = User {
            name: "ann".to_owned(),
            groups: vec!["dev".to_owned(), "ops".to_owned()],
            ..User::default()
        };
        let held = (vec![rule(&["get"], &["pods"])], Vec::new());
        assert_eq!(confirm(&user, &held, &[rule(&["get"], &["pods"])]), Ok(()));
        let wanted = [rule(&["get", "list", "watch"], &["pods", "secrets"])];
        let why = confirm(&user, &held, &wanted).unwrap_err();
        let text = "user \"ann\" (groups=[\"dev\" \"ops\"]) is attempting to grant RBAC permissions not currently held:\n\
                    {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"watch\"]}\n\
                    {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\" \"watch\"]}";
        assert_eq!(why, text);
    }

    #[test]
    fn everything_is_covered_by_everything_alone() {
        let all = everything();
        assert!(uncovered(&all, &all).is_empty());
        let resources = all[0].clone();
        assert_eq!(uncovered(&[resources], &all).len(), 1);
    }
}
