//! `/healthz`, `/livez` and `/readyz`: named checks, in upstream's words.
//!
//! Source: `k8s.io/apiserver/pkg/server/healthz`. The reason of a failure goes to the log only: these
//! paths are open to everybody.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use parking_lot::RwLock;

use super::slis::Results;
use super::{NO_SNIFF, Response, text};
use crate::supervisor::Supervisor;

/// The checks of a daemon; cheap to clone.
#[derive(Clone)]
pub struct Health {
    checks: Arc<RwLock<Vec<Check>>>,
    results: Results,
}

struct Check {
    name: String,
    /// The paths that it is part of, beside `/readyz`.
    of: &'static [&'static str],
    run: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Check {
    fn is_of(&self, endpoint: &str) -> bool {
        endpoint == "readyz" || self.of.contains(&endpoint)
    }
}

/// Something that has to happen before the daemon is ready; dropping it says that it happened.
#[must_use = "dropping it is saying that it happened"]
pub struct Pending {
    left: Arc<AtomicUsize>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.left.fetch_sub(1, Ordering::Release);
    }
}

impl Health {
    /// `ping`, and `shutdown`, which fails readiness once the process was asked to end.
    #[must_use]
    pub fn new(tasks: &Supervisor) -> Self {
        let health = Self {
            checks: Arc::default(),
            results: Results::default(),
        };
        let stopping = tasks.stopping();
        health.live("ping", || Ok(()));
        health.ready("shutdown", move || {
            if stopping.is_cancelled() {
                Err("process is shutting down".to_owned())
            } else {
                Ok(())
            }
        });
        health
    }

    /// A check of `/livez`, `/healthz` and `/readyz`: without it the process should be restarted.
    pub fn live(&self, name: &str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.add(name, &["livez", "healthz"], check);
    }

    /// A check of `/healthz` and `/readyz`: a new process would find it no better.
    pub fn healthy(
        &self,
        name: &str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.add(name, &["healthz"], check);
    }

    /// A check of `/readyz` only.
    pub fn ready(
        &self,
        name: &str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.add(name, &[], check);
    }

    fn add(
        &self,
        name: &str,
        of: &'static [&'static str],
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.checks.write().push(Check {
            name: name.to_owned(),
            of,
            run: Arc::new(check),
        });
    }

    /// A check of `/readyz` that fails until the guard is dropped.
    pub fn pending(&self, name: &str) -> Pending {
        let left = Arc::new(AtomicUsize::new(1));
        let seen = Arc::clone(&left);
        self.ready(name, move || {
            if seen.load(Ordering::Acquire) == 0 {
                Ok(())
            } else {
                Err("not finished".to_owned())
            }
        });
        Pending { left }
    }

    /// The answer to a health path, or none if it is not one.
    #[must_use]
    pub fn answer(&self, path: &str, query: &str) -> Option<Response> {
        let (endpoint, one) = match path.strip_prefix('/')?.split_once('/') {
            Some((endpoint, one)) => (endpoint, Some(one)),
            None => (path.strip_prefix('/')?, None),
        };
        if !["healthz", "livez", "readyz"].contains(&endpoint) {
            return None;
        }
        let checks: Vec<_> = {
            let all = self.checks.read();
            let wanted = all.iter().filter(|check| check.is_of(endpoint));
            wanted
                .map(|c| (c.name.clone(), Arc::clone(&c.run)))
                .collect()
        };
        match one.filter(|name| !name.is_empty()) {
            None => Some(answer_all(endpoint, &checks, query, &self.results)),
            Some(name) => {
                let (_, run) = checks.iter().find(|(n, _)| n == name)?;
                Some(match run() {
                    Ok(()) => text(StatusCode::OK, "ok"),
                    Err(why) => text(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        format!("internal server error: {why}\n"),
                    ),
                })
            }
        }
    }

    /// How checks ended so far.
    #[must_use]
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// The names of the checks of an endpoint, such as `livez`.
    #[must_use]
    pub fn names(&self, endpoint: &str) -> Vec<String> {
        let all = self.checks.read();
        let of = all.iter().filter(|check| check.is_of(endpoint));
        of.map(|check| check.name.clone()).collect()
    }

    /// Whether `/readyz` would be answered with 200.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks.read().iter().all(|c| (c.run)().is_ok())
    }
}

type Checks = [(String, Arc<dyn Fn() -> Result<(), String> + Send + Sync>)];

fn answer_all(endpoint: &str, checks: &Checks, query: &str, results: &Results) -> Response {
    let values = |name: &str| -> Vec<String> {
        let pairs = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| crate::client::percent_decode(value))
            .collect()
    };
    let excluded = values("exclude");
    let mut unknown: Vec<&String> = excluded.iter().collect();
    let mut said = String::new();
    let mut failed = Vec::new();
    // Writing to a string does not fail.
    for (name, run) in checks {
        if excluded.contains(name) {
            unknown.retain(|u| *u != name);
            let _ = writeln!(said, "[+]{name} excluded: ok");
            continue;
        }
        let ended = run();
        results.note(name, endpoint, ended.is_ok());
        if let Err(why) = ended {
            let _ = writeln!(said, "[-]{name} failed: reason withheld");
            failed.push(format!("{name}: {why}"));
        } else {
            let _ = writeln!(said, "[+]{name} ok");
        }
    }
    if !unknown.is_empty() {
        let names: Vec<_> = unknown.iter().map(|n| format!("{n:?}")).collect();
        let _ = writeln!(
            said,
            "warn: some health checks cannot be excluded: no matches for {}",
            names.join(",")
        );
    }
    if !failed.is_empty() {
        tracing::info!(endpoint, failed = failed.join("; "), "Health check failed");
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{said}{endpoint} check failed\n"),
        );
    }
    let mut response = if values("verbose").is_empty() {
        text(StatusCode::OK, "ok")
    } else {
        text(StatusCode::OK, format!("{said}{endpoint} check passed\n"))
    };
    let headers = response.headers_mut();
    headers.insert("x-content-type-options", NO_SNIFF);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn ask(health: &Health, path: &str, query: &str) -> (u16, String) {
        let response = health.answer(path, query).expect("a health path");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_waits_for_what_is_pending_and_fails_at_shutdown() {
        let tasks = Supervisor::current();
        let health = Health::new(&tasks);
        let informers = health.pending("informers");
        let (status, body) = ask(&health, "/readyz", "").await;
        assert_eq!(status, 500);
        assert_eq!(
            body,
            "[+]ping ok\n[+]shutdown ok\n[-]informers failed: reason withheld\nreadyz check failed\n"
        );
        assert_eq!(ask(&health, "/livez", "").await, (200, "ok".into()));
        drop(informers);
        assert_eq!(ask(&health, "/readyz", "").await, (200, "ok".into()));
        tasks.stop();
        assert_eq!(ask(&health, "/readyz", "").await.0, 500);
        assert_eq!(ask(&health, "/readyz", "exclude=shutdown").await.0, 200);
        assert_eq!(
            ask(&health, "/healthz", "verbose").await,
            (200, "[+]ping ok\nhealthz check passed\n".into())
        );
    }

    #[tokio::test]
    async fn what_a_new_process_would_not_mend_does_not_end_this_one() {
        let health = Health::new(&Supervisor::current());
        health.healthy("plugin", || Err("away".to_owned()));
        assert_eq!(ask(&health, "/livez", "").await.0, 200);
        assert_eq!(ask(&health, "/healthz", "").await.0, 500);
        assert_eq!(ask(&health, "/readyz", "").await.0, 500);
        assert_eq!(
            ask(&health, "/healthz/plugin", "").await,
            (500, "internal server error: away\n".into())
        );
        assert!(health.answer("/livez/plugin", "").is_none());
    }

    #[tokio::test]
    async fn an_exclusion_that_matches_nothing_is_told() {
        let health = Health::new(&Supervisor::current());
        let (_, body) = ask(&health, "/readyz", "verbose&exclude=et%63d").await;
        assert!(
            body.contains("cannot be excluded: no matches for \"etcd\"\n"),
            "{body}"
        );
        assert_eq!(ask(&health, "/readyz/ping", "").await, (200, "ok".into()));
        assert!(health.answer("/readyz/other", "").is_none());
        assert!(health.answer("/metrics", "").is_none());
    }
}
