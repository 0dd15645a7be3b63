//! A broker by itself inside of the test's process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use capek_actors::config::{BrokerConfig, ListenerConfig};
use capek_wire::batch::{BatchBuilder, Codec};

pub fn config(data_dir: PathBuf) -> BrokerConfig {
    BrokerConfig {
        node_id: 1,
        cluster_id: None,
        data_dirs: vec![data_dir],
        listeners: vec![ListenerConfig {
            name: "PLAINTEXT".to_string(),
            protocol: "PLAINTEXT".to_string(),
            bind: vec!["127.0.0.1:0".parse().expect("an address")],
            advertised_host: "127.0.0.1".to_string(),
            advertised_port: 0,
        }],
        rack: None,
        properties: BTreeMap::new(),
        memory_budget_bytes: 64 << 20,
        connections_max: 100,
        connections_per_ip_max: 100,
        connection_idle_max: Duration::from_secs(600),
        frame_bytes_max: 100 << 20,
        fetch_bytes_max: 55 << 20,
        fetch_sessions_max: 1000,
        journal_file_bytes: 4 << 20,
        restarts_max: usize::MAX,
        restart_period: Duration::from_secs(30),
        retention_check_interval: Duration::from_secs(300),
        auto_create_topics: true,
        delete_topics: true,
        chaos: true,
        cluster: None,
        data_arbiters: 1,
    }
}

pub fn one_record(value: &str) -> bytes::BytesMut {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(1, None, Some(value.as_bytes()), &[]);
    builder.build().expect("a batch of one record")
}
