# Runs the vectors of docs/vectors with this folder's reader and writer: `ruby vectors.rb <docs/vectors>`.
require "json"
require_relative "reader"
require_relative "writer"
require "usgs/v1/quake_pb"

Quake = Usgs::V1::Quake

def check(vector, expected, found)
  abort "#{vector}: expected #{expected.inspect}, found #{found.inspect}" unless expected == found
end

def kind(error)
  error.message.split(":").first
end

folder = ARGV.fetch(0)
index = JSON.parse(File.read(File.join(folder, "index.json")))
expected = index["messages"].map { |message| Quake.decode_json(JSON.dump(message)) }
vectors = index["vectors"].reject { |vector| vector["format"] == "json" }
vectors.each do |vector|
  body = File.binread(File.join(folder, vector["file"]))
  begin
    items = Reader.read(Quake, body, content_type: vector["content_type"], type_name: vector["type"],
                                     content_encoding: vector["content_encoding"], message_id: vector["message_id"])
  rescue Reader::Undecodable => error
    check(vector, vector["error"], kind(error))
    next
  end
  check(vector, nil, vector["error"])
  # Encoded and decoded without the fields that the library does not know: it keeps and compares them.
  known = ->(quake) { Quake.decode_json(Quake.encode_json(quake)) }
  found = items.map { |_, message| message.is_a?(Reader::Undecodable) ? kind(message) : known.call(message) }
  check(vector, vector["messages"].map { |at| at.negative? ? vector["item_error"] : expected[at] }, found)
  check(vector, vector["ids"], items.map(&:first)) if vector["ids"]
  next unless vector["written"]
  written, properties = Writer.write(items.map(&:last), batch: vector["file"].include?("delimited"))
  check(vector, body, written)
  check(vector, vector.values_at("content_type", "type"), properties.values_at(:content_type, :type))
end
puts "ok #{vectors.size} vectors"
