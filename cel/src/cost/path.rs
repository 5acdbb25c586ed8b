//! Where in the schema's value something was read from, as upstream keeps it: a slice of names.
//!
//! Slices share memory. What Go appends to one stands in the memory behind it if there is room, and takes
//! the place of what was appended to the same slice before, also for those who still have that: in
//! `list.all(e, e.a.all(x, x == e.b))` the path of `e.b` may overwrite that of `e.a`, whose size is asked
//! for last and then is that of `b`. What is accepted depends on it, and so paths are kept that way here.

use std::cell::RefCell;
use std::rc::Rc;

use crate::schema::{Schema, Shape};

/// One name of a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum To<'n> {
    /// A variable; always the first.
    Variable(&'n str),
    Element,
    Key,
    Index,
    Field(&'n str),
}

/// Names, and how many there is room for.
#[derive(Debug)]
struct Memory<'n> {
    names: RefCell<Vec<To<'n>>>,
    room: usize,
}

#[derive(Clone, Default, Debug)]
pub(super) struct Path<'n> {
    memory: Option<Rc<Memory<'n>>>,
    len: usize,
}

impl<'n> Path<'n> {
    pub(super) fn of(variable: &'n str) -> Self {
        Self::default().append(To::Variable(variable))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A path with a name more, as Go's `append` makes it.
    pub(super) fn append(&self, to: To<'n>) -> Self {
        let len = self.len + 1;
        if let Some(memory) = self.memory.as_ref().filter(|m| self.len < m.room) {
            let mut names = memory.names.borrow_mut();
            match names.get_mut(self.len) {
                Some(name) => *name = to,
                None => names.push(to),
            }
            drop(names);
            let memory = Some(Rc::clone(memory));
            return Self { memory, len };
        }
        let mut names = self.names();
        names.push(to);
        let memory = Memory {
            names: RefCell::new(names),
            room: (2 * self.len).max(1),
        };
        Self {
            memory: Some(Rc::new(memory)),
            len,
        }
    }

    /// The same in memory of its own.
    pub(super) fn apart(&self, to: To<'n>) -> Self {
        let mut names = self.names();
        names.push(to);
        let len = names.len();
        let memory = Memory {
            names: RefCell::new(names),
            room: len,
        };
        Self {
            memory: Some(Rc::new(memory)),
            len,
        }
    }

    fn names(&self) -> Vec<To<'n>> {
        self.memory.as_ref().map_or_else(Vec::new, |memory| {
            memory.names.borrow()[..self.len].to_vec()
        })
    }

    /// What the schema says of what stands there. The first name is left out: whatever has a path of one
    /// name is taken for the whole value, unless the schema is that of one variable (`only`).
    pub(super) fn within<'s>(
        &self,
        root: Option<&'s Schema>,
        only: Option<&str>,
    ) -> Option<&'s Schema> {
        let names = self.memory.as_ref()?.names.borrow();
        let (first, rest) = names[..self.len].split_first()?;
        let is_meant = |only| matches!(first, To::Variable(name) if *name == only);
        if !only.is_none_or(is_meant) {
            return None;
        }
        rest.iter()
            .try_fold(root?, |schema, to| match (to, &schema.shape) {
                (To::Element, Shape::List { item, .. }) => Some(&**item),
                (To::Element, Shape::Map { value } | Shape::Bounded { value, .. }) => {
                    Some(&**value)
                }
                (To::Key, _) => schema.keys(),
                (To::Field(name), _) => schema.field(name),
                _ => None,
            })
    }
}
