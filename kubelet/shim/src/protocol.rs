//! The messages between kubelet, shim and helper.
//!
//! A frame is a little-endian `u32` length of what follows, a `u16` kind, a `u32` request id, a `u8`
//! number of descriptors, and the body: the fields in order. The descriptors travel with the frame's
//! first byte; their meaning is given by the message.
//!
//! Invariants, because a shim outlives the kubelet that started it:
//! - Kinds and fields are only ever added, fields at the end. A reader takes a missing tail as default
//!   values and ignores a tail that it does not know; an unknown kind is answered with [`Failed`].
//! - Requests have ids above zero and get one answer with the same id: the request's own answer,
//!   [`Done`] or [`Failed`]. Events have id zero.
//! - [`VERSION`] grows with every change of meaning; [`Hello`] tells the shim's.

use std::fmt;

/// Version of the protocol as described by this file.
pub const VERSION: u32 = 1;

/// No frame is larger: command lines are limited by the kernel's `ARG_MAX` (2 MiB), the rest is small.
pub const MAX_FRAME: usize = 4 << 20;

/// Length, kind, id, number of descriptors.
pub const HEADER: usize = 11;

/// No message carries more descriptors.
pub const MAX_FDS: usize = 4;

/// Descriptors that a helper finds open, beside its standard streams.
pub mod helper_fd {
    /// The socket for [`Created`](super::Created) and [`Failed`](super::Failed).
    pub const REPORT: i32 = 3;
    pub const NET: i32 = 10;
    pub const IPC: i32 = 11;
    pub const UTS: i32 = 12;
    /// The PID namespace to join: shared by the pod, or of a target container.
    pub const PID: i32 = 13;
    pub const USER: i32 = 14;
}

/// The bytes are not a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed message")
    }
}

impl std::error::Error for Malformed {}

/// A value with a form on the wire.
pub trait Wire: Default {
    fn put(&self, to: &mut Vec<u8>);
    /// Takes the value from the front of `from`.
    ///
    /// # Errors
    /// If the bytes are cut short or not of this type.
    fn take(from: &mut &[u8]) -> Result<Self, Malformed>;
}

/// A message: a value with a kind.
pub trait Message: Wire {
    const KIND: u16;

    /// The whole frame, with which this many descriptors go.
    fn frame(&self, id: u32, fds: usize) -> Vec<u8> {
        debug_assert!(fds <= MAX_FDS, "no message has more");
        let mut frame = vec![0; 4];
        frame.extend_from_slice(&Self::KIND.to_le_bytes());
        frame.extend_from_slice(&id.to_le_bytes());
        frame.push(fds as u8);
        self.put(&mut frame);
        let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame
    }

    /// # Errors
    /// If the body is not of this message.
    fn parse(mut body: &[u8]) -> Result<Self, Malformed> {
        Self::take(&mut body)
    }
}

/// A received frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub kind: u16,
    pub id: u32,
    /// How many descriptors came with it.
    pub fds: usize,
    pub body: Vec<u8>,
}

impl Frame {
    /// Cuts the first frame off `buffer`; `None` until all of it is there.
    ///
    /// # Errors
    /// If no frame begins like this. The connection cannot be used any more.
    pub fn cut(buffer: &mut Vec<u8>) -> Result<Option<Self>, Malformed> {
        let Some(length) = buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let end = 4 + u32::from_le_bytes(*length) as usize;
        if !(HEADER..=MAX_FRAME).contains(&end) {
            return Err(Malformed);
        }
        if buffer.len() < end {
            return Ok(None);
        }
        let kind = u16::from_le_bytes([buffer[4], buffer[5]]);
        let id = u32::from_le_bytes([buffer[6], buffer[7], buffer[8], buffer[9]]);
        let fds = usize::from(buffer[10]);
        if fds > MAX_FDS {
            return Err(Malformed);
        }
        let body = buffer[HEADER..end].to_vec();
        buffer.drain(..end);
        Ok(Some(Self {
            kind,
            id,
            fds,
            body,
        }))
    }
}

macro_rules! integers {
    ($($int:ty)*) => {$(
        impl Wire for $int {
            fn put(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }
            fn take(from: &mut &[u8]) -> Result<Self, Malformed> {
                let (bytes, rest) = from.split_first_chunk().ok_or(Malformed)?;
                *from = rest;
                Ok(Self::from_le_bytes(*bytes))
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 i32 i64);

impl Wire for bool {
    fn put(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }

    fn take(from: &mut &[u8]) -> Result<Self, Malformed> {
        Ok(u8::take(from)? != 0)
    }
}

/// A length, then that many bytes.
fn take_counted<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = u32::take(from)? as usize;
    let (bytes, rest) = from.split_at_checked(length).ok_or(Malformed)?;
    *from = rest;
    Ok(bytes)
}

fn put_length(length: usize, to: &mut Vec<u8>) {
    u32::try_from(length).unwrap_or(u32::MAX).put(to);
}

impl Wire for String {
    fn put(&self, to: &mut Vec<u8>) {
        put_length(self.len(), to);
        to.extend_from_slice(self.as_bytes());
    }

    fn take(from: &mut &[u8]) -> Result<Self, Malformed> {
        let bytes = take_counted(from)?;
        Self::from_utf8(bytes.to_vec()).map_err(|_| Malformed)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, to: &mut Vec<u8>) {
        put_length(self.len(), to);
        for item in self {
            item.put(to);
        }
    }

    fn take(from: &mut &[u8]) -> Result<Self, Malformed> {
        // Grown item by item: a false count ends at the end of the bytes.
        (0..u32::take(from)?).map(|_| T::take(from)).collect()
    }
}

/// A struct that is encoded field by field; with `= kind` it is a message.
macro_rules! wire {
    ($($(#[$doc:meta])* $name:ident $(= $kind:literal)? { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        #[allow(unreachable_pub, reason = "used by tests inside functions, too")]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }

        impl Wire for $name {
            fn put(&self, to: &mut Vec<u8>) {
                let start = to.len();
                to.extend_from_slice(&[0; 4]);
                $(self.$field.put(to);)*
                let length = u32::try_from(to.len() - start - 4).unwrap_or(u32::MAX);
                to[start..start + 4].copy_from_slice(&length.to_le_bytes());
            }

            #[allow(unused_mut, reason = "messages without fields")]
            fn take(from: &mut &[u8]) -> Result<Self, Malformed> {
                let mut _fields = take_counted(from)?;
                $(let $field = if _fields.is_empty() { Default::default() } else { <$type>::take(&mut _fields)? };)*
                Ok(Self { $($field,)* })
            }
        }

        $(impl Message for $name { const KIND: u16 = $kind; })?
    )*};
}

wire! {
    /// First message of a connection, and its answer.
    Hello = 1 {
        version: u32,
        /// Of the answer: the shim's process.
        pid: u32,
    }

    /// Hands the helper's sealed image over (1 descriptor). Sent on every connection, so that a new
    /// kubelet's helper takes the place of the old one's.
    SetHelper = 2 {}

    /// Makes the pod's namespaces; once per shim. Carries a descriptor of the network namespace if
    /// `network` is [`NETWORK_GIVEN`].
    MakeSandbox = 3 {
        network: u8,
        /// Whether to make IPC and UTS namespaces, or leave the node's.
        new_ipc: bool,
        new_uts: bool,
        hostname: String,
        /// Runs a process that holds and reaps a PID namespace for all containers.
        share_pid: bool,
        /// Name with dots, value.
        sysctls: Vec<Pair>,
        /// `cgroup.procs` files that the holder of the PID namespace joins.
        pause_cgroups: Vec<String>,
        /// A descriptor of a user namespace comes along, after the network's: all namespaces are made
        /// in it and belong to it.
        user: bool,
    }

    /// A name and a value.
    Pair {
        name: String,
        value: String,
    }

    /// Creates and starts a container. Answered with [`Started`] once its program was executed.
    Start = 4 {
        id: String,
        /// The container's directory: the exit record goes there, and what the helper keeps.
        dir: String,
        /// The OCI specification.
        spec: String,
        /// The compiled seccomp filter; empty for none.
        seccomp: String,
        log: Log,
        stdin: bool,
        stdin_once: bool,
        tty: bool,
        /// The directory of its cgroup in which `memory.oom_control` (v1) or `memory.events` (v2) is.
        memory_cgroup: String,
        /// Join the PID namespace of this container.
        pid_of: String,
    }

    /// Where output goes.
    Log {
        /// Empty: nowhere.
        path: String,
        /// Bytes; 0 means no rotation.
        max_size: u64,
        /// With the current one.
        max_files: u32,
    }

    /// Answer to [`Start`] and [`Exec`]. An exec's carries the terminal (1 descriptor) if it has one.
    Started = 5 {
        pid: u32,
        /// Nanoseconds since 1970.
        at: i64,
    }

    /// Sends a signal to the container's first process, or SIGKILL to all of its cgroup. A container
    /// that is not running is left alone.
    Kill = 6 {
        id: String,
        signal: i32,
        all: bool,
    }

    /// Runs a command in a container. Carries stdin, stdout, stderr, as far as they are set.
    Exec = 7 {
        id: String,
        /// Chosen by the client, unique within the shim's life.
        exec: u64,
        spec: String,
        seccomp: String,
        args: Vec<String>,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
        width: u16,
        height: u16,
    }

    /// Signals a command and its session.
    KillExec = 8 {
        exec: u64,
        signal: i32,
    }

    /// Connects streams to a container's. Carries those that are set.
    Attach = 9 {
        id: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    }

    /// Resizes a container's terminal.
    Resize = 10 {
        id: String,
        width: u16,
        height: u16,
    }

    /// Opens a container's log file anew.
    ReopenLog = 11 {
        id: String,
    }

    /// Asks for [`Containers`].
    List = 12 {}

    /// Drops what the shim knows about a container that has ended.
    Forget = 13 {
        id: String,
    }

    /// Ends the shim. Refused while containers run.
    Shutdown = 14 {}

    /// Answer to requests that have nothing to tell.
    Done = 15 {}

    /// Answer to a request that failed, and a helper's last word.
    Failed = 16 {
        message: String,
    }

    /// Answer to [`List`].
    Containers = 17 {
        all: Vec<ContainerState>,
    }

    /// One container; `exit` counts if it has ended.
    ContainerState {
        id: String,
        pid: u32,
        started_at: i64,
        ended: bool,
        exit: Exit,
    }

    /// How a container ended.
    Exit {
        /// Of the process; 128 + signal if one killed it.
        code: i32,
        /// 0 if it was none.
        signal: i32,
        /// Whether a process of the container was killed for memory.
        oom: bool,
        /// Nanoseconds since 1970.
        started_at: i64,
        finished_at: i64,
        /// Why it could not be started; empty if it was.
        start_error: String,
        /// Nobody saw how it ended: its shim was gone. Written by the kubelet.
        lost: bool,
    }

    /// Event to all clients: a container ended. Its output is in the log and the exit on disk.
    Exited = 100 {
        id: String,
        exit: Exit,
    }

    /// Event to all clients: the kernel killed a process of the container for memory.
    OutOfMemory = 101 {
        id: String,
    }

    /// Event to the client that started it: a command ended.
    ExecExited = 102 {
        exec: u64,
        code: i32,
    }

    /// Event to all clients: a container's program runs. Whoever asked for it may be gone.
    Running = 103 {
        id: String,
        pid: u32,
        at: i64,
    }

    /// Helper to shim: the process exists. Carries the terminal (1 descriptor) if it has one.
    Created = 200 {
        pid: u32,
    }

    /// Helper to shim: the cause of the failure that may follow; the first counts.
    Detail = 201 {
        message: String,
    }
}

/// Values of [`MakeSandbox::network`]: the node's, a fresh one, the one that comes along.
pub const NETWORK_NODE: u8 = 0;
pub const NETWORK_NEW: u8 = 1;
pub const NETWORK_GIVEN: u8 = 2;

#[cfg(test)]
mod tests;
