package wire

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Written is a body and its labels. The properties delivery mode (2) and timestamp (now) are the client's to set.
type Written struct {
	Body                                          []byte
	ContentType, ContentEncoding, Type, MessageID string
}

// Write returns the body of one message, or of a batch of messages of one type.
func Write(messages []proto.Message, isBatch, isCompressed bool) (written Written, err error) {
	if !isBatch && len(messages) != 1 {
		return written, fmt.Errorf("a body that is no batch has one message, not %d", len(messages))
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return written, err
	}
	written.MessageID = fmt.Sprintf("%x", id)
	written.Type = string(messages[0].ProtoReflect().Descriptor().FullName())
	written.ContentType = "application/vnd.google.protobuf; proto=" + written.Type
	if isBatch {
		written.ContentType += "; encoding=delimited"
	}
	for _, message := range messages {
		part, err := proto.Marshal(message)
		if err != nil {
			return written, err
		}
		if isBatch {
			written.Body = protowire.AppendVarint(written.Body, uint64(len(part)))
		}
		written.Body = append(written.Body, part...)
	}
	if isCompressed {
		var packed bytes.Buffer
		writer := gzip.NewWriter(&packed)
		writer.Write(written.Body) // into memory: cannot fail
		writer.Close()
		written.Body, written.ContentEncoding = packed.Bytes(), "gzip"
	}
	return written, nil
}
