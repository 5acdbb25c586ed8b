//! Changes as messages.

use super::{Batch, Content, Element, Expr, Family, Holds, Hook, Rule, Set, type_number};
use crate::netlink::Buffer;

/// An attribute's length has 16 bits; what surrounds a list of elements is short.
const LIST_LIMIT: usize = 60_000;
const LIST_ELEM: u16 = 1;

/// Type of a message of this family of requests.
pub(super) fn kind(message: i32) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES << 8 | message) as u16
}

/// `struct nfgenmsg`
pub(super) fn fixed(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

impl Batch {
    pub(crate) fn new(family: Family) -> Self {
        Self {
            family,
            messages: Buffer::new(),
            cuts: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.messages.bytes().len()
    }

    /// Says that everything before is complete in itself.
    pub(crate) fn may_cut(&mut self) {
        self.cuts.push(self.messages.len());
    }

    fn message(&mut self, message: i32, flags: i32, fill: impl FnOnce(&mut super::Attrs<'_>)) {
        let fixed = fixed(self.family.number());
        self.messages.message(kind(message), flags, &fixed, fill);
    }

    pub(crate) fn add_table(&mut self, name: &str) {
        self.message(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, |a| {
            a.str(1, name)
        });
    }

    pub(crate) fn delete_table(&mut self, name: &str) {
        self.message(libc::NFT_MSG_DELTABLE, 0, |a| a.str(1, name));
    }

    pub(crate) fn add_chain(&mut self, table: &str, name: &str, hook: Option<Hook>) {
        self.message(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, |a| {
            a.str(1, table);
            a.str(3, name);
            if let Some(hook) = hook {
                a.nest(4, |a| {
                    a.be32(1, hook.hook);
                    a.be32(2, hook.priority as u32);
                });
                a.str(7, hook.kind);
            }
        });
    }

    pub(crate) fn delete_chain(&mut self, table: &str, name: &str) {
        self.message(libc::NFT_MSG_DELCHAIN, 0, |a| {
            a.str(1, table);
            a.str(3, name);
        });
    }

    /// Takes all rules out of a chain.
    pub(crate) fn flush_chain(&mut self, table: &str, name: &str) {
        self.message(libc::NFT_MSG_DELRULE, 0, |a| {
            a.str(1, table);
            a.str(2, name);
        });
    }

    pub(crate) fn add_rule(&mut self, table: &str, chain: &str, rule: &Rule) {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        self.message(libc::NFT_MSG_NEWRULE, flags, |a| {
            a.str(1, table);
            a.str(2, chain);
            a.nest(4, |a| {
                for expr in rule.iter().filter(|expr| expr.is_step()) {
                    a.nest(LIST_ELEM, |a| expr.put(a));
                }
            });
            if let Some(Expr::Comment(words)) = rule.iter().find(|expr| !expr.is_step()) {
                a.put(7, &comment(words));
            }
        });
    }

    pub(crate) fn delete_rule(&mut self, table: &str, chain: &str, handle: &[u8]) {
        self.message(libc::NFT_MSG_DELRULE, 0, |a| {
            a.str(1, table);
            a.str(2, chain);
            a.put(3, handle);
        });
    }

    /// Makes a set unless it is there.
    pub(crate) fn add_set(&mut self, table: &str, set: &Set) {
        const VERDICT_TYPE: u32 = 0xffff_ff00;
        let number = self.messages.len() as u32 + 1;
        self.message(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, |a| {
            a.str(1, table);
            a.str(2, &set.name);
            a.be32(3, set.flags());
            a.be32(4, type_number(&set.key));
            a.be32(5, set.key_length());
            match &set.holds {
                Holds::Nothing => {}
                Holds::Verdicts => a.be32(6, VERDICT_TYPE),
                Holds::Values(types) => {
                    a.be32(6, type_number(types));
                    a.be32(7, set.data_length());
                }
            }
            if set.ranges || set.dynamic.is_some() {
                a.nest(9, |a| {
                    if let Some(size) = set.dynamic {
                        a.be32(1, size);
                    }
                    if set.ranges {
                        a.nest(2, |a| {
                            for part in &set.key {
                                a.nest(LIST_ELEM, |a| a.be32(1, part.bytes));
                            }
                        });
                    }
                });
            }
            a.be32(10, number);
        });
    }

    pub(crate) fn add_elements<'a>(
        &mut self,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = Element<'a>>,
    ) {
        self.elements(
            libc::NFT_MSG_NEWSETELEM,
            libc::NLM_F_CREATE,
            table,
            set,
            elements,
        );
    }

    pub(crate) fn delete_elements<'a>(
        &mut self,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = Element<'a>>,
    ) {
        self.elements(libc::NFT_MSG_DELSETELEM, 0, table, set, elements);
    }

    /// As many messages as the elements need.
    fn elements<'a>(
        &mut self,
        message: i32,
        flags: i32,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = Element<'a>>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.message(message, flags, |a| {
                a.str(1, table);
                a.str(2, set);
                a.nest(3, |a| {
                    let start = a.position();
                    while a.position() - start < LIST_LIMIT
                        && let Some(element) = elements.next()
                    {
                        a.nest(LIST_ELEM, |a| element.put(a));
                    }
                });
            });
        }
    }

    /// The batch, or its parts if only `room` bytes can be sent at once, each with its begin and end.
    /// It is refused if the rules have changed since `generation`; the later parts do not ask.
    pub(crate) fn parts(&self, generation: Option<u32>, room: usize) -> Vec<Buffer> {
        let whole = self.messages.len();
        if self.bytes() + 64 <= room {
            return vec![self.framed(0..whole, generation)];
        }
        let mut parts = Vec::new();
        let (mut start, mut end) = (0, 0);
        for cut in self.cuts.iter().copied().chain([whole]) {
            let size: usize = (start..cut).map(|i| self.messages.get(i).len()).sum();
            if size + 64 > room && end > start {
                parts.push(self.framed(start..end, generation.filter(|_| start == 0)));
                start = end;
            }
            end = cut;
        }
        if end > start {
            parts.push(self.framed(start..end, generation.filter(|_| start == 0)));
        }
        parts
    }

    fn framed(&self, messages: std::ops::Range<usize>, generation: Option<u32>) -> Buffer {
        const GENERATION: u16 = 1;
        let subsystem = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
        let fixed = [libc::AF_UNSPEC as u8, 0, subsystem[0], subsystem[1]];
        let mut framed = Buffer::new();
        framed.message(libc::NFNL_MSG_BATCH_BEGIN as u16, 0, &fixed, |a| {
            if let Some(generation) = generation {
                a.be32(GENERATION, generation);
            }
        });
        framed.append(&self.messages, messages);
        framed.message(libc::NFNL_MSG_BATCH_END as u16, 0, &fixed, |_| {});
        framed
    }
}

/// Words as `nft` keeps them with a rule: type, length, and text with its end.
fn comment(words: &str) -> Vec<u8> {
    const COMMENT: u8 = 0;
    let length = words.len().min(127);
    let text = words.as_bytes().get(..length).unwrap_or_default();
    [&[COMMENT, length as u8 + 1], text, b"\0"].concat()
}

impl Element<'_> {
    fn put(&self, a: &mut super::Attrs<'_>) {
        const KEY: u16 = 1;
        const DATA: u16 = 2;
        const KEY_END: u16 = 10;
        const VALUE: u16 = 1;
        a.nest(KEY, |a| a.put(VALUE, self.key));
        if let Some(end) = &self.end {
            a.nest(KEY_END, |a| a.put(VALUE, end));
        }
        match &self.value {
            None => {}
            Some(Content::Bytes(bytes)) => a.nest(DATA, |a| a.put(VALUE, bytes)),
            Some(Content::Numbers(numbers)) => {
                let bytes = numbers.map(u32::to_ne_bytes).concat();
                a.nest(DATA, |a| a.put(VALUE, &bytes));
            }
            Some(Content::Verdict(verdict)) => verdict.put(a, DATA),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{Type, Verdict, reg};

    /// Bytes from hexadecimal; what is not a digit is skipped.
    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    #[test]
    fn an_element_with_a_verdict() {
        let mut batch = Batch::new(Family::Ipv4);
        let element = Element {
            key: &[1, 2, 3, 4],
            end: None,
            value: Some(Content::Verdict(Verdict::Goto("c"))),
        };
        batch.add_elements("t", "s", [element]);
        let expected = hex("50000000 0c0a 0104 00000000 00000000 02000000 \
             06000100 74000000 06000200 73000000 2c000380 28000180 \
             0c000180 08000100 01020304 \
             18000280 14000280 08000100 fffffffc 06000200 63000000");
        assert_eq!(batch.messages.get(0), expected);
    }

    #[test]
    fn a_rule_with_a_lookup_and_a_jump() {
        let mut batch = Batch::new(Family::Ipv6);
        let load = Expr::Meta {
            to: reg(0),
            key: 16,
        };
        batch.add_rule("t", "c", &vec![load, Expr::Jump("d".to_owned())]);
        let expected = hex("84000000 060a 010c 00000000 00000000 0a000000 \
             06000100 74000000 06000200 63000000 60000480 \
             24000180 09000100 6d657461 00000000 14000280 08000100 00000008 08000200 00000010 \
             38000180 0e000100 696d6d65 64696174 65000000 24000280 08000100 00000000 \
             18000280 14000280 08000100 fffffffd 06000200 64000000");
        assert_eq!(batch.messages.get(0), expected);
    }

    #[test]
    fn a_map_of_endpoints() {
        let mut batch = Batch::new(Family::Ipv4);
        let set = Set {
            name: "m".to_owned(),
            key: vec![Type::NUMBER, Type::IPV4, Type::PROTOCOL, Type::PORT],
            holds: Holds::Values(vec![Type::IPV4, Type::PORT]),
            ranges: false,
            dynamic: None,
        };
        batch.add_set("t", &set);
        let expected = hex("54000000 090a 0104 00000000 00000000 02000000 \
             06000100 74000000 06000200 6d000000 08000300 00000008 \
             08000400 004c730d 08000500 00000010 08000600 000001cd 08000700 00000008 \
             08000a00 00000001");
        assert_eq!(batch.messages.get(0), expected);
    }

    #[test]
    fn a_batch_that_is_too_large_is_cut_where_it_may_be() {
        let mut batch = Batch::new(Family::Ipv4);
        for name in ["a", "b", "c", "d"] {
            batch.add_table(name);
            if name != "b" {
                batch.may_cut();
            }
        }
        assert_eq!(batch.parts(Some(7), 1 << 20).len(), 1);
        let parts = batch.parts(Some(7), 100);
        // b and c belong together, although they do not fit.
        assert_eq!(parts.iter().map(Buffer::len).collect::<Vec<_>>(), [3, 4, 3]);
        assert_eq!(parts[0].get(0)[20..], hex("08000100 00000007"));
        assert_eq!(
            parts[1].get(0).len(),
            20,
            "only the first part asks for the generation"
        );
    }

    #[test]
    fn long_lists_are_many_messages() {
        let keys: Vec<[u8; 4]> = (0..5000_u32).map(u32::to_be_bytes).collect();
        let mut batch = Batch::new(Family::Ipv4);
        let elements = keys.iter().map(|key| Element {
            key,
            end: None,
            value: None,
        });
        batch.delete_elements("t", "s", elements);
        assert!(batch.messages.len() > 1);
        for index in 0..batch.messages.len() {
            assert!(batch.messages.get(index).len() < 1 << 16);
        }
    }
}
