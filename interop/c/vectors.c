/* Runs the vectors of docs/vectors with the reader and the writer: `vectors <docs/vectors>`. */
#include "quake.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT = 64 };
static struct found {
    long count;
    const char *error[KEPT];
    Usgs__V1__Quake *quake[KEPT];
    long index[KEPT];
} found;

static void keep(void *context, long index, const uint8_t *bytes, size_t length, const char *error) {
    struct found *found = context;
    long at = found->count++;
    if (at >= KEPT) return;
    found->index[at] = index;
    found->quake[at] = error ? NULL : usgs__v1__quake__unpack(NULL, length, bytes);
    found->error[at] = error ? error : found->quake[at] ? NULL : "malformed";
}

static const char *text(json_t *object, const char *name) {
    const char *value = json_string_value(json_object_get(object, name));
    return value ? value : "";
}

static void check(json_t *vector, int is_right, const char *what) {
    if (is_right) return;
    printf("%s: %s\n", json_dumps(vector, 0), what);
    exit(1);
}

/* protobuf-c does not read ProtoJSON, so these fields stand for the message. */
static int is_same(json_t *json, Usgs__V1__Quake *quake) {
    json_t *magnitude = json_object_get(json, "magnitude");
    const char *id = quake->id ? quake->id : "", *place = quake->place ? quake->place : "";
    return strcmp(text(json, "id"), id) == 0 && strcmp(text(json, "place"), place) == 0 &&
           quake->has_magnitude == (magnitude != NULL) && json_number_value(magnitude) == quake->magnitude &&
           json_integer_value(json_object_get(json, "significance")) == quake->significance &&
           (json_object_get(json, "location") != NULL) == (quake->location != NULL);
}

int main(int count, char **arguments) {
    char path[4096], id[256];
    size_t at;
    json_t *vector;
    long checked = 0;
    snprintf(path, sizeof path, "%s/index.json", arguments[count - 1]);
    json_t *index = json_load_file(path, 0, NULL);
    json_array_foreach(json_object_get(index, "vectors"), at, vector) {
        checked++;
        snprintf(path, sizeof path, "%s/%s", arguments[count - 1], text(vector, "file"));
        struct part body = read_file(path);
        struct labels labels = {text(vector, "content_type"), text(vector, "content_encoding"), text(vector, "type")};
        json_int_t repeat = json_integer_value(json_object_get(vector, "repeat"));
        uint8_t *more = realloc(body.bytes, body.length * (repeat ? repeat : 1) + 1);
        check(vector, more != NULL, "no memory");
        for (json_int_t copy = 1; copy < repeat; copy++) memcpy(more + copy * body.length, more, body.length);
        body.bytes = more, body.length *= repeat ? repeat : 1;
        found.count = 0;
        const char *error = wire_read(QUAKE, body.bytes, body.length, labels, keep, &found);
        int single_is_bad = !error && found.count == 1 && found.index[0] < 0 && found.error[0];
        if (single_is_bad) error = found.error[0];
        /* What a reader of Protobuf and of batches of one type says to the rest. */
        const char *format = text(vector, "format");
        const char *refused = strcmp(format, "json") == 0    ? "content_type"
                              : strcmp(format, "typed") == 0 ? "batching"
                                                             : text(vector, "error");
        check(vector, strcmp(error ? error : "", refused) == 0, error ? error : "no error");
        if (error) continue;
        json_t *messages = json_object_get(vector, "messages"), *ids = json_object_get(vector, "ids");
        check(vector, (long)json_array_size(messages) == found.count, "another number of messages");
        struct part parts[KEPT];
        for (long item = 0; item < found.count; item++) {
            long wanted = json_integer_value(json_array_get(messages, item));
            if (wanted < 0) {
                check(vector, found.error[item] && strcmp(found.error[item], text(vector, "item_error")) == 0, "item");
                continue;
            }
            check(vector, found.quake[item] != NULL, "an item that cannot be read");
            json_t *message = json_array_get(json_object_get(index, "messages"), wanted);
            check(vector, is_same(message, found.quake[item]), "another message");
            item_id(id, sizeof id, text(vector, "message_id"), found.index[item]);
            if (ids) check(vector, strcmp(id, json_string_value(json_array_get(ids, item))) == 0, id);
            parts[item] = pack(found.quake[item]);
        }
        if (json_is_true(json_object_get(vector, "written"))) {
            struct written written;
            check(vector, wire_write(QUAKE, parts, found.count, found.index[0] >= 0, false, &written), "no memory");
            check(vector, written.length == body.length && memcmp(written.body, body.bytes, body.length) == 0, "body");
            check(vector, strcmp(written.content_type, labels.content_type) == 0, written.content_type);
        }
    }
    printf("ok %ld vectors\n", checked);
    return checked > 0 ? 0 : 1;
}
