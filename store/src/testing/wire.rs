//! A wire between a store and its etcd that a test can cut.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Etcd;
use crate::etcd::Config;

/// Forwards connections while it is whole.
pub struct Wire {
    address: SocketAddr,
    whole: Arc<watch::Sender<bool>>,
    /// Held by every open connection.
    open: Arc<watch::Sender<usize>>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A wire to this etcd.
    ///
    /// # Panics
    /// When no port is free.
    #[allow(clippy::disallowed_methods, reason = "test code without a supervisor")]
    pub async fn to(etcd: &Etcd) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let target = etcd.address();
        let whole = Arc::new(watch::Sender::new(true));
        let open = Arc::new(watch::Sender::new(0));
        let (state, count) = (Arc::clone(&whole), Arc::clone(&open));
        let task = tokio::spawn(async move {
            loop {
                let Ok((mut near, _)) = listener.accept().await else {
                    continue;
                };
                let mut state = state.subscribe();
                if !*state.borrow_and_update() {
                    continue;
                }
                let count = Arc::clone(&count);
                count.send_modify(|n| *n += 1);
                tokio::spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(target).await {
                        // A wire delays nothing.
                        let _ = (near.set_nodelay(true), far.set_nodelay(true));
                        tokio::select! {
                            _ = copy_bidirectional(&mut near, &mut far) => {}
                            _ = state.changed() => {}
                        }
                    }
                    drop(near);
                    count.send_modify(|n| *n -= 1);
                });
            }
        });
        Self {
            address,
            whole,
            open,
            task,
        }
    }

    /// Breaks all connections and refuses new ones. Nothing goes through once this returns.
    ///
    /// # Panics
    /// Never: the sender is this wire's.
    pub async fn cut(&self) {
        self.whole.send_replace(false);
        self.open
            .subscribe()
            .wait_for(|n| *n == 0)
            .await
            .expect("the sender lives");
    }

    pub fn mend(&self) {
        self.whole
            .send_if_modified(|whole| !std::mem::replace(whole, true));
    }

    /// The way to etcd through this wire.
    #[must_use]
    pub fn config(&self) -> Config {
        let servers = vec![format!("http://{}", self.address)];
        Config {
            servers,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}
