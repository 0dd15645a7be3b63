//! Idempotent producers and transactions. Sorted by name.

use super::CAPPED_REASON;
use crate::config::definition::{ConfigDef, boolean, int, short};

#[rustfmt::skip] // a table, one definition after the other
pub(super) static TRANSACTIONS: &[ConfigDef] = &[
    int("add.partitions.to.txn.retry.backoff.max.ms", "100", "The longest pause before a partition is verified again.")
        .at_least(0),
    int("add.partitions.to.txn.retry.backoff.ms", "20", "The first pause before a partition is verified again.")
        .at_least(1),
    int("producer.id.expiration.ms", "86400000", "How long an idle producer is remembered.")
        .at_least(1).cluster_wide().honoured(),
    int("transaction.abort.timed.out.transaction.cleanup.interval.ms", "10000", "How often transactions that timed out are looked for.")
        .at_least(1),
    int("transaction.max.timeout.ms", "900000", "The longest timeout that a transactional producer may ask for.")
        .at_least(1),
    boolean("transaction.partition.verification.enable", "true", "Whether a partition asks the coordinator before the first write of a transaction.")
        .cluster_wide(),
    int("transaction.remove.expired.transaction.cleanup.interval.ms", "3600000", "How often expired transactional ids are looked for.")
        .at_least(1),
    int("transaction.state.log.load.buffer.size", "5242880", "How much is read at a time when a coordinator loads its transactions.")
        .at_least(1),
    int("transaction.state.log.min.isr", "2", "The min.insync.replicas of __transaction_state.").at_least(1),
    int("transaction.state.log.num.partitions", "50", "The partitions of __transaction_state; never change it later.")
        .at_least(1),
    short("transaction.state.log.replication.factor", "3", "The replicas of __transaction_state.")
        .at_least(1).differs(CAPPED_REASON),
    int("transaction.state.log.segment.bytes", "104857600", "The segment size of __transaction_state.").at_least(1),
    boolean("transaction.two.phase.commit.enable", "false", "Whether producers may prepare transactions that somebody else completes."),
    int("transactional.id.expiration.ms", "604800000", "How long an unused transactional id is remembered.")
        .at_least(1),
];
