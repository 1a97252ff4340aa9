#include "wire.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

static const size_t SENT = 16 << 20, UNPACKED = 64 << 20, RATIO = 100, FREE = 1 << 20, ITEMS = 10000;
static const char *const PROTOBUF[] = {"", "application/octet-stream", "application/protobuf", "application/x-protobuf",
                                       "application/x-google-protobuf", "application/vnd.google.protobuf", NULL};
static const char *const GZIP[] = {"gzip", "x-gzip", NULL};
static const char *const OTHERS[] = {"", "identity", "binary", "8bit", "7bit", "utf-8", "utf8", "us-ascii", "ascii",
                                     "iso-8859-1", NULL};

static bool is_among(const char *word, const char *const *list) {
    while (*list && strcasecmp(word, *list) != 0) list++;
    return *list != NULL;
}

/* Unpacks all members, and never more than the limits. */
static const char *unpack(const uint8_t *body, size_t length, uint8_t **unpacked, size_t *size) {
    size_t most = length * RATIO < FREE ? FREE : length * RATIO < UNPACKED ? length * RATIO : UNPACKED;
    z_stream z = {.next_in = (uint8_t *)body, .avail_in = length, .avail_out = most + 1};
    if (!(*unpacked = z.next_out = malloc(most + 1)) || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) return "memory";
    int result = Z_OK;
    while (result == Z_OK && z.avail_out > 0) {
        result = inflate(&z, Z_NO_FLUSH);
        if (result == Z_STREAM_END && z.avail_in > 0) result = inflateReset(&z);
    }
    inflateEnd(&z);
    *size = z.next_out - *unpacked;
    return z.avail_out == 0 ? (most < UNPACKED ? "ratio" : "too_large") : result == Z_STREAM_END ? NULL : "gzip";
}

/* What follows a damaged length is one item that cannot be read, the last one. */
static const char *split(const uint8_t *body, size_t left, take *take, void *context) {
    for (size_t index = 0, size = 0; left > 0; index++, size = 0) {
        uint64_t length = 0;
        if (index == ITEMS) return "too_many_items";
        do length |= (uint64_t)(body[size] & 0x7F) << 7 * size;
        while (body[size++] >= 0x80 && size < left && size < 10);
        bool damaged = body[size - 1] >= (size < 10 ? 0x80 : 2) || length > left - size;
        take(context, index, body + size, damaged ? left - size : length, damaged ? "framing" : NULL);
        if (damaged) return NULL;
        body += size + length, left -= size + length;
    }
    return NULL;
}

const char *wire_read(const char *name, const uint8_t *body, size_t length, struct labels labels, take *take,
                      void *context) {
    char content_type[256] = "", *save = NULL, *proto = "", *batching = NULL;
    for (const char *from = labels.content_type, *end = from + 255; *from && from < end; from++)
        if (!strchr(" \t\"", *from)) strncat(content_type, from, 1);
    char *media = strtok_r(content_type, ";", &save);
    for (char *part; media && (part = strtok_r(NULL, ";", &save));)
        if (!*proto && strncasecmp(part, "proto=", 6) == 0) proto = part + 6;
        else if (!batching && strncasecmp(part, "encoding=", 9) == 0) batching = part + 9;
    if (media && !is_among(media, PROTOBUF)) return "content_type";
    if ((*proto && strcmp(proto, name) != 0) || (*labels.type && strcmp(labels.type, name) != 0)) return "type_name";
    if (batching && strcasecmp(batching, "delimited") != 0) return "batching";
    if (length > SENT) return "too_large";
    bool gzip = is_among(labels.content_encoding, GZIP);
    if (!gzip && !is_among(labels.content_encoding, OTHERS)) return "content_encoding";
    uint8_t *unpacked = NULL;
    const char *error = gzip ? unpack(body, length, &unpacked, &length) : NULL;
    if (gzip) body = unpacked;
    if (!error && batching) error = split(body, length, take, context);
    else if (!error) take(context, -1, body, length, NULL);
    free(unpacked);
    return error;
}
