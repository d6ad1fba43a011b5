//! What is still written when a callback fails or a connection ends, and what those see who hear of the end.
#![allow(clippy::unwrap_used)]

use amqp_core::{Channel, ConnectionParameters, Error, spec::connection};
use pooka_testkit::scripted_peer::{Scene, Wire};
use std::{
    cell::RefCell,
    future::{Future, IntoFuture},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

type Log = Vec<String>;

thread_local!(static WIRE: RefCell<Option<Wire>> = const { RefCell::new(None) });

/// The methods that the broker has heard and nobody has looked at, by name.
fn heard() -> Vec<&'static str> {
    let wire = WIRE.with_borrow(|wire| wire.clone().unwrap());
    wire.heard_methods().into_iter().map(|(_, method)| method.name()).collect()
}

fn opened() -> (Scene<Log>, Log) {
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut Log, _, opened| opened);
    let mut log = Log::new();
    scene.open(&mut log).unwrap();
    WIRE.set(Some(scene.wire.clone()));
    (scene, log)
}

fn with_channel() -> (Scene<Log>, Log, Channel<Log>) {
    let (mut scene, mut log) = opened();
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    heard();
    (scene, log, channel)
}

fn broker_closes(scene: &Scene<Log>) {
    let close = connection::Close { reply_code: 320, reply_text: "BYE".into(), class_id: 0, method_id: 0 };
    scene.wire.say(0, close);
}

/// Trial T3: `opened?` is what programs write, and the loop's error is where they end.
#[test]
fn what_a_callback_has_sent_is_written_before_its_error_comes_out_of_the_loop() {
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut Log, connection, _| {
        connection.close().send()?;
        Err(Error::NotOpen)
    });
    let mut log = Log::new();
    assert!(scene.open(&mut log).is_err());
    let heard = scene.wire.heard_methods();
    assert_eq!(heard.last().unwrap().1.name(), "connection.close");
}

/// Trial T3: a post and a timer are callbacks, too.
#[test]
fn what_a_post_has_sent_is_written_before_its_error_comes_out_of_the_loop() {
    let (mut scene, mut log) = opened();
    let connection = scene.connection.clone();
    scene.ioloop().post(move |_: &mut Log| {
        connection.close().send()?;
        Err::<(), _>(Error::NotOpen)
    });
    assert!(scene.run(&mut log).is_err());
    assert_eq!(heard(), ["connection.close"]);
}

/// Trial T3: a close callback that fails, panics or ends the process costs the broker no close-ok.
#[test]
fn close_ok_is_written_before_anything_is_called() {
    let (mut scene, mut log, channel) = with_channel();
    channel.queue_declare("q").then(|log: &mut Log, _, _| log.extend(heard().into_iter().map(Into::into)));
    scene.connection.add_on_close_callback(|log: &mut Log, _, _| {
        log.push("told".into());
        Err(Error::NotOpen)
    });
    scene.run(&mut log).unwrap();
    assert_eq!(heard(), ["queue.declare"]);
    broker_closes(&scene);
    assert!(scene.run(&mut log).is_err());
    assert_eq!(log, ["connection.close-ok", "told"]);
}

/// Trial T3: and the close for a violation.
#[test]
fn the_close_for_a_violation_is_written_before_anything_is_called() {
    let (mut scene, mut log) = opened();
    scene.connection.add_on_close_callback(|log: &mut Log, _, _| log.extend(heard().into_iter().map(Into::into)));
    scene.wire.say(0, connection::OpenOk::default());
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["connection.close"]);
}

/// What happens when a task is woken, on the thread that wakes it.
struct Woken<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> Wake for Woken<F> {
    fn wake(self: Arc<Self>) {
        let woken = self.0.lock().unwrap().take();
        woken.into_iter().for_each(|woken| woken());
    }
}

fn when_woken(woken: impl FnOnce() + Send + 'static) -> Waker {
    Waker::from(Arc::new(Woken(Mutex::new(Some(woken)))))
}

/// Trial T3: a program that awaits may end its process when it is woken.
#[test]
fn close_ok_is_written_before_a_task_is_woken() {
    let (mut scene, mut log, channel) = with_channel();
    let seen = Arc::new(Mutex::new(vec![]));
    let waker = when_woken({
        let seen = seen.clone();
        move || seen.lock().unwrap().extend(heard())
    });
    let mut declared = pin!(channel.queue_declare("q").into_future());
    assert!(declared.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    scene.run(&mut log).unwrap();
    heard();
    broker_closes(&scene);
    let _ = scene.run(&mut log);
    assert_eq!(*seen.lock().unwrap(), ["connection.close-ok"]);
    let end = declared.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(end, Poll::Ready(Err(Error::ConnectionClosedByBroker { .. }))));
}

/// Trial T18: whoever is woken by the end sees why it came, on every handle.
#[test]
fn the_reason_is_there_before_anybody_is_woken() {
    let (mut scene, mut log, channel) = with_channel();
    scene.wire.room(Some(0));
    let size = ConnectionParameters::default().outbound_high_water() + 1;
    channel.basic_publish("", "q", vec![0; size]).send().unwrap();
    scene.run(&mut log).unwrap();
    let seen = Arc::new(Mutex::new(vec![]));
    let waker = when_woken({
        let seen = seen.clone();
        move || seen.lock().unwrap().extend(channel.basic_publish("", "q", "late").send().err())
    });
    let mut room = pin!(scene.connection.writable());
    assert!(room.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    scene.wire.hang_up();
    let _ = scene.run(&mut log);
    let seen = seen.lock().unwrap();
    assert!(matches!(&seen[..], [Error::StreamLost { .. }]), "{seen:?}");
}

/// Trial T19: nothing of it can be sent any more, however long a handle is kept.
#[test]
fn a_dead_connection_keeps_nothing_that_was_to_be_written() {
    for closes in [false, true] {
        let (mut scene, mut log, channel) = with_channel();
        scene.wire.room(Some(0));
        channel.basic_publish("", "q", vec![0; 1 << 20]).send().unwrap();
        scene.run(&mut log).unwrap();
        channel.basic_publish("", "q", vec![0; 1 << 20]).send().unwrap();
        assert!(scene.connection.outbound_len() > 2 << 20);
        if closes {
            broker_closes(&scene);
            let _ = scene.run(&mut log);
            scene.advance(std::time::Duration::from_secs(1), &mut log).unwrap();
        } else {
            scene.wire.hang_up();
            let _ = scene.run(&mut log);
        }
        assert_eq!(scene.connection.outbound_len(), 0);
    }
}
