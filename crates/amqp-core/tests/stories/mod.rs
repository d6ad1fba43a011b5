//! Stories of a connection and a scripted peer, and how they begin.
#![allow(dead_code, reason = "not every suite tells stories of all kinds")]

use amqp_core::{BasicProperties, Channel, ConnectionParameters, Delivery, spec::basic};
pub(crate) use pooka_testkit::scripted_peer::{Cut, Scene, cut_everything};
#[cfg(any(feature = "rustls", feature = "native-tls"))]
use pooka_testkit::scripted_peer::{Secrecy, secure_everything};

/// Each story is told five times: what the peer says arrives whole, in halves, and one octet at a time, and over TLS.
macro_rules! stories {
    ($($story:ident)*) => {
        mod whole {
            $( #[test] fn $story() { super::$story(); } )*
        }
        mod halved {
            $( #[test] fn $story() { crate::stories::cut_everything(crate::stories::Cut::Halves); super::$story(); } )*
        }
        mod by_the_octet {
            $( #[test] fn $story() { crate::stories::cut_everything(crate::stories::Cut::Octets(vec![1])); super::$story(); } )*
        }
        #[cfg(feature = "rustls")]
        mod over_rustls {
            $( #[test] fn $story() { crate::stories::secure(amqp_core::TlsBackend::Rustls); super::$story(); } )*
        }
        #[cfg(feature = "native-tls")]
        mod over_native_tls {
            $( #[test] fn $story() { crate::stories::secure(amqp_core::TlsBackend::NativeTls); super::$story(); } )*
        }
    };
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
pub(crate) fn secure(backend: amqp_core::TlsBackend) {
    secure_everything(Secrecy::new(backend).unwrap());
    cut_everything(Cut::Octets(vec![700]));
}

/// What a test's callbacks have seen, in order.
pub(crate) type Log = Vec<String>;

/// What a peer says.
pub(crate) type Script = fn(&Scene<Log>);

pub(crate) fn scene(parameters: ConnectionParameters) -> (Scene<Log>, Log) {
    let mut log = Log::new();
    let mut scene = Scene::new(parameters, |log: &mut Log, _, opened| {
        if let Err(error) = opened {
            log.push(format!("not opened: {error}"));
        }
    });
    scene.connection.add_on_close_callback(|log: &mut Log, _, error| log.push(format!("closed: {error}")));
    scene.open(&mut log).unwrap();
    (scene, log)
}

pub(crate) fn with_channel() -> (Scene<Log>, Log, Channel<Log>) {
    let (mut scene, mut log) = scene(ConnectionParameters::default());
    let channel = scene.connection.channel().send().unwrap();
    channel.add_on_close_callback(|log: &mut Log, _, error| log.push(format!("channel closed: {error}")));
    scene.open_channel(1, &mut log).unwrap();
    scene.wire.heard();
    (scene, log, channel)
}

pub(crate) fn deliver(scene: &Scene<Log>, number: u16, tag: &str, delivery_tag: u64, body: &[u8], chunk: usize) {
    scene.wire.say(
        number,
        basic::Deliver { consumer_tag: tag.into(), delivery_tag, routing_key: "key".into(), ..Default::default() },
    );
    scene.wire.content(number, &BasicProperties::new().content_type("text/plain"), body, chunk);
}

pub(crate) fn logging(log: &mut Log, _: &Channel<Log>, delivery: Delivery<'_>) {
    log.push(format!("{} {} {:?}", delivery.consumer_tag, delivery.delivery_tag, delivery.body));
}

pub(crate) fn consuming() -> (Scene<Log>, Log, Channel<Log>) {
    let (mut scene, mut log, channel) = with_channel();
    channel.basic_consume("q").consumer_tag("c").on_message(logging).send().unwrap();
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    (scene, log, channel)
}
