//! One connection's heartbeat [§4.2.7]: when to say something, and when the silence has lasted too long.

use std::time::{Duration, Instant};

/// Says when one connection has to send a heartbeat, and when its peer is to be given up.
///
/// Every octet counts, in both directions: a heartbeat is due after *half* an interval in which nothing at all was
/// sent, and the peer is dead after *two* intervals in which nothing at all was heard.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use amqp_core::heartbeat::{Beat, Heartbeat};
/// # let now = Instant::now();
/// let mut heartbeat = Heartbeat::new(60, now).expect("60 s is not off");
/// assert_eq!(heartbeat.poll_timeout(), now + Duration::from_secs(30));
/// assert_eq!(heartbeat.handle_timeout(now + Duration::from_secs(30)), Some(Beat::Send));
/// ```
#[derive(Clone, Debug)]
pub struct Heartbeat {
    interval: Duration,
    sent: Instant,
    heard: Instant,
}

/// What a connection has to do about its heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Send a heartbeat frame: nothing was sent for half an interval.
    Send,
    /// Drop the socket, at once and without a graceful close: nothing was heard for two intervals.
    GiveUp {
        /// How long nothing was heard.
        silence: Duration,
    },
}

impl Heartbeat {
    /// Returns a heartbeat with the negotiated interval; `None` for 0, which turns it off.
    pub fn new(interval_seconds: u16, now: Instant) -> Option<Self> {
        let interval = Duration::from_secs(interval_seconds.into());
        (!interval.is_zero()).then_some(Self { interval, sent: now, heard: now })
    }

    /// Octets, of whatever kind, were written to the socket.
    pub fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Octets, of whatever kind, were read from the socket; or reading is paused, so that silence proves nothing.
    pub fn received(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to say, if nothing happens before.
    pub fn poll_timeout(&self) -> Instant {
        self.send_at().min(self.give_up_at())
    }

    /// Returns what is due; `None` before [`poll_timeout`](Self::poll_timeout).
    ///
    /// [`Beat::Send`] is said once for each half interval, whether or not the frame could be written.
    /// [`Beat::GiveUp`] is said whenever one asks, and is to be asked for when the socket was read and had nothing, or
    /// one long callback would kill a healthy connection.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Beat> {
        if now >= self.give_up_at() {
            return Some(Beat::GiveUp { silence: now.saturating_duration_since(self.heard) });
        }
        if now >= self.send_at() {
            self.sent = now;
            return Some(Beat::Send);
        }
        None
    }

    /// Returns how long nothing was heard, if that is an interval or longer: the peer should have sent at least one by now.
    pub fn missed(&self, now: Instant) -> Option<Duration> {
        let silence = now.saturating_duration_since(self.heard);
        (silence >= self.interval).then_some(silence)
    }

    fn send_at(&self) -> Instant {
        self.sent + self.interval / 2
    }

    fn give_up_at(&self) -> Instant {
        self.heard + self.interval * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "some instant to begin with; time moves by hand from here")]
    fn start() -> Instant {
        Instant::now()
    }

    /// Jumps from deadline to deadline until the peer is given up.
    fn until_given_up(heartbeat: &mut Heartbeat) -> (u32, Duration) {
        let mut sent = 0;
        loop {
            match heartbeat.handle_timeout(heartbeat.poll_timeout()) {
                Some(Beat::Send) => sent += 1,
                Some(Beat::GiveUp { silence }) => return (sent, silence),
                None => panic!("woken before anything was due"),
            }
        }
    }

    /// H1.
    #[test]
    fn an_hour_of_silence_takes_no_time() {
        let start = start();
        let mut heartbeat = Heartbeat::new(1800, start).unwrap();
        assert_eq!(until_given_up(&mut heartbeat), (3, SECOND * 3600), "at 15, 30 and 45 minutes, then no more");
        assert_eq!(heartbeat.poll_timeout() - start, SECOND * 3600);
    }

    /// H1: RabbitMQ itself sends every 0.5 s then.
    #[test]
    fn an_interval_of_one_second_beats_every_half() {
        let start = start();
        let mut heartbeat = Heartbeat::new(1, start).unwrap();
        assert_eq!(heartbeat.poll_timeout() - start, SECOND / 2);
        assert_eq!(until_given_up(&mut heartbeat), (3, SECOND * 2));
    }

    /// H2: any octet counts.
    #[test]
    fn whatever_is_sent_postpones_the_next_beat() {
        let start = start();
        let mut heartbeat = Heartbeat::new(10, start).unwrap();
        heartbeat.sent(start + SECOND * 4);
        assert_eq!(heartbeat.handle_timeout(start + SECOND * 5), None);
        assert_eq!(heartbeat.poll_timeout(), start + SECOND * 9);
        assert_eq!(heartbeat.handle_timeout(start + SECOND * 9), Some(Beat::Send));
        assert_eq!(heartbeat.handle_timeout(start + SECOND * 9), None, "once");
    }

    /// H2: any octet counts, and 0.9.6 never reset its count of idle intervals.
    #[test]
    fn whatever_is_heard_postpones_the_end() {
        let start = start();
        let mut heartbeat = Heartbeat::new(10, start).unwrap();
        for second in 1..1000 {
            heartbeat.received(start + SECOND * second);
            heartbeat.sent(start + SECOND * second);
            assert_eq!(heartbeat.handle_timeout(start + SECOND * second), None);
        }
        heartbeat.sent(start + SECOND * 1018);
        assert_eq!(heartbeat.poll_timeout(), start + SECOND * 1019);
        let given_up = Beat::GiveUp { silence: SECOND * 20 };
        assert_eq!(heartbeat.handle_timeout(start + SECOND * 1019), Some(given_up), "sending proves nothing");
    }

    #[test]
    fn nothing_is_due_before_the_deadline() {
        let start = start();
        let mut heartbeat = Heartbeat::new(2, start).unwrap();
        assert_eq!(heartbeat.handle_timeout(start), None);
        assert_eq!(heartbeat.handle_timeout(heartbeat.poll_timeout() - Duration::from_nanos(1)), None);
        assert_eq!(heartbeat.handle_timeout(heartbeat.poll_timeout()), Some(Beat::Send));
    }

    #[test]
    fn a_loop_that_comes_late_hears_how_long_it_was_silent() {
        let start = start();
        let mut heartbeat = Heartbeat::new(1, start).unwrap();
        let late = start + SECOND * 30;
        assert_eq!(heartbeat.handle_timeout(late), Some(Beat::GiveUp { silence: SECOND * 30 }));
        heartbeat.received(late);
        assert_eq!(heartbeat.handle_timeout(late), Some(Beat::Send), "unless there was something to read");
        assert_eq!(heartbeat.poll_timeout(), late + SECOND / 2, "what was missed is not made up for");
    }

    /// H4.
    #[test]
    fn an_interval_of_zero_turns_it_off() {
        assert!(Heartbeat::new(0, start()).is_none());
        assert!(Heartbeat::new(u16::MAX, start()).is_some());
    }
}
