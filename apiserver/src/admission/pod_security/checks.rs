//! The rules of the Pod Security Standards, each in the versions that it has had.
//!
//! Facts and texts: `k8s.io/pod-security-admission/policy`. Rules of a level are in the order of their
//! names, which is the order in which violations are told.

use std::collections::BTreeSet;

use proto::catalogue::names as n;
use proto::{NameId, Value};

use self::baseline::{
    SE_LINUX, app_armor, capabilities_baseline, host_namespaces, host_path, host_ports,
    host_process, privileged, probe_hosts, proc_mount, se_linux, seccomp_annotations, sysctls,
};
use self::restricted::{
    capabilities_restricted, non_root, privilege_escalation, root_user, volumes,
};
use super::policy::Level;

mod baseline;
mod restricted;

/// A pod or the template of one.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pod: &'a Value,
    spec: &'a Value,
}

impl<'a> Subject<'a> {
    pub(super) fn of(pod: &'a Value) -> Option<Self> {
        Some(Self {
            pod,
            spec: pod.get(n::SPEC)?,
        })
    }

    /// All containers: those that begin, those that stay, those that debug.
    fn containers(self) -> impl Iterator<Item = &'a Value> {
        let kinds = [n::INIT_CONTAINERS, n::CONTAINERS, n::EPHEMERAL_CONTAINERS];
        kinds
            .into_iter()
            .filter_map(move |kind| self.spec.get(kind)?.as_list())
            .flatten()
    }

    /// The names of the containers that do something bad.
    fn bad(self, bad: impl FnMut(&&'a Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(bad)
            .map(|c| text(c, n::NAME))
            .collect()
    }

    /// A field of the pod's own security context.
    fn own(self, field: NameId) -> Option<&'a Value> {
        context(self.spec, field)
    }

    fn is_windows(self) -> bool {
        self.spec.at(&[n::OS, n::NAME]).and_then(Value::as_str) == Some("windows")
    }

    /// Whether root in the pod is nobody outside of it.
    fn has_own_users(self) -> bool {
        self.spec.get(n::HOST_USERS).and_then(Value::as_bool) == Some(false)
    }
}

/// Reason and detail, if the pod violates the rule.
type Found = Option<(String, String)>;
pub(super) type Check = for<'a> fn(Subject<'a>) -> Found;

/// A rule: since which release 1.x it is how.
struct Rule {
    level: Level,
    versions: &'static [(u32, Check)],
    /// The rule of the lower level that this one contains, by its first check's place in [`RULES`].
    contains: Option<usize>,
}

const fn low(versions: &'static [(u32, Check)]) -> Rule {
    Rule {
        level: Level::Baseline,
        versions,
        contains: None,
    }
}

const fn high(versions: &'static [(u32, Check)], contains: Option<usize>) -> Rule {
    Rule {
        level: Level::Restricted,
        versions,
        contains,
    }
}

/// Baseline by name, then restricted by name.
static RULES: [Rule; 19] = [
    low(&[(0, app_armor)]),
    low(&[(0, capabilities_baseline)]),
    low(&[(0, host_namespaces)]),
    low(&[(0, host_path)]),
    low(&[(0, host_ports)]),
    low(&[(34, probe_hosts)]),
    low(&[(0, privileged)]),
    low(&[
        (0, proc_mount),
        (35, |s| {
            if s.has_own_users() {
                None
            } else {
                proc_mount(s)
            }
        }),
    ]),
    low(&[
        (0, |s| se_linux(s, &SE_LINUX[..4])),
        (31, |s| se_linux(s, &SE_LINUX)),
    ]),
    low(&[(0, seccomp_annotations), (19, |s| seccomp(s, false))]),
    low(&[
        (0, |s| sysctls(s, 5)),
        (27, |s| sysctls(s, 6)),
        (29, |s| sysctls(s, 10)),
        (32, |s| sysctls(s, 12)),
        (37, |s| sysctls(s, 14)),
    ]),
    low(&[(0, host_process)]),
    high(
        &[
            (8, privilege_escalation),
            (25, |s| unless_windows(s, privilege_escalation)),
        ],
        None,
    ),
    high(
        &[
            (22, capabilities_restricted),
            (25, |s| unless_windows(s, capabilities_restricted)),
        ],
        Some(1),
    ),
    high(&[(35, proc_mount)], Some(7)),
    high(&[(0, volumes)], Some(3)),
    high(
        &[
            (0, non_root),
            (35, |s| if s.has_own_users() { None } else { non_root(s) }),
        ],
        None,
    ),
    high(
        &[
            (23, root_user),
            (35, |s| {
                if s.has_own_users() {
                    None
                } else {
                    root_user(s)
                }
            }),
        ],
        None,
    ),
    high(
        &[
            (19, |s| seccomp(s, true)),
            (25, |s| unless_windows(s, |s| seccomp(s, true))),
        ],
        Some(9),
    ),
];

/// The checks of a level as of release 1.`minor`.
pub(super) fn of(level: Level, minor: u32) -> Vec<Check> {
    let current = |rule: &Rule| {
        rule.versions
            .iter()
            .rev()
            .find(|(since, _)| *since <= minor)
            .map(|(_, check)| *check)
    };
    let applies = |rule: &Rule| rule.level <= level && current(rule).is_some();
    let contained: Vec<usize> = RULES
        .iter()
        .filter(|r| applies(r))
        .filter_map(|r| r.contains)
        .collect();
    let rules = RULES
        .iter()
        .enumerate()
        .filter(|(i, rule)| applies(rule) && !contained.contains(i));
    rules.filter_map(|(_, rule)| current(rule)).collect()
}

fn text(value: &Value, field: NameId) -> &str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_list).unwrap_or_default()
}

/// A field of a security context.
fn context(of: &Value, field: NameId) -> Option<&Value> {
    of.get(n::SECURITY_CONTEXT)?
        .get(field)
        .filter(|v| !v.is_null())
}

fn flag(of: &Value, field: NameId) -> Option<bool> {
    context(of, field).and_then(Value::as_bool)
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<T> = items.into_iter().collect();
    items
        .iter()
        .map(|item| format!("\"{}\"", item.as_ref()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn named(containers: &[&str]) -> String {
    format!(
        "{} {}",
        plural("container", "containers", containers.len()),
        quoted(containers)
    )
}

/// `pod and containers "a", "b"`.
fn setters(pod: bool, containers: &[&str]) -> Vec<String> {
    let pod = pod.then(|| "pod".to_owned());
    pod.into_iter()
        .chain((!containers.is_empty()).then(|| named(containers)))
        .collect()
}

fn found(reason: &str, detail: String) -> Found {
    Some((reason.to_owned(), detail))
}

fn unless_windows(s: Subject<'_>, check: Check) -> Found {
    if s.is_windows() { None } else { check(s) }
}

fn seccomp(s: Subject<'_>, required: bool) -> Found {
    let profile = |value: Option<&Value>| value.map(|p| text(p, n::TYPE).to_owned());
    let is_valid = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    let mut values = BTreeSet::new();
    let mut bad = |kind: Option<String>| {
        kind.filter(|kind| !is_valid(kind)).is_some_and(|kind| {
            values.insert(kind);
            true
        })
    };
    let own = profile(s.own(n::SECCOMP_PROFILE));
    let set = own.as_deref().is_some_and(is_valid);
    let pod = bad(own);
    let containers = s.bad(|c| bad(profile(context(c, n::SECCOMP_PROFILE))));
    let setters = setters(pod, &containers);
    if !setters.is_empty() {
        let detail = format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            setters.join(" and "),
            quoted(values)
        );
        return found("seccompProfile", detail);
    }
    let without = s.bad(|c| required && !set && context(c, n::SECCOMP_PROFILE).is_none());
    if without.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        named(&without)
    );
    found("seccompProfile", detail)
}
