//! channel.flow [§1.5.2.5]: while the broker wants no content on a channel, publishes wait, and requests behind them do too.
//!
//! Acknowledgements and answers to the broker pass by. A close does not wait: what stands before it goes out with it,
//! because what was accepted is not lost.

use crate::{
    session::{channel::ChannelState, state::State},
    wire::{
        fault::Invalid,
        outbox::Outbox,
        spec::{Method, channel},
    },
};

impl<S: 'static> State<S> {
    /// The broker has asked for a pause, or for its end, and is answered: no content may come between the two.
    pub(crate) fn flow(&mut self, number: u16, active: bool) {
        self.say(number, &channel::FlowOk { active }.into());
        let Some(channel) = self.channels.get_mut(&number) else { return };
        if active {
            self.paused -= channel.release_to(&mut self.outbox, self.taken);
            channel.paused = None;
        } else {
            channel.paused.get_or_insert_default();
        }
    }
}

impl<S: 'static> ChannelState<S> {
    /// Octets that wait until the broker wants content again.
    pub(crate) fn paused_octets(&self) -> usize {
        self.paused.as_ref().map_or(0, |paused| paused.len())
    }

    /// Encodes a message where it belongs; `paused` counts the octets that wait.
    #[inline]
    pub(crate) fn put_message(
        &mut self,
        outbox: &mut Outbox,
        paused: &mut usize,
        put: impl FnOnce(&mut Outbox) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        match &mut self.paused {
            None => put(outbox),
            Some(waiting) => wait(waiting, paused, put),
        }
    }

    /// Encodes a request where it belongs: behind messages that wait, if there are any.
    pub(crate) fn put_request(
        &mut self,
        outbox: &mut Outbox,
        paused: &mut usize,
        taken: u64,
        method: &Method,
        frame_max: usize,
    ) -> Result<(), Invalid> {
        let number = self.identity.number;
        let put = |outbox: &mut Outbox| crate::wire::frame::put_method(outbox.octets(), number, method, frame_max);
        match &mut self.paused {
            Some(waiting) if !waiting.is_empty() => wait(waiting, paused, put)?,
            _ => put(outbox)?,
        }
        if matches!(method, Method::Channel(channel::Method::Close(_))) {
            *paused -= self.release_to(outbox, taken);
        }
        Ok(())
    }

    /// Moves what waits into the outbox, out of which `taken` octets have been taken, and says how many octets that were.
    pub(crate) fn release_to(&mut self, outbox: &mut Outbox, taken: u64) -> usize {
        let Some(waiting) = &mut self.paused else { return 0 };
        let octets = waiting.len();
        if let Some(confirms) = &mut self.confirms {
            confirms.released(taken + outbox.len() as u64);
        }
        outbox.append(std::mem::take(waiting));
        octets
    }
}

#[cold]
fn wait(
    waiting: &mut Outbox,
    paused: &mut usize,
    put: impl FnOnce(&mut Outbox) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    let before = waiting.len();
    put(waiting)?;
    *paused += waiting.len() - before;
    Ok(())
}
