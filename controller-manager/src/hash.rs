//! Short hashes in names and labels of what controllers make.
//!
//! A hash only has to differ for different templates: whoever looks for a template's object compares templates, not
//! hashes (`EqualIgnoreHash`), upstream's controllers too, so that objects made by either are found by both. Upstream
//! hashes Go's memory layout, printed; this hashes the template's canonical JSON.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// What upstream's safe strings are made of: no vowels, nothing that looks like another.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The value of `pod-template-hash`.
#[must_use]
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    // A tree sorts its keys, and writing it cannot fail.
    let tree = serde_json::to_value(template).unwrap_or_default();
    let mut hash = Fnv::default();
    hash.write(tree.to_string().as_bytes());
    hash.collisions(collisions);
    hash.label()
}

/// The hash of a revision's data; the same bytes give what upstream's history gives (`HashControllerRevision`).
#[must_use]
pub fn data_hash(data: &[u8], collisions: Option<i32>) -> String {
    let mut hash = Fnv::default();
    if !data.is_empty() {
        hash.write(data);
    }
    if let Some(count) = collisions {
        hash.write(count.to_string().as_bytes());
    }
    hash.label()
}

/// FNV-1a, 32 bits.
struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    /// Upstream writes the count into a buffer of eight bytes, of which four are used.
    fn collisions(&mut self, count: Option<i32>) {
        if let Some(count) = count {
            let low = count.to_le_bytes();
            self.write(&low);
            self.write(&[0; 4]);
        }
    }

    fn label(&self) -> String {
        let digits = self.0.to_string();
        let letter = |digit: u8| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]);
        digits.bytes().map(letter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_is_fnv() {
        let mut hash = Fnv::default();
        hash.write(b"foobar");
        assert_eq!(hash.0, 0xbf9c_f968);
    }

    #[test]
    fn the_hash_depends_on_template_and_collisions_alone() {
        let template = PodTemplateSpec::default();
        let plain = template_hash(&template, None);
        assert_eq!(plain, template_hash(&template.clone(), None));
        assert_ne!(plain, template_hash(&template, Some(1)));
        assert!(plain.bytes().all(|b| ALPHABET.contains(&b)));
    }
}
