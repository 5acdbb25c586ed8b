//! A load balancer before several API servers: clients know one address, and a server that is away costs them nothing.
//!
//! It passes TCP on, so that TLS, client certificates and upgrades stay between client and server. A server is asked for
//! `/readyz` all the time, without credentials, as upstream's guide to highly available clusters has it. Connections that
//! stand are left alone when their server is no longer ready: it ends them itself once their requests are answered.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::https::{self, Client};

/// Between two questions to one server.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A server that does not take a connection within this time is passed over.
const CONNECT: Duration = Duration::from_secs(2);

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Https(#[from] https::Error),
    #[error("cannot listen at {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error("cannot serve")]
    Serve(#[source] io::Error),
}

/// Passes connections to `address` on to `servers`, whose certificates `authority` signed, until killed.
///
/// # Errors
/// If it cannot listen or accept.
pub fn run(address: SocketAddr, authority: &Path, servers: &[SocketAddr]) -> Result<(), Error> {
    let listener = TcpListener::bind(address).map_err(|cause| Error::Listen { address, cause })?;
    let client = Client::anonymous(authority)?;
    serve(listener, &client, servers).map_err(Error::Serve)
}

struct Server {
    address: SocketAddr,
    ready: AtomicBool,
}

fn serve(listener: TcpListener, client: &Client, servers: &[SocketAddr]) -> io::Result<()> {
    let server = |address: &SocketAddr| Server {
        address: *address,
        ready: AtomicBool::new(false),
    };
    let servers: Arc<[Server]> = servers.iter().map(server).collect();
    for index in 0..servers.len() {
        let (servers, client) = (Arc::clone(&servers), client.clone());
        thread::spawn(move || watch(&servers[index], &client));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    listener.set_nonblocking(true)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut turn = 0_usize;
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await?;
            // Those that ended need no more room.
            while connections.try_join_next().is_some() {}
            connections.spawn(pass_on(socket, Arc::clone(&servers), turn));
            turn = turn.wrapping_add(1);
        }
    })
}

/// Keeps asking one server whether it is ready.
fn watch(server: &Server, client: &Client) {
    loop {
        let answer = client.get(server.address, "/readyz");
        let ready = answer.is_ok_and(|answer| answer.status == 200);
        server.ready.store(ready, Ordering::Relaxed);
        thread::sleep(LOOK_AGAIN);
    }
}

/// One connection. What goes wrong once it stands is for the two ends to notice.
async fn pass_on(mut client: TcpStream, servers: Arc<[Server]>, turn: usize) {
    let ready: Vec<bool> = servers
        .iter()
        .map(|server| server.ready.load(Ordering::Relaxed))
        .collect();
    for index in order(&ready, turn) {
        let connecting = TcpStream::connect(servers[index].address);
        if let Ok(Ok(mut server)) = tokio::time::timeout(CONNECT, connecting).await {
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}

/// Which servers to try for the connection of this number: the ready ones in turn. The others come last: one may have
/// become ready since it was asked.
fn order(ready: &[bool], turn: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ready.len())
        .map(|step| turn.wrapping_add(step) % ready.len())
        .collect();
    order.sort_by_key(|index| !ready[*index]);
    order
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Instant, SystemTime};

    use http::{Response, StatusCode};

    use super::*;
    use crate::pki::{Names, Pki};
    use crate::registry;
    use crate::serve::{self, Body};

    #[test]
    fn ready_servers_take_turns_and_the_others_come_last() {
        assert_eq!(order(&[true, true, true], 4), [1, 2, 0]);
        assert_eq!(order(&[false, true, true], 3), [1, 2, 0]);
        assert_eq!(order(&[true, false, true], 1), [2, 0, 1]);
        assert_eq!(order(&[false, false], 1), [1, 0]);
        assert_eq!(order(&[], 1), [0; 0]);
    }

    /// A server that tells its number and whether it is ready.
    fn start(pki: &Pki, number: u8, ready: Arc<AtomicBool>) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let tls = registry::tls(&pki.cert("apiserver"), &pki.key("apiserver")).unwrap();
        let answer = move |request: http::Request<bytes::Bytes>| {
            let mut answer = Response::new(Body::Bytes(number.to_string().into()));
            if request.uri() == "/readyz" && !ready.load(Ordering::Relaxed) {
                *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            answer
        };
        thread::spawn(move || serve::serve(listener, Some(Arc::new(tls)), Arc::new(answer)));
        address
    }

    #[test]
    fn a_server_that_is_away_or_not_ready_gets_no_connection() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::ensure(dir.path(), &Names::default(), SystemTime::now()).unwrap();
        let ready = [true, true, false].map(|ready| Arc::new(AtomicBool::new(ready)));
        let mut servers: Vec<SocketAddr> = (0..3)
            .map(|n| start(&pki, n, Arc::clone(&ready[usize::from(n)])))
            .collect();
        // Nobody listens where a listener was.
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        servers.push(gone.local_addr().unwrap());
        drop(gone);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let client = Client::anonymous(&pki.cert("ca")).unwrap();
        let own = client.clone();
        thread::spawn(move || serve(listener, &own, &servers));

        let ask = || {
            let answer = client.get(address, "/").unwrap();
            String::from_utf8(answer.body).unwrap()
        };
        // Nobody was asked yet at first, so the very first may be anyone who answers.
        let seen = |wanted: &[&str]| {
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                let mut answers: Vec<String> = (0..12).map(|_| ask()).collect();
                answers.sort();
                answers.dedup();
                if answers == wanted {
                    return;
                }
                assert!(Instant::now() < deadline, "{answers:?}");
                thread::sleep(LOOK_AGAIN);
            }
        };
        seen(&["0", "1"]);
        ready[0].store(false, Ordering::Relaxed);
        ready[2].store(true, Ordering::Relaxed);
        seen(&["1", "2"]);
    }
}
