//! Profiles of the configuration: which plugins, in which order, with which arguments.

use component::config::Problems;
use component::features::Features;
use serde::{Deserialize, Serialize};

use super::args_of_plugins::PluginArgs;
use crate::plugins::{self, PLUGINS};
use crate::profile::{Enabled, Points, Profile};

/// One of `profiles`.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileConfig {
    pub scheduler_name: String,
    pub percentage_of_nodes_to_score: Option<i32>,
    pub plugins: Plugins,
    pub plugin_config: Vec<PluginConfig>,
}

/// Arguments of a plugin.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginConfig {
    pub name: String,
    pub args: serde_json::Value,
}

/// What differs from the default plugins, by extension point.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Plugins {
    pub pre_enqueue: PluginSet,
    pub queue_sort: PluginSet,
    pub pre_filter: PluginSet,
    pub filter: PluginSet,
    pub post_filter: PluginSet,
    pub pre_score: PluginSet,
    pub score: PluginSet,
    pub reserve: PluginSet,
    pub permit: PluginSet,
    pub pre_bind: PluginSet,
    pub bind: PluginSet,
    pub post_bind: PluginSet,
    pub multi_point: PluginSet,
}

/// What is enabled and disabled at a point; a disabled `*` means all defaults.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginSet {
    pub enabled: Vec<PluginRef>,
    pub disabled: Vec<PluginRef>,
}

#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginRef {
    pub name: String,
    /// Of scores; 0 means the plugin's default.
    pub weight: i32,
}

impl PluginSet {
    fn disables(&self, name: &str) -> bool {
        self.disabled
            .iter()
            .any(|d| d.name == name || d.name == "*")
    }
}

/// A point: its name in files, the plugins that are set for it, and its switch.
type Point = (
    &'static str,
    fn(&Plugins) -> &PluginSet,
    fn(&mut Points) -> &mut bool,
);

const POINTS: [Point; 12] = [
    ("preEnqueue", |p| &p.pre_enqueue, |p| &mut p.pre_enqueue),
    ("queueSort", |p| &p.queue_sort, |p| &mut p.queue_sort),
    ("preFilter", |p| &p.pre_filter, |p| &mut p.pre_filter),
    ("filter", |p| &p.filter, |p| &mut p.filter),
    ("postFilter", |p| &p.post_filter, |p| &mut p.post_filter),
    ("preScore", |p| &p.pre_score, |p| &mut p.pre_score),
    ("score", |p| &p.score, |p| &mut p.score),
    ("reserve", |p| &p.reserve, |p| &mut p.reserve),
    ("permit", |p| &p.permit, |p| &mut p.permit),
    ("preBind", |p| &p.pre_bind, |p| &mut p.pre_bind),
    ("bind", |p| &p.bind, |p| &mut p.bind),
    ("postBind", |p| &p.post_bind, |p| &mut p.post_bind),
];

/// A plugin with its points and weight, before it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chosen {
    pub(crate) name: &'static str,
    pub(crate) points: Points,
    pub(crate) weight: i64,
}

impl ProfileConfig {
    /// The plugins of the profile that are here, in order: the defaults that are not disabled, then what
    /// is enabled beyond them.
    pub(crate) fn chosen(&self) -> Vec<Chosen> {
        let everywhere = &self.plugins.multi_point;
        let again = |name: &str| everywhere.enabled.iter().find(|e| e.name == name);
        let mut all: Vec<Chosen> = PLUGINS
            .iter()
            .filter(|e| e.default && e.make.is_some() && !everywhere.disables(e.name))
            // Enabled again, it keeps its place and takes the new weight.
            .map(|e| chosen(e, again(e.name).map_or(0, |r| r.weight)))
            .collect();
        for r in &everywhere.enabled {
            if let Some(entry) = plugins::find(&r.name)
                && !all.iter().any(|c| c.name == entry.name)
            {
                all.push(chosen(entry, r.weight));
            }
        }
        for (_, set, switch) in POINTS {
            let set = set(&self.plugins);
            for c in all.iter_mut().filter(|c| set.disables(c.name)) {
                *switch(&mut c.points) = false;
            }
            for r in &set.enabled {
                let Some(entry) = plugins::find(&r.name) else {
                    continue;
                };
                let at = all
                    .iter()
                    .position(|c| c.name == entry.name)
                    .unwrap_or_else(|| {
                        all.push(Chosen {
                            points: Points::default(),
                            ..chosen(entry, r.weight)
                        });
                        all.len() - 1
                    });
                *switch(&mut all[at].points) = true;
                if r.weight > 0 {
                    all[at].weight = i64::from(r.weight);
                }
            }
        }
        all.retain(|c| c.points != Points::default());
        all
    }

    fn arguments(&self, features: &Features) -> Result<PluginArgs, String> {
        let mut args = PluginArgs::new(features);
        for config in &self.plugin_config {
            args.take(&config.name, &config.args)
                .map_err(|e| format!("{}: {e}", config.name))?;
        }
        Ok(args)
    }

    /// Makes the profile. `percentage` is the configuration's own.
    ///
    /// # Errors
    /// If arguments cannot be read; [`validate`] says so first.
    pub fn build(&self, percentage: i32, features: &Features) -> Result<Profile, String> {
        self.build_beside(&[], percentage, features)
    }

    /// Makes the profile; extenders look after some resources alone.
    ///
    /// # Errors
    /// As [`ProfileConfig::build`].
    pub fn build_beside(
        &self,
        left_to_extenders: &[String],
        percentage: i32,
        features: &Features,
    ) -> Result<Profile, String> {
        let mut args = self.arguments(features)?;
        let ignored = &mut args.node_resources_fit.ignored_resources;
        ignored.extend_from_slice(left_to_extenders);
        let percentage = self.percentage_of_nodes_to_score.unwrap_or(percentage);
        let made = self.chosen().into_iter().filter_map(|c| {
            let make = plugins::find(c.name)?.make?;
            Some(Enabled {
                plugin: make(&args),
                points: c.points,
                weight: c.weight,
            })
        });
        Ok(Profile {
            name: self.scheduler_name.clone(),
            plugins: made.collect(),
            percentage: usize::try_from(percentage).unwrap_or(0),
        })
    }
}

fn chosen(entry: &plugins::Entry, weight: i32) -> Chosen {
    let own = if entry.weight > 0 { entry.weight } else { 1 };
    let weight = if weight > 0 { i64::from(weight) } else { own };
    let (name, mut points) = (entry.name, entry.points);
    // A filter that prepares is called at both points or at none.
    points.pre_filter |= points.filter;
    Chosen {
        name,
        points,
        weight,
    }
}

/// Upstream's `ValidateKubeSchedulerConfiguration`, as far as it is about profiles.
pub(super) fn validate(profiles: &[ProfileConfig], problems: &mut Problems) {
    let features = Features::defaults();
    for (i, profile) in profiles.iter().enumerate() {
        let at = |field: &str| format!("profiles[{i}].{field}");
        let name = &profile.scheduler_name;
        problems.check(!name.is_empty(), &at("schedulerName"), "Required value");
        let same = profiles[..i].iter().any(|p| p.scheduler_name == *name);
        problems.check(
            !same,
            &at("schedulerName"),
            format!("Duplicate value: {name:?}"),
        );
        let percentage = profile.percentage_of_nodes_to_score.unwrap_or(0);
        problems.check(
            (0..=100).contains(&percentage),
            &at("percentageOfNodesToScore"),
            "not in the range [0-100]",
        );
        known(profile, &at("plugins"), problems);
        for config in &profile.plugin_config {
            let known = plugins::find(&config.name).is_some();
            problems.check(
                known,
                &at("pluginConfig"),
                format!("unknown plugin {:?}", config.name),
            );
        }
        if let Err(e) = profile.arguments(&features).and_then(|a| a.validate()) {
            problems.add(&at("pluginConfig"), e);
        }
        let chosen = profile.chosen();
        let count = |point: fn(&Points) -> bool| chosen.iter().filter(|c| point(&c.points)).count();
        problems.check(
            count(|p| p.queue_sort) == 1,
            &at("plugins.queueSort"),
            "exactly one plugin is required",
        );
        problems.check(
            count(|p| p.bind) > 0,
            &at("plugins.bind"),
            "at least one plugin is required",
        );
    }
}

/// Plugins that are named have to be here.
fn known(profile: &ProfileConfig, path: &str, problems: &mut Problems) {
    let multi: Point = ("multiPoint", |p| &p.multi_point, |p| &mut p.filter);
    for (point, set, _) in POINTS.iter().chain([&multi]) {
        for r in &set(&profile.plugins).enabled {
            let path = format!("{path}.{point}.enabled");
            match plugins::find(&r.name) {
                None => problems.add(&path, format!("unknown plugin {:?}", r.name)),
                Some(e) if e.make.is_none() => {
                    problems.add(
                        &path,
                        format!("plugin {:?} is not available: {}", r.name, e.missing),
                    );
                }
                Some(_) => {}
            }
        }
    }
}
