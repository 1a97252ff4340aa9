import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.UnknownFieldSet;
import com.google.protobuf.util.JsonFormat;
import java.io.ByteArrayOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import usgs.v1.QuakeOuterClass.Quake;

/** Runs the vectors of docs/vectors with the reader and the writer: `java Vectors <docs/vectors>`. */
final class Vectors {
    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        JsonObject index = JsonParser.parseString(Files.readString(folder.resolve("index.json"))).getAsJsonObject();
        List<Quake> expected = new ArrayList<>();
        for (JsonElement json : index.getAsJsonArray("messages")) {
            Quake.Builder quake = Quake.newBuilder();
            JsonFormat.parser().merge(json.toString(), quake);
            expected.add(quake.build());
        }
        for (JsonElement json : index.getAsJsonArray("vectors")) {
            JsonObject vector = json.getAsJsonObject();
            byte[] file = Files.readAllBytes(folder.resolve(text(vector, "file")));
            ByteArrayOutputStream body = new ByteArrayOutputStream();
            for (int left = vector.has("repeat") ? vector.get("repeat").getAsInt() : 1; left > 0; left--) body.write(file);
            test(vector, body.toByteArray(), expected);
        }
        System.out.println("ok " + index.getAsJsonArray("vectors").size() + " vectors");
    }

    private static void test(JsonObject vector, byte[] body, List<Quake> expected) throws Exception {
        // What a reader of Protobuf and of batches of one type says to the rest.
        String format = text(vector, "format");
        String refused = format == null ? text(vector, "error") : format.equals("json") ? "content_type" : "batching";
        List<Reader.Item<Quake>> items;
        try {
            items = Reader.read(Quake.getDefaultInstance(), body, text(vector, "content_type"),
                    text(vector, "content_encoding"), text(vector, "type"), text(vector, "message_id"));
        } catch (Reader.Undecodable error) {
            check(vector, refused, kind(error));
            return;
        }
        check(vector, refused, null);
        JsonArray wanted = vector.getAsJsonArray("messages");
        check(vector, wanted.size(), items.size());
        List<Quake> messages = new ArrayList<>();
        for (int at = 0; at < items.size(); at++) {
            Reader.Item<Quake> item = items.get(at);
            String id = vector.has("ids") ? vector.getAsJsonArray("ids").get(at).getAsString() : null;
            check(vector, id, item.id());
            int message = wanted.get(at).getAsInt();
            if (message < 0) {
                check(vector, text(vector, "item_error"), item.error() == null ? null : kind(item.error()));
                continue;
            }
            if (item.error() != null) throw new AssertionError(vector + ": item " + at, item.error());
            // The library keeps fields that it does not know, and compares them.
            Quake known = item.message().toBuilder().setUnknownFields(UnknownFieldSet.getDefaultInstance()).build();
            check(vector, expected.get(message), known);
            messages.add(item.message());
        }
        if (vector.has("written") && !messages.isEmpty()) { // the writer takes the type of a batch from its messages
            Writer written = Writer.write(messages, text(vector, "file").contains("delimited"), false);
            check(vector, java.util.Arrays.toString(body), java.util.Arrays.toString(written.body()));
            check(vector, text(vector, "content_type"), written.properties().build().getContentType());
            check(vector, text(vector, "type"), written.properties().build().getType());
        }
    }

    private static String text(JsonObject vector, String name) {
        return vector.has(name) ? vector.get(name).getAsString() : null;
    }

    private static String kind(Exception error) {
        return error.getMessage().split(":")[0];
    }

    private static void check(JsonObject vector, Object expected, Object found) {
        if (!Objects.equals(expected, found))
            throw new AssertionError(vector + ": expected " + expected + ", found " + found);
    }
}
