/* What the peer and the test of the vectors share. */
#ifndef QUAKE_H
#define QUAKE_H
#include "usgs/v1/quake.pb-c.h"
#include "wire.h"
#include <stdio.h>
#include <stdlib.h>

#define QUAKE "usgs.v1.Quake"

static inline struct part read_file(const char *path) {
    struct part part = {malloc(1 << 20), 0};
    FILE *file = fopen(path, "rb");
    if (!file || !part.bytes) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    part.length = fread(part.bytes, 1, 1 << 20, file);
    fclose(file);
    return part;
}

static inline struct part pack(const Usgs__V1__Quake *quake) {
    struct part part = {malloc(usgs__v1__quake__get_packed_size(quake) + 1), 0};
    part.length = part.bytes ? usgs__v1__quake__pack(quake, part.bytes) : 0;
    return part;
}

/* The id of a message: of the batch's id and its index, or the message's own. */
static inline void item_id(char *to, size_t size, const char *message_id, long index) {
    if (index < 0) snprintf(to, size, "%s", message_id);
    else snprintf(to, size, "%s/%ld", message_id, index);
}
#endif
