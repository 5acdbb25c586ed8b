//! Client certificates, verified once a minute and not once a request.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use component::serving::{ClientCa, Connection, Untrusted, User};
use parking_lot::Mutex;

/// How long a verified chain is believed: a replaced CA or an expired certificate shows after that.
const BELIEVED: Duration = Duration::from_secs(60);
/// How many chains are remembered; a cluster's components and users use far fewer.
const REMEMBERED: usize = 4096;

/// Users by the chain that names them, each until it must be verified again.
type Known = HashMap<Box<[u8]>, (User, Instant)>;

/// The authenticator of client certificates.
pub struct Certificates {
    ca: ClientCa,
    known: Mutex<Known>,
}

impl Certificates {
    #[must_use]
    pub fn new(ca: ClientCa) -> Self {
        Self {
            ca,
            known: Mutex::default(),
        }
    }

    /// The user that a connection's certificate names; none if it sent none.
    ///
    /// # Errors
    /// If the certificate is not to be trusted. Refusals are not remembered.
    pub fn user(&self, connection: &Connection) -> Result<Option<User>, Untrusted> {
        let Some(tls) = connection.tls.as_ref().filter(|t| !t.chain.is_empty()) else {
            return Ok(None);
        };
        let chain: Box<[u8]> = if let [leaf] = tls.chain.as_slice() {
            leaf.as_ref().into()
        } else {
            tls.chain
                .iter()
                .flat_map(|c| c.as_ref().iter().copied())
                .collect()
        };
        let now = Instant::now();
        if let Some((user, until)) = self.known.lock().get(&chain)
            && *until > now
        {
            self.ca.count(tls);
            return Ok(Some(user.clone()));
        }
        let user = self.ca.user(connection)?;
        if let Some(user) = &user {
            let mut known = self.known.lock();
            if known.len() >= REMEMBERED {
                known.retain(|_, (_, until)| *until > now);
            }
            if known.len() < REMEMBERED {
                known.insert(chain, (user.clone(), now + BELIEVED));
            }
        }
        Ok(user)
    }
}
