//! The schemas and levels that every cluster has: two that must be there as they are, and suggestions.
//!
//! Upstream: `apis/flowcontrol/bootstrap/default.go`.

use proto::catalogue::names as n;
use proto::{Value, meta};

use component::serving::User;

/// The level of those who never wait, and of those for whom nothing else is said.
pub const EXEMPT: &str = "exempt";
pub const CATCH_ALL: &str = "catch-all";

/// Says whether the server keeps the object as it wants it.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// A level: its shares, what it lends in percent; queues, hand size and queue length, if it has queues.
struct LevelRow {
    name: &'static str,
    shares: i64,
    lendable: i64,
    queuing: Option<[i64; 3]>,
}

const fn queued(
    name: &'static str,
    shares: i64,
    lendable: i64,
    queues: i64,
    hand: i64,
) -> LevelRow {
    LevelRow {
        name,
        shares,
        lendable,
        queuing: Some([queues, hand, 50]),
    }
}

const MANDATORY_LEVELS: &[LevelRow] = &[
    LevelRow {
        name: CATCH_ALL,
        shares: 5,
        lendable: 0,
        queuing: None,
    },
    LevelRow {
        name: EXEMPT,
        shares: 0,
        lendable: 0,
        queuing: None,
    },
];

const SUGGESTED_LEVELS: &[LevelRow] = &[
    queued("system", 30, 33, 64, 6),
    queued("node-high", 40, 25, 64, 6),
    queued("leader-election", 10, 0, 16, 4),
    queued("workload-high", 40, 50, 128, 6),
    queued("workload-low", 100, 90, 128, 6),
    queued("global-default", 20, 50, 128, 6),
];

/// Who asks.
#[derive(Clone, Copy)]
enum Who {
    Groups(&'static [&'static str]),
    Users(&'static [&'static str]),
    /// All service accounts of `kube-system`.
    SystemAccounts,
}

/// What is asked for: verbs, group, resources; not of namespaces only if `cluster`.
struct What {
    verbs: &'static [&'static str],
    group: &'static str,
    resources: &'static [&'static str],
    cluster: bool,
}

struct SchemaRow {
    name: &'static str,
    level: &'static str,
    precedence: i64,
    by: Option<&'static str>,
    who: &'static [Who],
    what: &'static [What],
    /// Verbs and paths.
    paths: Option<(&'static [&'static str], &'static [&'static str])>,
}

const ANY: &[&str] = &["*"];
const ANYTHING: &[What] = &[What {
    verbs: ANY,
    group: "*",
    resources: ANY,
    cluster: true,
}];
const EVERYBODY: &[Who] = &[Who::Groups(&[User::UNAUTHENTICATED, User::AUTHENTICATED])];
const NODES: &[Who] = &[Who::Groups(&["system:nodes"])];
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

/// A schema of everything that somebody asks for.
const fn all_of(
    name: &'static str,
    level: &'static str,
    precedence: i64,
    by: Option<&'static str>,
    who: &'static [Who],
) -> SchemaRow {
    SchemaRow {
        name,
        level,
        precedence,
        by,
        who,
        what: ANYTHING,
        paths: Some((ANY, ANY)),
    }
}

const BY_USER: Option<&str> = Some("ByUser");
const BY_NAMESPACE: Option<&str> = Some("ByNamespace");

const MANDATORY_SCHEMAS: &[SchemaRow] = &[
    all_of(EXEMPT, EXEMPT, 1, None, &[Who::Groups(&[User::MASTERS])]),
    all_of(CATCH_ALL, CATCH_ALL, 10_000, BY_USER, EVERYBODY),
];

const SUGGESTED_SCHEMAS: &[SchemaRow] = &[
    all_of("system-nodes", "system", 500, BY_USER, NODES),
    SchemaRow {
        name: "system-node-high",
        level: "node-high",
        precedence: 400,
        by: BY_USER,
        who: NODES,
        what: &[
            What {
                verbs: ANY,
                group: "",
                resources: &["nodes", "nodes/status"],
                cluster: true,
            },
            What {
                verbs: ANY,
                group: "coordination.k8s.io",
                resources: &["leases"],
                cluster: false,
            },
        ],
        paths: None,
    },
    SchemaRow {
        name: "probes",
        level: EXEMPT,
        precedence: 2,
        by: None,
        who: EVERYBODY,
        what: &[],
        paths: Some((&["get"], &["/healthz", "/readyz", "/livez"])),
    },
    SchemaRow {
        name: "system-leader-election",
        level: "leader-election",
        precedence: 100,
        by: BY_USER,
        who: &[
            Who::Users(&[CONTROLLER_MANAGER, SCHEDULER]),
            Who::SystemAccounts,
        ],
        what: &[What {
            verbs: &["get", "create", "update"],
            group: "coordination.k8s.io",
            resources: &["leases"],
            cluster: false,
        }],
        paths: None,
    },
    all_of(
        "kube-controller-manager",
        "workload-high",
        800,
        BY_NAMESPACE,
        &[Who::Users(&[CONTROLLER_MANAGER])],
    ),
    all_of(
        "kube-scheduler",
        "workload-high",
        800,
        BY_NAMESPACE,
        &[Who::Users(&[SCHEDULER])],
    ),
    all_of(
        "kube-system-service-accounts",
        "workload-high",
        900,
        BY_NAMESPACE,
        &[Who::SystemAccounts],
    ),
    all_of(
        "service-accounts",
        "workload-low",
        9000,
        BY_USER,
        &[Who::Groups(&["system:serviceaccounts"])],
    ),
    all_of("global-default", "global-default", 9900, BY_USER, EVERYBODY),
];

/// How firmly the server wants an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Whatever people make of it is undone.
    Mandatory,
    /// People may take it over.
    Suggested,
}

/// The levels as objects.
pub fn levels() -> impl Iterator<Item = (Kind, Value)> {
    let of = |kind, rows: &'static [LevelRow]| rows.iter().map(move |row| (kind, row.object()));
    of(Kind::Suggested, SUGGESTED_LEVELS).chain(of(Kind::Mandatory, MANDATORY_LEVELS))
}

/// The schemas as objects.
pub fn schemas() -> impl Iterator<Item = (Kind, Value)> {
    let of = |kind, rows: &'static [SchemaRow]| rows.iter().map(move |row| (kind, row.object()));
    of(Kind::Suggested, SUGGESTED_SCHEMAS).chain(of(Kind::Mandatory, MANDATORY_SCHEMAS))
}

/// The object that a mandatory level must be, whose spec nobody may change.
pub fn mandatory_level(name: &str) -> Option<Value> {
    let row = MANDATORY_LEVELS.iter().find(|row| row.name == name)?;
    Some(row.object())
}

/// The object that a mandatory schema must be, whose spec nobody may change.
pub fn mandatory_schema(name: &str) -> Option<Value> {
    let row = MANDATORY_SCHEMAS.iter().find(|row| row.name == name)?;
    Some(row.object())
}

/// An object that the server keeps.
fn object(name: &str) -> Value {
    let mut object = Value::object();
    meta::set(&mut object, n::NAME, name);
    meta::set_annotation(&mut object, AUTO_UPDATE, "true");
    object
}

impl LevelRow {
    fn object(&self) -> Value {
        let mut object = object(self.name);
        let kind = if self.name == EXEMPT {
            ("Exempt", n::EXEMPT)
        } else {
            ("Limited", n::LIMITED)
        };
        object.set(&[n::SPEC, n::TYPE], kind.0);
        let part = object.ensure(&[n::SPEC, kind.1]);
        part.set(&[n::NOMINAL_CONCURRENCY_SHARES], self.shares);
        part.set(&[n::LENDABLE_PERCENT], self.lendable);
        if kind.1 == n::LIMITED {
            let response = part.ensure(&[n::LIMIT_RESPONSE]);
            match self.queuing {
                None => response.set(&[n::TYPE], "Reject"),
                Some([queues, hand, length]) => {
                    response.set(&[n::TYPE], "Queue");
                    response.set(&[n::QUEUING, n::QUEUES], queues);
                    response.set(&[n::QUEUING, n::HAND_SIZE], hand);
                    response.set(&[n::QUEUING, n::QUEUE_LENGTH_LIMIT], length);
                }
            }
        }
        object
    }
}

impl SchemaRow {
    fn object(&self) -> Value {
        let mut object = object(self.name);
        let spec = object.ensure(&[n::SPEC]);
        spec.set(&[n::PRIORITY_LEVEL_CONFIGURATION, n::NAME], self.level);
        spec.set(&[n::MATCHING_PRECEDENCE], self.precedence);
        if let Some(by) = self.by {
            spec.set(&[n::DISTINGUISHER_METHOD, n::TYPE], by);
        }
        let mut rule = Value::object();
        rule.set(
            &[n::SUBJECTS],
            self.who.iter().flat_map(Who::subjects).collect::<Vec<_>>(),
        );
        if !self.what.is_empty() {
            let rules: Vec<Value> = self.what.iter().map(What::rule).collect();
            rule.set(&[n::RESOURCE_RULES], rules);
        }
        if let Some((verbs, paths)) = self.paths {
            let mut of = Value::object();
            of.set(&[n::VERBS], verbs.to_vec());
            of.set(&[n::NON_RESOURCE_URLS], paths.to_vec());
            rule.set(&[n::NON_RESOURCE_RULES], vec![of]);
        }
        spec.set(&[n::RULES], vec![rule]);
        object
    }
}

impl Who {
    fn subjects(&self) -> Vec<Value> {
        let named = |kind: &str, part: proto::NameId, name: &str| {
            let mut subject = Value::object();
            subject.set(&[n::KIND], kind);
            subject.set(&[part, n::NAME], name);
            subject
        };
        match self {
            Self::Groups(names) => {
                let names = names.iter();
                names.map(|g| named("Group", n::GROUP, g)).collect()
            }
            Self::Users(names) => {
                let names = names.iter();
                names.map(|u| named("User", n::USER, u)).collect()
            }
            Self::SystemAccounts => {
                let mut subject = named("ServiceAccount", n::SERVICE_ACCOUNT, "*");
                subject.set(&[n::SERVICE_ACCOUNT, n::NAMESPACE], "kube-system");
                vec![subject]
            }
        }
    }
}

impl What {
    fn rule(&self) -> Value {
        let mut rule = Value::object();
        rule.set(&[n::VERBS], self.verbs.to_vec());
        rule.set(&[n::API_GROUPS], vec![self.group]);
        rule.set(&[n::RESOURCES], self.resources.to_vec());
        rule.set(&[n::NAMESPACES], ANY.to_vec());
        if self.cluster {
            rule.set(&[n::CLUSTER_SCOPE], true);
        }
        rule
    }
}
