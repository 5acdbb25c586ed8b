//! Since when the use of legacy service account tokens is written down: the ConfigMap
//! `kube-system/kube-apiserver-legacy-service-account-token-tracking`, from which the controller that removes unused
//! tokens counts. Upstream: `pkg/controlplane/controller/legacytokentracking`.

use proto::Value;
use proto::catalogue::names as n;

use super::{Hook, Own};
use crate::auth::service_account::{self, legacy};

const NAME: &str = "kube-apiserver-legacy-service-account-token-tracking";

pub(super) const HOOK: Hook = Hook {
    name: "start-legacy-token-tracking-controller",
    once: |server| {
        Box::pin(async move {
            let maps = Own::new(&server, "", "configmaps", "kube-system")?;
            let today = legacy::day(service_account::now());
            maps.create_if_absent(since(&today)).await.map(drop)
        })
    },
    keep: None,
    end: None,
};

fn since(day: &str) -> Value {
    let mut map = Value::object();
    map.set(&[n::METADATA, n::NAME], NAME);
    map.set(&[n::METADATA, n::NAMESPACE], "kube-system");
    map.ensure(&[n::DATA]).make_map().insert("since", day);
    map
}
