//! What upstream's mode `iptables` leaves in the kernel, where iptables itself is kept in nftables.
//!
//! Rules of the older iptables, which are kept elsewhere, are not seen here.
//! Source: `CleanupLeftovers` of `pkg/proxy/iptables`; chains of kubelet (`KUBE-FIREWALL`, ...) are not ours to
//! take.

use std::collections::BTreeSet;

use crate::netlink::Error;
use crate::nft::{Batch, Family, Nft};

const TABLES: &[&str] = &["nat", "filter", "mangle"];

const CHAINS: &[&str] = &[
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];

const PREFIXES: &[&str] = &[
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-SEP-",
    "KUBE-XLB-",
];

fn is_upstreams(chain: &str) -> bool {
    CHAINS.contains(&chain) || PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

/// Takes them away; how many chains there were.
pub(super) fn remove(nft: &mut Nft, family: Family) -> Result<usize, Error> {
    let mut removed = 0;
    for table in TABLES {
        let chains = nft.chains(family, table)?;
        let ours: BTreeSet<&str> = chains
            .iter()
            .map(String::as_str)
            .filter(|c| is_upstreams(c))
            .collect();
        if ours.is_empty() {
            continue;
        }
        let mut batch = Batch::new(family);
        for (chain, handle, target) in nft.jumps(family, table)? {
            if is_upstreams(&target) && !ours.contains(chain.as_str()) {
                batch.delete_rule(table, &chain, &handle);
            }
        }
        for chain in &ours {
            batch.flush_chain(table, chain);
        }
        for chain in &ours {
            batch.delete_chain(table, chain);
        }
        nft.commit(&batch, None)?;
        removed += ours.len();
    }
    Ok(removed)
}
