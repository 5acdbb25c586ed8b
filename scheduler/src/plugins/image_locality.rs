//! `ImageLocality`: nodes that have a pod's images are better, the larger the images are.

use crate::cluster::NodeIndex;
use crate::framework::{Cycle, MAX_SCORE, Plugin, State};
use crate::pod::PodInfo;

const MIB: i64 = 1024 * 1024;
/// Images up to this size make no difference.
const LEAST: i64 = 23 * MIB;
/// Nor does what is above it, for each container.
const MOST: i64 = 1000 * MIB;

pub(super) struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score(
        &self,
        cycle: &Cycle<'_>,
        _state: &dyn State,
        nodes: &[NodeIndex],
        scores: &mut [i64],
    ) {
        let images = images(cycle.pod);
        let most = MOST * i64::try_from(images.len()).unwrap_or(i64::MAX / MOST);
        if most <= LEAST {
            return;
        }
        let known: Vec<_> = images
            .iter()
            .filter_map(|name| cycle.cluster.image(name))
            .collect();
        if known.is_empty() {
            return;
        }
        for (node, score) in nodes.iter().zip(scores) {
            let here = known
                .iter()
                .filter_map(|on| Some((on.get(node)?.size, on.len())));
            let sum: i64 = here
                .map(|(size, on)| spread(size, on, cycle.cluster.order().len()))
                .sum();
            *score = MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST);
        }
    }
}

/// An image counts the more nodes have it, so that pods do not crowd on the one that had it first.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "upstream multiplies floating-point numbers"
)]
fn spread(size: i64, on: usize, nodes: usize) -> i64 {
    (size as f64 * (on as f64 / nodes as f64)) as i64
}

/// The images of a pod's containers and image volumes, with a tag.
fn images(pod: &PodInfo) -> Vec<String> {
    let spec = pod.spec();
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let volumes = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|v| v.image.as_ref());
    let names = containers.map(|c| c.image.as_deref().unwrap_or_default());
    names
        .chain(volumes.map(|v| v.reference.as_deref().unwrap_or_default()))
        .map(|name| {
            if name.rfind(':') <= name.rfind('/') {
                format!("{name}:latest")
            } else {
                name.to_owned()
            }
        })
        .collect()
}
