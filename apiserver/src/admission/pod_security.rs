//! `PodSecurity`: pods keep to the standard that the labels of their namespace name.
//!
//! A namespace enforces a level, and warns of what a stricter one would refuse; a version pins the
//! rules to those of a release. Workloads that hold a template are only warned about, their pods are
//! what is refused. Levels for audit are read and checked, but nothing is audited yet.
//!
//! Upstream: `k8s.io/pod-security-admission`.

use std::collections::{BTreeMap, HashSet};

use proto::catalogue::names as n;
use proto::path::{FieldError, quote};
use proto::{NameId, Value, meta};
use resources::status::Failure;

use self::checks::Subject;
use super::{Attributes, Operation, Plugin, in_namespace};
use crate::server::Server;

mod checks;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "PodSecurity",
    on_by_default: true,
    mutate: None,
    validate: Some(|server, write| Box::pin(validate(server, write))),
};

/// Existing pods that are looked at when a namespace becomes stricter; upstream's default.
const PODS_CHECKED: usize = 3000;
/// The release whose rules are the latest.
const NEWEST: u32 = 37;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level, as of the release 1.`minor`; none is the latest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Standard {
    level: Level,
    minor: Option<u32>,
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            Some(minor) => write!(f, "{level}:v1.{minor}"),
            None => write!(f, "{level}:latest"),
        }
    }
}

/// What a namespace asks for.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Policy {
    enforce: Standard,
    warn: Standard,
}

fn level(text: &str) -> Result<Level, &'static str> {
    match text {
        "privileged" => Ok(Level::Privileged),
        "baseline" => Ok(Level::Baseline),
        "restricted" => Ok(Level::Restricted),
        _ => Err("must be one of privileged, baseline, restricted"),
    }
}

fn version(text: &str) -> Result<Option<u32>, &'static str> {
    const PROBLEM: &str = "must be \"latest\" or \"v1.x\"";
    if text == "latest" {
        return Ok(None);
    }
    let minor = text
        .strip_prefix("v1.")
        .filter(|m| *m == "0" || !m.starts_with('0') && m.bytes().all(|b| b.is_ascii_digit()));
    minor.and_then(|m| m.parse().ok()).map(Some).ok_or(PROBLEM)
}

/// The policy in a namespace's labels, and what is wrong with them. What cannot be read enforces the
/// most and warns of nothing.
fn policy(namespace: &Value) -> (Policy, Vec<FieldError>) {
    let mut errors = Vec::new();
    let mut standard = |mode: &str, otherwise: Level| {
        let mut standard = Standard {
            level: Level::Privileged,
            minor: None,
        };
        let mut problem = |key: &str, value: &str, why: &str| {
            errors.push(FieldError::invalid(
                format!("metadata.labels[{key}]"),
                value,
                why,
            ))
        };
        let key = format!("pod-security.kubernetes.io/{mode}");
        let given = meta::label(namespace, &key);
        if let Some(text) = given {
            standard.level = level(text).unwrap_or_else(|why| {
                problem(&key, text, why);
                otherwise
            });
        }
        let key = format!("{key}-version");
        let versioned = meta::label(namespace, &key);
        if let Some(text) = versioned {
            standard.minor = version(text).unwrap_or_else(|why| {
                problem(&key, text, why);
                None
            });
        }
        let understood = given.is_some_and(|text| level(text).is_ok());
        (standard, given.is_some(), understood, versioned.is_some())
    };
    let (enforce, _, understood, _) = standard("enforce", Level::Restricted);
    standard("audit", Level::Privileged);
    let (mut warn, given, _, versioned) = standard("warn", Level::Privileged);
    // Who enforces a level should see what his workloads' pods will meet.
    if !given && understood && enforce.level > warn.level {
        warn.level = enforce.level;
        if !versioned {
            warn.minor = enforce.minor;
        }
    }
    (Policy { enforce, warn }, errors)
}

/// What a pod does that a standard forbids, reason and detail of each.
fn violations(standard: Standard, subject: Subject<'_>) -> Vec<(String, String)> {
    let minor = standard.minor.unwrap_or(NEWEST).min(NEWEST);
    checks::of(standard.level, minor)
        .into_iter()
        .filter_map(|check| check(subject))
        .collect()
}

fn detailed(violations: &[(String, String)]) -> String {
    let each = violations
        .iter()
        .map(|(reason, detail)| match detail.as_str() {
            "" => reason.clone(),
            detail => format!("{reason} ({detail})"),
        });
    each.collect::<Vec<_>>().join(", ")
}

async fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !matches!(write.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    if write.is_any("", "namespaces") {
        return if write.subresource.is_empty() {
            namespace(server, write)
        } else {
            Ok(())
        };
    }
    let is_pod = write.is_any("", "pods");
    let ignored = [
        "exec",
        "attach",
        "binding",
        "eviction",
        "log",
        "portforward",
        "proxy",
        "status",
    ];
    if is_pod && ignored.contains(&write.subresource) || !is_pod && !write.subresource.is_empty() {
        return Ok(());
    }
    let template = if is_pod {
        Some(&[][..])
    } else {
        template(write.resource.group, write.resource.name)
    };
    let Some(path) = template else { return Ok(()) };
    let Some(of) = server.lookup("", "namespaces", "", write.namespace).await? else {
        return if is_pod {
            Err(Failure::internal(format!(
                "failed to lookup namespace {}",
                quote(write.namespace)
            )))
        } else {
            Ok(())
        };
    };
    let (policy, _) = policy(&of);
    if policy.warn.level == Level::Privileged
        && (!is_pod || policy.enforce.level == Level::Privileged)
    {
        return Ok(());
    }
    let Some(pod) = write.object.as_deref().and_then(|o| o.at(path)) else {
        return Ok(());
    };
    if is_pod && write.old.is_some_and(|old| !brings_images(pod, old)) {
        return Ok(());
    }
    let Some(subject) = Subject::of(pod) else {
        return Ok(());
    };
    let refused = if is_pod {
        violations(policy.enforce, subject)
    } else {
        Vec::new()
    };
    if !refused.is_empty() {
        let why = format!(
            "violates PodSecurity \"{}\": {}",
            policy.enforce,
            detailed(&refused)
        );
        return Err(write.forbid(&why));
    }
    let warned = violations(policy.warn, subject);
    if !warned.is_empty() {
        write.warnings.push(format!(
            "would violate PodSecurity \"{}\": {}",
            policy.warn,
            detailed(&warned)
        ));
    }
    Ok(())
}

/// Where a workload keeps the template of its pods.
fn template(group: &str, resource: &str) -> Option<&'static [NameId]> {
    match (group, resource) {
        ("", "podtemplates") => Some(&[n::TEMPLATE]),
        ("batch", "cronjobs") => Some(&[n::SPEC, n::JOB_TEMPLATE, n::SPEC, n::TEMPLATE]),
        ("", "replicationcontrollers") | ("batch", "jobs") => Some(&[n::SPEC, n::TEMPLATE]),
        ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets") => {
            Some(&[n::SPEC, n::TEMPLATE])
        }
        _ => None,
    }
}

/// Whether an update of a pod changes what runs in it: the rest cannot change, and pods from before a
/// policy must stay updatable.
fn brings_images(new: &Value, old: &Value) -> bool {
    let list = |pod: &Value, kind: NameId| {
        pod.at(&[n::SPEC, kind])
            .and_then(Value::as_list)
            .unwrap_or_default()
            .to_vec()
    };
    let usual = [n::CONTAINERS, n::INIT_CONTAINERS].into_iter().any(|kind| {
        let (new, old) = (list(new, kind), list(old, kind));
        new.len() != old.len()
            || new
                .iter()
                .zip(&old)
                .any(|(new, old)| new.get(n::IMAGE) != old.get(n::IMAGE))
    });
    let before = list(old, n::EPHEMERAL_CONTAINERS);
    let kept = |c: &Value| {
        before
            .iter()
            .any(|was| was.get(n::NAME) == c.get(n::NAME) && was.get(n::IMAGE) == c.get(n::IMAGE))
    };
    usual || list(new, n::EPHEMERAL_CONTAINERS).iter().any(|c| !kept(c))
}

/// Labels of a namespace are valid; when they become stricter, pods that are there are warned about.
fn namespace(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    let Some(new) = write.object.as_deref() else {
        return Ok(());
    };
    let (after, errors) = policy(new);
    let before = write.old.map(policy);
    let unchanged = before.as_ref().is_some_and(|(_, had)| *had == errors);
    if !errors.is_empty() && !unchanged {
        return Err(Failure::invalid("", "Namespace", meta::name(new), &errors));
    }
    let Some((before, _)) = before else {
        return Ok(());
    };
    let (now, was) = (after.enforce, before.enforce);
    if now == was
        || now.level == Level::Privileged
        || now.minor == was.minor && now.level <= was.level
    {
        return Ok(());
    }
    let name = meta::name(new).to_owned();
    let pods = in_namespace(server, "", "pods", &name);
    write.warnings.extend(existing(&name, now, pods));
    Ok(())
}

/// Warnings of pods that are there already.
fn existing(namespace: &str, standard: Standard, pods: Vec<Value>) -> Vec<String> {
    // One pod of each controller first: its others are alike.
    let mut controllers: HashSet<String> = HashSet::new();
    let (first, alike): (Vec<Value>, Vec<Value>) = pods.into_iter().partition(|pod| {
        let uid = meta::controller_of(pod)
            .and_then(|o| o.get(n::UID))
            .and_then(Value::as_str);
        uid.is_none_or(|uid| controllers.insert(uid.to_owned()))
    });
    let total = first.len() + alike.len();
    let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in first.iter().chain(&alike).take(PODS_CHECKED) {
        let found = Subject::of(pod)
            .map(|subject| violations(standard, subject))
            .unwrap_or_default();
        if !found.is_empty() {
            let reasons: Vec<String> = found.into_iter().map(|(reason, _)| reason).collect();
            by_reason
                .entry(reasons.join(", "))
                .or_default()
                .push(meta::name(pod).to_owned());
        }
    }
    let mut warnings = Vec::new();
    if total > PODS_CHECKED {
        warnings.push(format!("new PodSecurity enforce level only checked against the first {PODS_CHECKED} of {total} existing pods"));
    }
    if !by_reason.is_empty() {
        let namespace = quote(namespace);
        warnings.push(format!("existing pods in namespace {namespace} violate the new PodSecurity enforce level \"{standard}\""));
    }
    let each = by_reason.into_iter().map(|(reason, mut pods)| {
        pods.sort();
        match pods.len() {
            1 => format!("{}: {reason}", pods[0]),
            2 => format!("{} (and 1 other pod): {reason}", pods[0]),
            more => format!("{} (and {} other pods): {reason}", pods[0], more - 1),
        }
    });
    let mut each: Vec<String> = each.collect();
    each.sort();
    warnings.append(&mut each);
    warnings
}

#[cfg(test)]
mod tests;
