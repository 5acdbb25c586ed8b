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
    let count = collisions.map(|c| c.to_string()).unwrap_or_default();
    let bytes = data.iter().chain(count.as_bytes());
    // FNV-1, not the 1a of templates.
    let hash = bytes.fold(OFFSET, |hash, byte| {
        hash.wrapping_mul(PRIME) ^ u32::from(*byte)
    });
    Fnv(hash).label()
}

const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// FNV-1a, 32 bits.
struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Self(OFFSET)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(PRIME);
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
    fn hashes_of_revisions_are_upstreams() {
        // The text and its count are one input: FNV-1 of "foobar" is 0x31f0b262.
        assert_eq!(data_hash(b"foobar", None), Fnv(0x31f0_b262).label());
        assert_eq!(data_hash(b"fooba", Some(7)), data_hash(b"fooba7", None));
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
