//! Priority and fairness: which request is worked on when there are more than the server can bear.
//!
//! Schemas sort requests into flows, each flow belongs to a priority level, and each level has seats. A
//! request takes one or more of them while it runs; where there are none it waits in one of the level's
//! queues, or is refused with 429. A flow that floods fills the few queues of its hand, and others hardly
//! notice. What levels do not use they lend. Upstream: `util/flowcontrol`,
//! `server/filters/priority-and-fairness.go` (KEP-1040).
//!
//! ```text
//! schema, level     objects, read          queues, shuffle, work   who is next, purely
//! estimate, watches what requests cost     demand, allocation      who has how many seats, purely
//! levels            configuration in use   pool, flow              locks, clock, those who wait
//! controller, ensure, bootstrap            objects that are followed and kept
//! ```
//!
//! Invariant: a seat is given back when its [`Place`] is dropped, whatever becomes of the request. A
//! request that gets its seats at once holds two locks for a moment and allocates nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use component::features::Features;
use component::metrics::Metrics;
use component::{Supervisor, Task};
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};

use crate::chain::Exchange;
use crate::dispatch::Route;
use crate::server::Server;

mod allocation;
mod class;
mod controller;
mod demand;
pub mod dump;
mod ensure;
mod estimate;
mod flow;
mod level;
mod levels;
mod limits;
mod metrics;
mod place;
mod pool;
mod queues;
mod refusals;
mod schema;
mod shuffle;
mod timing;
mod watches;
mod work;

pub use class::{Class, InFlight, Phase};
pub(crate) use ensure::HOOK;
pub use place::{Opening, Place, Refused};

use estimate::{Gates, How, Stored};
use flow::{Flow, Seat, Start, Waiting};
use levels::{Levels, Table};
use limits::Limits;
use metrics::{Families, Utilization};
use place::Held;
use pool::{Series, Shared};
use watches::Watches;
use work::Work;

/// The longest that anything may wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How much is worked on at once.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub reads: usize,
    pub writes: usize,
    /// Whether both limits are shared out fairly.
    pub fair: bool,
    /// How long a request may take in all.
    pub request_timeout: Duration,
}

/// Who is worked on.
pub struct FlowControl {
    mode: Mode,
    in_flight: Arc<InFlight>,
    request_timeout: Duration,
    tasks: Supervisor,
}

enum Mode {
    Fair(Arc<Fair>),
    Limits(Limits),
}

/// What fairness consists of.
struct Fair {
    shared: Arc<Shared>,
    table: RwLock<Table>,
    /// Changed by the controller only, which never waits while it does.
    levels: Mutex<Levels>,
    watches: Watches,
    gates: Gates,
    families: Arc<Families>,
}

impl FlowControl {
    /// With the mandatory configuration, until [`FlowControl::start`] has read the objects.
    #[must_use]
    pub fn new(
        config: Config,
        features: &Features,
        tasks: &Supervisor,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let mode = if config.fair {
            Mode::Fair(Arc::new(Fair::new(config, features, metrics)))
        } else {
            Mode::Limits(Limits::new(config.reads, config.writes))
        };
        let control = Arc::new(Self {
            mode,
            in_flight: Arc::default(),
            request_timeout: config.request_timeout,
            tasks: tasks.clone(),
        });
        if let Mode::Fair(fair) = &control.mode {
            metrics.register_collector(Utilization(Arc::clone(&control)));
            let fair = Arc::clone(fair);
            metrics.before_scrape(move || {
                for pool in &fair.table.read().pools {
                    fair.families.progress(&pool.name, &pool.series());
                }
            });
        }
        control
    }

    /// Follows and keeps the configuration from now on.
    pub fn start(server: &Arc<Server>, tasks: &Supervisor) {
        let followed = controller::start_following(server, tasks);
        if let Mode::Fair(fair) = &server.flow_control.mode {
            let shared = Arc::clone(&fair.shared);
            tasks.spawn(Task::Background, "flow-control-alarms", async move {
                shared.run_alarms().await;
            });
            if let Some(followed) = &followed {
                let run = controller::run(server.clone(), fair.clone(), followed.clone());
                tasks.spawn(Task::Worker, "priority-and-fairness-config-consumer", run);
            }
        }
        if let Some(followed) = followed {
            let keep = ensure::keep(server.clone(), followed);
            tasks.spawn(Task::Worker, "priority-and-fairness-config-producer", keep);
        }
    }

    /// Requests that run and that wait.
    #[must_use]
    pub fn in_flight(&self) -> Arc<InFlight> {
        Arc::clone(&self.in_flight)
    }

    /// Waits until the request may be worked on.
    ///
    /// # Errors
    /// If it may not.
    pub async fn enter(&self, x: &Exchange, route: Route<'_>) -> Result<Place, Refused> {
        let class = Class::of(&x.info);
        let is_watch = x.info.verb == "watch";
        if class == Class::LongRunning && !is_watch {
            return Ok(Place::default());
        }
        let count = |phase| self.in_flight.begin(phase, class);
        let fair = match &self.mode {
            Mode::Fair(fair) => fair,
            // Watches are long-running here.
            Mode::Limits(_) if is_watch => return Ok(Place::default()),
            Mode::Limits(limits) => {
                let permit = limits.enter(class, &x.user);
                let permit = permit.map_err(|_| Refused::plain())?;
                return Ok(Place::held(Held {
                    _seat: None,
                    _permit: Some(permit),
                    _counted: count(Phase::Executing),
                }));
            }
        };
        let Some(flow) = fair.table.read().find(x) else {
            return Err(Refused::plain());
        };
        let work = fair.estimate(&flow, x, route);
        flow.metrics.estimated(work.width());
        let seat = match flow.start(work, &x.user, &x.info) {
            Start::Seated(seat) => Some(seat),
            Start::Waiting(waiting) => {
                let _counted = count(Phase::Waiting);
                // Watches have no deadline of their own.
                let in_all = is_watch.then_some(self.request_timeout);
                wait(waiting, x, in_all).await
            }
            Start::Refused => None,
        };
        let Some(seat) = seat else {
            return Err(Refused {
                retry_after: flow.pool.refused(),
                flow: Some(flow),
            });
        };
        let mut place = Place::held(Held {
            _seat: Some(seat),
            _permit: None,
            _counted: count(Phase::Executing),
        });
        place.watching = is_watch.then(|| fair.watches.register(&x.info, &x.query));
        place.flow = Some(flow);
        Ok(place)
    }

    /// The numbers of each level that are made when they are asked for.
    fn series(&self) -> Vec<(Box<str>, Series)> {
        let Mode::Fair(fair) = &self.mode else {
            return Vec::new();
        };
        let table = fair.table.read();
        let pools = table.pools.iter();
        pools.map(|p| (p.name.clone(), p.series())).collect()
    }
}

/// Waits for a quarter of the time that the request has in all, counted from when it came. Boxed: few
/// requests wait, and the others should not carry the room for it.
fn wait(
    waiting: Waiting,
    x: &Exchange,
    in_all: Option<Duration>,
) -> BoxFuture<'static, Option<Seat>> {
    let now = Instant::now();
    let spent = x.received.elapsed().unwrap_or_default();
    let in_all = in_all.unwrap_or_else(|| x.deadline.saturating_duration_since(now) + spent);
    let left = (in_all / 4).min(LONGEST_WAIT).saturating_sub(spent);
    Box::pin(waiting.seat(now + left))
}

impl Fair {
    fn new(config: Config, features: &Features, metrics: &Metrics) -> Self {
        let shared = Shared::new();
        let families = Families::register(metrics);
        let total = config.reads.saturating_add(config.writes);
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        let mut levels = Levels::new(total, &shared, &families);
        let table = levels.digest(&[], &[]);
        Self {
            shared,
            table: RwLock::new(table),
            levels: Mutex::new(levels),
            watches: Watches::default(),
            gates: Gates {
                by_size: features.enabled("SizeBasedListCostEstimate"),
                watch_list: features.enabled("WatchList"),
            },
            families,
        }
    }

    fn estimate(&self, flow: &Flow, x: &Exchange, route: Route<'_>) -> Work {
        match estimate::how(&x.info, &x.query, self.gates) {
            How::One => Work::of(1),
            How::List => {
                let stored = stored(route);
                estimate::list(&x.info, &x.query, stored, flow.most_seats, self.gates)
            }
            How::Write => {
                let watches = self.watches.interested(&x.info);
                flow.metrics.watches(watches);
                estimate::write(watches, flow.most_seats)
            }
        }
    }
}

/// What is stored of a resource: two numbers that its cache keeps.
fn stored(route: Route<'_>) -> Option<Stored> {
    let Route::Stored(endpoint) = route else {
        return None;
    };
    if endpoint.collection.ready().is_err() {
        return Some(Stored::UNKNOWN);
    }
    let metrics = endpoint.collection.metrics();
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    Some(Stored {
        objects: number(metrics.objects.get()),
        bytes: number(metrics.stored_bytes.get()),
    })
}

impl Table {
    /// The flow of a request: the first schema that matches it.
    fn find(&self, x: &Exchange) -> Option<Arc<Flow>> {
        let matching = |flow: &&Arc<Flow>| flow.schema.matches(&x.user, &x.info);
        let found = self.flows.iter().find(matching);
        found.or(self.fallback.as_ref()).cloned()
    }
}

#[cfg(test)]
mod tests;
