//! What events mean for pods that wait, and why pods are moved.

use super::{Plugins, Queued};
use crate::framework::{Action, Change, Event, Resource};

/// What an event means for a pod that waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Strategy {
    Stay,
    AfterBackoff,
    AtOnce,
}

/// Why a pod comes to a place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Cause {
    Happened(Event),
    Named(&'static str),
    /// It was there already.
    None,
}

/// A pod without a node was created.
pub(super) const CREATED: Cause =
    Cause::Happened(Event::new(Resource::UnscheduledPod, Action::ADD));

impl Cause {
    /// As metrics show it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Happened(event) => event.name(),
            Self::Named(name) => name.to_owned(),
            Self::None => String::new(),
        }
    }
}

/// Asks whether a pod may be tried at all. A plugin that says no has rejected it.
pub(super) fn gated(queued: &mut Queued, plugins: &impl Plugins) -> bool {
    queued.gated_by = plugins.gate(&queued.pod);
    if let Some(gate) = queued.gated_by
        && !queued.rejected_by.contains(&gate)
    {
        queued.rejected_by.push(gate);
    }
    queued.gated_by.is_some()
}

/// What an event means for a pod: nothing, unless a plugin that rejected it says otherwise.
pub(super) fn strategy(
    queued: &Queued,
    event: Event,
    change: &Change,
    plugins: &impl Plugins,
) -> Strategy {
    if queued.rejected_by.is_empty() && queued.pending.is_empty() {
        return Strategy::AfterBackoff;
    }
    if event.is_wildcard() {
        // It may be meant for one pod only.
        let other = matches!(change, Change::Pod { new: Some(p), .. } if p.uid != queued.pod.uid);
        return if other {
            Strategy::Stay
        } else {
            Strategy::AfterBackoff
        };
    }
    let helps = |plugin: &&'static str| plugins.helps(plugin, &queued.pod, event, change);
    if queued.pending.iter().any(&helps) {
        Strategy::AtOnce
    } else if queued.rejected_by.iter().any(helps) {
        Strategy::AfterBackoff
    } else {
        Strategy::Stay
    }
}
