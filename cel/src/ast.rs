//! The syntax tree, flat: nodes refer to each other by number, so that dropping or copying a deep
//! tree needs no stack, and what the checker learns stands in vectors beside it.

use std::sync::Arc;

/// The number of a node, in the order in which the parser made them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Id(u32);

impl Id {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A literal.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// Stands where the parser or a macro failed; there is an issue for it.
    Bad,
    Literal(Literal),
    Ident(Arc<str>),
    Select {
        operand: Id,
        field: Arc<str>,
        /// `has(operand.field)`
        test_only: bool,
    },
    Call {
        function: Arc<str>,
        target: Option<Id>,
        args: Vec<Id>,
    },
    List {
        elements: Vec<Element>,
    },
    Map {
        entries: Vec<Entry>,
    },
    Struct {
        name: Arc<str>,
        fields: Vec<FieldInit>,
    },
    Fold(Box<Fold>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Element {
    pub(crate) value: Id,
    /// `?value`
    pub(crate) optional: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Id,
    pub(crate) value: Id,
    pub(crate) optional: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct FieldInit {
    pub(crate) name: Arc<str>,
    pub(crate) value: Id,
    pub(crate) optional: bool,
    /// Where its colon stands.
    pub(crate) offset: u32,
}

/// A comprehension: what the macros become.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) range: Id,
    pub(crate) iter: Arc<str>,
    pub(crate) iter2: Option<Arc<str>>,
    pub(crate) accu: Arc<str>,
    pub(crate) init: Id,
    pub(crate) condition: Id,
    pub(crate) step: Id,
    pub(crate) result: Id,
}

impl Fold {
    /// The five expressions in it, in the order in which they are checked.
    pub(crate) fn parts(&self) -> [Id; 5] {
        [
            self.range,
            self.init,
            self.condition,
            self.step,
            self.result,
        ]
    }
}

#[derive(Default, Debug)]
pub(crate) struct Ast {
    nodes: Vec<Node>,
    /// Where the token stands that a node is reported at.
    offsets: Vec<u32>,
}

impl Node {
    /// Lets `change` change the nodes directly below.
    fn each_child(&mut self, change: &mut impl FnMut(&mut Id)) {
        match self {
            Self::Bad | Self::Literal(_) | Self::Ident(_) => {}
            Self::Select { operand, .. } => change(operand),
            Self::Call { target, args, .. } => target.iter_mut().chain(args).for_each(change),
            Self::List { elements } => elements.iter_mut().for_each(|e| change(&mut e.value)),
            Self::Map { entries } => entries.iter_mut().for_each(|e| {
                change(&mut e.key);
                change(&mut e.value);
            }),
            Self::Struct { fields, .. } => fields.iter_mut().for_each(|f| change(&mut f.value)),
            Self::Fold(fold) => {
                let fold = &mut **fold;
                change(&mut fold.range);
                change(&mut fold.init);
                change(&mut fold.condition);
                change(&mut fold.step);
                change(&mut fold.result);
            }
        }
    }
}

impl Ast {
    pub(crate) fn add(&mut self, offset: u32, node: Node) -> Id {
        // An expression has at most 100,000 code points, each makes a bounded number of nodes, and
        // copies are counted.
        let id = u32::try_from(self.nodes.len()).expect("far fewer nodes than u32 can count");
        self.nodes.push(node);
        self.offsets.push(offset);
        Id(id)
    }

    /// Copies a tree; its nodes stand where those stand that they are copies of. None, and nothing is
    /// copied, if there would be more than `most` nodes then.
    pub(crate) fn copy(&mut self, root: Id, most: usize) -> Option<Id> {
        let mut originals = self.below(root);
        if self.len() + originals.len() > most {
            return None;
        }
        // What is below a node was made before it, and so it is here.
        originals.sort_unstable();
        let mut copies = std::collections::HashMap::with_capacity(originals.len());
        for original in originals {
            let mut node = self.node(original).clone();
            node.each_child(&mut |child| {
                if let Some(copy) = copies.get(child) {
                    *child = *copy;
                }
            });
            copies.insert(original, self.add(self.offset(original), node));
        }
        copies.get(&root).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id.index()]
    }

    pub(crate) fn set(&mut self, id: Id, node: Node) {
        self.nodes[id.index()] = node;
    }

    pub(crate) fn offset(&self, id: Id) -> u32 {
        self.offsets[id.index()]
    }

    /// The number of levels. What is below a node was made before it.
    pub(crate) fn depth(&self) -> u32 {
        let mut depths: Vec<u32> = Vec::with_capacity(self.nodes.len());
        for n in 0..self.nodes.len() {
            let children = self.children(Id(u32::try_from(n).unwrap_or(u32::MAX)));
            let below = children
                .iter()
                .filter_map(|child| depths.get(child.index()));
            depths.push(below.max().map_or(1, |below| below + 1));
        }
        depths.into_iter().max().unwrap_or(0)
    }

    /// What stands directly below a node, left to right.
    pub(crate) fn children(&self, id: Id) -> Vec<Id> {
        match self.node(id) {
            Node::Bad | Node::Literal(_) | Node::Ident(_) => Vec::new(),
            Node::Select { operand, .. } => vec![*operand],
            Node::Call { target, args, .. } => target.iter().chain(args).copied().collect(),
            Node::List { elements } => elements.iter().map(|e| e.value).collect(),
            Node::Map { entries } => entries.iter().flat_map(|e| [e.key, e.value]).collect(),
            Node::Struct { fields, .. } => fields.iter().map(|f| f.value).collect(),
            Node::Fold(fold) => fold.parts().to_vec(),
        }
    }

    /// Every node at and below `root`, a node before what is below it.
    pub(crate) fn below(&self, root: Id) -> Vec<Id> {
        let mut found = Vec::new();
        let mut open = vec![root];
        while let Some(id) = open.pop() {
            found.push(id);
            let mut children = self.children(id);
            children.reverse();
            open.extend(children);
        }
        found
    }

    /// The name that `a.b.c` could be, if it is nothing but names and dots.
    pub(crate) fn dotted(&self, id: Id) -> Option<String> {
        match self.node(id) {
            Node::Ident(name) => Some(name.to_string()),
            Node::Select {
                operand,
                field,
                test_only: false,
            } => {
                let mut name = self.dotted(*operand)?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }
}
