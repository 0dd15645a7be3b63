//! ConsumerInstances: supervises the consumers that REST v2 clients have made here, and finds them by group and name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture};
use actix_rt::ArbiterHandle;

use crate::broker::BrokerShared;
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::consumer_commands::{EndInstance, InstanceSettings};
use crate::consumer_instance::ConsumerInstance;
use crate::local::LocalClient;
use crate::supervision::{ChildExited, ExitSignal};

/// How many consumers there may be.
const INSTANCES_MAX: usize = 5_000;

/// Starts an instance on the arbiter of the worker that asks.
#[derive(Message)]
#[rtype(result = "Result<(), InstanceRefusal>")]
pub struct StartInstance {
    pub arbiter: ArbiterHandle,
    pub settings: InstanceSettings,
}

/// Why there is no instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceRefusal {
    Exists,
    TooMany,
    Stopping,
}

/// An instance that was found.
#[derive(Clone)]
pub struct FoundInstance {
    pub addr: Addr<ConsumerInstance>,
    pub settings: Arc<InstanceSettings>,
}

#[derive(Message)]
#[rtype(result = "Option<FoundInstance>")]
pub struct FindInstance {
    pub group: String,
    pub instance: String,
}

/// The same, and its name is free from now on: whoever takes it ends it.
#[derive(Message)]
#[rtype(result = "Option<Addr<ConsumerInstance>>")]
pub struct TakeInstance {
    pub group: String,
    pub instance: String,
}

/// Every instance leaves its group and ends. Answered when all have, or after `grace`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EndInstances {
    pub grace: Duration,
}

type Name = (String, String);

/// See the head of this file.
pub struct ConsumerInstances {
    broker: Arc<BrokerShared>,
    instances: HashMap<u64, Running>,
    by_name: HashMap<Name, u64>,
    next_id: u64,
    is_stopping: bool,
    entry: Arc<ActorEntry>,
    _exit: ExitSignal<&'static str>,
}

struct Running {
    name: Name,
    found: FoundInstance,
}

impl ConsumerInstances {
    pub fn new(broker: Arc<BrokerShared>, exit: ExitSignal<&'static str>) -> Self {
        let entry = broker.census.enter("broker/consumer-instances".to_string(), "consumer-instances");
        Self {
            broker,
            instances: HashMap::new(),
            by_name: HashMap::new(),
            next_id: 1,
            is_stopping: false,
            entry,
            _exit: exit,
        }
    }

    fn path(&self, id: u64) -> String {
        format!("{}/consumer-instance:{id}", self.entry.path)
    }
}

impl Actor for ConsumerInstances {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(1, Some(context.address().recipient()));
    }
}

impl Handler<StartInstance> for ConsumerInstances {
    type Result = Result<(), InstanceRefusal>;

    fn handle(&mut self, message: StartInstance, context: &mut Self::Context) -> Self::Result {
        let settings = message.settings;
        let name = (settings.group.clone(), settings.instance.clone());
        if self.is_stopping {
            return Err(InstanceRefusal::Stopping);
        }
        if self.by_name.contains_key(&name) {
            return Err(InstanceRefusal::Exists);
        }
        if self.instances.len() >= INSTANCES_MAX {
            return Err(InstanceRefusal::TooMany);
        }
        let id = self.next_id;
        self.next_id += 1;
        let entry = self.broker.census.enter(self.path(id), "consumer-instance");
        let exit = ExitSignal::new(context.address().recipient(), id, 1);
        let client = LocalClient::new(self.broker.clone());
        let kept = Arc::new(settings.clone());
        let addr = ConsumerInstance::start_in_arbiter(&message.arbiter, move |_| {
            ConsumerInstance::new(client, settings, entry, exit)
        });
        self.instances.insert(id, Running { name: name.clone(), found: FoundInstance { addr, settings: kept } });
        self.by_name.insert(name, id);
        Ok(())
    }
}

impl Handler<FindInstance> for ConsumerInstances {
    type Result = MessageResult<FindInstance>;

    fn handle(&mut self, message: FindInstance, _: &mut Self::Context) -> Self::Result {
        let id = self.by_name.get(&(message.group, message.instance));
        MessageResult(id.and_then(|id| self.instances.get(id)).map(|running| running.found.clone()))
    }
}

impl Handler<TakeInstance> for ConsumerInstances {
    type Result = MessageResult<TakeInstance>;

    fn handle(&mut self, message: TakeInstance, _: &mut Self::Context) -> Self::Result {
        let id = self.by_name.remove(&(message.group, message.instance));
        MessageResult(id.and_then(|id| self.instances.get(&id)).map(|running| running.found.addr.clone()))
    }
}

impl Handler<ChildExited<u64>> for ConsumerInstances {
    type Result = ();

    /// An instance is temporary: its client makes another, and its group goes on from what was committed.
    fn handle(&mut self, exited: ChildExited<u64>, _: &mut Self::Context) {
        if let Some(running) = self.instances.remove(&exited.child)
            && self.by_name.get(&running.name) == Some(&exited.child)
        {
            self.by_name.remove(&running.name);
        }
        self.broker.census.leave(&self.path(exited.child));
    }
}

impl Handler<EndInstances> for ConsumerInstances {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: EndInstances, _: &mut Self::Context) -> Self::Result {
        self.is_stopping = true;
        let ending: Vec<_> = self.instances.values().map(|running| running.found.addr.send(EndInstance)).collect();
        Box::pin(async move {
            let all = async {
                for ended in ending {
                    // One that is gone already has ended too.
                    let _ = ended.await;
                }
            };
            let _ = tokio::time::timeout(message.grace, all).await;
        })
    }
}

impl Handler<Chaos> for ConsumerInstances {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
