//! The blocks of one address range that nodes get, and which of them are taken.

use std::net::IpAddr;

use ipnet::IpNet;

/// The widest range of IPv6: one bit per block is kept.
const MOST_BITS_V6: u8 = 16;

/// Why a range cannot be used, or a block not be given.
#[derive(thiserror::Error, PartialEq, Eq, Debug)]
pub(super) enum RangeError {
    #[error("mask size {size} of node blocks does not fit into the cluster's range {cluster}")]
    Size { cluster: IpNet, size: u8 },
    #[error("{block} is out of the cluster's range {cluster}")]
    Foreign { block: IpNet, cluster: IpNet },
    #[error("there are no remaining blocks in the cluster's range {0}")]
    Full(IpNet),
}

/// A cluster's range of one family.
#[derive(Debug)]
pub(super) struct Range {
    cluster: IpNet,
    /// Prefix length of a node's block.
    size: u8,
    /// One bit for each block.
    taken: Vec<u64>,
    blocks: u32,
    free: u32,
    /// Where the next search begins: blocks are used again late.
    next: u32,
}

impl Range {
    /// A range of which nothing is taken.
    ///
    /// # Errors
    /// If blocks of that size do not fit.
    pub(super) fn new(cluster: IpNet, size: u8) -> Result<Self, RangeError> {
        let cluster = cluster.trunc();
        let bits = size.checked_sub(cluster.prefix_len());
        let most = match cluster {
            IpNet::V4(_) => 31,
            IpNet::V6(_) => MOST_BITS_V6,
        };
        let bits = bits
            .filter(|bits| *bits <= most && size <= cluster.max_prefix_len())
            .ok_or(RangeError::Size { cluster, size })?;
        let blocks = 1_u32 << bits;
        Ok(Self {
            cluster,
            size,
            taken: vec![0; blocks.div_ceil(64) as usize],
            blocks,
            free: blocks,
            next: 0,
        })
    }

    /// Takes the next free block.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn allocate(&mut self) -> Result<IpNet, RangeError> {
        if self.free == 0 {
            return Err(RangeError::Full(self.cluster));
        }
        let after = self.next..self.blocks;
        let index = after
            .chain(0..self.next)
            .find(|index| !self.is_taken(*index))
            .ok_or(RangeError::Full(self.cluster))?;
        self.set(index, true);
        self.next = (index + 1) % self.blocks;
        Ok(self.block(index))
    }

    /// Marks all blocks as taken that share addresses with this one.
    ///
    /// # Errors
    /// If it is out of the range.
    pub(super) fn occupy(&mut self, block: IpNet) -> Result<(), RangeError> {
        self.mark(block, true)
    }

    /// Gives a block back.
    ///
    /// # Errors
    /// If it is out of the range.
    pub(super) fn release(&mut self, block: IpNet) -> Result<(), RangeError> {
        self.mark(block, false)
    }

    /// Whether it shares addresses with another range.
    #[must_use]
    pub(super) fn overlaps(&self, other: IpNet) -> bool {
        self.cluster.contains(&other.network()) || other.contains(&self.cluster.network())
    }

    fn mark(&mut self, block: IpNet, taken: bool) -> Result<(), RangeError> {
        let (cluster, block) = (self.cluster, block.trunc());
        if !self.overlaps(block) {
            return Err(RangeError::Foreign { block, cluster });
        }
        let (first, last) = if self.cluster.prefix_len() < block.prefix_len() {
            (self.index(block.network()), self.index(block.broadcast()))
        } else {
            (0, self.blocks - 1)
        };
        for index in first..=last {
            self.set(index, taken);
        }
        Ok(())
    }

    fn set(&mut self, index: u32, taken: bool) {
        if self.is_taken(index) == taken {
            return;
        }
        let Some(word) = self.taken.get_mut((index / 64) as usize) else {
            return;
        };
        *word ^= 1 << (index % 64);
        self.free = if taken { self.free - 1 } else { self.free + 1 };
    }

    fn is_taken(&self, index: u32) -> bool {
        let word = self.taken.get((index / 64) as usize);
        word.is_none_or(|word| word >> (index % 64) & 1 == 1)
    }

    /// Bits right of the block's number.
    fn shift(&self) -> u32 {
        u32::from(self.cluster.max_prefix_len() - self.size)
    }

    fn index(&self, ip: IpAddr) -> u32 {
        let offset = number(ip) - number(self.cluster.network());
        let index = offset.checked_shr(self.shift()).unwrap_or(0);
        u32::try_from(index)
            .unwrap_or(u32::MAX)
            .min(self.blocks - 1)
    }

    fn block(&self, index: u32) -> IpNet {
        let offset = u128::from(index).checked_shl(self.shift()).unwrap_or(0);
        let first = number(self.cluster.network()) + offset;
        let ip = match self.cluster {
            IpNet::V4(_) => IpAddr::V4(u32::try_from(first).unwrap_or(u32::MAX).into()),
            IpNet::V6(_) => IpAddr::V6(first.into()),
        };
        IpNet::new(ip, self.size).unwrap_or(self.cluster)
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn blocks_are_given_in_order_and_again_only_when_all_were_used() {
        let mut range = Range::new(net("10.244.0.0/22"), 24).unwrap();
        let given: Vec<_> = (0..4)
            .map(|_| range.allocate().unwrap().to_string())
            .collect();
        assert_eq!(
            given,
            [
                "10.244.0.0/24",
                "10.244.1.0/24",
                "10.244.2.0/24",
                "10.244.3.0/24"
            ]
        );
        assert_eq!(
            range.allocate(),
            Err(RangeError::Full(net("10.244.0.0/22")))
        );
        range.release(net("10.244.1.0/24")).unwrap();
        range.release(net("10.244.1.0/24")).unwrap();
        assert_eq!(range.allocate(), Ok(net("10.244.1.0/24")));
        assert!(range.allocate().is_err());
    }

    #[test]
    fn what_is_occupied_is_not_given() {
        let mut range = Range::new(net("10.244.0.0/16"), 24).unwrap();
        range.occupy(net("10.244.0.0/24")).unwrap();
        range.occupy(net("10.244.1.128/25")).unwrap();
        range.occupy(net("10.244.2.0/23")).unwrap();
        assert_eq!(range.allocate(), Ok(net("10.244.4.0/24")));
        assert!(range.occupy(net("10.0.0.0/24")).is_err());
        range.occupy(net("10.0.0.0/8")).unwrap();
        assert!(range.allocate().is_err());
    }

    #[test]
    fn ranges_of_ipv6_work_likewise() {
        let mut range = Range::new(net("fd00:10:244::/48"), 64).unwrap();
        assert_eq!(range.allocate(), Ok(net("fd00:10:244::/64")));
        range.occupy(net("fd00:10:244:1::/64")).unwrap();
        assert_eq!(range.allocate(), Ok(net("fd00:10:244:2::/64")));
        assert!(Range::new(net("fd00::/32"), 64).is_err());
        assert!(Range::new(net("10.0.0.0/24"), 16).is_err());
        assert!(Range::new(net("0.0.0.0/0"), 32).is_err());
    }
}
