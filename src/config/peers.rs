//! The brokers of a cluster as the configuration names them: `1@host:9190,2@host:9190,3@host:9190`, in `capek.cluster.peers` or,
//! as Kafka has it, in `controller.quorum.voters`.

use std::collections::BTreeMap;

use super::EffectiveConfig;
use super::listeners::Endpoint;

/// By id. Empty: this broker is by itself.
pub type Peers = BTreeMap<i32, Endpoint>;

const NAMES: [&str; 2] = ["capek.cluster.peers", "controller.quorum.voters"];
const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";

/// What the configuration says; one broker, which can only be this one, is a broker by itself.
pub fn peers(config: &EffectiveConfig, node_id: i32) -> Result<Peers, String> {
    let named = NAMES.iter().find_map(|name| Some((*name, config.set_value(name).filter(|list| !is_empty(list))?)));
    let Some((name, list)) = named else {
        return no_bootstrap_alone(config).map(|()| Peers::new());
    };
    let problem = |what: String| format!("{name} ({}): {what}", config.origin(name));
    let peers = parse(list).map_err(problem)?;
    if peers.len() < 2 {
        return Ok(Peers::new());
    }
    if !peers.contains_key(&node_id) {
        return Err(problem(format!(
            "node.id {node_id} is not in it: every broker names all of them, itself too, as {node_id}@HOST:9190"
        )));
    }
    Ok(peers)
}

fn is_empty(list: &str) -> bool {
    items(list).next().is_none()
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn parse(list: &str) -> Result<Peers, String> {
    let mut peers = Peers::new();
    for item in items(list) {
        let (id, endpoint) = item.split_once('@').ok_or_else(|| format!("'{item}' is not ID@HOST:PORT"))?;
        let id: i32 = id.parse().map_err(|_| format!("'{id}' in '{item}' is not a broker's id"))?;
        if id < 0 {
            return Err(format!("'{item}': a broker's id is 0 or more"));
        }
        let endpoint = Endpoint::parse(endpoint)?;
        if endpoint.is_wildcard() || endpoint.port == 0 {
            return Err(format!("'{item}' is no address that another broker can connect to"));
        }
        if peers.values().any(|other| *other == endpoint) {
            return Err(format!("{endpoint} is there twice"));
        }
        if peers.insert(id, endpoint).is_some() {
            return Err(format!("broker {id} is there twice"));
        }
    }
    Ok(peers)
}

/// Kafka 4 can find its quorum by addresses alone; here the brokers are named.
fn no_bootstrap_alone(config: &EffectiveConfig) -> Result<(), String> {
    let servers = config.set_value(BOOTSTRAP).unwrap_or("");
    if items(servers).count() < 2 {
        return Ok(());
    }
    Err(format!(
        "{BOOTSTRAP} ({}) names several controllers, but not which broker each is: set capek.cluster.peers to \
         1@HOST:9190,2@HOST:9190,3@HOST:9190",
        config.origin(BOOTSTRAP)
    ))
}

#[cfg(test)]
mod tests {
    use super::super::{Loaded, Sources, load};
    use super::*;

    fn check(environment: &[(&str, &str)]) -> Result<String, String> {
        let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let Loaded { config, .. } = load(&Sources { environment, ..Sources::default() }).expect("it loads");
        let list = |peers: Peers| peers.iter().map(|(id, at)| format!("{id}@{at}")).collect::<Vec<_>>().join(",");
        peers(&config, 1).map(list)
    }

    #[test]
    fn brokers_are_named_by_either_key() {
        let three = "1@a:9190,2@b:9190, 3@c:9190";
        assert_eq!(check(&[("CAPEK_CLUSTER_PEERS", three)]).as_deref(), Ok("1@a:9190,2@b:9190,3@c:9190"));
        assert_eq!(check(&[("KAFKA_CONTROLLER_QUORUM_VOTERS", three)]).as_deref(), Ok("1@a:9190,2@b:9190,3@c:9190"));
        let both = [("CAPEK_CLUSTER_PEERS", "1@x:1,2@y:1"), ("KAFKA_CONTROLLER_QUORUM_VOTERS", three)];
        assert_eq!(check(&both).as_deref(), Ok("1@x:1,2@y:1"));
    }

    #[test]
    fn one_broker_is_by_itself() {
        assert_eq!(check(&[]).as_deref(), Ok(""));
        assert_eq!(check(&[("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:29093")]).as_deref(), Ok(""));
    }

    #[test]
    fn mistakes_are_told() {
        let check = |list: &str, expected: &str| {
            let problem = check(&[("CAPEK_CLUSTER_PEERS", list)]).expect_err(list);
            assert!(problem.contains(expected) && problem.contains("CAPEK_CLUSTER_PEERS"), "{problem}");
        };
        check("a:1,b:1", "'a:1' is not ID@HOST:PORT");
        check("1@a:1,x@b:1", "'x' in 'x@b:1' is not a broker's id");
        check("1@a:1,-2@b:1", "0 or more");
        check("1@a:1,1@b:1", "broker 1 is there twice");
        check("1@a:1,2@a:1", "a:1 is there twice");
        check("1@0.0.0.0:1,2@b:1", "no address that another broker can connect to");
        check("2@a:1,3@b:1", "node.id 1 is not in it");
        let bootstrap = self::check(&[("KAFKA_CONTROLLER_QUORUM_BOOTSTRAP_SERVERS", "a:1,b:1")]);
        assert!(bootstrap.expect_err("nobody is named").contains("set capek.cluster.peers"));
    }
}
