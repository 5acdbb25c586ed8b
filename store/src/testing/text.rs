//! Objects of tests: a line of text, `labels|fields|rest`.

use std::sync::Arc;

use bytes::Bytes;

use crate::entry::{Decoder, Entry, Fields, Labels, Undecodable};
use crate::read::Filter;

/// Decodes `app=web,tier=front|n1|anything`: labels, the field `spec.nodeName`, and whatever else.
/// The served form is `REVISION:` and the stored one. Anything without two bars is undecodable.
pub struct TextDecoder {
    names: Arc<[Box<str>]>,
}

impl Default for TextDecoder {
    fn default() -> Self {
        Self {
            names: ["spec.nodeName".into()].into(),
        }
    }
}

impl Decoder for TextDecoder {
    fn entry(&self, key: &str, value: Bytes, revision: i64) -> Result<Entry, Undecodable> {
        let bad = |reason: &str| Undecodable {
            key: key.to_owned(),
            reason: reason.to_owned(),
        };
        let text = std::str::from_utf8(&value).map_err(|_| bad("not text"))?;
        let mut parts = text.splitn(3, '|');
        let (Some(labels), Some(node), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("not labels|fields|rest"));
        };
        let labels = Labels::new(labels.split(',').filter_map(|pair| pair.split_once('=')));
        let fields = Fields::new(&self.names, [node]);
        Ok(Entry::new(
            key,
            revision,
            Bytes::from(format!("{revision}:{text}")),
            labels,
            fields,
        ))
    }

    fn body_at(&self, entry: &Entry, revision: i64) -> Bytes {
        let text = std::str::from_utf8(&entry.body).unwrap_or_default();
        let rest = text.split_once(':').map_or("", |(_, rest)| rest);
        Bytes::from(format!("{revision}:{rest}"))
    }
}

/// Selects a label `key=value`, or a field if the key has a dot.
pub struct Label(pub &'static str, pub &'static str);

impl Filter for Label {
    fn matches(&self, entry: &Entry) -> bool {
        let value = if self.0.contains('.') {
            entry.field(self.0)
        } else {
            entry.labels.get(self.0)
        };
        value == Some(self.1)
    }

    fn requires(&self, field: &str) -> Option<&str> {
        (self.0 == field).then_some(self.1)
    }
}
