use std::future::poll_fn;
use std::sync::Arc;

use futures::FutureExt;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use super::*;

impl Transport for TlsStream<DuplexStream> {
    fn sealing(&mut self) -> Option<&mut ServerConnection> {
        let session = self.get_mut().1;
        (session.alpn_protocol() == Some(b"h2")).then_some(session)
    }
}

type Server = Gather<TlsStream<DuplexStream>>;
type Client = client::TlsStream<DuplexStream>;

/// A server and its client, who speak this protocol through a pipe that takes so much: no less than what follows a handshake.
async fn pair(pipe: usize, protocol: &str) -> (Server, Client) {
    let (here, there) = tokio::io::duplex(pipe);
    let made = rcgen::generate_simple_self_signed(["server".to_owned()]).unwrap();
    let cert = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    server.alpn_protocols = vec![protocol.into()];
    client.alpn_protocols = vec![protocol.into()];
    let accepts = TlsAcceptor::from(Arc::new(server)).accept(here);
    let connects =
        TlsConnector::from(Arc::new(client)).connect("server".try_into().unwrap(), there);
    let (server, mut client) = tokio::join!(accepts, connects);
    // The tickets that follow a handshake are not what the tests look at.
    let _ = client.as_mut().unwrap().read(&mut [0; 1]).now_or_never();
    (Gather::new(server.unwrap()), client.unwrap())
}

/// A turn of a connection's task that has nothing to read.
fn turn(io: &mut Server) {
    let mut byte = [0];
    assert!(io.read(&mut byte).now_or_never().is_none());
}

#[tokio::test]
async fn what_is_written_in_one_turn_leaves_at_the_next() {
    let (mut io, mut peer) = pair(1 << 20, "h2").await;
    let mut seen = [0; 16];
    for part in ["one ", "two"] {
        io.write_all(part.as_bytes()).await.unwrap();
        io.flush().await.unwrap();
    }
    assert!(peer.read(&mut seen).now_or_never().is_none());
    turn(&mut io);
    let read = peer.read(&mut seen).await.unwrap();
    assert_eq!(&seen[..read], b"one two", "in one record");
    assert_eq!(io.held.capacity(), 0, "a quiet connection holds nothing");
}

#[tokio::test]
async fn a_flush_brings_the_task_back() {
    let (mut io, mut peer) = pair(1 << 20, "h2").await;
    let task = async move {
        let mut byte = [0];
        io.write_all(b"answer").await.unwrap();
        poll_fn(|cx| {
            let read = Pin::new(&mut io).poll_read(cx, &mut ReadBuf::new(&mut byte));
            ready!(Pin::new(&mut io).poll_flush(cx)).unwrap();
            read
        })
        .await
    };
    let client = async move {
        let mut seen = [0; 6];
        peer.read_exact(&mut seen).await.unwrap();
        peer.shutdown().await.unwrap();
        seen
    };
    let (read, seen) = tokio::join!(task, client);
    read.unwrap();
    assert_eq!(&seen, b"answer");
}

#[tokio::test]
async fn full_records_leave_in_one_call_and_only_the_rest_is_held() {
    let (mut io, mut peer) = pair(1 << 20, "h2").await;
    let frame = vec![b'x'; RECORD + 9];
    for n in 1..=3 {
        assert_eq!(io.write(&frame).await.unwrap(), frame.len());
        assert_eq!(io.held.len(), 9 * n);
        assert_eq!(io.sealed, n * (RECORD + OVERHEAD));
        io.flush().await.unwrap();
    }
    let mut seen = vec![0; 4 * frame.len()];
    assert!(peer.read(&mut seen).now_or_never().is_none(), "not yet");
    turn(&mut io);
    assert_eq!((io.sealed, io.held.capacity()), (0, 0));
    peer.read_exact(&mut seen[..3 * frame.len()]).await.unwrap();
    assert!(seen[..3 * frame.len()].iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn what_is_more_than_the_room_arrives_in_order_through_a_narrow_pipe() {
    for most in [1, 700, 7000, 16_393, 120_000] {
        let (mut io, mut peer) = pair(1000, "h2").await;
        let len = if most == 1 { 3_000 } else { 300_000 };
        let sent: Vec<u8> = (0..len).map(|at: u32| (at % 251) as u8).collect();
        let all = sent.clone();
        let writer = async move {
            for part in all.chunks(most) {
                let (head, body) = part.split_at(part.len() / 3);
                let mut parts = [IoSlice::new(head), IoSlice::new(body)];
                let mut parts = &mut parts[..];
                IoSlice::advance_slices(&mut parts, 0);
                while !parts.is_empty() {
                    let written = io.write_vectored(parts).await.unwrap();
                    assert!(written > 0);
                    assert!(io.held.len() < RECORD && io.sealed <= ROOM, "bounded");
                    IoSlice::advance_slices(&mut parts, written);
                }
                io.flush().await.unwrap();
                // The pipe is narrow, so that some of these are due and cannot pass.
                let _ = io.read(&mut [0]).now_or_never();
            }
            io.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let reader = async {
            let mut part = [0; 5000];
            while got.len() < sent.len() {
                let read = peer.read(&mut part).await.unwrap();
                got.extend_from_slice(&part[..read]);
            }
        };
        let ((), ()) = tokio::join!(writer, reader);
        assert!(got == sent, "in pieces of {most}");
    }
}

#[tokio::test]
async fn a_flush_that_meets_a_full_pipe_goes_on_when_there_is_room() {
    let (mut io, mut peer) = pair(1000, "h2").await;
    let sent = [b'x'; 3500];
    io.write_all(&sent).await.unwrap();
    io.flush().await.unwrap();
    turn(&mut io);
    assert!(io.due, "not all of it can have left");
    let mut seen = Vec::new();
    let mut part = [0; 1000];
    while seen.len() < sent.len() {
        if let Some(read) = peer.read(&mut part).now_or_never() {
            seen.extend_from_slice(&part[..read.unwrap()]);
        }
        turn(&mut io);
        // Without a pause the runtime lets nothing more happen in one turn of the test.
        tokio::task::yield_now().await;
    }
    assert_eq!(seen, sent);
    assert!(!io.due);
}

#[tokio::test]
async fn others_are_passed_through() {
    let (mut io, mut peer) = pair(1000, "http/1.1").await;
    io.write_all(b"at once").await.unwrap();
    let mut seen = [0; 7];
    peer.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"at once");
}
