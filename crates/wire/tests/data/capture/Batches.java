// Creates a topic for each codec and produces one batch to it, as the Java client makes it. The timestamps are fixed, so
// that a new capture differs little.
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Batches {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");

    public static void main(String[] args) throws Exception {
        try (var admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            // The records are older than the usual retention.
            var topics = CODECS.stream().map(c -> new NewTopic("capture-" + c, 1, (short) 1).configs(Map.of("retention.ms", "-1")));
            admin.createTopics(topics.toList()).all().get();
        }
        for (String codec : CODECS) {
            Properties p = new Properties();
            p.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
            p.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, codec);
            p.put(ProducerConfig.LINGER_MS_CONFIG, 1000);
            p.put(ProducerConfig.BATCH_SIZE_CONFIG, 1 << 20);
            try (var producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
                for (int i = 0; i < 10; i++) {
                    byte[] key = i == 3 ? null : ("key-" + i).getBytes();
                    byte[] value = i == 4 ? null : ("value-" + i + "-").repeat(100).getBytes();
                    var record = new ProducerRecord<>("capture-" + codec, 0, 1700000000000L + i * 7, key, value);
                    record.headers().add(new RecordHeader("h", "one".getBytes()));
                    record.headers().add(new RecordHeader("h", (byte[]) null));
                    producer.send(record);
                }
            }
        }
    }
}
