//! Address blocks for nodes (`node-ipam-controller`, the `RangeAllocator`).
//!
//! Owns `spec.podCIDRs` of nodes that have none. Invariants: blocks that nodes have are taken before the
//! first is given; a node whose new blocks the cache has not seen yet is offered the same again.
//!
//! Source: `pkg/controller/nodeipam`.

use std::collections::HashMap;
use std::sync::Arc;

use component::client::Patch;
use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Key, Lister};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;

use crate::config::NodeIpam;
use crate::context::Context;
use crate::error::Error;
use range::Range;

mod range;

/// Upstream's number of writers.
const WORKERS: i32 = 30;
const SIZE_V4: u8 = 24;
const SIZE_V6: u8 = 64;

/// What cannot be run with.
#[derive(thiserror::Error, Debug)]
enum ConfigError {
    #[error("--cluster-cidr must be given with --allocate-node-cidrs")]
    NoRange,
    #[error("{flag}: {text:?} is not an address range")]
    Syntax {
        flag: &'static str,
        text: String,
        #[source]
        cause: ipnet::AddrParseError,
    },
    #[error("--cluster-cidr: more than one range, but not one of each family")]
    NotDualStack,
    #[error("{0} cannot be used with these cluster ranges")]
    MaskFlag(&'static str),
    #[error("--node-cidr-mask-size: {0} is no prefix length")]
    Mask(i32),
    #[error(transparent)]
    Range(#[from] range::RangeError),
}

struct Allocator {
    cx: Context,
    nodes: Lister<Node>,
    state: Arc<Mutex<State>>,
    recorder: Recorder,
}

struct State {
    ranges: Vec<Range>,
    /// Blocks that were given, until the cache shows them.
    given: HashMap<Key, Vec<IpNet>>,
}

/// Starts the controller, if nodes are to get blocks.
///
/// # Errors
/// If ranges and sizes do not fit.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    if !cx.config().kube_cloud_shared.allocate_node_cidrs {
        return Ok(());
    }
    let clusters = clusters(&cx.config().kube_cloud_shared.cluster_cidr)?;
    let config = &cx.config().node_ipam;
    let sizes = sizes(config, &clusters)?;
    let ranges = clusters.into_iter().zip(sizes);
    let mut ranges = ranges
        .map(|(net, size)| Range::new(net, size))
        .collect::<Result<Vec<_>, _>>()?;
    for service in nets("--service-cluster-ip-range", &config.service_cidr)? {
        for range in ranges.iter_mut().filter(|r| r.overlaps(service)) {
            range.occupy(service)?;
        }
    }
    let state = Arc::new(Mutex::new(State {
        ranges,
        given: HashMap::new(),
    }));
    let nodes = cx.informer::<Node>();
    let queue = cx.queue::<Key>("cidrallocator_node");
    let this = Arc::new(Allocator {
        cx: cx.clone(),
        nodes: nodes.lister(),
        state: Arc::clone(&state),
        recorder: cx.recorder_as("cidrAllocator"),
    });
    let wake = queue.clone();
    nodes.subscribe(move |key, event| {
        state.lock().see(key, event);
        if !matches!(event, Event::Deleted(_)) {
            wake.add(key.clone());
        }
    });
    cx.run(WORKERS, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    });
    Ok(())
}

fn nets(flag: &'static str, list: &str) -> Result<Vec<IpNet>, ConfigError> {
    let texts = list.split(',').map(str::trim).filter(|t| !t.is_empty());
    texts
        .map(|text| {
            text.parse().map_err(|cause| ConfigError::Syntax {
                flag,
                text: text.to_owned(),
                cause,
            })
        })
        .collect()
}

fn is_v6(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

fn clusters(list: &str) -> Result<Vec<IpNet>, ConfigError> {
    let clusters = nets("--cluster-cidr", list)?;
    match clusters.as_slice() {
        [] => Err(ConfigError::NoRange),
        [_] => Ok(clusters),
        [a, b] if is_v6(a) != is_v6(b) => Ok(clusters),
        _ => Err(ConfigError::NotDualStack),
    }
}

/// Prefix lengths of the nodes' blocks.
fn sizes(config: &NodeIpam, clusters: &[IpNet]) -> Result<Vec<u8>, ConfigError> {
    let given = |size: i32| match size {
        0 => Ok(None),
        size => u8::try_from(size)
            .map(Some)
            .map_err(|_| ConfigError::Mask(size)),
    };
    let any = given(config.node_cidr_mask_size)?;
    let v4 = given(config.node_cidr_mask_size_ipv4)?;
    let v6 = given(config.node_cidr_mask_size_ipv6)?;
    let has = |wanted: bool| clusters.iter().any(|c| is_v6(c) == wanted);
    if any.is_some() && (clusters.len() > 1 || v4.is_some() || v6.is_some()) {
        return Err(ConfigError::MaskFlag("--node-cidr-mask-size"));
    }
    if v4.is_some() && !has(false) {
        return Err(ConfigError::MaskFlag("--node-cidr-mask-size-ipv4"));
    }
    if v6.is_some() && !has(true) {
        return Err(ConfigError::MaskFlag("--node-cidr-mask-size-ipv6"));
    }
    let size = |net: &IpNet| match net {
        IpNet::V4(_) => any.or(v4).unwrap_or(SIZE_V4),
        IpNet::V6(_) => any.or(v6).unwrap_or(SIZE_V6),
    };
    Ok(clusters.iter().map(size).collect())
}

/// The blocks of a node; those that are none are left out.
fn blocks(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let cidrs = spec
        .and_then(|s| s.pod_cidrs.as_deref())
        .unwrap_or_default();
    cidrs.iter().filter_map(|text| text.parse().ok()).collect()
}

impl State {
    /// What an event says about blocks.
    fn see(&mut self, key: &Key, event: &Event<Node>) {
        let has = blocks(event.object());
        if let Event::Deleted(_) = event {
            self.take_back(key);
            self.each(&has, Range::release);
        } else if !has.is_empty() {
            if let Some(given) = self.given.remove(key)
                && given != has
            {
                self.each(&given, Range::release);
            }
            self.each(&has, Range::occupy);
        }
    }

    /// What a node was given and does not have.
    fn take_back(&mut self, key: &Key) {
        let given = self.given.remove(key).unwrap_or_default();
        self.each(&given, Range::release);
    }

    fn each(
        &mut self,
        blocks: &[IpNet],
        mark: impl Fn(&mut Range, IpNet) -> Result<(), range::RangeError>,
    ) {
        for (at, block) in blocks.iter().enumerate() {
            let done = match self.ranges.get_mut(at) {
                Some(range) => mark(range, *block),
                None => Ok(()),
            };
            if let Err(e) = done {
                tracing::error!(error = %e, "A node has addresses that are not the cluster's");
            }
        }
    }

    /// The blocks for a node without any: those that it was given already, or new ones.
    fn give(&mut self, key: &Key) -> Result<Vec<IpNet>, range::RangeError> {
        if let Some(given) = self.given.get(key) {
            return Ok(given.clone());
        }
        let mut blocks = Vec::new();
        for at in 0..self.ranges.len() {
            match self.ranges[at].allocate() {
                Ok(block) => blocks.push(block),
                Err(e) => {
                    self.each(&blocks, Range::release);
                    return Err(e);
                }
            }
        }
        self.given.insert(key.clone(), blocks.clone());
        Ok(blocks)
    }
}

impl Allocator {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(node) = self.nodes.by_key(key) else {
            return Ok(Next::Done);
        };
        let spec = node.spec.as_ref();
        let has = spec.is_some_and(|s| s.pod_cidrs.as_ref().is_some_and(|c| !c.is_empty()));
        if has || node.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let given = self.state.lock().give(key);
        let blocks = given.map_err(|e| {
            self.tell(&node, "CIDRNotAvailable");
            Error::Unusable(e.to_string())
        })?;
        let texts: Vec<String> = blocks.iter().map(IpNet::to_string).collect();
        let patch = json!({"spec": {"podCIDR": texts.first(), "podCIDRs": texts}});
        let api = self.cx.client().await?.all::<Node>();
        match api.patch(key.name(), &Patch::strategic(&patch)?).await {
            Ok(_) => {
                tracing::info!(blocks = ?texts, "Gave a node its addresses");
                Ok(Next::Done)
            }
            Err(e) if e.is_not_found() => {
                self.state.lock().take_back(key);
                Ok(Next::Done)
            }
            Err(e) => {
                self.tell(&node, "CIDRAssignmentFailed");
                Err(e.into())
            }
        }
    }

    fn tell(&self, node: &Node, state: &str) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Node {name} status is now: {state}");
        self.recorder.normal(&reference(node), state, &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(any: i32, v4: i32, v6: i32) -> NodeIpam {
        NodeIpam {
            service_cidr: String::new(),
            node_cidr_mask_size: any,
            node_cidr_mask_size_ipv4: v4,
            node_cidr_mask_size_ipv6: v6,
        }
    }

    fn node(name: &str, cidrs: &[&str]) -> Arc<Node> {
        let node = json!({"metadata": {"name": name}, "spec": {"podCIDRs": cidrs}});
        Arc::new(proto::typed::from_json_value(node).unwrap())
    }

    #[test]
    fn block_sizes_follow_the_family() {
        let one = clusters("10.244.0.0/16").unwrap();
        let two = clusters("10.244.0.0/16,fd00::/48").unwrap();
        assert_eq!(sizes(&config(0, 0, 0), &two).unwrap(), [24, 64]);
        assert_eq!(sizes(&config(0, 25, 60), &two).unwrap(), [25, 60]);
        assert_eq!(sizes(&config(26, 0, 0), &one).unwrap(), [26]);
        assert!(sizes(&config(26, 0, 0), &two).is_err());
        assert!(sizes(&config(26, 25, 0), &one).is_err());
        assert!(sizes(&config(0, 0, 64), &one).is_err());
        assert!(clusters("10.0.0.0/8,11.0.0.0/8").is_err());
        assert!(clusters("").is_err());
    }

    #[test]
    fn a_node_is_offered_the_same_until_the_cache_shows_it() {
        let range = Range::new("10.244.0.0/22".parse().unwrap(), 24).unwrap();
        let mut state = State {
            ranges: vec![range],
            given: HashMap::new(),
        };
        state.see(&"a".into(), &Event::Added(node("a", &["10.244.0.0/24"])));
        let first = state.give(&"b".into()).unwrap();
        assert_eq!(first[0].to_string(), "10.244.1.0/24");
        assert_eq!(state.give(&"b".into()).unwrap(), first);
        // Somebody else was faster.
        state.see(&"b".into(), &Event::Added(node("b", &["10.244.3.0/24"])));
        assert_eq!(
            state.give(&"c".into()).unwrap()[0].to_string(),
            "10.244.2.0/24"
        );
        assert_eq!(
            state.give(&"d".into()).unwrap(),
            first,
            "what b did not take"
        );
        assert!(state.give(&"e".into()).is_err());
        state.see(&"a".into(), &Event::Deleted(node("a", &["10.244.0.0/24"])));
        assert_eq!(
            state.give(&"e".into()).unwrap()[0].to_string(),
            "10.244.0.0/24"
        );
    }
}
