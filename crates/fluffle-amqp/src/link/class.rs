//! The class of each error of the client: worth a retry, permanent, or a request to slow down. Only this file decides
//! it.

use std::fmt;

use lapin::{
    ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
};

use crate::link::tls;

/// How to react to an error.
///
/// - [`Transient`](Class::Transient): a lost socket, a timeout, `320 CONNECTION_FORCED`. Back off and try again.
/// - [`Permanent`](Class::Permanent): `403 ACCESS_REFUSED`, `404` on a declared queue, `406` on a topology. Stop the
///   part concerned and report it.
/// - [`Contention`](Class::Contention): `connection.blocked`, a full window, `506 RESOURCE_ERROR`. Slow down; no
///   message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A retry may succeed without any change by a person.
    Transient,
    /// No retry helps: a person has to change code, configuration or permissions.
    Permanent,
    /// The broker, or a limit of Fluffle, asks to slow down.
    Contention,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Transient => "transient",
            Class::Permanent => "permanent",
            Class::Contention => "contention",
        })
    }
}

/// The operation that met the error. The same reply code means different things for different operations.
///
/// The end of a channel or connection that is in use is not listed here (`consumer_timeout`, for example, closes a
/// channel with 406). It is always worth a new channel or connection, and opening that one then gives an error to
/// classify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// TCP, TLS, the AMQP handshake, `connection.open`.
    Connect,
    /// `channel.open`, `basic.qos`, `confirm.select`.
    OpenChannel,
    /// `basic.consume`.
    Consume,
    /// `basic.publish`.
    Publish,
}

/// The class of `error`, which occurred during `operation`.
///
/// lapin's `ErrorKind` is non-exhaustive, so the match needs one wildcard. Every variant that exists today is named
/// before it, and the reply codes of the protocol are matched without a wildcard.
pub(crate) fn classify(error: &lapin::Error, operation: Operation) -> Class {
    match error.kind() {
        ErrorKind::ChannelsLimitReached => Class::Contention,
        ErrorKind::InvalidProtocolVersion(_) => Class::Permanent,
        ErrorKind::InvalidChannel(_) | ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
            Class::Transient
        }
        ErrorKind::IOError(io) => classify_io(io, operation),
        ErrorKind::RuntimeShutdownError(_) => Class::Transient,
        // The parser no longer knows where frames begin: this socket is useless, a new one is not.
        ErrorKind::ParsingError(_) => Class::Transient,
        ErrorKind::ProtocolError(amqp) => classify_amqp(amqp.kind(), amqp.get_message().as_str(), operation),
        ErrorKind::SerialisationError(_) => Class::Permanent,
        ErrorKind::AuthProviderError(_) => Class::Permanent,
        ErrorKind::FutureCompleted | ErrorKind::NoDefaultRuntime => Class::Permanent,
        ErrorKind::MissingHeartbeatError => Class::Transient,
        _ => Class::Transient,
    }
}

/// A refused certificate stays refused; every other I/O error may pass.
fn classify_io(error: &std::io::Error, operation: Operation) -> Class {
    let refused_certificate = operation == Operation::Connect && tls::is_refused(error);
    if refused_certificate { Class::Permanent } else { Class::Transient }
}

/// The class of an AMQP 0-9-1 reply code (specification, section 1.1, constants). Some codes have several meanings,
/// which only RabbitMQ's text tells apart.
fn classify_amqp(kind: &AMQPErrorKind, text: &str, operation: Operation) -> Class {
    match kind {
        AMQPErrorKind::Soft(soft) => match soft {
            AMQPSoftError::CONTENTTOOLARGE => Class::Permanent,
            AMQPSoftError::NOROUTE | AMQPSoftError::NOCONSUMERS => Class::Transient,
            // Another exclusive consumer has the queue: this process's own, on the connection that was just lost, or
            // one that this process replaces.
            AMQPSoftError::ACCESSREFUSED if text.contains("in exclusive use") => Class::Transient,
            AMQPSoftError::ACCESSREFUSED => Class::Permanent,
            AMQPSoftError::NOTFOUND => match operation {
                Operation::Consume | Operation::Publish | Operation::Connect => Class::Permanent,
                Operation::OpenChannel => Class::Transient,
            },
            // The connection that was just lost still holds the exclusive queue; the broker releases it soon.
            AMQPSoftError::RESOURCELOCKED => Class::Transient,
            // The replica of a stream is starting, after the node has restarted; or it is on other nodes, of which the
            // next attempt may reach one.
            AMQPSoftError::PRECONDITIONFAILED if text.contains("does not have a replica") => Class::Transient,
            AMQPSoftError::PRECONDITIONFAILED => match operation {
                Operation::Consume | Operation::Publish | Operation::Connect => Class::Permanent,
                Operation::OpenChannel => Class::Transient,
            },
        },
        AMQPErrorKind::Hard(hard) => match hard {
            AMQPHardError::CONNECTIONFORCED => Class::Transient,
            AMQPHardError::INVALIDPATH => Class::Permanent,
            // The headers are larger than a frame, and the broker closes the connection at each attempt.
            AMQPHardError::FRAMEERROR if operation == Operation::Publish => Class::Permanent,
            AMQPHardError::FRAMEERROR
            | AMQPHardError::SYNTAXERROR
            | AMQPHardError::COMMANDINVALID
            | AMQPHardError::CHANNELERROR
            | AMQPHardError::UNEXPECTEDFRAME => Class::Transient,
            AMQPHardError::RESOURCEERROR => Class::Contention,
            // 530 is "vhost not found", which is permanent, and "connection limit is reached", which passes.
            AMQPHardError::NOTALLOWED if text.contains("limit (") => Class::Contention,
            AMQPHardError::NOTALLOWED => Class::Permanent,
            AMQPHardError::NOTIMPLEMENTED => Class::Permanent,
            // RabbitMQ answers 541 while a vhost is starting.
            AMQPHardError::INTERNALERROR => Class::Transient,
        },
    }
}

/// Whether the error is an internal error of the broker (`541 INTERNAL_ERROR`).
pub(crate) fn is_internal(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(amqp)
        if matches!(amqp.kind(), AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR)))
}

/// Displays a client error with the text of the broker or of the operating system, without lapin's words around it.
#[derive(Clone, Debug)]
pub(crate) struct ClientError(pub(crate) lapin::Error);

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (reply(&self.0), self.0.kind()) {
            (Some((code, text)), _) => write!(f, "{code} {text}"),
            (None, ErrorKind::IOError(error)) => write!(f, "{error}"),
            (None, _) => write!(f, "{}", self.0),
        }
    }
}

impl std::error::Error for ClientError {}

/// The broker's AMQP reply code and text, if the error is a protocol error.
pub(crate) fn reply(error: &lapin::Error) -> Option<(u16, String)> {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) => Some((amqp.get_id(), amqp.get_message().as_str().to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::protocol::AMQPError;

    fn amqp(code: u16, text: &str) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::from_id(code, text.into()).unwrap()).into()
    }

    #[test]
    fn a_reply_code_means_what_the_operation_makes_of_it() {
        use Class::*;
        use Operation::*;
        let table = [
            (403, "ACCESS_REFUSED - Login was refused", Connect, Permanent),
            (403, "ACCESS_REFUSED", Publish, Permanent),
            (403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use", Consume, Transient),
            (530, "NOT_ALLOWED - vhost unlimited not found", Connect, Permanent),
            (501, "FRAME_ERROR - type 2, {frame_too_large,262144,131064}", Publish, Permanent),
            (404, "NOT_FOUND - no queue 'q' in vhost '/'", Consume, Permanent),
            (404, "NOT_FOUND - no exchange 'x' in vhost '/'", Publish, Permanent),
            (405, "RESOURCE_LOCKED - cannot obtain exclusive access", Consume, Transient),
            (406, "PRECONDITION_FAILED", Consume, Permanent),
            (406, "PRECONDITION_FAILED - queue 's' does not have a replica on the local node", Consume, Transient),
            (320, "CONNECTION_FORCED - broker forced connection closure", Connect, Transient),
            (530, "NOT_ALLOWED - vhost nope not found", Connect, Permanent),
            (530, "NOT_ALLOWED - connection limit (1) is reached", Connect, Contention),
            (506, "RESOURCE_ERROR", OpenChannel, Contention),
            (541, "INTERNAL_ERROR - vhost '/' is down", Connect, Transient),
            (501, "FRAME_ERROR", OpenChannel, Transient),
        ];
        for (code, text, operation, expected) in table {
            assert_eq!(classify(&amqp(code, text), operation), expected, "{code} {text} during {operation:?}");
        }
    }

    #[test]
    fn a_refused_certificate_is_permanent_and_a_refused_connection_is_not() {
        let tls =
            |error: rustls::Error| lapin::Error::from(std::io::Error::new(std::io::ErrorKind::InvalidData, error));
        let certificate = tls(rustls::CertificateError::UnknownIssuer.into());
        let refused = lapin::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(classify(&certificate, Operation::Connect), Class::Permanent);
        assert_eq!(classify(&certificate, Operation::Publish), Class::Transient);
        assert_eq!(classify(&refused, Operation::Connect), Class::Transient);
        for (error, expected) in [
            (rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA), Class::Permanent),
            (rustls::Error::AlertReceived(rustls::AlertDescription::InternalError), Class::Transient),
            (rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), Class::Transient),
            (rustls::Error::DecryptError, Class::Transient),
            (rustls::Error::General("whatever".to_owned()), Class::Transient),
        ] {
            assert_eq!(classify(&tls(error.clone()), Operation::Connect), expected, "{error}");
        }
    }
}
