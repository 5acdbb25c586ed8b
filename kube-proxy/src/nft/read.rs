//! The kernel's rules: reading them, and sending changes.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::socket::SockProtocol;

use super::encode::{fixed, kind};
use super::{Batch, Family};
use crate::netlink::{Buffer, Error, Reply, Socket, attrs, each};

type Result<T> = std::result::Result<T, Error>;

/// `struct nfgenmsg`
const FIXED: usize = 4;
/// How often a list is read again that changed while it was read.
const ATTEMPTS: usize = 20;

/// An element as the kernel lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RawElement<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) end: Option<&'a [u8]>,
    pub(crate) value: RawValue<'a>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RawValue<'a> {
    Nothing,
    Bytes(&'a [u8]),
    Drop,
    Continue,
    Other,
}

/// What is known of a set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct SetFacts {
    pub(crate) flags: u32,
    pub(crate) key_length: u32,
    pub(crate) data_length: u32,
}

impl SetFacts {
    /// Whether the set has the shape that is wanted.
    pub(crate) fn fits(&self, wanted: &super::Set) -> bool {
        const CONSTANT: u32 = 0x02;
        let flags = self.flags & !CONSTANT == wanted.flags();
        let verdicts = wanted.holds == super::Holds::Verdicts;
        flags
            && self.key_length == wanted.key_length()
            && (verdicts || self.data_length == wanted.data_length())
    }
}

/// Requests to nftables of the network namespace in which it was opened.
pub(crate) struct Nft {
    socket: Socket,
}

impl Nft {
    pub(crate) fn open() -> Result<Self> {
        Ok(Self {
            socket: Socket::open(SockProtocol::NetlinkNetFilter)?,
        })
    }

    /// Makes changes. They are refused with ERESTART if rules have changed since `generation`. A batch
    /// that the kernel does not take whole is made in parts.
    pub(crate) fn commit(&mut self, batch: &Batch, generation: Option<u32>) -> Result<()> {
        let room = self.socket.make_room(batch.bytes() + 4096);
        for mut part in batch.parts(generation, room) {
            self.socket.batch(&mut part)?;
        }
        Ok(())
    }

    /// A number that changes with every change of any rule.
    pub(crate) fn generation(&mut self) -> Result<u32> {
        let mut request = Buffer::new();
        request.message(kind(libc::NFT_MSG_GETGEN), 0, &fixed(0), |_| {});
        let mut generation = None;
        self.socket.ask(&mut request, |reply| {
            let found = body(reply);
            generation = generation.or(found.get(&1).and_then(|b| be32(b)));
        })?;
        generation.ok_or(Error::Malformed)
    }

    /// The number that identifies a table as long as it lives; none if there is no such table.
    pub(crate) fn table(&mut self, family: Family, name: &str) -> Result<Option<Vec<u8>>> {
        const HANDLE: u16 = 4;
        let mut request = Buffer::new();
        let message = kind(libc::NFT_MSG_GETTABLE);
        request.message(message, 0, &fixed(family.number()), |a| a.str(1, name));
        let mut handle = None;
        let asked = self.socket.ask(&mut request, |reply| {
            handle = body(reply).get(&HANDLE).map(|b| b.to_vec());
        });
        match asked {
            Ok(()) => Ok(Some(handle.unwrap_or_default())),
            Err(err) if err.errno() == Some(libc::ENOENT) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// The chains of a table.
    pub(crate) fn chains(&mut self, family: Family, table: &str) -> Result<BTreeSet<String>> {
        const NAME: u16 = 3;
        self.list(
            family,
            libc::NFT_MSG_GETCHAIN,
            &[],
            |chains: &mut BTreeSet<_>, found| {
                if is_of(found, table) {
                    chains.extend(text(found, NAME).map(str::to_owned));
                }
            },
        )
    }

    /// The sets of a table by name.
    pub(crate) fn sets(
        &mut self,
        family: Family,
        table: &str,
    ) -> Result<BTreeMap<String, SetFacts>> {
        let of = [(1, table)];
        self.list(
            family,
            libc::NFT_MSG_GETSET,
            &of,
            |sets: &mut BTreeMap<_, _>, found| {
                let number = |kind: u16| found.get(&kind).and_then(|b| be32(b)).unwrap_or(0);
                if let Some(name) = text(found, 2).filter(|_| is_of(found, table)) {
                    let facts = SetFacts {
                        flags: number(3),
                        key_length: number(5),
                        data_length: number(7),
                    };
                    sets.insert(name.to_owned(), facts);
                }
            },
        )
    }

    /// Hands on the elements of a set. `begin` is called first, and again if the list has to be read
    /// anew: what was collected does not count then.
    pub(crate) fn elements<T>(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        begin: impl Fn() -> T,
        mut each: impl FnMut(&mut T, RawElement<'_>),
    ) -> Result<T> {
        const ELEMENTS: u16 = 3;
        let of = [(1, table), (2, set)];
        self.read(
            family,
            libc::NFT_MSG_GETSETELEM,
            &of,
            begin,
            |all, found| {
                for (_, element) in self::each(found.get(&ELEMENTS).copied().unwrap_or_default()) {
                    if let Some(element) = element_of(element) {
                        each(all, element);
                    }
                }
            },
        )
    }

    /// Rules of a table: their chain, their handle, and where they jump or go to.
    pub(crate) fn jumps(
        &mut self,
        family: Family,
        table: &str,
    ) -> Result<Vec<(String, Vec<u8>, String)>> {
        let of = [(1, table)];
        self.list(
            family,
            libc::NFT_MSG_GETRULE,
            &of,
            |rules: &mut Vec<_>, found| {
                let steps = found.get(&4).copied().unwrap_or_default();
                let target = each(steps).find_map(|(_, step)| target_of(step));
                let chain = text(found, 2);
                if let (Some(chain), Some(handle), Some(target)) = (chain, found.get(&3), target) {
                    rules.push((chain.to_owned(), handle.to_vec(), target));
                }
            },
        )
    }

    fn list<T: Default>(
        &mut self,
        family: Family,
        message: i32,
        of: &[(u16, &str)],
        each: impl FnMut(&mut T, &BTreeMap<u16, &[u8]>),
    ) -> Result<T> {
        self.read(family, message, of, T::default, each)
    }

    fn read<T>(
        &mut self,
        family: Family,
        message: i32,
        of: &[(u16, &str)],
        begin: impl Fn() -> T,
        mut each: impl FnMut(&mut T, &BTreeMap<u16, &[u8]>),
    ) -> Result<T> {
        for _ in 0..ATTEMPTS {
            let mut request = Buffer::new();
            request.message(kind(message), 0, &fixed(family.number()), |a| {
                for (attribute, value) in of {
                    a.str(*attribute, value);
                }
            });
            let mut all = begin();
            match self
                .socket
                .dump(&mut request, |reply| each(&mut all, &body(reply)))
            {
                Ok(()) => return Ok(all),
                Err(Error::Interrupted) => {}
                Err(err) => return Err(err),
            }
        }
        Err(Error::Interrupted)
    }
}

fn body<'a>(reply: &Reply<'a>) -> BTreeMap<u16, &'a [u8]> {
    attrs(reply.body.get(FIXED..).unwrap_or_default())
}

fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// Some lists are of all tables.
fn is_of(found: &BTreeMap<u16, &[u8]>, table: &str) -> bool {
    text(found, 1) == Some(table)
}

fn text<'a>(found: &BTreeMap<u16, &'a [u8]>, kind: u16) -> Option<&'a str> {
    let bytes = found.get(&kind)?;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    std::str::from_utf8(bytes).ok()
}

pub(crate) fn element_of(bytes: &[u8]) -> Option<RawElement<'_>> {
    const VALUE: u16 = 1;
    const VERDICT: u16 = 2;
    let found = attrs(bytes);
    let bytes_of = |kind: u16| attrs(found.get(&kind)?).get(&VALUE).copied();
    let value = match found.get(&2).map(|data| attrs(data)) {
        None => RawValue::Nothing,
        Some(data) => match (data.get(&VALUE), data.get(&VERDICT)) {
            (Some(bytes), _) => RawValue::Bytes(bytes),
            (_, Some(verdict)) => verdict_of(verdict),
            _ => RawValue::Other,
        },
    };
    Some(RawElement {
        key: bytes_of(1)?,
        end: bytes_of(10),
        value,
    })
}

fn verdict_of(bytes: &[u8]) -> RawValue<'_> {
    let found = attrs(bytes);
    let code = found.get(&1).and_then(|b| be32(b)).map(|code| code as i32);
    match code {
        Some(libc::NF_DROP) => RawValue::Drop,
        Some(libc::NFT_CONTINUE) => RawValue::Continue,
        _ => RawValue::Other,
    }
}

/// The chain that a step of a rule jumps or goes to.
pub(crate) fn target_of(step: &[u8]) -> Option<String> {
    let found = attrs(step);
    if text(&found, 1) != Some("immediate") {
        return None;
    }
    let immediate = attrs(found.get(&2)?);
    let data = attrs(immediate.get(&2)?);
    let verdict = attrs(data.get(&2)?);
    text(&verdict, 2).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_no_element() {
        assert_eq!(element_of(&[]), None);
        assert_eq!(
            element_of(&[8, 0, 1, 128, 4, 0, 1, 0]).map(|e| e.key.len()),
            Some(0)
        );
        assert_eq!(target_of(&[5, 0, 1, 0, 1]), None);
    }
}
