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
# What a reader of Protobuf and of batches of one type says to the rest.
refusals = { "json" => "content_type", "typed" => "batching" }
index["vectors"].each do |vector|
  body = File.binread(File.join(folder, vector["file"])) * vector.fetch("repeat", 1)
  refused = refusals.fetch(vector["format"], vector["error"])
  begin
    items = Reader.read(Quake, body, content_type: vector["content_type"], type_name: vector["type"],
                                     content_encoding: vector["content_encoding"], message_id: vector["message_id"])
  rescue Reader::Undecodable => error
    check(vector, refused, kind(error))
    next
  end
  check(vector, refused, nil)
  # Encoded and decoded without the fields that the library does not know: it keeps and compares them.
  known = ->(quake) { Quake.decode_json(Quake.encode_json(quake)) }
  found = items.map { |_, message| message.is_a?(Reader::Undecodable) ? kind(message) : known.call(message) }
  check(vector, vector["messages"].map { |at| at.negative? ? vector["item_error"] : expected[at] }, found)
  check(vector, vector.fetch("ids", [nil] * items.size), items.map(&:first))
  # The writer takes the type of a batch from its messages.
  next unless vector["written"] && items.any?
  written, properties = Writer.write(items.map(&:last), batch: vector["file"].include?("delimited"))
  check(vector, body, written)
  check(vector, vector.values_at("content_type", "type"), properties.values_at(:content_type, :type))
end
puts "ok #{index["vectors"].size} vectors"
