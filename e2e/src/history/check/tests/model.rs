//! An API server that is right by construction, with clients that do things at once: what it records has to pass.

use std::collections::BTreeMap;

use super::super::super::random::Random;
use super::super::super::record::*;

const KEYS: &[&str] = &["a", "b", "c", "d", "e"];
const COLORS: &[&str] = &["red", "green"];

type State = BTreeMap<String, Object>;

/// A client between its call and its answer.
enum Doing {
    Nothing,
    Called(At, What),
    /// It happened, and is not answered yet.
    Happened(At, What),
    /// A list whose next page is to come.
    Paging(At, What, State),
}

struct OpenWatch {
    operation: Operation,
    color: Option<String>,
    /// Everything up to here was told.
    upto: Revision,
}

pub(super) struct Model {
    random: Random,
    now: At,
    revision: Revision,
    /// The state from each change on.
    past: Vec<(Revision, State)>,
    clients: Vec<Doing>,
    watches: Vec<OpenWatch>,
    /// Writes that nobody knows of, which may still happen.
    ghosts: Vec<Write>,
    names: u64,
    history: History,
}

/// What a correct server and its clients may have done.
pub(super) fn history(seed: u64, steps: usize) -> History {
    let mut model = Model {
        random: Random::new(seed),
        now: 1,
        revision: 10,
        past: vec![(0, State::new())],
        clients: (0..4).map(|_| Doing::Nothing).collect(),
        watches: Vec::new(),
        ghosts: Vec::new(),
        names: 0,
        history: History::default(),
    };
    for _ in 0..steps {
        model.step();
    }
    model.finish()
}

impl Model {
    fn state(&self, revision: Revision) -> &State {
        let place = self.past.partition_point(|(since, _)| *since <= revision);
        &self.past[place - 1].1
    }

    fn color(&mut self) -> Option<String> {
        let color = self.random.pick(COLORS).to_string();
        self.random.chance(50).then_some(color)
    }

    fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{what}{}", self.names)
    }

    fn step(&mut self) {
        self.now += self.random.between(0, 3);
        match self.random.below(100) {
            0..5 => self.revision += self.random.between(1, 3),
            5..8 => {
                if let Some(write) = self.ghosts.pop() {
                    let _ = self.apply(&write);
                }
            }
            8..40 => self.watch(),
            _ => self.client(),
        }
    }

    /// Does a write, or says what refuses it.
    fn apply(&mut self, write: &Write) -> Outcome<Written> {
        let mut state = self.state(self.revision).clone();
        let old = state.get(write.key()).cloned();
        let conflict = |expect: &Option<Revision>, old: &Object| {
            expect.is_some_and(|expect| expect != old.revision)
        };
        let refused = |status, reason: &str| Outcome::Refused(status, reason.to_owned());
        let revision = self.revision + 1;
        let object = match (write, old) {
            (Write::Create { .. }, Some(_)) => return refused(409, "AlreadyExists"),
            (Write::Create { key, value, color }, None) => Some(Object {
                key: key.clone(),
                revision,
                uid: self.name("uid"),
                value: value.clone(),
                color: color.clone(),
            }),
            (_, None) => return refused(404, "NotFound"),
            (Write::Update { expect, .. } | Write::Delete { expect, .. }, Some(old))
                if conflict(expect, &old) =>
            {
                return refused(409, "Conflict");
            }
            (Write::Update { value, color, .. }, Some(old)) => Some(Object {
                revision,
                value: value.clone(),
                color: color.clone(),
                ..old
            }),
            (Write::Patch { value, .. }, Some(old)) => Some(Object {
                revision,
                value: value.clone(),
                ..old
            }),
            (Write::Delete { .. }, Some(_)) => None,
        };
        self.revision = revision;
        let key = write.key().to_owned();
        let written = match &object {
            Some(object) => {
                state.insert(key.clone(), object.clone());
                Written::Stored(object.clone())
            }
            None => {
                let gone = state.remove(&key);
                Written::Deleted(gone.map(|gone| gone.uid).unwrap_or_default())
            }
        };
        self.past.push((revision, state));
        self.history.truth.changes.push(Change {
            revision,
            key,
            object,
        });
        Outcome::Done(written)
    }

    fn new_write(&mut self) -> Write {
        let key = self.random.pick(KEYS).to_string();
        let value = self.name("value");
        let color = self.random.pick(COLORS).to_string();
        let known = self
            .state(self.revision)
            .get(&key)
            .map(|object| object.revision);
        let expect = known.filter(|_| self.random.chance(60));
        match self.random.below(8) {
            0..3 => Write::Create { key, value, color },
            3..6 => Write::Update {
                key,
                value,
                color,
                expect,
            },
            6 => Write::Patch { key, value },
            _ => Write::Delete { key, expect },
        }
    }

    fn new_call(&mut self) -> What {
        if self.random.chance(50) {
            return What::Write {
                write: self.new_write(),
                outcome: Outcome::Unknown("no answer".to_owned()),
            };
        }
        let past = self.random.between(0, self.revision);
        let want = match self.random.below(6) {
            0 => Want::Any,
            1 => Want::NotOlderThan(past),
            2 => Want::Exact(past),
            _ => Want::Fresh,
        };
        if self.random.chance(50) {
            let want = match want {
                Want::Exact(_) => Want::Fresh,
                want => want,
            };
            return What::Get {
                key: self.random.pick(KEYS).to_string(),
                want,
                outcome: Outcome::Unknown("no answer".to_owned()),
            };
        }
        What::List {
            color: self.color(),
            limit: self.random.chance(50).then_some(2),
            want,
            pages: Vec::new(),
            broken: None,
        }
    }

    /// The revision that a read sees.
    fn reads(&mut self, want: Want) -> Revision {
        match want {
            Want::Fresh => self.revision,
            Want::Any => self.random.between(0, self.revision),
            Want::NotOlderThan(least) => self.random.between(least, self.revision),
            Want::Exact(revision) => revision,
        }
    }

    fn client(&mut self) {
        let who = self.random.below(self.clients.len());
        let doing = std::mem::replace(&mut self.clients[who], Doing::Nothing);
        self.clients[who] = match doing {
            Doing::Nothing => Doing::Called(self.now, self.new_call()),
            Doing::Called(call, what) => self.happen(who, call, what),
            Doing::Happened(call, what) => self.answer(who, call, what),
            Doing::Paging(call, what, state) => self.page(who, call, what, &state),
        };
    }

    fn happen(&mut self, who: usize, call: At, what: What) -> Doing {
        match what {
            What::Write { write, .. } => {
                if self.random.chance(15) {
                    self.ghosts.push(write.clone());
                    let outcome = Outcome::Unknown("timeout".to_owned());
                    return self.answer(who, call, What::Write { write, outcome });
                }
                let outcome = self.apply(&write);
                Doing::Happened(call, What::Write { write, outcome })
            }
            What::Get { key, want, .. } => {
                let revision = self.reads(want);
                let outcome = Outcome::Done(self.state(revision).get(&key).cloned());
                Doing::Happened(call, What::Get { key, want, outcome })
            }
            What::List {
                color,
                want,
                limit,
                broken,
                ..
            } => {
                let revision = self.reads(want);
                let mut state = self.state(revision).clone();
                state.retain(|_, object| color.as_ref().is_none_or(|color| *color == object.color));
                // The revision that all pages will have.
                let pages = vec![Page {
                    done: 0,
                    revision,
                    objects: Vec::new(),
                }];
                let what = What::List {
                    color,
                    want,
                    limit,
                    pages,
                    broken,
                };
                Doing::Paging(call, what, state)
            }
            What::Watch { .. } => Doing::Nothing,
        }
    }

    fn page(&mut self, who: usize, call: At, mut what: What, state: &State) -> Doing {
        let now = self.now;
        let What::List {
            limit,
            pages,
            broken,
            ..
        } = &mut what
        else {
            return Doing::Nothing;
        };
        let first = pages[0].done == 0;
        let told: usize = pages.iter().map(|page| page.objects.len()).sum();
        let objects: Vec<Object> = state
            .values()
            .skip(told)
            .take(limit.unwrap_or(usize::MAX))
            .cloned()
            .collect();
        let all = told + objects.len() == state.len();
        let page = Page {
            done: now,
            revision: pages[0].revision,
            objects,
        };
        if first {
            pages[0] = page;
        } else {
            pages.push(page);
        }
        if !all && self.random.chance(10) {
            *broken = Some("410".to_owned());
        }
        if all || broken.is_some() {
            self.answer(who, call, what)
        } else {
            Doing::Paging(call, what, state.clone())
        }
    }

    fn answer(&mut self, who: usize, call: At, what: What) -> Doing {
        self.history.operations.push(Operation {
            client: who.try_into().unwrap(),
            server: "model".to_owned(),
            call,
            done: self.now,
            what,
        });
        Doing::Nothing
    }

    /// What the change at `revision` is to a watch.
    fn event(&self, revision: Revision, color: Option<&String>) -> Option<Event> {
        let sees = |state: &State, key: &str| {
            let object = state.get(key)?;
            color
                .is_none_or(|color| *color == object.color)
                .then(|| object.clone())
        };
        let change = self
            .history
            .truth
            .changes
            .iter()
            .find(|change| change.revision == revision)?;
        let [old, new] = [revision - 1, revision].map(|at| sees(self.state(at), &change.key));
        Some(match (old, new) {
            (None, None) => return None,
            (None, Some(new)) => Event::Object(Kind::Added, new),
            (Some(_), Some(new)) => Event::Object(Kind::Modified, new),
            (Some(old), None) => Event::Object(Kind::Deleted, Object { revision, ..old }),
        })
    }

    fn watch(&mut self) {
        if self.watches.len() < 3 {
            let watch = self.open();
            self.watches.push(watch);
            return;
        }
        let which = self.random.below(self.watches.len());
        if self.random.chance(4) {
            let mut watch = self.watches.swap_remove(which);
            watch.operation.done = self.now;
            self.history.operations.push(watch.operation);
            return;
        }
        let to = self
            .revision
            .min(self.watches[which].upto + self.random.between(0, 4));
        self.tell(which, to);
        if self.random.chance(10) {
            let revision = self.watches[which].upto;
            self.see(
                which,
                Event::Bookmark {
                    revision,
                    initial_end: false,
                },
            );
        }
    }

    fn open(&mut self) -> OpenWatch {
        let color = self.color();
        let mut seen = Vec::new();
        let (start, upto) = if self.random.chance(50) {
            let after = self
                .random
                .between(self.revision.saturating_sub(20), self.revision);
            (Start::After(after), after)
        } else {
            let selected =
                |object: &&Object| color.as_ref().is_none_or(|color| *color == object.color);
            let state = self.state(self.revision).values().filter(selected).cloned();
            let mut events: Vec<Event> = state
                .map(|object| Event::Object(Kind::Added, object))
                .collect();
            events.push(Event::Bookmark {
                revision: self.revision,
                initial_end: true,
            });
            seen.extend(events.into_iter().map(|event| Seen {
                at: self.now,
                event,
            }));
            (Start::Initial, self.revision)
        };
        let operation = Operation {
            client: 100,
            server: "model".to_owned(),
            call: self.now,
            done: self.now,
            what: What::Watch {
                color: color.clone(),
                start,
                seen,
                end: End::Ended("its time was over".to_owned()),
            },
        };
        OpenWatch {
            operation,
            color,
            upto,
        }
    }

    fn see(&mut self, which: usize, event: Event) {
        let at = self.now;
        if let What::Watch { seen, .. } = &mut self.watches[which].operation.what {
            seen.push(Seen { at, event });
        }
    }

    fn tell(&mut self, which: usize, to: Revision) {
        let color = self.watches[which].color.clone();
        for revision in self.watches[which].upto + 1..=to {
            if let Some(event) = self.event(revision, color.as_ref()) {
                self.see(which, event);
            }
        }
        self.watches[which].upto = to;
    }

    fn finish(mut self) -> History {
        while self
            .clients
            .iter()
            .any(|doing| !matches!(doing, Doing::Nothing))
        {
            for who in 0..self.clients.len() {
                self.now += 1;
                let doing = std::mem::replace(&mut self.clients[who], Doing::Nothing);
                self.clients[who] = match doing {
                    Doing::Nothing => Doing::Nothing,
                    Doing::Called(call, what) => self.happen(who, call, what),
                    Doing::Happened(call, what) => self.answer(who, call, what),
                    Doing::Paging(call, what, state) => self.page(who, call, what, &state),
                };
            }
        }
        self.now += 1;
        for which in 0..self.watches.len() {
            self.tell(which, self.revision);
        }
        for mut watch in std::mem::take(&mut self.watches) {
            watch.operation.done = self.now;
            if let What::Watch { end, .. } = &mut watch.operation.what {
                *end = End::Owes(self.revision);
            }
            self.history.operations.push(watch.operation);
        }
        self.history.truth.until = self.revision;
        self.history.truth.end = self.state(self.revision).values().cloned().collect();
        self.history
    }
}
