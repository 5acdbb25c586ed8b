//! What was found for the slots of one message, kept on a stack that all messages of a walk share: a
//! message costs no allocation of its own, and nothing is looked at for fields that are not there.

use super::layout::{Layout, MAX_FIELDS, zero_of};
use crate::name::Name;
use crate::value::{Map, Value};

/// Where on the stack the things of one message are.
pub(crate) struct Slots {
    base: usize,
    /// The slots that have something.
    present: u64,
    /// The slots that have a place; [`Slots::take`] leaves it.
    placed: u64,
    places: [u8; MAX_FIELDS],
}

impl Slots {
    #[inline]
    pub(crate) fn new<T>(stack: &[T]) -> Self {
        Self {
            base: stack.len(),
            present: 0,
            placed: 0,
            places: [0; MAX_FIELDS],
        }
    }

    /// Puts the entries of a map on the stack.
    pub(crate) fn of<'v>(
        map: Option<&'v Map>,
        layout: &Layout,
        stack: &mut Vec<&'v Value>,
    ) -> Self {
        let mut slots = Self::new(stack);
        for (name, value) in map.into_iter().flat_map(Map::iter) {
            if let Some(number) = name.known().and_then(|name| layout.slot_of(name)) {
                slots.put(stack, number, value);
            }
        }
        slots
    }

    #[inline]
    pub(crate) fn present(&self) -> u64 {
        self.present
    }

    #[inline]
    pub(crate) fn has(&self, number: u8) -> bool {
        self.present & (1 << number) != 0
    }

    #[inline]
    fn place(&self, number: u8) -> usize {
        self.base + usize::from(self.places[usize::from(number)])
    }

    #[inline]
    pub(crate) fn put<T>(&mut self, stack: &mut Vec<T>, number: u8, thing: T) {
        let bit = 1 << number;
        if self.placed & bit == 0 {
            self.places[usize::from(number)] = (stack.len() - self.base) as u8;
            self.placed |= bit;
            stack.push(thing);
        } else {
            stack[self.place(number)] = thing;
        }
        self.present |= bit;
    }

    #[inline]
    pub(crate) fn get<'s, T>(&self, stack: &'s [T], number: u8) -> Option<&'s T> {
        self.has(number).then(|| &stack[self.place(number)])
    }

    #[inline]
    pub(crate) fn get_mut<'s, T>(&self, stack: &'s mut [T], number: u8) -> Option<&'s mut T> {
        self.has(number).then(|| &mut stack[self.place(number)])
    }

    #[inline]
    pub(crate) fn take<T: Default>(&mut self, stack: &mut [T], number: u8) -> Option<T> {
        let thing = std::mem::take(self.get_mut(stack, number)?);
        self.present &= !(1 << number);
        Some(thing)
    }

    /// Gives the part of the stack back.
    #[inline]
    pub(crate) fn leave<T>(self, stack: &mut Vec<T>) {
        stack.truncate(self.base);
    }
}

/// A message being put together on the stack. Fields may come in any order and more than once.
pub(crate) struct Parts {
    layout: &'static Layout,
    slots: Slots,
}

impl Parts {
    /// Begins with what an earlier occurrence of the same field left: its values are merged.
    pub(crate) fn new(layout: &'static Layout, old: Option<Value>, stack: &mut Vec<Value>) -> Self {
        let mut parts = Self {
            layout,
            slots: Slots::new(stack),
        };
        if let Some(Value::Map(old)) = old {
            for (name, value) in old {
                if let Some(number) = name.known().and_then(|name| layout.slot_of(name)) {
                    parts.put(stack, number, value);
                }
            }
        }
        parts
    }

    #[inline]
    pub(crate) fn put(&mut self, stack: &mut Vec<Value>, number: u8, value: Value) {
        self.slots.put(stack, number, value);
    }

    #[inline]
    pub(crate) fn take(&mut self, stack: &mut [Value], number: u8) -> Option<Value> {
        self.slots.take(stack, number)
    }

    #[inline]
    pub(crate) fn get_mut<'s>(&self, stack: &'s mut [Value], number: u8) -> Option<&'s mut Value> {
        self.slots.get_mut(stack, number)
    }

    /// The map, with the messages that Go holds by value.
    pub(crate) fn finish(mut self, stack: &mut Vec<Value>) -> Map {
        for number in &self.layout.by_value {
            if !self.slots.has(*number) {
                self.put(stack, *number, zero_of(self.layout.slot(*number).field));
            }
        }
        let mut entries = Vec::with_capacity(self.slots.present().count_ones() as usize);
        for number in &self.layout.by_name {
            if let Some(value) = self.slots.take(stack, *number) {
                entries.push((Name::Known(self.layout.slot(*number).field.name), value));
            }
        }
        self.slots.leave(stack);
        Map::from_entries(entries).0
    }
}
