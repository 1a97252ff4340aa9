import com.google.protobuf.Message;
import com.rabbitmq.client.AMQP.BasicProperties;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.Date;
import java.util.List;
import java.util.UUID;
import java.util.zip.GZIPOutputStream;

/** Writes what docs/WIRE.md describes. */
record Writer(byte[] body, BasicProperties.Builder properties) {
    /** The body of one message, or of a batch of messages of one type, and its properties. */
    static Writer write(List<? extends Message> messages, boolean batch, boolean gzip) throws IOException {
        if (!batch && messages.size() != 1) throw new IllegalArgumentException("a body that is no batch has one message");
        String name = messages.get(0).getDescriptorForType().getFullName();
        String contentType = "application/vnd.google.protobuf; proto=" + name + (batch ? "; encoding=delimited" : "");
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        for (Message message : messages) {
            if (batch) message.writeDelimitedTo(body);
            else message.writeTo(body);
        }
        BasicProperties.Builder properties = new BasicProperties.Builder()
                .contentType(contentType).type(name).deliveryMode(2)
                .messageId(UUID.randomUUID().toString()).timestamp(new Date());
        if (!gzip) return new Writer(body.toByteArray(), properties);
        ByteArrayOutputStream packed = new ByteArrayOutputStream();
        try (GZIPOutputStream out = new GZIPOutputStream(packed)) {
            body.writeTo(out);
        }
        return new Writer(packed.toByteArray(), properties.contentEncoding("gzip"));
    }
}
