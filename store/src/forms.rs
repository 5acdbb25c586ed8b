//! Derived forms of objects (JSON, table rows, metadata only): made at most once per object, shared
//! by every LIST and WATCH, and held within one byte budget.
//!
//! A form hangs on its entry, so finding it is a pointer away and it goes when the entry goes. The
//! budget is kept by a clock over the forms in the order they were made: one that was used since the
//! hand last passed gets another round.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::entry::Entry;

/// Names a form of an object: a content type, an API version and a shape. The API server gives the
/// numbers; equal numbers must mean equal bytes for one entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Form(pub u32);

/// What each remembered form costs besides its bytes.
const OVERHEAD: usize = 96;

/// The forms of one entry.
#[derive(Default, Debug)]
pub(crate) struct FormSlot(Mutex<Vec<Made>>);

#[derive(Debug)]
struct Made {
    form: Form,
    bytes: Bytes,
    used: bool,
}

/// The budget of all forms of a process. Cheap to share behind an `Arc`.
pub struct Forms {
    cap: usize,
    clock: Mutex<Clock>,
}

#[derive(Default)]
struct Clock {
    hand: VecDeque<(Weak<Entry>, Form, usize)>,
    bytes: usize,
}

impl Forms {
    /// Keeps at most `cap` bytes of forms.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self {
            cap,
            clock: Mutex::default(),
        }
    }

    /// The entry's `form`, made by `make` if nobody made it yet; callers that want the same form of
    /// the same entry at once wait for the first of them. `make` must not ask for forms of the same
    /// entry itself.
    ///
    /// # Errors
    /// What `make` says; nothing is remembered then.
    pub fn get<E>(
        &self,
        entry: &Arc<Entry>,
        form: Form,
        make: impl FnOnce(&Entry) -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let bytes = {
            let mut made = entry.forms.0.lock();
            if let Some(found) = made.iter_mut().find(|m| m.form == form) {
                found.used = true;
                return Ok(found.bytes.clone());
            }
            let bytes = make(entry)?;
            made.push(Made {
                form,
                bytes: bytes.clone(),
                used: false,
            });
            bytes
        };
        self.charge(entry, form, bytes.len() + OVERHEAD);
        Ok(bytes)
    }

    /// The entry's `form` if somebody made it. For forms that are made of other forms of the same entry, which
    /// [`Forms::get`] rules out: look, make, and keep with `get`.
    #[must_use]
    pub fn find(&self, entry: &Entry, form: Form) -> Option<Bytes> {
        let mut made = entry.forms.0.lock();
        let found = made.iter_mut().find(|m| m.form == form)?;
        found.used = true;
        Some(found.bytes.clone())
    }

    /// Bytes held now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.clock.lock().bytes
    }

    fn charge(&self, entry: &Arc<Entry>, form: Form, cost: usize) {
        let mut dropped = Vec::new(); // large values die outside the lock
        let mut clock = self.clock.lock();
        clock.hand.push_back((Arc::downgrade(entry), form, cost));
        clock.bytes += cost;
        let mut rounds = clock.hand.len();
        while clock.bytes > self.cap {
            let Some((weak, form, cost)) = clock.hand.pop_front() else {
                break;
            };
            let Some(entry) = weak.upgrade() else {
                clock.bytes -= cost;
                continue;
            };
            let Some(mut made) = entry.forms.0.try_lock() else {
                // In use this moment. Waiting would hold everybody up for one conversion.
                clock.hand.push_back((weak, form, cost));
                rounds -= 1;
                if rounds == 0 {
                    break;
                }
                continue;
            };
            let at = made.iter().position(|m| m.form == form);
            if let Some(m) = at.map(|i| &mut made[i])
                && m.used
                && rounds > 1
            {
                m.used = false;
                rounds -= 1;
                clock.hand.push_back((weak, form, cost));
                continue;
            }
            if let Some(i) = at {
                dropped.push(made.swap_remove(i));
            }
            clock.bytes -= cost;
            drop(made);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Fields, Labels};
    use std::convert::Infallible;

    fn entry(key: &str) -> Arc<Entry> {
        Arc::new(Entry::new(
            key,
            1,
            Bytes::new(),
            Labels::default(),
            Fields::default(),
        ))
    }

    fn get(forms: &Forms, entry: &Arc<Entry>, form: u32, made: &mut u32) {
        let _: Result<_, Infallible> = forms.get(entry, Form(form), |_| {
            *made += 1;
            Ok(Bytes::from(vec![0; 1000 - OVERHEAD]))
        });
    }

    #[test]
    fn a_form_is_made_once_while_there_is_room() {
        let (forms, object, mut made) = (Forms::new(10_000), entry("a"), 0);
        for _ in 0..5 {
            get(&forms, &object, 1, &mut made);
            get(&forms, &object, 2, &mut made);
        }
        assert_eq!((made, forms.bytes()), (2, 2_000));
        assert!(forms.find(&object, Form(2)).is_some());
        assert!(forms.find(&object, Form(3)).is_none());
    }

    #[test]
    fn a_form_in_use_outlives_those_that_nobody_asks_for() {
        let (forms, mut made) = (Forms::new(5_000), 0);
        let hot = entry("hot");
        let cold: Vec<_> = (0..50).map(|i| entry(&i.to_string())).collect();
        get(&forms, &hot, 1, &mut made);
        for object in &cold {
            get(&forms, object, 1, &mut made);
            get(&forms, &hot, 1, &mut made);
            assert!(forms.bytes() <= 5_000);
        }
        assert_eq!(made, 51);
    }

    #[test]
    fn what_hung_on_a_dropped_object_is_given_back() {
        let (forms, mut made) = (Forms::new(3_000), 0);
        for i in 0..20 {
            get(&forms, &entry(&i.to_string()), 1, &mut made);
        }
        assert!(forms.bytes() <= 3_000);
    }
}
