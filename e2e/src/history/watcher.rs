//! Clients that watch, and go on where they were when a watch ends.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::api::{self, COLORS, Caller, Failure, World};
use super::load::Phase;
use super::random::Random;
use super::record::{End, Event, Kind, Object, Page, Revision, Seen, Start, Want, What};
use crate::bench::client::Call;
use crate::lines::Lines;

/// How long a watch may take in the end for what it still owes.
const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(200);
const INITIAL_END: &str = "k8s.io/initial-events-end";

struct Watcher {
    number: u32,
    random: Random,
    caller: Caller,
    phase: watch::Receiver<Phase>,
    color: Option<String>,
    /// The last revision that it was told or promised; nothing while it has to begin anew.
    upto: Option<Revision>,
}

/// How one watch ended for its client.
enum Ended {
    /// It told everything to the end of the run, or had its time for it.
    Finished,
    Broken,
    /// Its revision is gone.
    Expired,
}

/// Watches until the run ends and everything was told.
pub(super) async fn watcher(
    number: u32,
    mut random: Random,
    world: Arc<World>,
    phase: watch::Receiver<Phase>,
) {
    let color = random.pick(COLORS).to_string();
    let color = Some(color).filter(|_| random.chance(60));
    let mut watcher = Watcher {
        number,
        random,
        caller: Caller::new(world),
        phase,
        color,
        upto: None,
    };
    let mut closing = None;
    loop {
        let server = watcher.random.below(watcher.caller.world.servers.len());
        watcher.caller.aim(server);
        let ended = match watcher.start().await {
            Some(start) => watcher.watch(start).await,
            None => Ended::Broken,
        };
        match ended {
            Ended::Finished => return,
            Ended::Expired => watcher.upto = None,
            Ended::Broken => {}
        }
        if *watcher.phase.borrow() != Phase::Load {
            let until = *closing.get_or_insert_with(|| Instant::now() + PATIENCE);
            if Instant::now() > until {
                return;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl Watcher {
    /// Where the next watch begins: where the last one ended, or with all there is.
    async fn start(&mut self) -> Option<Start> {
        match self.upto {
            Some(revision) if !self.random.chance(10) => Some(Start::After(revision)),
            _ if self.random.chance(50) => Some(Start::Initial),
            _ => self.list().await.map(Start::After),
        }
    }

    async fn list(&mut self) -> Option<Revision> {
        let call = self.caller.world.now();
        let (revision, objects, _) = self
            .caller
            .page(self.color.as_deref(), None, Ok(Want::Fresh))
            .await
            .ok()?;
        let done = self.caller.world.now();
        let page = Page {
            done,
            revision,
            objects,
        };
        let what = What::List {
            color: self.color.clone(),
            want: Want::Fresh,
            limit: None,
            pages: vec![page],
            broken: None,
        };
        self.record(call, what);
        Some(revision)
    }

    fn record(&self, call: u64, what: What) {
        self.caller.record(self.number, call, what);
    }

    async fn watch(&mut self, start: Start) -> Ended {
        let from = match start {
            Start::After(revision) => format!("resourceVersion={revision}"),
            Start::Initial => "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
        };
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={}&{from}{}",
            api::collection(),
            self.random.between(3, 20),
            api::selector(self.color.as_deref()),
        );
        let call = self.caller.world.now();
        let response = match self.caller.begin(&Call::get(path)).await {
            Ok(response) => response,
            Err(Failure::Refused(410, _)) => return Ended::Expired,
            Err(_) => return Ended::Broken,
        };
        let mut watch = Watch {
            start,
            seen: Vec::new(),
            upto: match start {
                Start::After(revision) => Some(revision),
                Start::Initial => None,
            },
        };
        let (ended, end) = watch.read(self, response.into_body()).await;
        self.upto = watch.upto;
        let what = What::Watch {
            color: self.color.clone(),
            start,
            seen: watch.seen,
            end,
        };
        self.record(call, what);
        ended
    }

    /// The revision of the last event that this selector has to see, once load has ended.
    fn owed(&self) -> Option<Revision> {
        match &*self.phase.borrow() {
            Phase::Load | Phase::Stuck => None,
            Phase::Closing(last) => last.get(&self.color).copied(),
        }
    }
}

struct Watch {
    start: Start,
    seen: Vec<Seen>,
    /// From where another watch can go on; nothing before the initial events have ended.
    upto: Option<Revision>,
}

impl Watch {
    async fn read(&mut self, watcher: &mut Watcher, mut body: Incoming) -> (Ended, End) {
        let mut lines = Lines::default();
        let mut due = None;
        loop {
            if *watcher.phase.borrow() == Phase::Stuck {
                return (
                    Ended::Finished,
                    End::Ended("by the end of the run".to_owned()),
                );
            }
            if let Some(owed) = watcher.owed() {
                let due = *due.get_or_insert_with(|| Instant::now() + PATIENCE);
                let done = self.upto.is_some_and(|upto| upto >= owed);
                if done || Instant::now() > due {
                    return (Ended::Finished, End::Owes(owed));
                }
            }
            let frame = match timeout(LOOK, body.frame()).await {
                Err(_) => continue,
                Ok(None) => return (Ended::Broken, End::Ended("by the server".to_owned())),
                Ok(Some(Err(error))) => return (Ended::Broken, End::Ended(error.to_string())),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let at = watcher.caller.world.now();
            for line in lines.push(&data) {
                if let Err(why) = self.take(&watcher.caller.world, at, &line) {
                    let expired = why.starts_with("410");
                    let ended = if expired {
                        Ended::Expired
                    } else {
                        Ended::Broken
                    };
                    return (ended, End::Ended(why));
                }
            }
        }
    }

    /// One line of the stream; an error ends the watch.
    fn take(&mut self, world: &World, at: u64, line: &[u8]) -> Result<(), String> {
        let message: Value = serde_json::from_slice(line)
            .map_err(|_| world.nonsense(&String::from_utf8_lossy(line)))?;
        let object = &message["object"];
        let name = message["type"].as_str().unwrap_or_default();
        let event = match name {
            "ERROR" => return Err(format!("{} {}", object["code"], object["reason"])),
            "BOOKMARK" => api::revision(object).map(|revision| Event::Bookmark {
                revision,
                initial_end: object["metadata"]["annotations"][INITIAL_END] == "true",
            }),
            _ => api::kind(name)
                .zip(api::object(object))
                .map(|(kind, object): (Kind, Object)| Event::Object(kind, object)),
        };
        let event = event.ok_or_else(|| world.nonsense(&message))?;
        let ends_initial = matches!(
            event,
            Event::Bookmark {
                initial_end: true,
                ..
            }
        );
        if self.upto.is_some() || ends_initial || self.start != Start::Initial {
            self.upto = self.upto.max(Some(event.revision()));
        }
        self.seen.push(Seen { at, event });
        Ok(())
    }
}
