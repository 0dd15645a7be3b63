import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Kafka's own Java clients as members of a group: commands on standard input, events on standard output, as
 * tests/clients/python/scenario.py lists them. Compiled once, run with the libraries of each version of Kafka.
 *
 * <pre>
 * BOOTSTRAP [SETTING=VALUE...]     settings of the consumers, such as group.protocol=consumer
 * </pre>
 */
public class GroupClient {
    static final long DEADLINE_MS = 60_000;
    /** A second member is to notice a rebalance soon; a broker that is started again has to be back within the session. */
    static final int HEARTBEAT_MS = 300;
    static final int SESSION_MS = 10_000;

    final Properties common = new Properties();
    final Properties settings = new Properties();
    final Map<String, Member> members = new HashMap<>();
    KafkaProducer<String, String> producer;

    public static void main(String[] arguments) throws Exception {
        GroupClient client = new GroupClient();
        client.common.put("bootstrap.servers", arguments[0]);
        client.common.put("reconnect.backoff.max.ms", "500");
        for (int index = 1; index < arguments.length; index++) {
            String[] setting = arguments[index].split("=", 2);
            client.settings.put(setting[0], setting[1]);
        }
        client.serve();
    }

    void serve() throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.split(" ");
            switch (words[0]) {
                case "create" -> create(words[1], Integer.parseInt(words[2]));
                case "produce" -> produce(words[1], Integer.parseInt(words[2]), Integer.parseInt(words[3]));
                case "join" -> members.put(words[1], new Member(words[1], words[2], words[3]));
                case "leave" -> members.remove(words[1]).leave();
                case "committed" -> committed(words[1], words[2]);
                default -> throw new IllegalArgumentException(line);
            }
        }
        for (Member member : members.values()) {
            member.leave();
        }
        if (producer != null) {
            producer.close();
        }
    }

    static void say(String event, String... more) {
        StringBuilder line = new StringBuilder("{\"event\":\"" + event + "\"");
        for (int index = 0; index < more.length; index += 2) {
            line.append(",\"").append(more[index]).append("\":").append(more[index + 1]);
        }
        System.out.println(line.append("}"));
    }

    static String quoted(String text) {
        return "\"" + text + "\"";
    }

    static <T> T untilItWorks(String what, Callable<T> attempt) throws InterruptedException {
        long deadline = System.currentTimeMillis() + DEADLINE_MS;
        while (true) {
            try {
                return attempt.call();
            } catch (Exception error) {
                System.err.println(what + ": " + error);
                if (System.currentTimeMillis() > deadline) {
                    System.err.println(what + " did not work in time");
                    Runtime.getRuntime().halt(1);
                }
                Thread.sleep(100);
            }
        }
    }

    void create(String topic, int partitions) throws Exception {
        try (Admin admin = Admin.create(common)) {
            NewTopic wanted = new NewTopic(topic, partitions, (short) 1);
            untilItWorks("create", () -> admin.createTopics(List.of(wanted)).all().get());
        }
        say("created");
    }

    void produce(String topic, int first, int count) throws Exception {
        if (producer == null) {
            producer = new KafkaProducer<>(common, new StringSerializer(), new StringSerializer());
        }
        for (int index = first; index < first + count; index++) {
            var record = new ProducerRecord<>(topic, "key-" + index % 10, "value-" + index);
            record.headers().add("trace", "1".getBytes()).add("trace", "again".getBytes());
            var sent = untilItWorks("produce", () -> producer.send(record).get());
            say("produced", "partition", "" + sent.partition(), "offset", "" + sent.offset(), "value", quoted(record.value()));
        }
    }

    void committed(String group, String topic) throws Exception {
        Map<Integer, Long> offsets = new TreeMap<>();
        try (Admin admin = Admin.create(common)) {
            var found = untilItWorks("committed",
                    () -> admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get());
            found.forEach((place, position) -> {
                if (place.topic().equals(topic)) {
                    offsets.put(place.partition(), position.offset());
                }
            });
        }
        say("offsets", "offsets", offsets.entrySet().stream()
                .map(entry -> "\"" + entry.getKey() + "\":" + entry.getValue()).collect(Collectors.joining(",", "{", "}")));
    }

    class Member extends Thread implements ConsumerRebalanceListener {
        final KafkaConsumer<String, String> consumer;
        final TreeSet<Integer> held = new TreeSet<>();
        volatile boolean stopping;

        Member(String name, String group, String topic) {
            super(name);
            Properties properties = new Properties();
            properties.putAll(common);
            if (!"consumer".equals(settings.get("group.protocol"))) {
                // With the newer protocol the broker decides.
                properties.put("heartbeat.interval.ms", HEARTBEAT_MS);
                properties.put("session.timeout.ms", SESSION_MS);
            }
            properties.putAll(settings);
            properties.put("group.id", group);
            properties.put("client.id", name);
            properties.put("enable.auto.commit", "false");
            properties.put("auto.offset.reset", "earliest");
            properties.put("fetch.max.wait.ms", "100");
            consumer = new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
            consumer.subscribe(List.of(topic), this);
            start();
        }

        @Override
        public void run() {
            try {
                while (!stopping) {
                    var records = consumer.poll(Duration.ofMillis(100));
                    records.forEach(this::seen);
                    if (!records.isEmpty()) {
                        commit();
                    }
                }
                if (!consumer.assignment().isEmpty()) {
                    untilItWorks("the last commit", () -> commitOrThrow());
                }
                consumer.close();
                say("left", "member", quoted(getName()));
            } catch (Throwable error) {
                error.printStackTrace();
                Runtime.getRuntime().halt(1);
            }
        }

        void seen(ConsumerRecord<String, String> record) {
            String headers = StreamSupport.stream(record.headers().spliterator(), false)
                    .map(header -> header.key() + "=" + new String(header.value())).collect(Collectors.joining(","));
            say("record", "member", quoted(getName()), "partition", "" + record.partition(), "offset", "" + record.offset(),
                    "key", quoted(record.key()), "value", quoted(record.value()), "headers", quoted(headers));
        }

        void commit() {
            try {
                commitOrThrow();
            } catch (RuntimeException error) {
                // A rebalance, or a broker that is gone: the next commit makes up for it.
                System.err.println("commit: " + error);
            }
        }

        Void commitOrThrow() {
            Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
            for (TopicPartition partition : consumer.assignment()) {
                positions.put(partition, new OffsetAndMetadata(consumer.position(partition)));
            }
            consumer.commitSync(positions);
            positions.forEach((place, position) -> say("committed", "member", quoted(getName()),
                    "partition", "" + place.partition(), "offset", "" + position.offset()));
            return null;
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> more) {
            more.forEach(partition -> held.add(partition.partition()));
            say("assigned", "member", quoted(getName()), "partitions", held.toString());
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> fewer) {
            fewer.forEach(partition -> held.remove(partition.partition()));
            say("assigned", "member", quoted(getName()), "partitions", held.toString());
        }

        void leave() throws InterruptedException {
            stopping = true;
            join();
        }
    }
}
