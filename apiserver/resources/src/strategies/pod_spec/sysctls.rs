//! Kernel parameters of a pod: named as the kernel names them, once each, and of no namespace that the
//! pod shares with its host.
//!
//! Upstream: `validateSysctls`, `component-helpers/node/util/sysctl`.

use std::borrow::Cow;
use std::collections::HashSet;

use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::core_v1::PodSpec;

use crate::rules;

const MAX_NAME: usize = 253;
/// As upstream shows it.
const FORM: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// Namespaces of the kernel in which parameters are, by name or by what names begin with.
const OF_IPC: [&str; 10] = [
    "kernel.msg",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];
const BELOW_IPC: &str = "fs.mqueue.";
const BELOW_NET: &str = "net.";

/// `lenient` lets parameters of the host's namespaces pass.
pub(super) fn sysctls(e: &mut Errors<'_>, spec: PodSpec<'_>, lenient: bool) {
    let Some(context) = spec.security_context() else {
        return;
    };
    let mut seen = HashSet::new();
    for sysctl in context.sysctls() {
        let name = sysctl.name();
        if !rules::required(e, sysctl, n::NAME) {
            continue;
        }
        let at = Spot::of(sysctl).field(n::NAME);
        if !is_name(name) {
            let detail = format!("must have at most {MAX_NAME} characters and match regex {FORM}");
            e.invalid(at, name, detail);
        } else if seen.contains(name) {
            e.duplicate(at, name);
        }
        if let Some(host) = of_host(spec, name).filter(|_| !lenient) {
            e.invalid(
                at,
                name,
                format!("may not be specified when '{host}' is true"),
            );
        }
        seen.insert(name);
    }
}

/// Whether a specification has a parameter of the host's namespaces.
#[must_use]
pub fn reach_the_host(spec: PodSpec<'_>) -> bool {
    let all = spec.security_context().map(|context| context.sysctls());
    let all = all.into_iter().flatten();
    { all }.any(|sysctl| of_host(spec, sysctl.name()).is_some())
}

/// The field that shares the parameter's namespace with the host.
fn of_host(spec: PodSpec<'_>, name: &str) -> Option<&'static str> {
    let name = dotted(name);
    let is_ipc = || OF_IPC.contains(&&*name) || name.starts_with(BELOW_IPC);
    if spec.host_network() && name.starts_with(BELOW_NET) {
        Some("hostNetwork")
    } else if spec.host_ipc() && is_ipc() {
        Some("hostIPC")
    } else {
        None
    }
}

/// A name with dots between segments. Those whose first separator is a slash have them the other way.
fn dotted(name: &str) -> Cow<'_, str> {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.into(),
    }
}

/// Segments between dots or slashes, each of which begins and ends with a letter or a digit.
fn is_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_segment = |segment: &str| {
        let bytes = segment.as_bytes();
        bytes
            .iter()
            .all(|b| is_plain(*b) || matches!(b, b'-' | b'_'))
            && bytes.first().is_some_and(|b| is_plain(*b))
            && bytes.last().is_some_and(|b| is_plain(*b))
    };
    name.len() <= MAX_NAME && name.split(['.', '/']).all(is_segment)
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1;
    use proto::codec::json::{self, Strictness};
    use proto::view::core_v1::Pod;
    use proto::view::{Node, View};

    use super::*;

    #[test]
    fn names_are_those_of_the_kernel() {
        for good in [
            "a",
            "a.b",
            "net.ipv4.conf.eno2/100.rp_filter",
            "a-b_c.d",
            "kernel/shm_rmid_forced",
        ] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "", ".", "a.", ".a", "a..b", "A", "a.-b", "a_.b", "fs.a*", "a b",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name(&"a".repeat(MAX_NAME)) && !is_name(&"a".repeat(MAX_NAME + 1)));
    }

    #[test]
    fn a_parameter_is_named_well_and_once() {
        let text = r#"{"spec":{"hostNetwork":true,"securityContext":{"sysctls":[{"name":"net.a","value":"1"},{"name":"foo-","value":"2"},
            {"name":"net.a","value":"3"},{"value":"4"},{"name":"kernel/shmmax","value":"5"}]}}}"#;
        let decoded = json::decode(text.as_bytes(), core_v1::POD, Strictness::Strict);
        let pod = decoded.expect("the test's JSON is valid").value;
        let spec = Pod::of(Node::new(&pod)).spec();
        let shown = |lenient| -> Vec<String> {
            let mut errors = Errors::new(&pod);
            sysctls(&mut errors, spec, lenient);
            let all = errors.into_vec();
            let shown = all
                .iter()
                .map(|e| format!("{} {}", e.field, e.reason.code()));
            shown.collect()
        };
        let at = |i: usize, code: &str| {
            format!("spec.securityContext.sysctls[{i}].name FieldValue{code}")
        };
        let badly_named = [at(1, "Invalid"), at(2, "Duplicate"), at(3, "Required")];
        assert_eq!(shown(true), badly_named);
        let [first, second, third] = badly_named;
        let all = [at(0, "Invalid"), first, second, at(2, "Invalid"), third];
        assert_eq!(shown(false), all);
        assert!(reach_the_host(spec));
    }

    #[test]
    fn a_parameter_belongs_to_a_namespace() {
        let of = |flags: &str, name: &str| {
            let text = format!(r#"{{"spec":{{{flags}}}}}"#);
            let decoded = json::decode(text.as_bytes(), core_v1::POD, Strictness::Strict);
            let pod = decoded.expect("the test's JSON is valid").value;
            of_host(Pod::of(Node::new(&pod)).spec(), name)
        };
        let both = r#""hostNetwork":true,"hostIPC":true"#;
        assert_eq!(of(both, "net.core.somaxconn"), Some("hostNetwork"));
        assert_eq!(
            of(both, "net/ipv4/conf/eno2.100/rp_filter"),
            Some("hostNetwork")
        );
        assert_eq!(of(both, "kernel.shm_rmid_forced"), Some("hostIPC"));
        assert_eq!(of(both, "fs.mqueue.msg_max"), Some("hostIPC"));
        assert_eq!(of(both, "vm.swappiness"), None);
        assert_eq!(of("", "net.core.somaxconn"), None);
    }
}
