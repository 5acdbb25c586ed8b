//! Collecting the fields of an event or a span in one of the two forms.

use std::fmt::Debug;
use std::marker::PhantomData;

use tracing::field::{Field, Visit};

use super::{Form, key};

/// As klog: `key="value"`.
#[derive(Clone, Copy, Default)]
pub(super) struct Text;

/// One object a line.
#[derive(Clone, Copy, Default)]
pub(super) struct Json;

/// The message, and the other fields as they will be printed.
#[derive(Default)]
pub(super) struct Fields<F> {
    pub(super) message: String,
    pub(super) rest: String,
    form: PhantomData<F>,
}

impl<F: Form> Visit for Fields<F> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        self.record_str(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            F::string(&mut self.rest, key(field), value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        F::plain(&mut self.rest, key(field), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        F::plain(&mut self.rest, key(field), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        F::plain(&mut self.rest, key(field), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            F::plain(&mut self.rest, key(field), value);
        } else {
            F::string(&mut self.rest, key(field), &value.to_string());
        }
    }
}

/// A string as JSON, quotes included.
pub(super) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
