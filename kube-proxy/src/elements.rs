//! The elements of all sets, who wants them, and what changes.
//!
//! Several Services may want one element (a shared endpoint, an address claimed twice). The first claim
//! decides what it holds; when it is withdrawn, the next one does. [`Elements::take`] returns the net
//! changes since the last time: an element is deleted, added or replaced, each at most once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::service::Protocol;

mod names;

pub(crate) use names::FIXED;

/// Which set of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum SetId {
    /// Chains by number, those of node ports apart; `inside` lists only those that chains of
    /// [`Kind::Local`] go to, because a chain must not lead back to itself.
    Chains {
        node_port: bool,
        inside: bool,
    },
    /// Data maps first: verdicts that lead to them come later.
    Endpoints {
        kind: EndpointsKind,
        node_port: bool,
        count: u32,
    },
    ClusterIps,
    Hairpin,
    NodeIps,
    /// Entries of sticky Services with their endpoints, by the seconds for which clients stay.
    Sticky {
        node_port: bool,
        seconds: u32,
    },
    FirewallSources,
    FirewallIps,
    LocalSourceIps,
    LocalSourceNodePorts,
    ServiceIps,
    NodePorts,
    NoEndpointIps,
    NoEndpointNodePorts,
}

impl SetId {
    /// Lists chains.
    pub(crate) fn is_of_chains(self) -> bool {
        matches!(self, Self::Chains { .. })
    }

    /// Holds numbers of chains.
    pub(crate) fn leads_to_chains(self) -> bool {
        matches!(
            self,
            Self::ServiceIps | Self::NodePorts | Self::LocalSourceIps | Self::LocalSourceNodePorts
        )
    }

    /// The seconds of a set of sticky entries.
    pub(crate) fn period(self) -> Option<u32> {
        match self {
            Self::Sticky { seconds, .. } => Some(seconds),
            _ => None,
        }
    }
}

/// Which data maps a chain reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum EndpointsKind {
    Cluster,
    /// Those of the policy `Local`, for entries that have both.
    Local,
}

/// What the chain of a number of endpoints does beside drawing one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    Inside,
    /// Hides the source behind the node's address.
    Outside,
    /// Lets the node's own clients go anywhere; there may be no endpoint for others.
    Local,
}

/// A chain that draws one of `count` endpoints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Dispatch {
    pub(crate) kind: Kind,
    pub(crate) node_port: bool,
    pub(crate) count: u32,
    /// Clients stay with their endpoint.
    pub(crate) sticky: bool,
}

impl Dispatch {
    /// The number that maps hold for it; of another chain it is another one.
    pub(crate) fn number(&self) -> u32 {
        let kind = match self.kind {
            Kind::Inside => 0,
            Kind::Outside => 1,
            Kind::Local => 2,
        };
        // Endpoints of one Service are far fewer than 2^28.
        self.count << 4 | kind << 2 | u32::from(self.node_port) << 1 | u32::from(self.sticky)
    }

    /// What a number stands for.
    pub(crate) fn numbered(number: u32) -> Option<Self> {
        let kind = match number >> 2 & 3 {
            0 => Kind::Inside,
            1 => Kind::Outside,
            2 => Kind::Local,
            _ => return None,
        };
        Some(Self {
            kind,
            node_port: number & 2 != 0,
            count: number >> 4,
            sticky: number & 1 != 0,
        })
    }

    /// The maps in which it is found by number.
    pub(crate) fn listed_in(&self) -> impl Iterator<Item = SetId> {
        let node_port = self.node_port;
        let inside = (self.kind == Kind::Inside).then_some(true);
        let maps = std::iter::once(false).chain(inside);
        maps.map(move |inside| SetId::Chains { node_port, inside })
    }

    /// The map that it draws from.
    pub(crate) fn endpoints(&self) -> SetId {
        SetId::Endpoints {
            kind: if self.kind == Kind::Local {
                EndpointsKind::Local
            } else {
                EndpointsKind::Cluster
            },
            node_port: self.node_port,
            count: self.count,
        }
    }
}

/// Up to `N` bytes in place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Inline<const N: usize> {
    length: u8,
    bytes: [u8; N],
}

impl<const N: usize> Inline<N> {
    pub(crate) fn new() -> Self {
        Self {
            length: 0,
            bytes: [0; N],
        }
    }

    /// None if it is too long.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut inline = Self::new();
        inline.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        inline.length = bytes.len() as u8;
        Some(inline)
    }

    /// Adds a part of a concatenation: parts fill whole registers. All keys are made of parts that fit.
    fn part(mut self, part: &[u8]) -> Self {
        let start = usize::from(self.length);
        self.bytes[start..start + part.len()].copy_from_slice(part);
        self.length += part.len().next_multiple_of(4) as u8;
        self
    }

    pub(crate) fn ip(self, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => self.part(&ip.octets()),
            IpAddr::V6(ip) => self.part(&ip.octets()),
        }
    }

    pub(crate) fn protocol(self, protocol: Protocol) -> Self {
        self.part(&[protocol.number()])
    }

    pub(crate) fn port(self, port: u16) -> Self {
        self.part(&port.to_be_bytes())
    }

    /// The same with a number in front, in the machine's order.
    pub(crate) fn numbered(self, number: u32) -> Self {
        Self::new()
            .part(&number.to_ne_bytes())
            .part(self.as_bytes())
    }

    /// The same with more behind it; none if that is too long.
    pub(crate) fn followed_by(self, bytes: &[u8]) -> Option<Self> {
        Self::from_bytes(&[self.as_bytes(), bytes].concat())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Only what is used is hashed: most keys are a third of the room.
impl<const N: usize> std::hash::Hash for Inline<N> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl<const N: usize> std::fmt::Debug for Inline<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The longest are two IPv6 addresses, a protocol and two ports.
pub(crate) type Key = Inline<44>;
/// An IPv6 address and a port.
pub(crate) type Data = Inline<20>;

impl Data {
    pub(crate) fn endpoint(ip: IpAddr, port: u16) -> Self {
        Self::new().ip(ip).port(port)
    }
}

/// What an element holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    Nothing,
    Goto(Dispatch),
    Reject,
    Drop,
    Endpoint(Data),
    /// Until where its range goes.
    Until(Data),
    /// Something in the kernel that is not ours; equal to nothing that is wanted.
    Foreign,
}

/// That somebody wants an element.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub(crate) set: SetId,
    pub(crate) key: Key,
    pub(crate) value: Value,
}

struct Wanted {
    value: Value,
    /// Further claims, in order.
    others: Vec<Value>,
}

/// All elements.
#[derive(Default)]
pub(crate) struct Elements {
    sets: BTreeMap<SetId, HashMap<Key, Wanted>>,
    /// What elements held before they were touched.
    before: BTreeMap<SetId, HashMap<Key, Option<Value>>>,
}

/// Elements of one set that go and come. A replaced one is in both.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) gone: Vec<(Key, Value)>,
    pub(crate) new: Vec<(Key, Value)>,
}

/// Changes by set; sets without changes are left out.
pub(crate) type Changes = BTreeMap<SetId, Change>;

impl Elements {
    pub(crate) fn claim(&mut self, claim: &Claim) {
        let set = self.sets.entry(claim.set).or_default();
        match set.entry(claim.key) {
            std::collections::hash_map::Entry::Occupied(mut known) => {
                known.get_mut().others.push(claim.value);
            }
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Wanted {
                    value: claim.value,
                    others: Vec::new(),
                });
                let before = self.before.entry(claim.set).or_default();
                before.entry(claim.key).or_insert(None);
            }
        }
    }

    pub(crate) fn withdraw(&mut self, claim: &Claim) {
        let Some(set) = self.sets.get_mut(&claim.set) else {
            return;
        };
        let Some(wanted) = set.get_mut(&claim.key) else {
            return;
        };
        if let Some(at) = wanted.others.iter().position(|v| *v == claim.value) {
            wanted.others.remove(at);
            return;
        }
        if wanted.value != claim.value {
            return;
        }
        let before = self.before.entry(claim.set).or_default();
        before.entry(claim.key).or_insert(Some(wanted.value));
        if wanted.others.is_empty() {
            set.remove(&claim.key);
        } else {
            wanted.value = wanted.others.remove(0);
        }
    }

    /// Withdraws some claims and makes others; what is in both stays untouched.
    pub(crate) fn replace(&mut self, old: &[Claim], new: &[Claim]) {
        if old.is_empty() {
            new.iter().for_each(|claim| self.claim(claim));
            return;
        }
        let mut left: HashMap<(SetId, Key), Vec<&Claim>> = HashMap::new();
        for claim in new {
            left.entry((claim.set, claim.key)).or_default().push(claim);
        }
        for claim in old {
            let same = left.get_mut(&(claim.set, claim.key));
            let at = same
                .as_ref()
                .and_then(|all| all.iter().position(|c| c.value == claim.value));
            match (same, at) {
                (Some(all), Some(at)) => drop(all.swap_remove(at)),
                _ => self.withdraw(claim),
            }
        }
        for claim in left.into_values().flatten() {
            self.claim(claim);
        }
    }

    /// What has changed since the last time.
    pub(crate) fn take(&mut self) -> Changes {
        let mut changes = Changes::new();
        let before = std::mem::take(&mut self.before);
        let before = before
            .into_iter()
            .flat_map(|(set, elements)| elements.into_iter().map(move |(key, b)| (set, key, b)));
        for (set, key, before) in before {
            let after = self.get(set, &key);
            if before == after {
                continue;
            }
            let change = changes.entry(set).or_default();
            change.gone.extend(before.map(|value| (key, value)));
            change.new.extend(after.map(|value| (key, value)));
        }
        changes
    }

    /// What has to change in a kernel that holds `found`; forgets what was noted for [`Elements::take`].
    pub(crate) fn compare(&mut self, found: &BTreeMap<SetId, HashMap<Key, Value>>) -> Changes {
        self.before.clear();
        let mut changes = Changes::new();
        for (set, wanted) in &self.sets {
            let found = found.get(set);
            let holds = |key: &Key| found.and_then(|f| f.get(key)).copied();
            let new = wanted
                .iter()
                .filter(|(key, wanted)| holds(key) != Some(wanted.value))
                .map(|(key, wanted)| (*key, wanted.value));
            let new: Vec<_> = new.collect();
            if !new.is_empty() {
                changes.entry(*set).or_default().new = new;
            }
        }
        for (set, elements) in found {
            let gone = elements
                .iter()
                .filter(|(key, value)| self.get(*set, key) != Some(**value))
                .map(|(key, value)| (*key, *value));
            let gone: Vec<_> = gone.collect();
            if !gone.is_empty() {
                changes.entry(*set).or_default().gone = gone;
            }
        }
        changes
    }

    pub(crate) fn get(&self, set: SetId, key: &Key) -> Option<Value> {
        Some(self.sets.get(&set)?.get(key)?.value)
    }

    /// The chains that elements lead to.
    pub(crate) fn dispatches(&self) -> impl Iterator<Item = Dispatch> {
        let values = self.sets.values().flat_map(HashMap::values);
        values.filter_map(|wanted| match wanted.value {
            Value::Goto(dispatch) => Some(dispatch),
            _ => None,
        })
    }

    /// For how many seconds clients of sticky Services stay.
    pub(crate) fn periods(&self) -> BTreeSet<u32> {
        let sets = self
            .sets
            .iter()
            .filter(|(_, elements)| !elements.is_empty());
        sets.filter_map(|(set, _)| set.period()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.sets.values().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests;
