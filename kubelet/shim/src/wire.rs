//! Bytes and descriptors over a Unix stream socket.
#![allow(unsafe_code, reason = "sendmsg and recvmsg with descriptors")]

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::protocol::{Frame, MAX_FDS, Malformed};

/// Room for the control message of [`MAX_FDS`] descriptors, aligned as `cmsghdr` needs it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends bytes, and descriptors along with the first of them; returns how many bytes were taken.
///
/// # Errors
/// Those of `sendmsg`; `WouldBlock` if nothing was taken.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    assert!(fds.len() <= MAX_FDS, "no message has more");
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; 64]);
    // SAFETY: msghdr is plain data for which all zeros is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let length = fds.len() * size_of::<RawFd>();
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: plain arithmetic; `Control` holds CMSG_SPACE of MAX_FDS descriptors.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(length as u32) } as usize;
        // SAFETY: the control buffer is aligned and large enough for the header and the descriptors.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(length as u32) as usize;
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            for (index, fd) in fds.iter().enumerate() {
                ptr::write_unaligned(data.add(index), fd.as_raw_fd());
            }
        }
    }
    // SAFETY: the message points to live buffers.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Sends all bytes over a blocking socket.
///
/// # Errors
/// Those of `sendmsg`.
pub fn send_all(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        match send(socket, &bytes[sent..], if sent == 0 { fds } else { &[] }) {
            Ok(more) => sent += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What arrived on a socket and was not taken yet.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Receives once; returns how many bytes came, 0 at the end of the stream.
    ///
    /// # Errors
    /// Those of `recvmsg`; `WouldBlock` if nothing is there.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut bytes = [0_u8; 8192];
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        let mut control = Control([0; 64]);
        // SAFETY: msghdr is plain data for which all zeros is valid.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        // SAFETY: the message points to live buffers of the lengths given.
        let got =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel filled the control buffer and set its length.
        unsafe { self.take_fds(&message) };
        self.bytes.extend_from_slice(&bytes[..got]);
        Ok(got)
    }

    /// # Safety
    /// `message` must have been filled by `recvmsg`, with its control buffer still alive.
    unsafe fn take_fds(&mut self, message: &libc::msghdr) {
        // SAFETY: by the caller's promise the headers are the kernel's and lie within the buffer.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_SOCKET
                    && (*header).cmsg_type == libc::SCM_RIGHTS
                {
                    let length = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                    let data = libc::CMSG_DATA(header).cast::<RawFd>();
                    for index in 0..length / size_of::<RawFd>() {
                        let fd = ptr::read_unaligned(data.add(index));
                        self.fds.push_back(OwnedFd::from_raw_fd(fd));
                    }
                }
                header = libc::CMSG_NXTHDR(message, header);
            }
        }
    }

    /// The next whole frame, if there is one, with its descriptors.
    ///
    /// # Errors
    /// If the bytes are not the protocol's, or descriptors did not come.
    pub fn next_frame(&mut self) -> Result<Option<(Frame, Vec<OwnedFd>)>, Malformed> {
        let Some(frame) = Frame::cut(&mut self.bytes)? else {
            return Ok(None);
        };
        if self.bytes.is_empty() {
            self.bytes = Vec::new(); // an idle connection holds nothing
        }
        if self.fds.len() < frame.fds {
            return Err(Malformed);
        }
        let fds = self.fds.drain(..frame.fds).collect();
        Ok(Some((frame, fds)))
    }

    /// The next descriptor that came, for senders who do not speak the protocol.
    pub fn next_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::protocol::{Attach, Done, Message};

    #[test]
    fn descriptors_arrive_in_order_with_their_frame() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut one, one_end) = io::pipe().unwrap();
        let (mut two, two_end) = io::pipe().unwrap();
        let attach = Attach {
            id: "c".into(),
            stdout: true,
            stderr: true,
            ..Attach::default()
        };
        send_all(
            here.as_fd(),
            &attach.frame(1, 2),
            &[one_end.as_fd(), two_end.as_fd()],
        )
        .unwrap();
        send_all(here.as_fd(), &Done {}.frame(2, 0), &[]).unwrap();
        drop((here, one_end, two_end));

        let mut inbox = Inbox::default();
        while inbox.receive(there.as_fd()).unwrap() > 0 {}
        let (frame, fds) = inbox.next_frame().unwrap().unwrap();
        assert_eq!(Attach::parse(&frame.body), Ok(attach));
        for (fd, text) in fds.into_iter().zip(["one", "two"]) {
            File::from(fd).write_all(text.as_bytes()).unwrap();
        }
        let (frame, fds) = inbox.next_frame().unwrap().unwrap();
        assert_eq!((frame.id, fds.len()), (2, 0));
        let mut text = String::new();
        one.read_to_string(&mut text).unwrap();
        two.read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetwo");
    }
}
