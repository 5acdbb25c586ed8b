//! Interns every JSON name: its place in the sorted list, its Rust identifier, and a perfect hash.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::Facts;

#[path = "../src/name/hash.rs"]
mod hash;

/// Names that the code needs although no message has them.
const ALSO: &[&str] = &["$patch", "$retainKeys"];

pub(crate) struct Names {
    pub(crate) sorted: Vec<String>,
    /// By name: its place in `sorted` and its identifier in upper case.
    known: BTreeMap<String, (u16, String)>,
}

impl Names {
    pub(crate) fn of(facts: &Facts) -> Self {
        let fields = facts
            .messages
            .values()
            .flat_map(|m| &m.fields)
            .filter_map(|f| f.name.clone());
        let sorted: BTreeSet<String> = fields.chain(ALSO.iter().map(|n| (*n).to_owned())).collect();
        let mut taken = BTreeMap::new();
        // Those that start with a small letter first: they keep the plain identifier.
        for name in sorted.iter().rev() {
            let mut ident = upper_snake(name);
            if taken.contains_key(&ident) {
                assert!(
                    name.starts_with(char::is_uppercase),
                    "{name} and {} look the same",
                    taken[&ident]
                );
                ident.insert_str(0, "CAPITAL_");
            }
            taken.insert(ident, name.clone());
        }
        let sorted: Vec<String> = sorted.into_iter().collect();
        let place = |name: &String| {
            let i = sorted.binary_search(name).expect("it was taken from there");
            u16::try_from(i).expect("fewer names than 65,536")
        };
        let known = taken
            .into_iter()
            .map(|(ident, name)| (name.clone(), (place(&name), ident)))
            .collect();
        Self { sorted, known }
    }

    pub(crate) fn id(&self, name: &str) -> u16 {
        self.known[name].0
    }

    /// `TERMINATION_GRACE_PERIOD_SECONDS`.
    pub(crate) fn constant(&self, name: &str) -> &str {
        &self.known[name].1
    }

    /// `termination_grace_period_seconds`, raw if it is a keyword.
    pub(crate) fn accessor(&self, name: &str) -> String {
        let ident = self.known[name].1.to_lowercase();
        const KEYWORDS: &[&str] = &[
            "as", "break", "const", "continue", "dyn", "else", "enum", "extern", "false", "fn",
            "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref",
            "return", "static", "struct", "trait", "true", "type", "unsafe", "use", "where",
            "while", "async", "await", "abstract", "box", "do", "final", "gen", "macro",
            "override", "priv", "try", "typeof", "unsized", "virtual", "yield",
        ];
        if KEYWORDS.contains(&ident.as_str()) {
            format!("r#{ident}")
        } else {
            ident
        }
    }

    /// A perfect hash: its seed, the displacement of each bucket and the name id in each slot. Empty
    /// slots hold 0, which no other text than the first name equals.
    pub(crate) fn perfect_hash(&self) -> (u64, Vec<u16>, Vec<u16>) {
        let mut seed = 0x9E37_79B9_7F4A_7C15;
        for _ in 0..100_000 {
            if let Some((displacements, slots)) = self.try_seed(seed) {
                return (seed, displacements, slots);
            }
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407)
                | 1;
        }
        panic!("no seed tells all names apart: src/name/hash.rs must look at more of them")
    }

    /// Places the buckets one after the other, the fullest first, each by the first displacement that
    /// hits free slots only.
    fn try_seed(&self, seed: u64) -> Option<(Vec<u16>, Vec<u16>)> {
        let mut buckets = vec![Vec::new(); 1 << hash::BUCKET_BITS];
        for (id, name) in (0..).zip(&self.sorted) {
            let h = hash::hash(name.as_bytes(), seed);
            buckets[hash::bucket(h)].push((h, id));
        }
        let mut order: Vec<usize> = (0..buckets.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(buckets[*i].len()));
        let mut displacements = vec![0; buckets.len()];
        let mut slots: Vec<Option<u16>> = vec![None; 1 << hash::SLOT_BITS];
        for i in order {
            let fits = |d: &u16| {
                let places: BTreeSet<usize> =
                    buckets[i].iter().map(|(h, _)| hash::slot(*h, *d)).collect();
                places.len() == buckets[i].len() && places.iter().all(|p| slots[*p].is_none())
            };
            let d = (0..1 << hash::SLOT_BITS).find(fits)?;
            displacements[i] = d;
            for (h, id) in &buckets[i] {
                slots[hash::slot(*h, d)] = Some(*id);
            }
        }
        Some((
            displacements,
            slots.into_iter().map(Option::unwrap_or_default).collect(),
        ))
    }
}

/// `clusterIPs` is `CLUSTER_IPS`, `targetCPUUtilizationPercentage` is
/// `TARGET_CPU_UTILIZATION_PERCENTAGE`, `$ref` is `DOLLAR_REF`.
pub(crate) fn upper_snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        match c {
            '$' => out.push_str("DOLLAR_"),
            '-' | '.' | '/' => out.push('_'),
            c => {
                if i > 0 && c.is_uppercase() && starts_word(&chars, i) {
                    out.push('_');
                }
                out.extend(c.to_uppercase());
            }
        }
    }
    out
}

/// Whether the capital at `i` begins a word: after a small letter, or before one unless that is the
/// plural of an abbreviation.
fn starts_word(chars: &[char], i: usize) -> bool {
    let small = |i: usize| chars.get(i).is_some_and(|c| c.is_lowercase());
    let previous = chars[i - 1];
    if previous.is_lowercase() || previous.is_ascii_digit() {
        return true;
    }
    let plural = chars.get(i + 1) == Some(&'s') && !small(i + 2);
    previous.is_uppercase() && small(i + 1) && !plural
}
