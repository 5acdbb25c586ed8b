//! The Services of one family, and the kernel's rules for them.
//!
//! Invariant: [`Proxier::sync`] leaves the kernel equal to the Services that were set, or fails; after a
//! failure the next one reads the kernel and corrects it, as the first one does.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use component::informer::Key;

use crate::elements::{Changes, Claim, Dispatch, Elements, SetId, Value};
use crate::kernel::{Error, Kernel, Remembered, Update};
use crate::plan::{self, Usable};
use crate::ruleset::Layout;
use crate::service::Frontend;

/// What a sync did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Synced {
    /// The kernel was read and corrected.
    pub(crate) full: bool,
    /// Endpoints of UDP Services changed: connections to old ones have to end.
    pub(crate) udp: bool,
}

/// Ports of Services whose endpoints are all on other nodes, by traffic policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct NoLocal {
    pub(crate) internal: usize,
    pub(crate) external: usize,
}

pub(crate) struct Proxier<K> {
    kernel: K,
    layout: Layout,
    /// The node's address, for load balancers that guard theirs.
    node_ip: IpAddr,
    frontends: HashMap<Key, Frontend>,
    elements: Elements,
    node_port_ips: Vec<IpAddr>,
    /// Chains that the kernel has.
    chains: BTreeSet<Dispatch>,
    /// Seconds for which it lets clients of sticky Services stay.
    periods: BTreeSet<u32>,
    no_local: NoLocal,
    full: bool,
    udp: bool,
    sticky: bool,
}

impl<K: Kernel> Proxier<K> {
    pub(crate) fn new(kernel: K, layout: Layout, node_ip: IpAddr) -> Self {
        Self {
            kernel,
            layout,
            node_ip,
            frontends: HashMap::new(),
            elements: Elements::default(),
            node_port_ips: Vec::new(),
            chains: BTreeSet::new(),
            periods: BTreeSet::new(),
            no_local: NoLocal::default(),
            full: true,
            udp: false,
            // Clients that an earlier process remembered may be of endpoints that are gone.
            sticky: true,
        }
    }

    /// Says what a Service is now; none if it is gone. Whether that is anything new.
    pub(crate) fn set(&mut self, key: &Key, frontend: Option<Frontend>) -> bool {
        let old = self.frontends.get(key);
        if old == frontend.as_ref() {
            return false;
        }
        let claims = |frontend: Option<&Frontend>| {
            frontend.map_or(Vec::new(), |f| plan::claims(f, self.node_ip))
        };
        let (before, after) = (claims(old), claims(frontend.as_ref()));
        self.elements.replace(&before, &after);
        let is_sticky = |claim: &Claim| matches!(claim.value, Value::Goto(to) if to.sticky);
        self.sticky |= before.iter().any(is_sticky);
        self.udp |= old.is_some_and(Frontend::has_udp);
        self.udp |= frontend.as_ref().is_some_and(Frontend::has_udp);
        for (sign, frontend) in [(false, old), (true, frontend.as_ref())] {
            let counted = frontend.map(no_local).unwrap_or_default();
            let add = |total: usize, n: usize| {
                if sign {
                    total + n
                } else {
                    total.saturating_sub(n)
                }
            };
            self.no_local.internal = add(self.no_local.internal, counted.internal);
            self.no_local.external = add(self.no_local.external, counted.external);
        }
        match frontend {
            Some(frontend) => drop(self.frontends.insert(key.clone(), frontend)),
            None => drop(self.frontends.remove(key)),
        }
        true
    }

    /// Says on which of the node's addresses node ports work, unless they work on all.
    pub(crate) fn set_node_port_ips(&mut self, mut ips: Vec<IpAddr>) {
        ips.sort_unstable();
        ips.dedup();
        let claim = |ip: &IpAddr| Claim {
            set: SetId::NodeIps,
            key: crate::elements::Key::new().ip(*ip),
            value: Value::Nothing,
        };
        let old: Vec<_> = self.node_port_ips.iter().map(claim).collect();
        let new: Vec<_> = ips.iter().map(claim).collect();
        self.elements.replace(&old, &new);
        self.node_port_ips = ips;
    }

    /// Changes what the rules are made from. Whether that is anything new.
    pub(crate) fn set_layout(&mut self, change: impl FnOnce(&mut Layout)) -> bool {
        let mut layout = self.layout.clone();
        change(&mut layout);
        let changed = layout != self.layout;
        self.layout = layout;
        self.full |= changed;
        changed
    }

    /// Asks the next sync to read the kernel.
    pub(crate) fn want_full(&mut self) {
        self.full = true;
    }

    /// Whether the next sync reads the kernel.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    pub(crate) fn frontends(&self) -> &HashMap<Key, Frontend> {
        &self.frontends
    }

    pub(crate) fn no_local(&self) -> NoLocal {
        self.no_local
    }

    /// How many elements the kernel holds for us.
    pub(crate) fn elements(&self) -> usize {
        self.elements.len()
    }

    /// Makes the kernel equal to what was set.
    pub(crate) fn sync(&mut self) -> Result<Synced, Error> {
        let mut full = self.full;
        // Until it is done.
        self.full = true;
        let done = if full { self.correct() } else { self.change() };
        match done {
            // Somebody took our table away: everything is made anew, at once.
            Err(Error::Lost) => {
                tracing::warn!(
                    family = self.layout.family.name(),
                    "The nftables table is gone, making it anew"
                );
                full = true;
                self.correct()?;
            }
            other => other?,
        }
        if std::mem::take(&mut self.sticky) {
            let (elements, periods) = (&self.elements, &self.periods);
            self.kernel.forget(&self.layout, &|remembered| {
                is_current(elements, periods, &remembered)
            })?;
        }
        self.full = false;
        Ok(Synced {
            full,
            udp: std::mem::take(&mut self.udp),
        })
    }

    /// Writes what has changed.
    fn change(&mut self) -> Result<(), Error> {
        let changes = self.elements.take();
        if changes.is_empty() {
            return Ok(());
        }
        let mut chains = destinations(&changes);
        chains.retain(|chain| !self.chains.contains(chain));
        let mut periods: BTreeSet<u32> = changes.keys().filter_map(|set| set.period()).collect();
        periods.retain(|seconds| !self.periods.contains(seconds));
        let is_new = !periods.is_empty();
        periods.extend(&self.periods);
        self.kernel.apply(&Update {
            layout: &self.layout,
            replace: false,
            rules: false,
            chains: &chains,
            periods: is_new.then_some(&periods),
            changes: &changes,
        })?;
        self.chains.append(&mut chains);
        self.periods = periods;
        Ok(())
    }

    /// Reads the kernel and writes what differs, and all rules.
    fn correct(&mut self) -> Result<(), Error> {
        let found = self.kernel.read(&self.layout)?;
        let changes = self.elements.compare(&found.sets);
        let mut chains: BTreeSet<_> = self.elements.dispatches().collect();
        chains.extend(found.chains);
        let periods = self.elements.periods();
        self.kernel.apply(&Update {
            layout: &self.layout,
            replace: !found.intact,
            rules: true,
            chains: &chains,
            periods: Some(&periods),
            changes: &changes,
        })?;
        self.chains = chains;
        self.periods = periods;
        Ok(())
    }
}

/// The chains that new elements lead to.
fn destinations(changes: &Changes) -> BTreeSet<Dispatch> {
    let new = changes.values().flat_map(|change| &change.new);
    new.filter_map(|(_, value)| match value {
        Value::Goto(dispatch) => Some(*dispatch),
        _ => None,
    })
    .collect()
}

/// Whether a client that is remembered may still go to its endpoint.
fn is_current(elements: &Elements, periods: &BTreeSet<u32>, remembered: &Remembered<'_>) -> bool {
    let entry = crate::elements::Key::from_bytes(remembered.entry);
    let Some(key) = entry.and_then(|entry| entry.followed_by(remembered.endpoint)) else {
        return false;
    };
    periods.iter().any(|seconds| {
        let set = SetId::Sticky {
            node_port: remembered.node_port,
            seconds: *seconds,
        };
        elements.get(set, &key).is_some()
    })
}

fn no_local(frontend: &Frontend) -> NoLocal {
    let mut counted = NoLocal::default();
    for port in frontend
        .ports
        .iter()
        .filter(|p| p.internal_local || p.external_local)
    {
        let usable = Usable::of(port);
        if usable.any && usable.local.is_empty() {
            counted.internal += usize::from(port.internal_local);
            counted.external += usize::from(port.external_local);
        }
    }
    counted
}

#[cfg(test)]
mod tests;
