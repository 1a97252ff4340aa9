/* A peer that uses librabbitmq. interop/README.md has its commands. */
#include "quake.h"
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#define DIRECT "amq.rabbitmq.reply-to"
enum { READING = 1, WRITING = 2, PATIENCE = 10 };

static amqp_connection_state_t connection;
static Usgs__V1__Quake *quakes[3];
static char line[8192], answer[8192]; /* an answer, or the text of an error */
static jmp_buf failed;

static void fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(answer, sizeof answer, format, values);
    va_end(values);
    longjmp(failed, 1);
}

static void check(amqp_rpc_reply_t reply, const char *what) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) fail("%s: %s", what, amqp_error_string2(reply.library_error));
    amqp_channel_close_t *close = reply.reply.decoded;
    fail("%s: %.*s", what, (int)close->reply_text.len, (char *)close->reply_text.bytes);
}

static char *copy(amqp_bytes_t bytes) {
    char *text = strndup(bytes.bytes ? bytes.bytes : "", bytes.len);
    if (!text) fail("no memory");
    return text;
}

/* A header with a value of every type. */
static amqp_table_entry_t list_entry = {.value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = 7}};
static amqp_field_value_t list_values[] = {{.kind = AMQP_FIELD_KIND_I32, .value.i32 = 1}, {.kind = AMQP_FIELD_KIND_UTF8}};
#define HEADER(name, letter, field, ...) {{sizeof name - 1, name}, {.kind = letter, .value.field = __VA_ARGS__}}
static amqp_table_entry_t headers[] = {
    HEADER("bool", 't', boolean, 1),
    HEADER("int8", 'b', i8, -8),
    HEADER("int16", 's', i16, -1600),
    HEADER("int32", 'I', i32, -70000),
    HEADER("int64", 'l', i64, -5000000000),
    HEADER("uint8", 'B', u8, 200),
    HEADER("uint16", 'u', u16, 60000),
    HEADER("uint32", 'i', u32, 4000000000),
    HEADER("float", 'f', f32, 1.5),
    HEADER("double", 'd', f64, 2.25),
    HEADER("decimal", 'D', decimal, {2, 1234}),
    HEADER("text", 'S', bytes, {sizeof "Grüße" - 1, "Grüße"}),
    HEADER("bytes", 'x', bytes, {3, "\0\1\377"}),
    HEADER("time", 'T', u64, 1500000000),
    HEADER("list", 'A', array, {2, list_values}),
    HEADER("table", 'F', table, {1, &list_entry}),
    HEADER("void", 'V', boolean, 0),
};
enum { HEADERS = sizeof headers / sizeof *headers };

static amqp_field_value_t *header(amqp_table_t table, const char *name) {
    for (int at = 0; at < table.num_entries; at++)
        if (table.entries[at].key.len == strlen(name) && memcmp(table.entries[at].key.bytes, name, strlen(name)) == 0)
            return &table.entries[at].value;
    return NULL;
}

/* A header of Fluffle's as text: a text or an integer. */
static char *text_of(amqp_table_t table, const char *name) {
    char number[32];
    amqp_field_value_t *value = header(table, name);
    if (!value) fail("there is no header %s", name);
    if (value->kind == AMQP_FIELD_KIND_UTF8) return copy(value->value.bytes);
    snprintf(number, sizeof number, "%lld", (long long)value->value.i64);
    return strdup(number);
}

static bool is_same(amqp_field_value_t *one, amqp_field_value_t *other) {
    char encoded[2][512];
    size_t size[2] = {0, 0};
    for (int at = 0; at < 2; at++) {
        amqp_table_entry_t entry = {{1, "v"}, at ? *other : *one};
        amqp_table_t table = {1, &entry};
        if (amqp_encode_table((amqp_bytes_t){sizeof encoded[at], encoded[at]}, &table, &size[at]) != 0) return false;
    }
    return size[0] == size[1] && memcmp(encoded[0], encoded[1], size[0]) == 0;
}

/* In a transaction, because librabbitmq 0.11 has no call that waits for a confirm. */
static void publish(amqp_bytes_t queue, amqp_bytes_t body, amqp_basic_properties_t *properties, bool mandatory) {
    if (amqp_basic_publish(connection, WRITING, amqp_empty_bytes, queue, mandatory, 0, properties, body) != 0)
        fail("cannot publish");
    amqp_tx_commit(connection, WRITING);
    check(amqp_get_rpc_reply(connection), "publishing");
}

static struct written write_quakes(Usgs__V1__Quake **quake, size_t count, bool batch, bool gzip) {
    struct part parts[3] = {0};
    struct written written;
    for (size_t at = 0; at < count; at++) parts[at] = pack(quake[at]);
    if (!wire_write(QUAKE, parts, count, batch, gzip, &written)) fail("no memory");
    for (size_t at = 0; at < count; at++) free(parts[at].bytes);
    return written;
}

static void set(amqp_basic_properties_t *properties, amqp_flags_t flag, amqp_bytes_t *property, const char *value) {
    *property = amqp_cstring_bytes(value);
    if (*value) properties->_flags |= flag;
}

static amqp_basic_properties_t labels_of(struct written *written) {
    amqp_basic_properties_t to = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_TIMESTAMP_FLAG};
    set(&to, AMQP_BASIC_CONTENT_TYPE_FLAG, &to.content_type, written->content_type);
    set(&to, AMQP_BASIC_CONTENT_ENCODING_FLAG, &to.content_encoding, written->content_encoding);
    set(&to, AMQP_BASIC_MESSAGE_ID_FLAG, &to.message_id, written->message_id);
    set(&to, AMQP_BASIC_TYPE_FLAG, &to.type, QUAKE);
    to.delivery_mode = 2;
    to.timestamp = time(NULL);
    return to;
}

static void set_headers(amqp_basic_properties_t *properties, int count, amqp_table_entry_t *entries) {
    properties->headers = (amqp_table_t){count, entries};
    properties->_flags |= AMQP_BASIC_HEADERS_FLAG;
}

/* Reads a delivery and calls `take` with each of its messages, then frees nothing: the properties are still needed. */
static void decode(amqp_message_t *message, take *take, void *context) {
    amqp_basic_properties_t *of = &message->properties;
    char *content_type = copy(of->content_type), *encoding = copy(of->content_encoding), *type = copy(of->type);
    struct labels labels = {content_type, encoding, type};
    const char *error = wire_read(QUAKE, message->body.bytes, message->body.len, labels, take, context);
    free(content_type), free(encoding), free(type);
    if (error) fail("cannot read a message: %s", error);
}

static Usgs__V1__Quake *parse(const uint8_t *bytes, size_t length, const char *error) {
    Usgs__V1__Quake *quake = error ? NULL : usgs__v1__quake__unpack(NULL, length, bytes);
    if (!quake) fail("cannot read an item: %s", error ? error : "malformed");
    return quake;
}

static void keep(void *context, long index, const uint8_t *bytes, size_t length, const char *error) {
    ((Usgs__V1__Quake **)context)[index < 0 ? 0 : index] = parse(bytes, length, error);
}

static void send_command(const char *queue, size_t count, const char *options) {
    bool batch = strstr(options, "batch") != NULL, gzip = strstr(options, "gzip") != NULL;
    for (size_t at = 0; at < (batch ? 1 : count); at++) {
        char id[32];
        struct written written = write_quakes(quakes + at, batch ? count : 1, batch, gzip);
        amqp_basic_properties_t properties = labels_of(&written);
        if (strstr(options, "bare")) properties = (amqp_basic_properties_t){._flags = 0};
        if (strstr(options, "headers")) set_headers(&properties, HEADERS, headers);
        snprintf(id, sizeof id, "sent-%zu", at);
        set(&properties, AMQP_BASIC_MESSAGE_ID_FLAG, &properties.message_id, id);
        publish(amqp_cstring_bytes(queue), (amqp_bytes_t){written.length, written.body}, &properties, true);
        free(written.body);
    }
}

/* Calls `handle` for each delivery until it returns true, and `ready` before the first. */
static void consume(const char *queue, bool no_ack, void (*ready)(void *), bool (*handle)(void *, amqp_message_t *),
                    void *context) {
    amqp_bytes_t name = amqp_cstring_bytes(queue), tag = amqp_cstring_bytes("peer");
    amqp_basic_consume(connection, READING, name, tag, 0, no_ack, 0, amqp_empty_table);
    check(amqp_get_rpc_reply(connection), "consuming");
    if (ready) ready(context);
    for (bool is_done = false; !is_done;) {
        amqp_envelope_t envelope;
        struct timeval patience = {PATIENCE, 0};
        check(amqp_consume_message(connection, &envelope, &patience, 0), "waiting for a delivery");
        is_done = handle(context, &envelope.message);
        if (!no_ack) amqp_basic_ack(connection, READING, envelope.delivery_tag, 0);
        amqp_destroy_envelope(&envelope);
    }
    amqp_basic_cancel(connection, READING, tag);
    check(amqp_get_rpc_reply(connection), "cancelling");
}

struct echo {
    const char *target;
    long left;
    amqp_message_t *message;
};

static void echo_item(void *context, long index, const uint8_t *bytes, size_t length, const char *error) {
    struct echo *echo = context;
    char id[256], *message_id = copy(echo->message->properties.message_id);
    Usgs__V1__Quake *quake = parse(bytes, length, error);
    struct written written = write_quakes(&quake, 1, false, false);
    amqp_basic_properties_t properties = labels_of(&written);
    amqp_table_t from = echo->message->properties.headers;
    if (from.num_entries > 0) set_headers(&properties, from.num_entries, from.entries);
    item_id(id, sizeof id, message_id, index);
    set(&properties, AMQP_BASIC_MESSAGE_ID_FLAG, &properties.message_id, id);
    publish(amqp_cstring_bytes(echo->target), (amqp_bytes_t){written.length, written.body}, &properties, true);
    usgs__v1__quake__free_unpacked(quake, NULL);
    free(message_id), free(written.body);
    echo->left--;
}

static bool echo_one(void *context, amqp_message_t *message) {
    struct echo *echo = context;
    echo->message = message;
    decode(message, echo_item, echo);
    return echo->left <= 0;
}

static char *with_answered(Usgs__V1__Quake *quake) {
    char *title = malloc(strlen(quake->title) + sizeof ", answered");
    return title ? strcat(strcpy(title, quake->title), ", answered") : NULL;
}

static bool serve_one(void *left, amqp_message_t *request) {
    amqp_table_entry_t refusal[] = {HEADER("x-fluffle-reason", 'S', bytes, {8, "rejected"}),
                                    HEADER("x-fluffle-error", 'S', bytes, {23, "a quake without a place"})};
    Usgs__V1__Quake *quake = NULL;
    struct written written = {.body = NULL};
    amqp_basic_properties_t properties = {._flags = 0};
    decode(request, keep, &quake);
    if (quake->place && *quake->place) {
        char *before = quake->title;
        quake->title = with_answered(quake);
        written = write_quakes(&quake, 1, false, false);
        properties = labels_of(&written);
        free(quake->title);
        quake->title = before;
    } else {
        set_headers(&properties, 2, refusal);
    }
    properties.correlation_id = request->properties.correlation_id;
    properties._flags |= AMQP_BASIC_CORRELATION_ID_FLAG;
    /* Not mandatory: the broker returns even the answers to direct reply-to that have arrived. */
    publish(request->properties.reply_to, (amqp_bytes_t){written.length, written.body}, &properties, false);
    usgs__v1__quake__free_unpacked(quake, NULL);
    free(written.body);
    return --*(long *)left == 0;
}

struct ask {
    const char *queue;
    char *title, *refused;
};

static void ask_both(void *context) {
    struct ask *ask = context;
    for (int at = 0; at < 3; at += 2) {
        struct written written = write_quakes(quakes + at, 1, false, false);
        amqp_basic_properties_t properties = labels_of(&written);
        set(&properties, AMQP_BASIC_REPLY_TO_FLAG, &properties.reply_to, DIRECT);
        set(&properties, AMQP_BASIC_CORRELATION_ID_FLAG, &properties.correlation_id, at ? "ask-2" : "ask-0");
        amqp_bytes_t body = {written.length, written.body};
        /* Direct reply-to wants the request on the channel that consumes the answers. */
        if (amqp_basic_publish(connection, READING, amqp_empty_bytes, amqp_cstring_bytes(ask->queue), 1, 0, &properties,
                               body) != 0)
            fail("cannot publish a request");
        free(written.body);
    }
}

static bool answered(void *context, amqp_message_t *message) {
    struct ask *ask = context;
    Usgs__V1__Quake *quake = NULL;
    char *id = copy(message->properties.correlation_id);
    if (strcmp(id, "ask-2") == 0) {
        ask->refused = text_of(message->properties.headers, "x-fluffle-error");
    } else {
        decode(message, keep, &quake);
        ask->title = strdup(quake->title);
        usgs__v1__quake__free_unpacked(quake, NULL);
    }
    free(id);
    return ask->title && ask->refused;
}

static void dead_command(const char *queue) {
    amqp_message_t letter;
    amqp_rpc_reply_t got;
    time_t end = time(NULL) + PATIENCE;
    do {
        if (time(NULL) > end) fail("no message in %s within %d s", queue, PATIENCE);
        amqp_maybe_release_buffers(connection);
        got = amqp_basic_get(connection, READING, amqp_cstring_bytes(queue), 0);
        check(got, "getting");
        if (got.reply.id != AMQP_BASIC_GET_OK_METHOD) nanosleep(&(struct timespec){0, 10000000}, NULL);
    } while (got.reply.id != AMQP_BASIC_GET_OK_METHOD);
    uint64_t tag = ((amqp_basic_get_ok_t *)got.reply.decoded)->delivery_tag;
    check(amqp_read_message(connection, READING, &letter, 0), "reading a message");
    amqp_table_t table = letter.properties.headers;
    int count = 0;
    for (int at = 0; at < HEADERS; at++) {
        amqp_field_value_t *found = header(table, headers[at].key.bytes);
        if (found && !is_same(found, &headers[at].value)) fail("header %s differs", (char *)headers[at].key.bytes);
        count += found != NULL;
    }
    char *origin = text_of(table, "x-fluffle-origin-queue"), *error = text_of(table, "x-fluffle-error");
    char *reason = text_of(table, "x-fluffle-reason"), *attempt = text_of(table, "x-fluffle-attempt");
    publish(amqp_cstring_bytes(origin), letter.body, &letter.properties, true);
    amqp_basic_ack(connection, READING, tag, 0);
    snprintf(answer, sizeof answer, "headers=%d reason=%s attempt=%s origin-queue=%s error=%s", count, reason, attempt,
             origin, error);
    free(origin), free(error), free(reason), free(attempt);
    amqp_destroy_message(&letter);
}

static void obey(char *command) {
    char one[256] = "", two[256] = "", rest[256] = "";
    long count = 0;
    if (sscanf(command, "send %255s %ld %255[^\n]", one, &count, rest) >= 2) {
        send_command(one, count, rest);
    } else if (sscanf(command, "echo %255s %255s %ld", one, two, &count) == 3) {
        consume(one, false, NULL, echo_one, &(struct echo){two, count, NULL});
    } else if (sscanf(command, "serve %255s %ld", one, &count) == 2) {
        consume(one, false, NULL, serve_one, &count);
    } else if (sscanf(command, "ask %255s", one) == 1) {
        struct ask ask = {one, NULL, NULL};
        consume(DIRECT, true, ask_both, answered, &ask);
        snprintf(answer, sizeof answer, "title=%s refused=%s", ask.title, ask.refused);
        free(ask.title), free(ask.refused);
    } else if (sscanf(command, "dead %255s", one) == 1) {
        dead_command(one);
    } else {
        fail("no such command");
    }
}

static void start(char *url, const char *vectors) {
    char path[4096];
    struct amqp_connection_info to;
    snprintf(path, sizeof path, "%s/quakes.delimited", vectors);
    struct part body = read_file(path);
    struct labels labels = {"application/protobuf; encoding=delimited", "", ""};
    if (wire_read(QUAKE, body.bytes, body.length, labels, keep, quakes)) fail("bad vectors");
    free(body.bytes);
    list_entry.key = amqp_cstring_bytes("inner");
    list_values[1].value.bytes = amqp_cstring_bytes("two");
    amqp_default_connection_info(&to);
    if (amqp_parse_url(url, &to) != 0) fail("bad URL");
    connection = amqp_new_connection();
    if (amqp_socket_open(amqp_tcp_socket_new(connection), to.host, to.port) != 0) fail("cannot connect");
    check(amqp_login(connection, to.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, to.user, to.password), "login");
    for (int channel = READING; channel <= WRITING; channel++) {
        amqp_channel_open(connection, channel);
        check(amqp_get_rpc_reply(connection), "opening a channel");
    }
    amqp_tx_select(connection, WRITING);
    check(amqp_get_rpc_reply(connection), "asking for transactions");
}

int main(int count, char **arguments) {
    setlinebuf(stdout);
    if (count != 3) return 2;
    if (setjmp(failed)) {
        printf("failed: %s\n", answer);
        return 1;
    }
    start(arguments[1], arguments[2]);
    while (fgets(line, sizeof line, stdin)) {
        *answer = '\0';
        if (setjmp(failed)) {
            printf("failed: %s\n", answer);
            continue;
        }
        obey(line);
        printf("ok %s\n", answer);
    }
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
    return 0;
}
