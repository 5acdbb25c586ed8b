//! `Status`: how the API server says that something failed, or that a deletion is done.

use crate::catalogue::names as n;
use crate::value::Value;

/// A `Status` object. Empty texts and zeros are absent in the tree.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    pub success: bool,
    /// The HTTP status.
    pub code: u16,
    /// For programs: `NotFound`, `Conflict`, ...
    pub reason: String,
    /// For people.
    pub message: String,
    pub details: Option<Details>,
}

/// What a `Status` is about, and what led to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Details {
    pub name: String,
    pub group: String,
    /// The kind of the object, or the resource, as the reason has it.
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: u32,
}

/// One reason of several.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    /// A path such as `spec.containers[0].name`.
    pub field: String,
}

impl Status {
    /// The conformed tree.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut status = Value::object();
        status.set(&[n::KIND], "Status");
        status.set(&[n::API_VERSION], "v1");
        status.set(&[n::METADATA], Value::object());
        status.set(
            &[n::STATUS],
            if self.success { "Success" } else { "Failure" },
        );
        set_text(&mut status, n::REASON, &self.reason);
        set_text(&mut status, n::MESSAGE, &self.message);
        if let Some(details) = &self.details {
            status.set(&[n::DETAILS], details.to_value());
        }
        if self.code != 0 {
            status.set(&[n::CODE], i64::from(self.code));
        }
        status
    }

    /// Reads what a server answered. None if it is no `Status`.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let text = |v: &Value, field| {
            v.get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let number = |v: &Value, field| v.get(field).and_then(Value::as_int).unwrap_or(0);
        if text(value, n::KIND) != "Status" {
            return None;
        }
        let details = value
            .get(n::DETAILS)
            .filter(|v| !v.is_null())
            .map(|d| Details {
                name: text(d, n::NAME),
                group: text(d, n::GROUP),
                kind: text(d, n::KIND),
                uid: text(d, n::UID),
                causes: d
                    .get(n::CAUSES)
                    .and_then(Value::as_list)
                    .unwrap_or_default()
                    .iter()
                    .map(|c| Cause {
                        reason: text(c, n::REASON),
                        message: text(c, n::MESSAGE),
                        field: text(c, n::FIELD),
                    })
                    .collect(),
                retry_after_seconds: number(d, n::RETRY_AFTER_SECONDS).try_into().unwrap_or(0),
            });
        Some(Self {
            success: text(value, n::STATUS) == "Success",
            code: number(value, n::CODE).try_into().unwrap_or(0),
            reason: text(value, n::REASON),
            message: text(value, n::MESSAGE),
            details,
        })
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut details = Value::object();
        set_text(&mut details, n::NAME, &self.name);
        set_text(&mut details, n::GROUP, &self.group);
        set_text(&mut details, n::KIND, &self.kind);
        set_text(&mut details, n::UID, &self.uid);
        if !self.causes.is_empty() {
            let causes: Vec<Value> = self.causes.iter().map(Cause::to_value).collect();
            details.set(&[n::CAUSES], causes);
        }
        if self.retry_after_seconds != 0 {
            details.set(&[n::RETRY_AFTER_SECONDS], self.retry_after_seconds);
        }
        details
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut cause = Value::object();
        set_text(&mut cause, n::REASON, &self.reason);
        set_text(&mut cause, n::MESSAGE, &self.message);
        set_text(&mut cause, n::FIELD, &self.field);
        cause
    }
}

fn set_text(value: &mut Value, field: crate::NameId, text: &str) {
    if !text.is_empty() {
        value.set(&[field], text);
    }
}
