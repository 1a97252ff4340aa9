# Reads what docs/WIRE.md describes. Needs google-protobuf alone.
require "zlib"
require "google/protobuf"

module Reader
  PROTOBUF = %r{\A(|application/(octet-stream|(x-|x-google-|vnd\.google\.)?protobuf))\z}i
  UNCOMPRESSED = /\A(|identity|binary|8bit|7bit|utf-?8|(us-)?ascii|iso-8859-1)\z/i
  SENT, UNPACKED, RATIO, FREE, ITEMS = 16 << 20, 64 << 20, 100, 1 << 20, 10_000

  # The message is a dead letter. The text begins with the kind of the error.
  class Undecodable < StandardError; end

  # Pairs of id and message. An item of a batch that cannot be read is an Undecodable.
  def self.read(type, body, content_type: nil, content_encoding: nil, type_name: nil, message_id: nil)
    media, *rest = content_type.to_s.split(";").map(&:strip)
    named = rest.map { |part| part.split("=", 2).map(&:strip) }.select { |pair| pair.size == 2 }
    # The first of a name counts.
    parameters = named.reverse.to_h { |name, value| [name.downcase, value.delete('"')] }
    name = type.descriptor.name
    raise Undecodable, "content_type: #{media} is not Protobuf" unless PROTOBUF.match?(media.to_s)
    unless [type_name, parameters["proto"]].all? { |found| ["", name].include?(found.to_s) }
      raise Undecodable, "type_name: #{type_name} or #{content_type} is not #{name}"
    end
    unless parameters.fetch("encoding", "delimited").casecmp?("delimited")
      raise Undecodable, "batching: #{content_type} names no known form of a batch"
    end
    raise Undecodable, "too_large: #{body.bytesize} bytes" if body.bytesize > SENT
    if content_encoding.to_s.match?(/\A(x-)?gzip\z/i)
      body = unpack(body)
    elsif !UNCOMPRESSED.match?(content_encoding.to_s)
      raise Undecodable, "content_encoding: #{content_encoding} is not gzip"
    end
    return [[message_id, parse(type, body)]] unless parameters.key?("encoding")
    split(type, body).each_with_index.map { |message, index| [message_id && "#{message_id}/#{index}", message] }
  end

  def self.parse(type, body)
    type.decode(body)
  rescue Google::Protobuf::ParseError => error
    raise Undecodable, "malformed: #{error.message}"
  end

  # All members, and never more than the limits.
  def self.unpack(body)
    most, unpacked = [UNPACKED, [FREE, RATIO * body.bytesize].max].min, "".b
    loop do
      member = Zlib::Inflate.new(Zlib::MAX_WBITS + 16)
      member.inflate(body) do |part|
        next if (unpacked << part).bytesize <= most
        raise Undecodable, "#{most < UNPACKED ? 'ratio' : 'too_large'}: it unpacks to more than #{most} bytes"
      end
      raise Undecodable, "gzip: it is cut short" unless member.finished?
      body = body.byteslice(member.total_in..)
      return unpacked if body.empty?
    end
  rescue Zlib::Error => error
    raise Undecodable, "gzip: #{error.message}"
  end

  # What follows a damaged length is one item that cannot be read, the last one.
  def self.split(type, body)
    items, left = [], body
    until left.empty?
      raise Undecodable, "too_many_items: more than #{ITEMS}" if items.size == ITEMS
      head = left.byteslice(0, 10).bytes
      size = (head.index { |byte| byte < 0x80 } || left.bytesize) + 1
      length = head.take(size).each_with_index.sum { |byte, index| (byte & 0x7f) << 7 * index }
      return items << Undecodable.new("framing: a length is damaged") if size + length > left.bytesize
      items << begin parse(type, left.byteslice(size, length)) rescue $! end
      left = left.byteslice(size + length..)
    end
    items
  end
end
