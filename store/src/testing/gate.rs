//! Encryption that encrypts nothing, by a key service that a test opens, shuts and sends away.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::sync::watch;

use crate::entry::{Opened, TransformError, Transformer};

/// What the key service does when a value is to be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Service {
    #[default]
    Open,
    /// It does not answer.
    Shut,
    /// It refuses.
    Away,
}

/// A transformer whose key service obeys the test. It seals without asking.
#[derive(Default)]
pub struct Gate(watch::Sender<Service>);

impl Gate {
    /// One that does not answer yet.
    #[must_use]
    pub fn shut() -> Self {
        Self(watch::Sender::new(Service::Shut))
    }

    /// Everything that waits is opened, and all that comes.
    pub fn open(&self) {
        self.0.send_replace(Service::Open);
    }

    /// From now on values wait.
    pub fn close(&self) {
        self.0.send_replace(Service::Shut);
    }

    /// From now on values cannot be opened.
    pub fn leave(&self) {
        self.0.send_replace(Service::Away);
    }

    /// Waits until a value waits.
    pub async fn waited_for(&self) {
        let start = tokio::time::Instant::now();
        while self.0.receiver_count() == 0 {
            assert!(start.elapsed().as_secs() < 20, "nobody opens anything");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

impl Transformer for Gate {
    fn open<'a>(
        &'a self,
        _: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Opened, TransformError>> {
        async move {
            let mut service = self.0.subscribe();
            // The sender lives as long as this.
            let _ = service.wait_for(|s| *s != Service::Shut).await;
            if *service.borrow() == Service::Away {
                let reason = "the key service is away".to_owned();
                return Err(TransformError { reason });
            }
            Ok(Opened {
                value,
                stale: false,
            })
        }
        .boxed()
    }

    fn seal<'a>(
        &'a self,
        _: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, TransformError>> {
        ready(Ok(value)).boxed()
    }
}
