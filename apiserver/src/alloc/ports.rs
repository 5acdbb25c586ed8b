//! Node ports: one bit each in one stored object, as upstream keeps them.
//!
//! The object is a `RangeAllocation` at `/registry/ranges/servicenodeports`; its data is the bitmap as
//! the big-endian bytes of Go's `big.Int`. Every change compares the object's revision, so any number
//! of servers, ours and upstream's, share it.

use bytes::Bytes;
use proto::catalogue::messages::core_v1::RANGE_ALLOCATION;
use proto::catalogue::names as n;
use proto::{Value, codec};
use rand::Rng;
use store::Store;
use store::raw::RawError;

/// Below the etcd prefix.
const KEY: &str = "ranges/servicenodeports";

/// Why a port cannot be had.
#[derive(thiserror::Error, Debug)]
pub enum PortError {
    #[error("provided port is not in the valid range. The range of valid ports is {0}")]
    NotInRange(String),
    #[error("provided port is already allocated")]
    Taken,
    #[error("range is full")]
    Full,
    #[error("the stored allocation is of the range {stored}, this server's is {own}")]
    OtherRange { stored: String, own: String },
    #[error("the stored allocation cannot be read: {0}")]
    Unreadable(String),
    #[error("the allocation changed too often, try again")]
    Contended,
    #[error(transparent)]
    Store(#[from] RawError),
}

/// How often a lost race is run again. Each loss means that somebody else's change went through.
const ATTEMPTS: usize = 64;

/// The range of node ports.
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    #[must_use]
    pub fn new((first, last): (u16, u16)) -> Self {
        Self { first, last }
    }

    /// `30000-32767`.
    #[must_use]
    pub fn range_text(&self) -> String {
        format!("{}-{}", self.first, self.last)
    }

    fn size(&self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// Ports below the offset are left to those who ask for one by number (KEP-3668): a 32nd of the
    /// range, at least 16 and at most 128.
    fn band(&self) -> usize {
        if self.size() <= 16 {
            0
        } else {
            (self.size() / 32).clamp(16, 128)
        }
    }

    /// Takes one port.
    pub async fn take(&self, store: &Store, port: u16, dry_run: bool) -> Result<(), PortError> {
        if port < self.first || port > self.last {
            return Err(PortError::NotInRange(self.range_text()));
        }
        let bit = usize::from(port - self.first);
        self.change(store, dry_run, |bits| {
            if bits.get(bit) {
                return Err(PortError::Taken);
            }
            bits.set(bit, true);
            Ok(())
        })
        .await
    }

    /// Takes any free port but those in `except`.
    pub async fn take_any(
        &self,
        store: &Store,
        except: &[u16],
        dry_run: bool,
    ) -> Result<u16, PortError> {
        let (band, size) = (self.band(), self.size());
        let mut found = 0;
        self.change(store, dry_run, |bits| {
            let free = |bit: usize| !bits.get(bit) && !except.contains(&(self.first + bit as u16));
            let bit = search(band, size, &free)
                .or_else(|| search(0, band, &free))
                .ok_or(PortError::Full)?;
            bits.set(bit, true);
            found = bit;
            Ok(())
        })
        .await?;
        Ok(self.first + found as u16)
    }

    /// Gives ports back; ports that are free or outside the range are no error.
    pub async fn release(&self, store: &Store, ports: &[u16]) -> Result<(), PortError> {
        if ports.is_empty() {
            return Ok(());
        }
        self.change(store, false, |bits| {
            for port in ports
                .iter()
                .filter(|p| **p >= self.first && **p <= self.last)
            {
                bits.set(usize::from(*port - self.first), false);
            }
            Ok(())
        })
        .await
    }

    /// Makes exactly these ports taken. For the repair loop.
    pub async fn replace(
        &self,
        store: &Store,
        used: impl Fn(&Bits) -> Bits,
    ) -> Result<(), PortError> {
        self.change(store, false, |bits| {
            *bits = used(bits);
            Ok(())
        })
        .await
    }

    #[must_use]
    pub fn bit(&self, port: u16) -> Option<usize> {
        (self.first..=self.last)
            .contains(&port)
            .then(|| usize::from(port - self.first))
    }

    /// The port of a bit.
    #[must_use]
    pub fn port(&self, bit: usize) -> Option<u16> {
        (bit < self.size()).then(|| self.first + bit as u16)
    }

    async fn change(
        &self,
        store: &Store,
        dry_run: bool,
        mut change: impl FnMut(&mut Bits) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        for _ in 0..ATTEMPTS {
            let stored = store.raw().get(KEY).await.map_err(RawError::from)?;
            let revision = stored.as_ref().map_or(0, |s| s.revision);
            let mut bits = match &stored {
                Some(stored) => self.decode(&stored.value)?,
                None => Bits::default(),
            };
            let before = bits.clone();
            change(&mut bits)?;
            if dry_run || (bits == before && stored.is_some()) {
                return Ok(());
            }
            match store
                .raw()
                .put(KEY, revision, self.encode(&bits), None)
                .await
            {
                Ok(_) => return Ok(()),
                Err(RawError::Conflict(_)) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(PortError::Contended)
    }

    fn decode(&self, value: &[u8]) -> Result<Bits, PortError> {
        let unreadable = |e: codec::DecodeError| PortError::Unreadable(e.to_string());
        let open = codec::protobuf::open(value).map_err(unreadable)?;
        let object = codec::protobuf::decode(open.raw, RANGE_ALLOCATION).map_err(unreadable)?;
        let range = object
            .get(n::RANGE)
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !range.is_empty() && range != self.range_text() {
            return Err(PortError::OtherRange {
                stored: range.to_owned(),
                own: self.range_text(),
            });
        }
        match object.get(n::DATA) {
            Some(Value::Bytes(data)) => Ok(Bits(data.to_vec())),
            _ => Ok(Bits::default()),
        }
    }

    fn encode(&self, bits: &Bits) -> Bytes {
        let mut object = Value::object();
        object.set(&[n::METADATA], Value::object());
        object.set(&[n::RANGE], self.range_text());
        object
            .ensure(&[n::DATA])
            .clone_from(&Value::Bytes(bits.0.clone().into()));
        let mut out = Vec::new();
        codec::protobuf::seal(&object, RANGE_ALLOCATION, "v1", "RangeAllocation", &mut out);
        out.into()
    }
}

/// The first free bit of `[from, to)`, starting at a random place.
fn search(from: usize, to: usize, free: &impl Fn(usize) -> bool) -> Option<usize> {
    if from >= to {
        return None;
    }
    let start = rand::rng().random_range(from..to);
    (start..to).chain(from..start).find(|bit| free(*bit))
}

/// A set of bits as the big-endian bytes of an integer, without leading zeros.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Bits(Vec<u8>);

impl Bits {
    #[must_use]
    pub fn get(&self, bit: usize) -> bool {
        let from_end = bit / 8;
        from_end < self.0.len() && self.0[self.0.len() - 1 - from_end] >> (bit % 8) & 1 == 1
    }

    pub fn set(&mut self, bit: usize, on: bool) {
        let from_end = bit / 8;
        if on && from_end >= self.0.len() {
            let missing = from_end + 1 - self.0.len();
            self.0.splice(0..0, std::iter::repeat_n(0, missing));
        }
        let len = self.0.len();
        if from_end < len {
            let byte = &mut self.0[len - 1 - from_end];
            if on {
                *byte |= 1 << (bit % 8)
            } else {
                *byte &= !(1 << (bit % 8))
            }
        }
        let zeros = self.0.iter().take_while(|b| **b == 0).count();
        self.0.drain(..zeros);
    }

    /// The bits that are set.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 8).filter(|bit| self.get(*bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_bytes_of_gos_big_int() {
        let mut bits = Bits::default();
        bits.set(0, true);
        bits.set(9, true);
        assert_eq!(bits.0, [0x02, 0x01]);
        bits.set(9, false);
        assert_eq!(bits.0, [0x01]);
        bits.set(0, false);
        assert!(bits.0.is_empty());
        assert!(!bits.get(100));
    }

    #[test]
    fn the_static_band_grows_with_the_range() {
        assert_eq!(Ports::new((30000, 32767)).band(), 86);
        assert_eq!(Ports::new((30000, 30015)).band(), 0);
        assert_eq!(Ports::new((30000, 30100)).band(), 16);
        assert_eq!(Ports::new((1, 65535)).band(), 128);
    }

    #[test]
    fn a_range_is_searched_through_whatever_the_start() {
        for _ in 0..100 {
            assert_eq!(search(10, 20, &|b| b == 17), Some(17));
        }
        assert_eq!(search(10, 20, &|b| b == 5), None);
        assert_eq!(search(3, 3, &|_| true), None);
    }
}
