package main

import (
	"context"
	"maps"
	"slices"
	"sync"

	"capek/tests/clients/scenario"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupClient holds members with franz-go's defaults: the cooperative-sticky balancer.
type groupClient struct {
	bootstrap string
	client    *kgo.Client
}

func (group *groupClient) Create(ctx context.Context, topic string, partitions int) error {
	wanted := kmsg.NewCreateTopicsRequestTopic()
	wanted.Topic, wanted.NumPartitions, wanted.ReplicationFactor = topic, int32(partitions), 1
	request := kmsg.NewPtrCreateTopicsRequest()
	request.Topics = append(request.Topics, wanted)
	response, err := request.RequestWith(ctx, group.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(response.Topics[0].ErrorCode)
}

func (group *groupClient) Produce(ctx context.Context, topic string, index int) (int32, int64, error) {
	record := &kgo.Record{Topic: topic, Key: scenario.KeyOf(index), Value: scenario.ValueOf(index)}
	for _, header := range scenario.Headers {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: header.Name, Value: []byte(header.Value)})
	}
	record, err := group.client.ProduceSync(ctx, record).First()
	if err != nil {
		return 0, 0, err
	}
	return record.Partition, record.Offset, nil
}

func (group *groupClient) Join(ctx context.Context, member *scenario.Member, name, topic string) error {
	held := held{member: member, partitions: map[int32]bool{}}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(group.bootstrap), kgo.ConsumerGroup(name), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.HeartbeatInterval(scenario.Heartbeat), kgo.SessionTimeout(scenario.Session),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, more map[string][]int32) {
			held.change(more[topic], nil)
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, fewer map[string][]int32) {
			held.change(nil, fewer[topic])
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, fewer map[string][]int32) {
			held.change(nil, fewer[topic])
		}),
	)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachRecord(func(record *kgo.Record) {
			var headers []scenario.Header
			for _, header := range record.Headers {
				headers = append(headers, scenario.Header{Name: header.Key, Value: string(header.Value)})
			}
			member.Record(record.Partition, record.Offset, record.Key, record.Value, headers)
		})
		if fetches.NumRecords() > 0 {
			commit(client, member)
		}
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
	return nil
}

// commit tries until it works: no later record may come that would make up for it.
func commit(client *kgo.Client, member *scenario.Member) {
	scenario.UntilItWorks("commit", func(ctx context.Context) error {
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			return err
		}
		for _, partitions := range client.CommittedOffsets() {
			for partition, committed := range partitions {
				member.Committed(partition, committed.Offset)
			}
		}
		return nil
	})
}

func (group *groupClient) Committed(ctx context.Context, name, _ string) (map[int32]int64, error) {
	request := kmsg.NewPtrOffsetFetchRequest()
	asked := kmsg.NewOffsetFetchRequestGroup()
	asked.Group = name
	request.Group, request.Groups = name, append(request.Groups, asked)
	response, err := request.RequestWith(ctx, group.client)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for _, group := range response.Groups {
		if err := kerr.ErrorForCode(group.ErrorCode); err != nil {
			return nil, err
		}
		for _, topic := range group.Topics {
			for _, partition := range topic.Partitions {
				offsets[partition.Partition] = partition.Offset
			}
		}
	}
	return offsets, nil
}

// held is what a member holds; a cooperative rebalance tells only the difference.
type held struct {
	member     *scenario.Member
	partitions map[int32]bool
	mutex      sync.Mutex
}

func (held *held) change(more, fewer []int32) {
	held.mutex.Lock()
	defer held.mutex.Unlock()
	for _, partition := range more {
		held.partitions[partition] = true
	}
	for _, partition := range fewer {
		delete(held.partitions, partition)
	}
	held.member.Holds(slices.Collect(maps.Keys(held.partitions)))
}
