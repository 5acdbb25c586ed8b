//! All of upstream's plugins: what is here, and what is still missing.
//!
//! The table is the default profile in upstream's order (`pkg/scheduler/apis/config/v1/default_plugins.go`),
//! followed by plugins that upstream enables by feature gates or on demand. A missing plugin is left out
//! of the default profile with a word in the log; a configuration that names it is refused.

use std::time::Duration;

use crate::config::PluginArgs;
use crate::framework::Plugin;
use crate::profile::Points;

mod declared_features;
mod default_binder;
mod dynamic_resources;
mod image_locality;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod pod_affinity;
mod preemption;
mod queueing;
mod taint_toleration;
mod topology_spread;
mod volume_binding;
mod volume_limits;
mod volume_restrictions;
mod volume_zone;
mod volumes;

/// Makes a plugin out of a profile's arguments.
pub type Make = fn(&PluginArgs) -> Box<dyn Plugin>;

/// One of upstream's plugins.
pub struct Entry {
    pub name: &'static str,
    /// Its weight in the default profile; 0 means 1 if it scores at all.
    pub weight: i64,
    /// Whether the default profile has it.
    pub default: bool,
    /// The points that it has upstream, too.
    pub points: Points,
    /// How it is made; none if it is missing.
    pub make: Option<Make>,
    /// What that means, if it is missing.
    pub missing: &'static str,
}

const NONE: Points = Points {
    pre_enqueue: false,
    queue_sort: false,
    pre_filter: false,
    filter: false,
    post_filter: false,
    pre_score: false,
    score: false,
    reserve: false,
    permit: false,
    pre_bind: false,
    bind: false,
    post_bind: false,
};
const FILTER: Points = Points {
    pre_filter: true,
    filter: true,
    ..NONE
};
const SCORE: Points = Points {
    pre_score: true,
    score: true,
    ..NONE
};
const BOTH: Points = Points {
    pre_score: true,
    score: true,
    ..FILTER
};

const ENTRY: Entry = Entry {
    name: "",
    weight: 0,
    default: true,
    points: NONE,
    make: None,
    missing: "",
};

/// The table.
pub const PLUGINS: &[Entry] = &[
    Entry {
        name: "SchedulingGates",
        points: Points {
            pre_enqueue: true,
            ..NONE
        },
        make: Some(|_| Box::new(queueing::SchedulingGates)),
        ..ENTRY
    },
    Entry {
        name: "PrioritySort",
        points: Points {
            queue_sort: true,
            ..NONE
        },
        make: Some(|_| Box::new(queueing::PrioritySort)),
        ..ENTRY
    },
    Entry {
        name: "NodeName",
        points: FILTER,
        make: Some(|_| Box::new(node_name::NodeName)),
        ..ENTRY
    },
    Entry {
        name: "NodeUnschedulable",
        points: FILTER,
        make: Some(|args| {
            Box::new(taint_toleration::NodeUnschedulable {
                compare: args.gates.compare_taints,
            })
        }),
        ..ENTRY
    },
    Entry {
        name: "TaintToleration",
        weight: 3,
        points: BOTH,
        make: Some(|args| {
            Box::new(taint_toleration::TaintToleration {
                compare: args.gates.compare_taints,
            })
        }),
        ..ENTRY
    },
    Entry {
        name: "NodeAffinity",
        weight: 2,
        points: BOTH,
        make: Some(|args| {
            Box::new(node_affinity::NodeAffinity::new(
                args.node_affinity.added_affinity.as_ref(),
            ))
        }),
        ..ENTRY
    },
    Entry {
        name: "NodePorts",
        points: FILTER,
        make: Some(|_| Box::new(node_ports::NodePorts)),
        ..ENTRY
    },
    Entry {
        name: "NodeResourcesFit",
        weight: 1,
        points: BOTH,
        make: Some(fit),
        ..ENTRY
    },
    Entry {
        name: "VolumeRestrictions",
        points: FILTER,
        make: Some(|_| Box::new(volume_restrictions::VolumeRestrictions)),
        ..ENTRY
    },
    Entry {
        name: "NodeVolumeLimits",
        points: FILTER,
        make: Some(|args| {
            Box::new(volume_limits::VolumeLimits {
                scaling: args.gates.volume_limits,
            })
        }),
        ..ENTRY
    },
    Entry {
        name: "VolumeBinding",
        points: Points {
            reserve: true,
            pre_bind: true,
            ..BOTH
        },
        make: Some(volume_binding),
        ..ENTRY
    },
    Entry {
        name: "VolumeZone",
        points: FILTER,
        make: Some(|_| Box::new(volume_zone::VolumeZone)),
        ..ENTRY
    },
    Entry {
        name: "PodTopologySpread",
        weight: 2,
        points: BOTH,
        make: Some(|args| {
            Box::new(topology_spread::TopologySpread::new(
                &args.topology_spread,
                args.gates.compare_taints,
            ))
        }),
        ..ENTRY
    },
    Entry {
        name: "InterPodAffinity",
        weight: 2,
        points: BOTH,
        make: Some(pod_affinity),
        ..ENTRY
    },
    // Freeing a device that nobody uses is better than making a pod go.
    Entry {
        name: "DynamicResources",
        weight: 2,
        points: FILTER,
        make: Some(|_| Box::new(dynamic_resources::DynamicResources)),
        ..ENTRY
    },
    Entry {
        name: "DefaultPreemption",
        points: Points {
            pre_enqueue: true,
            post_filter: true,
            ..NONE
        },
        make: Some(|args| {
            Box::new(preemption::Preemption {
                args: args.preemption.clone(),
                asynchronous: args.gates.async_preemption,
            })
        }),
        ..ENTRY
    },
    Entry {
        name: "NodeResourcesBalancedAllocation",
        weight: 1,
        points: SCORE,
        make: Some(balanced),
        ..ENTRY
    },
    Entry {
        name: "ImageLocality",
        weight: 1,
        points: Points {
            score: true,
            ..NONE
        },
        make: Some(|_| Box::new(image_locality::ImageLocality)),
        ..ENTRY
    },
    Entry {
        name: "DefaultBinder",
        points: Points { bind: true, ..NONE },
        make: Some(|_| Box::new(default_binder::DefaultBinder)),
        ..ENTRY
    },
    Entry {
        name: "NodeDeclaredFeatures",
        points: FILTER,
        make: Some(|_| Box::new(declared_features::DeclaredFeatures)),
        ..ENTRY
    },
    Entry {
        name: "GangScheduling",
        default: false,
        points: Points {
            pre_enqueue: true,
            permit: true,
            ..NONE
        },
        missing: "pod groups are not implemented yet",
        ..ENTRY
    },
    Entry {
        name: "PodGroupPodsCount",
        default: false,
        missing: "pod groups are not implemented yet",
        ..ENTRY
    },
    Entry {
        name: "TopologyPlacementGenerator",
        default: false,
        missing: "pod groups are not implemented yet",
        ..ENTRY
    },
    Entry {
        name: "DeferredPodScheduling",
        default: false,
        missing: "not implemented yet",
        ..ENTRY
    },
];

/// The entry of a plugin.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    PLUGINS.iter().find(|e| e.name == name)
}

fn weights(specs: &[crate::config::ResourceSpec]) -> Vec<node_resources::Weighted> {
    let one = |s: &crate::config::ResourceSpec| node_resources::Weighted {
        name: s.name.clone(),
        weight: s.weight,
    };
    specs.iter().map(one).collect()
}

fn fit(args: &PluginArgs) -> Box<dyn Plugin> {
    let args = &args.node_resources_fit;
    let scoring = &args.scoring_strategy;
    let strategy = match scoring.kind.as_str() {
        "MostAllocated" => node_resources::Strategy::MostAllocated,
        "RequestedToCapacityRatio" => {
            let ratio = scoring.requested_to_capacity_ratio.as_ref();
            let points = ratio.map(|r| shape(&r.shape)).unwrap_or_default();
            node_resources::Strategy::RequestedToCapacityRatio(points)
        }
        _ => node_resources::Strategy::LeastAllocated,
    };
    Box::new(node_resources::Fit {
        ignored: args.ignored_resources.clone(),
        ignored_groups: args.ignored_resource_groups.clone(),
        strategy,
        weights: weights(&scoring.resources),
    })
}

/// Shapes of configurations score up to 10.
fn shape(points: &[crate::config::ShapePoint]) -> node_resources::Shape {
    let one = |p: &crate::config::ShapePoint| (i64::from(p.utilization), i64::from(p.score) * 10);
    points.iter().map(one).collect()
}

fn volume_binding(args: &PluginArgs) -> Box<dyn Plugin> {
    let own = &args.volume_binding;
    let points = if args.gates.storage_scoring {
        shape(&own.shape)
    } else {
        Vec::new()
    };
    Box::new(volume_binding::VolumeBinding {
        timeout: Duration::from_secs(u64::try_from(own.bind_timeout_seconds).unwrap_or(0)),
        shape: points,
    })
}

fn balanced(args: &PluginArgs) -> Box<dyn Plugin> {
    Box::new(node_resources::Balanced {
        weights: weights(&args.balanced_allocation.resources),
    })
}

fn pod_affinity(args: &PluginArgs) -> Box<dyn Plugin> {
    let args = &args.inter_pod_affinity;
    Box::new(pod_affinity::PodAffinity {
        hard_weight: args.hard_pod_affinity_weight.into(),
        ignore_placed: args.ignore_preferred_terms_of_existing_pods,
    })
}
