//! Figures that the terminal and the HTML page both show, derived from a report in one place.

use mipro_telemetry::{Group, Stage};

use crate::format::{NOTHING, thousands};
use crate::schema::{Accounting, CountSet, LossCount, OperationReport, Rung};

/// The roll-ups that callers wait for, in the order in which they are shown.
pub(crate) const GROUPS: [Group; 8] =
    [Group::Db, Group::S3, Group::Tpe, Group::Llm, Group::Log, Group::Cpu, Group::Queue, Group::Other];

/// How far stages and total may lie apart and still count as equal: rounding, not time.
const SUM_TOLERANCE: f64 = 0.001;

/// Whether this rung's rollouts went through the service.
pub(crate) fn through_service(rung: &Rung) -> bool {
    rung.overhead.count > 0
}

/// What the services' processes allocated for a rollout, rung by rung; `None` where nobody counted.
pub(crate) fn allocations(rungs: &[Rung]) -> Option<String> {
    let counted: Vec<String> = rungs
        .iter()
        .filter_map(|rung| {
            Some(format!("{} {}", rung.name, thousands(*rung.counts.process.get("allocations")?)))
        })
        .collect();
    (!counted.is_empty())
        .then(|| format!("Allocations per rollout, the service’s whole process: {}.", counted.join(", ")))
}

/// Mean time per rollout in a roll-up: 0 where it never ran, `None` where no rollout went through the service.
pub(crate) fn group_us(rung: &Rung, group: Group) -> Option<f64> {
    through_service(rung)
        .then(|| rung.stage_groups.get(group.name()).map_or(0.0, |stage| stage.per_rollout_us))
}

/// Mean time per rollout in all roll-ups but the LLM's.
pub(crate) fn overhead_mean_us(rung: &Rung) -> f64 {
    GROUPS.iter().filter(|group| **group != Group::Llm).filter_map(|group| group_us(rung, *group)).sum()
}

/// The share of the overhead that no stage claims.
pub(crate) fn other_share(rung: &Rung) -> Option<f64> {
    let overhead = overhead_mean_us(rung);
    (overhead > 0.0).then(|| group_us(rung, Group::Other).unwrap_or_default() / overhead)
}

/// A stage or roll-up with its mean time per rollout, in microseconds.
pub(crate) type Part<'a> = (&'a str, f64);

/// A rung's overhead by stage: what callers wait for, the LLM left out, `other` last; their sum is the overhead's mean.
pub(crate) fn overhead_stages(rung: &Rung) -> Vec<Part<'_>> {
    let group = |name: &str| Stage::from_name(name).map_or(Group::Other, Stage::group);
    let ours = |name: &str| !matches!(group(name), Group::Llm | Group::Background);
    let order = |name: &str| match Stage::from_name(name) {
        Some(Stage::Other) => usize::MAX,
        Some(stage) => stage as usize,
        None => usize::MAX - 1,
    };
    let mut parts: Vec<Part<'_>> = rung
        .stages
        .iter()
        .filter(|(name, stage)| ours(name) && stage.per_rollout_us > 0.0)
        .map(|(name, stage)| (name.as_str(), stage.per_rollout_us))
        .collect();
    parts.sort_by_key(|(name, _)| order(name));
    parts
}

/// What most of a rung's overhead is: its largest roll-up.
pub(crate) fn dominant_group(rung: &Rung) -> Option<(Group, f64)> {
    let groups = GROUPS.into_iter().filter(|group| *group != Group::Llm);
    let timed = groups.filter_map(|group| Some((group, group_us(rung, group)?)));
    timed.filter(|(_, us)| *us > 0.0).max_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// What most of a rung's overhead is: its largest stage.
pub(crate) fn dominant_stage(rung: &Rung) -> Option<Part<'_>> {
    overhead_stages(rung).into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// What a rollout spends outside the service: task app, network, client.
pub(crate) fn outside_us(rung: &Rung) -> f64 {
    let inside: f64 = GROUPS.iter().filter_map(|group| group_us(rung, *group)).sum();
    (rung.rollout.service.mean_us.unwrap_or_default() - inside).max(0.0)
}

/// One operation's mean, taken apart.
pub(crate) struct Attribution {
    /// In the order of [`GROUPS`], microseconds per call.
    pub(crate) groups_us: [f64; GROUPS.len()],
    /// The mean total of a call.
    pub(crate) total_us: f64,
    /// Total less the sum of the groups: 0 but for rounding where the report carries every stage.
    pub(crate) unlisted_us: f64,
}

impl Attribution {
    pub(crate) fn of(operation: &OperationReport) -> Option<Self> {
        let total_us = operation.total.mean_us?;
        let mut groups_us = [0.0; GROUPS.len()];
        let mut add = |group: Group, us: f64| {
            if let Some(index) = GROUPS.iter().position(|shown| *shown == group) {
                groups_us[index] += us;
            }
        };
        if operation.stage_mean_us.is_empty() {
            let per_call = |dist: &crate::Dist| {
                dist.mean_us.unwrap_or_default() * dist.count as f64 / operation.total.count.max(1) as f64
            };
            add(Group::Db, per_call(&operation.load_db) + per_call(&operation.save_db));
            add(Group::S3, per_call(&operation.load_s3) + per_call(&operation.save_s3));
            add(Group::Other, per_call(&operation.other));
        } else {
            for (name, us) in &operation.stage_mean_us {
                add(Stage::from_name(name).map_or(Group::Other, Stage::group), *us);
            }
        }
        let unlisted_us = total_us - groups_us.iter().sum::<f64>();
        Some(Self { groups_us, total_us, unlisted_us })
    }

    /// Whether stages + other = total.
    pub(crate) fn adds_up(&self) -> bool {
        self.unlisted_us.abs() <= (self.total_us * SUM_TOLERANCE).max(1.0)
    }

    fn group(&self, group: Group) -> f64 {
        GROUPS.iter().position(|shown| *shown == group).map_or(0.0, |index| self.groups_us[index])
    }

    /// The share of the call, less its LLM part, that no stage claims.
    pub(crate) fn other_share(&self) -> Option<f64> {
        let overhead = self.total_us - self.group(Group::Llm);
        (overhead > 0.0).then(|| self.group(Group::Other) / overhead)
    }
}

/// A time that is 0 where nothing ran.
pub(crate) fn ran(us: f64) -> Option<f64> {
    (us > 0.0).then_some(us)
}

/// S3 requests of either kind.
pub(crate) fn s3_requests(counts: &CountSet) -> f64 {
    counts.s3_get + counts.s3_put
}

/// `14/60`, or [`NOTHING`] where not measured.
pub(crate) fn lost_of(count: Option<LossCount>) -> String {
    count.map_or_else(
        || NOTHING.to_owned(),
        |count| format!("{}/{}", thousands(count.lost as f64), thousands(count.acknowledged as f64)),
    )
}

/// The confidence of intervals that leave `alpha` on each side, in percent: `90`, `96.7`.
pub(crate) fn confidence(alpha: f64) -> String {
    let percent = format!("{:.1}", (1.0 - 2.0 * alpha) * 100.0);
    percent.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Every class an intended rollout can end in but `ok`, with its name in the report.
pub(crate) fn not_ok(accounting: &Accounting) -> [(&'static str, u64); 11] {
    [
        ("http_4xx", accounting.http_4xx),
        ("http_5xx", accounting.http_5xx),
        ("invalid", accounting.invalid),
        ("connect", accounting.connect),
        ("tls", accounting.tls),
        ("write", accounting.write),
        ("read", accounting.read),
        ("timeout", accounting.timeout),
        ("deadline", accounting.deadline),
        ("unsent", accounting.unsent),
        ("in_flight_at_end", accounting.in_flight_at_end),
    ]
}

/// What the client waited per call in the database's stages (`db.acquire` and `db.query` together), microseconds.
pub(crate) fn database_wait_us(rung: &Rung) -> Option<f64> {
    let query = rung.stages.get(Stage::DbQuery.name())?;
    let acquire_us = rung.stages.get(Stage::DbAcquire.name()).map_or(0.0, |stage| stage.per_rollout_us);
    (query.calls_per_rollout > 0.0).then(|| (query.per_rollout_us + acquire_us) / query.calls_per_rollout)
}

/// Whether a rung's figures may be believed and its rollouts are all accounted for.
pub(crate) fn sound(rung: &Rung) -> bool {
    rung.validity.ok && rung.accounting.holds()
}

/// A roll-up's name as a heading.
pub(crate) fn label(group: Group) -> &'static str {
    match group {
        Group::Db => "DB",
        Group::S3 => "S3",
        Group::Tpe => "TPE",
        Group::Llm => "LLM",
        Group::Log => "log",
        Group::Cpu => "CPU",
        Group::Queue => "queue",
        Group::Other => "other",
        Group::Background => "background",
    }
}

/// A rung's operations, those of a rollout first and in its order, others by name.
pub(crate) fn operations(rung: &Rung) -> impl Iterator<Item = (&String, &OperationReport)> {
    const ROLLOUT: [&str; 4] = ["start_rollout", "status_reward", "status_done", "status_reward_done"];
    let first = ROLLOUT.iter().filter_map(|name| rung.operations.get_key_value(*name));
    first.chain(rung.operations.iter().filter(|(name, _)| !ROLLOUT.contains(&name.as_str())))
}
