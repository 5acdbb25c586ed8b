//! Parsers that are private to this crate, as functions over bytes: for the fuzz targets and for nobody else.

use crate::elements::{Dispatch, SetId};
use crate::netlink::{attrs, split, verdict};
use crate::{conntrack, nft, routes};

/// Reads an answer of the kernel as one of nftables, of conntrack and of routes; how much of it means something.
#[must_use]
pub fn netlink_answer(mut bytes: &[u8]) -> usize {
    let mut known = 0;
    while let Some((reply, rest)) = split(bytes) {
        bytes = rest;
        known += usize::from(verdict(&reply).is_some());
        known += usize::from(routes::route(&reply).is_some());
        let found = attrs(reply.body.get(4..).unwrap_or_default());
        known += found
            .values()
            .filter(|tuple| conntrack::sides(tuple).is_some())
            .count();
        known += usize::from(nft::read::target_of(reply.body).is_some());
        known += usize::from(nft::read::element_of(reply.body).is_some());
    }
    known
}

/// The name of a set or of a chain, read and written again.
#[must_use]
pub fn set_name(name: &str) -> Option<String> {
    SetId::parse(name).map(SetId::name)
}

/// The same of a chain that hands on to endpoints.
#[must_use]
pub fn chain_name(name: &str) -> Option<String> {
    Dispatch::parse(name).map(|chain| chain.name())
}
