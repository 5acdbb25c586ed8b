//! YAML to a tree: events to nodes, nodes to values.
//!
//! Aliases stay references until values are made of them, so that the budget is checked before
//! anything is copied, and a text that refers to itself is found out.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::super::{MAX_DEPTH, leaf};
use super::Error;
use super::resolve::{self, Scalar};
use crate::codec::json;
use crate::name::Name;
use crate::value::{Map, Value};

type Result<T> = std::result::Result<T, Error>;
type Id = usize;

/// Reads the first document; also returns a line for every key given twice.
pub(super) fn read(text: &str) -> Result<(Value, Vec<String>)> {
    let mut nodes = Nodes::default();
    let Some(root) = nodes.read(text)? else {
        return Ok((Value::Null, Vec::new()));
    };
    let mut maker = Maker {
        nodes: &nodes.all,
        aliases: Vec::new(),
        decoded: 0,
        aliased: 0,
        depth: 0,
        duplicates: Vec::new(),
    };
    let value = maker.value(root)?;
    Ok((value, maker.duplicates))
}

struct Node {
    kind: NodeKind,
    /// From 1.
    line: usize,
}

enum NodeKind {
    Scalar {
        text: Box<str>,
        value: Scalar,
    },
    List(Vec<Id>),
    /// Keys and values by turns.
    Map(Vec<Id>),
    Alias(Id),
}

#[derive(Default)]
struct Nodes {
    all: Vec<Node>,
    /// By the number that the parser gave the anchor.
    anchors: HashMap<usize, Id>,
    /// The open lists and maps.
    open: Vec<Id>,
}

impl Nodes {
    /// Reads the nodes of the first document; returns its root. What follows is not looked at.
    fn read(&mut self, text: &str) -> Result<Option<Id>> {
        let mut parser = Parser::new_from_str(text);
        let mut root = None;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|e| syntax(&e))?;
            let line = span.start.line();
            match event {
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
                Event::StreamEnd | Event::DocumentEnd => break,
                Event::SequenceEnd | Event::MappingEnd => {
                    self.open.pop();
                }
                Event::Alias(anchor) => {
                    let target = self.anchors.get(&anchor).copied();
                    let target = target.ok_or_else(|| Error::Syntax {
                        line,
                        problem: "unknown anchor referenced".into(),
                    })?;
                    root = root.or(Some(self.add(NodeKind::Alias(target), 0, line)));
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let kind = scalar(&text, style, tag.as_deref())?;
                    root = root.or(Some(self.add(kind, anchor, line)));
                }
                Event::SequenceStart(anchor, _) => {
                    let id = self.enter(NodeKind::List(Vec::new()), anchor, line)?;
                    root = root.or(Some(id));
                }
                Event::MappingStart(anchor, _) => {
                    let id = self.enter(NodeKind::Map(Vec::new()), anchor, line)?;
                    root = root.or(Some(id));
                }
            }
        }
        Ok(root)
    }

    fn add(&mut self, kind: NodeKind, anchor: usize, line: usize) -> Id {
        let id = self.all.len();
        self.all.push(Node { kind, line });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        if let Some(open) = self.open.last()
            && let NodeKind::List(inner) | NodeKind::Map(inner) = &mut self.all[*open].kind
        {
            inner.push(id);
        }
        id
    }

    fn enter(&mut self, kind: NodeKind, anchor: usize, line: usize) -> Result<Id> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Error::TooDeep { line });
        }
        let id = self.add(kind, anchor, line);
        self.open.push(id);
        Ok(id)
    }
}

/// As Go's library says it: without what was being read, and where no token is wrong but their order, with lines from 0.
fn syntax(error: &ScanError) -> Error {
    let line = error.marker().line();
    let said = error.info();
    let said = match said.split_once(", ") {
        Some((context, said)) if context.starts_with("while ") => said,
        _ => said,
    };
    let of_order = ["did not find expected ", "expected "];
    match of_order.iter().find_map(|head| said.strip_prefix(head)) {
        Some(wanted) => Error::Syntax {
            line: line.saturating_sub(1),
            problem: format!("did not find expected {wanted}"),
        },
        None => Error::Syntax {
            line,
            problem: said.to_owned(),
        },
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<NodeKind> {
    let value = match tag {
        None if style == ScalarStyle::Plain => resolve::plain(text),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "binary" => {
            let bytes = leaf::from_base64(text).map_err(|_| Error::Binary)?;
            return Ok(NodeKind::Scalar {
                text: json::lossy(&bytes).into(),
                value: Scalar::String,
            });
        }
        Some(tag) if tag.is_yaml_core_schema() => resolve::tagged(&tag.suffix, text)?,
        _ => Scalar::String,
    };
    Ok(NodeKind::Scalar {
        text: text.into(),
        value,
    })
}

/// Makes values of nodes.
struct Maker<'n> {
    nodes: &'n [Node],
    /// The aliases being followed.
    aliases: Vec<Id>,
    /// Nodes seen, and those of them seen by following an alias.
    decoded: u64,
    aliased: u64,
    depth: usize,
    duplicates: Vec<String>,
}

impl Maker<'_> {
    fn value(&mut self, id: Id) -> Result<Value> {
        self.count()?;
        let node = &self.nodes[id];
        match &node.kind {
            NodeKind::Scalar { text, value } => scalar_value(text, value),
            NodeKind::Alias(target) => self.follow(id, |m| m.value(*target)),
            NodeKind::List(items) => self.nested(node.line, |m| {
                let items: Result<Vec<Value>> = items.iter().map(|id| m.value(*id)).collect();
                items.map(Value::List)
            }),
            NodeKind::Map(entries) => self.nested(node.line, |m| {
                let mut pairs = Vec::with_capacity(entries.len() / 2);
                m.entries(entries, &mut pairs)?;
                Ok(Value::Map(m.map(pairs)))
            }),
        }
    }

    /// Upstream's budget: the larger a document becomes, the less of it may come from aliases.
    fn count(&mut self) -> Result<()> {
        const LOW: f64 = 400_000.0;
        const HIGH: f64 = 4_000_000.0;
        self.decoded += 1;
        if !self.aliases.is_empty() {
            self.aliased += 1;
        }
        if self.aliased <= 100 || self.decoded <= 1000 {
            return Ok(());
        }
        #[allow(clippy::cast_precision_loss, reason = "a ratio")]
        let (decoded, aliased) = (self.decoded as f64, self.aliased as f64);
        let over = ((decoded - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
        if aliased / decoded > 0.99 - 0.89 * over {
            Err(Error::ExcessiveAliasing)
        } else {
            Ok(())
        }
    }

    fn follow<T>(&mut self, alias: Id, with: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.aliases.contains(&alias) {
            return Err(Error::SelfReference);
        }
        self.aliases.push(alias);
        let result = with(self);
        self.aliases.pop();
        result
    }

    fn nested<T>(&mut self, line: usize, with: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::TooDeep { line });
        }
        self.depth += 1;
        let result = with(self);
        self.depth -= 1;
        result
    }

    /// Adds the entries of a map, those of merged maps in their place.
    fn entries(&mut self, entries: &[Id], pairs: &mut Vec<Pair>) -> Result<()> {
        for pair in entries.chunks_exact(2) {
            let (key, value) = (pair[0], pair[1]);
            if self.is_merge(key) {
                self.merge(value, pairs)?;
                continue;
            }
            let key = self.key(key)?;
            let line = self.nodes[value].line;
            let value = self.value(value)?;
            pairs.push(Pair { key, value, line });
        }
        Ok(())
    }

    fn is_merge(&self, id: Id) -> bool {
        matches!(&self.nodes[id].kind, NodeKind::Scalar { text, value: Scalar::Merge } if &**text == "<<")
    }

    fn merge(&mut self, id: Id, pairs: &mut Vec<Pair>) -> Result<()> {
        match &self.nodes[id].kind {
            NodeKind::List(items) => {
                // Earlier maps take precedence, so they come last.
                items
                    .iter()
                    .rev()
                    .try_for_each(|item| self.merge_map(*item, pairs))
            }
            _ => self.merge_map(id, pairs),
        }
    }

    fn merge_map(&mut self, id: Id, pairs: &mut Vec<Pair>) -> Result<()> {
        self.count()?;
        let node = &self.nodes[id];
        match &node.kind {
            NodeKind::Map(entries) => self.nested(node.line, |m| m.entries(entries, pairs)),
            NodeKind::Alias(target) if matches!(self.nodes[*target].kind, NodeKind::Map(_)) => {
                self.follow(id, |m| m.merge_map(*target, pairs))
            }
            _ => Err(Error::Merge),
        }
    }

    /// A key: its text in JSON, and as Go prints it in a complaint.
    fn key(&mut self, id: Id) -> Result<Key> {
        self.count()?;
        let node = &self.nodes[id];
        let plain = |text: String| Key {
            shown: text.clone(),
            text: text.into(),
        };
        Ok(match &node.kind {
            NodeKind::Alias(target) => return self.follow(id, |m| m.key(*target)),
            NodeKind::Scalar {
                value: Scalar::Null,
                ..
            }
            | NodeKind::List(_)
            | NodeKind::Map(_) => {
                return Err(Error::Key { line: node.line });
            }
            NodeKind::Scalar { text, value } => match value {
                Scalar::Bool(b) => plain(b.to_string()),
                Scalar::Int(i) => plain(i.to_string()),
                Scalar::Uint(n) => plain(n.to_string()),
                Scalar::Float(f) => plain(float_key(*f)),
                _ => Key {
                    shown: crate::path::quote(text),
                    text: text.clone(),
                },
            },
        })
    }

    /// The later of equal keys wins; each is complained about.
    fn map(&mut self, pairs: Vec<Pair>) -> Map {
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_by(|a, b| pairs[*a].key.text.cmp(&pairs[*b].key.text));
        let mut again: Vec<usize> = order
            .windows(2)
            .filter(|w| pairs[w[0]].key.text == pairs[w[1]].key.text)
            .map(|w| w[1])
            .collect();
        again.sort_unstable();
        for i in again.into_iter().take(100 - self.duplicates.len().min(100)) {
            let pair = &pairs[i];
            self.duplicates.push(format!(
                "line {}: key {} already set in map",
                pair.line, pair.key.shown
            ));
        }
        let entries = pairs
            .into_iter()
            .map(|p| (Name::new(&p.key.text), p.value))
            .collect();
        Map::from_entries(entries).0
    }
}

struct Pair {
    key: Key,
    value: Value,
    line: usize,
}

struct Key {
    text: Box<str>,
    shown: String,
}

fn scalar_value(text: &str, value: &Scalar) -> Result<Value> {
    Ok(match value {
        Scalar::Null => Value::Null,
        Scalar::Bool(b) => Value::Bool(*b),
        Scalar::Int(i) => Value::Int(*i),
        // Whole numbers stay whole in JSON.
        Scalar::Uint(n) => Value::Raw(n.to_string().into_bytes().into()),
        Scalar::Float(f) if f.is_nan() => return Err(Error::NotANumber("NaN")),
        Scalar::Float(f) if f.is_infinite() => {
            return Err(Error::NotANumber(if *f > 0.0 { "+Inf" } else { "-Inf" }));
        }
        Scalar::Float(f) => Value::Float(*f),
        Scalar::String | Scalar::Merge => text.into(),
    })
}

/// Upstream prints floats that are keys with the digits of a 32-bit float.
fn float_key(f: f64) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "as upstream")]
    let f = f as f32;
    if f.is_nan() {
        ".nan".into()
    } else if f.is_infinite() {
        if f > 0.0 {
            ".inf".into()
        } else {
            "-.inf".into()
        }
    } else {
        resolve::general(&format!("{f:e}"))
    }
}
