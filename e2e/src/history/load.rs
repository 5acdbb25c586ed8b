//! Clients that read and write at a rate of their own, and record what they asked and were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::api::{COLORS, Caller, World};
use super::random::Random;
use super::record::{Object, Outcome, Page, Revision, Want, What, Write, Written};

/// Few, so that clients meet.
const KEYS: usize = 8;

/// What a run is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Load,
    /// Load has ended; each selector's last event has this revision, and so has that of no selector.
    Closing(BTreeMap<Option<String>, Revision>),
    /// Nothing can be written any more.
    Stuck,
}

/// Between two operations of one client, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub least: u64,
    pub most: u64,
}

struct Client {
    number: u32,
    random: Random,
    caller: Caller,
    values: u64,
    /// What it saw last of each object.
    known: BTreeMap<String, Object>,
    /// Lists and writes told it of this revision.
    newest: Revision,
}

/// Runs one client until load ends.
pub(super) async fn client(
    number: u32,
    random: Random,
    world: Arc<World>,
    pace: Pace,
    phase: watch::Receiver<Phase>,
) {
    let mut client = Client {
        number,
        random,
        caller: Caller::new(world),
        values: 0,
        known: BTreeMap::new(),
        newest: 0,
    };
    while *phase.borrow() == Phase::Load {
        client.caller.turn(&mut client.random);
        match client.random.below(100) {
            0..45 => client.write().await,
            45..75 => client.get().await,
            _ => client.list().await,
        }
        let pause = client.random.between(pace.least, pace.most);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

impl Client {
    fn key(&mut self) -> String {
        format!("k{}", self.random.below(KEYS))
    }

    fn record(&self, call: u64, what: What) {
        self.caller.record(self.number, call, what);
    }

    fn learn(&mut self, key: &str, object: Option<&Object>) {
        match object {
            Some(object) => {
                self.newest = self.newest.max(object.revision);
                self.known.insert(key.to_owned(), object.clone());
            }
            None => {
                self.known.remove(key);
            }
        }
    }

    /// Mostly what has a chance with what the client knows, so that most writes happen.
    fn new_write(&mut self) -> Write {
        let key = self.key();
        self.values += 1;
        let value = format!("{}-{}", self.number, self.values);
        let color = self.random.pick(COLORS).to_string();
        let known = self.known.get(&key).map(|object| object.revision);
        if known.is_none() && self.random.chance(80) {
            return Write::Create { key, value, color };
        }
        let expect = known.filter(|_| self.random.chance(60));
        match self.random.below(10) {
            0 => Write::Create { key, value, color },
            1..3 => Write::Delete { key, expect },
            3..5 => Write::Patch { key, value },
            _ => Write::Update {
                key,
                value,
                color,
                expect,
            },
        }
    }

    async fn write(&mut self) {
        let write = self.new_write();
        let call = self.caller.world.now();
        let outcome = self.caller.write(&write).await;
        match &outcome {
            Outcome::Done(Written::Stored(object)) => self.learn(write.key(), Some(object)),
            Outcome::Done(Written::Deleted(_)) | Outcome::Refused(404, _) => {
                self.learn(write.key(), None);
            }
            // Somebody else was there: the next read tells what is.
            Outcome::Refused(..) | Outcome::Unknown(_) => {}
        }
        self.record(call, What::Write { write, outcome });
    }

    fn want(&mut self, exact: bool) -> Want {
        let past = self
            .newest
            .saturating_sub(self.random.between(0, 30))
            .max(1);
        match self.random.below(10) {
            0 => Want::Any,
            1 if self.newest > 0 => Want::NotOlderThan(self.newest),
            2 if exact && self.newest > 0 => Want::Exact(past),
            _ => Want::Fresh,
        }
    }

    async fn get(&mut self) {
        let (key, want) = (self.key(), self.want(false));
        let call = self.caller.world.now();
        let outcome = self.caller.get(&key, want).await;
        if let (Want::Fresh, Outcome::Done(found)) = (want, &outcome) {
            self.learn(&key, found.as_ref());
        }
        self.record(call, What::Get { key, want, outcome });
    }

    async fn list(&mut self) {
        let want = self.want(true);
        let color = self.random.pick(COLORS).to_string();
        let color = Some(color).filter(|_| self.random.chance(40));
        // Upstream's cache answers these whole, whatever the limit says.
        let limited = matches!(want, Want::Fresh | Want::Exact(_)) && self.random.chance(50);
        let limit = limited.then(|| 1 + self.random.below(3));
        let call = self.caller.world.now();
        let (mut pages, mut broken, mut token) = (Vec::new(), None, None::<String>);
        loop {
            let from = token.as_deref().map_or(Ok(want), Err);
            match self.caller.page(color.as_deref(), limit, from).await {
                Ok((revision, objects, next)) => {
                    pages.push(Page {
                        done: self.caller.world.now(),
                        revision,
                        objects,
                    });
                    token = next;
                }
                Err(failure) => broken = Some(failure.text()),
            }
            if token.is_none() || broken.is_some() {
                break;
            }
            let pause = self.random.between(0, 20);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        if let Some(page) = pages.first() {
            self.newest = self.newest.max(page.revision);
            for object in pages
                .iter()
                .flat_map(|page| &page.objects)
                .cloned()
                .collect::<Vec<_>>()
            {
                self.learn(&object.key.clone(), Some(&object));
            }
        }
        let what = What::List {
            color,
            want,
            limit,
            pages,
            broken,
        };
        self.record(call, what);
    }
}

/// The last writes of a run, one for each selector, so that every watch has something to end with; their revisions.
pub(super) async fn close(
    world: &Arc<World>,
    patience: Duration,
) -> Result<BTreeMap<Option<String>, Revision>, String> {
    let deadline = tokio::time::Instant::now() + patience;
    let mut random = Random::new(0);
    let mut caller = Caller::new(Arc::clone(world));
    let mut last = BTreeMap::new();
    let mut tries = 0;
    for color in COLORS {
        let (key, color) = (format!("close-{color}"), (*color).to_owned());
        loop {
            tries += 1;
            caller.turn(&mut random);
            let value = format!("close-{tries}");
            let (key, wanted) = (key.clone(), color.clone());
            // A creation of which nobody knew leaves something to update.
            let write = if tries % 2 == 1 {
                Write::Create {
                    key,
                    value,
                    color: wanted,
                }
            } else {
                Write::Update {
                    key,
                    value,
                    color: wanted,
                    expect: None,
                }
            };
            let call = world.now();
            let outcome = caller.write(&write).await;
            let stored = match &outcome {
                Outcome::Done(Written::Stored(object)) => Some(object.revision),
                _ => None,
            };
            let told = format!("{outcome:?}");
            caller.record(u32::MAX, call, What::Write { write, outcome });
            if let Some(revision) = stored {
                last.insert(Some(color.clone()), revision);
                last.insert(None, revision);
                break;
            }
            if tokio::time::Instant::now() > deadline {
                return Err(format!("nothing can be written in the end: {told}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(last)
}

/// A last fresh list from every API server.
pub(super) async fn last_lists(world: &Arc<World>) {
    for server in 0..world.servers.len() {
        let mut caller = Caller::new(Arc::clone(world));
        caller.aim(server);
        let call = world.now();
        let (pages, broken) = match caller.page(None, None, Ok(Want::Fresh)).await {
            Ok((revision, objects, _)) => {
                let done = world.now();
                (
                    vec![Page {
                        done,
                        revision,
                        objects,
                    }],
                    None,
                )
            }
            Err(failure) => (Vec::new(), Some(failure.text())),
        };
        let what = What::List {
            color: None,
            want: Want::Fresh,
            limit: None,
            pages,
            broken,
        };
        caller.record(u32::MAX, call, what);
    }
}
