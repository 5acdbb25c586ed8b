//! Node labels as columns: for each label key, which of its values each node has.
//!
//! A value is a small number, so that a condition is judged once per value and a topology domain is an
//! index into an array of counts. Invariant: a value that no node has is forgotten and its number used
//! again.

use std::collections::HashMap;
use std::sync::Arc;

use super::NodeIndex;
use crate::selector::{Condition, Labels};

/// A value of one label, as a number below [`Column::size`].
pub type ValueId = u32;

/// No value.
const NONE: ValueId = ValueId::MAX;

/// A column is dense once one in so many nodes has the label: unique keys on many nodes stay cheap.
const DENSE: usize = 16;

/// One label key.
#[derive(Clone, Default, Debug)]
pub struct Column {
    by_node: ByNode,
    ids: HashMap<Arc<str>, ValueId>,
    values: Vec<Value>,
    free: Vec<ValueId>,
}

#[derive(Clone, Debug)]
struct Value {
    text: Arc<str>,
    nodes: u32,
}

#[derive(Clone, Debug)]
enum ByNode {
    Few(HashMap<NodeIndex, ValueId>),
    Many(Vec<ValueId>),
}

impl Default for ByNode {
    fn default() -> Self {
        Self::Few(HashMap::new())
    }
}

impl Column {
    /// The value that a node has.
    #[must_use]
    pub fn value(&self, node: NodeIndex) -> Option<ValueId> {
        match &self.by_node {
            ByNode::Few(map) => map.get(&node).copied(),
            ByNode::Many(all) => all.get(node as usize).copied().filter(|v| *v != NONE),
        }
    }

    /// One more than the largest number of a value: the length of an array of counts by domain.
    #[must_use]
    pub fn size(&self) -> usize {
        self.values.len()
    }

    /// The text of a value that some node has.
    #[must_use]
    pub fn text(&self, value: ValueId) -> &str {
        self.values.get(value as usize).map_or("", |v| &v.text)
    }

    fn set(&mut self, node: NodeIndex, text: Option<&str>, nodes: usize) {
        let new = text.map(|text| self.id(text));
        if let Some(id) = new {
            self.values[id as usize].nodes += 1;
        }
        if let Some(old) = self.put(node, new, nodes) {
            self.release(old);
        }
    }

    fn id(&mut self, text: &str) -> ValueId {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let text: Arc<str> = text.into();
        let value = Value {
            text: Arc::clone(&text),
            nodes: 0,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.values[id as usize] = value;
                id
            }
            None => {
                self.values.push(value);
                ValueId::try_from(self.values.len() - 1).unwrap_or(NONE - 1)
            }
        };
        self.ids.insert(text, id);
        id
    }

    fn put(&mut self, node: NodeIndex, new: Option<ValueId>, nodes: usize) -> Option<ValueId> {
        match &mut self.by_node {
            ByNode::Few(map) => {
                let old = match new {
                    Some(id) => map.insert(node, id),
                    None => map.remove(&node),
                };
                if map.len() > 64 && map.len() * DENSE > nodes {
                    let mut all = vec![NONE; nodes];
                    for (node, id) in map.drain() {
                        grow(&mut all, node)[node as usize] = id;
                    }
                    self.by_node = ByNode::Many(all);
                }
                old
            }
            ByNode::Many(all) => {
                let old =
                    std::mem::replace(&mut grow(all, node)[node as usize], new.unwrap_or(NONE));
                Some(old).filter(|id| *id != NONE)
            }
        }
    }

    fn release(&mut self, id: ValueId) {
        let value = &mut self.values[id as usize];
        value.nodes -= 1;
        if value.nodes == 0 {
            self.ids.remove(&value.text);
            self.free.push(id);
        }
    }

    fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

fn grow(all: &mut Vec<ValueId>, node: NodeIndex) -> &mut Vec<ValueId> {
    if all.len() <= node as usize {
        all.resize(node as usize + 1, NONE);
    }
    all
}

/// The labels of all nodes.
#[derive(Clone, Default, Debug)]
pub struct NodeLabels {
    columns: HashMap<Arc<str>, Column>,
    nodes: usize,
}

impl NodeLabels {
    /// The column of a key, if any node has it.
    #[must_use]
    pub fn column(&self, key: &str) -> Option<&Column> {
        self.columns.get(key)
    }

    /// Changes a node's labels from what they were.
    pub(super) fn update(&mut self, node: NodeIndex, old: &Labels, new: &Labels) {
        self.nodes = self.nodes.max(node as usize + 1);
        for (key, value) in new {
            if old.get(key) != Some(value) {
                let column = self.columns.entry(key.as_str().into()).or_default();
                column.set(node, Some(value), self.nodes);
            }
        }
        for key in old.keys().filter(|k| !new.contains_key(*k)) {
            if let Some(column) = self.columns.get_mut(key.as_str()) {
                column.set(node, None, self.nodes);
                if column.is_empty() {
                    self.columns.remove(key.as_str());
                }
            }
        }
    }

    /// Prepares a condition on a label for being asked of many nodes.
    #[must_use]
    pub fn test(&self, key: &str, condition: &Condition) -> Test<'_> {
        let absent = condition.met_by(None);
        let Some(column) = self.column(key) else {
            return Test {
                column: None,
                met: Box::default(),
                absent,
            };
        };
        let mut met = vec![false; column.size()].into_boxed_slice();
        match condition {
            Condition::In(values) => {
                for id in values.iter().filter_map(|v| column.ids.get(v.as_str())) {
                    met[*id as usize] = true;
                }
            }
            other => {
                for (text, id) in &column.ids {
                    met[*id as usize] = other.met_by(Some(text));
                }
            }
        }
        Test {
            column: Some(column),
            met,
            absent,
        }
    }
}

/// A condition on a label, judged for all of its values.
#[derive(Debug)]
pub struct Test<'a> {
    column: Option<&'a Column>,
    met: Box<[bool]>,
    absent: bool,
}

impl Test<'_> {
    /// Whether a node meets it.
    #[must_use]
    pub fn met_by(&self, node: NodeIndex) -> bool {
        match self.column.and_then(|c| c.value(node)) {
            Some(value) => self.met[value as usize],
            None => self.absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Labels {
        [(key.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn values_that_no_node_has_are_forgotten() {
        let mut labels = NodeLabels::default();
        let mut was = Labels::new();
        for n in 0..100 {
            let now = one("host", &format!("h{n}"));
            labels.update(3, &was, &now);
            was = now;
        }
        let column = labels.column("host").unwrap();
        assert!(column.size() <= 2, "{}", column.size());
        assert_eq!(column.text(column.value(3).unwrap()), "h99");
        labels.update(3, &was, &Labels::new());
        assert!(labels.column("host").is_none());
    }

    #[test]
    fn a_dense_column_answers_as_a_sparse_one() {
        let mut labels = NodeLabels::default();
        let none = Labels::new();
        for n in 0..500 {
            labels.update(n, &none, &one("zone", if n % 2 == 0 { "a" } else { "b" }));
        }
        let column = labels.column("zone").unwrap();
        assert!(matches!(column.by_node, ByNode::Many(_)));
        let a = labels.test("zone", &Condition::new("In", &["a".to_owned()]));
        assert_eq!((0..500).filter(|n| a.met_by(*n)).count(), 250);
        assert!(!a.met_by(500));
        let not = labels.test("zone", &Condition::new("NotIn", &["a".to_owned()]));
        assert!(not.met_by(500) && not.met_by(1) && !not.met_by(0));
    }
}
