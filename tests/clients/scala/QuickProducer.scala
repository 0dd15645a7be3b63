import java.util.Properties

import org.apache.kafka.clients.producer.{KafkaProducer, ProducerRecord}

/** The producer of an introduction to Kafka in Scala: `BOOTSTRAP TOPIC COUNT`. */
object QuickProducer extends App {
  private val Array(bootstrap, topic, count) = args

  private val properties = new Properties()
  properties.put("bootstrap.servers", bootstrap)
  properties.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer")
  properties.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer")

  private val producer = new KafkaProducer[String, String](properties)
  for (index <- 0 until count.toInt) {
    val sent = producer.send(new ProducerRecord[String, String](topic, s"key-$index", s"hello $index")).get()
    println(s"${sent.partition} ${sent.offset}")
  }
  producer.close()
}
