//! A consumer whose partitions its group decides: joins, goes on where the group has committed, commits what was done with,
//! gives its partitions up when the group is rearranged, and leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::Client;
use super::consumer::{Consumer, ConsumerOptions, Fetched};
use super::error::ClientError;
use super::group_member::{Member, MemberOptions};
use super::groups::Place;

/// Where a partition begins for which the group has committed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
    /// Then it is an error.
    None,
}

/// Which topics a name stands for.
pub type TopicPattern = Box<dyn Fn(&str) -> bool + Send>;

pub struct GroupConsumerOptions {
    pub member: MemberOptions,
    pub consumer: ConsumerOptions,
    pub reset: OffsetReset,
    /// None commits nothing.
    pub commit_interval: Option<Duration>,
    /// Instead of the topics in `member`: all that it fits, also those to come.
    pub pattern: Option<TopicPattern>,
}

pub struct GroupConsumer {
    client: Client,
    options: GroupConsumerOptions,
    member: Member,
    consumer: Consumer,
    assigned: BTreeSet<Place>,
    /// The next offset of each partition, of what the caller has done with.
    processed: BTreeMap<Place, i64>,
    committed: BTreeMap<Place, i64>,
    next_commit: Instant,
    next_look: Instant,
    partition_counts: BTreeMap<String, usize>,
}

/// How often the group's leader looks for new topics and partitions.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long one with nothing to read waits before it looks whether that has changed.
const IDLE: Duration = Duration::from_millis(100);

impl GroupConsumer {
    /// Joins with the first poll.
    pub fn new(client: Client, options: GroupConsumerOptions) -> GroupConsumer {
        let now = Instant::now();
        GroupConsumer {
            member: Member::new(client.clone(), options.member.clone()),
            consumer: Consumer::new(client.clone(), options.consumer.clone()),
            assigned: BTreeSet::new(),
            processed: BTreeMap::new(),
            committed: BTreeMap::new(),
            next_commit: now,
            next_look: now,
            partition_counts: BTreeMap::new(),
            client,
            options,
        }
    }

    /// Waits for the next answer of any broker, or a moment.
    pub async fn poll(&mut self) -> Result<Vec<Fetched>, ClientError> {
        self.look_for_topics().await?;
        if self.member.must_rejoin() {
            self.rejoin().await?;
        }
        self.commit_if_due().await?;
        if self.assigned.is_empty() {
            tokio::time::sleep(IDLE).await;
            return Ok(Vec::new());
        }
        self.consumer.poll().await
    }

    pub fn assigned(&self) -> &BTreeSet<Place> {
        &self.assigned
    }

    /// The caller has done with all below `next_offset`.
    pub fn processed(&mut self, topic: &str, partition: i32, next_offset: i64) {
        self.processed.insert((topic.to_owned(), partition), next_offset);
    }

    async fn rejoin(&mut self) -> Result<(), ClientError> {
        // Best done before others take over; who has lost his place cannot.
        if let Err(error) = self.commit().await {
            log::debug!("before joining again: {error}");
        }
        for (topic, partition) in std::mem::take(&mut self.assigned) {
            self.consumer.unassign(&Arc::from(topic), partition);
        }
        (self.processed, self.committed) = (BTreeMap::new(), BTreeMap::new());
        self.assigned = self.member.join().await?;
        self.begin_where_committed().await?;
        self.next_commit = Instant::now() + self.options.commit_interval.unwrap_or_default();
        Ok(())
    }

    async fn begin_where_committed(&mut self) -> Result<(), ClientError> {
        let committed = self.client.committed(&self.options.member.group).await?;
        let mut without: BTreeMap<&String, Vec<i32>> = BTreeMap::new();
        for place in &self.assigned {
            match committed.get(place) {
                Some(found) => self.consumer.assign(&Arc::from(place.0.as_str()), place.1, found.offset),
                None => without.entry(&place.0).or_default().push(place.1),
            }
        }
        for (topic, partitions) in without {
            let shared: Arc<str> = Arc::from(topic.as_str());
            for (partition, (start, end)) in self.client.offset_bounds_of(topic, &partitions).await? {
                let offset = match self.options.reset {
                    OffsetReset::Earliest => start,
                    OffsetReset::Latest => end,
                    OffsetReset::None => {
                        let group = &self.options.member.group;
                        let message = format!("group '{group}' has committed nothing for {topic}-{partition}");
                        return Err(ClientError::NotFound(message));
                    }
                };
                self.consumer.assign(&shared, partition, offset);
                // So that a group that began at the end goes on from there.
                self.processed.insert((topic.clone(), partition), offset);
            }
        }
        Ok(())
    }

    /// New topics that the pattern fits, and new partitions, are everybody's when the group is rearranged.
    async fn look_for_topics(&mut self) -> Result<(), ClientError> {
        if Instant::now() < self.next_look {
            return Ok(());
        }
        self.next_look = Instant::now() + LOOK_INTERVAL;
        let metadata = match &self.options.pattern {
            Some(_) => self.client.refresh(None).await?,
            None => self.client.refresh(Some(&self.options.member.topics)).await?,
        };
        let is_wanted = |name: &String| match &self.options.pattern {
            Some(pattern) => pattern(name),
            None => self.options.member.topics.contains(name),
        };
        let wanted = metadata.topics.iter().filter(|(name, _)| is_wanted(name));
        let counts: BTreeMap<String, usize> =
            wanted.map(|(name, topic)| (name.clone(), topic.partitions.len())).collect();
        if counts == self.partition_counts {
            return Ok(());
        }
        let is_new_pattern = self.options.pattern.is_some() && !counts.keys().eq(self.partition_counts.keys());
        let is_first = self.partition_counts.is_empty() && self.member.must_rejoin();
        if self.options.pattern.is_some() {
            self.member.subscribe(counts.keys().cloned().collect());
        }
        self.partition_counts = counts;
        if !is_first && (self.member.is_leader() || is_new_pattern) {
            self.rejoin().await?;
        }
        Ok(())
    }

    async fn commit_if_due(&mut self) -> Result<(), ClientError> {
        let Some(interval) = self.options.commit_interval else { return Ok(()) };
        if Instant::now() < self.next_commit {
            return Ok(());
        }
        self.next_commit = Instant::now() + interval;
        match self.commit().await {
            // The next poll joins again, and what is not committed is read again by whoever gets it.
            Err(error) if error.code().is_some() => log::warn!("{error}"),
            other => other?,
        }
        Ok(())
    }

    /// Commits what was done with, unless commits are off.
    async fn commit(&mut self) -> Result<(), ClientError> {
        if self.options.commit_interval.is_none() {
            return Ok(());
        }
        let new = self.processed.iter().filter(|(place, offset)| self.committed.get(*place) != Some(*offset));
        let new: BTreeMap<Place, i64> = new.map(|(place, offset)| (place.clone(), *offset)).collect();
        self.member.commit(&new).await?;
        self.committed.extend(new);
        Ok(())
    }

    /// Commits what was done with and leaves the group.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let committed = self.commit().await;
        self.member.leave().await?;
        committed
    }
}
