//! Faults that an object which was there before a rule may keep: ratcheting.
//!
//! Upstream: `GetValidationOptionsFromPodSpecAndMeta`.

use proto::Map;
use proto::Value;
use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::core_v1::{Container, PodSpec};
use proto::view::{Node, View};

use super::containers::{all_containers, is_sidecar};
use super::files::local_path;
use super::{affinity, annotations, resources, security, sysctls};
use crate::resource_names as kinds;
use crate::rules;

/// What a spec has that new ones may not have, each by the place where it is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each stands for a rule of its own, in no order"
)]
pub struct Kept {
    /// A cost of deletion that is no number.
    pub deletion_cost: bool,
    /// Values in selectors of other pods that no label can have.
    pub values_of_pods: bool,
    /// The same in requirements of nodes.
    pub values_of_nodes: bool,
    /// Selectors, and keys of labels, that spread pods badly.
    pub selectors_of_spread: bool,
    pub keys_of_spread: bool,
    /// Amounts that are no whole number of pages.
    pub parts_of_huge_pages: bool,
    /// A token outside its volume.
    pub token_path_that_leaves: bool,
    /// Kernel parameters of namespaces that are shared with the host.
    pub sysctls_of_the_host: bool,
    /// An init container that would be restarted to get other resources.
    pub restart_of_init: bool,
    /// Devices of volumes, or the host's network, with users of the pod's own.
    pub devices_with_users: bool,
    pub users_on_the_hosts_network: bool,
    /// Tolerations that compare numbers.
    pub comparisons: bool,
    /// A volume of an image that is not named.
    pub empty_image_reference: bool,
    /// `CAP_SYS_ADMIN` without escalation of privileges.
    pub administrators_without_escalation: bool,
}

impl Kept {
    /// What a spec, with the annotations of its pod or template, may keep.
    #[must_use]
    pub fn of(spec: PodSpec<'_>, annotations: &Map) -> Self {
        let own_users = spec.host_users() == Some(false);
        let any = |test: fn(Container<'_>) -> bool| all_containers(spec).any(test);
        let mut kept = Self {
            deletion_cost: !annotations::is_cost(annotations),
            parts_of_huge_pages: any(has_parts_of_huge_pages) || parts(spec.overhead()),
            token_path_that_leaves: token_leaves(spec),
            sysctls_of_the_host: sysctls::reach_the_host(spec),
            restart_of_init: spec.init_containers().iter().any(|c| {
                let mut policies = c.resize_policy().iter();
                !is_sidecar(c) && policies.any(|p| p.restart_policy() == "RestartContainer")
            }),
            devices_with_users: own_users && any(|c| !c.volume_devices().is_empty()),
            users_on_the_hosts_network: own_users && spec.host_network(),
            comparisons: spec
                .tolerations()
                .iter()
                .any(|t| matches!(t.operator(), "Lt" | "Gt")),
            empty_image_reference: spec
                .volumes()
                .iter()
                .filter_map(|v| v.image())
                .any(|image| image.reference().is_empty()),
            administrators_without_escalation: any(|c| {
                c.security_context()
                    .is_some_and(security::administrates_without_escalation)
            }),
            ..Self::default()
        };
        affinity::keep(&mut kept, spec);
        kept
    }
}

fn has_parts_of_huge_pages(container: Container<'_>) -> bool {
    parts(container.resources().limits()) || parts(container.resources().requests())
}

fn parts(amounts: &Map) -> bool {
    amounts.iter().any(|(name, value)| {
        let amount = resources::amount(Some(value));
        kinds::is_huge_page(name.as_str())
            && amount.is_some_and(|amount| !kinds::is_whole_pages(name.as_str(), amount))
    })
}

fn token_leaves(spec: PodSpec<'_>) -> bool {
    let sources = spec.volumes().iter().filter_map(|v| v.projected());
    let sources = sources
        .flat_map(|p| p.node().items(n::SOURCES))
        .map(Node::new);
    let tokens = sources.filter_map(|s| s.get(n::SERVICE_ACCOUNT_TOKEN));
    { tokens }.any(|token: &Value| {
        let leaves = |e: &mut Errors<'_>| {
            local_path(e, Spot::node(token), Node::new(token).str(n::PATH));
        };
        rules::breaks(leaves)
    })
}
