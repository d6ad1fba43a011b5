//! How often other threads wake a loop: a wake-up is a system call.
#![allow(clippy::unwrap_used)]

use amqp_core::{
    Channel, ConnectionParameters, Error,
    spec::{Method, channel, connection},
};
use pooka_testkit::scripted_peer::{Frame, Scene};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    thread,
};

#[derive(Default)]
struct Rings(AtomicUsize);

impl Wake for Rings {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Rings {
    /// Since the last time.
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn open() -> (Scene<()>, Channel) {
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut (), _, opened| opened.unwrap());
    scene.open(&mut ()).unwrap();
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut ()).unwrap();
    scene.wire.heard();
    (scene, channel)
}

fn publish_from_another_thread(channel: &Channel) {
    let channel = channel.clone();
    let publish = move || (0..100).for_each(|_| channel.basic_publish("", "q", "body").send().unwrap());
    thread::spawn(publish).join().unwrap();
}

#[test]
fn publishes_of_another_thread_ring_once_while_the_loop_sleeps_and_never_while_it_is_awake() {
    let (mut scene, channel) = open();
    let rings = Arc::new(Rings::default());
    for _ in 0..3 {
        assert!(scene.may_sleep(Waker::from(rings.clone())));
        publish_from_another_thread(&channel);
        assert_eq!(rings.take(), 1, "asleep");
        publish_from_another_thread(&channel);
        assert_eq!(rings.take(), 0, "awake, and it has not looked yet");
        assert!(!scene.may_sleep(Waker::from(rings.clone())), "there is something to do");
        scene.run(&mut ()).unwrap();
        let bodies = scene.wire.heard().into_iter().filter(|frame| matches!(frame, Frame::Body(..)));
        assert_eq!(bodies.count(), 200);
        publish_from_another_thread(&channel);
        assert_eq!(rings.take(), 0, "awake, and it has looked");
        scene.run(&mut ()).unwrap();
        scene.wire.heard();
    }
}

#[test]
fn a_request_rings_although_the_loop_waits_for_a_socket_that_takes_nothing() {
    let (mut scene, channel) = open();
    let rings = Arc::new(Rings::default());
    scene.wire.room(Some(0));
    publish_from_another_thread(&channel);
    scene.run(&mut ()).unwrap();
    assert!(scene.may_sleep(Waker::from(rings.clone())));
    channel.queue_declare("q").then(|_: &mut (), _, _| ());
    assert_eq!(rings.take(), 1, "its deadline begins");
}

/// Another thread that uses the channel as soon as the loop has unlocked the connection: it comes between two steps of the
/// loop that are not one.
struct Meddler {
    channel: Channel,
    refused: Mutex<Vec<Error>>,
}

impl Wake for Meddler {
    fn wake(self: Arc<Self>) {
        let sent = [
            self.channel.basic_publish("", "q", "body").send(),
            self.channel.queue_declare("q").send(),
            self.channel.connection().channel().send().map(drop),
        ];
        self.refused.lock().unwrap().extend(sent.into_iter().filter_map(Result::err));
    }
}

fn with_a_meddler() -> (Scene<()>, Arc<Meddler>) {
    let (mut scene, channel) = open();
    channel.add_on_close_callback(|_: &mut (), _, _| ());
    let meddler = Arc::new(Meddler { channel, refused: Mutex::default() });
    assert!(scene.may_sleep(Waker::from(meddler.clone())));
    (scene, meddler)
}

/// Trial T5: "expected channel.open", says the broker otherwise, and the whole connection is over.
#[test]
fn nothing_is_sent_on_a_channel_after_its_close_ok() {
    let (mut scene, meddler) = with_a_meddler();
    scene.wire.say(1, channel::Close { reply_code: 404, reply_text: "gone".into(), class_id: 0, method_id: 0 });
    scene.run(&mut ()).unwrap();
    let heard = scene.wire.heard();
    let at =
        heard.iter().position(|frame| matches!(frame, Frame::Method(1, Method::Channel(channel::Method::CloseOk(_)))));
    let later = heard.into_iter().skip(at.unwrap() + 1).collect::<Vec<_>>();
    // One that is opened meanwhile has another number, or it would lose its callbacks with those of the one that ends.
    assert_eq!(later, [Frame::Method(2, channel::Open::default().into())]);
    let refused = meddler.refused.lock().unwrap();
    assert!(refused.iter().all(|error| matches!(error, Error::ChannelClosedByBroker { .. })), "{refused:?}");
    assert_eq!(refused.len(), 2);
}

/// Trial T5, of a connection: after connection.close-ok, and after a close of our own, nothing may be sent.
#[test]
fn nothing_is_sent_on_a_connection_after_its_end() {
    let ends: [fn(&Scene<()>); 2] = [
        |scene| scene.wire.say(0, connection::Close { reply_code: 320, ..Default::default() }),
        |scene| scene.wire.say(1, channel::CloseOk {}),
    ];
    for end in ends {
        let (mut scene, meddler) = with_a_meddler();
        scene.connection.add_on_close_callback(|_: &mut (), _, _| ());
        end(&scene);
        scene.run(&mut ()).unwrap();
        let heard = scene.wire.heard();
        assert!(
            matches!(
                heard.as_slice(),
                [Frame::Method(0, Method::Connection(connection::Method::Close(_) | connection::Method::CloseOk(_)))]
            ),
            "{heard:?}"
        );
        assert_eq!(meddler.refused.lock().unwrap().len(), 3);
    }
}
