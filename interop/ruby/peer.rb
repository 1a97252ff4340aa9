# A peer that uses bunny. interop/README.md has its commands.
require "bigdecimal"
require "timeout"
require "bunny"
require_relative "reader"
require_relative "writer"
require "usgs/v1/quake_pb"

Quake = Usgs::V1::Quake
DIRECT = "amq.rabbitmq.reply-to"
PATIENCE = 10
# bunny writes wrong decimals, and all text as text.
HEADERS = {
  "bool" => true, "int8" => -8, "int16" => -1600, "int32" => -70_000, "int64" => -5_000_000_000,
  "uint8" => 200, "uint16" => 60_000, "uint32" => 4_000_000_000, "float" => 1.5, "double" => 2.25,
  "text" => "Grüße", "bytes" => "\x00\x01\xff".b, "time" => Time.at(1_500_000_000), "list" => [1, "two"],
  "table" => { "inner" => 7 }, "void" => nil
}.freeze

class Peer
  def initialize(channel, vectors)
    @channel = channel
    body = File.binread(File.join(vectors, "quakes.delimited"))
    @quakes = Reader.read(Quake, body, content_type: "application/protobuf; encoding=delimited").map(&:last)
  end

  def publish(queue, body, properties, mandatory: true)
    @channel.default_exchange.publish(body, properties.merge(routing_key: queue, mandatory: mandatory))
    raise "a message to #{queue} was nacked" unless @channel.wait_for_confirms
  end

  def queue(name)
    Bunny::Queue.new(@channel, name, no_declare: true)
  end

  def take(name)
    Timeout.timeout(PATIENCE) do
      loop do
        info, properties, body = queue(name).pop(manual_ack: true)
        return [info, properties, body] if info
        sleep 0.01
      end
    end
  end

  # Yields each delivery until the block returns true.
  def consume(name, manual_ack: true, ready: -> {})
    arrived = Thread::Queue.new
    consumer = Bunny::Consumer.new(@channel, queue(name), @channel.generate_consumer_tag, !manual_ack)
    consumer.on_delivery { |*delivery| arrived << delivery }
    @channel.basic_consume_with(consumer)
    ready.call
    Timeout.timeout(PATIENCE) do
      loop do
        info, properties, body = arrived.pop
        is_done = yield properties, body
        @channel.ack(info.delivery_tag) if manual_ack
        break if is_done
      end
    end
    consumer.cancel
  end

  def decode(properties, body)
    items = Reader.read(Quake, body, content_type: properties.content_type, type_name: properties.type,
                                     content_encoding: properties.content_encoding, message_id: properties.message_id)
    items.each { |_, message| raise message if message.is_a?(Reader::Undecodable) }
  end

  def send_messages(queue, count, *options)
    some = @quakes.first(count.to_i)
    batch = options.include?("batch")
    (batch ? [some] : some.map { |quake| [quake] }).each_with_index do |part, index|
      body, properties = Writer.write(part, batch: batch, gzip: options.include?("gzip"))
      properties = { content_type: "" } if options.include?("bare") # bunny's default is application/octet-stream
      properties[:headers] = HEADERS if options.include?("headers")
      publish(queue, body, properties.merge(message_id: "sent-#{index}"))
    end
    nil
  end

  def echo(source, target, count)
    left = count.to_i
    consume(source) do |properties, body|
      decode(properties, body).each do |id, quake|
        echoed, labels = Writer.write([quake])
        publish(target, echoed, labels.merge(message_id: id, headers: properties.headers || {}))
        left -= 1
      end
      left <= 0
    end
  end

  def serve(queue, count)
    left = count.to_i
    consume(queue) do |properties, body|
      quake = decode(properties, body).first.last
      answer = ["", { headers: { "x-fluffle-reason" => "rejected", "x-fluffle-error" => "a quake without a place" } }]
      unless quake.place.empty?
        quake.title += ", answered"
        answer = Writer.write([quake])
      end
      # Without `mandatory`: the broker returns even the answers to direct reply-to that have arrived.
      labels = answer.last.merge(correlation_id: properties.correlation_id)
      publish(properties.reply_to, answer.first, labels, mandatory: false)
      (left -= 1).zero?
    end
  end

  def ask(queue)
    answers = {}
    asking = lambda do
      [0, 2].each do |index|
        body, properties = Writer.write([@quakes[index]])
        publish(queue, body, properties.merge(reply_to: DIRECT, correlation_id: "ask-#{index}", persistent: false))
      end
    end
    consume(DIRECT, manual_ack: false, ready: asking) do |properties, body|
      answers[properties.correlation_id] = [properties, body]
      answers.size == 2
    end
    refused = answers["ask-2"].first.headers["x-fluffle-error"]
    "title=#{decode(*answers['ask-0']).first.last.title} refused=#{refused}"
  end

  def dead(queue)
    info, properties, body = take(queue)
    headers = properties.headers
    there = HEADERS.select { |name, _| headers.key?(name) }
    there.each do |name, expected|
      found = headers[name]
      found = found.dup.force_encoding(expected.encoding) if found.is_a?(String) && expected.is_a?(String)
      raise "header #{name}: expected #{expected.inspect}, found #{found.inspect}" unless found == expected
    end
    labels = properties.to_h.merge(timestamp: properties.timestamp&.to_i).compact
    publish(headers["x-fluffle-origin-queue"], body, labels)
    @channel.ack(info.delivery_tag)
    words = %w[reason attempt origin-queue error].map { |name| "#{name}=#{headers["x-fluffle-#{name}"]}" }
    "headers=#{there.size} #{words.join(' ')}".force_encoding("UTF-8")
  end
end

connection = Bunny.new(ARGV.fetch(0), automatically_recover: false, logger: Logger.new($stderr, level: :fatal))
connection.start
channel = connection.create_channel
channel.confirm_select
peer = Peer.new(channel, ARGV.fetch(1))
$stdout.sync = true
while (line = $stdin.gets)
  name, *words = line.split
  name = "send_messages" if name == "send"
  begin
    puts "ok #{peer.public_send(name, *words)}"
  rescue StandardError => error
    puts "failed: #{error.class}: #{error.message.gsub("\n", ' ')}"
  end
end
connection.close
