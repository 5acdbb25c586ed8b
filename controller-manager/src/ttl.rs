//! How long kubelets may keep secrets and config maps (`ttl-controller`): the larger the cluster, the
//! longer, said in an annotation of each node.
//!
//! Source: `pkg/controller/ttl`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use component::client::Patch;
use component::controller::Next;
use component::informer::{Event, Key, Lister};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::context::Context;
use crate::error::Error;

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";
/// Upstream's number of workers.
const WORKERS: i32 = 5;

/// Fewest and most nodes of a step, and the seconds. Steps overlap, so that a cluster at a boundary does
/// not go to and fro.
const STEPS: [(usize, usize, u32); 5] = [
    (0, 100, 0),
    (90, 500, 15),
    (450, 1000, 30),
    (900, 2000, 60),
    (1800, usize::MAX, 300),
];

/// The step of a cluster that was at `step` and has so many nodes now.
fn step(mut step: usize, nodes: usize) -> usize {
    while STEPS.get(step).is_some_and(|(_, most, _)| nodes > *most) {
        step += 1;
    }
    while STEPS.get(step).is_some_and(|(least, ..)| nodes < *least) {
        step -= 1;
    }
    step
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("ttlcontroller");
    let nodes = cx.informer::<Node>();
    let at = Arc::new(AtomicUsize::new(0));
    let (wake, lister, current) = (queue.clone(), nodes.lister(), Arc::clone(&at));
    nodes.subscribe(move |key, event| {
        // Written by this task alone.
        let was = current.load(Ordering::Relaxed);
        let is = step(was, lister.len());
        current.store(is, Ordering::Relaxed);
        if was != is {
            for node in lister.list() {
                wake.add(Key::of(&node.metadata));
            }
        }
        if !matches!(event, Event::Deleted(_)) {
            wake.add(key.clone());
        }
    });
    let (cx, nodes) = (cx.clone(), nodes.lister());
    let context = cx.clone();
    cx.run(WORKERS, &queue, move |key| {
        let (cx, nodes) = (context.clone(), nodes.clone());
        let seconds = STEPS
            .get(at.load(Ordering::Relaxed))
            .map_or(0, |(.., seconds)| *seconds);
        async move { reconcile(&cx, &nodes, &key, seconds).await }
    });
    Ok(())
}

async fn reconcile(
    cx: &Context,
    nodes: &Lister<Node>,
    key: &Key,
    seconds: u32,
) -> Result<Next, Error> {
    let Some(node) = nodes.by_key(key) else {
        return Ok(Next::Done);
    };
    let wanted = seconds.to_string();
    let annotations = node.metadata.annotations.as_ref();
    if annotations.and_then(|a| a.get(ANNOTATION)) == Some(&wanted) {
        return Ok(Next::Done);
    }
    let patch = Patch::merge(&json!({"metadata": {"annotations": {ANNOTATION: wanted}}}))?;
    match cx
        .client()
        .await?
        .all::<Node>()
        .patch(key.name(), &patch)
        .await
    {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(Next::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_change_late_in_both_directions() {
        assert_eq!(step(0, 100), 0);
        assert_eq!(step(0, 101), 1);
        assert_eq!(step(1, 90), 1);
        assert_eq!(step(1, 89), 0);
        assert_eq!(step(0, 5000), 4);
        assert_eq!(step(4, 0), 0);
    }
}
