#include "wire.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <zlib.h>

static size_t varint(uint8_t *to, uint64_t number) {
    size_t size = 0;
    for (; number > 0x7F; number >>= 7) to[size++] = 0x80 | (number & 0x7F);
    to[size++] = number;
    return size;
}

static bool compress_gzip(struct written *to) {
    z_stream z = {.next_in = to->body, .avail_in = to->length};
    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) return false;
    size_t most = deflateBound(&z, to->length);
    uint8_t *packed = z.next_out = malloc(most);
    z.avail_out = most;
    bool done = packed && deflate(&z, Z_FINISH) == Z_STREAM_END;
    to->length = z.total_out;
    deflateEnd(&z);
    free(to->body);
    to->body = packed;
    strcpy(to->content_encoding, "gzip");
    return done;
}

bool wire_write(const char *name, const struct part *parts, size_t count, bool batch, bool gzip, struct written *to) {
    uint8_t id[16];
    size_t most = 1;
    for (size_t at = 0; at < count; at++) most += parts[at].length + 10;
    *to = (struct written){.body = malloc(most)};
    if (!to->body || getrandom(id, sizeof id, 0) != sizeof id) return false;
    for (size_t at = 0; at < sizeof id; at++) sprintf(to->message_id + 2 * at, "%02x", id[at]);
    snprintf(to->content_type, sizeof to->content_type, "application/vnd.google.protobuf; proto=%s%s", name,
             batch ? "; encoding=delimited" : "");
    for (size_t at = 0; at < (batch ? count : 1); at++) {
        if (batch) to->length += varint(to->body + to->length, parts[at].length);
        memcpy(to->body + to->length, parts[at].bytes, parts[at].length);
        to->length += parts[at].length;
    }
    return !gzip || compress_gzip(to);
}
