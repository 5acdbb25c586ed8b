//! The images that Conformance asks for, and which recipe makes each.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Error;
use super::suite::Suite;
use crate::image;
use crate::progress::Progress;
use crate::workshop::Workshop;

/// Images that the suite names and no Conformance test uses (facts: those tests ask for clouds, drivers, devices or
/// measurements). Compared without tags.
const NOT_ASKED_FOR: &[&str] = &[
    "invalid.registry.k8s.io/invalid/alpine", // tests that pulling fails
    "registry.k8s.io/build-image/distroless-iptables",
    "registry.k8s.io/cloud-provider-gcp/",
    "registry.k8s.io/e2e-test-images/apparmor-loader",
    "registry.k8s.io/e2e-test-images/ipc-utils",
    "registry.k8s.io/e2e-test-images/node-perf/",
    "registry.k8s.io/e2e-test-images/perl",
    "registry.k8s.io/e2e-test-images/regression-issue-74839",
    "registry.k8s.io/e2e-test-images/resource-consumer",
    "registry.k8s.io/e2e-test-images/sample-device-plugin",
    "registry.k8s.io/e2e-test-images/volume/",
    "registry.k8s.io/sig-storage/",
];
/// Repositories that are pulled and never there before.
const PULLED: &str = "gcr.io/";
/// What clusters have beside the suite's images.
const OWN: &[&str] = &["coredns", "pause"];

/// Archives for a cluster.
pub(super) struct Archives {
    pub(super) preloaded: Vec<PathBuf>,
    pub(super) pulled: Vec<PathBuf>,
}

/// Builds what the suite asks for. An image without a recipe is an error: a test would wait for it until it fails.
pub(super) fn build(workshop: &Workshop, suite: &Suite) -> Result<Archives, Error> {
    let recipes = image::recipes(workshop)?;
    let asked = suite.images()?;
    let missing = missing(&asked, recipes.iter().map(|(_, name)| name.as_str()));
    if !missing.is_empty() {
        return Err(Error::NoRecipe(missing.join(", ")));
    }
    let mut archives = Archives {
        preloaded: Vec::new(),
        pulled: Vec::new(),
    };
    for (recipe, name) in &recipes {
        if !asked.contains(name) && !OWN.contains(&recipe.as_str()) {
            continue;
        }
        let archive = Progress::Screen
            .step(&format!("image {recipe}"), || {
                image::build(workshop, recipe)
            })?
            .archive;
        match name.starts_with(PULLED) {
            true => archives.pulled.push(archive),
            false => archives.preloaded.push(archive),
        }
    }
    Ok(archives)
}

/// What the suite asks for and no recipe makes.
fn missing<'a>(asked: &BTreeSet<String>, made: impl Iterator<Item = &'a str>) -> Vec<String> {
    let made: BTreeSet<&str> = made.collect();
    let is_wanted = |name: &&String| {
        let repository = name
            .rsplit_once(':')
            .map_or(name.as_str(), |(left, _)| left);
        let excused = NOT_ASKED_FOR
            .iter()
            .any(|other| match other.ends_with('/') {
                true => repository.starts_with(other),
                false => repository == *other,
            });
        !excused && !made.contains(name.as_str())
    };
    asked.iter().filter(is_wanted).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_recipe_is_missed_unless_no_test_of_ours_uses_it() {
        let asked = [
            "registry.k8s.io/pause:3.10.2",
            "registry.k8s.io/e2e-test-images/agnhost:2.99",
            "registry.k8s.io/e2e-test-images/perl:5.26",
            "registry.k8s.io/e2e-test-images/perl-more:1",
            "registry.k8s.io/sig-storage/csi-attacher:v4",
        ];
        let asked = asked.map(str::to_owned).into();
        let made = [
            "registry.k8s.io/pause:3.10.2",
            "registry.k8s.io/e2e-test-images/agnhost:2.66.1",
        ];
        assert_eq!(
            missing(&asked, made.into_iter()),
            [
                "registry.k8s.io/e2e-test-images/agnhost:2.99",
                "registry.k8s.io/e2e-test-images/perl-more:1"
            ]
        );
    }
}
