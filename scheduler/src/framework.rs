//! The plugin framework: extension points, what plugins answer, and what decisions say.
//!
//! The points and their meaning are upstream's (`k8s.io/kube-scheduler/framework/interface.go`). Two
//! things differ in form: a plugin is one trait with a default for each point, its entry in
//! [`crate::plugins`] says which points it has; and scores are computed for all nodes in one call.
//! Everything up to [`Plugin::permit`] is pure; only binding is asynchronous.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::cluster::{Cluster, NodeIndex, Row, Usage, WhatIf};
use crate::pod::PodInfo;
use crate::queue::{Queued, SortKey};

mod events;
mod fit_error;

pub use events::{Action, Change, Event, Interest, Resource, node_changes, pod_changes};
pub use fit_error::{Diagnosis, FitError};

/// The best score that a plugin gives a node; the worst is 0.
pub const MAX_SCORE: i64 = 100;

/// How bad a rejection is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Code {
    /// Something else would have to be gone first: preemption may help.
    Unschedulable,
    /// Preemption would not help.
    Unresolvable,
    /// Someone outside has to finish something first; no back-off then.
    Pending,
    /// The plugin failed; no word about the pod.
    Error,
}

impl Code {
    /// As upstream's metrics and logs spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unschedulable => "Unschedulable",
            Self::Unresolvable => "UnschedulableAndUnresolvable",
            Self::Pending => "Pending",
            Self::Error => "Error",
        }
    }
}

/// Why a plugin says no.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    pub code: Code,
    pub reasons: Reasons,
}

/// Reasons, each counted for itself in messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reasons {
    One(Cow<'static, str>),
    Many(Vec<Cow<'static, str>>),
}

impl Reasons {
    #[must_use]
    pub fn as_slice(&self) -> &[Cow<'static, str>] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    /// All of them in one text.
    #[must_use]
    pub fn join(&self) -> String {
        self.as_slice().join(", ")
    }
}

impl Rejection {
    pub fn unschedulable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: Code::Unschedulable,
            reasons: Reasons::One(reason.into()),
        }
    }

    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: Code::Unresolvable,
            reasons: Reasons::One(reason.into()),
        }
    }

    pub fn error(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: Code::Error,
            reasons: Reasons::One(reason.into()),
        }
    }
}

/// Yes, or why not.
pub type Verdict = Result<(), Rejection>;

/// What a plugin computed once for a pod and reads for each node.
pub trait State: Any + Send {
    fn boxed_clone(&self) -> Box<dyn State>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Any + Send + Clone> State for T {
    fn boxed_clone(&self) -> Box<dyn State> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The state of a plugin, as the plugin knows it.
///
/// # Panics
/// If it is another plugin's: a mistake of this module, which hands each plugin its own.
#[must_use]
pub fn own<T: 'static>(state: &dyn State) -> &T {
    state
        .as_any()
        .downcast_ref()
        .expect("a plugin gets the state that it made")
}

/// [`own`], to change.
///
/// # Panics
/// As [`own`].
#[must_use]
pub fn own_mut<T: 'static>(state: &mut dyn State) -> &mut T {
    state
        .as_any_mut()
        .downcast_mut()
        .expect("a plugin gets the state that it made")
}

/// What a plugin says before nodes are looked at.
pub enum Prepared {
    /// It has nothing to say about this pod: its filter (or score) is left out.
    Skip,
    /// It is asked for each node.
    Ready {
        state: Box<dyn State>,
        /// If only these nodes can do, whether they exist ([`crate::cluster::NO_NODE`]) or not.
        nodes: Option<Vec<NodeIndex>>,
    },
    /// No node can do.
    Rejected(Rejection),
}

impl Prepared {
    /// Asked for each node, with this state.
    pub fn with(state: impl Any + Send + Clone) -> Self {
        Self::Ready {
            state: Box::new(state),
            nodes: None,
        }
    }
}

/// One pod held against the cluster.
#[derive(Clone, Copy)]
pub struct Cycle<'a> {
    pub cluster: &'a Cluster,
    pub pod: &'a PodInfo,
    /// A node that is looked at as if other pods were on it.
    pub what_if: Option<&'a WhatIf>,
}

impl<'a> Cycle<'a> {
    #[must_use]
    pub fn new(cluster: &'a Cluster, pod: &'a PodInfo) -> Self {
        Self {
            cluster,
            pod,
            what_if: None,
        }
    }

    fn imagined(&self, node: NodeIndex) -> Option<&'a WhatIf> {
        self.what_if.filter(|w| w.node == node)
    }

    #[must_use]
    pub fn usage(&self, node: NodeIndex) -> &'a Usage {
        self.imagined(node)
            .map_or_else(|| self.cluster.usage(node), |w| &w.usage)
    }

    #[must_use]
    pub fn row(&self, node: NodeIndex) -> &'a Row {
        self.imagined(node)
            .map_or_else(|| self.cluster.row(node), |w| &w.row)
    }
}

/// What a plugin says about a pod that has its node, before it is bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Permit {
    Now,
    /// Only once it is allowed, or rejected after this time.
    Wait(Duration),
    Rejected(Rejection),
}

/// What a plugin can do to make room.
#[derive(Clone, Default, Debug)]
pub struct PostFiltered {
    /// The node where room will be; empty takes a nomination back, none leaves it.
    pub nominate: Option<String>,
    /// Pods that have to go for it, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them go against a disruption budget.
    pub violations: usize,
    /// What is to be said about it.
    pub message: String,
    /// No other plugin need be asked: room will be made, or it is of no use.
    pub settled: bool,
}

/// Why binding failed.
#[derive(thiserror::Error, Debug)]
pub enum BindError {
    #[error("binding rejected: {0}")]
    Api(#[source] component::client::Error),
    #[error(transparent)]
    Extender(crate::extender::Error),
    #[error("preempted by DefaultPreemption")]
    Preempted,
    #[error("running PreBind plugin {plugin:?}: {reason}")]
    PreBind {
        plugin: &'static str,
        reason: String,
    },
    #[error("running Permit plugin {plugin:?}: {reason}")]
    Permit {
        plugin: &'static str,
        reason: String,
    },
}

/// A pod on its way to its node.
#[derive(Clone, Copy)]
pub struct Binding<'a> {
    pub client: &'a component::client::Client,
    pub pod: &'a PodInfo,
    pub node: &'a str,
    pub observed: &'a dyn Observed,
}

/// The cluster as it is now, outside of cycles.
pub trait Observed: Send + Sync {
    /// Looks at the newest state. Nothing else goes on meanwhile.
    fn look(&self, look: &mut dyn FnMut(&mut Cluster));
    /// Told when anything changes that a binding may wait for. To be asked for before looking.
    fn changed(&self) -> tokio::sync::futures::Notified<'_>;
}

/// What a plugin holds for a pod that got its node.
pub trait Reservation: Send + Sync {
    /// Does what has to be done before the pod is bound.
    fn prepare<'a>(&'a self, binding: Binding<'a>) -> BoxFuture<'a, Result<(), String>>;
    /// The pod is not bound after all.
    fn undo(&self, cluster: &mut Cluster);
}

/// What a plugin answers when a pod got its node: nothing to do, something to do, or no.
pub type Reserved = Result<Option<Arc<dyn Reservation>>, Rejection>;

/// A scheduler plugin. Each method is an extension point.
pub trait Plugin: Send + Sync {
    /// Its stable name in configurations and metrics.
    fn name(&self) -> &'static str;

    /// The events that may make a pod schedulable that it rejected (`EnqueueExtensions`).
    fn interests(&self) -> &'static [Interest] {
        &[]
    }

    /// Whether an event that it is interested in may do so for this pod (`QueueingHintFn`).
    fn hint(&self, _cluster: &Cluster, _pod: &PodInfo, _event: Event, _change: &Change) -> bool {
        true
    }

    /// Whether a pod may be tried at all.
    ///
    /// # Errors
    /// Why not.
    fn pre_enqueue(&self, _cluster: &Cluster, _pod: &PodInfo) -> Verdict {
        Ok(())
    }

    /// Where a pod stands in the queue: lower is earlier (`QueueSort`).
    fn sort_key(&self, queued: &Queued) -> SortKey {
        SortKey::first_come(queued)
    }

    /// Before nodes are looked at (`PreFilter`).
    fn pre_filter(&self, _cycle: &Cycle<'_>) -> Prepared {
        Prepared::with(())
    }

    /// A pod is imagined on a node, or away from it (`AddPod`, `RemovePod`).
    fn imagine(
        &self,
        _cycle: &Cycle<'_>,
        _state: &mut dyn State,
        _other: &PodInfo,
        _node: NodeIndex,
        _added: bool,
    ) {
    }

    /// Whether the pod fits a node.
    ///
    /// # Errors
    /// Why not.
    fn filter(&self, _cycle: &Cycle<'_>, _state: &dyn State, _node: NodeIndex) -> Verdict {
        Ok(())
    }

    /// No node fits: what can be done about it.
    fn post_filter(&self, _attempt: &crate::decide::Attempt<'_>) -> Option<PostFiltered> {
        None
    }

    /// Before nodes that fit are scored.
    fn pre_score(&self, _cycle: &Cycle<'_>, _nodes: &[NodeIndex]) -> Prepared {
        Prepared::with(())
    }

    /// Scores nodes, in the order given; any numbers.
    fn score(
        &self,
        _cycle: &Cycle<'_>,
        _state: &dyn State,
        _nodes: &[NodeIndex],
        _scores: &mut [i64],
    ) {
    }

    /// Brings scores between 0 and [`MAX_SCORE`].
    fn normalize(&self, _state: &dyn State, _nodes: &[NodeIndex], _scores: &mut [i64]) {}

    /// A pod got its node (`Reserve`, `PreBindPreFlight`).
    ///
    /// # Errors
    /// Why it must not.
    fn reserve(&self, _cluster: &mut Cluster, _pod: &Arc<PodInfo>, _node: NodeIndex) -> Reserved {
        Ok(None)
    }

    /// Whether a pod that has its node may be bound.
    fn permit(&self, _pod: &PodInfo, _node: &str) -> Permit {
        Permit::Now
    }

    /// Binds; none leaves it to the next plugin.
    fn bind<'a>(
        &'a self,
        _binding: &'a Binding<'a>,
    ) -> BoxFuture<'a, Option<Result<(), BindError>>> {
        Box::pin(std::future::ready(None))
    }

    /// A pod was bound.
    fn post_bind(&self, _pod: &PodInfo, _node: &str) {}
}

/// `DefaultNormalizeScore`: the highest score becomes the best; reversed, the worst.
pub fn normalize_by_max(scores: &mut [i64], reversed: bool) {
    let most = scores.iter().copied().max().unwrap_or(0).max(0);
    for score in scores {
        let part = if most == 0 {
            0
        } else {
            MAX_SCORE * *score / most
        };
        *score = if reversed { MAX_SCORE - part } else { part };
    }
}
