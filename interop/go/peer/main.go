// A peer that uses amqp091-go. interop/README.md has its commands.
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"google.golang.org/protobuf/proto"
	"interop/quakes"
	"interop/wire"
)

const direct = "amq.rabbitmq.reply-to"
const patience = 10 * time.Second

// The types in which this client reads each value.
var headers = amqp.Table{
	"bool": true, "int8": int8(-8), "int16": int16(-1600), "int32": int32(-70000), "int64": int64(-5_000_000_000),
	"uint8": byte(200), "float": float32(1.5), "double": 2.25,
	"decimal": amqp.Decimal{Scale: 2, Value: 1234}, "text": "Grüße", "bytes": []byte{0, 1, 255},
	"time": time.Unix(1_500_000_000, 0), "list": []interface{}{int32(1), "two"}, "table": amqp.Table{"inner": int32(7)},
	"void": nil,
}

type peer struct {
	channel *amqp.Channel
	confirm chan amqp.Confirmation
	quakes  []proto.Message
}

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(url, vectors string) error {
	body, err := os.ReadFile(filepath.Join(vectors, "quakes.delimited"))
	if err != nil {
		return err
	}
	items, err := wire.Read(&quakes.Quake{}, body, "application/protobuf; encoding=delimited", "", "", "")
	if err != nil {
		return err
	}
	connection, err := amqp.Dial(url)
	if err != nil {
		return err
	}
	defer connection.Close()
	p := peer{}
	for _, item := range items {
		p.quakes = append(p.quakes, item.Message)
	}
	if p.channel, err = connection.Channel(); err != nil {
		return err
	}
	if err = p.channel.Confirm(false); err != nil {
		return err
	}
	p.confirm = p.channel.NotifyPublish(make(chan amqp.Confirmation, 1))
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		answer, err := p.obey(strings.Fields(lines.Text()))
		if err != nil {
			fmt.Printf("failed: %v\n", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok", answer)
		}
	}
	return nil
}

func (p *peer) obey(words []string) (string, error) {
	count, _ := strconv.Atoi(words[len(words)-1])
	switch words[0] {
	case "send":
		return "", p.send(words[1], words[2], words[3:])
	case "echo":
		return "", p.echo(words[1], words[2], count)
	case "serve":
		return "", p.serve(words[1], count)
	case "ask":
		return p.ask(words[1])
	case "dead":
		return p.dead(words[1])
	}
	return "", fmt.Errorf("no command %v", words)
}

func (p *peer) publish(queue string, message amqp.Publishing, mandatory bool) error {
	if err := p.channel.Publish("", queue, mandatory, false, message); err != nil {
		return err
	}
	select {
	case confirm := <-p.confirm:
		if !confirm.Ack {
			return fmt.Errorf("a message to %s was nacked", queue)
		}
		return nil
	case <-time.After(patience):
		return fmt.Errorf("no confirm for a message to %s within %v", queue, patience)
	}
}

func publishing(messages []proto.Message, batch, compress bool) (amqp.Publishing, error) {
	written, err := wire.Write(messages, batch, compress)
	return amqp.Publishing{
		ContentType: written.ContentType, ContentEncoding: written.ContentEncoding, Type: written.Type,
		MessageId: written.MessageID, Body: written.Body, DeliveryMode: amqp.Persistent, Timestamp: time.Now(),
	}, err
}

func decode(delivery amqp.Delivery) ([]wire.Item, error) {
	items, err := wire.Read(&quakes.Quake{}, delivery.Body, delivery.ContentType, delivery.ContentEncoding,
		delivery.Type, delivery.MessageId)
	for _, item := range items {
		if err == nil {
			err = item.Err
		}
	}
	return items, err
}

func (p *peer) send(queue, count string, options []string) error {
	number, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	has := func(option string) bool { return strings.Contains(strings.Join(options, " "), option) }
	var parts [][]proto.Message
	for at := range p.quakes[:number] {
		parts = append(parts, p.quakes[at:at+1])
	}
	if has("batch") {
		parts = [][]proto.Message{p.quakes[:number]}
	}
	for index, part := range parts {
		message, err := publishing(part, has("batch"), has("gzip"))
		if err != nil {
			return err
		}
		if has("bare") {
			message = amqp.Publishing{Body: message.Body}
		}
		if has("headers") {
			message.Headers = headers
		}
		message.MessageId = fmt.Sprintf("sent-%d", index)
		if err := p.publish(queue, message, true); err != nil {
			return err
		}
	}
	return nil
}

// consume calls handle for each delivery until it returns true.
func (p *peer) consume(queue string, autoAck bool, ready func() error, handle func(amqp.Delivery) (bool, error)) error {
	deliveries, err := p.channel.Consume(queue, "peer", autoAck, false, false, false, nil)
	if err != nil {
		return err
	}
	defer p.channel.Cancel("peer", false)
	if err := ready(); err != nil {
		return err
	}
	for timer := time.After(patience); ; {
		select {
		case delivery, isOpen := <-deliveries:
			if !isOpen {
				return fmt.Errorf("the consumer of %s has ended", queue)
			}
			isDone, err := handle(delivery)
			if err == nil && !autoAck {
				err = delivery.Ack(false)
			}
			if err != nil || isDone {
				return err
			}
		case <-timer:
			return fmt.Errorf("not enough messages from %s within %v", queue, patience)
		}
	}
}

func nothing() error { return nil }

func (p *peer) echo(source, target string, left int) error {
	return p.consume(source, false, nothing, func(delivery amqp.Delivery) (bool, error) {
		items, err := decode(delivery)
		if err != nil {
			return false, err
		}
		for _, item := range items {
			message, err := publishing([]proto.Message{item.Message}, false, false)
			if err != nil {
				return false, err
			}
			message.MessageId, message.Headers = item.ID, delivery.Headers
			if err := p.publish(target, message, true); err != nil {
				return false, err
			}
			left--
		}
		return left <= 0, nil
	})
}

func (p *peer) serve(queue string, left int) error {
	return p.consume(queue, false, nothing, func(request amqp.Delivery) (bool, error) {
		items, err := decode(request)
		if err != nil {
			return false, err
		}
		quake := items[0].Message.(*quakes.Quake)
		answer := amqp.Publishing{
			Headers: amqp.Table{"x-fluffle-reason": "rejected", "x-fluffle-error": "a quake without a place"},
		}
		if quake.Place != "" {
			quake.Title += ", answered"
			if answer, err = publishing([]proto.Message{quake}, false, false); err != nil {
				return false, err
			}
		}
		answer.CorrelationId = request.CorrelationId
		left--
		// Not mandatory: the broker returns even the answers to direct reply-to that have arrived.
		return left == 0, p.publish(request.ReplyTo, answer, false)
	})
}

func (p *peer) ask(queue string) (string, error) {
	answers := map[string]amqp.Delivery{}
	err := p.consume(direct, true, func() error {
		for _, index := range []int{0, 2} {
			message, err := publishing(p.quakes[index:index+1], false, false)
			if err != nil {
				return err
			}
			message.ReplyTo, message.CorrelationId = direct, fmt.Sprintf("ask-%d", index)
			if err := p.publish(queue, message, true); err != nil {
				return err
			}
		}
		return nil
	}, func(answer amqp.Delivery) (bool, error) {
		answers[answer.CorrelationId] = answer
		return len(answers) == 2, nil
	})
	if err != nil {
		return "", err
	}
	items, err := decode(answers["ask-0"])
	if err != nil {
		return "", err
	}
	refused := answers["ask-2"].Headers["x-fluffle-error"]
	return fmt.Sprintf("title=%s refused=%s", items[0].Message.(*quakes.Quake).Title, refused), nil
}

func (p *peer) dead(queue string) (string, error) {
	letter, isThere, err := amqp.Delivery{}, false, error(nil)
	for end := time.Now().Add(patience); !isThere && err == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return "", fmt.Errorf("no message in %s within %v", queue, patience)
		}
		letter, isThere, err = p.channel.Get(queue, false)
	}
	if err != nil {
		return "", err
	}
	count := 0
	for name, expected := range headers {
		found, isThere := letter.Headers[name]
		if isThere && !reflect.DeepEqual(found, expected) {
			return "", fmt.Errorf("header %s: expected %#v, found %#v", name, expected, found)
		}
		if isThere {
			count++
		}
	}
	err = p.publish(letter.Headers["x-fluffle-origin-queue"].(string), amqp.Publishing{
		Headers: letter.Headers, ContentType: letter.ContentType, ContentEncoding: letter.ContentEncoding,
		DeliveryMode: letter.DeliveryMode, Timestamp: letter.Timestamp, Type: letter.Type,
		MessageId: letter.MessageId, CorrelationId: letter.CorrelationId, Body: letter.Body,
	}, true)
	if err == nil {
		err = letter.Ack(false)
	}
	of := func(name string) interface{} { return letter.Headers["x-fluffle-"+name] }
	return fmt.Sprintf("headers=%d reason=%v attempt=%v origin-queue=%v error=%v", count, of("reason"), of("attempt"),
		of("origin-queue"), of("error")), err
}
