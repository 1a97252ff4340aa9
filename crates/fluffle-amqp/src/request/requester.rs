//! The handle that an application sends requests with.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use fluffle_wire::{
    Incoming, Wire,
    headers::{self, Reason, TraceContext},
};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    base::{
        clock::timeout_at,
        payload::Payload,
        trace::{PublishInfo, context_of},
    },
    flow::rate::RateLimit,
    link::sanitizer,
    publish::{
        confirm::TooLarge,
        message::{Address, Prepared, new_id, target},
        options::MessageOptions,
        properties::Labels,
        route::{Key, Route},
        travel::{NotSent, Travel},
    },
    request::{
        actor::{Asked, RequestOutcome, RequestTable},
        error::{RequestError, RequestErrorKind},
        options::RequestOptions,
        span::FollowedSpan,
    },
};

/// Sends requests of type `Q` and waits for answers of type `R`, over RabbitMQ's direct reply-to.
///
/// Cheap to clone. When the last clone is dropped, its channel is closed. The consumer of `Q` answers by returning
/// `Result<R, Failure>` from its `Handler<Delivery<Q, R>>`. If an answer comes after the deadline, or after the channel
/// was lost, it is counted ([`late_answers`](Self::late_answers)) and dropped. Requests are not persistent. A request
/// is never repeated, because only the application knows whether asking twice is harmless.
///
/// ```
/// use actix::prelude::*;
/// use fluffle_amqp::{Delivery, Failure, RequestError, Requester};
///
/// /// The side that answers.
/// struct Shouter;
/// impl Actor for Shouter { type Context = Context<Self>; }
/// impl Handler<Delivery<String, String>> for Shouter {
///     type Result = Result<String, Failure>;
///     fn handle(&mut self, text: Delivery<String, String>, _: &mut Self::Context) -> Self::Result {
///         Ok(text.to_uppercase())
///     }
/// }
///
/// /// The side that asks.
/// async fn shout(shouter: &Requester<String, String>) -> Result<String, RequestError<String>> {
///     shouter.request("hello".into()).await
/// }
/// ```
pub struct Requester<Q, R> {
    shared: Arc<Shared<Q, R>>,
}

struct Shared<Q, R> {
    table: Arc<RequestTable>,
    request: Wire<Q>,
    answer: Wire<R>,
    to: Arc<str>,
    key: Key<Q>,
    key_template: Option<Arc<str>>,
    deadline: Duration,
    rate_limit: Option<RateLimit>,
}

impl<Q, R> Drop for Shared<Q, R> {
    fn drop(&mut self) {
        self.table.abandon();
    }
}

impl<Q, R> Clone for Requester<Q, R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Q, R> fmt::Debug for Requester<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester").field("exchange", &self.shared.to).finish_non_exhaustive()
    }
}

impl<Q, R: Payload> Requester<Q, R> {
    /// A requester on `route`. An answer may take up to the route's deadline. At most the route's window of requests
    /// wait for answers at once.
    pub(crate) fn new(route: Route<Q>) -> (Self, Arc<RequestTable>) {
        let name = route.name_in_tree();
        let table = RequestTable::new(name, route.mailbox, route.window(), route.max_bytes);
        let Route { exchange: to, key, key_template, deadline, rate_limit, wire: request, .. } = route;
        let answer = R::wire();
        let shared = Shared { table: Arc::clone(&table), request, answer, to, key, key_template, deadline, rate_limit };
        (Self { shared: Arc::new(shared) }, table)
    }
}

impl<Q, R> Requester<Q, R> {
    /// Sends `request` and waits for its answer, up to the route's deadline.
    ///
    /// # Errors
    /// [`RequestError`], with the request.
    ///
    /// # Cancellation
    /// If the future is dropped before the request is sent, the request is withdrawn. If it is dropped later, the
    /// answer is dropped when it comes.
    pub async fn request(&self, request: Q) -> Result<R, RequestError<Q>> {
        self.request_with(request, RequestOptions::new()).await
    }

    /// [`request`](Self::request) with a key, headers or other properties for this request.
    ///
    /// # Errors
    /// [`RequestError`], with the request.
    ///
    /// # Cancellation
    /// As [`request`](Self::request).
    pub async fn request_with(&self, request: Q, options: RequestOptions) -> Result<R, RequestError<Q>> {
        let shared = &self.shared;
        let RequestOptions(options) = options;
        let routing_key = match (&options.key, &shared.key) {
            (Some(key), _) => key.clone(),
            (None, Key::Fixed(key)) => key.to_string(),
            (None, Key::By(key)) => key(&request),
        };
        let destination = target(&shared.to, &routing_key);
        let asking = shared.table.events.ask();
        let asked = self.ask(&request, routing_key, &options).await;
        asking.ended(&asked);
        match asked {
            Ok(answer) => Ok(answer),
            Err(kind) => Err(RequestError { request, target: destination, kind }),
        }
    }

    async fn ask(&self, request: &Q, routing_key: String, options: &MessageOptions) -> Result<R, RequestErrorKind> {
        let shared = &self.shared;
        let deadline = Instant::now() + shared.deadline;
        let too_long = options.too_long().or((routing_key.len() > 255).then_some("routing key"));
        if let Some(property) = too_long {
            return Err(RequestErrorKind::Property(property));
        }
        let encoded = shared.request.encode(request).map_err(RequestErrorKind::Encode)?;
        let id = new_id();
        let expiration = shared.deadline.as_millis().to_string();
        // Expires with the deadline, because nobody waits for an answer after it.
        let labels = Labels::now(&encoded, false).to_amqp(&id);
        let labels = labels.with_correlation_id((&*id).into()).with_expiration(expiration.into());
        let (trace, span) = self.trace(&id, &routing_key, options);
        let properties = options.add_to(labels, trace.as_ref());
        let to = Address { exchange: Arc::clone(&shared.to), routing_key: routing_key.into() };
        let message = Prepared::encoded(id, to, true, properties, encoded);
        let (reply, answer) = oneshot::channel();
        let travel = Arc::new(Travel::default());
        let departing = Arc::clone(&travel);
        let accepting = async {
            if let Some(limit) = &shared.rate_limit {
                limit.take().await;
            }
            match shared.table.bytes.take(message.body.len()).await {
                Ok(room) => shared.table.accept(Asked { message, reply, travel: departing, room, span }).await,
                Err(_) => false,
            }
        };
        match timeout_at(deadline, accepting).await {
            Ok(true) => {}
            Ok(false) => return Err(RequestErrorKind::NotSent(shared.table.not_sent())),
            Err(_) => return Err(RequestErrorKind::Overloaded),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(RequestOutcome::ReceivedAnswer(reply))) => self.read(&reply.properties, &reply.body),
            Ok(Ok(RequestOutcome::Returned(returned))) => Err(RequestErrorKind::Returned(returned)),
            Ok(Ok(RequestOutcome::Nacked)) => Err(RequestErrorKind::Nacked),
            Ok(Ok(RequestOutcome::DoesNotFit(TooLarge { bytes, most }))) => {
                Err(RequestErrorKind::HeadersTooLarge { bytes, most })
            }
            Ok(Ok(RequestOutcome::Lost)) => Err(RequestErrorKind::ConnectionLost),
            Ok(Err(_)) if travel.withdraw() => Err(RequestErrorKind::NotSent(shared.table.not_sent())),
            Ok(Err(_)) => Err(RequestErrorKind::Closed),
            Err(_) if travel.withdraw() => Err(RequestErrorKind::NotSent(NotSent::Deadline)),
            Err(_) => Err(RequestErrorKind::TimedOut),
        }
    }

    /// What a request carries, and its span, if it has one.
    fn trace(&self, id: &str, routing_key: &str, options: &MessageOptions) -> (Option<TraceContext>, FollowedSpan) {
        let shared = &self.shared;
        let cause = options.cause();
        let Some(tracer) = shared.table.tracer.get() else { return (cause, FollowedSpan::default()) };
        let created_by = options.created_by();
        let span = tracer.publish(&PublishInfo {
            message_id: id,
            exchange: &shared.to,
            routing_key,
            key_template: shared.key_template.as_deref(),
            key_varies: options.key.is_some() || matches!(shared.key, Key::By(_)),
            correlation_id: Some(id),
            batch_len: None,
            created_by: created_by.as_ref(),
            cause: cause.as_ref(),
        });
        let carried = if created_by.is_none() { context_of(span.as_deref()).or(cause) } else { None };
        (carried, FollowedSpan::new(span))
    }

    fn read(&self, properties: &lapin::BasicProperties, body: &Bytes) -> Result<R, RequestErrorKind> {
        if let Some((_, what)) = sanitizer::taken(properties) {
            return Err(RequestErrorKind::Unreadable(what));
        }
        let header = |name: &str| {
            let value = properties.headers().as_ref()?.inner().get(name)?;
            value.as_long_string().map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned())
        };
        if let Some(reason) = header(headers::REASON) {
            let error = header(headers::ERROR).unwrap_or_default();
            return Err(match Reason::parse(&reason) {
                Reason::Rejected | Reason::Undecodable => RequestErrorKind::Refused { reason, error },
                _ => RequestErrorKind::Failed { reason, error },
            });
        }
        let incoming = Incoming {
            content_type: properties.content_type().as_ref().map(|text| text.as_str()),
            content_encoding: properties.content_encoding().as_ref().map(|text| text.as_str()),
            type_name: properties.kind().as_ref().map(|text| text.as_str()),
            headers: None,
            body,
        };
        self.shared.answer.decode(&incoming).map_err(RequestErrorKind::Undecodable)
    }

    /// How many answers have come after their request had stopped waiting. Since the requester was made; never reset.
    pub fn late_answers(&self) -> u64 {
        self.shared.table.events.late()
    }
}
