// kafkajs as members of a group: commands on standard input, events on standard output, as tests/clients/python/scenario.py lists
// them. Arguments: BOOTSTRAP

"use strict";

const readline = require("node:readline");
const { Kafka, logLevel } = require("kafkajs");

const DEADLINE_MS = 60_000;
// A second member is to notice a rebalance soon; a broker that is started again has to be back within the session.
const HEARTBEAT_MS = 300;
const SESSION_MS = 10_000;

const kafka = new Kafka({
  brokers: [process.argv[2]],
  logLevel: logLevel.ERROR,
  logCreator: () => (entry) => console.error(entry.log.message, entry.log.error ?? ""),
  // It waits up to 30 seconds between attempts and gives a consumer up after five of them.
  retry: { initialRetryTime: 100, maxRetryTime: 500, retries: 100 },
});
const members = new Map();
let producer;

function say(event, more = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);
}

async function untilItWorks(what, attempt) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      console.error(`${what}: ${error}`);
      if (Date.now() > deadline) {
        throw new Error(`${what} did not work in time`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

async function withAdmin(use) {
  const admin = kafka.admin();
  await admin.connect();
  try {
    return await use(admin);
  } finally {
    await admin.disconnect();
  }
}

async function create(topic, partitions) {
  const topics = [{ topic, numPartitions: Number(partitions), replicationFactor: 1 }];
  await untilItWorks("create", () => withAdmin((admin) => admin.createTopics({ topics, waitForLeaders: true })));
  say("created");
}

async function produce(topic, first, count) {
  if (producer === undefined) {
    producer = kafka.producer();
    await producer.connect();
  }
  for (let index = Number(first); index < Number(first) + Number(count); index += 1) {
    const message = { key: `key-${index % 10}`, value: `value-${index}`, headers: { trace: ["1", "again"] } };
    const send = () => producer.send({ topic, acks: -1, messages: [message] });
    const [{ partition, baseOffset }] = await untilItWorks("produce", send);
    say("produced", { partition, offset: Number(baseOffset), value: message.value });
  }
}

async function join(name, groupId, topic) {
  const consumer = kafka.consumer({
    groupId, sessionTimeout: SESSION_MS, heartbeatInterval: HEARTBEAT_MS, maxWaitTimeInMs: 100,
  });
  members.set(name, consumer);
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const partitions = payload.memberAssignment[topic] ?? [];
    say("assigned", { member: name, partitions: [...partitions].sort((one, other) => one - other) });
  });
  consumer.on(consumer.events.REBALANCING, () => say("assigned", { member: name, partitions: [] }));
  await untilItWorks("connect", () => consumer.connect());
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({ autoCommit: false, eachMessage: (found) => seen(consumer, name, found) });
}

async function seen(consumer, name, { topic, partition, message }) {
  const headers = Object.entries(message.headers).flatMap(([header, values]) =>
    [values].flat().map((value) => `${header}=${value}`));
  const offset = Number(message.offset);
  const text = { key: message.key.toString(), value: message.value.toString(), headers: headers.join(",") };
  say("record", { member: name, partition, offset, ...text });
  // What throws here makes kafkajs join again and deliver the message once more.
  await consumer.commitOffsets([{ topic, partition, offset: String(offset + 1) }]);
  say("committed", { member: name, partition, offset: offset + 1 });
}

async function leave(name) {
  await members.get(name).disconnect();
  members.delete(name);
  say("left", { member: name });
}

async function committed(groupId, topic) {
  const ask = () => withAdmin((admin) => admin.fetchOffsets({ groupId, topics: [topic] }));
  const [found] = await untilItWorks("committed", ask);
  const known = found.partitions.filter(({ offset }) => Number(offset) >= 0);
  say("offsets", { offsets: Object.fromEntries(known.map(({ partition, offset }) => [partition, Number(offset)])) });
}

async function main() {
  const commands = { create, produce, join, leave, committed };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [command, ...words] = line.split(" ");
    await commands[command](...words);
  }
  for (const name of [...members.keys()]) {
    await leave(name);
  }
  await producer?.disconnect();
}

// A broker that went away at the wrong moment leaves kafkajs with a connection that nobody closes.
main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
