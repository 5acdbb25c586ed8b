//! Informers that all start in one moment, as after a failover: each is sent every object there is.

use std::sync::Arc;

use futures::future::try_join_all;

use super::super::client::{Call, Connection, Error, PROTOBUF_STREAM};
use super::super::load::{Cost, Meter, Target};
use super::super::objects;

/// Informers of one connection: those of one process.
const PER_CONNECTION: usize = 10;
/// In the bookmark that ends the first objects, in any encoding.
const END: &[u8] = b"k8s.io/initial-events-end";

/// Opens them all; what it costs until the last one has seen everything.
pub(super) async fn start_at_once(target: &Target, informers: usize) -> Result<Cost, Error> {
    let processes = informers.div_ceil(PER_CONNECTION);
    let opens = (0..processes).map(|_| Connection::open(target.address, Arc::clone(&target.tls)));
    let connections = try_join_all(opens).await?;
    // What client-go asks for since 1.35.
    let path = format!(
        "{}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan",
        objects::collection("configmaps")
    );
    let meter = Meter::start(target);
    let synced = (0..informers).map(|n| {
        let connection = connections[n / PER_CONNECTION].clone();
        sync(connection, Call::get(path.clone()).accept(PROTOBUF_STREAM))
    });
    let latencies = try_join_all(synced).await?;
    Ok(meter.stop(informers, latencies))
}

async fn sync(mut connection: Connection, call: Call) -> Result<std::time::Duration, Error> {
    let start = std::time::Instant::now();
    let mut tail = Vec::new();
    connection
        .read_until(&call, |data| {
            // The bookmark comes last, so that it is enough to look at the end.
            tail.extend_from_slice(&data[data.len().saturating_sub(512)..]);
            let end = tail.windows(END.len()).any(|window| window == END);
            tail.drain(..tail.len().saturating_sub(512));
            end
        })
        .await?;
    Ok(start.elapsed())
}
