/* Reads and writes what docs/WIRE.md describes. Needs zlib. Protobuf is the caller's: messages are bytes here. */
#ifndef WIRE_H
#define WIRE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Labels of a message. Absent ones are empty texts. */
struct labels {
    const char *content_type, *content_encoding, *type;
};

/* Gets a message: its index in the batch, or -1; its bytes; or the kind of its error. The bytes last for the call. */
typedef void take(void *context, long index, const uint8_t *bytes, size_t length, const char *error);

/* Calls `take` for each message of a body. Returns the kind of an error if all of the body is a dead letter, or NULL. */
const char *wire_read(const char *name, const uint8_t *body, size_t length, struct labels labels, take *take,
                      void *context);

struct part {
    uint8_t *bytes;
    size_t length;
};

struct written {
    uint8_t *body; /* to be freed */
    size_t length;
    char content_type[256], content_encoding[8], message_id[33];
};

/* Writes one message, or a batch of messages of the type `name`. Returns false if there is no memory. */
bool wire_write(const char *name, const struct part *parts, size_t count, bool batch, bool gzip, struct written *to);
#endif
