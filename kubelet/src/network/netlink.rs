//! Netlink, blocking: messages, their attributes and a socket. What rtnetlink and nftables share.
//!
//! The kernel does the work inside send(2), waiting for its locks as long as it takes; an
//! asynchronous socket would hide that and block a runtime's worker. Callers run on threads for
//! blocking work. A socket belongs for ever to the network namespace of the thread that opened it.
#![allow(
    unsafe_code,
    reason = "two netlink socket options have no safe wrapper"
)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// Why the kernel did not do it.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("netlink: {0}")]
    Socket(io::Error),
    #[error("{doing}: {source}{text}")]
    Refused {
        doing: String,
        source: io::Error,
        /// What the kernel added in words, if it did.
        text: String,
    },
    #[error("netlink: malformed answer")]
    Malformed,
}

impl Error {
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Socket(source) => source.raw_os_error(),
            Self::Malformed => None,
        }
    }
}

type Result<T> = std::result::Result<T, Error>;

const HEADER: usize = 16;
const NESTED: u16 = 0x8000;

/// The kernel answers at once. Longer than this, it is not going to.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One request under construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// What it does, for errors.
    doing: String,
    bytes: Vec<u8>,
}

impl Message {
    /// A request of this type, with the fixed part that its family puts first.
    pub(super) fn new(doing: impl Into<String>, kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = flags as u16 | libc::NLM_F_REQUEST as u16;
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self {
            doing: doing.into(),
            bytes,
        }
    }

    pub(super) fn attr(mut self, kind: u16, data: &[u8]) -> Self {
        let length = (4 + data.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(data);
        self.pad()
    }

    pub(super) fn u8(self, kind: u16, value: u8) -> Self {
        self.attr(kind, &[value])
    }

    pub(super) fn u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// In network order, as nftables wants its numbers.
    pub(super) fn be32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    pub(super) fn str(self, kind: u16, value: &str) -> Self {
        self.attr(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// An attribute that holds attributes.
    pub(super) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        let mut this = fill(self);
        let length = (this.bytes.len() - start) as u16;
        this.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        this
    }

    /// Raw bytes, for structures inside an attribute.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad()
    }

    fn pad(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn kind(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[4], self.bytes[5]])
    }

    fn finish(mut self, sequence: u32, flags: i32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags as u16;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// One message of an answer.
pub(crate) struct Reply {
    pub(super) kind: u16,
    /// Everything after the netlink header.
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// The attributes after `fixed` bytes of the family's own header.
    pub(crate) fn attrs(&self, fixed: usize) -> BTreeMap<u16, &[u8]> {
        attrs(self.body.get(fixed..).unwrap_or_default())
    }
}

/// Attributes by type; of equal ones the last.
pub(super) fn attrs(mut bytes: &[u8]) -> BTreeMap<u16, &[u8]> {
    let mut found = BTreeMap::new();
    while let [l0, l1, k0, k1, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let kind = u16::from_ne_bytes([k0, k1]) & !NESTED;
        let Some(data) = bytes.get(4..length) else {
            break;
        };
        found.insert(kind, data);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// A netlink socket in the namespace where it was opened.
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    pub(super) fn open(protocol: SockProtocol) -> Result<Self> {
        let made = || {
            let flags = SockFlag::SOCK_CLOEXEC;
            let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            let timeout = TimeVal::new(TIMEOUT.as_secs() as i64, 0);
            setsockopt(&fd, sockopt::ReceiveTimeout, &timeout)?;
            Ok(fd)
        };
        let fd: OwnedFd = made().map_err(|err: nix::Error| Error::Socket(err.into()))?;
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let on: libc::c_int = 1;
            // SAFETY: the option's value is a live int. A kernel that does not know it answers
            // without words, which is no reason to fail.
            unsafe {
                libc::setsockopt(
                    fd.as_raw_fd(),
                    libc::SOL_NETLINK,
                    option,
                    (&raw const on).cast(),
                    size_of_val(&on) as libc::socklen_t,
                );
            }
        }
        Ok(Self { fd, sequence: 0 })
    }

    /// Sends requests at once and waits for all. The first that was refused is the error; those
    /// after it were tried as well.
    pub(super) fn run(&mut self, messages: Vec<Message>) -> Result<()> {
        self.send(messages, libc::NLM_F_ACK).map(drop)
    }

    /// Sends one request and returns what it answers.
    pub(super) fn ask(&mut self, message: Message) -> Result<Vec<Reply>> {
        self.send(vec![message], libc::NLM_F_ACK)
    }

    /// Sends a request for a list.
    pub(super) fn dump(&mut self, message: Message) -> Result<Vec<Reply>> {
        self.send(vec![message], libc::NLM_F_DUMP)
    }

    fn send(&mut self, messages: Vec<Message>, flags: i32) -> Result<Vec<Reply>> {
        let mut waiting = BTreeMap::new();
        let mut bytes = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            // The begin and end of a batch are not answered.
            let flags = if message.kind() < 0x20 && message.kind() >= 0x10 && is_batch(&message) {
                0
            } else {
                waiting.insert(self.sequence, message.doing.clone());
                flags
            };
            bytes.extend(message.finish(self.sequence, flags));
        }
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())
            .map_err(|err| Error::Socket(err.into()))?;
        self.receive(waiting)
    }

    fn receive(&self, mut waiting: BTreeMap<u32, String>) -> Result<Vec<Reply>> {
        let mut buffer = vec![0; 64 * 1024];
        let (mut replies, mut refused) = (Vec::new(), None);
        while !waiting.is_empty() {
            let n = match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(nix::Error::EINTR) => continue,
                other => other.map_err(|err| Error::Socket(err.into()))?,
            };
            let mut rest = &buffer[..n];
            while !rest.is_empty() {
                let (sequence, reply, next) = split(rest).ok_or(Error::Malformed)?;
                rest = next;
                match (i32::from(reply.kind), waiting.get(&sequence)) {
                    // Left over from a request that was given up.
                    (_, None) => {}
                    (libc::NLMSG_ERROR | libc::NLMSG_DONE, Some(doing)) => {
                        if let Some(err) = verdict(&reply, doing) {
                            refused.get_or_insert(err);
                        }
                        waiting.remove(&sequence);
                    }
                    _ => replies.push(reply),
                }
            }
        }
        refused.map_or(Ok(replies), Err)
    }
}

/// `NFNL_MSG_BATCH_BEGIN` and `_END` share their numbers with messages of rtnetlink; their fixed
/// part names the subsystem.
fn is_batch(message: &Message) -> bool {
    matches!(message.kind(), 0x10 | 0x11) && message.bytes.len() == HEADER + 4
}

pub(crate) fn split(bytes: &[u8]) -> Option<(u32, Reply, &[u8])> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let length = word(0)? as usize;
    let body = bytes.get(HEADER..length)?.to_vec();
    let kind = word(4)? as u16;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((word(8)?, Reply { kind, body }, rest))
}

/// The error that an acknowledgement tells, if it tells one.
pub(crate) fn verdict(reply: &Reply, doing: &str) -> Option<Error> {
    const EXT_ACK_TEXT: u16 = 1;
    let code = i32::from_ne_bytes(reply.body.get(..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    let words = attrs(reply.body.get(4 + HEADER..).unwrap_or_default());
    let text = words.get(&EXT_ACK_TEXT).map_or(String::new(), |text| {
        format!(
            " ({})",
            String::from_utf8_lossy(text).trim_end_matches('\0')
        )
    });
    let source = io::Error::from_raw_os_error(code.saturating_neg());
    Some(Error::Refused {
        doing: doing.to_owned(),
        source,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let message = Message::new("x", 3, 0, &[])
            .str(1, "ab")
            .nest(2, |m| m.u8(3, 7));
        let bytes = message.finish(9, 0);
        assert_eq!(bytes.len(), 16 + 8 + 4 + 8);
        let found = attrs(&bytes[16..]);
        assert_eq!(found[&1], b"ab\0");
        assert_eq!(attrs(found[&2])[&3], [7]);
    }

    #[test]
    fn garbage_has_no_attributes() {
        assert!(attrs(&[1, 0, 0, 0]).is_empty());
        assert!(attrs(&[200, 0, 1, 0, 5]).is_empty());
        assert!(split(&[0; 10]).is_none());
        assert!(split(&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
    }

    #[test]
    fn a_refusal_names_what_was_asked() {
        let mut socket = Socket::open(SockProtocol::NetlinkRoute).unwrap();
        let fixed = [0; 16];
        let message = Message::new("look for nobody", libc::RTM_GETLINK, 0, &fixed)
            .str(libc::IFLA_IFNAME, "nobody0");
        let err = socket.ask(message).map(drop).unwrap_err();
        assert_eq!(err.errno(), Some(libc::ENODEV));
        assert!(err.to_string().starts_with("look for nobody: "), "{err}");
    }
}
