//! Writing events to the API server.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event as CoreEvent;
use k8s_openapi::api::events::v1::Event as SeriesEvent;
use rand::Rng;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use super::classic::{Correlator, Write};
use super::series::{AllSeries, FINISH, REFRESH};
use super::{Api, Event, Source};
use crate::client::{Client, Error, Patch};
use crate::clock;
use crate::supervisor::chain;

/// How often an event is tried, and the wait in between; upstream's figures.
const TRIES: u32 = 12;
const WAIT: Duration = Duration::from_secs(10);

pub(super) struct Sink {
    client: Client,
    source: Source,
    kind: State,
}

enum State {
    Core(Correlator),
    Events(AllSeries),
}

impl Sink {
    pub(super) fn new(client: Client, source: Source, api: Api) -> Self {
        let kind = match api {
            Api::Core => State::Core(Correlator::new()),
            Api::Events => State::Events(AllSeries::new()),
        };
        Self {
            client,
            source,
            kind,
        }
    }

    /// Writes what comes; at the end what is there already, without trying anything twice.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
        let mut finish = interval_at(Instant::now() + FINISH, FINISH);
        let mut refresh = interval_at(Instant::now() + REFRESH, REFRESH);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                event = events.recv() => match event {
                    Some(event) => self.observe(&event, &stop).await,
                    None => return,
                },
                _ = finish.tick() => self.tell_series(&stop, true).await,
                _ = refresh.tick() => self.tell_series(&stop, false).await,
            }
        }
        while let Ok(event) = events.try_recv() {
            self.observe(&event, &stop).await;
        }
    }

    async fn observe(&mut self, event: &Event, stop: &CancellationToken) {
        let now = clock::now();
        match &mut self.kind {
            State::Core(correlator) => {
                let Some(write) = correlator.observe(event, &self.source, now) else {
                    return;
                };
                let client = &self.client;
                persist(stop, || write_core(client, &write)).await;
            }
            State::Events(series) => {
                let Some(event) = series.observe(event, &self.source, now) else {
                    return;
                };
                let client = &self.client;
                persist(stop, || write_series(client, &event)).await;
            }
        }
    }

    async fn tell_series(&mut self, stop: &CancellationToken, over: bool) {
        let State::Events(series) = &mut self.kind else {
            return;
        };
        let events = if over {
            series.finish(clock::now())
        } else {
            series.refresh()
        };
        for event in events {
            let client = &self.client;
            persist(stop, || write_series(client, &event)).await;
        }
    }
}

/// Tries until it is done, refused, or tried too often.
async fn persist<F>(stop: &CancellationToken, write: impl Fn() -> F)
where
    F: Future<Output = Result<(), Error>>,
{
    for tried in 1..=TRIES {
        let error = match write().await {
            Ok(()) => return,
            Err(e) => e,
        };
        if error.status().is_some() {
            let expected = error.is_already_exists() || error.is_namespace_terminating();
            if expected {
                tracing::debug!(error = chain(&error), "The server refused an event");
            } else {
                tracing::warn!(error = chain(&error), "The server refused an event");
            }
            return;
        }
        tracing::warn!(error = chain(&error), tried, "Cannot write an event");
        // Clients that lost one server must not come back together.
        let wait = if tried == 1 {
            WAIT.mul_f64(rand::rng().random())
        } else {
            WAIT
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
    tracing::error!("An event is given up");
}

async fn write_core(client: &Client, write: &Write) -> Result<(), Error> {
    let meta = &write.event.metadata;
    let api = client.namespaced::<CoreEvent>(meta.namespace.as_deref().unwrap_or_default());
    if let Some(patch) = &write.patch {
        let name = meta.name.as_deref().unwrap_or_default();
        match api.patch(name, &Patch::strategic(patch)?).await {
            Err(e) if e.is_not_found() => {}
            done => return done.map(drop),
        }
    }
    api.create(&write.event).await.map(drop)
}

async fn write_series(client: &Client, event: &SeriesEvent) -> Result<(), Error> {
    let meta = &event.metadata;
    let api = client.namespaced::<SeriesEvent>(meta.namespace.as_deref().unwrap_or_default());
    if let Some(series) = &event.series {
        let name = meta.name.as_deref().unwrap_or_default();
        match api
            .patch(name, &Patch::strategic(&json!({ "series": series }))?)
            .await
        {
            Err(e) if e.is_not_found() => {}
            done => return done.map(drop),
        }
    }
    api.create(event).await.map(drop)
}
