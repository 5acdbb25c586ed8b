//! Filters with what they prepared for a pod, and pods imagined on nodes.

use crate::cluster::{NodeIndex, WhatIf};
use crate::framework::{Cycle, Rejection, State};
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::queue::Nominated;

/// The filters that have something to say about a pod, with their state.
pub struct Filters<'a> {
    pub(super) profile: &'a Profile,
    pub(super) states: Vec<(usize, Box<dyn State>)>,
}

impl Clone for Filters<'_> {
    fn clone(&self) -> Self {
        let states = self
            .states
            .iter()
            .map(|(i, s)| (*i, (**s).boxed_clone()))
            .collect();
        Self {
            profile: self.profile,
            states,
        }
    }
}

impl<'a> Filters<'a> {
    pub(super) fn none(profile: &'a Profile) -> Self {
        Self {
            profile,
            states: Vec::new(),
        }
    }

    /// Holds a pod against a node; the first plugin that says no has the word.
    pub(super) fn run(
        &self,
        cycle: &Cycle<'_>,
        node: NodeIndex,
    ) -> Result<(), (&'static str, Rejection)> {
        for (index, state) in &self.states {
            let plugin = &self.profile.plugins[*index];
            if plugin.points.filter {
                plugin
                    .plugin
                    .filter(cycle, &**state, node)
                    .map_err(|r| (plugin.plugin.name(), r))?;
            }
        }
        Ok(())
    }

    /// Imagines a pod on a node or away from it.
    pub fn imagine(&mut self, cycle: &Cycle<'_>, other: &PodInfo, node: NodeIndex, added: bool) {
        for (index, state) in &mut self.states {
            self.profile.plugins[*index]
                .plugin
                .imagine(cycle, &mut **state, other, node, added);
        }
    }

    /// Holds a pod against a node on which room is kept for others of no lower priority: it has to fit
    /// with them, and, since its own terms may count on them, without them.
    ///
    /// # Errors
    /// Which plugin said no, and why.
    pub fn run_with_nominated(
        &self,
        cycle: &Cycle<'_>,
        nominated: &Nominated,
        node: NodeIndex,
    ) -> Result<(), (&'static str, Rejection)> {
        if nominated.is_empty() {
            return self.run(cycle, node);
        }
        let kept = nominated.on(cycle.cluster.name(node));
        let mut others = kept
            .iter()
            .filter(|p| p.priority >= cycle.pod.priority && p.uid != cycle.pod.uid)
            .filter(|p| cycle.cluster.placed(&p.uid).is_none())
            .peekable();
        if others.peek().is_some() {
            let mut what_if = match cycle.what_if.filter(|w| w.node == node) {
                Some(imagined) => imagined.clone(),
                None => WhatIf::of(cycle.cluster, node),
            };
            let mut with = self.clone();
            for other in others {
                what_if.add(other);
                with.imagine(cycle, other, node, true);
            }
            with.run(
                &Cycle {
                    what_if: Some(&what_if),
                    ..*cycle
                },
                node,
            )?;
        }
        self.run(cycle, node)
    }
}
