//! A netlink socket, and what its answers mean.
#![allow(
    unsafe_code,
    reason = "netlink's socket options and forced buffer sizes have no safe wrapper"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockopt, recv,
    send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::Error;
use super::message::{Buffer, HEADER, attrs};

type Result<T> = std::result::Result<T, Error>;

/// The kernel answers at once. Longer than this, it is not going to.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Room for the errors of a batch in which everything is wrong, and for long lists.
const RECEIVE_BUFFER: i32 = 4 << 20;

/// One message of an answer.
pub(crate) struct Reply<'a> {
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
    /// Everything after the netlink header.
    pub(crate) body: &'a [u8],
}

/// A netlink socket in the namespace where it was opened.
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(crate) fn open(protocol: SockProtocol) -> Result<Self> {
        let made = || {
            let flags = SockFlag::SOCK_CLOEXEC;
            let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            let timeout = TimeVal::new(TIMEOUT.as_secs() as i64, 0);
            setsockopt(&fd, sockopt::ReceiveTimeout, &timeout)?;
            Ok(fd)
        };
        let fd: OwnedFd = made().map_err(|err: nix::Error| Error::Socket(err.into()))?;
        let socket = Self {
            fd,
            sequence: 0,
            buffer: vec![0; 64 << 10],
        };
        // A kernel that does not know one of these answers without words, or in smaller portions.
        socket.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        socket.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        socket.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER);
        Ok(socket)
    }

    fn option(&self, level: i32, name: i32, value: libc::c_int) -> bool {
        // SAFETY: the option's value is a live int of the size that is given.
        let done = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            )
        };
        done == 0
    }

    /// Makes room to send `bytes` at once, beyond the system's limit if the process may. How much
    /// can be sent at once.
    pub(crate) fn make_room(&self, bytes: usize) -> usize {
        // The kernel charges its own bookkeeping as well.
        let wanted = i32::try_from(bytes.saturating_mul(2)).unwrap_or(i32::MAX / 2);
        let room = || getsockopt(&self.fd, sockopt::SndBuf).unwrap_or(0);
        if room() < bytes.saturating_mul(2) {
            self.option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, wanted);
        }
        room() / 2
    }

    /// Sends requests and waits until each is done. The first that was refused is the error; those
    /// after it were tried as well.
    pub(crate) fn run(&mut self, requests: &mut Buffer) -> Result<()> {
        self.ask(requests, |_| {})
    }

    /// Sends requests, and hands on what they answer.
    pub(crate) fn ask(
        &mut self,
        requests: &mut Buffer,
        each: impl FnMut(&Reply<'_>),
    ) -> Result<()> {
        for index in 0..requests.len() {
            requests.flag(index, libc::NLM_F_ACK);
        }
        let last = requests.len().saturating_sub(1);
        self.exchange(requests, last, each)
    }

    /// Sends one request for a list, and hands on its entries.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if entries may be missing because the list changed.
    pub(crate) fn dump(
        &mut self,
        request: &mut Buffer,
        each: impl FnMut(&Reply<'_>),
    ) -> Result<()> {
        request.flag(0, libc::NLM_F_DUMP);
        self.exchange(request, 0, each)
    }

    /// Sends a batch whose first and last message are its begin and end. Its last message but one is
    /// asked to be acknowledged: the kernel sends that after all errors.
    pub(crate) fn batch(&mut self, batch: &mut Buffer) -> Result<()> {
        let last = batch.len().saturating_sub(2);
        batch.flag(last, libc::NLM_F_ACK);
        self.exchange(batch, last, |_| {})
    }

    /// Sends, and receives until message `last` was answered.
    fn exchange(
        &mut self,
        messages: &mut Buffer,
        last: usize,
        mut each: impl FnMut(&Reply<'_>),
    ) -> Result<()> {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(messages.len() as u32);
        messages.number(first);
        self.send(messages.bytes())?;
        let mut refused = None;
        let mut interrupted = false;
        loop {
            let received = self.receive()?;
            let mut rest = self.buffer.get(..received).unwrap_or_default();
            while !rest.is_empty() {
                let (reply, next) = split(rest).ok_or(Error::Malformed)?;
                rest = next;
                let index = reply.sequence.wrapping_sub(first) as usize;
                if index >= messages.len() {
                    continue; // left over from a request that was given up
                }
                interrupted |= i32::from(reply.flags) & libc::NLM_F_DUMP_INTR != 0;
                if !matches!(i32::from(reply.kind), libc::NLMSG_ERROR | libc::NLMSG_DONE) {
                    each(&reply);
                    continue;
                }
                if let Some((source, text)) = verdict(&reply) {
                    let kind = messages.kind(index);
                    refused.get_or_insert(Error::Refused {
                        index,
                        kind,
                        source,
                        text,
                    });
                    // A batch that is refused as a whole is answered at its begin, and no further.
                    if index == 0 {
                        return refused.map_or(Ok(()), Err);
                    }
                }
                if index == last {
                    return match refused {
                        Some(refused) => Err(refused),
                        None if interrupted => Err(Error::Interrupted),
                        None => Ok(()),
                    };
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        loop {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Err(nix::Error::EINTR) => {}
                other => {
                    return other.map(drop).map_err(|err| Error::Socket(err.into()));
                }
            }
        }
    }

    fn receive(&mut self) -> Result<usize> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(nix::Error::EINTR) => {}
                other => return other.map_err(|err| Error::Socket(err.into())),
            }
        }
    }
}

pub(crate) fn split(bytes: &[u8]) -> Option<(Reply<'_>, &[u8])> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let length = word(0)? as usize;
    let kind_and_flags = word(4)?.to_ne_bytes();
    let reply = Reply {
        kind: u16::from_ne_bytes([kind_and_flags[0], kind_and_flags[1]]),
        flags: u16::from_ne_bytes([kind_and_flags[2], kind_and_flags[3]]),
        sequence: word(8)?,
        body: bytes.get(HEADER..length)?,
    };
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((reply, rest))
}

/// The error that an acknowledgement tells, if it tells one.
pub(crate) fn verdict(reply: &Reply<'_>) -> Option<(io::Error, String)> {
    const EXT_ACK_TEXT: u16 = 1;
    let code = i32::from_ne_bytes(reply.body.get(..4)?.try_into().ok()?);
    if code >= 0 {
        return None;
    }
    let words = attrs(reply.body.get(4 + HEADER..).unwrap_or_default());
    let text = words.get(&EXT_ACK_TEXT).map_or(String::new(), |text| {
        let text = String::from_utf8_lossy(text);
        format!(" ({})", text.trim_end_matches('\0'))
    });
    Some((io::Error::from_raw_os_error(code.saturating_neg()), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_request() {
        let mut socket = Socket::open(SockProtocol::NetlinkRoute).unwrap();
        let mut requests = Buffer::new();
        requests.message(libc::RTM_GETLINK, 0, &[0; 16], |a| {
            a.str(libc::IFLA_IFNAME, "lo");
        });
        let mut links = 0;
        socket.ask(&mut requests, |_| links += 1).unwrap();
        assert_eq!(links, 1);
        let mut requests = Buffer::new();
        for name in ["lo", "nobody0"] {
            requests.message(libc::RTM_GETLINK, 0, &[0; 16], |a| {
                a.str(libc::IFLA_IFNAME, name);
            });
        }
        let err = socket.run(&mut requests).unwrap_err();
        assert_eq!(err.errno(), Some(libc::ENODEV));
        assert!(matches!(err, Error::Refused { index: 1, .. }), "{err}");
    }

    #[test]
    fn a_list_ends() {
        let mut socket = Socket::open(SockProtocol::NetlinkRoute).unwrap();
        let mut request = Buffer::new();
        request.message(libc::RTM_GETLINK, 0, &[0; 16], |_| {});
        let mut links = 0;
        socket.dump(&mut request, |_| links += 1).unwrap();
        assert!(links >= 1);
    }

    #[test]
    fn garbage_is_no_reply() {
        assert!(split(&[0; 10]).is_none());
        assert!(split(&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
    }
}
