//! An update as a batch: sets and chains first, then elements, then what leads to them, then what goes.
//!
//! The order lets the batch be cut where the kernel does not take it whole: after each part packets find
//! complete rules, old or new.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::elements::{Change, Changes, Dispatch, Key, SetId, Value};
use crate::nft::{Batch, Content, Element, Verdict};
use crate::ruleset::{Chain, Layout};

/// Our table, in the families `ip` and `ip6`.
pub(crate) const TABLE: &str = "navarch-kube-proxy";

/// Elements in one piece of a batch.
const PIECE: usize = 400;

/// A change to be made.
pub(crate) struct Update<'a> {
    pub(crate) layout: &'a Layout,
    /// Begin with an empty table.
    pub(crate) replace: bool,
    /// Write all rules anew, not only those of the chains below.
    pub(crate) rules: bool,
    /// Chains that draw endpoints, to be made or written anew.
    pub(crate) chains: &'a BTreeSet<Dispatch>,
    /// For how many seconds clients of sticky Services stay, where that has to be written.
    pub(crate) periods: Option<&'a BTreeSet<u32>>,
    pub(crate) changes: &'a Changes,
}

/// The messages that make the change.
pub(crate) fn encode(update: &Update<'_>) -> Batch {
    let layout = update.layout;
    let mut batch = Batch::new(layout.family);
    if update.replace {
        // Made first, because taking away what is missing is an error.
        batch.add_table(TABLE);
        batch.delete_table(TABLE);
    }
    let (base, plain) = if update.rules {
        batch.add_table(TABLE);
        for set in layout.sets() {
            batch.add_set(TABLE, &set);
        }
        layout
            .chains()
            .into_iter()
            .partition(|chain| chain.hook.is_some())
    } else {
        (Vec::new(), Vec::new())
    };
    let maps: BTreeSet<SetId> = update.chains.iter().map(Dispatch::endpoints).collect();
    for map in maps {
        batch.add_set(TABLE, &layout.set(map));
    }
    let periods = update.periods.into_iter().flatten().copied();
    for seconds in periods {
        for node_port in [false, true] {
            let set = SetId::Sticky { node_port, seconds };
            batch.add_set(TABLE, &layout.set(set));
        }
    }
    let drawing = update.chains.iter().map(|chain| layout.dispatch(*chain));
    let remember = update.periods.map(|periods| layout.remember(periods));
    let chains: Vec<Chain> = plain.into_iter().chain(drawing).chain(remember).collect();
    write(&mut batch, &chains);
    for chain in update.chains {
        list(&mut batch, chain);
    }
    batch.may_cut();
    for (set, change) in update.changes {
        add(&mut batch, *set, change);
    }
    write(&mut batch, &base);
    batch.may_cut();
    for (set, change) in update.changes.iter().rev() {
        remove(&mut batch, *set, change);
    }
    batch
}

/// Makes chains hold exactly their rules. All are made before the first jumps to another.
fn write(batch: &mut Batch, chains: &[Chain]) {
    for chain in chains {
        batch.add_chain(TABLE, &chain.name, chain.hook);
        batch.flush_chain(TABLE, &chain.name);
    }
    for chain in chains {
        for rule in &chain.rules {
            batch.add_rule(TABLE, &chain.name, rule);
        }
    }
}

/// What a map holds for a value. It leads to a chain by number: a verdict that names a chain has the kernel
/// walk all chains that can be reached, once for each of the map's elements and each base chain.
fn content(value: &Value) -> Option<Content<'_>> {
    match value {
        Value::Nothing | Value::Until(_) | Value::Foreign => None,
        Value::Drop => Some(Content::Verdict(Verdict::Drop)),
        Value::Reject => Some(Content::Verdict(Verdict::Continue)),
        Value::Goto(chain) => Some(Content::Numbers([0, chain.number()])),
        Value::Endpoint(data) => Some(Content::Bytes(data.as_bytes())),
    }
}

/// Lists a chain under its number, where it may be gone to.
fn list(batch: &mut Batch, chain: &Dispatch) {
    let (name, number) = (chain.name(), chain.number().to_ne_bytes());
    for set in chain.listed_in() {
        let element = Element {
            key: &number,
            end: None,
            value: Some(Content::Verdict(Verdict::Goto(&name))),
        };
        batch.add_elements(TABLE, &set.name(), [element]);
    }
}

fn add(batch: &mut Batch, set: SetId, change: &Change) {
    let name = set.name();
    let gone: HashMap<&Key, &Value> = change
        .gone
        .iter()
        .map(|(key, value)| (key, value))
        .collect();
    let (replaced, new): (Vec<_>, Vec<_>) = change
        .new
        .iter()
        .partition(|(key, _)| gone.contains_key(key));
    for piece in new.chunks(PIECE) {
        let elements = piece
            .iter()
            .map(|(key, value)| element(key, value, content(value)));
        batch.add_elements(TABLE, &name, elements);
        batch.may_cut();
    }
    for piece in replaced.chunks(PIECE) {
        let old = piece
            .iter()
            .filter_map(|(key, _)| Some(element(key, gone.get(key)?, None)));
        batch.delete_elements(TABLE, &name, old);
        let elements = piece
            .iter()
            .map(|(key, value)| element(key, value, content(value)));
        batch.add_elements(TABLE, &name, elements);
        batch.may_cut();
    }
}

fn remove(batch: &mut Batch, set: SetId, change: &Change) {
    if change.gone.is_empty() {
        return;
    }
    let kept: HashSet<&Key> = change.new.iter().map(|(key, _)| key).collect();
    let gone: Vec<_> = change
        .gone
        .iter()
        .filter(|(key, _)| !kept.contains(key))
        .collect();
    for piece in gone.chunks(PIECE) {
        let elements = piece.iter().map(|(key, value)| element(key, value, None));
        batch.delete_elements(TABLE, &set.name(), elements);
        batch.may_cut();
    }
}

fn element<'a>(key: &'a Key, value: &Value, content: Option<Content<'a>>) -> Element<'a> {
    let end = match value {
        Value::Until(last) => {
            // The end of the range is the key with another last part.
            let last = last.as_bytes();
            let start = key.as_bytes().len().saturating_sub(last.len());
            let first = key.as_bytes().get(..start).unwrap_or_default();
            Some([first, last].concat())
        }
        _ => None,
    };
    Element {
        key: key.as_bytes(),
        end,
        value: content,
    }
}

pub(super) fn lone_key(key: &Key) -> Element<'_> {
    Element {
        key: key.as_bytes(),
        end: None,
        value: None,
    }
}
