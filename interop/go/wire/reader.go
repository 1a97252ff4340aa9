// Package wire reads and writes what docs/WIRE.md describes. It needs google.golang.org/protobuf alone.
package wire

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const sentMost, unpackedMost, ratio, free, itemsMost = 16 << 20, 64 << 20, 100, 1 << 20, 10_000

var protobufs = regexp.MustCompile(`(?i)^(|application/(octet-stream|(x-|x-google-|vnd\.google\.)?protobuf))$`)
var others = regexp.MustCompile(`(?i)^(|identity|binary|8bit|7bit|utf-?8|(us-)?ascii|iso-8859-1)$`)

// Item is a message and its id. If an item of a batch cannot be read, Err says why. Errors begin with their kind.
type Item struct {
	ID      string
	Message proto.Message
	Err     error
}

// Read returns the messages of a body, or why all of it is a dead letter.
func Read(empty proto.Message, body []byte, contentType, contentEncoding, typeName, id string) (items []Item, err error) {
	parts := strings.Split(strings.NewReplacer(" ", "", "\t", "", `"`, "").Replace(contentType), ";")
	parameters := map[string]string{}
	for at := len(parts) - 1; at > 0; at-- { // from the last, because the first of a name counts
		key, value, _ := strings.Cut(parts[at], "=")
		parameters[strings.ToLower(key)] = value
	}
	name, batching := string(empty.ProtoReflect().Descriptor().FullName()), parameters["encoding"]
	if !protobufs.MatchString(parts[0]) {
		return nil, fmt.Errorf("content_type: %s is not Protobuf", contentType)
	}
	if typeName != "" && typeName != name || parameters["proto"] != "" && parameters["proto"] != name {
		return nil, fmt.Errorf("type_name: %s or %s is not %s", typeName, contentType, name)
	}
	if batching != "" && !strings.EqualFold(batching, "delimited") {
		return nil, fmt.Errorf("batching: %s names no known form of a batch", contentType)
	}
	if len(body) > sentMost {
		return nil, fmt.Errorf("too_large: %d bytes", len(body))
	}
	if strings.EqualFold(contentEncoding, "gzip") || strings.EqualFold(contentEncoding, "x-gzip") {
		if body, err = unpack(body); err != nil {
			return nil, err
		}
	} else if !others.MatchString(contentEncoding) {
		return nil, fmt.Errorf("content_encoding: %s is not gzip", contentEncoding)
	}
	if batching == "" {
		item := parse(empty, id, body)
		return []Item{item}, item.Err
	}
	for len(body) > 0 {
		if len(items) == itemsMost {
			return nil, fmt.Errorf("too_many_items: more than %d", itemsMost)
		}
		itemID := id
		if id != "" {
			itemID = fmt.Sprintf("%s/%d", id, len(items))
		}
		part, size := protowire.ConsumeBytes(body)
		if size < 0 { // what follows a damaged length is one item that cannot be read, the last one
			return append(items, Item{itemID, nil, errors.New("framing: a length is damaged or too large")}), nil
		}
		items, body = append(items, parse(empty, itemID, part)), body[size:]
	}
	return items, nil
}

func parse(empty proto.Message, id string, body []byte) Item {
	message := empty.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(body, message); err != nil {
		return Item{id, nil, fmt.Errorf("malformed: %w", err)}
	}
	return Item{id, message, nil}
}

func unpack(body []byte) ([]byte, error) { // all members, and never more than the limits
	most, kind := ratio*len(body), "ratio"
	if most < free {
		most = free
	} else if most > unpackedMost {
		most, kind = unpackedMost, "too_large"
	}
	reader, err := gzip.NewReader(bytes.NewReader(body))
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(reader, int64(most)+1))
	}
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	if len(body) > most {
		return nil, fmt.Errorf("%s: it unpacks to more than %d bytes", kind, most)
	}
	return body, nil
}
