//! Consumer groups: how far they are, how far behind, who is in them. Each broker speaks for the groups that it coordinates, also
//! for those that have no members.
//!
//! How far behind a group is can be told where this broker has a replica of the partition, leader or follower; elsewhere it is
//! left out, and `kafka_topic_partition_current_offset` of the leader less `kafka_consumergroup_current_offset` says it.

use std::collections::BTreeMap;

use capek_actors::broker::BrokerShared;
use capek_actors::group_survey::GroupSurvey;
use capek_log::{ReadOutcome, ReadRequest};
use capek_state::group::{SurveyedGroup, SurveyedOffset};
use capek_wire::batch::BatchHeader;

use super::exposition::{Exposition, Kind, Labels, Vocabulary};
use super::settings::{Level, Settings};

/// How many families an offset is in.
pub const FAMILIES: usize = 6;
/// How many batches are looked at for their times in one scrape: each costs a read.
const TIMES_MAX: usize = 1_000;
/// Enough for a batch's header; a read gives whole batches.
const HEADER_READ_BYTES: usize = 1;
const STATES: [(&str, &str); 7] = [
    ("kafka_coordinator_group_groupmetadatamanager_numgroupsstable", "Stable"),
    ("kafka_coordinator_group_groupmetadatamanager_numgroupspreparingrebalance", "PreparingRebalance"),
    ("kafka_coordinator_group_groupmetadatamanager_numgroupscompletingrebalance", "CompletingRebalance"),
    ("kafka_coordinator_group_groupmetadatamanager_numgroupsempty", "Empty"),
    ("kafka_coordinator_group_groupmetadatamanager_numgroupsdead", "Dead"),
    ("kafka_coordinator_group_groupmetadatamanager_numgroupsassigning", "Assigning"),
    ("kafka_coordinator_group_groupmetadatamanager_numgroupsreconciling", "Reconciling"),
];

struct OffsetRow {
    /// Of kafka_exporter, and ours.
    exporter: Labels,
    own: Labels,
    offset: i64,
    lag: Option<i64>,
    /// Of what comes next, in seconds.
    age: Option<f64>,
}

#[derive(Default, Clone, Copy)]
struct Sum {
    offset: i64,
    lag: i64,
    /// Some partition's lag is not known here.
    is_partial: bool,
}

struct GroupRow {
    id: Labels,
    own: Labels,
    described: Labels,
    members: usize,
    total: Sum,
    /// Of the partitions that are furthest behind.
    max_lag: Option<i64>,
    max_age: Option<f64>,
    /// By topic: kafka_exporter's labels.
    topics: Vec<(Labels, Sum)>,
}

/// See the head of this file.
pub struct Groups {
    groups: Vec<GroupRow>,
    offsets: Vec<OffsetRow>,
    by_state: BTreeMap<&'static str, usize>,
    shards: usize,
    shards_silent: usize,
    left_out: usize,
}

/// Reads the times of what groups have not read yet.
struct Clock {
    now_ms: i64,
    left: usize,
}

impl Groups {
    /// May read from the disk.
    pub fn gather(broker: &BrokerShared, survey: GroupSurvey, settings: &Settings, now_ms: i64) -> Groups {
        let mut gathered = Groups {
            groups: Vec::new(),
            offsets: Vec::new(),
            by_state: BTreeMap::new(),
            shards: survey.shards,
            shards_silent: survey.shards_silent,
            left_out: 0,
        };
        let mut clock = Clock { now_ms, left: TIMES_MAX };
        for group in &survey.groups {
            *gathered.by_state.entry(group.state).or_default() += 1;
            if gathered.groups.len() * FAMILIES >= settings.series_max {
                gathered.left_out += 1;
                continue;
            }
            let row = gathered.row(broker, group, settings, &mut clock);
            gathered.groups.push(row);
        }
        gathered
    }

    fn row(
        &mut self,
        broker: &BrokerShared,
        group: &SurveyedGroup,
        settings: &Settings,
        clock: &mut Clock,
    ) -> GroupRow {
        let id = Labels::of(&[("consumergroup", &group.group)]);
        let own = Labels::of(&[("group", &group.group)]);
        let mut row = GroupRow {
            described: own.clone().and("state", group.state).and("type", group.kind),
            members: group.member_count,
            total: Sum::default(),
            max_lag: None,
            max_age: None,
            topics: Vec::new(),
            id,
            own,
        };
        let mut topics: BTreeMap<&str, Sum> = BTreeMap::new();
        for committed in &group.offsets {
            let (lag, age) = behind(broker, committed, clock);
            row.total.add(committed.offset, lag);
            row.max_lag = row.max_lag.max(lag);
            row.max_age = row.max_age.into_iter().chain(age).reduce(f64::max);
            topics.entry(&committed.topic).or_default().add(committed.offset, lag);
            if settings.level != Level::Full || self.offsets.len() * FAMILIES >= settings.series_max {
                continue;
            }
            let partition = committed.partition.to_string();
            let labels = |labels: &Labels| labels.clone().and("topic", &committed.topic).and("partition", &partition);
            let (exporter, own) = (labels(&row.id), labels(&row.own));
            self.offsets.push(OffsetRow { exporter, own, offset: committed.offset, lag, age });
        }
        if settings.level != Level::Off {
            let labels = |topic: &str| row.id.clone().and("topic", topic);
            row.topics = topics.into_iter().map(|(topic, sum)| (labels(topic), sum)).collect();
        }
        row
    }
}

impl Sum {
    fn add(&mut self, offset: i64, lag: Option<i64>) {
        self.offset += offset;
        self.lag += lag.unwrap_or(0);
        self.is_partial |= lag.is_none();
    }

    /// A sum with a hole is none.
    fn whole_lag(&self) -> Option<i64> {
        (!self.is_partial).then_some(self.lag)
    }
}

/// Records that are not read yet, and how old the first of them is.
fn behind(broker: &BrokerShared, committed: &SurveyedOffset, clock: &mut Clock) -> (Option<i64>, Option<f64>) {
    let Some(topic) = broker.routes.topic(&committed.topic) else { return (None, None) };
    // What was committed to an earlier topic of this name is behind nothing.
    if !committed.topic_id.is_zero() && committed.topic_id != topic.id {
        return (None, None);
    }
    let Some(route) = topic.partition(committed.partition) else { return (None, None) };
    let (shared, end_offset) = (&route.shared, route.shared.high_watermark());
    let lag = (end_offset - committed.offset).max(0);
    if lag == 0 {
        return (Some(0), Some(0.0));
    }
    if clock.left == 0 {
        return (Some(lag), None);
    }
    clock.left -= 1;
    // What retention took away it cannot read any more.
    let offset = committed.offset.max(shared.log_start());
    let read = ReadRequest { offset, max_bytes: HEADER_READ_BYTES, end_offset, at_least_one: true, may_block: true };
    let Ok(ReadOutcome::Data { bytes, .. }) = shared.log.read(read) else { return (Some(lag), None) };
    let header = BatchHeader::parse(&bytes).ok();
    let written_ms = header.map(|header| match header.delete_horizon_ms() {
        Some(_) => header.max_timestamp,
        None => header.base_timestamp,
    });
    let age = written_ms.map(|written_ms| (clock.now_ms - written_ms).max(0) as f64 / 1000.0);
    (Some(lag), age)
}

impl Groups {
    pub fn write(&self, out: &mut Exposition) {
        self.write_groups(out);
        self.write_offsets(out);
        self.write_sums(out);
        let gauges: [(&'static str, &str, usize); 3] = [
            ("capek_group_coordinators", "Partitions of __consumer_offsets that are led here.", self.shards),
            (
                "capek_group_coordinators_silent",
                "Of these, coordinators that load or did not answer: their groups are missing from this answer.",
                self.shards_silent,
            ),
            (
                "capek_metrics_groups_left_out",
                "Groups without series of their own (capek.metrics.series.max).",
                self.left_out,
            ),
        ];
        for (name, help, count) in gauges {
            out.one(Vocabulary::Own, name, Kind::Gauge, help, count);
        }
    }

    fn write_groups(&self, out: &mut Exposition) {
        let count = |state| self.by_state.get(state).copied().unwrap_or(0);
        let name = "kafka_coordinator_group_groupmetadatamanager_numgroups";
        let all: usize = self.by_state.values().sum();
        out.one(Vocabulary::Confluent, name, Kind::Gauge, "Groups that this broker coordinates.", all);
        for (name, state) in STATES {
            let help = format!("Groups that this broker coordinates, in the state {state}.");
            out.one(Vocabulary::Confluent, name, Kind::Gauge, &help, count(state));
        }
        let mut family =
            out.family(Vocabulary::Exporter, "kafka_consumergroup_members", Kind::Gauge, "Members of the group.");
        self.groups.iter().for_each(|group| family.sample(&group.id, group.members));
        let mut family = out.family(Vocabulary::Own, "capek_group_state", Kind::Gauge, "1 for the state it is in.");
        self.groups.iter().for_each(|group| family.sample(&group.described, 1));
    }

    fn write_offsets(&self, out: &mut Exposition) {
        let help = "What the group has committed.";
        let mut family = out.family(Vocabulary::Exporter, "kafka_consumergroup_current_offset", Kind::Gauge, help);
        self.offsets.iter().for_each(|row| family.sample(&row.exporter, row.offset));
        let help = "Records that the group has not read yet.";
        let mut family = out.family(Vocabulary::Exporter, "kafka_consumergroup_lag", Kind::Gauge, help);
        family.present(self.offsets.iter().map(|row| (&row.exporter, row.lag)));
        let name = "kafka_consumergroup_group_lag";
        let mut family = out.family(Vocabulary::Confluent, name, Kind::Gauge, help);
        family.present(self.offsets.iter().map(|row| (&row.own, row.lag)));
        let help = "How long ago the first batch that the group has not read was written; 0: it has read all.";
        let names = [
            (Vocabulary::Own, "capek_group_lag_seconds"),
            (Vocabulary::Confluent, "kafka_consumergroup_group_lag_seconds"),
        ];
        for (vocabulary, name) in names {
            let mut family = out.family(vocabulary, name, Kind::Gauge, help);
            family.present(self.offsets.iter().map(|row| (&row.own, row.age)));
        }
    }

    fn write_sums(&self, out: &mut Exposition) {
        let topics = || self.groups.iter().flat_map(|group| &group.topics);
        let help = "What the group has committed, all partitions of the topic together.";
        let mut family = out.family(Vocabulary::Exporter, "kafka_consumergroup_current_offset_sum", Kind::Gauge, help);
        topics().for_each(|(labels, sum)| family.sample(labels, sum.offset));
        let help = "Records that the group has not read yet, all partitions of the topic together.";
        let mut family = out.family(Vocabulary::Exporter, "kafka_consumergroup_lag_sum", Kind::Gauge, help);
        family.present(topics().map(|(labels, sum)| (labels, sum.whole_lag())));
        let help = "Records that the group has not read yet, all its topics together.";
        let mut family = out.family(Vocabulary::Own, "capek_group_lag_records", Kind::Gauge, help);
        family.present(self.groups.iter().map(|group| (&group.own, group.total.whole_lag())));
        let known = || self.groups.iter().filter(|group| !group.total.is_partial);
        let help = "Records that the group has not read yet in the partition where it is furthest behind.";
        let mut family = out.family(Vocabulary::Confluent, "kafka_consumergroup_group_max_lag", Kind::Gauge, help);
        family.present(known().map(|group| (&group.own, group.max_lag)));
        let help = "How long ago the oldest batch that the group has not read was written; 0: it has read all.";
        let name = "kafka_consumergroup_group_max_lag_seconds";
        let mut family = out.family(Vocabulary::Confluent, name, Kind::Gauge, help);
        family.present(known().map(|group| (&group.own, group.max_age)));
    }
}
