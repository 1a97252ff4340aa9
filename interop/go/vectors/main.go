// Runs the vectors of docs/vectors with the package wire: `vectors <docs/vectors>`.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"interop/quakes"
	"interop/wire"
)

type vector struct {
	File            string
	ContentType     string `json:"content_type"`
	ContentEncoding string `json:"content_encoding"`
	Type            string
	MessageID       string `json:"message_id"`
	Format          string
	Repeat          int
	Messages        []int
	IDs             []string `json:"ids"`
	ItemError       string   `json:"item_error"`
	Error           string
	Written         bool
}

func main() {
	if count, err := run(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	} else {
		fmt.Printf("ok %d vectors\n", count)
	}
}

func run(folder string) (count int, err error) {
	var index struct {
		Messages []json.RawMessage
		Vectors  []vector
	}
	text, err := os.ReadFile(filepath.Join(folder, "index.json"))
	if err == nil {
		err = json.Unmarshal(text, &index)
	}
	if err != nil {
		return 0, err
	}
	var expected []proto.Message
	for _, message := range index.Messages {
		quake := &quakes.Quake{}
		if err := protojson.Unmarshal(message, quake); err != nil {
			return 0, err
		}
		expected = append(expected, quake)
	}
	for _, vector := range index.Vectors {
		if err := check(folder, vector, expected); err != nil {
			return 0, fmt.Errorf("%+v: %w", vector, err)
		}
		count++
	}
	return count, nil
}

// What a reader of Protobuf and of batches of one type says to the rest.
var refused = map[string]string{"json": "content_type", "typed": "batching"}

func check(folder string, of vector, expected []proto.Message) error {
	body, err := os.ReadFile(filepath.Join(folder, of.File))
	if err != nil {
		return err
	}
	if of.Repeat > 0 {
		body = bytes.Repeat(body, of.Repeat)
	}
	if kind, isRest := refused[of.Format]; isRest {
		of.Error = kind
	}
	items, err := wire.Read(&quakes.Quake{}, body, of.ContentType, of.ContentEncoding, of.Type, of.MessageID)
	if kind(err) != of.Error {
		return fmt.Errorf("the error is %v", err)
	}
	if err != nil {
		return nil
	}
	if len(items) != len(of.Messages) {
		return fmt.Errorf("found %d messages", len(items))
	}
	var ids []string
	var messages []proto.Message
	for at, item := range items {
		ids = append(ids, item.ID)
		if of.Messages[at] < 0 {
			if kind(item.Err) != of.ItemError {
				return fmt.Errorf("the error of item %d is %v", at, item.Err)
			}
			continue
		}
		// The library keeps fields that it does not know, and compares them.
		item.Message.ProtoReflect().SetUnknown(nil)
		if !proto.Equal(item.Message, expected[of.Messages[at]]) {
			return fmt.Errorf("item %d is %v, %v", at, item.Message, item.Err)
		}
		messages = append(messages, item.Message)
	}
	if of.IDs == nil {
		of.IDs = make([]string, len(items))
	}
	if len(items) > 0 && !reflect.DeepEqual(ids, of.IDs) {
		return fmt.Errorf("the ids are %v", ids)
	}
	if of.Written && len(messages) > 0 { // the writer takes the type of a batch from its messages
		written, err := wire.Write(messages, strings.Contains(of.File, "delimited"), false)
		if err != nil || !bytes.Equal(written.Body, body) || written.ContentType != of.ContentType || written.Type != of.Type {
			return fmt.Errorf("written as %+v, %w", written, err)
		}
	}
	return nil
}

func kind(err error) string {
	if err == nil {
		return ""
	}
	kind, _, _ := strings.Cut(err.Error(), ":")
	return kind
}
