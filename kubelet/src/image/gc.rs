//! Which images to delete: upstream's `pkg/kubelet/images/image_gc_manager.go`. Deciding is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::reference::Digest;
use super::store::{self, Disk, Image, Store};

/// When images are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Percent of the disk from which on images are deleted (`imageGCHighThresholdPercent`).
    pub high: u8,
    /// Percent down to which they are deleted (`imageGCLowThresholdPercent`).
    pub low: u8,
    /// A younger image is not deleted for space (`imageMinimumGCAge`).
    pub min_age: Duration,
    /// An image unused for longer is deleted in any case (`imageMaximumGCAge`); zero for never.
    pub max_age: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let min_age = Duration::from_secs(120);
        Self {
            high: 85,
            low: 80,
            min_age,
            max_age: Duration::ZERO,
        }
    }
}

/// When an image was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    first: Instant,
    /// None: not since this kubelet runs.
    last_used: Option<Instant>,
}

/// What this kubelet knows about the use of its images.
pub struct Collector {
    policy: Policy,
    /// Age counts from here at the earliest: what happened before is not known.
    started: Instant,
    seen: BTreeMap<Digest, Seen>,
}

/// What to delete, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Unused for too long.
    pub old: Vec<Digest>,
    /// To make room, in this order until [`wanted`](Self::wanted) bytes are free.
    pub for_space: Vec<Digest>,
    /// Bytes that should become free.
    pub wanted: u64,
    /// Percent of the disk in use.
    pub usage: u8,
}

/// Too little could be deleted.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Error {
    #[error("invalid capacity 0 on image filesystem")]
    NoCapacity,
    #[error(
        "Insufficient free disk space on the node's image filesystem ({usage}% of {capacity} \
         used). Failed to free sufficient space by deleting unused images (freed {freed} bytes). \
         Investigate disk usage, as it could be used by active images, logs, volumes, or other \
         data."
    )]
    Insufficient {
        usage: u8,
        capacity: String,
        freed: u64,
    },
    #[error(
        "wanted to free {wanted} bytes, but freed {freed} bytes space with errors in image \
         deletion: {errors}"
    )]
    Deletion {
        wanted: u64,
        freed: u64,
        errors: String,
    },
}

impl Collector {
    pub fn new(policy: Policy, started: Instant) -> Self {
        Self {
            policy,
            started,
            seen: BTreeMap::new(),
        }
    }

    /// Notes which images there are and which are in use. To be called every few minutes, and
    /// before [`plan`](Self::plan).
    pub fn observe(&mut self, images: &[impl AsRef<Image>], used: &BTreeSet<Digest>, now: Instant) {
        let ids: BTreeSet<_> = images
            .iter()
            .map(|image| image.as_ref().id.clone())
            .collect();
        self.seen.retain(|id, _| ids.contains(id));
        for id in ids {
            let in_use = used.contains(&id);
            let seen = self.seen.entry(id).or_insert(Seen {
                first: now,
                last_used: None,
            });
            if in_use {
                seen.last_used = Some(now);
            }
        }
    }

    /// What to delete now.
    pub fn plan(
        &self,
        images: &[impl AsRef<Image>],
        used: &BTreeSet<Digest>,
        disk: Disk,
        now: Instant,
    ) -> Result<Plan, Error> {
        if disk.capacity == 0 {
            return Err(Error::NoCapacity);
        }
        let available = disk.available.min(disk.capacity);
        let percent = |part: u64, of: u64| (u128::from(part) * 100 / u128::from(of)) as u8;
        let usage = 100 - percent(available, disk.capacity);
        let mut candidates = self.candidates(images, used);
        let old = self.too_old(&candidates, now);
        candidates.retain(|(id, _)| !old.contains(id));
        let mut plan = Plan {
            old,
            usage,
            ..Plan::default()
        };
        if usage >= self.policy.high {
            let keep_free = u128::from(disk.capacity) * u128::from(100 - self.policy.low) / 100;
            plan.wanted = (keep_free as u64).saturating_sub(available);
            let mature = |seen: &Seen| now.duration_since(seen.first) >= self.policy.min_age;
            let mature = candidates.into_iter().filter(|(_, seen)| mature(seen));
            plan.for_space = mature.map(|(id, _)| id).collect();
        }
        Ok(plan)
    }

    /// All images that nothing uses, for when the node is short of disk (eviction).
    pub fn plan_all(&self, images: &[impl AsRef<Image>], used: &BTreeSet<Digest>) -> Plan {
        let candidates = self.candidates(images, used).into_iter().map(|(id, _)| id);
        Plan {
            for_space: candidates.collect(),
            wanted: u64::MAX,
            ..Plan::default()
        }
    }

    /// Images that may go, those unused for longest first.
    fn candidates(
        &self,
        images: &[impl AsRef<Image>],
        used: &BTreeSet<Digest>,
    ) -> Vec<(Digest, Seen)> {
        let images = images.iter().map(AsRef::as_ref);
        let free = images.filter(|image| !image.pinned && !used.contains(&image.id));
        let mut candidates: Vec<_> = free
            .filter_map(|image| Some((image.id.clone(), *self.seen.get(&image.id)?)))
            .collect();
        candidates.sort_by_key(|(_, seen)| (seen.last_used, seen.first));
        candidates
    }

    fn too_old(&self, candidates: &[(Digest, Seen)], now: Instant) -> Vec<Digest> {
        let max = self.policy.max_age;
        if max.is_zero() || now.duration_since(self.started) <= max {
            return Vec::new();
        }
        let idle = |seen: &Seen| now.duration_since(seen.last_used.unwrap_or(self.started)) > max;
        candidates
            .iter()
            .filter(|(_, seen)| idle(seen))
            .map(|(id, _)| id.clone())
            .collect()
    }
}

/// Deletes what the plan says, and returns the bytes that became free. Blocks.
pub fn apply(store: &Store, plan: &Plan) -> Result<u64, Error> {
    let (mut freed, mut errors) = (0, Vec::new());
    let mut delete = |id: &Digest| -> Option<u64> {
        let size = store.image(&id.to_string())?.size;
        match store.remove(id) {
            Ok(()) => Some(size),
            // Used since the plan was made: it stays.
            Err(store::Error::NoImage(_) | store::Error::InUse(_)) => None,
            Err(err) => {
                errors.push(err.to_string());
                None
            }
        }
    };
    for id in &plan.old {
        delete(id);
    }
    for id in &plan.for_space {
        if freed >= plan.wanted {
            break;
        }
        freed += delete(id).unwrap_or_default();
    }
    if !errors.is_empty() {
        let errors = errors.join(", ");
        return Err(Error::Deletion {
            wanted: plan.wanted,
            freed,
            errors,
        });
    }
    if freed < plan.wanted && plan.wanted != u64::MAX {
        let capacity = store.disk().map_or(0, |disk| disk.capacity);
        return Err(Error::Insufficient {
            usage: plan.usage,
            capacity: human(capacity),
            freed,
        });
    }
    Ok(freed)
}

/// A size for people, as upstream writes it.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.checked_ilog2().unwrap_or(0) / 10).min(UNITS.len() as u32 - 1);
    match power {
        0 => format!("{bytes} B"),
        _ => format!(
            "{:.1} {}",
            bytes as f64 / 1024f64.powi(power as i32),
            UNITS[power as usize]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn image(n: u8, pinned: bool) -> Arc<Image> {
        Arc::new(Image {
            id: Digest::of(&[n]),
            tags: BTreeSet::new(),
            digests: BTreeSet::new(),
            layers: Vec::new(),
            size: 10,
            pinned,
            access: Default::default(),
            config: Default::default(),
        })
    }

    fn disk(available: u64) -> Disk {
        Disk {
            capacity: 1000,
            available,
            inodes: 0,
            inodes_free: 0,
        }
    }

    fn ids(numbers: &[u8]) -> Vec<Digest> {
        numbers.iter().map(|n| Digest::of(&[*n])).collect()
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn space_is_made_from_the_images_unused_for_longest() {
        let start = Instant::now();
        let images: Vec<_> = (0..5).map(|n| image(n, n == 4)).collect();
        let mut collector = Collector::new(Policy::default(), start);
        collector.observe(&images, &ids(&[0, 1]).into_iter().collect(), start);
        collector.observe(&images, &ids(&[0]).into_iter().collect(), start + MINUTE);
        let used = ids(&[2]).into_iter().collect();
        let now = start + 10 * MINUTE;
        collector.observe(&images, &used, now);
        let plan = |available| {
            collector
                .plan(&images, &used, disk(available), now)
                .unwrap()
        };
        // Below the high mark nothing is deleted, whatever there is.
        assert_eq!((plan(160).usage, plan(160).for_space), (84, Vec::new()));
        assert_eq!((plan(150).usage, plan(150).wanted), (85, 50));
        let full = plan(100);
        assert_eq!((full.usage, full.wanted), (90, 100));
        // Never used, then last used earliest; neither used (2) nor pinned (4).
        assert_eq!(full.for_space, ids(&[3, 1, 0]));
    }

    #[test]
    fn a_young_image_is_not_deleted_for_space() {
        let start = Instant::now();
        let images = [image(1, false)];
        let mut collector = Collector::new(Policy::default(), start);
        let none = BTreeSet::new();
        collector.observe(&images, &none, start);
        let plan = |now| {
            collector
                .plan(&images, &none, disk(0), now)
                .unwrap()
                .for_space
        };
        assert_eq!(plan(start + MINUTE), []);
        assert_eq!(plan(start + 2 * MINUTE), ids(&[1]));
        assert_eq!(collector.plan_all(&images, &none).for_space, ids(&[1]));
    }

    #[test]
    fn age_counts_from_the_start_of_the_kubelet() {
        let start = Instant::now();
        let images = [image(1, false), image(2, false)];
        let policy = Policy {
            max_age: 5 * MINUTE,
            ..Policy::default()
        };
        let mut collector = Collector::new(policy, start);
        let used = ids(&[2]).into_iter().collect();
        collector.observe(&images, &used, start + 3 * MINUTE);
        let none = BTreeSet::new();
        let old = |now| collector.plan(&images, &none, disk(900), now).unwrap().old;
        assert_eq!(old(start + 5 * MINUTE), []);
        assert_eq!(old(start + 6 * MINUTE), ids(&[1]));
        assert_eq!(old(start + 9 * MINUTE), ids(&[1, 2]));
    }

    #[test]
    fn sizes_are_written_for_people() {
        assert_eq!(human(512), "512 B");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(3 << 40), "3.0 TiB");
    }
}
