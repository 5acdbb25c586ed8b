//! Taint sets, each kept once: nodes of a pool share theirs, and a pod's tolerations are held against
//! each distinct set, not against each node.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// A set of taints, as a number below [`TaintSets::len`].
pub type TaintSetId = u32;

/// A taint as far as it matters here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TaintInfo {
    pub key: String,
    pub value: String,
    pub effect: String,
}

impl TaintInfo {
    fn of(taint: &Taint) -> Self {
        Self {
            key: taint.key.clone(),
            value: taint.value.clone().unwrap_or_default(),
            effect: taint.effect.clone(),
        }
    }

    /// Whether it keeps pods from being scheduled.
    #[must_use]
    pub fn repels(&self) -> bool {
        matches!(self.effect.as_str(), "NoSchedule" | "NoExecute")
    }

    /// Whether one of the tolerations tolerates it. `compare` allows the operators `Lt` and `Gt`.
    #[must_use]
    pub fn tolerated(&self, tolerations: &[Toleration], compare: bool) -> bool {
        tolerations.iter().any(|t| self.tolerated_by(t, compare))
    }

    fn tolerated_by(&self, t: &Toleration, compare: bool) -> bool {
        let differs = |own: &Option<String>, other: &str| {
            own.as_deref()
                .is_some_and(|own| !own.is_empty() && own != other)
        };
        if differs(&t.effect, &self.effect) || differs(&t.key, &self.key) {
            return false;
        }
        let value = t.value.as_deref().unwrap_or_default();
        match t.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => value == self.value,
            "Exists" => true,
            operator @ ("Lt" | "Gt") if compare => match (decimal(value), decimal(&self.value)) {
                (Some(bound), Some(own)) if operator == "Lt" => own < bound,
                (Some(bound), Some(own)) => own > bound,
                _ => false,
            },
            _ => false,
        }
    }
}

/// An integer without leading zeroes or a plus sign.
fn decimal(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The taints of a node.
#[must_use]
pub fn taints_of(node: &k8s_openapi::api::core::v1::Node) -> Vec<TaintInfo> {
    let taints = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.as_deref())
        .unwrap_or_default();
    taints.iter().map(TaintInfo::of).collect()
}

/// All distinct sets.
#[derive(Clone, Debug)]
pub struct TaintSets {
    ids: HashMap<Arc<[TaintInfo]>, TaintSetId>,
    sets: Vec<(Arc<[TaintInfo]>, u32)>,
    free: Vec<TaintSetId>,
}

impl Default for TaintSets {
    /// The empty set is always there, as number 0.
    fn default() -> Self {
        let none: Arc<[TaintInfo]> = Arc::default();
        Self {
            ids: [(Arc::clone(&none), 0)].into(),
            sets: vec![(none, 1)],
            free: Vec::new(),
        }
    }
}

impl TaintSets {
    /// No taint at all.
    pub const NONE: TaintSetId = 0;

    #[must_use]
    pub fn get(&self, id: TaintSetId) -> &[TaintInfo] {
        self.sets.get(id as usize).map_or(&[], |(set, _)| set)
    }

    /// One more than the largest number of a set.
    #[must_use]
    pub fn size(&self) -> usize {
        self.sets.len()
    }

    /// What `judge` says of each set, by number.
    pub fn judge<T>(&self, judge: impl Fn(&[TaintInfo]) -> T) -> Box<[T]> {
        self.sets.iter().map(|(set, _)| judge(set)).collect()
    }

    pub(super) fn take(&mut self, set: Vec<TaintInfo>) -> TaintSetId {
        let set: Arc<[TaintInfo]> = set.into();
        if let Some(id) = self.ids.get(&set) {
            self.sets[*id as usize].1 += 1;
            return *id;
        }
        let entry = (Arc::clone(&set), 1);
        let id = match self.free.pop() {
            Some(id) => {
                self.sets[id as usize] = entry;
                id
            }
            None => {
                self.sets.push(entry);
                super::index(self.sets.len() - 1)
            }
        };
        self.ids.insert(set, id);
        id
    }

    pub(super) fn release(&mut self, id: TaintSetId) {
        let (set, users) = &mut self.sets[id as usize];
        *users -= 1;
        if *users == 0 {
            self.ids.remove(set);
            *set = Arc::default();
            self.free.push(id);
        }
    }
}
