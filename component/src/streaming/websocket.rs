//! WebSocket (RFC 6455) with Kubernetes' subprotocols: numbered channels, one byte before each message,
//! plain or in base64; messages to the client alone; and SPDY tunnelled through it.
//!
//! The framing is ours: it is small, and messages are passed on as they arrive, so that no message has
//! to fit into memory.

mod channels;
mod frame;
mod message;
mod one_way;
mod tunnel;

pub use channels::{Channel, Protocol, channels};
pub use one_way::{Form, one_way};
pub use tunnel::tunnel;

/// Which side of the connection this is: clients mask what they send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Server,
    Client,
}

/// Answers to the peer's pings that wait to be written; a peer that makes more of them floods.
const ANSWERS: usize = 128;
/// A normal end.
const NORMAL: u16 = 1000;
