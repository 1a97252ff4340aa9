//! Handles one method from the client: passes it to the engine, and answers it.

use amq_protocol::{
    protocol::{AMQPClass, access, basic, channel, confirm, connection, exchange, queue, tx},
    types::ShortString,
};

use super::{
    channel::{ChannelState, OpenChannel},
    encode,
    frame::{Frame, Method, Publish},
    incoming::{End, Incoming},
    link::short,
};
use crate::{
    engine::{
        ChannelKey, ConnectionKey, Destination, ExchangeDeclaration, QueueDeclaration, Refusal, Settlement,
        Subscription, Table,
    },
    fault::Event,
};

/// Handles a method on any channel.
pub(crate) fn handle(
    incoming: &Incoming,
    connection: ConnectionKey,
    frame: &Frame,
    method: Method<'_>,
) -> Result<(), End> {
    match (frame.channel, method) {
        (0, Method::Other(AMQPClass::Connection(method), _)) => on_connection(incoming, method),
        (0, _) => Err(misplaced().into()),
        (number, Method::Other(AMQPClass::Channel(channel::AMQPMethod::Open(_)), _)) => {
            open(incoming, connection, number)
        }
        (number, method) => {
            let key = match incoming.link.channels.borrow().get(&number) {
                Some(ChannelState::Open(open)) => Some(open.key),
                Some(ChannelState::Closing) => None,
                None => return Err(Refusal::channel("expected 'channel.open'").into()),
            };
            match key {
                Some(key) => Open { incoming, key, frame }.handle(method),
                None => {
                    closing(incoming, number, &method);
                    Ok(())
                }
            }
        }
    }
}

/// Refusal of a method that is not allowed on channel 0, or not any more.
fn misplaced() -> Refusal {
    Refusal::channel("unexpected method in connection state running")
}

/// Refusal of a method that no client may send on a channel: the broker's own methods, and those of the connection
/// class.
fn unimplemented() -> Refusal {
    Refusal::command_invalid("unimplemented method")
}

fn on_connection(incoming: &Incoming, method: connection::AMQPMethod) -> Result<(), End> {
    use connection::AMQPMethod::{Close, UpdateSecret, UpdateSecretOk};
    match method {
        Close(_) => Err(End::Closed),
        UpdateSecret(_) => {
            let answer = UpdateSecretOk(connection::UpdateSecretOk {});
            incoming.link.send(0, AMQPClass::Connection(answer));
            Ok(())
        }
        _ => Err(misplaced().into()),
    }
}

fn open(incoming: &Incoming, connection: ConnectionKey, number: u16) -> Result<(), End> {
    let link = &incoming.link;
    if link.channels.borrow().contains_key(&number) {
        return Err(Refusal::channel("second 'channel.open' seen").into());
    }
    let Some(key) = incoming.shared.engine.borrow_mut().open_channel(connection, number) else {
        return Err(End::Lost);
    };
    link.channels.borrow_mut().insert(number, ChannelState::Open(Box::new(OpenChannel::new(key))));
    link.send(number, AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})));
    Ok(())
}

/// On a channel that the broker has closed, only the end of the close matters.
fn closing(incoming: &Incoming, number: u16, method: &Method<'_>) {
    let Method::Other(method, _) = method else { return };
    match method {
        AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)) => {
            incoming.link.channels.borrow_mut().remove(&number);
        }
        // Both sides closed at the same time: the client waits for its answer, and still has to send its own.
        AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
            incoming.link.send(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
        }
        _ => {}
    }
}

/// An open channel, and the method being handled.
struct Open<'a> {
    incoming: &'a Incoming,
    key: ChannelKey,
    frame: &'a Frame,
}

type Outcome = Result<(), End>;

impl Open<'_> {
    fn handle(&self, method: Method<'_>) -> Outcome {
        let (method, arguments) = match method {
            Method::Publish(publish) => return self.publish(&publish),
            Method::Other(method, arguments) => (method, arguments),
        };
        match method {
            AMQPClass::Basic(method) => self.basic(method, arguments),
            AMQPClass::Queue(method) => self.queue(method, arguments),
            AMQPClass::Exchange(method) => self.exchange(method, arguments),
            AMQPClass::Channel(method) => self.channel(method),
            AMQPClass::Confirm(method) => self.confirm(method),
            AMQPClass::Tx(method) => self.tx(method),
            // A relic of AMQP 0-8: access is always granted.
            AMQPClass::Access(access::AMQPMethod::Request(_)) => {
                self.reply(false, AMQPClass::Access(access::AMQPMethod::RequestOk(access::RequestOk {})))
            }
            AMQPClass::Access(_) | AMQPClass::Connection(_) => Err(unimplemented().into()),
        }
    }

    fn engine(&self) -> std::cell::RefMut<'_, crate::engine::Engine> {
        self.incoming.shared.engine.borrow_mut()
    }

    /// Sends the answer, after all earlier effects.
    fn reply(&self, nowait: bool, method: AMQPClass) -> Outcome {
        self.incoming.shared.dispatch();
        if !nowait && !self.incoming.link.is_closing(self.frame.channel) {
            self.incoming.link.send(self.frame.channel, method);
        }
        Ok(())
    }

    fn publish(&self, publish: &Publish<'_>) -> Outcome {
        if publish.immediate {
            return Err(Refusal::not_implemented("immediate=true").into());
        }
        if let Some(ChannelState::Open(open)) = self.incoming.link.channels.borrow_mut().get_mut(&self.frame.channel) {
            open.begin(publish);
        }
        Ok(())
    }

    fn basic(&self, method: basic::AMQPMethod, arguments: Table) -> Outcome {
        use basic::AMQPMethod as M;
        match method {
            M::Ack(ack) => self.settle(ack.delivery_tag, ack.multiple, Settlement::Ack),
            M::Nack(nack) => self.settle(nack.delivery_tag, nack.multiple, negative(nack.requeue)),
            M::Reject(reject) => self.settle(reject.delivery_tag, false, negative(reject.requeue)),
            M::Get(get) => {
                let fetched = self.engine().get(self.key, get.queue.as_str(), get.no_ack)?;
                self.incoming.shared.dispatch();
                let link = &self.incoming.link;
                match fetched {
                    _ if link.is_closing(self.frame.channel) => {}
                    None => link.send(self.frame.channel, AMQPClass::Basic(M::GetEmpty(basic::GetEmpty {}))),
                    Some(fetched) => {
                        let mut output = link.output.borrow_mut();
                        encode::fetched(&mut output, self.frame.channel, link.frame_max.get(), &fetched);
                        drop(output);
                        link.ask(Event::FrameOut, self.frame.channel);
                        link.wake.notify_one();
                    }
                }
                Ok(())
            }
            M::Consume(consume) => {
                let subscription = Subscription {
                    queue: consume.queue.as_str(),
                    tag: consume.consumer_tag.as_str(),
                    no_ack: consume.no_ack,
                    exclusive: consume.exclusive,
                    arguments,
                };
                let (tag, key) = self.engine().consume(self.key, subscription)?;
                let answer = basic::ConsumeOk { consumer_tag: (&*tag).into() };
                self.reply(consume.nowait, AMQPClass::Basic(M::ConsumeOk(answer)))?;
                if let Some(key) = key {
                    self.engine().start_consumer(key);
                }
                Ok(())
            }
            M::Cancel(cancel) => {
                self.engine().cancel(self.key, cancel.consumer_tag.as_str());
                let answer = basic::CancelOk { consumer_tag: cancel.consumer_tag };
                self.reply(cancel.nowait, AMQPClass::Basic(M::CancelOk(answer)))
            }
            M::Qos(_) if self.frame.prefetch_size() > 0 => {
                let text = format!("prefetch_size!=0 ({})", self.frame.prefetch_size());
                Err(Refusal::not_implemented(text).into())
            }
            M::Qos(qos) => {
                self.engine().qos(self.key, qos.prefetch_count, qos.global);
                self.reply(false, AMQPClass::Basic(M::QosOk(basic::QosOk {})))
            }
            M::Recover(recover) => {
                check_recover(recover.requeue)?;
                self.engine().check_recover(self.key)?;
                // Answer first: a client may take deliveries before the answer for old ones, and drop them.
                self.reply(false, AMQPClass::Basic(M::RecoverOk(basic::RecoverOk {})))?;
                self.engine().recover(self.key);
                Ok(())
            }
            M::RecoverAsync(recover) => {
                check_recover(recover.requeue)?;
                self.engine().check_recover(self.key)?;
                self.engine().recover(self.key);
                Ok(())
            }
            _ => Err(unimplemented().into()),
        }
    }

    fn settle(&self, tag: u64, multiple: bool, how: Settlement) -> Outcome {
        Ok(self.engine().settle(self.key, tag, multiple, how)?)
    }

    fn queue(&self, method: queue::AMQPMethod, arguments: Table) -> Outcome {
        use queue::AMQPMethod as M;
        match method {
            M::Declare(declare) => {
                let declaration = QueueDeclaration {
                    name: &one_line(&declare.queue),
                    passive: declare.passive,
                    durable: declare.durable,
                    exclusive: declare.exclusive,
                    auto_delete: declare.auto_delete,
                    arguments,
                };
                let (name, messages, consumers) = self.engine().declare_queue(self.key, declaration)?;
                let answer = queue::DeclareOk {
                    queue: short(&name),
                    message_count: count(messages),
                    consumer_count: count(consumers),
                };
                self.reply(declare.nowait, AMQPClass::Queue(M::DeclareOk(answer)))
            }
            M::Bind(bind) => {
                let (source, queue) = (one_line(&bind.exchange), one_line(&bind.queue));
                self.engine().check_exchange(self.key, &source)?;
                let destination = Destination::Queue(self.engine().find_queue(self.key, &queue)?);
                let key = self.routing_key(&queue, bind.routing_key.as_str());
                self.engine().bind(self.key, &source, destination, &key, arguments)?;
                self.reply(bind.nowait, AMQPClass::Queue(M::BindOk(queue::BindOk {})))
            }
            M::Unbind(unbind) => {
                let (source, queue) = (one_line(&unbind.exchange), one_line(&unbind.queue));
                let destination = self.engine().find_queue(self.key, &queue);
                match destination {
                    Ok(destination) => {
                        let key = self.routing_key(&queue, unbind.routing_key.as_str());
                        let destination = Destination::Queue(destination);
                        self.engine().unbind(self.key, &source, destination, &key, arguments)?;
                    }
                    // A queue that does not exist is not bound, so the unbind succeeds.
                    Err(refusal) if refusal.code == 404 => {}
                    Err(refusal) => return Err(refusal.into()),
                }
                self.reply(false, AMQPClass::Queue(M::UnbindOk(queue::UnbindOk {})))
            }
            M::Purge(purge) => {
                let messages = self.engine().purge(self.key, purge.queue.as_str())?;
                let answer = queue::PurgeOk { message_count: count(messages) };
                self.reply(purge.nowait, AMQPClass::Queue(M::PurgeOk(answer)))
            }
            M::Delete(delete) => {
                let (unused, empty) = (delete.if_unused, delete.if_empty);
                // The client that deleted the queue gets its answer first, then the consumers are told: kombu reads the
                // channel's next frame as the answer, and would treat a cancel as a failure.
                self.incoming.shared.dispatch();
                let messages = self.engine().delete_queue(self.key, &one_line(&delete.queue), unused, empty)?;
                if !delete.nowait {
                    let answer = queue::DeleteOk { message_count: count(messages) };
                    self.incoming.link.send(self.frame.channel, AMQPClass::Queue(M::DeleteOk(answer)));
                }
                Ok(())
            }
            _ => Err(unimplemented().into()),
        }
    }

    /// If both the queue name and the key are empty, the key is the name of the last declared queue (AMQP 0-9-1,
    /// queue.bind).
    fn routing_key(&self, queue: &str, key: &str) -> String {
        match (queue, key) {
            ("", "") => self.engine().last_queue(self.key).to_string(),
            (_, key) => key.to_owned(),
        }
    }

    fn exchange(&self, method: exchange::AMQPMethod, arguments: Table) -> Outcome {
        use exchange::AMQPMethod as M;
        match method {
            M::Declare(declare) => {
                let declaration = ExchangeDeclaration {
                    name: &one_line(&declare.exchange),
                    kind: declare.kind.as_str(),
                    passive: declare.passive,
                    durable: declare.durable,
                    auto_delete: declare.auto_delete,
                    internal: declare.internal,
                    arguments,
                };
                self.engine().declare_exchange(self.key, declaration)?;
                self.reply(declare.nowait, AMQPClass::Exchange(M::DeclareOk(exchange::DeclareOk {})))
            }
            M::Delete(delete) => {
                self.engine().delete_exchange(self.key, &one_line(&delete.exchange), delete.if_unused)?;
                self.reply(delete.nowait, AMQPClass::Exchange(M::DeleteOk(exchange::DeleteOk {})))
            }
            M::Bind(bind) => {
                let destination = Destination::Exchange(one_line(&bind.destination).into());
                let (source, key) = (one_line(&bind.source), bind.routing_key.as_str());
                self.engine().bind(self.key, &source, destination, key, arguments)?;
                self.reply(bind.nowait, AMQPClass::Exchange(M::BindOk(exchange::BindOk {})))
            }
            M::Unbind(unbind) => {
                let destination = Destination::Exchange(one_line(&unbind.destination).into());
                let (source, key) = (one_line(&unbind.source), unbind.routing_key.as_str());
                self.engine().unbind(self.key, &source, destination, key, arguments)?;
                self.reply(unbind.nowait, AMQPClass::Exchange(M::UnbindOk(exchange::UnbindOk {})))
            }
            _ => Err(unimplemented().into()),
        }
    }

    fn channel(&self, method: channel::AMQPMethod) -> Outcome {
        use channel::AMQPMethod as M;
        match method {
            M::Flow(flow) if !flow.active => Err(Refusal::not_implemented("active=false").into()),
            M::Flow(_) => self.reply(false, AMQPClass::Channel(M::FlowOk(channel::FlowOk { active: true }))),
            M::Close(_) => {
                self.incoming.shared.dispatch();
                self.incoming.link.channels.borrow_mut().remove(&self.frame.channel);
                self.engine().close_channel(self.key);
                self.reply(false, AMQPClass::Channel(M::CloseOk(channel::CloseOk {})))
            }
            _ => Err(unimplemented().into()),
        }
    }

    fn confirm(&self, method: confirm::AMQPMethod) -> Outcome {
        let confirm::AMQPMethod::Select(select) = method else {
            return Err(unimplemented().into());
        };
        self.engine().select_confirms(self.key)?;
        self.reply(select.nowait, AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {})))
    }

    fn tx(&self, method: tx::AMQPMethod) -> Outcome {
        use tx::AMQPMethod as M;
        let answer = match method {
            M::Select(_) => {
                self.engine().select_transaction(self.key)?;
                M::SelectOk(tx::SelectOk {})
            }
            M::Commit(_) => {
                self.engine().commit(self.key)?;
                M::CommitOk(tx::CommitOk {})
            }
            M::Rollback(_) => {
                self.engine().roll_back(self.key)?;
                M::RollbackOk(tx::RollbackOk {})
            }
            _ => return Err(unimplemented().into()),
        };
        self.reply(false, AMQPClass::Tx(answer))
    }
}

/// The name of an exchange or queue in a declaration, binding or deletion. Like RabbitMQ, this removes line breaks.
fn one_line(name: &ShortString) -> String {
    name.as_str().replace(['\r', '\n'], "")
}

fn negative(requeue: bool) -> Settlement {
    if requeue { Settlement::Requeue } else { Settlement::Reject }
}

fn check_recover(requeue: bool) -> Result<(), Refusal> {
    if requeue { Ok(()) } else { Err(Refusal::not_implemented("requeue=false")) }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
