//! Rules of roles, compiled: what one allows, and what a list of them covers.

use proto::Value;
use proto::catalogue::names as n;

use crate::authz::Attributes;

/// One rule of a role, compiled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    pub verbs: Vec<Box<str>>,
    pub groups: Vec<Box<str>>,
    pub resources: Vec<Box<str>>,
    pub names: Vec<Box<str>>,
    pub paths: Vec<Box<str>>,
}

fn texts(rule: &Value, name: proto::NameId) -> Vec<Box<str>> {
    let items = rule.get(name).and_then(Value::as_list).unwrap_or_default();
    items
        .iter()
        .filter_map(|v| v.as_str().map(Into::into))
        .collect()
}

fn has(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|v| **v == *"*" || **v == *wanted)
}

impl Rule {
    #[must_use]
    pub fn of(rule: &Value) -> Self {
        Self {
            verbs: texts(rule, n::VERBS),
            groups: texts(rule, n::API_GROUPS),
            resources: texts(rule, n::RESOURCES),
            names: texts(rule, n::RESOURCE_NAMES),
            paths: texts(rule, n::NON_RESOURCE_URLS),
        }
    }

    /// The rule as an object; what is empty is absent.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut value = Value::object();
        let lists = [
            (n::VERBS, &self.verbs),
            (n::API_GROUPS, &self.groups),
            (n::RESOURCES, &self.resources),
            (n::RESOURCE_NAMES, &self.names),
            (n::NON_RESOURCE_URLS, &self.paths),
        ];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            value.set(
                &[name],
                list.iter()
                    .map(|text| Value::from(&**text))
                    .collect::<Vec<_>>(),
            );
        }
        value
    }

    /// Upstream's `RuleAllows`.
    #[must_use]
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) {
            return false;
        }
        if !asked.is_resource {
            return self.allows_path(asked.path);
        }
        has(&self.groups, asked.group)
            && self.allows_resource(asked)
            && (self.names.is_empty() || self.names.iter().any(|v| **v == *asked.name))
    }

    fn allows_path(&self, path: &str) -> bool {
        self.paths
            .iter()
            .any(|allowed| match allowed.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => **allowed == *path,
            })
    }

    /// `pods`, `pods/log`, `*/scale`, `*`.
    fn allows_resource(&self, asked: &Attributes<'_>) -> bool {
        self.resources.iter().any(|allowed| {
            if **allowed == *"*" {
                return true;
            }
            match allowed.split_once('/') {
                None => asked.subresource.is_empty() && **allowed == *asked.resource,
                Some((resource, subresource)) => {
                    !asked.subresource.is_empty()
                        && subresource == asked.subresource
                        && (resource == "*" || resource == asked.resource)
                }
            }
        })
    }
}

/// The rules of `wanted` that `held` do not cover: upstream's `Covers`. Each rule is broken into single
/// permissions; a single permission is covered by one held rule.
#[must_use]
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted
        .iter()
        .flat_map(singles)
        .filter(|single| !held.iter().any(|rule| covers(rule, single)))
        .collect()
}

fn singles(rule: &Rule) -> Vec<Rule> {
    let mut all = Vec::new();
    for verb in &rule.verbs {
        for path in &rule.paths {
            all.push(Rule {
                verbs: vec![verb.clone()],
                paths: vec![path.clone()],
                ..Rule::default()
            });
        }
        for group in &rule.groups {
            for resource in &rule.resources {
                let one = Rule {
                    verbs: vec![verb.clone()],
                    groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                if rule.names.is_empty() {
                    all.push(one);
                } else {
                    all.extend(rule.names.iter().map(|name| Rule {
                        names: vec![name.clone()],
                        ..one.clone()
                    }));
                }
            }
        }
    }
    all
}

fn covers(held: &Rule, single: &Rule) -> bool {
    let in_list = |list: &[Box<str>], wanted: &[Box<str>]| wanted.iter().all(|w| has(list, w));
    if !in_list(&held.verbs, &single.verbs) {
        return false;
    }
    if let Some(path) = single.paths.first() {
        return held.paths.iter().any(|h| {
            h == path
                || h.strip_suffix('*')
                    .is_some_and(|prefix| path.starts_with(prefix))
        });
    }
    let resources = single.resources.iter().all(|w| {
        has(&held.resources, w)
            || w.split_once('/')
                .is_some_and(|(_, sub)| held.resources.iter().any(|h| **h == *format!("*/{sub}")))
    });
    let names = held.names.is_empty()
        || (!single.names.is_empty() && single.names.iter().all(|w| held.names.contains(w)));
    in_list(&held.groups, &single.groups) && resources && names
}
