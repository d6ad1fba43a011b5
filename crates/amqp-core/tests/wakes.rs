//! How often other threads wake a loop: a wake-up is a system call.
#![allow(clippy::unwrap_used)]

use amqp_core::{Channel, ConnectionParameters};
use pooka_testkit::scripted_peer::{Frame, Scene};
use std::{
    sync::{
        Arc,
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
