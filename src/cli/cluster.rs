//! `capek cluster`: who is in the cluster, who votes on its metadata, and changes of that.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Failure;
use super::connect::Connect;
use super::output::{List, OutputForm, say};
use crate::config::Endpoint;

#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Show the brokers, who votes, who is the controller, and how far each voter is
    Status(StatusArguments),
    /// Let a broker vote: start it with capek.cluster.peers that name the others and itself, then add it
    Add(AddArguments),
    /// Take a broker out: it votes no more, and its registration is forgotten
    Remove(RemoveArguments),
}

#[derive(Args)]
pub struct StatusArguments {
    #[command(flatten)]
    connect: Connect,
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputForm,
}

#[derive(Args)]
pub struct AddArguments {
    /// Its id and the address of its peer listener
    #[arg(value_name = "ID@HOST:PORT", value_parser = parse_voter)]
    voter: Voter,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Args)]
pub struct RemoveArguments {
    /// The broker's id
    id: i32,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Voter {
    id: i32,
    endpoint: Endpoint,
}

fn parse_voter(text: &str) -> Result<Voter, String> {
    let (id, endpoint) = text.split_once('@').ok_or("write ID@HOST:PORT, as 4@host4:9190")?;
    let id = id.parse().map_err(|_| format!("'{id}' is not a broker's id"))?;
    Ok(Voter { id, endpoint: Endpoint::parse(endpoint)? })
}

pub async fn run(command: ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status(arguments) => status(arguments).await,
        ClusterCommand::Add(AddArguments { voter, connect }) => {
            connect.client().await?.add_voter(voter.id, &voter.endpoint.host, voter.endpoint.port).await?;
            say(format_args!("broker {} votes in the quorum", voter.id))
        }
        ClusterCommand::Remove(RemoveArguments { id, connect }) => remove(id, connect).await,
    }
}

/// What of a broker is known.
#[derive(Default)]
struct Row {
    host: Value,
    rack: Value,
    role: &'static str,
    log_end: Value,
    behind: Value,
}

async fn status(arguments: StatusArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    let cluster = client.describe_cluster().await?;
    let quorum = client.describe_quorum().await?;
    let mut rows: BTreeMap<i32, Row> = BTreeMap::new();
    for broker in &cluster.brokers {
        let row = rows.entry(broker.broker_id).or_default();
        row.host = json!(format!("{}:{}", broker.host, broker.port));
        row.rack = json!(broker.rack);
        row.role = "broker";
    }
    let voters = quorum.current_voters.iter().map(|replica| ("voter", replica));
    let observers = quorum.observers.iter().map(|replica| ("observer", replica));
    for (role, replica) in voters.chain(observers) {
        let row = rows.entry(replica.replica_id).or_default();
        row.role = if replica.replica_id == quorum.leader_id { "controller" } else { role };
        if replica.log_end_offset >= 0 {
            row.log_end = json!(replica.log_end_offset);
            row.behind = json!((quorum.high_watermark - replica.log_end_offset).max(0));
        }
    }
    let mut list = List::new(&["id", "role", "state", "address", "rack", "metadata_end", "behind"]);
    for (id, row) in rows {
        let state = if row.host.is_null() { "away" } else { "up" };
        list.row(vec![json!(id), json!(row.role), json!(state), row.host, row.rack, row.log_end, row.behind]);
    }
    list.print(arguments.output)
}

async fn remove(id: i32, connect: Connect) -> Result<(), Failure> {
    let client = connect.client().await?;
    let quorum = client.describe_quorum().await?;
    let is_member = quorum.current_voters.iter().chain(&quorum.observers).any(|replica| replica.replica_id == id);
    if is_member {
        client.remove_voter(id).await?;
    }
    client.unregister_broker(id).await?;
    say(format_args!("broker {id} is out of the cluster; what replicas it had are still assigned to it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voter_is_an_id_and_an_address() {
        let endpoint = Endpoint { host: "host4".to_owned(), port: 9190 };
        assert_eq!(parse_voter("4@host4:9190"), Ok(Voter { id: 4, endpoint }));
        for wrong in ["4", "x@h:1", "4@h", "@h:1"] {
            assert!(parse_voter(wrong).is_err(), "{wrong}");
        }
    }
}
