import java.time.Duration
import java.util.Properties

import scala.jdk.CollectionConverters._

import org.apache.kafka.clients.consumer.KafkaConsumer

/** The consumer of an introduction to Kafka in Scala, a group with automatic commits: `BOOTSTRAP TOPIC GROUP COUNT`. */
object QuickConsumer extends App {
  private val Array(bootstrap, topic, group, count) = args

  private val properties = new Properties()
  properties.put("bootstrap.servers", bootstrap)
  properties.put("group.id", group)
  properties.put("auto.offset.reset", "earliest")
  properties.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer")
  properties.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer")

  private val consumer = new KafkaConsumer[String, String](properties)
  consumer.subscribe(List(topic).asJava)
  private val deadline = System.currentTimeMillis() + 60000
  private var seen = 0
  while (seen < count.toInt && System.currentTimeMillis() < deadline) {
    for (record <- consumer.poll(Duration.ofMillis(100)).asScala) {
      println(s"${record.partition} ${record.offset} ${record.key} ${record.value}")
      seen += 1
    }
  }
  consumer.close()
}
