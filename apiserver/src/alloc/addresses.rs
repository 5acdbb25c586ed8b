//! Cluster IPs: one `IPAddress` object each.
//!
//! Ranges come from the `ServiceCIDR` objects that are ready, and from the flags until those are there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use proto::catalogue::names as n;
use proto::{Value, meta};
use rand::Rng;
use resources::options::{DeleteOptions, WriteOptions};

use super::families::Family;
use crate::registry::Endpoint;
use crate::registry::generic::Write;
use crate::server::Server;

/// Why an address cannot be had.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("the provided network does not match the current range")]
    OtherNetwork,
    /// What a dry run says of it.
    #[error("the provided IP ({0}) is not in the valid range. The range of valid IPs is {1}")]
    NotInRange(IpAddr, String),
    #[error("provided IP is already allocated")]
    Taken,
    #[error("range is full")]
    Full,
    #[error("allocator not ready")]
    NotReady,
    #[error("{0}")]
    Write(String),
}

/// The addresses of services.
pub struct Addresses {
    /// From `--service-cluster-ip-range`, the primary first.
    configured: Vec<IpNet>,
}

impl Addresses {
    #[must_use]
    pub fn new(ranges: &[IpNet]) -> Self {
        Self {
            configured: ranges.to_vec(),
        }
    }

    /// The families that are configured, the default one first.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        self.configured.iter().map(Family::of).collect()
    }

    /// The ranges of a family that may be given from.
    fn ranges(&self, server: &Server, family: Family) -> Vec<IpNet> {
        let objects = server.objects("networking.k8s.io", "servicecidrs");
        let mut ranges: Vec<IpNet> = objects
            .iter()
            .filter(|cidr| !meta::is_deleting(cidr) && ready(cidr))
            .flat_map(|cidr| {
                cidr.at(&[n::SPEC, n::CIDRS])
                    .and_then(Value::as_list)
                    .unwrap_or_default()
                    .to_vec()
            })
            .filter_map(|text| text.as_str()?.parse().ok())
            .filter(|range| Family::of(range) == family)
            .collect();
        if ranges.is_empty() {
            ranges = self
                .configured
                .iter()
                .filter(|range| Family::of(range) == family)
                .copied()
                .collect();
        }
        ranges
    }

    /// Any free address.
    pub async fn any(
        &self,
        server: &Arc<Server>,
        service: &Value,
        family: Family,
        dry_run: bool,
    ) -> Result<IpAddr, Error> {
        for range in self.ranges(server, family) {
            let range = Range::new(range);
            if dry_run {
                return Ok(range.network);
            }
            for (from, to) in range.bands() {
                for address in from_random(from, to) {
                    let name = address.to_string();
                    if endpoint(server)?.collection.peek(&name).is_some() {
                        continue;
                    }
                    match create(server, service, address, family).await {
                        Ok(()) => return Ok(address),
                        Err(Error::Taken) => {}
                        Err(other) => return Err(other),
                    }
                }
            }
        }
        Err(Error::Full)
    }

    /// This address.
    pub async fn exactly(
        &self,
        server: &Arc<Server>,
        service: &Value,
        family: Family,
        address: IpAddr,
        dry_run: bool,
    ) -> Result<IpAddr, Error> {
        let ranges = self.ranges(server, family);
        if !ranges.iter().any(|r| Range::new(*r).contains(address)) {
            let first = ranges.first().map(ToString::to_string);
            return Err(match dry_run {
                true => Error::NotInRange(address, first.unwrap_or_default()),
                false => Error::OtherNetwork,
            });
        }
        if !dry_run {
            create(server, service, address, family).await?;
        }
        Ok(address)
    }

    /// Gives an address back. Failures are left to the repair loop.
    pub async fn release(&self, server: &Arc<Server>, address: IpAddr) {
        let Ok(endpoint) = endpoint(server) else {
            return;
        };
        let user = crate::auth::loopback();
        let write = own_write(server, endpoint, &user);
        match write
            .delete(&address.to_string(), &DeleteOptions::default())
            .await
        {
            Ok(_) => {}
            Err(failure) if failure.reason() == "NotFound" => {}
            Err(failure) => {
                tracing::warn!(error = %failure, %address, "a cluster IP could not be released")
            }
        }
    }
}

fn ready(cidr: &Value) -> bool {
    let conditions = cidr
        .at(&[n::STATUS, n::CONDITIONS])
        .and_then(Value::as_list)
        .unwrap_or_default();
    conditions.iter().any(|c| {
        c.get(n::TYPE).and_then(Value::as_str) == Some("Ready")
            && c.get(n::STATUS).and_then(Value::as_str) == Some("True")
    })
}

fn endpoint(server: &Server) -> Result<&Endpoint, Error> {
    server
        .registry
        .any_version("networking.k8s.io", "ipaddresses")
        .ok_or(Error::NotReady)
}

fn own_write<'a>(
    server: &'a Arc<Server>,
    endpoint: &'a Endpoint,
    user: &'a crate::auth::User,
) -> Write<'a> {
    Write::new(server, endpoint, user, "", "kube-apiserver")
}

async fn create(
    server: &Arc<Server>,
    service: &Value,
    address: IpAddr,
    family: Family,
) -> Result<(), Error> {
    let user = crate::auth::loopback();
    let write = own_write(server, endpoint(server)?, &user);
    match write
        .create(object(service, address, family), &WriteOptions::default())
        .await
    {
        Ok(_) => Ok(()),
        Err(failure) if failure.reason() == "AlreadyExists" => Err(Error::Taken),
        Err(failure) => Err(Error::Write(failure.message().to_owned())),
    }
}

/// The object of an address.
#[must_use]
pub fn object(service: &Value, address: IpAddr, family: Family) -> Value {
    let mut object = Value::object();
    object.set(&[n::METADATA, n::NAME], address.to_string());
    let labels = object.ensure(&[n::METADATA, n::LABELS]).make_map();
    labels.insert("ipaddress.kubernetes.io/ip-family", family.text());
    labels.insert("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
    object.set(&[n::SPEC, n::PARENT_REF, n::RESOURCE], "services");
    object.set(
        &[n::SPEC, n::PARENT_REF, n::NAMESPACE],
        meta::namespace(service),
    );
    object.set(&[n::SPEC, n::PARENT_REF, n::NAME], meta::name(service));
    object
}

/// The addresses of one range that services may have, as numbers.
struct Range {
    network: IpAddr,
    v4: bool,
    first: u128,
    last: u128,
    size: u128,
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

fn to_address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(n) if v4 => IpAddr::V4(Ipv4Addr::from(n)),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

impl Range {
    /// Without the network's own address, and for IPv4 without the broadcast address.
    fn new(range: IpNet) -> Self {
        let v4 = matches!(range, IpNet::V4(_));
        let (low, high) = (to_number(range.network()), to_number(range.broadcast()));
        let last = if v4 { high.saturating_sub(1) } else { high };
        Self {
            network: range.network(),
            v4,
            first: low + 1,
            last,
            size: high - low + 1,
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.v4 && (self.first..=self.last).contains(&to_number(address))
    }

    /// Addresses below the offset are left to those who ask for one by number (KEP-3070): a 16th of
    /// the range, at least 16 and at most 256.
    fn offset(&self) -> u128 {
        if self.size <= 16 {
            0
        } else {
            (self.size / 16).clamp(16, 256)
        }
    }

    /// The bands in the order in which they are searched.
    fn bands(&self) -> Vec<(IpAddr, IpAddr)> {
        let at = |number| to_address(number, self.v4);
        let split = self.first + self.offset();
        let mut bands = Vec::new();
        if split <= self.last {
            bands.push((at(split), at(self.last)));
        }
        if self.offset() > 0 {
            bands.push((at(self.first), at((split - 1).min(self.last))));
        }
        bands
    }
}

/// All addresses of a band, from a random one on and around.
fn from_random(from: IpAddr, to: IpAddr) -> impl Iterator<Item = IpAddr> {
    let v4 = from.is_ipv4();
    let (low, high) = (to_number(from), to_number(to));
    // A band of 2^64 addresses is as good as endless: 64 bits of start are enough.
    let width = u64::try_from(high - low).unwrap_or(u64::MAX);
    let start = low + u128::from(rand::rng().random_range(0..=width));
    (start..=high)
        .chain(low..start)
        .map(move |number| to_address(number, v4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bands(range: &str) -> Vec<(String, String)> {
        let range = Range::new(range.parse().expect("a range"));
        range
            .bands()
            .into_iter()
            .map(|(a, b)| (a.to_string(), b.to_string()))
            .collect()
    }

    #[test]
    fn the_upper_band_comes_first_and_the_ends_are_never_given() {
        assert_eq!(
            bands("10.96.0.0/16"),
            [
                ("10.96.1.1".into(), "10.96.255.254".into()),
                ("10.96.0.1".into(), "10.96.1.0".into())
            ]
        );
        assert_eq!(
            bands("10.0.0.0/28"),
            [("10.0.0.1".to_owned(), "10.0.0.14".to_owned())]
        );
        assert_eq!(
            bands("fd00::/112")[0],
            ("fd00::101".into(), "fd00::ffff".into())
        );
    }

    #[test]
    fn every_address_of_a_band_comes_once() {
        let (from, to) = (
            "10.0.0.5".parse().expect("ip"),
            "10.0.0.9".parse().expect("ip"),
        );
        let mut all: Vec<IpAddr> = from_random(from, to).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 5);
    }
}
