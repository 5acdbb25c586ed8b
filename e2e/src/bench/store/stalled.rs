//! Clients that open a watch of everything and read nothing.

use std::sync::Arc;

use hyper::Method;
use hyper::body::Incoming;

use super::super::client::{Call, Connection, Error};
use super::super::load::{self, Cost, Target};
use super::super::{objects, process};
use super::SETTLE;

/// Watches on one connection: both servers take so many streams (`--http2-max-streams-per-connection`), and what is above that
/// waits until one has ended.
const EACH: usize = 100;
/// Bytes that a stream takes before it stalls.
const WINDOW: u32 = 1024;
const UPDATES: usize = 2000;

pub(super) struct Stalled {
    /// What the server's resident memory grew by per watch, in bytes: when they stand, and when objects
    /// were written and half a minute has passed.
    pub each: f64,
    pub each_after: f64,
    /// Of the updates.
    pub cost: Cost,
}

pub(super) async fn run(target: &Target, watches: usize, all: usize) -> Result<Stalled, Error> {
    let before = process::memory(target.server).resident;
    let path = format!("{}?watch=true", objects::collection("configmaps"));
    // Held, and never read.
    let mut bodies: Vec<Incoming> = Vec::with_capacity(watches);
    let connections = watches.div_ceil(EACH);
    for number in 0..connections {
        let tls = Arc::clone(&target.tls);
        let mut connection = Connection::with_window(target.address, tls, WINDOW).await?;
        for _ in (number..watches).step_by(connections) {
            let response = connection.begin(&Call::get(path.clone())).await?;
            bodies.push(response.into_body());
        }
    }
    let each = |now: u64| now.saturating_sub(before) as f64 / watches as f64;
    tokio::time::sleep(SETTLE).await;
    let standing = each(process::memory(target.server).resident);
    let cost = load::run(target, 16, UPDATES, |n| {
        let n = n % all;
        let path = format!("{}/item-{n:05}", objects::collection("configmaps"));
        Call::new(Method::PUT, path, objects::config_map(n, 1).to_string())
    })
    .await?;
    // Longer than a watch may take nothing.
    tokio::time::sleep(SETTLE * 4).await;
    let after = each(process::memory(target.server).resident);
    drop(bodies);
    Ok(Stalled {
        each: standing,
        each_after: after,
        cost,
    })
}
