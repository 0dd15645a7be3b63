//! Whose replication is throttled: Kafka's `leader.replication.throttled.replicas` and its twin for followers.

use std::collections::BTreeSet;

use capek_wire::ids::{BrokerId, PartitionIndex};

use super::list::list_values;

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ThrottledReplicas {
    #[default]
    None,
    All,
    Listed(BTreeSet<(PartitionIndex, BrokerId)>),
}

impl ThrottledReplicas {
    /// `*`, or `partition:broker` pairs. What does not parse was refused when it was set, and is passed over.
    pub fn parse(text: &str) -> ThrottledReplicas {
        let members = list_values(text);
        if members.contains(&"*") {
            return ThrottledReplicas::All;
        }
        let pair = |member: &&str| {
            let (partition, broker) = member.split_once(':')?;
            Some((partition.parse().ok()?, broker.parse().ok()?))
        };
        let listed: BTreeSet<_> = members.iter().filter_map(pair).collect();
        if listed.is_empty() { ThrottledReplicas::None } else { ThrottledReplicas::Listed(listed) }
    }

    pub fn contains(&self, partition: PartitionIndex, broker: BrokerId) -> bool {
        match self {
            ThrottledReplicas::None => false,
            ThrottledReplicas::All => true,
            ThrottledReplicas::Listed(listed) => listed.contains(&(partition, broker)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_throttled_when_it_is_listed_or_all_are() {
        let listed = ThrottledReplicas::parse("0:1,2:3");
        let found: Vec<_> = [(0, 1), (0, 3), (2, 1), (2, 3)].map(|(index, id)| listed.contains(index, id)).into();
        assert_eq!(found, [true, false, false, true]);
        assert!(ThrottledReplicas::parse("*").contains(7, 7));
        assert_eq!(ThrottledReplicas::parse(""), ThrottledReplicas::None);
        assert!(!ThrottledReplicas::parse("").contains(0, 1));
    }
}
