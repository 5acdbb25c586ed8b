//! nftables in netlink's words: what kube-proxy needs of it, encoded and read back.
//!
//! Knows tables, chains, rules, sets and their elements, and nothing of Services. Numbers are those of
//! `include/uapi/linux/netfilter/nf_tables.h`.

use crate::netlink::{Attrs, Buffer};

mod encode;
mod expr;
pub(crate) mod read;

pub(crate) use expr::{
    CT_IPV4, CT_IPV6, CT_PORT, CT_STATE, CT_STATUS, Expr, Lookup, META_IIFNAME, META_L4PROTO,
    META_MARK, NETWORK, Rule, TRANSPORT, reg,
};
pub(crate) use read::{Nft, RawElement, RawValue};

/// The address family of a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// Upstream's name, as metrics show it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    pub(crate) fn of(ip: std::net::IpAddr) -> Self {
        if ip.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ipv4 => libc::NFPROTO_IPV4 as u8,
            Self::Ipv6 => libc::NFPROTO_IPV6 as u8,
        }
    }
}

/// Where in netfilter a chain sits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) hook: u32,
    pub(crate) priority: i32,
}

/// A type of key or value, with nft's number for it so that `nft list` prints it well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Type {
    nft: u32,
    bytes: u32,
}

impl Type {
    pub(crate) const IPV4: Self = Self { nft: 7, bytes: 4 };
    pub(crate) const IPV6: Self = Self { nft: 8, bytes: 16 };
    pub(crate) const PROTOCOL: Self = Self { nft: 12, bytes: 1 };
    pub(crate) const PORT: Self = Self { nft: 13, bytes: 2 };
    /// A number in the machine's order.
    pub(crate) const NUMBER: Self = Self { nft: 19, bytes: 4 };

    pub(crate) fn address(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self::IPV4,
            Family::Ipv6 => Self::IPV6,
        }
    }

    fn padded(self) -> u32 {
        self.bytes.next_multiple_of(4)
    }
}

/// What a set holds under its keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Holds {
    Nothing,
    Verdicts,
    Values(Vec<Type>),
}

/// A set or map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) key: Vec<Type>,
    pub(crate) holds: Holds,
    /// The last part of the key is a range.
    pub(crate) ranges: bool,
    /// Rules add elements, which end by themselves; at most so many.
    pub(crate) dynamic: Option<u32>,
}

impl Set {
    pub(crate) fn flags(&self) -> u32 {
        const INTERVAL: u32 = 0x04;
        const MAP: u32 = 0x08;
        const TIMEOUT: u32 = 0x10;
        const EVAL: u32 = 0x20;
        const CONCAT: u32 = 0x80;
        let mut flags = 0;
        if self.holds != Holds::Nothing {
            flags |= MAP;
        }
        if self.ranges {
            flags |= INTERVAL | CONCAT;
        }
        if self.dynamic.is_some() {
            flags |= TIMEOUT | EVAL;
        }
        flags
    }

    pub(crate) fn key_length(&self) -> u32 {
        length(&self.key)
    }

    pub(crate) fn data_length(&self) -> u32 {
        match &self.holds {
            Holds::Values(types) => length(types),
            Holds::Nothing | Holds::Verdicts => 0,
        }
    }
}

/// A concatenation's parts are padded to registers; a lone key is not.
fn length(types: &[Type]) -> u32 {
    match types {
        [one] => one.bytes,
        many => many.iter().map(|t| t.padded()).sum(),
    }
}

/// nft packs the types of a concatenation into one number, 6 bits each.
fn type_number(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, t| number << 6 | t.nft)
}

/// What is done with a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict<'a> {
    Drop,
    /// Goes on in the rule that looked the verdict up.
    Continue,
    Jump(&'a str),
    Goto(&'a str),
}

impl Verdict<'_> {
    fn put(&self, attrs: &mut Attrs<'_>, kind: u16) {
        const DATA_VERDICT: u16 = 2;
        const CODE: u16 = 1;
        const CHAIN: u16 = 2;
        let (code, chain) = match self {
            Self::Drop => (libc::NF_DROP, None),
            Self::Continue => (libc::NFT_CONTINUE, None),
            Self::Jump(chain) => (libc::NFT_JUMP, Some(chain)),
            Self::Goto(chain) => (libc::NFT_GOTO, Some(chain)),
        };
        attrs.nest(kind, |a| {
            a.nest(DATA_VERDICT, |a| {
                a.be32(CODE, code as u32);
                if let Some(chain) = chain {
                    a.str(CHAIN, chain);
                }
            });
        });
    }
}

/// An element of a set, as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) key: &'a [u8],
    /// The end of its range, in sets of ranges.
    pub(crate) end: Option<Vec<u8>>,
    pub(crate) value: Option<Content<'a>>,
}

/// What a map holds under a key, as it is sent.
#[derive(Clone, Debug)]
pub(crate) enum Content<'a> {
    Verdict(Verdict<'a>),
    Bytes(&'a [u8]),
    Numbers([u32; 2]),
}

/// Changes of one family's tables, to be made at once.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    family: Family,
    messages: Buffer,
    /// Before which messages it may be cut, should the kernel not take it whole.
    cuts: Vec<usize>,
}
