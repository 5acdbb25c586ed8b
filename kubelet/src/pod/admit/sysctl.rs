//! Kernel settings that pods may set: those that are safe, and those that the node's owner allows.

use k8s_openapi::api::core::v1::PodSpec;

/// Settings that touch nothing but the pod. (Upstream drops some on kernels that are too old to have
/// them per namespace; the newest of those is 5.7's, and the runtime needs 5.12.)
const SAFE: [&str; 14] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_notsent_lowat",
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Namespace {
    Ipc,
    Net,
    User,
}

impl Namespace {
    fn of(name: &str) -> Option<Self> {
        const EXACT: [(&str, Namespace); 1] = [("kernel.sem", Namespace::Ipc)];
        const PREFIXES: [(&str, Namespace); 5] = [
            ("kernel.shm", Namespace::Ipc),
            ("kernel.msg", Namespace::Ipc),
            ("fs.mqueue.", Namespace::Ipc),
            ("net.", Namespace::Net),
            ("user.", Namespace::User),
        ];
        let exact = EXACT.iter().find(|(known, _)| *known == name);
        let found = exact.or_else(|| PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)));
        found.map(|(_, namespace)| *namespace)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
            Self::User => "User",
        }
    }
}

/// What may be set on this node.
#[derive(Clone, Debug, Default)]
pub struct Allowlist {
    /// With a `*` at the end, all that begin so.
    patterns: Vec<String>,
}

impl Allowlist {
    /// The safe ones and `allowedUnsafeSysctls`.
    #[must_use]
    pub fn new(unsafe_ones: &[String]) -> Self {
        let safe = SAFE.iter().map(|name| (*name).to_owned());
        let more = unsafe_ones.iter().map(|name| normalized(name));
        Self {
            patterns: safe.chain(more).collect(),
        }
    }

    fn allows(&self, name: &str) -> bool {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => pattern == name,
        };
        self.patterns.iter().any(matches)
    }

    /// What is wrong with the first setting of the pod that it may not have.
    pub(super) fn check(&self, spec: &PodSpec) -> Result<(), String> {
        let context = spec.security_context.as_ref();
        let sysctls = context.and_then(|c| c.sysctls.as_ref());
        for sysctl in sysctls.into_iter().flatten() {
            let name = normalized(&sysctl.name);
            if !self.allows(&name) {
                return Err(format!("{name:?} not allowlisted"));
            }
            let on_node = |set: Option<bool>| set.unwrap_or_default();
            let namespace = Namespace::of(&name).filter(|namespace| match namespace {
                Namespace::Ipc => on_node(spec.host_ipc),
                Namespace::Net => on_node(spec.host_network),
                Namespace::User => spec.host_users.unwrap_or(true),
            });
            if let Some(namespace) = namespace {
                let namespace = namespace.name();
                return Err(format!(
                    "{name:?} not allowed with host {namespace} enabled"
                ));
            }
        }
        Ok(())
    }
}

/// With dots between its parts: where the first separator is a slash, dots are part of names.
fn normalized(name: &str) -> String {
    let first = name.find(['.', '/']);
    if first.and_then(|at| name.get(at..=at)) != Some("/") {
        return name.to_owned();
    }
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swap).collect()
}
