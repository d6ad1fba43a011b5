//! Publisher confirms against a scripted peer that answers in whatever order it likes.
#![allow(clippy::unwrap_used)]

use amqp_core::{
    Channel, ConnectionParameters, Error, PublishOutcome, Result,
    error::{Invalid, Stage},
    properties::Properties,
    spec::{Method, basic, channel, confirm},
};
use pooka_testkit::scripted_peer::Scene;
use std::{
    collections::VecDeque,
    future::{Future, IntoFuture},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn ready<F: Future>(future: Pin<&mut F>) -> F::Output {
    match poll(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it should be ready"),
    }
}

fn run(scene: &mut Scene<()>) {
    scene.run(&mut ()).unwrap();
}

fn confirming() -> (Scene<()>, Channel) {
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut (), _, opened| opened.unwrap());
    scene.open(&mut ()).unwrap();
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut ()).unwrap();
    let mut selected = pin!(channel.confirm_select().into_future());
    assert!(poll(selected.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.say(1, confirm::SelectOk {});
    run(&mut scene);
    ready(selected).unwrap();
    scene.wire.heard();
    (scene, channel)
}

fn publish(channel: &Channel, messages: usize) {
    (0..messages).for_each(|_| channel.basic_publish("", "q", "body").send().unwrap());
}

fn ack(scene: &mut Scene<()>, delivery_tag: u64, multiple: bool) {
    scene.wire.say(1, basic::Ack { delivery_tag, multiple });
    run(scene);
}

#[test]
fn waiting_for_confirms_ends_when_all_are_there_and_says_whether_one_was_a_nack() {
    let (mut scene, channel) = confirming();
    assert!(ready(pin!(channel.wait_for_confirms().into_future())).unwrap(), "nothing was published");
    publish(&channel, 3);
    run(&mut scene);
    assert_eq!(channel.unconfirmed(), 3);
    let mut all = pin!(channel.wait_for_confirms().into_future());
    let mut two = pin!(channel.wait_for_confirms().at_most(2).into_future());
    assert!(poll(all.as_mut()).is_pending() && poll(two.as_mut()).is_pending());
    ack(&mut scene, 3, false);
    assert!(ready(two).unwrap() && poll(all.as_mut()).is_pending());
    publish(&channel, 1);
    run(&mut scene);
    scene.wire.say(1, basic::Nack { delivery_tag: 1, multiple: false, requeue: false });
    ack(&mut scene, 2, true);
    assert!(!ready(all).unwrap(), "what was published later does not matter");
    assert_eq!(channel.unconfirmed(), 1);
    let told = Arc::new(AtomicUsize::new(0));
    let counted = told.clone();
    channel.wait_for_confirms().then(move |(), _, acked| {
        assert!(acked.unwrap(), "a nack is told once");
        counted.fetch_add(1, Ordering::Relaxed);
    });
    ack(&mut scene, 4, false);
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[test]
fn waiting_for_confirms_has_a_deadline_and_ends_with_its_channel() {
    let (mut scene, channel) = confirming();
    publish(&channel, 2);
    let limit = Duration::from_secs(5);
    let mut late = pin!(channel.wait_for_confirms().within(limit).into_future());
    let mut default = pin!(channel.wait_for_confirms().into_future());
    assert!(poll(late.as_mut()).is_pending() && poll(default.as_mut()).is_pending());
    run(&mut scene);
    scene.advance(limit - Duration::from_millis(1), &mut ()).unwrap();
    assert!(poll(late.as_mut()).is_pending());
    scene.advance(Duration::from_millis(1), &mut ()).unwrap();
    let error = ready(late).unwrap_err();
    assert!(matches!(&error, Error::Timeout { stage: Stage::Reply, after, .. } if *after == limit), "{error}");
    assert!(error.to_string().contains("the confirms of 2 publishes on channel 1"), "{error}");
    scene.wire.say(1, channel::Close { reply_code: 404, reply_text: "gone".into(), ..Default::default() });
    run(&mut scene);
    assert_eq!(ready(default).unwrap_err().reply_code(), Some(404));
    let closed = ready(pin!(channel.wait_for_confirms().into_future())).unwrap_err();
    assert_eq!(closed.reply_code(), Some(404));
    let plain = scene.connection.channel().send().unwrap();
    let error = ready(pin!(plain.wait_for_confirms().into_future())).unwrap_err();
    assert_eq!(error, Error::Invalid(Invalid::NotInConfirmMode));
}

const TASKS: usize = 4;
const EACH: usize = 25_000;
const WINDOW: usize = 250;

/// What the peer does with a publish is written in its routing key.
fn wanted(task: usize, n: usize) -> &'static str {
    match (task * EACH + n) % 10 {
        0 => "back",
        3 => "nack",
        _ => "ack",
    }
}

/// Publishes with a window, and knows what is to become of each.
async fn publisher(channel: Channel, task: usize) -> [usize; 3] {
    let mut seen = [0; 3];
    let mut waiting = VecDeque::new();
    for n in 0..EACH {
        if waiting.len() == WINDOW {
            settle(waiting.pop_front(), task, &mut seen).await;
        }
        let channel = channel.clone();
        let mut publish = Box::pin(async move {
            let key = wanted(task, n);
            let body = [task as u8, (n >> 16) as u8, (n >> 8) as u8, n as u8];
            (n, channel.basic_publish("", key, &body).mandatory(key == "back").await)
        });
        let sent = std::future::poll_fn(|context| Poll::Ready(publish.as_mut().poll(context))).await;
        assert!(sent.is_pending());
        waiting.push_back(publish);
    }
    while !waiting.is_empty() {
        settle(waiting.pop_front(), task, &mut seen).await;
    }
    seen
}

async fn settle(
    publish: Option<impl Future<Output = (usize, Result<PublishOutcome>)>>,
    task: usize,
    seen: &mut [usize; 3],
) {
    let Some(publish) = publish else { return };
    let (n, outcome) = publish.await;
    let kind = match (outcome.unwrap(), wanted(task, n)) {
        (PublishOutcome::Acked, "ack") => 0,
        (PublishOutcome::Nacked, "nack") => 1,
        (PublishOutcome::Returned(message), "back") => {
            assert_eq!(message.body[..], [task as u8, (n >> 16) as u8, (n >> 8) as u8, n as u8]);
            2
        }
        (outcome, wanted) => panic!("{outcome:?} instead of {wanted}"),
    };
    seen[kind] += 1;
}

/// A publish that the peer has heard and not answered.
struct Heard {
    tag: u64,
    key: String,
    properties: Vec<u8>,
    body: Vec<u8>,
}

/// Each publish has its own outcome, whatever the order of acks, nacks, returns and confirms of many at once.
#[test]
fn a_hundred_thousand_publishes_of_four_tasks_have_their_own_outcomes_from_a_peer_that_shuffles() {
    let (mut scene, channel) = confirming();
    let mut tasks: Vec<_> = (0..TASKS).map(|task| Some(Box::pin(publisher(channel.clone(), task)))).collect();
    let mut peer = Peer { random: 7, tags: 0, open: vec![], partial: None };
    let mut totals = [0; 3];
    while tasks.iter().any(Option::is_some) {
        for task in &mut tasks {
            let Some(publishing) = task else { continue };
            if let Poll::Ready(seen) = poll(publishing.as_mut()) {
                (0..3).for_each(|kind| totals[kind] += seen[kind]);
                *task = None;
            }
        }
        assert!(channel.unconfirmed() <= TASKS * WINDOW);
        run(&mut scene);
        peer.hear(&mut scene);
        peer.answer(&mut scene);
        run(&mut scene);
    }
    assert_eq!(totals, [TASKS * EACH * 8 / 10, TASKS * EACH / 10, TASKS * EACH / 10]);
    assert_eq!(channel.unconfirmed(), 0);
}

struct Peer {
    random: u64,
    tags: u64,
    open: Vec<Heard>,
    partial: Option<(basic::Publish, Vec<u8>)>,
}

impl Peer {
    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % limit as u64) as usize
    }

    fn hear(&mut self, scene: &mut Scene<()>) {
        let octets = scene.wire.heard_octets();
        let mut rest = &octets[..];
        while let Some((&[kind, _, _, s0, s1, s2, s3], behind)) = rest.split_first_chunk::<7>() {
            let (payload, behind) = behind.split_at(u32::from_be_bytes([s0, s1, s2, s3]) as usize);
            rest = &behind[1..];
            match kind {
                1 => match Method::get(payload).unwrap() {
                    Method::Basic(basic::Method::Publish(publish)) => self.partial = Some((publish, vec![])),
                    other => panic!("{other:?}"),
                },
                // Behind class, weight and size stand the properties.
                2 => self.partial.as_mut().unwrap().1 = payload[12..].to_vec(),
                _ => {
                    let (publish, properties) = self.partial.take().unwrap();
                    self.tags += 1;
                    let key = publish.routing_key.to_string();
                    assert_eq!(publish.mandatory, key == "back");
                    self.open.push(Heard { tag: self.tags, key, properties, body: payload.to_vec() });
                }
            }
        }
    }

    /// Settles about half of what is open: one by one in any order, or many at once.
    fn answer(&mut self, scene: &mut Scene<()>) {
        for _ in 0..self.open.len().div_ceil(2) {
            if self.open.is_empty() {
                return;
            }
            let at = self.below(self.open.len());
            if self.below(20) == 0 {
                let through = self.open[at].tag;
                let (mut now, later): (Vec<_>, _) =
                    std::mem::take(&mut self.open).into_iter().partition(|heard| heard.tag <= through);
                self.open = later;
                let last = now.iter().position(|heard| heard.tag == through).map(|at| now.remove(at)).unwrap();
                now.iter().filter(|heard| heard.key != "ack").for_each(|heard| single(scene, heard));
                if last.key == "nack" {
                    now.iter().filter(|heard| heard.key == "ack").for_each(|heard| single(scene, heard));
                    let nack = basic::Nack { delivery_tag: through, multiple: true, requeue: false };
                    scene.wire.say(1, nack);
                } else {
                    give_back(scene, &last);
                    scene.wire.say(1, basic::Ack { delivery_tag: through, multiple: true });
                }
            } else {
                let heard = self.open.swap_remove(at);
                single(scene, &heard);
            }
        }
    }
}

fn give_back(scene: &mut Scene<()>, heard: &Heard) {
    if heard.key == "back" {
        scene.wire.say(1, basic::Return { reply_code: 312, reply_text: "NO_ROUTE".into(), ..Default::default() });
        let properties = Properties::walk(&heard.properties).unwrap().to_owned_lossy();
        scene.wire.content(1, &properties, &heard.body, 100);
    }
}

fn single(scene: &mut Scene<()>, heard: &Heard) {
    give_back(scene, heard);
    let delivery_tag = heard.tag;
    if heard.key == "nack" {
        scene.wire.say(1, basic::Nack { delivery_tag, multiple: false, requeue: false });
    } else {
        scene.wire.say(1, basic::Ack { delivery_tag, multiple: false });
    }
}
