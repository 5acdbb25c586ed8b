//! Who a container runs as and what it may do: upstream's `pkg/securitycontext`,
//! `pkg/security/apparmor` and `kuberuntime/security_context.go`.

use std::path::Path;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext as Asked,
};

use super::{Error, NodeFacts, describe, spec};
use crate::runtime::container::SupplementalGroupsPolicy;
use crate::runtime::spec::{DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS};
use crate::runtime::{NamespaceMode, SecurityContext, SecurityProfile};

const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What a container asks for, and its pod for all of them.
struct Both<'a> {
    pod: Option<&'a PodSecurityContext>,
    own: Option<&'a Asked>,
}

impl<'a> Both<'a> {
    fn of(pod: &'a Pod, container: &'a Container) -> Self {
        Self {
            pod: spec(pod).security_context.as_ref(),
            own: container.security_context.as_ref(),
        }
    }

    /// The container's value, else the pod's.
    fn pick<T>(
        &self,
        own: impl Fn(&'a Asked) -> Option<T>,
        pod: impl Fn(&'a PodSecurityContext) -> Option<T>,
    ) -> Option<T> {
        self.own.and_then(own).or_else(|| self.pod.and_then(pod))
    }

    fn run_as_user(&self) -> Option<i64> {
        self.pick(|own| own.run_as_user, |pod| pod.run_as_user)
    }
}

/// The security context of a container. `target` is the container whose processes it is to see.
pub(super) fn context(
    pod: &Pod,
    container: &Container,
    facts: &NodeFacts,
    target: Option<String>,
) -> Result<SecurityContext, Error> {
    let asked = Both::of(pod, container);
    let own = asked.own;
    let capabilities = own.and_then(|own| own.capabilities.as_ref());
    let unmasked = own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked");
    let group = asked.pick(|own| own.run_as_group, |pod| pod.run_as_group);
    Ok(SecurityContext {
        privileged: own.and_then(|own| own.privileged).unwrap_or_default(),
        add_capabilities: capabilities.and_then(|c| c.add.clone()).unwrap_or_default(),
        drop_capabilities: capabilities
            .and_then(|c| c.drop.clone())
            .unwrap_or_default(),
        run_as_user: asked.run_as_user().map(id).transpose()?,
        run_as_group: group.map(id).transpose()?,
        supplemental_groups: supplemental_groups(asked.pod)?,
        supplemental_groups_policy: groups_policy(asked.pod)?,
        readonly_rootfs: own
            .and_then(|own| own.read_only_root_filesystem)
            .unwrap_or_default(),
        no_new_privs: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
        pid: pid(pod, target),
        masked_paths: if unmasked {
            Vec::new()
        } else {
            masked_paths(facts)
        },
        readonly_paths: if unmasked {
            Vec::new()
        } else {
            DEFAULT_READONLY_PATHS
                .iter()
                .map(ToString::to_string)
                .collect()
        },
        seccomp: seccomp(&asked, facts)?,
        apparmor: apparmor(pod, container, &asked)?,
    })
}

fn id(id: i64) -> Result<u32, Error> {
    u32::try_from(id).map_err(|_| Error::Id(id))
}

fn supplemental_groups(pod: Option<&PodSecurityContext>) -> Result<Vec<u32>, Error> {
    let Some(pod) = pod else {
        return Ok(Vec::new());
    };
    let groups = pod.supplemental_groups.iter().flatten();
    pod.fs_group
        .iter()
        .chain(groups)
        .map(|gid| id(*gid))
        .collect()
}

fn groups_policy(pod: Option<&PodSecurityContext>) -> Result<SupplementalGroupsPolicy, Error> {
    match pod.and_then(|pod| pod.supplemental_groups_policy.as_deref()) {
        None | Some("Merge") => Ok(SupplementalGroupsPolicy::Merge),
        Some("Strict") => Ok(SupplementalGroupsPolicy::Strict),
        Some(other) => Err(Error::SupplementalGroupsPolicy(other.to_owned())),
    }
}

/// The PID namespace of a pod's sandbox.
pub(super) fn sandbox_pid(pod: &Pod) -> NamespaceMode {
    let spec = spec(pod);
    if spec.host_pid == Some(true) {
        NamespaceMode::Node
    } else if spec.share_process_namespace == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    }
}

fn pid(pod: &Pod, target: Option<String>) -> NamespaceMode {
    match target {
        // Where processes are shared anyway, the target is among them.
        Some(target) if sandbox_pid(pod) == NamespaceMode::Container => {
            NamespaceMode::Target(target)
        }
        _ => NamespaceMode::Pod,
    }
}

fn masked_paths(facts: &NodeFacts) -> Vec<String> {
    let default = DEFAULT_MASKED_PATHS.iter().map(ToString::to_string);
    default.chain(facts.masked_paths.iter().cloned()).collect()
}

/// Files that tell about the temperature of each CPU of this machine, for
/// [`NodeFacts::masked_paths`]. `sys` is `/sys`.
#[must_use]
pub fn thermal_paths(sys: &Path) -> Vec<String> {
    let dir = sys.join("devices/system/cpu");
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_cpu = |name: &str| {
        name.strip_prefix("cpu")
            .is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let mut paths: Vec<String> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_cpu))
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .filter_map(|path| path.into_os_string().into_string().ok())
        .collect();
    paths.sort();
    paths
}

fn seccomp(asked: &Both<'_>, facts: &NodeFacts) -> Result<SecurityProfile, Error> {
    let profile = asked.pick(
        |own| own.seccomp_profile.as_ref(),
        |pod| pod.seccomp_profile.as_ref(),
    );
    match profile {
        None if facts.seccomp_default => Ok(SecurityProfile::RuntimeDefault),
        None => Ok(SecurityProfile::Unconfined),
        Some(profile) => seccomp_profile(profile, &facts.seccomp_root),
    }
}

fn seccomp_profile(profile: &SeccompProfile, root: &Path) -> Result<SecurityProfile, Error> {
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(SecurityProfile::RuntimeDefault),
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().unwrap_or_default();
            if name.is_empty() {
                return Err(Error::SeccompLocalhost);
            }
            // The API server lets no `..` in; a static pod is the operator's own.
            let path = root.join(name.trim_start_matches('/'));
            Ok(SecurityProfile::Localhost(path.display().to_string()))
        }
        _ => Ok(SecurityProfile::Unconfined),
    }
}

/// Without a word about it, containers get the runtime's profile, where the node has `AppArmor`.
fn apparmor(pod: &Pod, container: &Container, asked: &Both<'_>) -> Result<SecurityProfile, Error> {
    if let Some(profile) = asked.own.and_then(|own| own.app_armor_profile.as_ref()) {
        return apparmor_profile(profile);
    }
    let key = format!("{APPARMOR_ANNOTATION}{}", container.name);
    let annotations = pod.metadata.annotations.as_ref();
    match annotations
        .and_then(|all| all.get(&key))
        .map(String::as_str)
    {
        Some("runtime/default") => return Ok(SecurityProfile::RuntimeDefault),
        Some("unconfined") => return Ok(SecurityProfile::Unconfined),
        Some(value) => {
            if let Some(name) = value.strip_prefix("localhost/") {
                return Ok(SecurityProfile::Localhost(name.to_owned()));
            }
        }
        None => {}
    }
    match asked.pod.and_then(|pod| pod.app_armor_profile.as_ref()) {
        Some(profile) => apparmor_profile(profile),
        None => Ok(SecurityProfile::RuntimeDefault),
    }
}

fn apparmor_profile(profile: &AppArmorProfile) -> Result<SecurityProfile, Error> {
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(SecurityProfile::RuntimeDefault),
        "Unconfined" => Ok(SecurityProfile::Unconfined),
        "Localhost" => {
            let name = profile.localhost_profile.clone();
            name.map(SecurityProfile::Localhost)
                .ok_or(Error::AppArmorLocalhost)
        }
        other => Err(Error::AppArmorType(other.to_owned())),
    }
}

/// Refuses what would run as root against `runAsNonRoot`. `image_user` is the image's `USER`.
///
/// # Errors
/// In upstream's words, for the container's status.
pub fn verify_non_root(pod: &Pod, container: &Container, image_user: &str) -> Result<(), Error> {
    let asked = Both::of(pod, container);
    if asked.pick(|own| own.run_as_non_root, |pod| pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let refuse = |why: String| {
        Err(Error::NonRoot {
            why,
            pod: describe(pod),
            container: container.name.clone(),
        })
    };
    match asked.run_as_user() {
        Some(0) => return refuse("container's runAsUser breaks non-root policy".into()),
        Some(_) => return Ok(()),
        None => {}
    }
    let user = image_user.split(':').next().unwrap_or_default();
    let uid = if user.is_empty() {
        Ok(0)
    } else {
        user.parse::<i64>()
    };
    match uid {
        Err(_) => refuse(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify \
             user is non-root"
        )),
        Ok(0) => refuse("container has runAsNonRoot and image will run as root".into()),
        Ok(uid) if !(0..=i64::from(i32::MAX)).contains(&uid) => refuse(format!(
            "container has runAsNonRoot and image has an invalid user id ({uid}). (Must be \
             1-({max})): must be between 0 and {max}, inclusive",
            max = i32::MAX
        )),
        Ok(_) => Ok(()),
    }
}
