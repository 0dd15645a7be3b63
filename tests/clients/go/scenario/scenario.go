// Package scenario is what the programs in Go that hold members of a group share: commands on standard input, events on standard
// output, as tests/clients/python/scenario.py lists them.
package scenario

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const deadline = 60 * time.Second

// A second member is to notice a rebalance soon; a broker that is started again has to be back within the session.
const (
	Heartbeat = 300 * time.Millisecond
	Session   = 10 * time.Second
)

// Client is what each library is made to do.
type Client interface {
	Create(ctx context.Context, topic string, partitions int) error
	Produce(ctx context.Context, topic string, index int) (partition int32, offset int64, err error)
	// Join takes part in the group until ctx is done, then commits what it has printed and leaves.
	Join(ctx context.Context, member *Member, group, topic string) error
	Committed(ctx context.Context, group, topic string) (map[int32]int64, error)
}

type Header struct{ Name, Value string }

var Headers = []Header{{"trace", "1"}, {"trace", "again"}}

func KeyOf(index int) []byte   { return fmt.Appendf(nil, "key-%d", index%10) }
func ValueOf(index int) []byte { return fmt.Appendf(nil, "value-%d", index) }

var output sync.Mutex

func say(event string, more map[string]any) {
	line := map[string]any{"event": event}
	for name, value := range more {
		line[name] = value
	}
	encoded, err := json.Marshal(line)
	if err != nil {
		Fail("%v", err)
	}
	output.Lock()
	defer output.Unlock()
	os.Stdout.Write(append(encoded, '\n'))
}

func Complain(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
}

func Fail(format string, arguments ...any) {
	Complain(format, arguments...)
	os.Exit(1)
}

// UntilItWorks is for what a broker that is being started again refuses.
func UntilItWorks(what string, attempt func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	for {
		err := attempt(ctx)
		if err == nil {
			return
		}
		Complain("%s: %v", what, err)
		if ctx.Err() != nil {
			Fail("%s did not work in time", what)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Member prints what happens to one member of a group.
type Member struct {
	Name  string
	leave context.CancelFunc
	left  chan struct{}
}

func (member *Member) Holds(partitions []int32) {
	held := append([]int32{}, partitions...)
	slices.Sort(held)
	say("assigned", map[string]any{"member": member.Name, "partitions": held})
}

func (member *Member) Record(partition int32, offset int64, key, value []byte, headers []Header) {
	var text []string
	for _, header := range headers {
		text = append(text, header.Name+"="+header.Value)
	}
	say("record", map[string]any{
		"member": member.Name, "partition": partition, "offset": offset, "key": string(key), "value": string(value),
		"headers": strings.Join(text, ","),
	})
}

func (member *Member) Committed(partition int32, offset int64) {
	say("committed", map[string]any{"member": member.Name, "partition": partition, "offset": offset})
}

func Serve(client Client) {
	members := map[string]*Member{}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "create":
			create := func(ctx context.Context) error { return client.Create(ctx, words[1], number(words[2])) }
			UntilItWorks("create", create)
			say("created", nil)
		case "produce":
			produce(client, words[1], number(words[2]), number(words[3]))
		case "join":
			members[words[1]] = join(client, words[1], words[2], words[3])
		case "leave":
			members[words[1]].leaveAndWait()
			delete(members, words[1])
		case "committed":
			var offsets map[int32]int64
			UntilItWorks("committed", func(ctx context.Context) (err error) {
				offsets, err = client.Committed(ctx, words[1], words[2])
				return err
			})
			say("offsets", map[string]any{"offsets": offsets})
		default:
			Fail("unknown command %s", words[0])
		}
	}
	for _, member := range members {
		member.leaveAndWait()
	}
}

func produce(client Client, topic string, first, count int) {
	for index := first; index < first+count; index++ {
		UntilItWorks("produce", func(ctx context.Context) error {
			partition, offset, err := client.Produce(ctx, topic, index)
			if err == nil {
				say("produced", map[string]any{"partition": partition, "offset": offset, "value": string(ValueOf(index))})
			}
			return err
		})
	}
}

func join(client Client, name, group, topic string) *Member {
	ctx, leave := context.WithCancel(context.Background())
	member := &Member{Name: name, leave: leave, left: make(chan struct{})}
	go func() {
		if err := client.Join(ctx, member, group, topic); err != nil {
			Fail("member %s: %v", name, err)
		}
		say("left", map[string]any{"member": name})
		close(member.left)
	}()
	return member
}

func (member *Member) leaveAndWait() {
	member.leave()
	<-member.left
}

func number(text string) int {
	parsed, err := strconv.Atoi(text)
	if err != nil {
		Fail("%v", err)
	}
	return parsed
}
