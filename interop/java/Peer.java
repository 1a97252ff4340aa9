import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import usgs.v1.QuakeOuterClass.Quake;

/** A peer that uses RabbitMQ's client. interop/README.md has its commands. */
final class Peer {
    private static final String DIRECT = "amq.rabbitmq.reply-to";
    private static final long PATIENCE = 10_000;
    /** In the types in which this client reads them. Text is compared as text. */
    private static final Map<String, Object> HEADERS = new LinkedHashMap<>();

    static {
        HEADERS.put("bool", true);
        HEADERS.put("int8", (byte) -8);
        HEADERS.put("int16", (short) -1600);
        HEADERS.put("int32", -70_000);
        HEADERS.put("int64", -5_000_000_000L);
        HEADERS.put("float", 1.5f);
        HEADERS.put("double", 2.25);
        HEADERS.put("decimal", new BigDecimal("12.34"));
        HEADERS.put("text", "Grüße");
        HEADERS.put("bytes", new byte[] {0, 1, -1});
        HEADERS.put("time", new Date(1_500_000_000_000L));
        HEADERS.put("list", List.of(1, "two"));
        HEADERS.put("table", Map.of("inner", 7));
        HEADERS.put("void", null);
    }

    private record Arrived(Envelope envelope, BasicProperties properties, byte[] body) {}

    private interface Handle {
        boolean isLast(BasicProperties properties, byte[] body) throws Exception;
    }

    private interface Ready {
        void run() throws Exception;
    }

    private final Channel channel;
    private final List<Quake> quakes = new ArrayList<>();

    private Peer(Channel channel, Path vectors) throws Exception {
        this.channel = channel;
        byte[] body = Files.readAllBytes(vectors.resolve("quakes.delimited"));
        String contentType = "application/protobuf; encoding=delimited";
        for (var item : Reader.read(Quake.getDefaultInstance(), body, contentType, null, null, null))
            quakes.add(item.message());
    }

    public static void main(String[] arguments) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(arguments[0]);
        factory.setAutomaticRecoveryEnabled(false);
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        try (Connection connection = factory.newConnection()) {
            Channel channel = connection.createChannel();
            channel.confirmSelect();
            Peer peer = new Peer(channel, Path.of(arguments[1]));
            BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line; (line = in.readLine()) != null;) {
                try {
                    out.println("ok " + peer.obey(line.split(" ")));
                } catch (Exception error) {
                    out.println(("failed: " + error + " " + error.getCause()).replace('\n', ' '));
                }
            }
        }
    }

    private String obey(String[] words) throws Exception {
        switch (words[0]) {
            case "send": send(words[1], Integer.parseInt(words[2]), Arrays.asList(words)); return "";
            case "echo": echo(words[1], words[2], Integer.parseInt(words[3])); return "";
            case "serve": serve(words[1], Integer.parseInt(words[2])); return "";
            case "ask": return ask(words[1]);
            case "dead": return dead(words[1]);
            default: throw new IllegalArgumentException("no such command");
        }
    }

    private void publish(String queue, byte[] body, BasicProperties properties, boolean mandatory) throws Exception {
        channel.basicPublish("", queue, mandatory, properties, body);
        channel.waitForConfirmsOrDie(PATIENCE);
    }

    private static List<Reader.Item<Quake>> decode(BasicProperties properties, byte[] body) throws Exception {
        var items = Reader.read(Quake.getDefaultInstance(), body, properties.getContentType(),
                properties.getContentEncoding(), properties.getType(), properties.getMessageId());
        for (var item : items) if (item.error() != null) throw item.error();
        return items;
    }

    private void send(String queue, int count, List<String> options) throws Exception {
        List<Quake> some = quakes.subList(0, count);
        boolean batch = options.contains("batch");
        for (int at = 0; at < (batch ? 1 : count); at++) {
            Writer written = Writer.write(batch ? some : some.subList(at, at + 1), batch, options.contains("gzip"));
            var properties = options.contains("bare") ? new BasicProperties.Builder() : written.properties();
            if (options.contains("headers")) properties.headers(HEADERS);
            publish(queue, written.body(), properties.messageId("sent-" + at).build(), true);
        }
    }

    /** Calls `handle` for each delivery until one is the last. */
    private void consume(String queue, boolean autoAck, Ready ready, Handle handle) throws Exception {
        BlockingQueue<Arrived> arrived = new LinkedBlockingQueue<>();
        String tag = channel.basicConsume(queue, autoAck, new DefaultConsumer(channel) {
            @Override
            public void handleDelivery(String tag, Envelope envelope, BasicProperties properties, byte[] body) {
                arrived.add(new Arrived(envelope, properties, body));
            }
        });
        ready.run();
        for (boolean isLast = false; !isLast;) {
            Arrived next = arrived.poll(PATIENCE, TimeUnit.MILLISECONDS);
            if (next == null) throw new TimeoutException("not enough messages from " + queue);
            isLast = handle.isLast(next.properties, next.body);
            if (!autoAck) channel.basicAck(next.envelope.getDeliveryTag(), false);
        }
        channel.basicCancel(tag);
    }

    private void echo(String source, String target, int count) throws Exception {
        int[] left = {count};
        consume(source, false, () -> {}, (properties, body) -> {
            for (var item : decode(properties, body)) {
                Writer written = Writer.write(List.of(item.message()), false, false);
                var echoed = written.properties().messageId(item.id()).headers(properties.getHeaders());
                publish(target, written.body(), echoed.build(), true);
                left[0]--;
            }
            return left[0] <= 0;
        });
    }

    private void serve(String queue, int count) throws Exception {
        int[] left = {count};
        consume(queue, false, () -> {}, (properties, body) -> {
            Quake quake = decode(properties, body).get(0).message();
            byte[] answer = {};
            var labels = new BasicProperties.Builder();
            if (quake.getPlace().isEmpty()) {
                labels.headers(Map.of("x-fluffle-reason", "rejected", "x-fluffle-error", "a quake without a place"));
            } else {
                Quake answered = quake.toBuilder().setTitle(quake.getTitle() + ", answered").build();
                Writer written = Writer.write(List.of(answered), false, false);
                answer = written.body();
                labels = written.properties();
            }
            // Not mandatory: the broker returns even the answers to direct reply-to that have arrived.
            publish(properties.getReplyTo(), answer, labels.correlationId(properties.getCorrelationId()).build(), false);
            return --left[0] == 0;
        });
    }

    private String ask(String queue) throws Exception {
        Map<String, Arrived> answers = new HashMap<>();
        consume(DIRECT, true, () -> {
            for (int index : new int[] {0, 2}) {
                Writer written = Writer.write(quakes.subList(index, index + 1), false, false);
                var request = written.properties().deliveryMode(1).replyTo(DIRECT).correlationId("ask-" + index);
                publish(queue, written.body(), request.build(), true);
            }
        }, (properties, body) -> {
            answers.put(properties.getCorrelationId(), new Arrived(null, properties, body));
            return answers.size() == 2;
        });
        Arrived answered = answers.get("ask-0");
        Object refused = answers.get("ask-2").properties.getHeaders().get("x-fluffle-error");
        Quake quake = decode(answered.properties, answered.body).get(0).message();
        return "title=" + quake.getTitle() + " refused=" + refused;
    }

    private String dead(String queue) throws Exception {
        GetResponse letter = null;
        for (long end = System.currentTimeMillis() + PATIENCE; letter == null; Thread.sleep(10)) {
            if (System.currentTimeMillis() > end) throw new TimeoutException("no message in " + queue);
            letter = channel.basicGet(queue, false);
        }
        Map<String, Object> headers = letter.getProps().getHeaders();
        int count = 0;
        for (var expected : HEADERS.entrySet()) {
            if (!headers.containsKey(expected.getKey())) continue;
            Object found = headers.get(expected.getKey());
            if (!Objects.deepEquals(plain(found), plain(expected.getValue())))
                throw new IllegalStateException("header " + expected + " is " + plain(found));
            count++;
        }
        publish(headers.get("x-fluffle-origin-queue").toString(), letter.getBody(), letter.getProps(), true);
        channel.basicAck(letter.getEnvelope().getDeliveryTag(), false);
        StringBuilder answer = new StringBuilder("headers=" + count);
        for (String name : List.of("reason", "attempt", "origin-queue", "error"))
            answer.append(" ").append(name).append("=").append(headers.get("x-fluffle-" + name));
        return answer.toString();
    }

    /** With texts as texts, because this client reads them as LongString. */
    private static Object plain(Object value) {
        if (value instanceof LongString) return value.toString();
        if (value instanceof List<?> list) return list.stream().map(Peer::plain).toList();
        return value;
    }
}
