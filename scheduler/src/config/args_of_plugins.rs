//! Arguments of plugins, with upstream's defaults and validation
//! (`pkg/scheduler/apis/config/validation/validation_pluginargs.go`).

use component::features::Features;
use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The arguments of all plugins of a profile.
#[derive(Clone, PartialEq, Debug)]
pub struct PluginArgs {
    pub node_resources_fit: FitArgs,
    pub balanced_allocation: BalancedArgs,
    pub node_affinity: NodeAffinityArgs,
    pub topology_spread: SpreadArgs,
    pub inter_pod_affinity: InterPodAffinityArgs,
    pub preemption: PreemptionArgs,
    pub volume_binding: VolumeBindingArgs,
    pub gates: Gates,
}

/// Feature gates that plugins look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gates {
    /// `TaintTolerationComparisonOperators`
    pub compare_taints: bool,
    /// `SchedulerAsyncPreemption`
    pub async_preemption: bool,
    /// `StorageCapacityScoring`
    pub storage_scoring: bool,
    /// `VolumeLimitScaling`
    pub volume_limits: bool,
}

/// A resource and its weight in scores.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResourceSpec {
    pub name: String,
    #[serde(default)]
    pub weight: i64,
}

/// `NodeResourcesFitArgs`
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FitArgs {
    pub ignored_resources: Vec<String>,
    pub ignored_resource_groups: Vec<String>,
    pub scoring_strategy: ScoringStrategy,
}

/// How resources that are left are scored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ScoringStrategy {
    #[serde(rename = "type")]
    pub kind: String,
    pub resources: Vec<ResourceSpec>,
    pub requested_to_capacity_ratio: Option<Ratio>,
}

impl Default for ScoringStrategy {
    fn default() -> Self {
        Self {
            kind: "LeastAllocated".to_owned(),
            resources: cpu_and_memory(),
            requested_to_capacity_ratio: None,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ratio {
    pub shape: Vec<ShapePoint>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShapePoint {
    pub utilization: i32,
    pub score: i32,
}

/// `NodeResourcesBalancedAllocationArgs`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BalancedArgs {
    pub resources: Vec<ResourceSpec>,
}

impl Default for BalancedArgs {
    fn default() -> Self {
        Self {
            resources: cpu_and_memory(),
        }
    }
}

/// `NodeAffinityArgs`
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NodeAffinityArgs {
    pub added_affinity: Option<NodeAffinity>,
}

/// `PodTopologySpreadArgs`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SpreadArgs {
    pub default_constraints: Vec<TopologySpreadConstraint>,
    /// `System` or `List`.
    pub defaulting_type: String,
}

impl Default for SpreadArgs {
    fn default() -> Self {
        Self {
            default_constraints: Vec::new(),
            defaulting_type: "System".to_owned(),
        }
    }
}

/// `InterPodAffinityArgs`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct InterPodAffinityArgs {
    pub hard_pod_affinity_weight: i32,
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        Self {
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing_pods: false,
        }
    }
}

/// `DefaultPreemptionArgs`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PreemptionArgs {
    pub min_candidate_nodes_percentage: i32,
    pub min_candidate_nodes_absolute: i32,
}

impl Default for PreemptionArgs {
    fn default() -> Self {
        Self {
            min_candidate_nodes_percentage: 10,
            min_candidate_nodes_absolute: 100,
        }
    }
}

/// `VolumeBindingArgs`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct VolumeBindingArgs {
    pub bind_timeout_seconds: i64,
    /// How the use of storage is scored.
    pub shape: Vec<ShapePoint>,
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        let point = |utilization, score| ShapePoint { utilization, score };
        Self {
            bind_timeout_seconds: 600,
            shape: vec![point(0, 10), point(100, 0)],
        }
    }
}

fn cpu_and_memory() -> Vec<ResourceSpec> {
    ["cpu", "memory"]
        .map(|name| ResourceSpec {
            name: name.to_owned(),
            weight: 1,
        })
        .into()
}

fn read<T: DeserializeOwned>(args: &serde_json::Value) -> Result<T, String> {
    let mut args = args.clone();
    if let Some(fields) = args.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    if args.is_null() {
        args = serde_json::json!({});
    }
    proto::typed::from_json_value(args).map_err(|e| e.to_string())
}

impl PluginArgs {
    /// All defaults.
    #[must_use]
    pub fn new(features: &Features) -> Self {
        Self {
            node_resources_fit: FitArgs::default(),
            balanced_allocation: BalancedArgs::default(),
            node_affinity: NodeAffinityArgs::default(),
            topology_spread: SpreadArgs::default(),
            inter_pod_affinity: InterPodAffinityArgs::default(),
            preemption: PreemptionArgs::default(),
            volume_binding: VolumeBindingArgs::default(),
            gates: Gates {
                compare_taints: features.enabled("TaintTolerationComparisonOperators"),
                async_preemption: features.enabled("SchedulerAsyncPreemption"),
                storage_scoring: features.enabled("StorageCapacityScoring"),
                volume_limits: features.enabled("VolumeLimitScaling"),
            },
        }
    }

    /// Takes the arguments of a plugin over. Those of plugins without any are ignored, as upstream
    /// leaves them to the plugin.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn take(&mut self, plugin: &str, args: &serde_json::Value) -> Result<(), String> {
        match plugin {
            "NodeResourcesFit" => self.node_resources_fit = read(args)?,
            "NodeResourcesBalancedAllocation" => self.balanced_allocation = read(args)?,
            "NodeAffinity" => self.node_affinity = read(args)?,
            "PodTopologySpread" => self.topology_spread = read(args)?,
            "InterPodAffinity" => self.inter_pod_affinity = read(args)?,
            "DefaultPreemption" => self.preemption = read(args)?,
            "VolumeBinding" => self.volume_binding = read(args)?,
            _ => {}
        }
        for specs in [
            &mut self.node_resources_fit.scoring_strategy.resources,
            &mut self.balanced_allocation.resources,
        ] {
            if specs.is_empty() {
                *specs = cpu_and_memory();
            }
            for spec in specs.iter_mut().filter(|s| s.weight == 0) {
                spec.weight = 1;
            }
        }
        Ok(())
    }

    /// Upstream's `Validate…Args`.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn validate(&self) -> Result<(), String> {
        let strategy = &self.node_resources_fit.scoring_strategy;
        let ratio = match strategy.kind.as_str() {
            "LeastAllocated" | "MostAllocated" => None,
            "RequestedToCapacityRatio" => Some(
                strategy
                    .requested_to_capacity_ratio
                    .clone()
                    .unwrap_or_default(),
            ),
            other => {
                return Err(format!(
                    "scoringStrategy.type: Unsupported value: {other:?}"
                ));
            }
        };
        if let Some(ratio) = ratio {
            let path = "scoringStrategy.requestedToCapacityRatio.shape";
            shape(path, &ratio.shape)?;
        }
        weights("scoringStrategy.resources", &strategy.resources)?;
        weights("resources", &self.balanced_allocation.resources)?;
        let spread = &self.topology_spread;
        match spread.defaulting_type.as_str() {
            "List" => {}
            "System" if spread.default_constraints.is_empty() => {}
            "System" => {
                return Err("defaultingType: when .defaultConstraints are not empty".to_owned());
            }
            other => return Err(format!("defaultingType: Unsupported value: {other:?}")),
        }
        if !(0..=100).contains(&self.inter_pod_affinity.hard_pod_affinity_weight) {
            return Err("hardPodAffinityWeight: not in valid range [0, 100]".to_owned());
        }
        if !(0..=100).contains(&self.preemption.min_candidate_nodes_percentage) {
            return Err("minCandidateNodesPercentage: not in valid range [0, 100]".to_owned());
        }
        if self.volume_binding.bind_timeout_seconds < 0 {
            return Err(
                "bindTimeoutSeconds: invalid BindTimeoutSeconds, should not be a negative value"
                    .to_owned(),
            );
        }
        shape("shape", &self.volume_binding.shape)?;
        if self.preemption.min_candidate_nodes_absolute < 0 {
            return Err("minCandidateNodesAbsolute: not in valid range [0, inf)".to_owned());
        }
        Ok(())
    }
}

fn weights(path: &str, specs: &[ResourceSpec]) -> Result<(), String> {
    for (i, spec) in specs.iter().enumerate() {
        if !(1..=100).contains(&spec.weight) {
            return Err(format!(
                "{path}[{i}].weight: resource weight of {} not in valid range [1, 100]",
                spec.name
            ));
        }
        if specs[..i].iter().any(|s| s.name == spec.name) {
            return Err(format!(
                "{path}[{i}].name: Duplicate value: {:?}",
                spec.name
            ));
        }
    }
    Ok(())
}

fn shape(path: &str, points: &[ShapePoint]) -> Result<(), String> {
    if points.is_empty() {
        return Err(format!(
            "{path}: Required value: at least one point must be specified"
        ));
    }
    for (i, point) in points.iter().enumerate() {
        if i > 0 && points[i - 1].utilization >= point.utilization {
            return Err(format!(
                "{path}[{i}].utilization: utilization values must be sorted in increasing order"
            ));
        }
        if !(0..=100).contains(&point.utilization) {
            return Err(format!(
                "{path}[{i}].utilization: not in valid range [0, 100]"
            ));
        }
        if !(0..=10).contains(&point.score) {
            return Err(format!("{path}[{i}].score: not in valid range [0, 10]"));
        }
    }
    Ok(())
}
