use component::metrics::Metrics;

use super::super::queues::Arrival;
use super::super::work::Work;
use super::*;

const TOTAL: u32 = 600;

fn start() -> Levels {
    Levels::new(TOTAL, &Shared::new(), &Families::register(&Metrics::new()))
}

fn defaults() -> (Vec<Arc<Level>>, Vec<Arc<Schema>>) {
    let levels = bootstrap::levels().map(|(_, o)| Arc::new(Level::of(&o).unwrap()));
    let schemas = bootstrap::schemas().map(|(_, o)| Arc::new(Schema::of(&o)));
    (levels.collect(), schemas.collect())
}

fn names(table: &Table) -> Vec<&str> {
    table.flows.iter().map(|f| &*f.schema.name).collect()
}

fn current(levels: &Levels) -> Vec<(&str, u32)> {
    let all = levels.in_use.iter();
    all.map(|(name, l)| (&**name, l.current)).collect()
}

#[test]
fn without_objects_the_mandatory_ones_are_imagined() {
    let mut levels = start();
    let table = levels.digest(&[], &[]);
    assert_eq!(names(&table), ["exempt", "catch-all"]);
    assert_eq!(&*table.fallback.unwrap().schema.name, "catch-all");
    assert_eq!(current(&levels), [("catch-all", TOTAL), ("exempt", 0)]);
}

#[test]
fn schemas_stand_in_the_order_of_precedence() {
    let mut levels = start();
    let (all, schemas) = defaults();
    let table = levels.digest(&all, &schemas);
    assert_eq!(
        names(&table),
        [
            "exempt",
            "probes",
            "system-leader-election",
            "system-node-high",
            "system-nodes",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-system-service-accounts",
            "service-accounts",
            "global-default",
            "catch-all"
        ]
    );
}

#[test]
fn default_levels_have_upstreams_seats() {
    let mut levels = start();
    let (all, schemas) = defaults();
    levels.digest(&all, &schemas);
    let bounds: Vec<_> = levels
        .in_use
        .iter()
        .map(|(name, l)| (&**name, l.bounds.nominal, l.bounds.min, l.bounds.max))
        .collect();
    // As kube-apiserver 1.37 shows them in its metrics.
    assert_eq!(
        bounds,
        [
            ("catch-all", 13, 13, 613),
            ("exempt", 0, 0, 600),
            ("global-default", 49, 24, 649),
            ("leader-election", 25, 25, 625),
            ("node-high", 98, 73, 698),
            ("system", 74, 50, 674),
            ("workload-high", 98, 49, 698),
            ("workload-low", 245, 24, 845)
        ]
    );
    let given: u32 = levels.in_use.values().map(|l| l.current).sum();
    assert!(given.abs_diff(602) <= 4, "{:?}", current(&levels));
}

#[test]
fn a_schema_without_its_level_is_not_used() {
    let mut levels = start();
    let (all, schemas) = defaults();
    let without: Vec<Arc<Level>> = all
        .into_iter()
        .filter(|l| *l.name != *"workload-high")
        .collect();
    let table = levels.digest(&without, &schemas);
    assert!(!names(&table).contains(&"kube-scheduler"));
    assert!(names(&table).contains(&"service-accounts"));
}

#[test]
fn a_level_that_is_not_wanted_goes_when_it_is_idle() {
    let mut levels = start();
    let (all, schemas) = defaults();
    levels.digest(&all, &schemas);
    let pool = Arc::clone(&levels.in_use["system"].pool);
    let (arrival, _) = pool.arrive(Work::of(1), 0, |_| ());
    let Arrival::Seated(ticket) = arrival else {
        panic!("{arrival:?}")
    };
    let without: Vec<Arc<Level>> = all
        .iter()
        .filter(|l| *l.name != *"system")
        .cloned()
        .collect();
    let table = levels.digest(&without, &schemas);
    assert!(!names(&table).contains(&"system-nodes"));
    assert!(levels.in_use["system"].current > 0);
    // Wanted again, it is the same level with the same seats in use.
    levels.digest(&all, &schemas);
    assert!(Arc::ptr_eq(&pool, &levels.in_use["system"].pool));
    levels.digest(&without, &schemas);
    pool.finish(ticket);
    levels.digest(&without, &schemas);
    assert!(!levels.in_use.contains_key("system"));
}

#[test]
fn a_request_may_take_a_part_of_its_level() {
    let (all, _) = defaults();
    let most = |name: &str, nominal| {
        let level = all.iter().find(|l| *l.name == *name).unwrap();
        level.most_seats(nominal)
    };
    assert_eq!(most("workload-low", 245), Some(37));
    assert_eq!(most("leader-election", 25), Some(4));
    assert_eq!(most("leader-election", 1), Some(1));
    assert_eq!(most("catch-all", 13), None);
    assert_eq!(most("exempt", 0), None);
}
