//! What is done inside a pod's network namespace: connecting to its ports, counting its traffic.
//!
//! A socket belongs to the namespace of the thread that makes it, for ever. So a thread is made that
//! enters, makes the socket and ends; no thread of the runtime ever changes sides.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::sandbox::Sandbox;
use super::{Error, at, blocking};
use crate::runtime::sandbox::Network;
use crate::runtime::stats::InterfaceStats;
use crate::runtime::stream::ByteStream;

/// Loopback answers at once or never.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

impl Sandbox {
    pub(super) async fn port_forward(&self, port: u16) -> Result<Box<dyn ByteStream>, Error> {
        self.connection()?;
        let network = self.network()?;
        let failed = move |source| Error::PortForward { port, source };
        let stream = blocking(move || {
            inside(network.as_ref(), move || connect(port))
                .and_then(|s| s)
                .map_err(failed)
        })
        .await?;
        let tokio = || {
            stream.set_nonblocking(true)?;
            tokio::net::TcpStream::from_std(stream)
        };
        Ok(Box::new(tokio().map_err(failed)?))
    }

    /// The pod's network namespace; `None` is the node's.
    fn network(&self) -> Result<Option<File>, Error> {
        let path = match &self.config.network {
            Network::Node => return Ok(None),
            Network::Path(path) => path.clone(),
            Network::Isolated => {
                let pid = self
                    .container_list()
                    .iter()
                    .find_map(|container| container.pid());
                let pid = pid.ok_or_else(|| Error::SandboxNotReady(self.id.clone()))?;
                format!("/proc/{pid}/ns/net").into()
            }
        };
        File::open(&path).map(Some).map_err(at(&path))
    }
}

/// Runs something on a thread of its own inside a network namespace.
fn inside<T: Send>(network: Option<&File>, what: impl FnOnce() -> T + Send) -> io::Result<T> {
    let Some(network) = network else {
        return Ok(what());
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            setns(network, CloneFlags::CLONE_NEWNET)?;
            Ok(what())
        })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

/// IPv4 first, as other runtimes; the error is IPv4's.
fn connect(port: u16) -> io::Result<TcpStream> {
    let to = |ip: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(ip, port), CONNECT_LIMIT);
    to(Ipv4Addr::LOCALHOST.into())
        .or_else(|error| to(Ipv6Addr::LOCALHOST.into()).map_err(|_| error))
}

/// Counters of the pod's interfaces, loopback apart; empty in the node's network.
pub(super) fn interfaces(sandbox: &Sandbox) -> Vec<InterfaceStats> {
    let Ok(Some(network)) = sandbox.network() else {
        return Vec::new();
    };
    // The file is that of the thread's namespace.
    let read = inside(Some(&network), || {
        std::fs::read_to_string("/proc/thread-self/net/dev")
    });
    let text = read.and_then(|text| text).unwrap_or_default();
    text.lines()
        .filter_map(interface)
        .filter(|interface| interface.name != "lo")
        .collect()
}

/// `eth0: bytes packets errs drop fifo frame compressed multicast bytes packets errs ...`
fn interface(line: &str) -> Option<InterfaceStats> {
    let (name, counters) = line.split_once(':')?;
    let counters: Vec<u64> = counters
        .split_whitespace()
        .map_while(|c| c.parse().ok())
        .collect();
    Some(InterfaceStats {
        name: name.trim().to_owned(),
        rx_bytes: *counters.first()?,
        rx_errors: *counters.get(2)?,
        tx_bytes: *counters.get(8)?,
        tx_errors: *counters.get(10)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_as_the_kernel_prints_them() {
        let line = "  eth0: 1500 10 1 0 0 0 0 0 2500 20 2 0 0 0 0 0";
        let expected = InterfaceStats {
            name: "eth0".into(),
            rx_bytes: 1500,
            rx_errors: 1,
            tx_bytes: 2500,
            tx_errors: 2,
        };
        assert_eq!(interface(line), Some(expected));
        assert_eq!(interface("Inter-|   Receive  |  Transmit"), None);
    }
}
