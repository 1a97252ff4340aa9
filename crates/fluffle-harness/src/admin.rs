//! The operations of a broker's administrator, as methods.
//!
//! The methods call, through the node's control socket, the functions inside the node that RabbitMQ's own `rabbitmqctl`
//! also calls (unchanged from 3.9 to 4.x).

use std::{collections::HashMap, time::Duration};

use crate::{
    HarnessError, RabbitMq,
    remote::{self, binary},
    wait::poll_until,
};

/// A client's connection, as the broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The broker's name for the connection: `127.0.0.1:41234 -> 127.0.0.1:21504`.
    pub name: String,
    /// The name that the client chose (client property `connection_name`), or empty.
    pub client_name: String,
    /// The vhost.
    pub vhost: String,
    /// The user.
    pub user: String,
    /// The state: `running`, `blocking`, `blocked`, ...
    pub state: String,
    /// How many channels are open.
    pub channels: usize,
}

/// How many messages and consumers a queue has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages delivered and not yet settled.
    pub unacked: u64,
    /// Number of consumers.
    pub consumers: u64,
}

/// Erlang text that turns a value into hexadecimal, because names may contain any byte, including the separators of the
/// answer.
const HEX: &str = "H = fun(V) when is_binary(V) -> binary:encode_hex(V); (V) when is_atom(V) -> \
                   binary:encode_hex(atom_to_binary(V)); \
                   (V) -> binary:encode_hex(iolist_to_binary(io_lib:format(\"~p\", [V]))) end";

/// Erlang text for the name that a client chose. A connection in its handshake has no list of properties yet.
const CLIENT_NAME: &str = "ClientName = fun(Info) -> case proplists:get_value(client_properties, Info, []) of \
                           L when is_list(L) -> case lists:keyfind(<<\"connection_name\">>, 1, L) of \
                           {_, _, N} -> N; false -> <<>> end; _ -> <<>> end end";

impl RabbitMq {
    /// All client connections.
    pub fn list_connections(&self) -> Result<Vec<Connection>, HarnessError> {
        let expression = format!(
            "{HEX}, {CLIENT_NAME}, [[lists:join($ , [H(V) || V <- [ClientName(Info) | \
             [V || {{K, V}} <- Info, K =/= client_properties]]]), $\\n] || Info <- \
             rabbit_networking:connection_info_all([client_properties, name, vhost, user, state, channels]), \
             proplists:get_value(state, Info) =/= closed]"
        );
        let text = self.admin("list_connections", &expression)?;
        let connection = |row: Row<'_>| Connection {
            client_name: row.text(0),
            name: row.text(1),
            vhost: row.text(2),
            user: row.text(3),
            state: row.text(4),
            channels: row.text(5).parse().unwrap_or(0),
        };
        Ok(rows(&text).map(connection).collect())
    }

    /// Closes every client connection with 320 CONNECTION_FORCED and `reason`, and returns how many there were.
    ///
    /// On a shared node this also affects other tests; use
    /// [`Vhost::close_connections`](crate::Vhost::close_connections) there.
    pub fn close_all_connections(&self, reason: &str) -> Result<usize, HarnessError> {
        self.close_connections_where("true", reason)
    }

    /// Closes the connections of one vhost with 320 CONNECTION_FORCED and `reason`, and returns how many there were.
    pub fn close_connections_of_vhost(&self, vhost: &str, reason: &str) -> Result<usize, HarnessError> {
        self.close_connections_where(&format!("proplists:get_value(vhost, Info) =:= {}", binary(vhost)), reason)
    }

    /// Closes the connections whose client chose the name `client_name`, and returns how many there were.
    pub fn close_connections_named(&self, client_name: &str, reason: &str) -> Result<usize, HarnessError> {
        self.close_connections_where(&format!("ClientName(Info) =:= {}", binary(client_name)), reason)
    }

    /// Closes the connections that meet an Erlang condition. A connection that ends by itself meanwhile counts as
    /// closed.
    fn close_connections_where(&self, condition: &str, reason: &str) -> Result<usize, HarnessError> {
        let expression = format!(
            "{CLIENT_NAME}, Pids = [proplists:get_value(pid, Info) || Info <- \
             rabbit_networking:connection_info_all([pid, vhost, client_properties]), {condition}], \
             [(catch rabbit_networking:close_connection(P, {})) || P <- Pids], integer_to_binary(length(Pids))",
            binary(reason)
        );
        let answer = self.admin("close_connections", &expression)?;
        Ok(answer.parse().unwrap_or(0))
    }

    /// The queues of a vhost by name.
    ///
    /// The counts of classic queues are always exact. A quorum queue's leader publishes its counts only about every
    /// five seconds (`quorum_tick_interval`), so wait for the expected counts with [`wait_queue`](Self::wait_queue).
    pub fn queue_depths(&self, vhost: &str) -> Result<HashMap<String, QueueDepth>, HarnessError> {
        self.depths_of(&format!("rabbit_amqqueue:list({})", binary(vhost)))
    }

    /// The queues of a vhost that this node leads: a node of a cluster knows the counts of no others.
    pub(crate) fn led_queue_depths(&self, vhost: &str) -> Result<HashMap<String, QueueDepth>, HarnessError> {
        let leads = "case amqqueue:get_pid(Q) of {_, N} -> N =:= node(); P -> is_pid(P) andalso node(P) =:= node() end";
        self.depths_of(&format!("[Q || Q <- rabbit_amqqueue:list({}), {leads}]", binary(vhost)))
    }

    fn depths_of(&self, queues: &str) -> Result<HashMap<String, QueueDepth>, HarnessError> {
        let expression = format!(
            "{HEX}, [begin {{resource, _, queue, Name}} = proplists:get_value(name, Info), \
             [lists:join($ , [H(Name) | [H(proplists:get_value(K, Info, 0)) || \
             K <- [messages_ready, messages_unacknowledged, consumers]]]), $\\n] \
             end || Q <- {queues}, \
             Info <- [rabbit_amqqueue:info(Q, [name, messages_ready, messages_unacknowledged, consumers])]]"
        );
        let text = self.admin("queue_depths", &expression)?;
        let count = |row: &Row<'_>, column| row.text(column).parse().unwrap_or(0);
        Ok(rows(&text)
            .map(|row| {
                let depth = QueueDepth { ready: count(&row, 1), unacked: count(&row, 2), consumers: count(&row, 3) };
                (row.text(0), depth)
            })
            .collect())
    }

    /// Waits until a queue exists and `expected` returns true for its depth, for at most `limit`. Returns that depth.
    pub fn wait_queue(
        &self,
        vhost: &str,
        queue: &str,
        limit: Duration,
        expected: impl Fn(QueueDepth) -> bool,
    ) -> Result<QueueDepth, HarnessError> {
        let mut last = None;
        let reached = poll_until(limit, "a queue's depth", || {
            last = self.queue_depths(vhost)?.remove(queue);
            Ok(last.filter(|depth| expected(*depth)))
        });
        reached.map_err(|error| match error {
            HarnessError::Timeout { limit, .. } => HarnessError::Timeout {
                what: format!("queue {queue:?} reaching the expected depth (last seen: {last:?})"),
                limit,
            },
            other => other,
        })
    }

    /// Removes the ready messages of a queue. Slow, see [`ctl`](Self::ctl).
    pub fn purge_queue(&self, vhost: &str, queue: &str) -> Result<(), HarnessError> {
        self.ctl(&["purge_queue", "--vhost", vhost, queue]).map(drop)
    }

    /// Deletes a queue, so that its consumers are sent `basic.cancel`. Slow, see [`ctl`](Self::ctl).
    pub fn delete_queue(&self, vhost: &str, queue: &str) -> Result<(), HarnessError> {
        self.ctl(&["delete_queue", "--vhost", vhost, queue]).map(drop)
    }

    /// Raises the memory alarm: the broker sends `connection.blocked` to clients that publish and stops reading from
    /// them, on every vhost of the node.
    ///
    /// When this returns, the alarm is raised and every existing connection knows of it, so the next publish is the one
    /// that blocks.
    pub fn block_publishers(&self) -> Result<(), HarnessError> {
        // The node sends the alarm to the connections before it lists it here. Each connection then answers a question,
        // so it has handled the alarm.
        let expression = "vm_memory_monitor:set_vm_memory_high_watermark(0.00001), \
                          Raised = fun Look(0) -> false; Look(Left) -> \
                            case [A || {{resource_limit, memory, _}, _} = A <- rabbit_alarm:get_alarms()] of \
                              [] -> timer:sleep(20), Look(Left - 1); \
                              _ -> true \
                            end \
                          end, \
                          true = Raised(500), \
                          [catch rabbit_reader:info(Connection, [pid]) \
                            || Connection <- rabbit_networking:local_connections()], <<>>";
        self.admin("block_publishers", expression).map(drop)
    }

    /// Clears the alarm that [`block_publishers`](Self::block_publishers) raised: the configured watermark applies
    /// again.
    pub fn unblock_publishers(&self) -> Result<(), HarnessError> {
        let expression = "{ok, W} = application:get_env(rabbit, vm_memory_high_watermark), \
                          vm_memory_monitor:set_vm_memory_high_watermark(W), <<>>";
        self.admin("unblock_publishers", expression).map(drop)
    }

    /// Adds a vhost that `guest` may use, and returns its URL.
    pub fn add_vhost(&self, name: &str) -> Result<String, HarnessError> {
        let vhost = binary(name);
        let expression = format!(
            "ok = rabbit_vhost:add({vhost}, <<\"harness\">>), ok = rabbit_auth_backend_internal:set_permissions(\
             <<\"guest\">>, {vhost}, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"harness\">>), <<>>"
        );
        self.admin("add_vhost", &expression)?;
        Ok(self.layout.url(name))
    }

    /// Deletes a vhost with everything in it. Its connections are closed.
    pub fn delete_vhost(&self, name: &str) -> Result<(), HarnessError> {
        let expression = format!("ok = rabbit_vhost:delete({}, <<\"harness\">>), <<>>", binary(name));
        self.admin("delete_vhost", &expression).map(drop)
    }

    /// Adds a user with permissions on a vhost: regular expressions for what it may configure, write and read
    /// (<https://www.rabbitmq.com/docs/access-control>).
    pub fn add_user(
        &self,
        name: &str,
        password: &str,
        vhost: &str,
        [configure, write, read]: [&str; 3],
    ) -> Result<(), HarnessError> {
        let expression = format!(
            "ok = rabbit_auth_backend_internal:add_user({name}, {}, <<\"harness\">>), \
             ok = rabbit_auth_backend_internal:set_permissions({name}, {}, {}, {}, {}, <<\"harness\">>), <<>>",
            binary(password),
            binary(vhost),
            binary(configure),
            binary(write),
            binary(read),
            name = binary(name),
        );
        self.admin("add_user", &expression).map(drop)
    }

    /// Deletes a user. Its open connections stay open.
    pub fn delete_user(&self, name: &str) -> Result<(), HarnessError> {
        let expression = format!("rabbit_auth_backend_internal:delete_user({}, <<\"harness\">>), <<>>", binary(name));
        self.admin("delete_user", &expression).map(drop)
    }

    pub(crate) fn admin(&self, operation: &'static str, expression: &str) -> Result<String, HarnessError> {
        remote::eval(&self.layout, operation, expression)
    }
}

/// One line of an answer: hexadecimal fields between spaces.
struct Row<'a>(Vec<&'a str>);

impl Row<'_> {
    fn text(&self, column: usize) -> String {
        let hex = self.0.get(column).copied().unwrap_or_default();
        let bytes = hex.as_bytes().chunks_exact(2).filter_map(|pair| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()
        });
        String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
    }
}

fn rows(text: &str) -> impl Iterator<Item = Row<'_>> {
    text.lines().map(|line| Row(line.split(' ').collect()))
}
