import com.google.protobuf.CodedInputStream;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.GZIPInputStream;

/** Reads what docs/WIRE.md describes. Needs protobuf-java alone. */
final class Reader {
    private static final String PROTOBUF = "(?i)|application/(octet-stream|(x-|x-google-|vnd\\.google\\.)?protobuf)";
    private static final String OTHERS = "(?i)|identity|binary|8bit|7bit|utf-?8|(us-)?ascii|iso-8859-1";
    private static final int SENT = 16 << 20, UNPACKED = 64 << 20, RATIO = 100, FREE = 1 << 20, ITEMS = 10_000;

    /** The message is a dead letter. The text begins with the kind of the error. */
    static final class Undecodable extends Exception {
        Undecodable(String why) { super(why); }
    }

    /** A message and its id; or, for an item of a batch that cannot be read, why. */
    record Item<T>(String id, T message, Undecodable error) {}

    /** Labels that are absent are null. */
    static <T extends Message> List<Item<T>> read(T empty, byte[] body, String contentType, String contentEncoding,
            String type, String id) throws Undecodable {
        String[] parts = (contentType == null ? "" : contentType).replaceAll("[ \t\"]", "").split(";");
        Map<String, String> parameters = new HashMap<>();
        for (String part : parts) parameters.putIfAbsent(part.replaceAll("=.*", "").toLowerCase(), part.replaceAll("^[^=]*=", ""));
        String name = empty.getDescriptorForType().getFullName(), batching = parameters.get("encoding");
        String encoding = contentEncoding == null ? "" : contentEncoding, labels = contentType + ", " + type;
        if (!parts[0].matches(PROTOBUF)) throw new Undecodable("content_type: not Protobuf: " + labels);
        for (String found : new String[] {type, parameters.get("proto")})
            if (found != null && !found.isEmpty() && !found.equals(name))
                throw new Undecodable("type_name: not " + name + ": " + labels);
        if (batching != null && !batching.equalsIgnoreCase("delimited")) throw new Undecodable("batching: " + labels);
        if (body.length > SENT) throw new Undecodable("too_large: " + body.length + " bytes");
        if (encoding.matches("(?i)(x-)?gzip")) body = unpack(body);
        else if (!encoding.matches(OTHERS)) throw new Undecodable("content_encoding: not gzip: " + encoding);
        if (batching == null) return List.of(new Item<>(id, parse(empty, body), null));
        List<Item<T>> items = new ArrayList<>();
        CodedInputStream in = CodedInputStream.newInstance(body);
        for (int end = 0; end < body.length; end = in.getTotalBytesRead()) {
            String itemId = id == null ? null : id + "/" + items.size();
            if (items.size() == ITEMS) throw new Undecodable("too_many_items: more than " + ITEMS);
            try {
                // Not readRawVarint64: it reads nine bytes and a tenth of zero as a negative number.
                long length = 0, next = -1;
                for (int shift = 0; next < 0 && shift < 70; shift += 7)
                    length |= ((next = in.readRawByte()) & 0x7FL) << shift;
                boolean isWide = in.getTotalBytesRead() - end == 10 && next > 1;
                if (next < 0 || isWide || length < 0 || length > body.length) throw new IOException("a length points past the end");
                items.add(new Item<>(itemId, parse(empty, in.readRawBytes((int) length)), null));
            } catch (Undecodable error) {
                items.add(new Item<>(itemId, null, error));
            } catch (IOException damaged) { // the rest is one item that cannot be read, the last one
                items.add(new Item<>(itemId, null, new Undecodable("framing: " + damaged.getMessage())));
                return items;
            }
        }
        return items;
    }

    @SuppressWarnings("unchecked")
    private static <T extends Message> T parse(T empty, byte[] body) throws Undecodable {
        try {
            return (T) empty.getParserForType().parseFrom(body);
        } catch (InvalidProtocolBufferException error) {
            throw new Undecodable("malformed: " + error.getMessage());
        }
    }

    /** All members, and never more than the limits. */
    private static byte[] unpack(byte[] body) throws Undecodable {
        int most = (int) Math.min(UNPACKED, Math.max(FREE, (long) RATIO * body.length));
        try (Members members = new Members(body)) {
            byte[] unpacked = members.readNBytes(most + 1);
            if (unpacked.length > most) throw new Undecodable((most < UNPACKED ? "ratio: " : "too_large: ") + "over " + most);
            if (members.left() > 8) throw new IOException("other bytes follow the last member");
            return unpacked;
        } catch (IOException error) {
            throw new Undecodable("gzip: " + error.getMessage());
        }
    }

    /** Java's own class ignores what follows the last member. */
    private static final class Members extends GZIPInputStream {
        Members(byte[] body) throws IOException { super(new ByteArrayInputStream(body), body.length + 1); }

        int left() { return inf.getRemaining(); } // with the eight bytes of the trailer
    }
}
