// Publishes to a topic of Kafka, or receives from it, through Watermill: one run, which benches/src/bin/kafka measures beside its others.
//
//	watermill send|receive SERVERS TOPIC MESSAGES SIZE TASKS
//
// It prints the nanoseconds that passed, and those of processor time of all threads.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

type job struct {
	servers               []string
	topic                 string
	messages, size, tasks int
}

func main() {
	if len(os.Args) != 7 {
		log.Fatal("usage: watermill send|receive SERVERS TOPIC MESSAGES SIZE TASKS")
	}
	job := job{strings.Split(os.Args[2], ","), os.Args[3], number(4), number(5), number(6)}
	switch os.Args[1] {
	case "send":
		job.send()
	case "receive":
		job.receive()
	default:
		log.Fatal("send or receive?")
	}
}

// Tasks that each publish one message after another.
func (job job) send() {
	config := kafka.DefaultSaramaSyncPublisherConfig()
	config.Version = sarama.V3_6_0_0
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Net.MaxOpenRequests = 1
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers:               job.servers,
		Marshaler:             kafka.DefaultMarshaler{},
		OverwriteSaramaConfig: config,
	}, watermill.NopLogger{})
	check(err)

	payload := make([]byte, job.size)
	start := begin()
	var tasks sync.WaitGroup
	for range job.tasks {
		tasks.Go(func() {
			for range job.messages / job.tasks {
				check(publisher.Publish(job.topic, message.NewMessage(watermill.NewUUID(), payload)))
			}
		})
	}
	tasks.Wait()
	start.end()
	check(publisher.Close())
}

// Measured from the first message on, all are acknowledged.
func (job job) receive() {
	config := kafka.DefaultSaramaSubscriberConfig()
	config.Version = sarama.V3_6_0_0
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	subscriber, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers:               job.servers,
		Unmarshaler:           kafka.DefaultMarshaler{},
		ConsumerGroup:         job.topic,
		OverwriteSaramaConfig: config,
	}, watermill.NopLogger{})
	check(err)
	messages, err := subscriber.Subscribe(context.Background(), job.topic)
	check(err)

	var start stopwatch
	for received := range job.messages {
		message := <-messages
		if received == 0 {
			start = begin()
		}
		message.Ack()
	}
	start.end()
	check(subscriber.Close())
}

type stopwatch struct {
	at  time.Time
	cpu int64
}

func begin() stopwatch {
	return stopwatch{time.Now(), cpu()}
}

func (start stopwatch) end() {
	fmt.Println(time.Since(start.at).Nanoseconds(), cpu()-start.cpu)
}

func cpu() int64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func number(at int) int {
	number, err := strconv.Atoi(os.Args[at])
	check(err)
	return number
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
