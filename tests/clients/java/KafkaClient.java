import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Kafka's own Java clients with their defaults: an idempotent producer with acks=all, and a consumer that assigns.
 *
 * <pre>
 * produce BOOTSTRAP TOPIC COUNT CODEC     "PARTITION OFFSET" for each confirmed record
 * consume BOOTSTRAP TOPIC FROM COUNT      FROM: earliest | offset:N | timestamp:MS; tab-separated
 *                                         "PARTITION OFFSET TIMESTAMP KEY VALUE HEADERS"
 * </pre>
 */
public class KafkaClient {
    static final long FIRST_TIMESTAMP_MS = 1_700_000_000_000L;
    static final long DEADLINE_MS = 60_000;

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "produce" -> produce(arguments[1], arguments[2], Integer.parseInt(arguments[3]), arguments[4]);
            case "consume" -> consume(arguments[1], arguments[2], arguments[3], Integer.parseInt(arguments[4]));
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    static void produce(String bootstrap, String topic, int count, String codec) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("compression.type", codec);
        properties.put("linger.ms", "20");
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        try (var producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            for (int index = 0; index < count; index++) {
                var record = new ProducerRecord<>(topic, null, FIRST_TIMESTAMP_MS + index * 1000L, "key-" + index,
                        "value-" + index + "-" + "x".repeat(100));
                record.headers().add("trace", String.valueOf(index).getBytes()).add("trace", "again".getBytes())
                        .add("null", null);
                answers.add(producer.send(record));
            }
            producer.flush();
        }
        for (var answer : answers) {
            System.out.println(answer.get().partition() + " " + answer.get().offset());
        }
    }

    static void consume(String bootstrap, String topic, String from, int count) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("auto.offset.reset", "none");
        try (var consumer = new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (PartitionInfo found : consumer.partitionsFor(topic)) {
                partitions.add(new TopicPartition(topic, found.partition()));
            }
            consumer.assign(partitions);
            seek(consumer, partitions, from);
            int seen = 0;
            long deadline = System.currentTimeMillis() + DEADLINE_MS;
            while (seen < count && System.currentTimeMillis() < deadline) {
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    StringBuilder headers = new StringBuilder();
                    for (Header header : record.headers()) {
                        String value = header.value() == null ? "null" : new String(header.value());
                        headers.append(header.key()).append('=').append(value).append(',');
                    }
                    System.out.println(record.partition() + "\t" + record.offset() + "\t" + record.timestamp() + "\t"
                            + record.key() + "\t" + record.value() + "\t" + headers);
                    seen++;
                }
            }
            if (seen < count) {
                System.err.println("saw " + seen + " of " + count + " records in time");
                System.exit(1);
            }
        }
    }

    static void seek(KafkaConsumer<?, ?> consumer, List<TopicPartition> partitions, String from) {
        String[] parts = from.split(":");
        switch (parts[0]) {
            case "earliest" -> consumer.seekToBeginning(partitions);
            case "offset" -> partitions.forEach(partition -> consumer.seek(partition, Long.parseLong(parts[1])));
            case "timestamp" -> {
                Map<TopicPartition, Long> asked = new HashMap<>();
                partitions.forEach(partition -> asked.put(partition, Long.parseLong(parts[1])));
                for (var found : consumer.offsetsForTimes(asked).entrySet()) {
                    OffsetAndTimestamp position = found.getValue();
                    if (position == null) {
                        consumer.seekToEnd(List.of(found.getKey()));
                    } else {
                        consumer.seek(found.getKey(), position.offset());
                    }
                }
            }
            default -> throw new IllegalArgumentException(from);
        }
    }
}
