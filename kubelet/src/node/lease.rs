//! The node's lease: a heartbeat that costs less than the node's status.
//!
//! Source: `k8s.io/component-helpers/apimachinery/lease/controller.go`. The lease is owned by the node,
//! so that it goes with it. It is read only if an update of what was last written fails.

use std::time::Duration;

use component::client::{Api, Client, Error};
use component::supervisor::chain;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use rand::Rng;

const NAMESPACE: &str = "kube-node-lease";
const MOST_TRIES: usize = 5;
const MOST_WAIT: Duration = Duration::from_secs(7);

/// Renews the lease of one node.
pub struct Renewal {
    client: Client,
    leases: Api<Lease>,
    name: String,
    duration: i32,
}

impl Renewal {
    /// `client` should have no rate limit. `duration` is in seconds; a quarter of it lies between two
    /// renewals.
    #[must_use]
    pub fn new(client: Client, name: String, duration: i32) -> Self {
        Self {
            leases: client.namespaced(NAMESPACE),
            client,
            name,
            duration,
        }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let seconds = u64::try_from(self.duration).unwrap_or(40);
        let every = Duration::from_secs(seconds) / 4;
        let mut latest: Option<Lease> = None;
        loop {
            latest = self.renew(latest).await;
            let jitter = 1.0 + rand::rng().random::<f64>() * 0.04;
            tokio::time::sleep(every.mul_f64(jitter)).await;
        }
    }

    async fn renew(&self, latest: Option<Lease>) -> Option<Lease> {
        if let Some(latest) = latest {
            match self.update(latest).await {
                Ok(renewed) => return Some(renewed),
                Err(e) => {
                    tracing::info!(
                        error = chain(&e),
                        "Failed to update lease, reading it again"
                    );
                }
            }
        }
        let (lease, created) = self.ensure().await;
        if created {
            return Some(lease);
        }
        match self.update(lease).await {
            Ok(renewed) => Some(renewed),
            Err(e) => {
                tracing::error!(error = chain(&e), "Failed to update lease");
                None
            }
        }
    }

    /// The lease as it is, made if it is not there. Tries until it has succeeded.
    async fn ensure(&self) -> (Lease, bool) {
        let mut wait = Duration::from_millis(100);
        loop {
            match self.try_ensure().await {
                Ok(ensured) => return ensured,
                Err(e) => {
                    wait = (wait * 2).min(MOST_WAIT);
                    tracing::error!(error = chain(&e), delay = ?wait, "Failed to ensure lease exists, will retry");
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn try_ensure(&self) -> Result<(Lease, bool), Error> {
        if let Some(lease) = self.leases.find(&self.name).await? {
            return Ok((lease, false));
        }
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(NAMESPACE.to_owned()),
                owner_references: Some(vec![self.owner().await?]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.name.clone()),
                lease_duration_seconds: Some(self.duration),
                renew_time: Some(MicroTime(component::clock::now())),
                ..LeaseSpec::default()
            }),
        };
        let created = self.leases.create(&lease).await?;
        Ok((created, true))
    }

    async fn owner(&self) -> Result<OwnerReference, Error> {
        let node = self.client.all::<Node>().get(&self.name).await?;
        Ok(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.name.clone(),
            uid: node.metadata.uid.unwrap_or_default(),
            ..OwnerReference::default()
        })
    }

    async fn update(&self, mut lease: Lease) -> Result<Lease, Error> {
        let mut tries = 0;
        loop {
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = Some(self.name.clone());
            spec.lease_duration_seconds = Some(self.duration);
            spec.renew_time = Some(MicroTime(component::clock::now()));
            if lease
                .metadata
                .owner_references
                .as_ref()
                .is_none_or(Vec::is_empty)
                && let Ok(owner) = self.owner().await
            {
                lease.metadata.owner_references = Some(vec![owner]);
            }
            tries += 1;
            match self.leases.replace(&lease).await {
                Ok(renewed) => return Ok(renewed),
                // Somebody else wrote it: the newest state is asked for first.
                Err(e) if e.is_conflict() && tries < MOST_TRIES => {
                    lease = self.leases.get(&self.name).await?;
                }
                Err(e) if tries >= MOST_TRIES || e.is_not_found() => return Err(e),
                Err(e) => tracing::error!(error = chain(&e), "Failed to update lease"),
            }
        }
    }
}
