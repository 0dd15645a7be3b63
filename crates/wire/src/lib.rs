//! What is on the network: ids, error codes, Kafka's messages, record batches.
