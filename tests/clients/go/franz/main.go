// franz-go: a Kafka client in Go that shares no code with librdkafka or the JVM.
//
//	franz produce BOOTSTRAP TOPIC COUNT CODEC    "PARTITION OFFSET" for each confirmed record (idempotent, acks=all)
//	franz consume BOOTSTRAP TOPIC FROM COUNT     FROM: earliest | offset:N | timestamp:MS (milliseconds); tab-separated
//	                                             "PARTITION OFFSET TIMESTAMP KEY VALUE HEADERS"
//	franz group BOOTSTRAP                        members of a group, led from standard input: scenario.go
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"capek/tests/clients/scenario"

	"github.com/twmb/franz-go/pkg/kgo"
)

const firstTimestampMs = 1_700_000_000_000
const deadline = 60 * time.Second

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	command, bootstrap := os.Args[1], os.Args[2]
	if command == "group" {
		client := newClient(kgo.SeedBrokers(bootstrap))
		scenario.Serve(&groupClient{bootstrap: bootstrap, client: client})
		return
	}
	topic := os.Args[3]
	switch command {
	case "produce":
		produce(ctx, bootstrap, topic, number(os.Args[4]), os.Args[5])
	case "consume":
		consume(ctx, bootstrap, topic, os.Args[4], number(os.Args[5]))
	default:
		fail("unknown command %s", command)
	}
}

func produce(ctx context.Context, bootstrap, topic string, count int64, codec string) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	client := newClient(kgo.SeedBrokers(bootstrap), kgo.ProducerBatchCompression(codecs[codec]), kgo.AllowAutoTopicCreation())
	defer client.Close()
	var records []*kgo.Record
	for index := range count {
		records = append(records, &kgo.Record{
			Topic: topic, Key: fmt.Appendf(nil, "key-%d", index),
			Value:     []byte(fmt.Sprintf("value-%d-", index) + strings.Repeat("x", 100)),
			Timestamp: time.UnixMilli(firstTimestampMs + index*1000),
			Headers: []kgo.RecordHeader{
				{Key: "trace", Value: fmt.Append(nil, index)}, {Key: "trace", Value: []byte("again")}, {Key: "null", Value: nil},
			},
		})
	}
	for _, result := range client.ProduceSync(ctx, records...) {
		if result.Err != nil {
			fail("not confirmed: %v", result.Err)
		}
		fmt.Println(result.Record.Partition, result.Record.Offset)
	}
}

func consume(ctx context.Context, bootstrap, topic, from string, count int64) {
	offset := kgo.NewOffset().AtStart()
	kind, argument, _ := strings.Cut(from, ":")
	switch kind {
	case "offset":
		offset = kgo.NewOffset().At(number(argument))
	case "timestamp":
		offset = kgo.NewOffset().AfterMilli(number(argument))
	}
	client := newClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(offset))
	defer client.Close()
	output := bufio.NewWriter(os.Stdout)
	defer output.Flush()
	for seen := int64(0); seen < count; {
		fetches := client.PollFetches(ctx)
		for _, failed := range fetches.Errors() {
			fail("%s/%d: %v", failed.Topic, failed.Partition, failed.Err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			seen++
			headers := ""
			for _, header := range record.Headers {
				value := string(header.Value)
				if header.Value == nil {
					value = "null"
				}
				headers += header.Key + "=" + value + ","
			}
			fmt.Fprintf(output, "%d\t%d\t%d\t%s\t%s\t%s\n", record.Partition, record.Offset, record.Timestamp.UnixMilli(),
				record.Key, record.Value, headers)
		})
	}
}

func newClient(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(options...)
	if err != nil {
		fail("%v", err)
	}
	return client
}

func number(text string) int64 {
	parsed, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		fail("%v", err)
	}
	return parsed
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}
