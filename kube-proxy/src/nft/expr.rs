//! The steps of a rule.

use super::{Family, Verdict};
use crate::netlink::Attrs;

/// A rule's steps, in order.
pub(crate) type Rule = Vec<Expr>;

/// The 32-bit register `n`, of 16. An IPv6 address takes four.
pub(crate) const fn reg(n: u32) -> u32 {
    8 + n
}

/// What a step does with what a set holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Lookup {
    /// Goes on if the key is there.
    In,
    /// Goes on if it is not.
    NotIn,
    /// Puts the value in a register.
    Value(u32),
    /// Does what the map says.
    Verdict,
}

/// A step of a rule. Fields are registers unless they say otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Expr {
    Meta {
        to: u32,
        key: u32,
    },
    SetMark {
        from: u32,
    },
    Payload {
        to: u32,
        base: u32,
        offset: u32,
        length: u32,
    },
    /// `register = (register & mask) ^ xor`
    Bitwise {
        register: u32,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Compare {
        register: u32,
        equal: bool,
        value: Vec<u8>,
    },
    Lookup {
        set: String,
        key: u32,
        what: Lookup,
    },
    /// A random number below `below`.
    Random {
        to: u32,
        below: u32,
    },
    /// The connection's state or status.
    Connection {
        to: u32,
        key: u32,
    },
    /// What the connection's first packet was sent to, before it was translated.
    FirstSentTo {
        to: u32,
        key: u32,
    },
    /// The type of the source's or destination's address.
    AddressType {
        to: u32,
        source: bool,
    },
    /// Adds an element to a dynamic map, or makes the one that is there last longer.
    Remember {
        map: String,
        key: u32,
        value: u32,
        seconds: u32,
    },
    Destination {
        family: Family,
        address: u32,
        port: u32,
    },
    Masquerade,
    Reject {
        family: Family,
    },
    Drop,
    Jump(String),
    /// Not a step: words for those who list the rules.
    Comment(&'static str),
}

pub(crate) const META_MARK: u32 = 3;
pub(crate) const META_IIFNAME: u32 = 6;
pub(crate) const META_L4PROTO: u32 = 16;
pub(crate) const CT_STATE: u32 = 0;
pub(crate) const CT_STATUS: u32 = 2;
pub(crate) const CT_PORT: u32 = 12;
pub(crate) const CT_IPV4: u32 = 20;
pub(crate) const CT_IPV6: u32 = 22;
pub(crate) const NETWORK: u32 = 1;
pub(crate) const TRANSPORT: u32 = 2;

const DATA_VALUE: u16 = 1;
const VERDICT_REGISTER: u32 = 0;

impl Expr {
    /// The kernel's name of the step.
    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } | Self::SetMark { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::Bitwise { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::Lookup { .. } => "lookup",
            Self::Random { .. } => "numgen",
            Self::Connection { .. } | Self::FirstSentTo { .. } => "ct",
            Self::AddressType { .. } => "fib",
            Self::Remember { .. } => "dynset",
            Self::Destination { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Reject { .. } => "reject",
            Self::Drop | Self::Jump(_) => "immediate",
            Self::Comment(_) => "",
        }
    }

    /// Whether it does anything.
    pub(super) fn is_step(&self) -> bool {
        !matches!(self, Self::Comment(_))
    }

    pub(super) fn put(&self, a: &mut Attrs<'_>) {
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        a.str(NAME, self.name());
        a.nest(DATA, |a| self.fill(a));
    }

    fn fill(&self, a: &mut Attrs<'_>) {
        let verdict = |a: &mut Attrs<'_>, verdict: Verdict<'_>| {
            a.be32(1, VERDICT_REGISTER);
            verdict.put(a, 2);
        };
        match self {
            Self::Meta { to, key } => numbers(a, &[(1, *to), (2, *key)]),
            Self::SetMark { from } => numbers(a, &[(2, META_MARK), (3, *from)]),
            Self::Payload {
                to,
                base,
                offset,
                length,
            } => numbers(a, &[(1, *to), (2, *base), (3, *offset), (4, *length)]),
            Self::Bitwise {
                register,
                mask,
                xor,
            } => {
                numbers(a, &[(1, *register), (2, *register), (3, mask.len() as u32)]);
                value(a, 4, mask);
                value(a, 5, xor);
            }
            Self::Compare {
                register,
                equal,
                value: with,
            } => {
                numbers(a, &[(1, *register), (2, u32::from(!equal))]);
                value(a, 3, with);
            }
            Self::Lookup { set, key, what } => lookup(a, set, *key, what),
            Self::Random { to, below } => {
                const RANDOM: u32 = 1;
                numbers(a, &[(1, *to), (2, *below), (3, RANDOM), (4, 0)]);
            }
            Self::Connection { to, key } => numbers(a, &[(1, *to), (2, *key)]),
            Self::FirstSentTo { to, key } => {
                const ORIGINAL: u8 = 0;
                numbers(a, &[(1, *to), (2, *key)]);
                a.u8(3, ORIGINAL);
            }
            Self::AddressType { to, source } => {
                const RESULT_TYPE: u32 = 3;
                numbers(
                    a,
                    &[(1, *to), (2, RESULT_TYPE), (3, if *source { 1 } else { 2 })],
                );
            }
            Self::Remember {
                map,
                key,
                value,
                seconds,
            } => {
                const UPDATE: u32 = 1;
                a.str(1, map);
                numbers(a, &[(3, UPDATE), (4, *key), (5, *value)]);
                a.be64(6, u64::from(*seconds) * 1000);
            }
            Self::Destination {
                family,
                address,
                port,
            } => {
                const TO_DESTINATION: u32 = 1;
                const ADDRESS_AND_PORT: u32 = 3;
                numbers(a, &[(1, TO_DESTINATION), (2, family.number().into())]);
                numbers(a, &[(3, *address), (4, *address), (5, *port), (6, *port)]);
                a.be32(7, ADDRESS_AND_PORT);
            }
            Self::Masquerade => {
                const FULLY_RANDOM: u32 = 16;
                a.be32(1, FULLY_RANDOM);
            }
            Self::Reject { family } => {
                const ICMP: u32 = 0;
                a.be32(1, ICMP);
                // Port unreachable, which ends a TCP connect with ECONNREFUSED as well.
                a.u8(2, if *family == Family::Ipv4 { 3 } else { 4 });
            }
            Self::Drop => verdict(a, Verdict::Drop),
            Self::Jump(chain) => verdict(a, Verdict::Jump(chain)),
            Self::Comment(_) => {}
        }
    }
}

fn numbers(a: &mut Attrs<'_>, numbers: &[(u16, u32)]) {
    for (kind, number) in numbers {
        a.be32(*kind, *number);
    }
}

fn value(a: &mut Attrs<'_>, kind: u16, value: &[u8]) {
    a.nest(kind, |a| a.put(DATA_VALUE, value));
}

fn lookup(a: &mut Attrs<'_>, set: &str, key: u32, what: &Lookup) {
    const INVERT: u32 = 1;
    a.str(1, set);
    a.be32(2, key);
    match what {
        Lookup::In => {}
        Lookup::NotIn => a.be32(5, INVERT),
        Lookup::Value(register) => a.be32(3, *register),
        Lookup::Verdict => a.be32(3, VERDICT_REGISTER),
    }
}
