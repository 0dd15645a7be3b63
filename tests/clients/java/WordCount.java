import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

/**
 * The word count of Kafka Streams, from a KStream to a KTable. It counts, ends, loses its local state, and goes on counting from
 * what its changelog topic has kept. Lines "ROUND {WORD=COUNT, ...}" and "TOPIC cleanup.policy" of its inner topics.
 *
 * <pre>
 * BOOTSTRAP STATE_DIRECTORY
 * </pre>
 */
public class WordCount {
    static final String APPLICATION = "word-count";
    static final String[] LINES = {"all streams lead to kafka", "hello kafka streams", "join kafka summit"};
    static final long DEADLINE_MS = 60_000;

    public static void main(String[] arguments) throws Exception {
        Properties common = new Properties();
        common.put("bootstrap.servers", arguments[0]);
        common.put("auto.offset.reset", "earliest");
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("application.id", APPLICATION);
        settings.put("state.dir", arguments[1]);
        settings.put("default.key.serde", Serdes.StringSerde.class);
        settings.put("default.value.serde", Serdes.StringSerde.class);
        settings.put("auto.offset.reset", "earliest");
        settings.put("commit.interval.ms", 100);
        settings.put("num.stream.threads", 2);
        try (Admin admin = Admin.create(common)) {
            var topics = List.of(new NewTopic("lines", 3, (short) 1), new NewTopic("counts", 3, (short) 1));
            admin.createTopics(topics).all().get();
            for (long round = 1; round <= 2; round++) {
                countOnce(common, settings, round);
            }
            for (String topic : List.of(APPLICATION + "-counted-changelog", APPLICATION + "-counted-repartition")) {
                var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
                var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
                System.out.println(topic + " " + config.get("cleanup.policy").value());
            }
        }
    }

    static Topology topology() {
        StreamsBuilder builder = new StreamsBuilder();
        KTable<String, Long> counts = builder.<String, String>stream("lines")
                .flatMapValues(line -> List.of(line.split(" ")))
                .groupBy((key, word) -> word, Grouped.as("counted"))
                .count(Materialized.as("counted"));
        counts.toStream().to("counts", Produced.with(Serdes.String(), Serdes.Long()));
        return builder.build();
    }

    /** The same lines in each round: after the n-th, each word counts n times what it counts in the lines. */
    static void countOnce(Properties common, Properties settings, long round) throws Exception {
        try (KafkaStreams streams = new KafkaStreams(topology(), settings)) {
            streams.setUncaughtExceptionHandler(error -> {
                error.printStackTrace();
                Runtime.getRuntime().halt(1);
                return null;
            });
            streams.start();
            try (var producer = new KafkaProducer<>(common, new StringSerializer(), new StringSerializer())) {
                for (String line : LINES) {
                    producer.send(new ProducerRecord<>("lines", line, line)).get();
                }
            }
            System.out.println(round + " " + waitForCounts(common, round));
            // Else its members would stay until their sessions end, and the next round would wait for that.
            streams.close(CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP));
            streams.cleanUp();
        }
    }

    static Map<String, Long> waitForCounts(Properties common, long round) {
        Map<String, Long> wanted = new TreeMap<>();
        for (String line : LINES) {
            for (String word : line.split(" ")) {
                wanted.merge(word, round, Long::sum);
            }
        }
        Map<String, Long> counts = new TreeMap<>();
        Properties properties = new Properties();
        properties.putAll(common);
        properties.put("group.id", "reader-of-round-" + round);
        try (var consumer = new KafkaConsumer<>(properties, new StringDeserializer(), new LongDeserializer())) {
            consumer.subscribe(List.of("counts"));
            long deadline = System.currentTimeMillis() + DEADLINE_MS;
            while (!counts.equals(wanted) && System.currentTimeMillis() < deadline) {
                consumer.poll(Duration.ofMillis(100)).forEach(record -> counts.put(record.key(), record.value()));
            }
        }
        return counts;
    }
}
