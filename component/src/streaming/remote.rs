//! exec and attach: what their streams are called, and the channels that stand for them in a WebSocket.
//!
//! Sources: `k8s.io/apimachinery/pkg/util/remotecommand`, `k8s.io/apiserver/pkg/util/proxy`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::websocket::Channel;

/// The header that says what a stream is for.
pub const STREAM_TYPE: HeaderName = HeaderName::from_static("streamtype");

pub const STDIN: &str = "stdin";
pub const STDOUT: &str = "stdout";
pub const STDERR: &str = "stderr";
pub const ERROR: &str = "error";
pub const RESIZE: &str = "resize";
/// The number of a channel is its place in this list.
const CHANNELS: [&str; 5] = [STDIN, STDOUT, STDERR, ERROR, RESIZE];

/// The protocol of a WebSocket whose client can end its input.
pub const V5: &str = "v5.channel.k8s.io";
pub const V4: &str = "v4.channel.k8s.io";
pub const V3: &str = "v3.channel.k8s.io";
pub const V2: &str = "v2.channel.k8s.io";
pub const V1: &str = "channel.k8s.io";

/// What a stream says about itself when it is opened.
#[must_use]
pub fn headers(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(STREAM_TYPE, HeaderValue::from_static(kind))])
}

/// The channels as a server has them. The client is told that it is connected by an empty message on the first that it reads.
#[must_use]
pub fn channels(stdin: bool, stdout: bool, stderr: bool) -> Vec<Channel> {
    let first = if stdout {
        STDOUT
    } else if stderr {
        STDERR
    } else {
        ERROR
    };
    let channel = |name: &'static str| Channel {
        headers: headers(name),
        read: name == RESIZE || (name == STDIN && stdin),
        write: match name {
            STDOUT => stdout,
            STDERR => stderr,
            other => other == ERROR,
        },
        greeting: (name == first).then(Vec::new),
    };
    CHANNELS.map(channel).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_goes_over_a_websocket_and_the_first_output_is_greeted() {
        let channels = channels(false, false, true);
        let ways: Vec<_> = channels.iter().map(|c| (c.read, c.write)).collect();
        assert_eq!(
            ways,
            [
                (false, false),
                (false, false),
                (false, true),
                (false, true),
                (true, false)
            ]
        );
        let greeted: Vec<_> = channels.iter().map(|c| c.greeting.is_some()).collect();
        assert_eq!(greeted, [false, false, true, false, false]);
    }
}
