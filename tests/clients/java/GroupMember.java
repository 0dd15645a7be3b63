import java.time.Duration;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A member of a consumer group, with Kafka's own consumer: the same arguments and the same lines as group_member.py.
 *
 * GroupMember BOOTSTRAP GROUP PROTOCOL TOPICS [NAME=VALUE]...
 */
public final class GroupMember {
    private static volatile boolean isOver = false;
    private static final TreeSet<String> assigned = new TreeSet<>();

    public static void main(String[] arguments) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("group.id", arguments[1]);
        properties.put("group.protocol", arguments[2]);
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        properties.put("key.deserializer", StringDeserializer.class.getName());
        properties.put("value.deserializer", StringDeserializer.class.getName());
        for (String setting : Arrays.copyOfRange(arguments, 4, arguments.length)) {
            String[] parts = setting.split("=", 2);
            properties.put(parts[0], parts[1]);
        }
        Thread input = new Thread(GroupMember::waitForEnd);
        input.setDaemon(true);
        input.start();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
            subscribe(consumer, arguments[3]);
            while (!isOver) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                    take(consumer, record);
                }
            }
        }
        say("left");
    }

    private static void subscribe(KafkaConsumer<String, String> consumer, String topics) {
        if (topics.startsWith("^")) {
            consumer.subscribe(new SubscriptionPattern(topics), new Listener());
        } else {
            consumer.subscribe(List.of(topics.split(",")), new Listener());
        }
    }

    /** Whoever has lost the partition meanwhile leaves the record to the next owner. */
    private static void take(KafkaConsumer<String, String> consumer, ConsumerRecord<String, String> record) {
        TopicPartition partition = new TopicPartition(record.topic(), record.partition());
        try {
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(record.offset() + 1)));
        } catch (KafkaException error) {
            System.err.println("not committed: " + error);
            return;
        }
        say("record " + record.topic() + " " + record.partition() + " " + record.offset() + " " + record.value());
    }

    private static void waitForEnd() {
        try {
            while (System.in.read() >= 0) {
                continue;
            }
        } catch (java.io.IOException error) {
            System.err.println(error);
        }
        isOver = true;
    }

    private static void tell() {
        say(("assigned " + String.join(" ", assigned)));
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static final class Listener implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            partitions.forEach(partition -> assigned.add(partition.toString()));
            tell();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            partitions.forEach(partition -> assigned.remove(partition.toString()));
            tell();
        }
    }
}
