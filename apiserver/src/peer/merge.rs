//! What several servers serve, as one: everything that one of them has, in an order that none of them contradicts.
//!
//! Upstream: `mergeResources` of `peer_aggregated_handler.go`, `MergePreservingRelativeOrder` of
//! `apimachinery/pkg/util/sort`.

use std::collections::{BTreeMap, BTreeSet};

use proto::catalogue::names as n;
use proto::meta::name;
use proto::{NameId, Value};

use super::known::{list, text};

/// The groups of several servers, who are told apart, and asked in the order of, their identities.
pub(super) fn groups(servers: &BTreeMap<&str, &[Value]>) -> Vec<Value> {
    let lists: Vec<&[Value]> = servers.values().copied().collect();
    union(&lists, name, group)
}

fn group(one: &Value, other: &Value) -> Value {
    let version = |v: &Value, w: &Value| {
        let lists = [list(v, n::RESOURCES), list(w, n::RESOURCES)];
        with(
            v,
            n::RESOURCES,
            union(&lists, |r| text(r, n::RESOURCE), resource),
        )
    };
    let lists = [list(one, n::VERSIONS), list(other, n::VERSIONS)];
    with(
        one,
        n::VERSIONS,
        union(&lists, |v| text(v, n::VERSION), version),
    )
}

/// What both can do, and what is below it in one of them, by name.
fn resource(one: &Value, other: &Value) -> Value {
    if one == other {
        return one.clone();
    }
    let both = [one, other];
    let verbs = both.iter().flat_map(|r| list(r, n::VERBS));
    let verbs: BTreeSet<&str> = verbs.filter_map(Value::as_str).collect();
    let below = both.iter().flat_map(|r| list(r, n::SUBRESOURCES));
    let below: BTreeMap<&str, &Value> = below.map(|s| (text(s, n::SUBRESOURCE), s)).collect();
    let verbs = verbs.into_iter().map(Value::from).collect();
    let merged = with(one, n::VERBS, verbs);
    with(
        &merged,
        n::SUBRESOURCES,
        below.into_values().cloned().collect(),
    )
}

/// The same with another list, which is left out if it is empty.
fn with(owner: &Value, field: NameId, items: Vec<Value>) -> Value {
    let mut owner = owner.clone();
    if items.is_empty() {
        owner.remove(&[field]);
    } else {
        owner.set(&[field], items);
    }
    owner
}

/// What is in one of several lists; what is in more than one is joined.
fn union<'v>(
    lists: &[&'v [Value]],
    key: impl Fn(&'v Value) -> &'v str,
    join: impl Fn(&Value, &Value) -> Value,
) -> Vec<Value> {
    let keys: Vec<Vec<&str>> = lists
        .iter()
        .map(|list| list.iter().map(&key).collect())
        .collect();
    let mut merged: BTreeMap<&str, Value> = BTreeMap::new();
    for (name, item) in keys.iter().flatten().zip(lists.iter().copied().flatten()) {
        let joined = match merged.get(name) {
            Some(before) => join(before, item),
            None => item.clone(),
        };
        merged.insert(name, joined);
    }
    let ordered = in_order(&keys).into_iter();
    ordered.filter_map(|name| merged.remove(name)).collect()
}

/// Every name once, each before those that it is before in a list; what no list orders is in the order of the alphabet,
/// and everything is where lists contradict each other.
fn in_order<'n>(lists: &[Vec<&'n str>]) -> Vec<&'n str> {
    let all: BTreeSet<&str> = lists.iter().flatten().copied().collect();
    let is_whole = |list: &&Vec<&str>| {
        list.len() == all.len() && list.iter().collect::<BTreeSet<_>>().len() == all.len()
    };
    if let Some(whole) = lists.iter().find(is_whole) {
        return whole.clone();
    }
    let steps: BTreeSet<(&str, &str)> = lists
        .iter()
        .flat_map(|list| list.windows(2).map(|pair| (pair[0], pair[1])))
        .collect();
    let mut before: BTreeMap<&str, usize> = all.iter().map(|name| (*name, 0)).collect();
    for (_, later) in &steps {
        *before.entry(later).or_default() += 1;
    }
    let mut free: BTreeSet<&str> = all
        .iter()
        .copied()
        .filter(|name| before[name] == 0)
        .collect();
    let mut ordered = Vec::with_capacity(all.len());
    while let Some(name) = free.pop_first() {
        ordered.push(name);
        for (_, later) in steps
            .range((name, "")..)
            .take_while(|(first, _)| *first == name)
        {
            let left = before.entry(later).or_default();
            *left -= 1;
            if *left == 0 {
                free.insert(later);
            }
        }
    }
    if ordered.len() < all.len() {
        return all.into_iter().collect();
    }
    ordered
}

#[cfg(test)]
mod tests {
    use proto::codec::json::parse;

    use super::*;

    fn value(text: &str) -> Value {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_keep_the_order_of_every_list() {
        assert_eq!(
            in_order(&[vec!["b", "c"], vec!["a", "b", "c"]]),
            ["a", "b", "c"]
        );
        assert_eq!(in_order(&[vec!["a", "c"], vec!["b", "c"]]), ["a", "b", "c"]);
        assert_eq!(
            in_order(&[vec!["z", "m", "a"], vec!["z", "b", "a"]]),
            ["z", "b", "m", "a"]
        );
        assert_eq!(
            in_order(&[vec!["b", "a", "c"], vec!["a", "b", "d"]]),
            ["a", "b", "c", "d"]
        );
    }

    #[test]
    fn servers_are_told_as_one_that_has_what_either_has() {
        let ours = [value(
            r#"{"metadata":{"name":"apps"},"versions":[{"version":"v1","freshness":"Current","resources":[
                {"resource":"deployments","verbs":["get","list"],"subresources":[{"subresource":"status"}]}]}]}"#,
        )];
        let theirs = [
            value(
                r#"{"metadata":{"name":"apps"},"versions":[{"version":"v1","freshness":"Current","resources":[
                {"resource":"deployments","verbs":["get","create"],"subresources":[{"subresource":"scale"}]},
                {"resource":"replicasets","verbs":["get"]}]},{"version":"v1beta1","resources":[{"resource":"x"}]}]}"#,
            ),
            value(
                r#"{"metadata":{"name":"new"},"versions":[{"version":"v1","resources":[{"resource":"y"}]}]}"#,
            ),
        ];
        let merged = groups(&[("a", &ours[..]), ("b", &theirs[..])].into());
        let apps = value(
            r#"{"metadata":{"name":"apps"},"versions":[{"version":"v1","freshness":"Current","resources":[
                {"resource":"deployments","verbs":["create","get","list"],
                    "subresources":[{"subresource":"scale"},{"subresource":"status"}]},
                {"resource":"replicasets","verbs":["get"]}]},{"version":"v1beta1","resources":[{"resource":"x"}]}]}"#,
        );
        assert_eq!(merged, [apps, theirs[1].clone()]);
        assert_eq!(groups(&[("a", &ours[..])].into()), ours);
    }
}
