//! What is served: what a release has, less what gates and `--runtime-config` leave out.
//!
//! Upstream: `apiserver/pkg/server/resourceconfig`, `apiserver/pkg/server/deleted_kinds.go`, and the gates that the
//! `rest` packages of `pkg/registry` ask.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use component::args;
use component::compatibility::EffectiveVersion;
use component::features::Features;
use proto::catalogue::{self, GateId, Gates, Resource, gate, group_version};

/// What the flags say of it.
pub struct Choice {
    /// `--runtime-config`
    pub runtime_config: BTreeMap<String, String>,
    /// `--emulation-forward-compatible`: newer versions of what the emulated release has.
    pub forward: bool,
    /// `--runtime-config-emulation-forward-compatible`: what is asked for by name, however new.
    pub forward_by_name: bool,
}

/// Why nothing can be served so.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Error {
    #[error("invalid runtime-config with only api/all=false")]
    Nothing,
    #[error("runtime-config invalid key {0}")]
    Key(String),
    #[error("invalid value {0}={1}")]
    Stage(String, String),
    #[error("invalid value of {0}: {1}, err: {2}")]
    Value(String, String, String),
    #[error("group version {0} that has not been registered")]
    Version(String),
    #[error(
        "invalid key {0}: group/version/resource and resource is always lowercase plural, not {1:?}"
    )]
    Case(String, String),
    #[error("unknown api groups {0}")]
    Groups(String),
    #[error(
        "cannot enable resource {resource} in runtime-config because it is introduced at {introduced} after the current version {current}. Consider setting --runtime-config-emulation-forward-compatible=true"
    )]
    TooNew {
        resource: String,
        introduced: catalogue::Release,
        current: catalogue::Release,
    },
    #[error(
        "cannot enable version {0} in runtime-config because all the resources have been introduced after the current version {1}. Consider setting --runtime-config-emulation-forward-compatible=true"
    )]
    Empty(String, catalogue::Release),
}

/// Resources behind gates, by group and name.
const GATED: &[(&str, &str, GateId)] = &[
    (
        "certificates.k8s.io",
        "clustertrustbundles",
        gate::CLUSTER_TRUST_BUNDLE,
    ),
    (
        "certificates.k8s.io",
        "podcertificaterequests",
        gate::POD_CERTIFICATE_REQUEST,
    ),
    (
        "lifecycle.k8s.io",
        "evictionrequests",
        gate::EVICTION_REQUEST_API,
    ),
    ("lifecycle.k8s.io", "evictions", gate::EVICTION_REQUEST_API),
    (
        "scheduling.k8s.io",
        "compositepodgroups",
        gate::COMPOSITE_POD_GROUP,
    ),
    ("scheduling.k8s.io", "podgroups", gate::GENERIC_WORKLOAD),
    ("scheduling.k8s.io", "workloads", gate::GENERIC_WORKLOAD),
    (
        "storagemigration.k8s.io",
        "storageversionmigrations",
        gate::STORAGE_VERSION_MIGRATOR,
    ),
];

/// The same of subresources.
const GATED_PARTS: &[(&str, &str, &str, GateId)] =
    &[("", "pods", "resize", gate::IN_PLACE_POD_VERTICAL_SCALING)];

/// Stored, these would promise what nothing here keeps yet: custom resources and aggregation.
const NOT_YET: [&str; 2] = ["apiextensions.k8s.io", "apiregistration.k8s.io"];

/// What is served.
#[derive(Default)]
pub struct Served {
    /// Group, version and name.
    resources: HashSet<(&'static str, &'static str, &'static str)>,
    gates: Gates,
}

impl Served {
    /// # Errors
    /// If what is asked for is not there, or not yet.
    pub fn new(choice: &Choice, features: &Features) -> Result<Self, Error> {
        check(&choice.runtime_config)?;
        let mut served = Self {
            resources: HashSet::new(),
            gates: features.gates(),
        };
        let groups: BTreeSet<&str> = catalogue::resources().iter().map(|r| r.group).collect();
        for group in groups {
            served.add(group, choice, features.version())?;
        }
        Ok(served)
    }

    /// Decides from the least to the best version of each resource: a newer one may follow an older.
    fn add(
        &mut self,
        group: &str,
        choice: &Choice,
        version: EffectiveVersion,
    ) -> Result<(), Error> {
        let mut all: Vec<_> = catalogue::resources()
            .iter()
            .filter(|r| r.group == group)
            .collect();
        all.sort_by_key(|r| rank(r.version));
        // Names of resources of which a version is served that is no alpha.
        let mut followed: BTreeSet<&str> = BTreeSet::new();
        let mut empty: BTreeMap<&str, bool> = BTreeMap::new();
        // Versions that are on as a whole: all better ones follow them.
        let whole = all.iter().filter(|r| !is_alpha(r) && choice.has_version(r));
        let least = whole.map(|r| rank(r.version)).min();
        for resource in all {
            let follows = followed.contains(resource.name)
                || least.is_some_and(|least| least < rank(resource.version));
            let asked = choice.wants(resource)
                || choice.forward
                    && !is_alpha(resource)
                    && follows
                    && choice.said(resource) != Some(false);
            let is_there = asked
                && self.is_on(resource.group, resource.name)
                && !NOT_YET.contains(&group)
                && resource
                    .removed
                    .is_none_or(|removed| removed > version.emulation);
            if !is_there {
                continue;
            }
            let served = resource.introduced <= version.emulation
                || choice.forward && followed.contains(resource.name)
                || choice.takes_newer(resource, version)?;
            let nothing = empty.entry(resource.version).or_insert(true);
            if served {
                *nothing = false;
                self.resources
                    .insert((resource.group, resource.version, resource.name));
                if !is_alpha(resource) {
                    followed.insert(resource.name);
                }
            }
        }
        for (of, _) in empty.iter().filter(|(_, nothing)| **nothing) {
            if choice.says(&format!("{group}/{of}")) == Some(true) {
                return Err(Error::Empty(group_version(group, of), version.emulation));
            }
        }
        Ok(())
    }

    #[must_use]
    pub fn has(&self, resource: &Resource) -> bool {
        self.resources
            .contains(&(resource.group, resource.version, resource.name))
    }

    /// Whether the gate of a resource is on.
    fn is_on(&self, group: &str, name: &str) -> bool {
        let mut gated = GATED.iter().filter(|(g, n, _)| (*g, *n) == (group, name));
        gated.all(|(_, _, gate)| self.gates.has(*gate))
    }

    /// Whether the gate of a subresource is on.
    #[must_use]
    pub fn has_part(&self, resource: &Resource, part: &str) -> bool {
        let mut gated = GATED_PARTS
            .iter()
            .filter(|(g, n, p, _)| (*g, *n, *p) == (resource.group, resource.name, part));
        gated.all(|(_, _, _, gate)| self.gates.has(*gate))
    }
}

impl Choice {
    fn says(&self, key: &str) -> Option<bool> {
        let value = self.runtime_config.get(key)?;
        read(value).ok()
    }

    /// What is said of a resource or its version by name.
    fn said(&self, resource: &Resource) -> Option<bool> {
        let version = key(resource);
        self.says(&format!("{version}/{}", resource.name))
            .or_else(|| self.says(&version))
    }

    /// What is said of all versions of a stage.
    fn stage(&self, resource: &Resource) -> Option<bool> {
        let stage = if is_alpha(resource) {
            "api/alpha"
        } else if resource.version.contains("beta") {
            "api/beta"
        } else {
            "api/ga"
        };
        self.says(stage).or_else(|| self.says("api/all"))
    }

    fn wants(&self, resource: &Resource) -> bool {
        self.said(resource)
            .or_else(|| self.stage(resource))
            .unwrap_or(resource.on_by_default)
    }

    /// Whether the version of a resource is on as a whole, as stable ones are.
    fn has_version(&self, resource: &Resource) -> bool {
        let is_stable = !is_alpha(resource) && !resource.version.contains("beta");
        self.says(&key(resource))
            .or_else(|| self.stage(resource))
            .unwrap_or(is_stable)
    }

    /// Whether what the emulated release does not have is served all the same.
    fn takes_newer(&self, resource: &Resource, version: EffectiveVersion) -> Result<bool, Error> {
        let version_key = key(resource);
        let by_name = self.says(&format!("{version_key}/{}", resource.name)) == Some(true);
        if self.forward_by_name && (by_name || self.says(&version_key) == Some(true)) {
            return Ok(true);
        }
        if by_name {
            return Err(Error::TooNew {
                resource: format!("{version_key}, Resource={}", resource.name),
                introduced: resource.introduced,
                current: version.emulation,
            });
        }
        Ok(false)
    }
}

/// How `--runtime-config` names the version of a resource; the core group's begins with the slash.
fn key(resource: &Resource) -> String {
    format!("{}/{}", resource.group, resource.version)
}

fn read(value: &str) -> Result<bool, String> {
    if value.is_empty() {
        return Ok(true);
    }
    <bool as args::Value>::parse(&[value.to_owned()])
}

/// What can be said at all (`APIEnablementOptions.Validate`, `MergeAPIResourceConfigs`).
fn check(given: &BTreeMap<String, String>) -> Result<(), Error> {
    const ALL: [&str; 4] = ["api/all", "api/ga", "api/beta", "api/alpha"];
    if given.len() == 1 && given.get("api/all").is_some_and(|v| v == "false") {
        return Err(Error::Nothing);
    }
    let versions = catalogue::versions_of_kinds();
    let mut unknown = BTreeSet::new();
    for (key, value) in given {
        if ALL.contains(&key.as_str()) {
            match value.as_str() {
                "true" | "false" => continue,
                _ => return Err(Error::Stage(key.clone(), value.clone())),
            }
        }
        let parts: Vec<&str> = key.split('/').collect();
        let (group, version) = match parts[..] {
            [group, version] | [group, version, _] => (group, version),
            _ => return Err(Error::Key(key.clone())),
        };
        let name = group_version(group, version);
        if !versions.iter().any(|(g, _)| *g == group) {
            unknown.insert(name);
            continue;
        }
        if !versions.contains(&(group, version)) {
            return Err(Error::Version(name));
        }
        if let Err(why) = read(value) {
            return Err(Error::Value(key.clone(), value.clone(), why));
        }
        if let Some(resource) = parts.get(2).filter(|r| r.to_lowercase() != **r) {
            return Err(Error::Case(key.clone(), (*resource).to_owned()));
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let unknown: Vec<_> = unknown.into_iter().collect();
    Err(Error::Groups(unknown.join(",")))
}

fn is_alpha(resource: &Resource) -> bool {
    resource.version.contains("alpha")
}

/// Stable before beta before alpha, higher numbers first: `version.CompareKubeAwareVersionStrings`.
#[must_use]
pub fn rank(version: &str) -> (u8, u32, u32) {
    let digits = |text: &str| {
        text.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .unwrap_or(0)
    };
    let rest = version.strip_prefix('v').unwrap_or(version);
    let major = digits(rest);
    match (rest.split_once("beta"), rest.split_once("alpha")) {
        (Some((_, minor)), _) => (1, major, digits(minor)),
        (_, Some((_, minor))) => (0, major, digits(minor)),
        _ => (2, major, 0),
    }
}

#[cfg(test)]
mod tests {
    use catalogue::Release;

    use super::*;

    fn served(minor: u8, config: &[&str], gates: &[&str]) -> Result<Served, Error> {
        let features = Features::of(EffectiveVersion::emulating(Release::new(1, minor)));
        let features = features
            .with(gates.iter().map(|gate| (*gate, true)))
            .unwrap();
        let split = |pair: &&str| {
            let (key, value) = pair.split_once('=').unwrap_or((*pair, ""));
            (key.to_owned(), value.to_owned())
        };
        let flag = |name: &str| config.contains(&name);
        let choice = Choice {
            runtime_config: config
                .iter()
                .filter(|c| !c.starts_with('-'))
                .map(split)
                .collect(),
            forward: flag("--forward"),
            forward_by_name: flag("--by-name"),
        };
        Served::new(&choice, &features)
    }

    fn has(served: &Served, path: &str) -> bool {
        let mut all = catalogue::resources().iter();
        let found = all.find(|r| format!("{}/{}", r.api_version(), r.name) == path);
        served.has(found.unwrap())
    }

    #[test]
    fn a_server_without_flags_serves_what_is_on() {
        let served = served(37, &[], &[]).unwrap();
        for resource in catalogue::resources() {
            let wanted = resource.on_by_default && !NOT_YET.contains(&resource.group);
            assert_eq!(served.has(resource), wanted, "{}", resource.name);
        }
    }

    #[test]
    fn what_came_after_the_emulated_release_is_not_there() {
        let bundles = "certificates.k8s.io/v1/clustertrustbundles";
        assert!(has(&served(37, &[], &[]).unwrap(), bundles));
        assert!(!has(&served(36, &[], &[]).unwrap(), bundles));
        assert!(!has(
            &served(36, &[], &["ClusterTrustBundle"]).unwrap(),
            bundles
        ));
        let policies = "admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
        assert!(has(&served(36, &[], &[]).unwrap(), policies));
        assert!(!has(&served(35, &[], &[]).unwrap(), policies));
    }

    #[test]
    fn what_a_release_does_not_have_is_there_if_it_is_named_and_allowed() {
        let gates = &["ClusterTrustBundle", "PodCertificateRequest"];
        let name = "certificates.k8s.io/v1/clustertrustbundles=true";
        let refused = served(36, &[name], gates).err().unwrap().to_string();
        assert_eq!(
            refused,
            "cannot enable resource certificates.k8s.io/v1, Resource=clustertrustbundles in runtime-config because it \
             is introduced at 1.37 after the current version 1.36. Consider setting \
             --runtime-config-emulation-forward-compatible=true"
        );
        let taken = served(36, &[name, "--by-name"], gates).unwrap();
        assert!(has(&taken, "certificates.k8s.io/v1/clustertrustbundles"));
        let empty = served(
            36,
            &["storagemigration.k8s.io/v1=true"],
            &["StorageVersionMigrator"],
        );
        let empty = empty.err().unwrap().to_string();
        assert!(
            empty.starts_with("cannot enable version storagemigration.k8s.io/v1 in"),
            "{empty}"
        );
    }

    #[test]
    fn newer_versions_of_what_is_served_follow_if_they_may() {
        let beta = "certificates.k8s.io/v1beta1=true";
        let stable = "certificates.k8s.io/v1/clustertrustbundles";
        let gates = &["ClusterTrustBundle"];
        assert!(!has(&served(36, &[beta], gates).unwrap(), stable));
        assert!(has(
            &served(36, &[beta, "--forward"], gates).unwrap(),
            stable
        ));
        assert!(!has(&served(36, &["--forward"], gates).unwrap(), stable));
        // A version that is on as a whole is followed by whole versions.
        let first = "resource.k8s.io/v1beta1=true";
        let rules = "resource.k8s.io/v1beta2/devicetaintrules";
        let gates = &["DRADeviceTaintRules"];
        assert!(!has(&served(36, &[first], gates).unwrap(), rules));
        assert!(has(
            &served(36, &[first, "--forward"], gates).unwrap(),
            rules
        ));
        let not = "resource.k8s.io/v1beta2=false";
        let refused = served(36, &[first, not, "--forward"], gates).unwrap();
        assert!(!has(&refused, rules));
    }

    #[test]
    fn a_gate_hides_its_resources_whatever_is_asked() {
        let asked = ["scheduling.k8s.io/v1beta1=true"];
        let workloads = "scheduling.k8s.io/v1beta1/workloads";
        assert!(!has(&served(37, &asked, &[]).unwrap(), workloads));
        assert!(has(
            &served(37, &asked, &["GenericWorkload"]).unwrap(),
            workloads
        ));
    }

    #[test]
    fn what_was_removed_is_not_there_whatever_is_asked() {
        let asked = ["api/all=true"];
        let gone = |minor| {
            let served = served(minor, &asked, &[]).unwrap();
            has(&served, "storage.k8s.io/v1beta1/volumeattributesclasses")
        };
        assert!(gone(36) && !gone(37));
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        let told = |config: &[&str]| served(37, config, &[]).err().unwrap().to_string();
        assert_eq!(
            told(&["api/all=false"]),
            "invalid runtime-config with only api/all=false"
        );
        assert_eq!(told(&["nobody/v1=true"]), "unknown api groups nobody/v1");
        assert_eq!(
            told(&["a/b/c/d=true"]),
            "runtime-config invalid key a/b/c/d"
        );
        assert_eq!(
            told(&["apps/v7=true"]),
            "group version apps/v7 that has not been registered"
        );
        assert_eq!(told(&["api/beta=maybe"]), "invalid value api/beta=maybe");
        let value = told(&["apps/v1=maybe"]);
        assert!(
            value.starts_with("invalid value of apps/v1: maybe, err: "),
            "{value}"
        );
    }
}
