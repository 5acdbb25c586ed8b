//! The levels that are in use, and how many seats each has.
//!
//! All configuration is digested at once: levels and schemas as they are, with the two mandatory ones
//! imagined where they are missing. A level that is not wanted any more keeps its seats until it is
//! idle. Upstream: `cfgMeal` in `util/flowcontrol/apf_controller.go`.

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use resources::strategies::flowcontrol::bootstrap::{self, CATCH_ALL, EXEMPT};

use super::allocation::{Bounds, Claim, divide};
use super::demand::Demand;
use super::flow::Flow;
use super::level::Level;
use super::metrics::Families;
use super::pool::{Pool, Shared};
use super::queues::Discipline;
use super::schema::Schema;

/// One level in use.
pub(super) struct InUse {
    pub(super) level: Arc<Level>,
    pub(super) pool: Arc<Pool>,
    bounds: Bounds,
    demand: Demand,
    current: u32,
}

impl InUse {
    fn claim(&self) -> Claim {
        Claim {
            exempt: self.level.discipline == Discipline::Exempt,
            bounds: self.bounds,
            demand: self.demand,
            current: self.current,
        }
    }
}

/// All levels in use, by name.
pub(super) struct Levels {
    in_use: BTreeMap<Box<str>, InUse>,
    /// The server's seats.
    total: u32,
    shared: Arc<Shared>,
    families: Arc<Families>,
    hash: RandomState,
}

/// What requests are matched against.
#[derive(Default)]
pub(super) struct Table {
    /// In the order of precedence.
    pub(super) flows: Vec<Arc<Flow>>,
    /// The one for requests that nothing matches.
    pub(super) fallback: Option<Arc<Flow>>,
    pub(super) pools: Vec<Arc<Pool>>,
}

impl Levels {
    pub(super) fn new(total: u32, shared: &Arc<Shared>, families: &Arc<Families>) -> Self {
        Self {
            in_use: BTreeMap::new(),
            total,
            shared: Arc::clone(shared),
            families: Arc::clone(families),
            hash: RandomState::new(),
        }
    }

    /// Takes in the whole configuration.
    pub(super) fn digest(&mut self, levels: &[Arc<Level>], schemas: &[Arc<Schema>]) -> Table {
        self.keep(levels);
        self.share_out();
        self.adjust();
        self.table(schemas)
    }

    /// Which levels there are: those that are configured, the mandatory ones, and those that are busy.
    fn keep(&mut self, levels: &[Arc<Level>]) {
        let named = |name: &str| levels.iter().any(|l| *l.name == *name);
        let mut wanted: Vec<Arc<Level>> = levels.to_vec();
        let missing = [EXEMPT, CATCH_ALL].into_iter().filter(|name| !named(name));
        for name in missing {
            // One that was configured goes on as it was.
            match self.in_use.get(name) {
                Some(old) => wanted.push(Arc::clone(&old.level)),
                None => {
                    let object = bootstrap::mandatory_level(name);
                    wanted.extend(object.and_then(|o| Level::of(&o).ok()).map(Arc::new));
                }
            }
        }
        let (shared, families) = (&self.shared, &self.families);
        self.in_use.retain(|name, old| {
            let stays = wanted.iter().any(|l| l.name == *name);
            old.pool.unwanted.store(!stays, Ordering::Relaxed);
            let keep = stays || !old.pool.is_idle();
            if !keep {
                families.forget(name);
            }
            keep
        });
        for level in wanted {
            let new = || InUse {
                level: Arc::clone(&level),
                pool: Pool::new(&level.name, shared, level.discipline, 0),
                bounds: Bounds::default(),
                demand: Demand::default(),
                current: 0,
            };
            let entry = self.in_use.entry(level.name.clone()).or_insert_with(new);
            entry.level = level;
        }
    }

    fn share_out(&mut self) {
        let shares = self.in_use.values().map(|l| l.level.shares.nominal);
        let sum: f64 = shares.map(f64::from).sum();
        for level in self.in_use.values_mut() {
            level.bounds = level.level.shares.bounds(sum, self.total);
        }
    }

    /// Divides the seats anew by what was seen since the last time.
    pub(super) fn adjust(&mut self) {
        for level in self.in_use.values_mut() {
            level.demand.update(level.pool.take_demand());
        }
        let claims: Vec<Claim> = self.in_use.values().map(InUse::claim).collect();
        let (seats, fair) = divide(&claims);
        self.families.fair(fair);
        let spare = self.total.div_ceil(10);
        for ((name, level), seats) in self.in_use.iter_mut().zip(seats) {
            if level.current != seats {
                tracing::debug!(
                    level = &**name,
                    before = level.current,
                    now = seats,
                    "The seats of a priority level changed"
                );
            }
            level.current = seats;
            let discipline = level.level.discipline;
            level.pool.configure(discipline, seats, spare);
            self.families.adjusted(name, &level.claim());
        }
    }

    /// Whether a schema's level can be used. Levels that only drain are gone already.
    fn usable(&self, name: &str) -> Option<&InUse> {
        let found = self.in_use.get(name)?;
        (!found.pool.unwanted.load(Ordering::Relaxed)).then_some(found)
    }

    fn table(&self, schemas: &[Arc<Schema>]) -> Table {
        let mut sorted: Vec<&Arc<Schema>> = schemas.iter().collect();
        sorted.sort_by(|a, b| a.order().cmp(&b.order()));
        let mut flows: Vec<Arc<Flow>> = sorted.iter().filter_map(|s| self.flow(s)).collect();
        let has = |flows: &[Arc<Flow>], name: &str| flows.iter().any(|f| *f.schema.name == *name);
        if !has(&flows, EXEMPT) {
            let imagined = self.imagined(EXEMPT);
            drop(flows.splice(..0, imagined));
        }
        if !has(&flows, CATCH_ALL) {
            flows.extend(self.imagined(CATCH_ALL));
        }
        let fallback = flows.iter().find(|f| *f.schema.name == *CATCH_ALL);
        Table {
            fallback: fallback.cloned(),
            pools: self.in_use.values().map(|l| Arc::clone(&l.pool)).collect(),
            flows,
        }
    }

    /// The flow of a mandatory schema while its object is not there.
    fn imagined(&self, name: &str) -> Option<Arc<Flow>> {
        let object = bootstrap::mandatory_schema(name)?;
        self.flow(&Arc::new(Schema::of(&object)))
    }

    fn flow(&self, schema: &Arc<Schema>) -> Option<Arc<Flow>> {
        let level = self.usable(&schema.level)?;
        Some(Flow::new(
            schema,
            &level.level,
            &level.pool,
            level.bounds.nominal,
            &self.families,
            &self.hash,
        ))
    }
}

#[cfg(test)]
mod tests;
