//! An image as the fewest records that make it again: what a snapshot holds.

use super::image::{Broker, Image, Topic};
use super::partition_change::state_record;
use super::record::{BrokerRecord, Record};

impl Image {
    /// Applied to an empty image these give this one, but for the count of records.
    pub fn to_records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        if let Some(cluster_id) = self.cluster_id() {
            records.push(Record::ClusterCreated { cluster_id: cluster_id.to_owned() });
        }
        let features = self.features.iter();
        records.extend(features.map(|(name, level)| Record::Feature { name: name.clone(), level: *level }));
        for broker in self.brokers() {
            records.push(broker_record(broker));
            if broker.in_controlled_shutdown {
                records.push(Record::BrokerInControlledShutdown { broker: broker.id, epoch: broker.epoch });
            }
        }
        for topic in self.topics() {
            push_topic(&mut records, topic);
        }
        for resource in self.configured() {
            records.extend(self.configs(resource).iter().map(|(name, value)| Record::ConfigChanged {
                resource: resource.clone(),
                name: name.clone(),
                value: Some(value.clone()),
            }));
        }
        if self.next_producer_id() > 0 {
            records.push(Record::ProducerIdsAllocated { next: self.next_producer_id() });
        }
        records
    }

    /// The image of [`Image::to_records`]; `records_applied` is that of the image it was taken from.
    pub fn from_records(records_applied: u64, records: &[Record]) -> Image {
        let mut image = Image::default();
        records.iter().for_each(|record| image.apply(record));
        image.records_applied = records_applied;
        image
    }
}

fn broker_record(broker: &Broker) -> Record {
    Record::BrokerRegistered(BrokerRecord {
        broker: broker.id,
        epoch: broker.epoch,
        incarnation: broker.incarnation,
        listeners: broker.listeners.clone(),
        rack: broker.rack.clone(),
        dirs: broker.dirs.clone(),
        fenced: broker.fenced,
    })
}

fn push_topic(records: &mut Vec<Record>, topic: &Topic) {
    records.push(Record::Topic { topic_id: topic.id, name: topic.name.to_string() });
    for former in &topic.former_counts {
        let (partitions, at_ms) = (former.partitions, former.until_ms);
        records.push(Record::TopicGrew { topic_id: topic.id, partitions, at_ms });
    }
    for (partition, state) in (0..).zip(&topic.partitions) {
        records.push(Record::PartitionState(state_record(topic.id, partition, state.clone())));
    }
}
