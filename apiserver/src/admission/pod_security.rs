//! `PodSecurity`: pods keep to the standard that the labels of their namespace name.
//!
//! A namespace enforces a level, and warns of what a stricter one would refuse; a version pins the
//! rules to those of a release. Workloads that hold a template are only warned about, their pods are
//! what is refused. Whoever is exempt by the configuration is not looked at.
//!
//! Upstream: `k8s.io/pod-security-admission`.

use std::collections::{BTreeMap, HashSet};

use proto::catalogue::names as n;
use proto::path::quote;
use proto::{NameId, Value, meta};
use resources::status::Failure;

use self::checks::Subject;
use self::policy::{Policy, Standard};
use super::{Attributes, Plugin, WRITES, in_namespace};
use crate::server::Server;

mod checks;
mod policy;
mod settings;

pub(super) use settings::Settings;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "PodSecurity",
    on_by_default: true,
    operations: WRITES,
    configure: Some(|state, told, _| state.pod_security.configure(told)),
    validate: Some(|server, write| Box::pin(validate(server, write))),
    ..Plugin::OFF
};

/// Existing pods that are looked at when a namespace becomes stricter; upstream's default.
const PODS_CHECKED: usize = 3000;
/// The release whose rules are the latest.
const NEWEST: u32 = 37;

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
    if write.is_any("", "namespaces") {
        return match write.subresource {
            "" => namespace(server, write),
            _ => Ok(()),
        };
    }
    let is_pod = write.is_any("", "pods");
    let Some(path) = subject(write) else {
        return Ok(());
    };
    let settings = &server.admission.state.pod_security;
    let exempt = if settings.is_exempt_namespace(write.namespace) {
        Some("namespace")
    } else if settings.is_exempt_user(&write.user.name) {
        Some("user")
    } else {
        None
    };
    if let Some(why) = exempt {
        settings.exempted(write);
        note(write, "exempt", why);
        return Ok(());
    }
    let of = server.lookup_entry("", "namespaces", "", write.namespace);
    let Some(of) = of.await? else {
        return missing(settings, write, is_pod);
    };
    let (policy, errors) = Policy::of(|key| of.labels.get(key), settings.defaults);
    if errors.is_empty() && is_pod && policy.is_privileged() {
        note(write, "enforce-policy", &Standard::PRIVILEGED.to_string());
        settings.evaluated(true, policy.enforce, "enforce", write);
        return Ok(());
    }
    let (audit, warn) = (policy.audit, policy.warn);
    if errors.is_empty() && !is_pod && audit.is_privileged() && warn.is_privileged() {
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
    if settings.is_exempt_pod(pod) {
        settings.exempted(write);
        note(write, "exempt", "runtimeClass");
        return Ok(());
    }
    if !errors.is_empty() {
        settings.failed(false, write);
        let why = format!(
            "Failed to parse policy: {}",
            proto::path::aggregate(&errors)
        );
        note(write, "error", &why);
    }
    let judged = judge(policy, subject, is_pod);
    tell(settings, policy, judged, write)
}

/// Where what is judged is in the object of a write, if anything is.
fn subject(write: &Attributes<'_>) -> Option<&'static [NameId]> {
    const IGNORED: [&str; 8] = [
        "exec",
        "attach",
        "binding",
        "eviction",
        "log",
        "portforward",
        "proxy",
        "status",
    ];
    if write.is_any("", "pods") {
        return (!IGNORED.contains(&write.subresource)).then_some(&[]);
    }
    let of_itself = write.subresource.is_empty();
    template(write.resource.group, write.resource.name).filter(|_| of_itself)
}

fn note(write: &Attributes<'_>, key: &str, value: &str) {
    write.annotate(&format!("pod-security.kubernetes.io/{key}"), value);
}

/// Without its namespace nothing is known of a pod; a workload is only warned of.
fn missing(settings: &Settings, write: &Attributes<'_>, is_pod: bool) -> Result<(), Failure> {
    let name = quote(write.namespace);
    settings.failed(true, write);
    let not_found = Failure::not_found("", "namespaces", write.namespace);
    let not_found = not_found.message();
    if is_pod {
        let failure = Failure::internal(format!("failed to lookup namespace {name}"));
        note(
            write,
            "error",
            &format!("{}: {not_found}", failure.message()),
        );
        return Err(failure);
    }
    let why = format!("failed to lookup namespace {name}: {not_found}");
    note(write, "error", &why);
    Ok(())
}

/// What a pod or a template does that is forbidden, in words; none where it does nothing.
#[derive(PartialEq, Debug)]
struct Judged {
    /// None if nothing is enforced.
    enforce: Option<Verdict>,
    audit: Verdict,
    warn: Verdict,
}

type Verdict = Option<String>;

fn judge(policy: Policy, subject: Subject<'_>, enforces: bool) -> Judged {
    let mut known: Vec<(Standard, Verdict)> = Vec::new();
    let mut verdict = |standard: Standard| {
        if let Some((_, verdict)) = known.iter().find(|(of, _)| *of == standard) {
            return verdict.clone();
        }
        let found = violations(standard, subject);
        let said = (!found.is_empty()).then(|| detailed(&found));
        known.push((standard, said.clone()));
        said
    };
    Judged {
        enforce: enforces.then(|| verdict(policy.enforce)),
        audit: verdict(policy.audit),
        warn: verdict(policy.warn),
    }
}

/// Refuses, notes and warns of what was found.
fn tell(
    settings: &Settings,
    policy: Policy,
    judged: Judged,
    write: &mut Attributes<'_>,
) -> Result<(), Failure> {
    let mut refused = None;
    if let Some(verdict) = judged.enforce {
        note(write, "enforce-policy", &policy.enforce.to_string());
        settings.evaluated(verdict.is_none(), policy.enforce, "enforce", write);
        refused = verdict;
    }
    let would = |standard: Standard, what: &str| {
        format!("would violate PodSecurity \"{standard}\": {what}")
    };
    if let Some(what) = &judged.audit {
        note(write, "audit-violations", &would(policy.audit, what));
        settings.evaluated(false, policy.audit, "audit", write);
    }
    if let Some(what) = refused {
        let why = format!("violates PodSecurity \"{}\": {what}", policy.enforce);
        return Err(write.forbid(&why));
    }
    if let Some(what) = &judged.warn {
        write.warnings.push(would(policy.warn, what));
        settings.evaluated(false, policy.warn, "warn", write);
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
    let settings = &server.admission.state.pod_security;
    let name = meta::name(new).to_owned();
    let of = |namespace| Policy::of(|key| meta::label(namespace, key), settings.defaults);
    let (after, errors) = of(new);
    let before = write.old.map(of);
    let unchanged = before.as_ref().is_some_and(|(_, had)| *had == errors);
    if !errors.is_empty() && !unchanged {
        return Err(Failure::invalid("", "Namespace", &name, &errors));
    }
    if before.is_some_and(|(before, _)| !is_stricter(after.enforce, before.enforce)) {
        return Ok(());
    }
    if settings.is_exempt_namespace(&name) {
        if !after.is_privileged() && !after.is_like(&settings.defaults) {
            let warning = format!(
                "namespace {} is exempt from Pod Security, and the policy ({}) will be ignored",
                quote(&name),
                after.asked(new)
            );
            write.warnings.push(warning);
        }
    } else if write.old.is_some() {
        let mut pods = in_namespace(server, "", "pods", &name);
        pods.retain(|pod| !settings.is_exempt_pod(pod));
        write.warnings.extend(existing(&name, after.enforce, pods));
    }
    Ok(())
}

/// Whether pods may be there that a standard forbids and the one before allowed.
fn is_stricter(now: Standard, was: Standard) -> bool {
    now != was && !now.is_privileged() && !(now.minor == was.minor && now.level <= was.level)
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
