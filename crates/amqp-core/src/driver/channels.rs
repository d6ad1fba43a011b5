//! What arrives on channels, but for content.

use crate::{
    api::event::Event,
    driver::{Driver, consumers::Told},
    error::{CloseReason, Error},
    session::{
        callbacks::Key,
        channel::{ChannelState, Phase},
        confirm::Confirms,
        reply::{Answer, Continuation, Expect, Raised, lend},
    },
    trace::events,
    wire::{
        confirmation::Confirmation,
        fault::Violation,
        spec::{Arguments, Method, basic, channel},
        strings::ShortString,
    },
};
use std::{mem, time::Instant};

impl<S: 'static> Driver<S> {
    pub(super) fn on_method(&mut self, number: u16, method: Method, now: Instant) {
        if self.life.is_closing() {
            return self.on_last_method(number, method, now);
        }
        let hooked = self.hook(number, method.id(), || method.clone());
        match method {
            Method::Channel(channel::Method::Close(close)) => self.channel_closed_by_broker(number, &close),
            Method::Channel(channel::Method::Flow(flow)) => self.flow(number, flow.active),
            Method::Basic(basic::Method::Cancel(cancel)) => self.cancelled_by_broker(number, cancel, hooked),
            method => self.on_reply(number, method, now),
        }
    }

    /// After our connection.close: what was asked for before is answered, everything else is ignored [§1.4.2.10].
    fn on_last_method(&mut self, number: u16, method: Method, now: Instant) {
        match method {
            Method::Channel(channel::Method::Close(close)) => {
                let error = closed_by_broker(number, &close);
                let Some(mut channel) = self.shared.lock().take(number) else { return };
                channel.identity.end(error.clone());
                self.answer_all(number, &mut channel, &error);
            }
            Method::Channel(channel::Method::Flow(_)) | Method::Basic(basic::Method::Cancel(_)) => {}
            method => self.on_reply(number, method, now),
        }
    }

    fn on_reply(&mut self, number: u16, method: Method, now: Instant) {
        let mut state = self.shared.lock();
        let Some(channel) = state.channel(number) else {
            drop(state);
            return self.out_of_turn(Violation::channel("a reply on a channel that is not open"), now);
        };
        let Some(pending) = channel.answered(method.id(), consumer_tag(&method)) else {
            drop(state);
            return self.out_of_turn(Violation::command("a reply to another method than was asked for"), now);
        };
        match &method {
            Method::Channel(channel::Method::OpenOk(_)) => {
                drop(state);
                events::channel_opened(&self.endpoint(), number);
            }
            Method::Channel(channel::Method::CloseOk(_)) => {
                let closed = state.take(number);
                drop(state);
                // Whoever waits has his answer before close callbacks are called, a callback has it after them.
                let job = pending.then.resolve(Ok(Answer::Method(method)));
                self.closed_by_us(number, closed);
                return self.jobs.extend(job.map(|job| (number, job)));
            }
            Method::Basic(basic::Method::ConsumeOk(ok)) => {
                let refused = state.release(number, &ok.consumer_tag);
                drop(state);
                let refused = refused.into_iter().filter_map(|(error, then)| then.resolve(Err(error)));
                self.jobs.extend(refused.map(|job| (number, job)));
            }
            Method::Basic(basic::Method::CancelOk(ok)) => {
                channel.forget(ok.consumer_tag.as_bytes());
                drop(state);
                self.consumers.forget(number, ok.consumer_tag.as_bytes());
            }
            _ => drop(state),
        }
        let job = pending.then.resolve(Ok(Answer::Method(method)));
        self.jobs.extend(job.map(|job| (number, job)));
        self.close_orphan(number);
    }

    /// Our own channel.close was behind everything else, so nothing but the reply to it was outstanding.
    fn closed_by_us(&mut self, number: u16, channel: Option<ChannelState<S>>) {
        let Some(channel) = channel else { return };
        let (reason, told) = (channel.identity.reason(), channel.told);
        let told = self.channel_over(number, reason.clone(), Some(channel)) || told;
        if matches!(reason, Error::MessageTooLarge { .. } | Error::ChannelClosedByBroker { .. }) {
            self.ended(told, reason);
        }
    }

    /// The broker closed the channel. Everything outstanding is answered with its reason, and the number is free once
    /// close-ok is on its way. If the channel was closing anyway, the answer to our own Close is still to come.
    fn channel_closed_by_broker(&mut self, number: u16, close: &channel::Close) {
        let error = closed_by_broker(number, close);
        let closed = self.shared.lock().closed_by_broker(number, &error);
        let Some((mut channel, awaits_close_ok)) = closed else { return };
        if awaits_close_ok {
            self.consumers.closing(&channel.identity);
            self.answer_all(number, &mut channel, &error);
            return;
        }
        let told = self.channel_over(number, error.clone(), Some(channel));
        self.ended(told, error);
    }

    /// Closes a channel for a reason of the client's own.
    pub(super) fn close_channel(&mut self, number: u16, error: Error) {
        let mut state = self.shared.lock();
        let Some(channel) = state.channel(number).filter(|channel| channel.phase == Phase::Open) else { return };
        let identity = channel.identity.clone();
        let text = match &error {
            Error::Panicked { .. } => "a callback panicked",
            _ => "message too large",
        };
        identity.close(error);
        let close = channel::Close { reply_code: 541, reply_text: text.into(), class_id: 0, method_id: 0 };
        let expect = Some(Expect(channel::CloseOk::ID, None));
        let sent = state.request(&identity, &close.into(), expect, Continuation::Nobody);
        debug_assert!(sent.is_ok());
        drop(state);
        self.consumers.closing(&identity);
    }

    fn flow(&mut self, number: u16, active: bool) {
        self.shared.lock().flow(number, active);
        self.tell_channel(number, Key::Flow, Event::Flow(active));
    }

    fn cancelled_by_broker(&mut self, number: u16, cancel: basic::Cancel, hooked: bool) {
        let mut state = self.shared.lock();
        let known = state.channel(number).is_some_and(|channel| channel.ended_by_broker(&cancel.consumer_tag));
        drop(state);
        if !cancel.nowait {
            self.say(number, &basic::CancelOk { consumer_tag: cancel.consumer_tag.clone() }.into());
        }
        let told = self.consumers.ended_by_broker(number, cancel.consumer_tag.as_bytes());
        if known {
            events::consumer_cancelled(&self.endpoint(), number, &cancel.consumer_tag);
            let consumer_tag = cancel.consumer_tag.to_string_lossy().into();
            let error = Error::ConsumerCancelled { channel: number, consumer_tag };
            let hears = hooked | self.tell_channel(number, Key::Cancel, Event::Cancel(cancel.consumer_tag));
            let somebody = told.is_somebody();
            self.call_ends(number, told, &error);
            self.ended(hears || somebody, error);
        }
    }

    /// Those who want to hear of the end of their consumers do.
    fn call_ends(&mut self, number: u16, told: Told<S>, error: &Error) {
        for (channel, on_end) in told.to_call {
            let error = error.clone();
            self.jobs.push_back((number, Box::new(move |state| on_end(state, &channel, &error))));
        }
    }

    pub(super) fn confirmed(
        &mut self,
        number: u16,
        confirmation: Confirmation,
        now: Instant,
        state: &mut S,
    ) -> Result<(), Raised> {
        self.hook(number, confirmation.id(), || confirmation.method());
        let mut guard = self.shared.lock();
        let written = guard.taken() - self.conversation.writing.len() as u64;
        let confirmed = match guard.channel(number) {
            Some(ChannelState { confirms: Some(confirms), .. }) => {
                let settled = confirms.confirmed(confirmation, written);
                settled.map(|settled| (settled, confirms.has_waits(), confirms.unconfirmed() == 0))
            }
            Some(ChannelState { phase: Phase::Open, .. }) => {
                Err(Violation::command("a confirm on a channel that is not in confirm mode"))
            }
            _ => Ok(Default::default()),
        };
        drop(guard);
        let (settled, waits, all) = match confirmed {
            Ok(confirmed) => confirmed,
            Err(violation) => {
                self.out_of_turn(violation, now);
                return Ok(());
            }
        };
        for (then, outcome) in settled {
            self.jobs.extend(then.resolve(Ok(outcome)).map(|job| (number, job)));
        }
        if waits {
            self.jobs.extend(self.shared.confirms_waited(number).into_iter().map(|job| (number, job)));
        }
        let told = match self.consumers.on_confirm(&self.shared, number) {
            Some((channel, callback)) => lend(|| callback(state, &channel, confirmation)),
            None => Ok(()),
        };
        if all {
            self.close_orphan(number);
        }
        told
    }

    /// Closes a channel without handles, if nothing is outstanding on it any more.
    fn close_orphan(&self, number: u16) {
        if let Some(identity) = self.consumers.orphan(number) {
            self.shared.close_if_idle(&identity);
            self.shared.close_if_forsaken();
        }
    }

    pub(super) fn answer_all(&mut self, number: u16, channel: &mut ChannelState<S>, error: &Error) {
        let fifo = mem::take(&mut channel.fifo);
        let timeouts = channel.confirms.as_mut().map(Confirms::timeouts);
        for timeout in timeouts.into_iter().flatten() {
            self.shared.bell.remove_timeout(timeout);
        }
        let held = mem::take(&mut channel.held).into_iter().filter_map(|(_, pending)| pending);
        let (publishes, waits) = channel.confirms.as_mut().map(Confirms::drain).unwrap_or_default();
        let error = || error.clone();
        let replies = fifo.into_iter().chain(held).filter_map(|pending| pending.then.resolve(Err(error())));
        let publishes = publishes.into_iter().filter_map(|then| then.resolve(Err(error())));
        let waits = waits.into_iter().filter_map(|then| then.resolve(Err(error())));
        self.jobs.extend(replies.chain(publishes).chain(waits).map(|job| (number, job)));
    }

    /// The channel's close callbacks are called, everything else about it is dropped, its number is free. Says whether
    /// somebody was told.
    pub(super) fn channel_over(&mut self, number: u16, error: Error, state: Option<ChannelState<S>>) -> bool {
        let asked = state.is_some_and(|mut state| {
            let asked = state.is_awaited();
            self.answer_all(number, &mut state, &error);
            asked
        });
        events::channel_closed(&self.endpoint(), number, &error);
        let told = self.tell_channel(number, Key::Close, Event::Close(error.clone()));
        self.shared.callbacks.cleanup(number);
        self.conversation.protocol.close(number);
        let ends = self.consumers.close(number);
        let told = ends.is_somebody() || told || asked;
        if !error.is_deliberate() {
            self.call_ends(number, ends, &error);
        }
        // Only now, or what is done away with here could be another channel's already.
        self.shared.lock().free(number);
        self.shared.close_if_forsaken();
        told
    }
}

fn closed_by_broker(channel: u16, close: &channel::Close) -> Error {
    let reason = CloseReason {
        code: close.reply_code,
        text: close.reply_text.to_string_lossy().into(),
        method: (close.class_id, close.method_id),
    };
    Error::ChannelClosedByBroker { channel, reason }
}

/// The replies that RabbitMQ's queues give themselves, out of turn, are known by this.
fn consumer_tag(method: &Method) -> Option<&ShortString> {
    match method {
        Method::Basic(basic::Method::ConsumeOk(ok)) => Some(&ok.consumer_tag),
        Method::Basic(basic::Method::CancelOk(ok)) => Some(&ok.consumer_tag),
        _ => None,
    }
}
