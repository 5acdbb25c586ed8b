//! Follows the configuration, divides the seats anew every ten seconds, and says in the status of each
//! schema whether its level is there.
//!
//! Upstream: `util/flowcontrol/apf_controller.go`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use component::{Supervisor, Task};
use parking_lot::Mutex;
use proto::Value;
use proto::catalogue::names as n;
use rand::Rng;
use resources::clock::Clock;
use resources::object::{self, Type};
use resources::status::Failure;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::Fair;
use super::level::Level;
use super::schema::Schema;
use crate::bootstrap::Own;
use crate::registry::follow::{Told, follow};
use crate::server::Server;

pub(super) const GROUP: &str = "flowcontrol.apiserver.k8s.io";
pub(super) const SCHEMAS: &str = "flowschemas";
pub(super) const LEVELS: &str = "prioritylevelconfigurations";

/// Who the status is written by.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
/// How often the seats are divided anew.
const ADJUSTMENT: Duration = Duration::from_secs(10);
/// A schema's status is written so often in a minute: servers of different minds must not quarrel.
const WRITES: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// How long to wait after a failed write, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(300));

/// The objects as they are.
#[derive(Default)]
pub(super) struct Followed {
    schemas: Mutex<BTreeMap<Box<str>, Arc<Schema>>>,
    levels: Mutex<BTreeMap<Box<str>, Arc<Level>>>,
    /// Collections that have not been read yet.
    unread: AtomicUsize,
    /// Something is different: for who uses it, and for who keeps it as it should be.
    pub(super) used: Notify,
    pub(super) kept: Notify,
}

/// Follows both resources; none if they are not served.
pub(super) fn start_following(server: &Server, tasks: &Supervisor) -> Option<Arc<Followed>> {
    let endpoint = |resource| server.registry.any_version(GROUP, resource);
    let (schemas, levels) = (endpoint(SCHEMAS)?, endpoint(LEVELS)?);
    let followed = Arc::new(Followed {
        unread: AtomicUsize::new(2),
        ..Followed::default()
    });
    for (endpoint, is_level) in [(schemas, false), (levels, true)] {
        let (collection, hub) = (endpoint.collection.clone(), endpoint.hub);
        let followed = Arc::clone(&followed);
        let name = format!("flow-control-{}", endpoint.resource.name);
        tasks.spawn(Task::Worker, name, async move {
            let mut first = true;
            follow(collection, |told| {
                if matches!(told, Told::Complete) && std::mem::replace(&mut first, false) {
                    followed.unread.fetch_sub(1, Ordering::Release);
                    followed.changed();
                } else if followed.apply(is_level, &hub, &told) {
                    followed.changed();
                }
            })
            .await;
        });
    }
    Some(followed)
}

impl Followed {
    fn changed(&self) {
        if self.unread.load(Ordering::Acquire) == 0 {
            self.used.notify_one();
            self.kept.notify_one();
        }
    }

    /// Whether anything is different now.
    fn apply(&self, is_level: bool, hub: &Type, told: &Told) -> bool {
        match told {
            Told::Complete => false,
            Told::Reset if is_level => !std::mem::take(&mut *self.levels.lock()).is_empty(),
            Told::Reset => !std::mem::take(&mut *self.schemas.lock()).is_empty(),
            Told::Gone(entry) if is_level => self.levels.lock().remove(entry.name()).is_some(),
            Told::Gone(entry) => self.schemas.lock().remove(entry.name()).is_some(),
            Told::Put(entry) => match object::from_body(&entry.body, hub) {
                Ok(object) if is_level => self.put_level(entry.name(), &object),
                Ok(object) => put(&self.schemas, entry.name(), Schema::of(&object)),
                Err(_) => false,
            },
        }
    }

    fn put_level(&self, name: &str, object: &Value) -> bool {
        match Level::of(object) {
            Ok(level) => put(&self.levels, name, level),
            Err(error) => {
                tracing::warn!(%error, level = name, "A priority level is broken and is ignored");
                self.levels.lock().remove(name).is_some()
            }
        }
    }

    fn all(&self) -> (Vec<Arc<Level>>, Vec<Arc<Schema>>) {
        let levels = self.levels.lock().values().cloned().collect();
        (levels, self.schemas.lock().values().cloned().collect())
    }
}

fn put<T: PartialEq>(all: &Mutex<BTreeMap<Box<str>, Arc<T>>>, name: &str, new: T) -> bool {
    let mut all = all.lock();
    if all.get(name).is_some_and(|old| **old == new) {
        return false;
    }
    all.insert(name.into(), Arc::new(new));
    true
}

/// Keeps the configuration that is in use as the objects say. Never returns.
pub(super) async fn run(server: Arc<Server>, fair: Arc<Fair>, followed: Arc<Followed>) {
    let mut ticks = interval_at(Instant::now() + ADJUSTMENT, ADJUSTMENT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut statuses = Statuses::default();
    loop {
        let again = statuses.again;
        tokio::select! {
            () = followed.used.notified() => {}
            () = fair.shared.idle.notified() => {}
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            _ = ticks.tick() => {
                fair.levels.lock().adjust();
                continue;
            }
        }
        let (levels, schemas) = followed.all();
        let table = fair.levels.lock().digest(&levels, &schemas);
        *fair.table.write() = table;
        let stale: Vec<(&Arc<Schema>, [String; 3])> = schemas
            .iter()
            .filter_map(|s| Some((s, stale(s, &levels)?)))
            .collect();
        statuses.write(&server, &stale).await;
    }
}

/// What the `Dangling` condition of a schema should say, if it does not say it.
fn stale(schema: &Schema, levels: &[Arc<Level>]) -> Option<[String; 3]> {
    let found = levels.iter().any(|l| l.name == schema.level);
    let (status, reason, end) = if found {
        ("False", "Found", "and it exists")
    } else {
        ("True", "NotFound", "but there is no such object")
    };
    let message = format!(
        "This FlowSchema references the PriorityLevelConfiguration object named {} {end}",
        proto::path::quote(&schema.level)
    );
    let wanted = [status.to_owned(), reason.to_owned(), message];
    let same = |has: &[Box<str>; 3]| has.iter().zip(&wanted).all(|(has, w)| **has == **w);
    (!schema.dangling.as_ref().is_some_and(same)).then_some(wanted)
}

/// The writing of statuses.
#[derive(Default)]
struct Statuses {
    recent: HashMap<Box<str>, VecDeque<Instant>>,
    /// When to look again, since not everything could be written.
    again: Option<Instant>,
    failures: u32,
}

impl Statuses {
    async fn write(&mut self, server: &Arc<Server>, stale: &[(&Arc<Schema>, [String; 3])]) {
        self.again = None;
        let mut failed = false;
        for (schema, wanted) in stale {
            if !self.may_write(&schema.name, Instant::now()) {
                let wait = Duration::from_secs(rand::rng().random_range(30..75));
                self.again = self.again.or(Some(Instant::now() + wait));
                continue;
            }
            match apply(server, &schema.name, wanted).await {
                Ok(()) => {}
                // A deleted schema is told of soon.
                Err(failure) if failure.reason() == "NotFound" => {}
                Err(failure) => {
                    tracing::warn!(error = %failure, schema = &*schema.name, "The status of a flow schema cannot be written, it will be tried again");
                    failed = true;
                }
            }
        }
        self.failures = if failed { self.failures + 1 } else { 0 };
        if failed {
            let wait = RETRY.0 * 2u32.saturating_pow(self.failures.min(16));
            self.again = Some(Instant::now() + wait.min(RETRY.1));
        }
    }

    /// Notes a write, unless there were too many in the last minute.
    fn may_write(&mut self, name: &str, now: Instant) -> bool {
        self.recent.retain(|_, writes| {
            writes.retain(|at| now.duration_since(*at) <= MINUTE);
            !writes.is_empty()
        });
        let writes = self.recent.entry(name.into()).or_default();
        let may = writes.len() < WRITES;
        if may {
            writes.push_back(now);
        }
        may
    }
}

async fn apply(server: &Arc<Server>, name: &str, wanted: &[String; 3]) -> Result<(), Failure> {
    let [status, reason, message] = wanted;
    let mut condition = Value::object();
    condition.set(&[n::TYPE], "Dangling");
    condition.set(&[n::STATUS], status.as_str());
    condition.set(&[n::REASON], reason.as_str());
    condition.set(&[n::MESSAGE], message.as_str());
    condition.set(&[n::LAST_TRANSITION_TIME], Clock::now().text.as_str());
    let mut configuration = Value::object();
    configuration.set(&[n::API_VERSION], format!("{GROUP}/v1"));
    configuration.set(&[n::KIND], "FlowSchema");
    configuration.set(&[n::METADATA, n::NAME], name);
    configuration.set(&[n::STATUS, n::CONDITIONS], vec![condition]);
    Own::new(server, GROUP, SCHEMAS, "")?
        .managed_by(MANAGER)
        .apply_status(name, &configuration)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_not_written_more_often_than_six_times_a_minute() {
        let mut statuses = Statuses::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..6 {
            assert!(statuses.may_write("a", at(second)));
        }
        assert!(!statuses.may_write("a", at(30)));
        assert!(statuses.may_write("b", at(30)));
        assert!(statuses.may_write("a", at(61)));
        assert!(!statuses.may_write("a", at(61)));
    }
}
