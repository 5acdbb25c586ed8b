//! A profile: the plugins that schedule the pods of one scheduler name, in order, with their weights.

use crate::cluster::Cluster;
use crate::framework::{Change, Event, Plugin};
use crate::pod::PodInfo;
use crate::queue::{Queued, SortKey};

/// Which extension points a plugin is called at.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Points {
    pub pre_enqueue: bool,
    pub queue_sort: bool,
    pub pre_filter: bool,
    pub filter: bool,
    pub post_filter: bool,
    pub pre_score: bool,
    pub score: bool,
    pub reserve: bool,
    pub permit: bool,
    pub pre_bind: bool,
    pub bind: bool,
    pub post_bind: bool,
}

/// A plugin as a profile uses it.
pub struct Enabled {
    pub plugin: Box<dyn Plugin>,
    pub points: Points,
    pub weight: i64,
}

/// The plugins for one scheduler name.
pub struct Profile {
    pub name: String,
    pub plugins: Vec<Enabled>,
    /// Of the nodes that are scored; 0 adapts to the cluster.
    pub percentage: usize,
}

impl Profile {
    /// Whether nodes are compared at all.
    #[must_use]
    pub fn scores(&self) -> bool {
        self.plugins.iter().any(|p| p.points.score)
    }

    fn by_name(&self, name: &str) -> Option<&dyn Plugin> {
        self.plugins
            .iter()
            .map(|p| &*p.plugin)
            .find(|p| p.name() == name)
    }

    /// The plugins of a point, in order.
    pub fn at(&self, point: impl Fn(&Points) -> bool) -> impl Iterator<Item = &dyn Plugin> {
        self.plugins
            .iter()
            .filter(move |p| point(&p.points))
            .map(|p| &*p.plugin)
    }
}

/// All profiles; pods of other scheduler names are not ours.
pub struct Profiles(Vec<Profile>);

impl Profiles {
    #[must_use]
    pub fn new(profiles: Vec<Profile>) -> Self {
        Self(profiles)
    }

    #[must_use]
    pub fn of(&self, pod: &PodInfo) -> Option<&Profile> {
        self.0.iter().find(|p| p.name == pod.scheduler_name())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.0.iter()
    }
}

/// The profiles as the queue asks them: hints may look at the cluster.
pub struct Asked<'a> {
    pub profiles: &'a Profiles,
    pub cluster: &'a Cluster,
}

impl crate::queue::Plugins for Asked<'_> {
    fn gate(&self, pod: &PodInfo) -> Option<&'static str> {
        let profile = self.profiles.of(pod)?;
        profile
            .at(|p| p.pre_enqueue)
            .find(|p| p.pre_enqueue(self.cluster, pod).is_err())
            .map(|p| p.name())
    }

    fn sort_key(&self, queued: &Queued) -> SortKey {
        let sorter = self
            .profiles
            .of(&queued.pod)
            .and_then(|p| p.at(|p| p.queue_sort).next());
        sorter.map_or_else(|| SortKey::first_come(queued), |p| p.sort_key(queued))
    }

    fn interested(&self, event: Event) -> bool {
        let plugins = self.profiles.iter().flat_map(|p| &p.plugins);
        plugins
            .flat_map(|p| p.plugin.interests())
            .any(|i| i.covers(event))
    }

    fn cares(&self, plugin: &str, pod: &PodInfo, event: Event) -> bool {
        let plugin = self.profiles.of(pod).and_then(|p| p.by_name(plugin));
        plugin.is_none_or(|p| p.interests().iter().any(|i| i.covers(event)))
    }

    fn helps(&self, plugin: &str, pod: &PodInfo, event: Event, change: &Change) -> bool {
        let Some(plugin) = self.profiles.of(pod).and_then(|p| p.by_name(plugin)) else {
            return true;
        };
        plugin.interests().iter().any(|i| i.covers(event))
            && plugin.hint(self.cluster, pod, event, change)
    }
}
