// kafka-go as members of a group: scenario.go. Its ConsumerGroup is what its Reader stands on, and the one that tells what it holds.
//
//	kafkago BOOTSTRAP
package main

import (
	"context"
	"errors"
	"os"
	"time"

	"capek/tests/clients/scenario"

	"github.com/segmentio/kafka-go"
)

type client struct {
	bootstrap string
	admin     *kafka.Client
}

func main() {
	admin := &kafka.Client{Addr: kafka.TCP(os.Args[1]), Timeout: 10 * time.Second}
	scenario.Serve(&client{bootstrap: os.Args[1], admin: admin})
}

func (client *client) Create(ctx context.Context, topic string, partitions int) error {
	wanted := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}
	response, err := client.admin.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

// Produce uses the call below its Writer, which does not tell offsets.
func (client *client) Produce(ctx context.Context, topic string, index int) (int32, int64, error) {
	partition := (&kafka.Hash{}).Balance(kafka.Message{Key: scenario.KeyOf(index)}, 0, 1, 2)
	var headers []kafka.Header
	for _, header := range scenario.Headers {
		headers = append(headers, kafka.Header{Key: header.Name, Value: []byte(header.Value)})
	}
	record := kafka.Record{
		Time: time.Now(), Headers: headers,
		Key: kafka.NewBytes(scenario.KeyOf(index)), Value: kafka.NewBytes(scenario.ValueOf(index)),
	}
	response, err := client.admin.Produce(ctx, &kafka.ProduceRequest{
		Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(record),
	})
	if err != nil {
		return 0, 0, err
	}
	return int32(partition), response.BaseOffset, response.Error
}

func (client *client) Join(ctx context.Context, member *scenario.Member, name, topic string) error {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: name, Brokers: []string{client.bootstrap}, Topics: []string{topic}, StartOffset: kafka.FirstOffset,
		HeartbeatInterval: scenario.Heartbeat, SessionTimeout: scenario.Session, JoinGroupBackoff: 200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	for {
		generation, err := group.Next(ctx)
		if ctx.Err() != nil {
			return group.Close()
		}
		if err != nil {
			scenario.Complain("member %s: %v", member.Name, err)
			continue
		}
		var held []int32
		for _, assigned := range generation.Assignments[topic] {
			held = append(held, int32(assigned.ID))
		}
		member.Holds(held)
		for _, assigned := range generation.Assignments[topic] {
			generation.Start(func(ctx context.Context) { client.read(ctx, member, generation, topic, assigned) })
		}
		generation.Start(func(ctx context.Context) {
			<-ctx.Done()
			member.Holds(nil)
		})
	}
}

// read reads one partition for as long as this generation lasts, and commits each record.
func (client *client) read(ctx context.Context, member *scenario.Member, generation *kafka.Generation, topic string,
	assigned kafka.PartitionAssignment) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{client.bootstrap}, Topic: topic, Partition: assigned.ID, MaxWait: 100 * time.Millisecond,
	})
	defer reader.Close()
	if err := reader.SetOffset(assigned.Offset); err != nil {
		scenario.Fail("set offset: %v", err)
	}
	for ctx.Err() == nil {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			if !errors.Is(err, context.Canceled) && !errors.Is(err, kafka.ErrGenerationEnded) {
				scenario.Complain("read: %v", err)
			}
			continue
		}
		var headers []scenario.Header
		for _, header := range message.Headers {
			headers = append(headers, scenario.Header{Name: header.Key, Value: string(header.Value)})
		}
		partition := int32(message.Partition)
		member.Record(partition, message.Offset, message.Key, message.Value, headers)
		next := message.Offset + 1
		if err := generation.CommitOffsets(map[string]map[int]int64{topic: {message.Partition: next}}); err != nil {
			// Only the next generation can make up for it: it reads the record again.
			scenario.Complain("commit: %v", err)
			continue
		}
		member.Committed(partition, next)
	}
}

func (client *client) Committed(ctx context.Context, group, topic string) (map[int32]int64, error) {
	response, err := client.admin.OffsetFetch(ctx, &kafka.OffsetFetchRequest{
		GroupID: group, Topics: map[string][]int{topic: {0, 1, 2}},
	})
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for _, partition := range response.Topics[topic] {
		if partition.Error != nil {
			return nil, partition.Error
		}
		if partition.CommittedOffset >= 0 {
			offsets[int32(partition.Partition)] = partition.CommittedOffset
		}
	}
	return offsets, response.Error
}
