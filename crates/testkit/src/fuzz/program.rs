//! A program that does what the dice say, from outside of the loop and in its callbacks, and that counts its answers.

use super::dice::Dice;
use amqp_core::{
    BasicProperties, Channel, ConnectionHandle, Consumer, DeliveryTag, Error, Result, ShortString, TimeoutId,
};
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

/// The program's state, which the loop lends to its callbacks.
pub(super) struct Program {
    pub(super) dice: Dice,
    pub(super) acts_in_callbacks: bool,
    /// How long it has run.
    pub(super) time: Duration,
    pub(super) connection: Option<ConnectionHandle<Self>>,
    channels: Vec<Channel<Self>>,
    /// What was asked and not answered yet.
    asked: BTreeMap<u64, &'static str>,
    next: u64,
    /// What was answered, and what has happened.
    pub(super) story: Vec<String>,
    tasks: Vec<Task>,
    delivered: Vec<(Channel<Self>, DeliveryTag)>,
    consumers: Vec<(Channel<Self>, ShortString)>,
    timers: Vec<(u64, TimeoutId, Duration)>,
    /// What is seen first depends on the cuts: it has awaited a stream that may stop the reading, or room in a buffer that is
    /// written between two reads.
    pub(super) races: bool,
}

/// A future that the program awaits.
struct Task {
    id: u64,
    future: Pin<Box<dyn Future<Output = String>>>,
    woken: Arc<Woken>,
}

/// Whether there is a reason to poll.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl Program {
    pub(super) fn new(dice: Dice, acts_in_callbacks: bool) -> Self {
        Self {
            dice,
            acts_in_callbacks,
            time: Duration::ZERO,
            connection: None,
            channels: vec![],
            asked: BTreeMap::new(),
            next: 0,
            story: vec![],
            tasks: vec![],
            delivered: vec![],
            consumers: vec![],
            timers: vec![],
            races: false,
        }
    }

    /// Something is asked whose answer must come, once.
    pub(super) fn ask(&mut self, what: &'static str) -> u64 {
        self.next += 1;
        self.asked.insert(self.next, what);
        self.next
    }

    pub(super) fn answered<T: fmt::Debug>(&mut self, id: u64, answer: &Result<T>) {
        let what = self.asked.remove(&id);
        let Some(what) = what else { panic!("{id} is answered twice: {answer:?}") };
        self.tell(format_args!("{what} {id}: {}", shown(answer)));
    }

    /// What was never answered.
    pub(super) fn unanswered(&self) -> Vec<&'static str> {
        self.asked.values().copied().collect()
    }

    pub(super) fn tell(&mut self, what: impl fmt::Display) {
        self.story.push(what.to_string());
    }

    /// Whether a timer should have run and did not.
    pub(super) fn is_late(&self) -> bool {
        self.timers.iter().any(|(.., due)| *due <= self.time)
    }

    /// What the broker could have answered, and did not: streams and timers go on without it.
    pub(super) fn unanswered_by_broker(&self) -> Vec<&'static str> {
        self.asked.values().copied().filter(|what| !matches!(*what, "stream" | "timer")).collect()
    }

    /// Polls what was woken; false when there was nothing to do.
    pub(super) fn poll(&mut self) -> bool {
        let is_full = |c: &ConnectionHandle<Self>| c.outbound_len() > c.parameters().outbound_high_water();
        self.races |= !self.tasks.is_empty() && self.connection.as_ref().is_some_and(is_full);
        let mut tasks = std::mem::take(&mut self.tasks);
        let mut progress = false;
        tasks.retain_mut(|task| {
            if !task.woken.0.swap(false, Relaxed) {
                return true;
            }
            progress = true;
            let waker = Waker::from(task.woken.clone());
            match task.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => true,
                Poll::Ready(end) => {
                    let what = self.asked.remove(&task.id);
                    self.tell(format_args!("{what:?} {}: {end}", task.id));
                    false
                }
            }
        });
        self.tasks.append(&mut tasks);
        progress
    }

    fn spawn(&mut self, what: &'static str, future: impl Future<Output = String> + 'static) {
        let id = self.ask(what);
        self.tasks.push(Task { id, future: Box::pin(future), woken: Arc::new(Woken(AtomicBool::new(true))) });
    }

    fn keep(&mut self, channel: &Channel<Self>, opened: &Result<()>) {
        if opened.is_ok() {
            self.channels.push(channel.clone());
        }
    }

    /// One call of the program's, or none.
    pub(super) fn act(&mut self) {
        let Some(connection) = self.connection.clone() else { return };
        if self.channels.is_empty() {
            return self.open(&connection);
        }
        let choice = self.dice.below(32);
        match choice {
            0 => self.open(&connection),
            1 => self.close_connection(&connection),
            2 => {
                let id = self.ask("update_secret");
                let request = connection.update_secret("new", "old");
                request.then(move |program: &mut Self, _, reply| program.answered(id, &reply));
            }
            3 => self.spawn("writable", async move { shown(&connection.writable().await) }),
            4 => self.timer(&connection),
            5 => {
                let timer = self.dice.take(&mut self.timers);
                if let Some((id, timer, _)) = timer {
                    assert!(connection.ioloop().remove_timeout(timer), "a timer that did not run can be removed");
                    self.asked.remove(&id);
                }
            }
            6 => {
                let id = self.ask("post");
                connection.ioloop().post(move |program: &mut Self| program.answered(id, &Ok(())));
            }
            7 => connection.set_backpressure_multiplier(u32::from(self.dice.octet())),
            8 => drop(self.dice.take(&mut self.channels)),
            9 => {
                if let Some(dropped) = self.dice.take(&mut self.tasks) {
                    self.asked.remove(&dropped.id);
                }
            }
            10..=12 => self.settle(),
            _ => {
                if let Some(channel) = self.dice.one_of(&self.channels) {
                    self.act_on(choice, channel);
                }
            }
        }
    }

    fn open(&mut self, connection: &ConnectionHandle<Self>) {
        match self.dice.below(3) {
            0 => match connection.channel().send() {
                Ok(channel) => self.channels.push(channel),
                Err(error) => self.tell(error),
            },
            1 => {
                let id = self.ask("channel");
                connection.channel().then(move |program: &mut Self, channel, opened| {
                    program.answered(id, &opened);
                    program.keep(channel, &opened);
                    program.act_sometimes();
                });
            }
            _ => {
                let opening = connection.channel();
                self.spawn("channel", async move { shown(&opening.await.map(|channel| channel.channel_number())) });
            }
        }
    }

    fn close_connection(&mut self, connection: &ConnectionHandle<Self>) {
        match self.dice.below(6) {
            0 => drop(connection.close().send()),
            1 => {
                let id = self.ask("close");
                connection.close().then(move |program: &mut Self, _, closed| program.answered(id, &closed));
            }
            2 => {
                let closing = connection.close();
                self.spawn("close", async move { shown(&closing.await) });
            }
            _ => {}
        }
    }

    fn timer(&mut self, connection: &ConnectionHandle<Self>) {
        let delay = Duration::from_millis(u64::from(self.dice.octet()) * 100);
        let (id, due) = (self.ask("timer"), self.time + delay);
        let timer = connection.ioloop().add_timeout(delay, move |program: &mut Self| {
            assert!(program.time >= due, "a timer runs {:?} early", due - program.time);
            program.timers.retain(|(other, ..)| *other != id);
            program.answered(id, &Ok(()));
            program.act_sometimes();
        });
        self.timers.push((id, timer, due));
    }

    fn settle(&mut self) {
        let Some((channel, tag)) = self.dice.take(&mut self.delivered) else { return };
        let settled = match self.dice.below(4) {
            0 => channel.basic_ack(tag),
            1 => channel.basic_ack_multiple(tag),
            2 => channel.basic_nack(tag, true, true),
            _ => channel.basic_reject(tag, false),
        };
        self.tell(format_args!("settle: {}", shown(&settled)));
    }

    fn act_on(&mut self, choice: u8, channel: Channel<Self>) {
        match choice {
            13 => {
                let id = self.ask("queue_declare");
                channel.queue_declare("q").then(move |program: &mut Self, _, reply| {
                    program.answered(id, &reply);
                    program.act_sometimes();
                });
            }
            14 => self.spawn("queue_declare", async move { shown(&channel.queue_declare("").await) }),
            15 => drop(channel.queue_purge("q").send()),
            16 | 17 => self.consume(&channel),
            18 => self.stream(channel),
            19 => self.cancel(),
            20 | 21 => self.publish(&channel),
            22 => {
                let id = self.ask("publish");
                let body = vec![1; usize::from(self.dice.octet()) * 100];
                let mandatory = self.dice.once_in(2);
                channel.basic_publish("", "q", body).mandatory(mandatory).then(
                    move |program: &mut Self, _, outcome| {
                        program.answered(id, &outcome.map(|outcome| std::mem::discriminant(&outcome)));
                    },
                );
            }
            23 => {
                let body = vec![2; usize::from(self.dice.octet()) * 100];
                self.spawn("publish", async move { shown(&channel.basic_publish("", "q", body).await.map(drop)) });
            }
            24 => {
                let id = self.ask("confirm");
                let confirm = channel.confirm_delivery(|program: &mut Self, _, confirmation| {
                    program.tell(format_args!("{confirmation:?}"));
                });
                confirm.then(move |program: &mut Self, _, reply| program.answered(id, &reply));
            }
            25 => drop(channel.confirm_select().send()),
            26 => self.wait_for_confirms(channel),
            27 => self.get(channel),
            28 => self.close_channel(channel),
            29 => {
                let id = self.ask("tx");
                let then = move |program: &mut Self, reply: &Result<()>| program.answered(id, reply);
                match self.dice.below(2) {
                    0 => channel.tx_select().then(move |program, _, reply| then(program, &reply.map(drop))),
                    _ => channel.tx_commit().then(move |program, _, reply| then(program, &reply.map(drop))),
                }
            }
            30 => {
                let qos = channel.basic_qos(u16::from(self.dice.octet()));
                self.spawn("qos", async move { shown(&qos.await) });
            }
            _ => {
                let id = self.ask("recover");
                channel.basic_recover().then(move |program: &mut Self, _, reply| program.answered(id, &reply));
            }
        }
    }

    fn consume(&mut self, channel: &Channel<Self>) {
        let id = self.ask("consume");
        let consume = channel.basic_consume("q").no_ack(self.dice.once_in(3));
        let tag = consume
            .on_message(|program: &mut Self, channel, delivery| {
                let (tag, length) = (delivery.delivery_tag, delivery.body.len());
                assert!(delivery.properties.headers().is_none_or(|headers| headers.is_err() || headers.is_ok()));
                program.tell(format_args!("{} of {}: {length}", tag.number(), delivery.consumer_tag));
                program.delivered.push((channel.clone(), tag));
                program.act_sometimes();
            })
            .then(move |program: &mut Self, _, reply| program.answered(id, &reply));
        self.consumers.push((channel.clone(), tag));
    }

    /// A stream, until its end.
    fn stream(&mut self, channel: Channel<Self>) {
        let mut consume = channel.basic_consume("q");
        if self.dice.once_in(2) {
            self.races = true;
            consume = consume.no_ack(true).capacity(1 + usize::from(self.dice.below(3)));
        }
        self.spawn("stream", async move {
            let mut consumer: Consumer<Self> = match consume.await {
                Ok(consumer) => consumer,
                Err(error) => return error.to_string(),
            };
            let mut taken = vec![];
            loop {
                match consumer.next().await {
                    Some(Ok(message)) => taken.push(message.body.len()),
                    Some(Err(error)) => return format!("{taken:?}, then {error}"),
                    None => return format!("{taken:?}"),
                }
            }
        });
    }

    fn cancel(&mut self) {
        let Some((channel, tag)) = self.dice.take(&mut self.consumers) else { return };
        match self.dice.below(3) {
            0 => drop(channel.basic_cancel(tag).send()),
            1 => {
                let id = self.ask("cancel");
                channel.basic_cancel(tag).then(move |program: &mut Self, _, reply| program.answered(id, &reply));
            }
            _ => self.spawn("cancel", async move { shown(&channel.basic_cancel(tag).await) }),
        }
    }

    fn publish(&mut self, channel: &Channel<Self>) {
        let body = vec![3; usize::from(self.dice.octet()) * 100];
        let properties = BasicProperties::new().header("n", 1);
        let publish = if self.dice.once_in(2) {
            channel.basic_publish("", "q", &body).properties(&properties).send()
        } else {
            channel.basic_publish("", "q", body).send()
        };
        self.tell(format_args!("publish: {}", shown(&publish)));
    }

    fn wait_for_confirms(&mut self, channel: Channel<Self>) {
        let wait = channel.wait_for_confirms().at_most(usize::from(self.dice.below(3)));
        if self.dice.once_in(2) {
            let id = self.ask("wait_for_confirms");
            wait.then(move |program: &mut Self, _, waited| program.answered(id, &waited));
        } else {
            self.spawn("wait_for_confirms", async move { shown(&wait.await) });
        }
    }

    fn get(&mut self, channel: Channel<Self>) {
        if self.dice.once_in(2) {
            let id = self.ask("get");
            channel.basic_get("q").then(move |program: &mut Self, channel, message| {
                program.answered(id, &message.as_ref().map(Option::is_some).map_err(Error::clone));
                if let Ok(Some(message)) = message {
                    program.delivered.push((channel.clone(), message.delivery_tag));
                }
                program.act_sometimes();
            });
        } else {
            self.spawn("get", async move { shown(&channel.basic_get("q").await.map(|message| message.is_some())) });
        }
    }

    fn close_channel(&mut self, channel: Channel<Self>) {
        match self.dice.below(3) {
            0 => drop(channel.close().send()),
            1 => {
                let id = self.ask("channel.close");
                channel.close().then(move |program: &mut Self, _, closed| program.answered(id, &closed));
            }
            _ => self.spawn("channel.close", async move { shown(&channel.close().await) }),
        }
    }

    /// In a callback: mostly nothing.
    pub(super) fn act_sometimes(&mut self) {
        if self.acts_in_callbacks && self.dice.once_in(3) {
            self.act();
        }
    }

    /// The program lets go of everything but its futures. Timers that callbacks have added are taken back, because
    /// they keep the loop going.
    pub(super) fn let_go(&mut self) {
        let connection = self.connection.take();
        for (id, timer, _) in std::mem::take(&mut self.timers) {
            let is_removed = connection.as_ref().is_some_and(|connection| connection.ioloop().remove_timeout(timer));
            assert!(is_removed, "a timer that did not run can be removed");
            self.asked.remove(&id);
        }
        self.channels.clear();
        self.delivered.clear();
        self.consumers.clear();
    }
}

/// A result as the story has it.
fn shown<T: fmt::Debug>(result: &Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    }
}
