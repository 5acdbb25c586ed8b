//! What the baseline standard forbids: what reaches from a pod to its node.

use std::collections::BTreeSet;

use proto::catalogue::names as n;
use proto::{NameId, Value, meta};

use super::{Found, Subject, context, flag, found, list, named, plural, quoted, setters, text};

pub(super) fn app_armor(s: Subject<'_>) -> Found {
    const CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut bad = |profile: Option<&Value>| {
        let kind = profile
            .map(|p| text(p, n::TYPE))
            .filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost"));
        kind.is_some_and(|kind| {
            values.insert(kind.to_owned());
            true
        })
    };
    let pod = bad(s.own(n::APP_ARMOR_PROFILE));
    let containers = s.bad(|c| bad(context(c, n::APP_ARMOR_PROFILE)));
    let allowed = |profile: &str| {
        profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/")
    };
    let annotations = meta::annotations(s.pod).iter().filter_map(|(key, value)| {
        let profile = value.as_str()?;
        (key.as_str().starts_with(CONTAINER) && !allowed(profile))
            .then(|| format!("{}={}", key.as_str(), proto::path::quote(profile)))
    });
    let mut annotations: Vec<String> = annotations.collect();
    annotations.sort();
    let mut setters = setters(pod, &containers);
    let mut values: Vec<String> = values.into_iter().collect();
    if !annotations.is_empty() {
        setters.push(plural("annotation", "annotations", annotations.len()).to_owned());
        values.append(&mut annotations);
    }
    if setters.is_empty() {
        return None;
    }
    let reason = plural(
        "forbidden AppArmor profile",
        "forbidden AppArmor profiles",
        values.len(),
    );
    found(
        reason,
        format!(
            "{} must not set AppArmor profile type to {}",
            setters.join(" and "),
            quoted(values)
        ),
    )
}

pub(super) fn added(container: &Value) -> impl Iterator<Item = &str> {
    list(context(container, n::CAPABILITIES).and_then(|c| c.get(n::ADD)))
        .iter()
        .filter_map(Value::as_str)
}

pub(super) fn capabilities_baseline(s: Subject<'_>) -> Found {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let mut wrong = BTreeSet::new();
    let containers = s.bad(|c| {
        let own: Vec<&str> = added(c)
            .filter(|capability| !ALLOWED.contains(capability))
            .collect();
        wrong.extend(own.iter().copied());
        !own.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not include {} in securityContext.capabilities.add",
        named(&containers),
        quoted(wrong)
    );
    found("non-default capabilities", detail)
}

pub(super) fn host_namespaces(s: Subject<'_>) -> Found {
    let all = [
        (n::HOST_NETWORK, "hostNetwork=true"),
        (n::HOST_PID, "hostPID=true"),
        (n::HOST_IPC, "hostIPC=true"),
    ];
    let set = |field: NameId| s.spec.get(field).and_then(Value::as_bool) == Some(true);
    let used: Vec<&str> = all
        .into_iter()
        .filter(|(field, _)| set(*field))
        .map(|(_, what)| what)
        .collect();
    if used.is_empty() {
        None
    } else {
        found("host namespaces", used.join(", "))
    }
}

pub(super) fn host_path(s: Subject<'_>) -> Found {
    let volumes = list(s.spec.get(n::VOLUMES)).iter();
    let names: Vec<&str> = volumes
        .filter(|v| v.get(n::HOST_PATH).is_some_and(|h| !h.is_null()))
        .map(|v| text(v, n::NAME))
        .collect();
    if names.is_empty() {
        return None;
    }
    found(
        "hostPath volumes",
        format!(
            "{} {}",
            plural("volume", "volumes", names.len()),
            quoted(names)
        ),
    )
}

pub(super) fn host_ports(s: Subject<'_>) -> Found {
    let mut ports = BTreeSet::new();
    let containers = s.bad(|c| {
        let own = list(c.get(n::PORTS))
            .iter()
            .filter_map(|p| p.get(n::HOST_PORT)?.as_int())
            .filter(|p| *p != 0);
        let own: Vec<String> = own.map(|p| p.to_string()).collect();
        let bad = !own.is_empty();
        ports.extend(own);
        bad
    });
    if containers.is_empty() {
        return None;
    }
    let (uses, word) = (
        plural("uses", "use", containers.len()),
        plural("hostPort", "hostPorts", ports.len()),
    );
    let ports: Vec<String> = ports.into_iter().collect();
    found(
        "hostPort",
        format!("{} {uses} {word} {}", named(&containers), ports.join(", ")),
    )
}

pub(super) fn probe_hosts(s: Subject<'_>) -> Found {
    let mut hosts = BTreeSet::new();
    let containers = s.bad(|c| {
        let probes = [n::LIVENESS_PROBE, n::READINESS_PROBE, n::STARTUP_PROBE]
            .into_iter()
            .filter_map(|p| c.get(p));
        let hooks = [n::POST_START, n::PRE_STOP]
            .into_iter()
            .filter_map(|h| c.get(n::LIFECYCLE)?.get(h));
        let handlers = probes
            .chain(hooks)
            .flat_map(|h| [h.get(n::HTTP_GET), h.get(n::TCP_SOCKET)])
            .flatten();
        let own: Vec<&str> = handlers
            .map(|h| text(h, n::HOST))
            .filter(|host| !host.is_empty())
            .collect();
        hosts.extend(own.iter().copied());
        !own.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    let mut containers = containers;
    containers.sort_unstable();
    containers.dedup();
    let uses = plural("uses", "use", containers.len());
    let word = plural(
        "probe or lifecycle host",
        "probe or lifecycle hosts",
        hosts.len(),
    );
    found(
        "probe or lifecycle host",
        format!("{} {uses} {word} {}", named(&containers), quoted(hosts)),
    )
}

pub(super) fn privileged(s: Subject<'_>) -> Found {
    let containers = s.bad(|c| flag(c, n::PRIVILEGED) == Some(true));
    if containers.is_empty() {
        return None;
    }
    found(
        "privileged",
        format!(
            "{} must not set securityContext.privileged=true",
            named(&containers)
        ),
    )
}

pub(super) fn proc_mount(s: Subject<'_>) -> Found {
    let mut kinds = BTreeSet::new();
    let containers = s.bad(|c| {
        let kind = context(c, n::PROC_MOUNT)
            .and_then(Value::as_str)
            .filter(|kind| *kind != "Default");
        kinds.extend(kind);
        kind.is_some()
    });
    if containers.is_empty() {
        return None;
    }
    found(
        "procMount",
        format!(
            "{} must not set securityContext.procMount to {}",
            named(&containers),
            quoted(kinds)
        ),
    )
}

/// The last one is allowed since 1.31.
pub(super) const SE_LINUX: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

pub(super) fn se_linux(s: Subject<'_>, allowed: &[&str]) -> Found {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut bad = |options: Option<&Value>| {
        let Some(options) = options else { return false };
        let kind = text(options, n::TYPE);
        let (wrong, own_user, own_role) = (
            !allowed.contains(&kind),
            !text(options, n::USER).is_empty(),
            !text(options, n::ROLE).is_empty(),
        );
        if wrong {
            types.insert(kind.to_owned());
        }
        user |= own_user;
        role |= own_role;
        wrong || own_user || own_role
    };
    let pod = bad(s.own(n::SE_LINUX_OPTIONS));
    let containers = s.bad(|c| bad(context(c, n::SE_LINUX_OPTIONS)));
    let setters = setters(pod, &containers);
    if setters.is_empty() {
        return None;
    }
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!(
            "{} {}",
            plural("type", "types", types.len()),
            quoted(types)
        ));
    }
    data.extend(user.then(|| "user may not be set".to_owned()));
    data.extend(role.then(|| "role may not be set".to_owned()));
    let detail = format!(
        "{} set forbidden securityContext.seLinuxOptions: {}",
        setters.join(" and "),
        data.join("; ")
    );
    found("seLinuxOptions", detail)
}

/// Before 1.19 profiles were annotations.
pub(super) fn seccomp_annotations(s: Subject<'_>) -> Found {
    let valid =
        |v: &str| matches!(v, "runtime/default" | "docker/default") || v.starts_with("localhost/");
    let pod = "seccomp.security.alpha.kubernetes.io/pod".to_owned();
    let containers = s.containers().map(|c| {
        format!(
            "container.seccomp.security.alpha.kubernetes.io/{}",
            text(c, n::NAME)
        )
    });
    let forbidden = std::iter::once(pod).chain(containers).filter_map(|key| {
        let value = meta::annotation(s.pod, &key).filter(|v| !valid(v))?;
        Some(format!("{key}={}", proto::path::quote(value)))
    });
    let forbidden: BTreeSet<String> = forbidden.collect();
    if forbidden.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", forbidden.len());
    let forbidden: Vec<String> = forbidden.into_iter().collect();
    found(
        "seccompProfile",
        format!("forbidden {word} {}", forbidden.join(", ")),
    )
}

/// In the order in which they became allowed: 5 at first, then 6, 10, 12, 14.
const SYSCTLS: [&str; 14] = [
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

pub(super) fn sysctls(s: Subject<'_>, allowed: usize) -> Found {
    let names = list(s.own(n::SYSCTLS))
        .iter()
        .map(|sysctl| text(sysctl, n::NAME));
    let forbidden: Vec<&str> = names
        .filter(|name| !SYSCTLS[..allowed].contains(name))
        .collect();
    if forbidden.is_empty() {
        None
    } else {
        found("forbidden sysctls", forbidden.join(", "))
    }
}

pub(super) fn host_process(s: Subject<'_>) -> Found {
    let bad = |options: Option<&Value>| {
        options
            .and_then(|o| o.get(n::HOST_PROCESS))
            .and_then(Value::as_bool)
            == Some(true)
    };
    let containers = s.bad(|c| bad(context(c, n::WINDOWS_OPTIONS)));
    let setters = setters(bad(s.own(n::WINDOWS_OPTIONS)), &containers);
    if setters.is_empty() {
        return None;
    }
    found(
        "hostProcess",
        format!(
            "{} must not set securityContext.windowsOptions.hostProcess=true",
            setters.join(" and ")
        ),
    )
}
