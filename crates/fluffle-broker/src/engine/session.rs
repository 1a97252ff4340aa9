//! Opening and closing connections and channels.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    rc::Rc,
};

use super::{
    ChannelKey, ConnectionKey, Effect, Engine, Outgoing, QueueKey, VhostKey,
    consumer::{BACKLOG_LIMIT, Channel, Confirms, Connection, Unacked},
    refusal::Refusal,
};

impl Engine {
    pub(crate) fn open_connection(
        &mut self,
        vhost: VhostKey,
        user: &str,
        name: String,
        cancel_notify: bool,
    ) -> ConnectionKey {
        self.connections.insert(Connection {
            vhost,
            user: user.into(),
            name,
            channels: HashMap::new(),
            backlog: 0,
            congested: false,
            cancel_notify,
        })
    }

    /// Ends a connection: closes its channels and deletes its exclusive queues.
    pub(crate) fn close_connection(&mut self, connection: ConnectionKey) {
        let channels: Vec<_> =
            self.connections.get(connection).map(|open| open.channels.values().copied().collect()).unwrap_or_default();
        channels.into_iter().for_each(|channel| self.close_channel(channel));
        self.connections.remove(connection);
        let owned: Vec<QueueKey> =
            self.queues.iter().filter(|(_, queue)| queue.owner == Some(connection)).map(|(key, _)| key).collect();
        owned.into_iter().for_each(|queue| self.remove_queue(queue));
    }

    pub(crate) fn open_channel(&mut self, connection: ConnectionKey, number: u16) -> Option<ChannelKey> {
        let open = self.connections.get_mut(connection)?;
        let channel = self.channels.insert(Channel {
            connection,
            number,
            next_tag: 1,
            unacked: Unacked::default(),
            consumers: HashMap::new(),
            prefetch: 0,
            global_prefetch: 0,
            confirms: None,
            transaction: None,
            last_queue: Rc::from(""),
            replies: None,
            timeout_set: false,
        });
        open.channels.insert(number, channel);
        Some(channel)
    }

    /// Ends a channel: removes its consumers, and returns its unacknowledged deliveries to their queues.
    pub(crate) fn close_channel(&mut self, key: ChannelKey) {
        let tags: Vec<_> =
            self.channels.get(key).map(|channel| channel.consumers.keys().cloned().collect()).unwrap_or_default();
        let queues: Vec<_> = tags.into_iter().filter_map(|tag| self.remove_consumer(key, &tag)).collect();
        self.give_back(key);
        // After that, so that the next active consumer of a queue is given the oldest message first.
        queues.into_iter().for_each(|queue| self.run_queue(queue));
        let Some(channel) = self.channels.remove(key) else { return };
        if let Some((_, address)) = channel.replies {
            self.reply_addresses.remove(&address);
        }
        if let Some(open) = self.connections.get_mut(channel.connection) {
            open.channels.remove(&channel.number);
        }
    }

    /// Ends a channel on behalf of the broker, and tells its client.
    pub(crate) fn fail_channel(&mut self, key: ChannelKey, refusal: Refusal) {
        // Confirms of earlier messages must be sent before the close.
        self.tell_confirms();
        let Some(channel) = self.channels.get(key) else { return };
        let (connection, channel) = (channel.connection, channel.number);
        self.outbox.push(Outgoing { connection, channel, effect: Effect::CloseChannel(refusal) });
        self.close_channel(key);
    }

    /// Reports how many bytes wait for the socket of a connection. Deliveries go on when it has drained.
    pub(crate) fn set_backlog(&mut self, connection: ConnectionKey, bytes: usize) {
        let Some(open) = self.connections.get_mut(connection) else { return };
        open.backlog = bytes;
        if open.congested && bytes < BACKLOG_LIMIT / 2 {
            open.congested = false;
            let channels: Vec<_> = open.channels.values().copied().collect();
            channels.into_iter().for_each(|channel| self.wake_channel(channel));
        }
    }

    /// Switches publisher confirms on (RabbitMQ's `confirm.select`).
    pub(crate) fn select_confirms(&mut self, channel: ChannelKey) -> Result<(), Refusal> {
        let Some(open) = self.channels.get_mut(channel) else { return Ok(()) };
        if open.transaction.is_some() {
            return Err(Refusal::precondition("cannot switch from tx to confirm mode"));
        }
        open.confirms.get_or_insert_with(Confirms::default);
        Ok(())
    }

    /// Returns the virtual host of a channel, with its name and the connection.
    pub(super) fn place(&self, channel: ChannelKey) -> Option<(VhostKey, Rc<str>, ConnectionKey)> {
        let connection = self.channels.get(channel)?.connection;
        let vhost = self.connections.get(connection)?.vhost;
        Some((vhost, self.vhosts.get(vhost)?.name.clone(), connection))
    }

    /// A name that no other entity has, in RabbitMQ's format: 16 random bytes in URL-safe base64.
    pub(super) fn fresh_name(&mut self, prefix: &str) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        self.names += 1;
        // Not secret, but not guessable by accident: hashes of the counter, seeded by the process.
        let seed = RandomState::new();
        let half = |which: u8| u128::from(seed.hash_one((self.names, which)));
        let random = half(0) << 64 | half(1);
        // 21 digits of six bits, and one digit for the remaining two bits.
        let digit = |at: u32| char::from(DIGITS[(random.rotate_left(6 * (at + 1)) & 0x3F) as usize]);
        let last = char::from(DIGITS[(random as usize & 0x3) << 4]);
        prefix.chars().chain((0..21).map(digit)).chain([last]).collect()
    }
}
