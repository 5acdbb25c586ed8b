//! Very many who do not say who they are.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::eventually;
use crate::daemon::Daemon;
use crate::wire::Wire;

/// Much longer than an answer takes, and much shorter than what the server gives the silent.
const PATIENCE: Duration = Duration::from_secs(3);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Kilobytes of memory that the server has.
fn memory(api: &Daemon) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", api.pid())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn files(api: &Daemon) -> usize {
    let path = format!("/proc/{}/fd", api.pid());
    std::fs::read_dir(path).unwrap().count()
}

/// Lets this process have so many files open.
fn may_have_files(count: usize) {
    let limit = Command::new("prlimit")
        .arg(format!("--pid={}", std::process::id()))
        .arg(format!("--nofile={count}:"))
        .status();
    assert!(limit.unwrap().success(), "{count} open files");
}

#[tokio::test]
async fn ten_thousand_connections_of_nobody_keep_nobody_waiting() {
    const SILENT: usize = 9_500;
    const ASKING: usize = 500;
    /// Kilobytes that one may cost: its task and what TLS has read so far.
    const EACH: usize = 24;
    may_have_files(SILENT + ASKING + 1_000);
    let api = Daemon::start().await;
    let (port, _) = api.place();
    assert_eq!(api.get(MAPS).await.0, 200);
    let before = (memory(&api), files(&api));
    let mut slowest = Duration::ZERO;
    let mut asked = async || {
        let start = Instant::now();
        assert_eq!(api.get(MAPS).await.0, 200);
        slowest = slowest.max(start.elapsed());
    };
    let mut silent = Vec::new();
    for n in 0..SILENT {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        if n % 500 == 0 {
            asked().await;
        }
    }
    let mut asking = Vec::new();
    for n in 0..ASKING {
        let mut wire = Wire::anonymous(&api).await;
        let head = wire.ask(&format!("GET {MAPS}"), &[], "").await;
        assert!(head.starts_with("http/1.1 403 "), "{head}");
        asking.push(wire);
        if n % 50 == 0 {
            asked().await;
        }
    }
    asked().await;
    assert!(files(&api) >= before.1 + SILENT, "they are there");
    assert!(slowest < PATIENCE, "{slowest:?}");
    let grown = memory(&api).saturating_sub(before.0);
    assert!(grown < (SILENT + ASKING) * EACH, "{grown} kB");
    drop((silent, asking));
    eventually("they are gone", async || files(&api) < before.1 + 50).await;
    assert_eq!(api.get(MAPS).await.0, 200);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// CVE-2023-44487: streams that are opened and given up at once.
#[tokio::test]
async fn a_client_that_gives_up_what_it_asks_for_is_not_worked_for() {
    const STREAMS: u32 = 20_000;
    let api = Daemon::start().await;
    let mut attacker = Wire::http2_anonymous(&api).await;
    let mut head = vec![0x82, 0x87];
    for (index, text) in [(0x04, MAPS), (0x01, "127.0.0.1")] {
        head.push(index);
        head.push(u8::try_from(text.len()).unwrap());
        head.extend(text.as_bytes());
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(0x4, 0, 0, &[]));
    for n in 0..STREAMS {
        let stream = 2 * n + 1;
        bytes.extend(frame(0x1, 0x5, stream, &head));
        bytes.extend(frame(0x3, 0, stream, &8_u32.to_be_bytes()));
    }
    let (mut from, mut to) = tokio::io::split(&mut attacker);
    let mut seen = Vec::new();
    let attack = async {
        // The server hangs up on him.
        let _ = to.write_all(&bytes).await;
        let _ = to.flush().await;
    };
    let farewell = async {
        let _ = from.read_to_end(&mut seen).await;
    };
    let both = async { tokio::join!(attack, farewell) };
    let ended = tokio::time::timeout(Duration::from_secs(20), both).await;
    assert!(ended.is_ok(), "the connection goes on");
    let start = Instant::now();
    assert_eq!(api.get(MAPS).await.0, 200);
    assert!(start.elapsed() < PATIENCE);
    let text = api.text("/metrics").await;
    let refused = text.lines().find_map(|line| {
        let (series, count) = line.split_once("} ")?;
        let is_ours = series.starts_with("apiserver_request_total{code=\"403\"");
        (is_ours && series.contains("verb=\"LIST\"")).then(|| count.parse::<u32>().unwrap())
    });
    let worked_for = refused.unwrap_or(0);
    assert!(worked_for < 1_000, "{worked_for} of {STREAMS}");
}

/// CVE-2020-8552: what clients ask for does not make what the server remembers grow.
#[tokio::test]
async fn what_nobody_serves_leaves_no_trace() {
    let api = Daemon::start().await;
    let series = async || api.text("/metrics").await.lines().count();
    let ask = async |n: usize| {
        let mut wire = Wire::admin(&api).await;
        for line in [
            format!("GET /api/v1/namespaces/default/things{n}"),
            format!("GET /apis/group{n}/v1/things"),
            format!("GET /apis/apps/v{n}/deployments"),
            format!("GET /api/v1/namespaces/default/pods/p/part{n}"),
            format!("GET /api/v1/namespaces/space{n}/configmaps/m{n}"),
            format!("GET /page{n}"),
            format!("VERB{n} /api/v1/namespaces/default/configmaps"),
        ] {
            let agent = format!("User-Agent: agent{n}");
            let mut wire = Wire::admin(&api).await;
            wire.ask(&line, &[&agent, "Connection: close"], "").await;
        }
        let agent = format!("User-Agent: agent{n}");
        let head = wire.ask(&format!("GET {MAPS}"), &[&agent], "").await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
    };
    for n in 0..5 {
        ask(n).await;
    }
    let before = series().await;
    for n in 100..150 {
        ask(n).await;
    }
    let after = series().await;
    assert!(after <= before + 10, "{before} series became {after}");
}
