//! The narrow way into the kernel: what is there, and changes made at once.
//!
//! Invariants: a change is made whole or not at all (where the kernel takes it in one piece), only on the
//! rules that it was made for, and never on a table that somebody else has made or emptied meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::elements::{Data, Dispatch, Key, SetId, Value};
use crate::netlink;
use crate::nft::{Batch, Family, Nft, RawElement, RawValue};
use crate::ruleset::{Layout, affinity_maps};

mod encode;
mod remnants;

pub(crate) use encode::{TABLE, Update, encode};

/// Upstream's table, in the same families.
const UPSTREAM: &str = "kube-proxy";
/// How often a change is made again because other rules changed meanwhile.
const RESTARTS: usize = 100;

/// Why rules were not changed.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Error {
    #[error("nftables: {0}")]
    Netlink(#[from] netlink::Error),
    #[error("nftables: the table is gone or is another one")]
    Lost,
    #[error("nftables: other rules change all the time")]
    Busy,
}

impl Error {
    fn errno(&self) -> Option<i32> {
        match self {
            Self::Netlink(err) => err.errno(),
            Self::Lost | Self::Busy => None,
        }
    }
}

/// What the kernel holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Whether there is a table of this layout; if not, it has to be made anew.
    pub(crate) intact: bool,
    pub(crate) sets: BTreeMap<SetId, HashMap<Key, Value>>,
    pub(crate) chains: BTreeSet<Dispatch>,
}

/// A client that is remembered: whether by node port, its entry, and the endpoint.
pub(crate) struct Remembered<'a> {
    pub(crate) node_port: bool,
    pub(crate) entry: &'a [u8],
    pub(crate) endpoint: &'a [u8],
}

/// The rules of one family.
pub(crate) trait Kernel: Send {
    /// Reads all that is ours.
    fn read(&mut self, layout: &Layout) -> Result<Found, Error>;

    /// Makes a change.
    fn apply(&mut self, update: &Update<'_>) -> Result<(), Error>;

    /// Forgets clients of sticky Services, all but those to keep.
    fn forget(
        &mut self,
        layout: &Layout,
        keep: &dyn Fn(Remembered<'_>) -> bool,
    ) -> Result<(), Error>;
}

/// The kernel of this machine, by netlink.
pub(crate) struct Netlink {
    nft: Nft,
    family: Family,
    /// Of the table, once it is known to be ours.
    handle: Option<Vec<u8>>,
    /// The rules' generation after our last change.
    generation: Option<u32>,
}

impl Netlink {
    pub(crate) fn open(family: Family) -> Result<Self, Error> {
        Ok(Self {
            nft: Nft::open()?,
            family,
            handle: None,
            generation: None,
        })
    }

    /// Takes our table away, and upstream's.
    pub(crate) fn cleanup(&mut self) -> Result<(), Error> {
        for table in [TABLE, UPSTREAM] {
            if self.nft.table(self.family, table)?.is_none() {
                continue;
            }
            let mut batch = Batch::new(self.family);
            batch.delete_table(table);
            self.nft.commit(&batch, None)?;
        }
        (self.handle, self.generation) = (None, None);
        self.remove_remnants();
        Ok(())
    }

    /// Takes away what upstream's other modes left. Best effort: our rules work beside them.
    fn remove_remnants(&mut self) {
        match remnants::remove(&mut self.nft, self.family) {
            Ok(0) => {}
            Ok(chains) => tracing::info!(
                family = self.family.name(),
                chains,
                "Removed rules of mode iptables"
            ),
            Err(error) => {
                tracing::warn!(family = self.family.name(), %error, "Cannot remove rules of mode iptables")
            }
        }
    }

    /// One attempt; how many changes of rules it was.
    fn attempt(&mut self, update: &Update<'_>, generation: u32) -> Result<(), Error> {
        if self.generation != Some(generation) && !update.replace {
            let handle = self.nft.table(self.family, TABLE)?;
            let known = self.handle.is_none() && update.rules || self.handle == handle;
            if handle.is_none() || !known {
                return Err(Error::Lost);
            }
        }
        let upstream = update.rules && self.nft.table(self.family, UPSTREAM)?.is_some();
        let mut batch = encode(update);
        if upstream {
            batch.may_cut();
            batch.delete_table(UPSTREAM);
        }
        self.nft.commit(&batch, Some(generation))?;
        Ok(())
    }

    fn read_set(&mut self, set: SetId) -> Result<HashMap<Key, Value>, Error> {
        let add = |found: &mut HashMap<Key, Value>, element: RawElement<'_>| {
            if let Some(key) = Key::from_bytes(element.key) {
                found.insert(key, value_of(set, &element));
            }
        };
        let elements = self
            .nft
            .elements(self.family, TABLE, &set.name(), HashMap::new, add);
        Ok(elements?)
    }
}

impl Kernel for Netlink {
    fn read(&mut self, layout: &Layout) -> Result<Found, Error> {
        self.handle = self.nft.table(self.family, TABLE)?;
        self.generation = None;
        if self.handle.is_none() {
            return Ok(Found::default());
        }
        let sets = self.nft.sets(self.family, TABLE)?;
        let mut found = Found {
            intact: layout.sets().iter().all(|set| match sets.get(&set.name) {
                // One that is missing is made.
                None => true,
                Some(facts) => facts.fits(set),
            }),
            ..Found::default()
        };
        for (name, facts) in &sets {
            match SetId::parse(name) {
                // Written with the chains.
                Some(set) if set.is_of_chains() && facts.fits(&layout.set(set)) => {}
                Some(set) if facts.fits(&layout.set(set)) => {
                    let elements = self.read_set(set)?;
                    found.sets.insert(set, elements);
                }
                Some(_) => found.intact = false,
                None => found.intact &= affinity_maps().iter().any(|(_, map)| map == name),
            }
        }
        let chains = self.nft.chains(self.family, TABLE)?;
        found.chains = chains
            .iter()
            .filter_map(|name| Dispatch::parse(name))
            .collect();
        if !found.intact {
            return Ok(Found::default());
        }
        Ok(found)
    }

    fn apply(&mut self, update: &Update<'_>) -> Result<(), Error> {
        for _ in 0..RESTARTS {
            let generation = self.nft.generation()?;
            match self.attempt(update, generation) {
                Ok(()) => {
                    self.generation = Some(generation.wrapping_add(1));
                    if update.rules {
                        self.handle = self.nft.table(self.family, TABLE)?;
                        self.remove_remnants();
                    }
                    return Ok(());
                }
                Err(err) if err.errno() == Some(libc::ERESTART) => {}
                Err(err) => return Err(err),
            }
        }
        Err(Error::Busy)
    }

    fn forget(
        &mut self,
        layout: &Layout,
        keep: &dyn Fn(Remembered<'_>) -> bool,
    ) -> Result<(), Error> {
        let source = match layout.family {
            Family::Ipv4 => 4,
            Family::Ipv6 => 16,
        };
        for (node_port, map) in affinity_maps() {
            for _ in 0..RESTARTS {
                let add = |gone: &mut Vec<Key>, element: RawElement<'_>| {
                    let entry = element
                        .key
                        .len()
                        .checked_sub(source)
                        .and_then(|n| element.key.get(..n));
                    let (Some(key), Some(entry), RawValue::Bytes(endpoint)) =
                        (Key::from_bytes(element.key), entry, element.value)
                    else {
                        return;
                    };
                    let remembered = Remembered {
                        node_port,
                        entry,
                        endpoint,
                    };
                    if !keep(remembered) {
                        gone.push(key);
                    }
                };
                let gone = self.nft.elements(self.family, TABLE, map, Vec::new, add)?;
                if gone.is_empty() {
                    break;
                }
                let mut batch = Batch::new(self.family);
                batch.delete_elements(TABLE, map, gone.iter().map(encode::lone_key));
                let expected = self.nft.generation()?;
                match self.nft.commit(&batch, Some(expected)).map_err(Error::from) {
                    Ok(()) => {
                        if self.generation == Some(expected) {
                            self.generation = Some(expected.wrapping_add(1));
                        }
                        break;
                    }
                    // One of them has ended by itself meanwhile, or other rules changed.
                    Err(err) if matches!(err.errno(), Some(libc::ENOENT | libc::ERESTART)) => {}
                    Err(err) => return Err(err),
                }
            }
        }
        Ok(())
    }
}

fn value_of(set: SetId, element: &RawElement<'_>) -> Value {
    match (&element.value, element.end) {
        (RawValue::Bytes(bytes), _) if set.leads_to_chains() => {
            let number = bytes.get(4..).and_then(|b| b.try_into().ok());
            let chain = number.and_then(|b| Dispatch::numbered(u32::from_ne_bytes(b)));
            chain.map_or(Value::Foreign, Value::Goto)
        }
        (RawValue::Nothing, None) => Value::Nothing,
        (RawValue::Nothing, Some(end)) => {
            // The range is in the last part.
            let width = if end.len() > 30 { 16 } else { 4 };
            let last = end.len().checked_sub(width).and_then(|at| end.get(at..));
            last.and_then(Data::from_bytes)
                .map_or(Value::Foreign, Value::Until)
        }
        (RawValue::Bytes(bytes), _) => {
            Data::from_bytes(bytes).map_or(Value::Foreign, Value::Endpoint)
        }
        (RawValue::Drop, _) => Value::Drop,
        (RawValue::Continue, _) => Value::Reject,
        (RawValue::Other, _) => Value::Foreign,
    }
}

#[cfg(test)]
pub(crate) mod tests;
