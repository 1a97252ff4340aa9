# Writes what docs/WIRE.md describes. Needs google-protobuf alone.
require "securerandom"
require "zlib"

module Writer
  # The body of one message, or of a batch of messages of one type, and its properties, named as bunny names them.
  def self.write(messages, batch: false, gzip: false)
    raise ArgumentError, "a body that is no batch has one message" unless batch || messages.size == 1
    type = messages.first.class
    name = type.descriptor.name
    parts = messages.map { |message| type.encode(message) }
    body = batch ? parts.map { |part| varint(part.bytesize) + part }.join : parts.first
    properties = {
      content_type: "application/vnd.google.protobuf; proto=#{name}#{'; encoding=delimited' if batch}",
      type: name, message_id: SecureRandom.uuid, persistent: true, timestamp: Time.now.to_i
    }
    return [body, properties] unless gzip
    [Zlib.gzip(body), properties.merge(content_encoding: "gzip")]
  end

  def self.varint(number)
    bytes = []
    while number > 0x7f
      bytes << (number & 0x7f | 0x80)
      number >>= 7
    end
    (bytes << number).pack("C*")
  end
end
