//! Faults that an object which was there before a rule may keep: ratcheting.
//!
//! Upstream: `GetValidationOptionsFromPodSpecAndMeta`.

use proto::Map;
use proto::Value;
use proto::catalogue::{Gates, gate, names as n};
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
    /// The same by the rule from before keys were merged into selectors.
    pub old_keys_of_spread: bool,
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
    /// A sidecar that says what a change of its resources means to it.
    pub resizing_sidecars: bool,
    /// Variables from files.
    pub files_of_variables: bool,
    /// Containers that say by themselves whether they are restarted.
    pub restart_rules: bool,
    /// Containers whose end restarts all of them.
    pub restart_of_all: bool,
    /// A policy of labelling volumes that mounts them with a label.
    pub mounting_with_labels: bool,
}

impl Kept {
    /// What gates let every spec have.
    #[must_use]
    pub fn of_gates(gates: Gates) -> Self {
        Self {
            deletion_cost: !gates.has(gate::POD_DELETION_COST),
            users_on_the_hosts_network: gates.has(gate::USER_NAMESPACES_HOST_NETWORK_SUPPORT),
            comparisons: gates.has(gate::TAINT_TOLERATION_COMPARISON_OPERATORS),
            resizing_sidecars: gates.has(gate::IN_PLACE_POD_VERTICAL_SCALING),
            files_of_variables: gates.has(gate::ENV_FILES),
            restart_rules: gates.has(gate::CONTAINER_RESTART_RULES),
            restart_of_all: gates.has(gate::RESTART_ALL_CONTAINERS_ON_CONTAINER_EXITS),
            mounting_with_labels: gates.has(gate::SE_LINUX_MOUNT),
            ..Self::default()
        }
    }

    /// What a spec, with the annotations of its pod or template, may keep, or have by its gates.
    #[must_use]
    pub fn of(gates: Gates, spec: PodSpec<'_>, annotations: &Map) -> Self {
        let free = Self::of_gates(gates);
        let own_users = spec.host_users() == Some(false);
        let any = |test: fn(Container<'_>) -> bool| all_containers(spec).any(test);
        let mut kept = Self {
            deletion_cost: free.deletion_cost || !annotations::is_cost(annotations),
            parts_of_huge_pages: any(has_parts_of_huge_pages) || parts(spec.overhead()),
            token_path_that_leaves: token_leaves(spec),
            sysctls_of_the_host: sysctls::reach_the_host(spec),
            restart_of_init: spec.init_containers().iter().any(|c| {
                let mut policies = c.resize_policy().iter();
                !is_sidecar(c) && policies.any(|p| p.restart_policy() == "RestartContainer")
            }),
            devices_with_users: own_users && any(|c| !c.volume_devices().is_empty()),
            users_on_the_hosts_network: free.users_on_the_hosts_network
                || own_users && spec.host_network(),
            comparisons: free.comparisons
                || spec
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
            resizing_sidecars: free.resizing_sidecars
                || spec
                    .init_containers()
                    .iter()
                    .any(|c| is_sidecar(c) && !c.resize_policy().is_empty()),
            files_of_variables: free.files_of_variables
                || any(|c| {
                    let mut sources = c.env().iter().filter_map(|var| var.value_from());
                    sources.any(|from| from.file_key_ref().is_some())
                }),
            restart_rules: free.restart_rules || has_restart_rules(spec),
            restart_of_all: free.restart_of_all
                || any(|c| {
                    let mut rules = c.restart_policy_rules().iter();
                    rules.any(|rule| rule.action() == "RestartAllContainers")
                }),
            mounting_with_labels: free.mounting_with_labels
                || spec
                    .security_context()
                    .is_some_and(|c| c.se_linux_change_policy().is_some()),
            ..Self::default()
        };
        affinity::keep(&mut kept, spec);
        kept
    }
}

fn has_restart_rules(spec: PodSpec<'_>) -> bool {
    let init = spec.init_containers();
    init.iter().any(|c| {
        let by_itself = c.restart_policy().is_some_and(|policy| policy != "Always");
        by_itself || !c.restart_policy_rules().is_empty()
    }) || spec
        .containers()
        .iter()
        .any(|c| c.restart_policy().is_some())
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
