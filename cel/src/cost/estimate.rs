//! What an expression can cost, from its types and the limits of a schema (cel-go `checker/cost.go`,
//! with the size estimator of `apiextensions-apiserver/pkg/apiserver/schema/cel/compilation.go`).

use std::sync::Arc;

use super::path::{Path, To};
use super::size::{CostEstimate, Size};
use super::{LIST, MAP, SELECT, STRUCT, calls};
use crate::ast::{Fold, Id, Literal, Node};
use crate::check::Checked;
use crate::schema::Schema;
use crate::types::Type;

/// `only`: the variable that the schema is of. None: upstream takes everything for it.
pub(crate) fn estimate(
    checked: &Checked,
    root: Option<&Schema>,
    only: Option<&str>,
) -> CostEstimate {
    let count = checked.ast.len();
    let mut coster = Coster {
        checked,
        root,
        only,
        paths: vec![Path::default(); count],
        sizes: vec![None; count],
        entries: vec![None; count],
        locals: Vec::new(),
    };
    coster.cost(checked.root)
}

/// Sizes of what is in a list or map.
#[derive(Clone, Copy, Debug)]
struct Entries {
    is_list: bool,
    key: Size,
    value: Size,
}

impl Entries {
    /// What either holds. Of what kind they are the first says.
    fn union(self, other: Self) -> Self {
        Self {
            is_list: self.is_list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

struct Local<'c> {
    name: Arc<str>,
    path: Path<'c>,
    size: Option<Size>,
    entries: Option<Entries>,
}

/// What an estimate is asked about.
pub(super) struct Operand<'t> {
    pub(super) ty: &'t Type,
    pub(super) path: Path<'t>,
    pub(super) size: Option<Size>,
    pub(super) literal: Option<&'t Literal>,
}

pub(super) struct Coster<'c, 's> {
    checked: &'c Checked,
    root: Option<&'s Schema>,
    only: Option<&'c str>,
    paths: Vec<Path<'c>>,
    sizes: Vec<Option<Size>>,
    entries: Vec<Option<Entries>>,
    locals: Vec<Local<'c>>,
}

impl<'c, 's> Coster<'c, 's> {
    /// The size of what stands at the end of a path, as far as the schema tells.
    pub(super) fn size_at(&self, path: &Path<'_>) -> Option<Size> {
        let schema = path.within(self.root, self.only)?;
        Some(Size {
            min: 0,
            // Without a limit it is -1, which is as much as can be.
            max: schema.max_elements.cast_unsigned(),
        })
    }

    fn local(&self, id: Id) -> Option<&Local<'c>> {
        match self.checked.ast.node(id) {
            Node::Ident(name) => self.locals.iter().rfind(|local| local.name == *name),
            _ => None,
        }
    }

    fn path(&self, id: Id) -> Path<'c> {
        match self.local(id) {
            Some(local) => local.path.clone(),
            None => self.paths[id.index()].clone(),
        }
    }

    /// Upstream remembers what the schema says the first time it is asked.
    pub(super) fn size(&mut self, id: Id) -> Option<Size> {
        if let Some(size) = self.sizes[id.index()] {
            return Some(size);
        }
        if let Some(size) = literal_size(self.checked.ast.node(id)) {
            return Some(Size::fixed(size));
        }
        if let Some(size) = self.size_at(&self.path(id)) {
            self.sizes[id.index()] = Some(size);
            return Some(size);
        }
        if is_scalar(self.checked.ty(id)) {
            return Some(Size::fixed(1));
        }
        self.local(id).and_then(|local| local.size)
    }

    fn entries(&self, id: Id) -> Option<Entries> {
        self.entries[id.index()].or_else(|| self.local(id).and_then(|local| local.entries))
    }

    pub(super) fn operand(&mut self, id: Id) -> Operand<'c> {
        let checked = self.checked;
        Operand {
            ty: checked.ty(id),
            path: self.path(id),
            size: self.size(id),
            literal: match checked.ast.node(id) {
                Node::Literal(literal) => Some(literal),
                _ => None,
            },
        }
    }

    fn size_or_unknown(&mut self, id: Id) -> Size {
        self.size(id).unwrap_or(Size::UNKNOWN)
    }

    fn cost(&mut self, id: Id) -> CostEstimate {
        let checked = self.checked;
        match checked.ast.node(id) {
            Node::Bad | Node::Literal(_) => CostEstimate::fixed(0),
            Node::Ident(name) => {
                let path = self.local(id).map(|local| local.path.clone());
                self.paths[id.index()] = path.unwrap_or_else(|| Path::of(name));
                CostEstimate::fixed(SELECT)
            }
            Node::Select {
                operand,
                field,
                test_only,
            } => {
                let cost = self.cost(*operand);
                // A test of presence costs nothing, in Kubernetes.
                if *test_only {
                    return cost;
                }
                self.paths[id.index()] = self.path(*operand).append(To::Field(field));
                match checked.ty(*operand) {
                    Type::Map(_) | Type::Struct(_) | Type::Param(_) => {
                        cost.plus(CostEstimate::fixed(SELECT))
                    }
                    _ => cost,
                }
            }
            Node::Call {
                function,
                target,
                args,
            } => self.call(id, function, *target, args),
            Node::List { elements } => {
                let mut cost = CostEstimate::fixed(LIST);
                let mut value = range(elements.is_empty());
                for element in elements {
                    cost = cost.plus(self.cost(element.value));
                    value = value.union(self.size_or_unknown(element.value));
                }
                self.entries[id.index()] = Some(Entries {
                    is_list: true,
                    key: Size::fixed(1),
                    value,
                });
                cost
            }
            Node::Map { entries } => {
                let mut cost = CostEstimate::fixed(MAP);
                let (mut key, mut value) = (range(entries.is_empty()), range(entries.is_empty()));
                for entry in entries {
                    cost = cost.plus(self.cost(entry.key)).plus(self.cost(entry.value));
                    key = key.union(self.size_or_unknown(entry.key));
                    value = value.union(self.size_or_unknown(entry.value));
                }
                self.entries[id.index()] = Some(Entries {
                    is_list: false,
                    key,
                    value,
                });
                cost
            }
            Node::Struct { fields, .. } => {
                let fields = fields.iter().map(|field| self.cost(field.value));
                fields.fold(CostEstimate::fixed(STRUCT), CostEstimate::plus)
            }
            Node::Fold(fold) if self.is_binding(fold) => self.binding(id, fold),
            Node::Fold(fold) => self.fold(id, fold),
        }
    }

    /// A comprehension that never runs: a variable that stands for a value.
    fn is_binding(&self, fold: &Fold) -> bool {
        matches!(self.checked.ast.node(fold.range), Node::List { elements } if elements.is_empty())
            && matches!(
                self.checked.ast.node(fold.condition),
                Node::Literal(Literal::Bool(false))
            )
    }

    fn push_value_of(&mut self, name: &Arc<str>, id: Id) {
        let local = Local {
            name: name.clone(),
            path: self.path(id),
            size: self.size(id),
            entries: self.entries(id),
        };
        self.locals.push(local);
    }

    fn binding(&mut self, id: Id, fold: &Fold) -> CostEstimate {
        let cost = self.cost(fold.range).plus(self.cost(fold.init));
        self.push_value_of(&fold.accu, fold.init);
        let cost = cost.plus(self.cost(fold.result));
        self.locals.pop();
        self.copy(id, fold.result);
        cost
    }

    /// What a node is known to be large goes for another one too.
    fn copy(&mut self, to: Id, from: Id) {
        if let Some(size) = self.size(from) {
            self.sizes[to.index()] = Some(size);
        }
        if let Some(entries) = self.entries(from) {
            self.entries[to.index()] = Some(entries);
        }
    }

    fn push_iterated(&mut self, name: &Arc<str>, range: Id, value: bool) {
        let entries = self.entries(range);
        let is_list = match entries {
            Some(entries) => entries.is_list,
            None => matches!(self.checked.ty(range), Type::List(_)),
        };
        let to = match (value, is_list) {
            (true, _) => To::Element,
            (false, true) => To::Index,
            (false, false) => To::Key,
        };
        let path = self.path(range).append(to);
        let size = entries.map(|e| if value { e.value } else { e.key });
        self.locals.push(Local {
            name: name.clone(),
            path,
            size,
            entries: None,
        });
    }

    fn fold(&mut self, id: Id, fold: &Fold) -> CostEstimate {
        let cost = self.cost(fold.range).plus(self.cost(fold.init));
        let depth = self.locals.len();
        self.push_value_of(&fold.accu, fold.init);
        if let Some(iter2) = &fold.iter2 {
            self.push_iterated(&fold.iter, fold.range, false);
            self.push_iterated(iter2, fold.range, true);
        } else {
            let is_list = match self.entries(fold.range) {
                Some(entries) => entries.is_list,
                None => matches!(self.checked.ty(fold.range), Type::List(_)),
            };
            self.push_iterated(&fold.iter, fold.range, is_list);
        }
        let each = self.cost(fold.condition);
        let each = self.cost(fold.step).plus(each);
        self.locals.truncate(depth + 1);
        let cost = cost.plus(self.cost(fold.result));
        self.locals.truncate(depth);
        let count = self.size_or_unknown(fold.range);
        match self.checked.ast.node(fold.init) {
            Node::Literal(_) => self.sizes[id.index()] = self.size(fold.init),
            Node::List { .. } | Node::Map { .. } => {
                self.sizes[id.index()] = Some(count);
                if let Some(entries) = self.entries(fold.step) {
                    self.entries[id.index()] = Some(entries);
                }
            }
            _ => {}
        }
        cost.plus(count.times(each))
    }

    fn call(&mut self, id: Id, function: &str, target: Option<Id>, args: &[Id]) -> CostEstimate {
        if function == "dyn"
            && let [arg] = args
        {
            let cost = self.cost(*arg);
            self.copy(id, *arg);
            return cost.plus(CostEstimate::fixed(1));
        }
        // One after the other: what comes later may overwrite the path of what comes before.
        let (costs, operands): (Vec<CostEstimate>, Vec<Operand<'_>>) = args
            .iter()
            .map(|arg| (self.cost(*arg), self.operand(*arg)))
            .unzip();
        let checked = self.checked;
        let overloads = checked.overloads(id);
        if overloads.is_empty() {
            return CostEstimate::default();
        }
        let mut sum = CostEstimate::default();
        let target = target.map(|target| {
            sum = self.cost(target);
            self.operand(target)
        });
        let mut cost = CostEstimate::EMPTY;
        let mut size: Option<Size> = None;
        for overload in overloads {
            let call = calls::Call {
                function,
                overload,
                target: target.as_ref(),
                args: &operands,
                costs: &costs,
            };
            let (of_call, result) = calls::estimate(self, &call);
            let of_call = match of_call {
                Some(of_call) => costs.iter().copied().fold(of_call, CostEstimate::plus),
                None => self.logic(id, &call, args),
            };
            cost = cost.union(of_call);
            let result = result.or_else(|| self.entry_sizes(id, overload, args));
            size = match (size, result) {
                (Some(a), Some(b)) => Some(a.union(b)),
                (a, b) => a.or(b),
            };
            if matches!(&**overload, "index_list" | "index_map")
                && let Some(of) = args.first()
            {
                size = self.entries(*of).map(|entries| entries.value);
                self.paths[id.index()] = self.path(*of).append(To::Element);
            }
            size = size.or_else(|| self.size(id));
        }
        if size.is_some() {
            self.sizes[id.index()] = size;
        }
        sum.plus(cost)
    }

    /// `&&`, `||` and `?:`, where not all arguments are evaluated.
    fn logic(&mut self, id: Id, call: &calls::Call<'_, '_>, args: &[Id]) -> CostEstimate {
        match (call.costs, args) {
            ([condition, yes, no], [_, a, b]) => {
                self.unite_entries(id, *a, *b);
                condition.plus(yes.union(*no))
            }
            ([left, right], _) => CostEstimate {
                min: left.min,
                max: left.plus(*right).max,
            },
            _ => CostEstimate::default(),
        }
    }

    /// What is made of two, or one of them, holds what either does, where both are known.
    fn unite_entries(&mut self, id: Id, left: Id, right: Id) {
        if let (Some(left), Some(right)) = (self.entries(left), self.entries(right)) {
            self.entries[id.index()] = Some(left.union(right));
        }
    }

    /// What the result of `+` and `?:` holds, and how large it is.
    fn entry_sizes(&mut self, id: Id, overload: &str, args: &[Id]) -> Option<Size> {
        match (overload, args) {
            ("conditional", [_, yes, no]) => {
                let yes = self.size_or_unknown(*yes);
                Some(yes.union(self.size_or_unknown(*no)))
            }
            ("add_string" | "add_bytes" | "add_list", [left, right]) => {
                self.unite_entries(id, *left, *right);
                let left = self.size_or_unknown(*left);
                Some(left.plus(self.size_or_unknown(*right)))
            }
            _ => None,
        }
    }
}

/// What sizes of entries begin with.
fn range(is_empty: bool) -> Size {
    if is_empty {
        Size::default()
    } else {
        Size::EMPTY
    }
}

fn literal_size(node: &Node) -> Option<u64> {
    let size = match node {
        Node::Literal(Literal::String(text)) => text.chars().count(),
        Node::Literal(Literal::Bytes(bytes)) => bytes.len(),
        Node::Literal(_) => 1,
        Node::List { elements } => elements.len(),
        Node::Map { entries } => entries.len(),
        _ => return None,
    };
    u64::try_from(size).ok()
}

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => {
            true
        }
        other => other.unwrap_optional().is_some_and(is_scalar),
    }
}
