//! What plugins are told by the configuration file, and what they remember between writes.

use component::Supervisor;
use component::features::Features;
use component::metrics::Metrics;

use super::config::{Error, File};
use super::{
    Plugin, event_rate_limit, image_policy, namespace_lifecycle, pod_node_selector, pod_security,
    pod_tolerations, policy, quota, webhook,
};
use crate::registry::Registry;

/// What is around plugins while they are configured.
pub(super) struct Around<'a> {
    pub(super) registry: &'a Registry,
    pub(super) features: &'a Features,
    pub(super) tasks: &'a Supervisor,
    pub(super) metrics: &'a Metrics,
    /// What is measured of webhooks.
    pub(super) webhooks: &'a webhook::Families,
}

/// The state of all plugins.
pub(super) struct State {
    pub(super) doomed: namespace_lifecycle::Doomed,
    pub(super) quotas: quota::Locks,
    pub(super) limited: quota::Limited,
    pub(super) pod_security: pod_security::Settings,
    pub(super) event_limits: Vec<event_rate_limit::Limit>,
    pub(super) node_selectors: pod_node_selector::Selectors,
    pub(super) tolerations: pod_tolerations::Lists,
    /// Only if the plugin is on.
    pub(super) images: Option<image_policy::Policy>,
    /// Only if the plugin is on.
    pub(super) mutating_policies: Option<policy::State<policy::Mutating>>,
    /// Only if the plugin is on.
    pub(super) validating_policies: Option<policy::State<policy::Validating>>,
    /// Only if the plugin is on.
    pub(super) mutating_webhooks: Option<webhook::State>,
    /// Only if the plugin is on.
    pub(super) validating_webhooks: Option<webhook::State>,
}

impl State {
    /// Tells the plugins what the file has for them.
    pub(super) fn configure(
        plugins: &[&'static Plugin],
        file: &File,
        around: &Around<'_>,
    ) -> Result<Self, Error> {
        let mut state = Self {
            doomed: namespace_lifecycle::Doomed::default(),
            quotas: quota::Locks::default(),
            limited: quota::Limited::default(),
            pod_security: pod_security::Settings::new(around.metrics),
            event_limits: Vec::new(),
            node_selectors: pod_node_selector::Selectors::new(),
            tolerations: pod_tolerations::Lists::default(),
            images: None,
            mutating_policies: None,
            validating_policies: None,
            mutating_webhooks: None,
            validating_webhooks: None,
        };
        for plugin in plugins {
            let told = file.of(plugin.name)?;
            let Some(configure) = plugin.configure else {
                continue;
            };
            configure(&mut state, told.as_deref(), around).map_err(|cause| Error::Init {
                plugin: plugin.name,
                cause,
            })?;
        }
        Ok(state)
    }
}
