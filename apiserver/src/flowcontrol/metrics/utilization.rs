//! Histograms of how full levels are, over time: made when they are asked for.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use crate::flowcontrol::FlowControl;
use crate::flowcontrol::pool::Series;
use crate::flowcontrol::timing::Reading;

/// Of all levels.
pub(in crate::flowcontrol) struct Utilization(pub(in crate::flowcontrol) Arc<FlowControl>);

impl fmt::Debug for Utilization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Utilization")
    }
}

/// One histogram of a level.
struct Sample<'a> {
    phase: Option<&'static str>,
    level: &'a str,
    values: &'a Reading,
}

fn encode_samples(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    samples: &[Sample<'_>],
) -> Result<(), fmt::Error> {
    let name = format!("apiserver_flowcontrol_{name}");
    let mut to = encoder.encode_descriptor(&name, help, None, MetricType::Histogram)?;
    for sample in samples {
        let (sum, count, buckets) = sample.values;
        let phase = sample.phase.map(|phase| ("phase", phase));
        let labels: Vec<(&str, &str)> = phase
            .into_iter()
            .chain([("priority_level", sample.level)])
            .collect();
        to.encode_family(&labels.as_slice())?
            .encode_histogram::<[(&str, &str); 0]>(*sum, *count, buckets, None)?;
    }
    Ok(())
}

impl Collector for Utilization {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all = self.0.series();
        let sample = |phase, of: fn(&Series) -> &Reading| {
            all.iter().map(move |(level, series)| Sample {
                phase,
                level,
                values: of(series),
            })
        };
        let seats: Vec<_> = sample(Some("executing"), |s| &s.seats).collect();
        encode_samples(
            &mut encoder,
            (
                "priority_level_seat_utilization",
                "Seats in use, as a fraction of the level's, each nanosecond",
            ),
            &seats,
        )?;
        let requests: Vec<_> = sample(Some("executing"), |s| &s.executing)
            .chain(sample(Some("waiting"), |s| &s.waiting))
            .collect();
        encode_samples(
            &mut encoder,
            (
                "priority_level_request_utilization",
                "Requests, as a fraction of what the level has room for, each nanosecond",
            ),
            &requests,
        )?;
        let demand: Vec<_> = sample(None, |s| &s.demand).collect();
        encode_samples(
            &mut encoder,
            (
                "demand_seats",
                "Seats that could be used, as a fraction of the level's, each nanosecond",
            ),
            &demand,
        )
    }
}
