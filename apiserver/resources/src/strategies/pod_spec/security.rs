//! Security contexts of pods and containers, and what each operating system has of them.
//!
//! Upstream: `validatePodSpecSecurityContext`, `ValidateSecurityContext`, `validateLinux`, `validateWindows`.

use proto::NameId;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::core_v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
use proto::view::{Node, View};

use super::containers::all_containers;
use super::files::descending;
use super::volumes::at;
use super::{Options, sysctls, windows};
use crate::rules;
use crate::shown::Internal;

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const MAX_APP_ARMOR: usize = 4095;
const OF_LOCALHOST: &str = "can only be set when seccomp type is Localhost";
const APP_ARMOR_OF_LOCALHOST: &str = "can only be set when AppArmor type is Localhost";
const APP_ARMOR_NEEDED: &str = "must be set when AppArmor type is Localhost";
const ADMINISTRATES: &str = "CAP_SYS_ADMIN";
const NOT_OF_WINDOWS: &str = "cannot be set for a windows pod";
const NOT_OF_LINUX: &str = "windows options cannot be set for a linux pod";

pub(super) fn of_pod(e: &mut Errors<'_>, spec: PodSpec<'_>, options: &Options<'_>) {
    let Some(context) = spec.security_context() else {
        return;
    };
    for field in [n::FS_GROUP, n::RUN_AS_USER, n::RUN_AS_GROUP] {
        id(e, context.node(), field);
    }
    let groups = context.supplemental_groups().iter();
    for (i, group) in groups.filter_map(|g| g.as_int()).enumerate() {
        let field = Spot::of(context).field(n::SUPPLEMENTAL_GROUPS).index(i);
        e.invalid_each(field, group, names::id_problems(group));
    }
    sysctls::sysctls(e, spec, options.kept.sysctls_of_the_host);
    let known = |e: &mut Errors<'_>, field: NameId, allowed: &[&str]| {
        if let Some(text) = context.node().opt_str(field) {
            rules::known(e, Spot::of(context).field(field), text, allowed);
        }
    };
    known(e, n::FS_GROUP_CHANGE_POLICY, &["Always", "OnRootMismatch"]);
    seccomp(e, context.seccomp_profile());
    windows::options(e, context.windows_options());
    app_armor(e, context.app_armor_profile());
    known(e, n::SUPPLEMENTAL_GROUPS_POLICY, &["Merge", "Strict"]);
    let all = ["MountOption", "Recursive"];
    let allowed = match options.kept.mounting_with_labels {
        true => &all[..],
        false => &all[1..],
    };
    known(e, n::SE_LINUX_CHANGE_POLICY, allowed);
}

/// A user or group, if it is given.
fn id(e: &mut Errors<'_>, context: Node<'_>, field: NameId) {
    if let Some(id) = context.opt_int(field) {
        e.invalid_each(at(context).field(field), id, names::id_problems(id));
    }
}

pub(super) fn of_container(
    e: &mut Errors<'_>,
    context: SecurityContext<'_>,
    spec: PodSpec<'_>,
    options: &Options<'_>,
) {
    let spot = Spot::of(context);
    if context.privileged() == Some(true) && !options.privileged {
        e.forbidden(spot.field(n::PRIVILEGED), "disallowed by cluster policy");
    }
    id(e, context.node(), n::RUN_AS_USER);
    id(e, context.node(), n::RUN_AS_GROUP);
    if let Some(mount) = context.proc_mount() {
        rules::known(
            e,
            spot.field(n::PROC_MOUNT),
            mount,
            &["Default", "Unmasked"],
        );
        if mount == "Unmasked" && spec.host_users() != Some(false) {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            e.invalid(spot.field(n::PROC_MOUNT), mount, detail);
        }
    }
    seccomp(e, context.seccomp_profile());
    if context.allow_privilege_escalation() == Some(false) {
        if context.privileged() == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            e.invalid(spot, Internal::of(context), detail);
        }
        let adds = context.capabilities().map_or(&[][..], |c| c.add());
        let adds = adds.iter().filter(|c| c.as_str() == Some(ADMINISTRATES));
        for _ in adds.filter(|_| !options.kept.administrators_without_escalation) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            e.invalid(spot, Internal::of(context), detail);
        }
    }
    windows::options(e, context.windows_options());
    app_armor(e, context.app_armor_profile());
}

/// Says whether a container is given what it is denied: its escalation is off, and it administrates.
#[must_use]
pub(super) fn administrates_without_escalation(context: SecurityContext<'_>) -> bool {
    let adds = context.capabilities().map_or(&[][..], |c| c.add());
    context.allow_privilege_escalation() != Some(true)
        && adds.iter().any(|c| c.as_str() == Some(ADMINISTRATES))
}

fn seccomp(e: &mut Errors<'_>, profile: Option<SeccompProfile<'_>>) {
    let Some(profile) = profile else { return };
    let spot = Spot::of(profile);
    match profile.r#type() {
        "" => e.required(
            spot.field(n::TYPE),
            "type is required when seccompProfile is set",
        ),
        kind => rules::known(e, spot.field(n::TYPE), kind, &PROFILES),
    }
    let field = spot.field(n::LOCALHOST_PROFILE);
    match (profile.r#type(), profile.localhost_profile()) {
        ("Localhost", None) => {
            e.required(field, "must be set when seccomp type is Localhost");
        }
        ("Localhost", Some(path)) => descending(e, field, path),
        (_, Some(_)) => e.invalid(field, Internal::of(profile), OF_LOCALHOST),
        (_, None) => {}
    }
}

/// `ValidateAppArmorProfileField`.
pub(super) fn app_armor(e: &mut Errors<'_>, profile: Option<AppArmorProfile<'_>>) {
    let Some(profile) = profile else { return };
    let spot = Spot::of(profile);
    let field = spot.field(n::LOCALHOST_PROFILE);
    let local = profile.localhost_profile();
    match profile.r#type() {
        "Localhost" => {
            let Some(name) = local else {
                e.required(field, APP_ARMOR_NEEDED);
                return;
            };
            if name.trim() != name {
                e.invalid(field, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                e.required(field, APP_ARMOR_NEEDED);
            }
            if name.len() > MAX_APP_ARMOR {
                e.too_long(field, MAX_APP_ARMOR);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if let Some(name) = local {
                e.invalid(field, proto::path::Named(name), APP_ARMOR_OF_LOCALHOST);
            }
        }
        "" => {
            let detail = "type is required when appArmorProfile is set";
            e.required(spot.field(n::TYPE), detail);
        }
        other => rules::known(e, spot.field(n::TYPE), other, &PROFILES),
    }
}

/// What a pod's operating system has not.
pub(super) fn operating_system(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let Some(os) = spec.os() else { return };
    match os.name() {
        "" => e.required(Spot::of(os).field(n::NAME), ""),
        "linux" => linux(e, spec),
        "windows" => not_of_windows(e, spec),
        other => rules::known(e, Spot::of(os), other, &["linux", "windows"]),
    }
}

fn linux(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let of_pod = spec.security_context().map(|c| c.node());
    let of_containers = all_containers(spec).filter_map(|c| c.security_context());
    let all = of_pod.into_iter().chain(of_containers.map(|c| c.node()));
    for context in all.filter(|c| c.get(n::WINDOWS_OPTIONS).is_some()) {
        e.forbidden(at(context).field(n::WINDOWS_OPTIONS), NOT_OF_LINUX);
    }
}

/// Fields that pods of Windows do not have, in upstream's order.
const OF_PODS: [NameId; 11] = [
    PodSecurityContext::APP_ARMOR_PROFILE,
    PodSecurityContext::SE_LINUX_OPTIONS,
    PodSecurityContext::SECCOMP_PROFILE,
    PodSecurityContext::FS_GROUP,
    PodSecurityContext::FS_GROUP_CHANGE_POLICY,
    PodSecurityContext::SYSCTLS,
    PodSecurityContext::RUN_AS_USER,
    PodSecurityContext::RUN_AS_GROUP,
    PodSecurityContext::SUPPLEMENTAL_GROUPS,
    PodSecurityContext::SUPPLEMENTAL_GROUPS_POLICY,
    PodSecurityContext::SE_LINUX_CHANGE_POLICY,
];
const OF_CONTAINERS: [NameId; 10] = [
    SecurityContext::APP_ARMOR_PROFILE,
    SecurityContext::SE_LINUX_OPTIONS,
    SecurityContext::SECCOMP_PROFILE,
    SecurityContext::CAPABILITIES,
    SecurityContext::READ_ONLY_ROOT_FILESYSTEM,
    SecurityContext::PRIVILEGED,
    SecurityContext::ALLOW_PRIVILEGE_ESCALATION,
    SecurityContext::PROC_MOUNT,
    SecurityContext::RUN_AS_USER,
    SecurityContext::RUN_AS_GROUP,
];

fn not_of_windows(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let forbid = |e: &mut Errors<'_>, node: Node<'_>, fields: &[NameId]| {
        for field in fields {
            let there = node.get(*field);
            let empty = *field == n::SYSCTLS && node.items(*field).is_empty();
            if there.is_some() && !empty {
                e.forbidden(at(node).field(*field), NOT_OF_WINDOWS);
            }
        }
    };
    if let Some(context) = spec.security_context() {
        forbid(e, context.node(), &OF_PODS);
    }
    let of_spec = [
        (spec.host_users().is_some(), PodSpec::HOST_USERS),
        (spec.host_pid(), PodSpec::HOST_PID),
        (spec.host_ipc(), PodSpec::HOST_IPC),
        (
            spec.share_process_namespace().is_some(),
            PodSpec::SHARE_PROCESS_NAMESPACE,
        ),
    ];
    for (_, field) in of_spec.into_iter().filter(|(set, _)| *set) {
        e.forbidden(Spot::of(spec).field(field), NOT_OF_WINDOWS);
    }
    for context in all_containers(spec).filter_map(|c| c.security_context()) {
        forbid(e, context.node(), &OF_CONTAINERS);
    }
}

/// What a deprecated annotation means as a profile, none if it means nothing.
#[must_use]
pub fn profile_of_annotation(annotation: &str) -> Option<proto::Value> {
    let (kind, local) = match annotation {
        "unconfined" => ("Unconfined", None),
        "runtime/default" => ("RuntimeDefault", None),
        _ => match annotation.strip_prefix("localhost/") {
            Some(name) if !name.is_empty() => ("Localhost", Some(name)),
            _ => return None,
        },
    };
    let mut profile = proto::Value::object();
    profile.set(&[n::TYPE], kind);
    if let Some(name) = local {
        profile.set(&[n::LOCALHOST_PROFILE], name);
    }
    let view = AppArmorProfile::of(Node::new(&profile));
    let sound = !rules::breaks(|e| app_armor(e, Some(view)));
    sound.then_some(profile)
}
