import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * The calls by which Kafdrop fills its pages, one after the other, each answered by a line "CALL ANSWER".
 *
 * <pre>
 * BOOTSTRAP TOPIC
 * </pre>
 */
public class KafdropCalls {
    static final int PARTITIONS = 3;
    static final int RECORDS = 12;
    static final String GROUP = "seen-by-kafdrop";
    static final long FIRST_TIMESTAMP_MS = 1_700_000_000_000L;

    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        Properties common = new Properties();
        common.put("bootstrap.servers", arguments[0]);
        common.put("enable.auto.commit", "false");
        common.put("group.id", GROUP);
        try (Admin admin = Admin.create(common);
                var consumer = new KafkaConsumer<>(common, new StringDeserializer(), new StringDeserializer())) {
            cluster(admin);
            admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1))).all().get();
            fill(common, topic);
            topics(admin, consumer, topic);
            messages(consumer, topic);
            groups(admin, consumer, topic);
            acls(admin);
            admin.deleteTopics(List.of(topic)).all().get();
            say("after-delete", consumer.listTopics().containsKey(topic));
        }
    }

    static void say(String call, Object answer) {
        System.out.println(call + " " + answer);
    }

    static void cluster(Admin admin) throws Exception {
        var cluster = admin.describeCluster();
        say("brokers", cluster.nodes().get().stream().map(node -> node.id() + "@" + node.host() + ":" + node.port()).toList());
        say("controller", cluster.controller().get().id());
        say("cluster-id", cluster.clusterId().get());
        var broker = new ConfigResource(ConfigResource.Type.BROKER, "" + cluster.controller().get().id());
        var config = admin.describeConfigs(List.of(broker)).all().get().get(broker);
        say("broker-config", config.get("num.partitions").value());
    }

    static void fill(Properties common, String topic) throws Exception {
        try (var producer = new KafkaProducer<>(common, new StringSerializer(), new StringSerializer())) {
            for (int index = 0; index < RECORDS; index++) {
                long timestampMs = FIRST_TIMESTAMP_MS + index * 1000L;
                producer.send(new ProducerRecord<>(topic, index % PARTITIONS, timestampMs, "key", "value-" + index)).get();
            }
        }
    }

    static void topics(Admin admin, KafkaConsumer<String, String> consumer, String topic) throws Exception {
        say("listed", consumer.listTopics().containsKey(topic));
        say("partitions", consumer.partitionsFor(topic).stream()
                .map(info -> info.partition() + ":" + info.leader().id() + ":" + info.inSyncReplicas().length).sorted().toList());
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        say("topic-config", config.get("cleanup.policy").value());
        List<TopicPartition> partitions = partitionsOf(topic);
        say("beginning", byPartition(consumer.beginningOffsets(partitions)));
        say("end", byPartition(consumer.endOffsets(partitions)));
        Map<TopicPartition, Long> asked = new HashMap<>();
        partitions.forEach(partition -> asked.put(partition, FIRST_TIMESTAMP_MS + 5_500));
        Map<TopicPartition, Long> found = new HashMap<>();
        consumer.offsetsForTimes(asked).forEach((partition, position) -> found.put(partition, position.offset()));
        say("at-time", byPartition(found));
    }

    /** A page of messages: assigned by hand, from an offset. */
    static void messages(KafkaConsumer<String, String> consumer, String topic) {
        TopicPartition partition = new TopicPartition(topic, 1);
        consumer.assign(List.of(partition));
        consumer.seek(partition, 2);
        TreeSet<String> seen = new TreeSet<>();
        long deadline = System.currentTimeMillis() + 30_000;
        while (seen.size() < RECORDS / PARTITIONS - 2 && System.currentTimeMillis() < deadline) {
            consumer.poll(Duration.ofMillis(200)).forEach(record -> seen.add(record.offset() + "=" + record.value()));
        }
        say("messages", seen);
    }

    @SuppressWarnings("removal") // it is what Kafdrop calls
    static void groups(Admin admin, KafkaConsumer<String, String> consumer, String topic) throws Exception {
        consumer.commitSync(Map.of(new TopicPartition(topic, 1), new OffsetAndMetadata(3)));
        say("groups", admin.listConsumerGroups().all().get().stream().map(group -> group.groupId()).sorted().toList());
        Map<TopicPartition, Long> committed = new HashMap<>();
        admin.listConsumerGroupOffsets(GROUP).partitionsToOffsetAndMetadata().get()
                .forEach((partition, position) -> committed.put(partition, position.offset()));
        say("committed", byPartition(committed));
    }

    /** What it shows for a cluster without an authorizer: nothing, on this error only. */
    static void acls(Admin admin) throws Exception {
        try {
            say("acls", admin.describeAcls(AclBindingFilter.ANY).values().get());
        } catch (ExecutionException refused) {
            say("acls", refused.getCause().getClass().getSimpleName());
        }
    }

    static List<TopicPartition> partitionsOf(String topic) {
        return List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1), new TopicPartition(topic, 2));
    }

    static Map<Integer, Long> byPartition(Map<TopicPartition, Long> offsets) {
        return new TreeMap<>(offsets.entrySet().stream()
                .collect(Collectors.toMap(entry -> entry.getKey().partition(), Map.Entry::getValue)));
    }
}
