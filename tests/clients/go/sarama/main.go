// Sarama as members of a group, with its defaults: scenario.go.
//
//	sarama BOOTSTRAP
package main

import (
	"context"
	"os"
	"time"

	"capek/tests/clients/scenario"

	"github.com/IBM/sarama"
)

type client struct {
	bootstrap []string
	producer  sarama.SyncProducer
}

func main() {
	scenario.Serve(&client{bootstrap: os.Args[1:2]})
}

func configuration() *sarama.Config {
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Heartbeat.Interval = scenario.Heartbeat
	config.Consumer.Group.Session.Timeout = scenario.Session
	config.Consumer.Return.Errors = true
	// Commits and heartbeats share the connection of the fetches, and wait behind them.
	config.Consumer.MaxWaitTime = 50 * time.Millisecond
	return config
}

func (client *client) Create(_ context.Context, topic string, partitions int) error {
	admin, err := sarama.NewClusterAdmin(client.bootstrap, configuration())
	if err != nil {
		return err
	}
	defer admin.Close()
	return admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1}, false)
}

func (client *client) Produce(_ context.Context, topic string, index int) (int32, int64, error) {
	if client.producer == nil {
		producer, err := sarama.NewSyncProducer(client.bootstrap, configuration())
		if err != nil {
			return 0, 0, err
		}
		client.producer = producer
	}
	message := &sarama.ProducerMessage{
		Topic: topic, Key: sarama.ByteEncoder(scenario.KeyOf(index)), Value: sarama.ByteEncoder(scenario.ValueOf(index)),
	}
	for _, header := range scenario.Headers {
		encoded := sarama.RecordHeader{Key: []byte(header.Name), Value: []byte(header.Value)}
		message.Headers = append(message.Headers, encoded)
	}
	return client.producer.SendMessage(message)
}

func (client *client) Join(ctx context.Context, member *scenario.Member, name, topic string) error {
	group, err := sarama.NewConsumerGroup(client.bootstrap, name, configuration())
	if err != nil {
		return err
	}
	go func() {
		for err := range group.Errors() {
			scenario.Complain("member %s: %v", member.Name, err)
		}
	}()
	// Consume ends with every rebalance.
	for ctx.Err() == nil {
		if err := group.Consume(ctx, []string{topic}, &handler{member}); err != nil {
			scenario.Complain("member %s: %v", member.Name, err)
		}
	}
	return group.Close()
}

func (client *client) Committed(_ context.Context, name, topic string) (map[int32]int64, error) {
	admin, err := sarama.NewClusterAdmin(client.bootstrap, configuration())
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	found, err := admin.ListConsumerGroupOffsets(name, nil)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for partition, block := range found.Blocks[topic] {
		offsets[partition] = block.Offset
	}
	return offsets, nil
}

type handler struct{ member *scenario.Member }

func (handler *handler) Setup(session sarama.ConsumerGroupSession) error {
	for _, partitions := range session.Claims() {
		handler.member.Holds(partitions)
	}
	return nil
}

func (handler *handler) Cleanup(session sarama.ConsumerGroupSession) error {
	// What is marked and not yet committed, because the broker was away.
	session.Commit()
	handler.member.Holds(nil)
	return nil
}

// ConsumeClaim runs for each partition. Commit confirms nothing to its caller: what fails comes again with the next.
func (handler *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, more := <-claim.Messages():
			if !more {
				return nil
			}
			var headers []scenario.Header
			for _, header := range message.Headers {
				headers = append(headers, scenario.Header{Name: string(header.Key), Value: string(header.Value)})
			}
			handler.member.Record(message.Partition, message.Offset, message.Key, message.Value, headers)
			session.MarkMessage(message, "")
			if len(claim.Messages()) == 0 {
				session.Commit()
			}
		case <-session.Context().Done():
			return nil
		}
	}
}
