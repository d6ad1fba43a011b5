//! A whole connection: what the broker says, in which pieces, when the clock goes on, and what the program calls.

use super::{broker::Broker, dice::Dice, program::Program};
use crate::scripted_peer::{Cut, Scene};
use amqp_core::{ConnectionParameters, Error, Result};
use std::time::Duration;

/// The life of a connection. At its end each question has been answered once, in whatever pieces the octets came.
pub fn connection(octets: &[u8]) {
    let pieces = Life::new(octets, None).live();
    let whole = Life::new(octets, Some(Cut::Whole)).live();
    if let (Some(pieces), Some(whole)) = (pieces, whole) {
        assert_eq!(pieces, whole, "the same, however it is cut");
    }
}

struct Life {
    scene: Scene<Program>,
    program: Program,
    broker: Broker,
    over: bool,
    /// The broker does nothing that a broker does not do.
    is_good: bool,
}

impl Life {
    fn new(octets: &[u8], cut: Option<Cut>) -> Self {
        let mut dice = Dice::new(octets);
        let settings = dice.octet();
        let cuts = dice.octets(4).into_iter().map(|octet| usize::from(octet).max(1)).collect::<Vec<_>>();
        let cuts = if cuts.is_empty() { Cut::Halves } else { Cut::Octets(cuts) };

        let mut program = Program::new(dice, settings & 64 != 0);
        let id = program.ask("open");
        let scene = Scene::new(parameters(settings), move |program: &mut Program, _, opened: Result<()>| {
            program.answered(id, &opened);
            program.act_sometimes();
        });
        scene.wire.cut(cut.unwrap_or(cuts));
        let connection = scene.connection.clone();
        connection.add_on_close_callback(|program: &mut Program, _, error| program.tell(format_args!("over: {error}")));
        connection.add_on_connection_blocked_callback(|program: &mut Program, _, _| program.tell("blocked"));
        connection.add_on_connection_unblocked_callback(|program: &mut Program, _| program.tell("unblocked"));
        program.connection = Some(connection);
        let broker = Broker::new(scene.wire.clone());
        let mut life = Self { scene, program, broker, over: false, is_good: settings & 128 != 0 };
        if settings & 1 == 0 {
            while life.turn_and_answer() {}
        }
        life
    }

    /// What has happened, in no order, if that does not depend on how the octets are cut: nothing else happens while there is
    /// something to read, or what is written in between would make a difference, and so would the clock; and callbacks do
    /// nothing, because what was refused is answered in the next turn, before or after the rest of what is read.
    fn live(mut self) -> Option<Vec<String>> {
        while !self.program.dice.is_used_up() && !self.over {
            if !self.program.acts_in_callbacks {
                self.turn();
            }
            self.step();
        }
        self.end();
        self.program.story.sort_unstable();
        (!self.program.races && !self.program.acts_in_callbacks).then_some(self.program.story)
    }

    fn step(&mut self) {
        match self.program.dice.below(24) {
            0..=9 => self.program.act(),
            10..=12 => {
                self.turn_and_answer();
            }
            13 => self.broker.answer(&mut self.program.dice),
            14..=16 => self.broker.take_the_initiative(&mut self.program.dice),
            17 => self.pass_time(),
            18 => {
                let room = usize::from(self.program.dice.octet());
                self.scene.wire.room((room != 0).then_some(room * room));
                self.scene.writable();
            }
            19 => {
                self.scene.wire.room(None);
                self.scene.writable();
            }
            20 if !self.is_good => self.broker.misbehave(&mut self.program.dice),
            21 if !self.is_good && self.program.dice.once_in(8) => {
                self.broker.honest = false;
                self.scene.wire.hang_up();
            }
            _ => self.turn(),
        }
    }

    /// Whether there was something to answer.
    fn turn_and_answer(&mut self) -> bool {
        self.turn();
        self.broker.listen();
        let something = self.broker.has_something_to_answer();
        while self.broker.has_something_to_answer() {
            self.broker.answer(&mut self.program.dice);
        }
        self.turn();
        something
    }

    fn pass_time(&mut self) {
        self.turn(); // the loop hears of timers before the clock goes on
        let octet = u64::from(self.program.dice.octet());
        let by = if octet < 128 { Duration::from_millis(octet * 10) } else { Duration::from_secs(octet - 127) };
        self.program.time += by;
        let result = self.scene.advance(by, &mut self.program);
        self.raised(result);
        self.turn();
        assert!(self.over || !self.program.is_late(), "a timer is late");
    }

    /// Loop and futures do all that they can.
    fn turn(&mut self) {
        for _ in 0..1000 {
            let result = self.scene.turn(&mut self.program);
            let raised = result.is_err();
            self.over = *result.as_ref().unwrap_or(&self.over);
            self.raised(result.map(drop));
            if !self.program.poll() && !raised {
                return;
            }
        }
        panic!("futures and loop never come to an end");
    }

    /// An end that no callback was told comes out of the loop.
    fn raised(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.program.tell(format_args!("raised: {error}"));
        }
    }

    /// A broker that answers leaves nothing open.
    fn answer_everything(&mut self) {
        while self.turn_and_answer() || self.broker.confirm_all() {}
        let unanswered = self.program.unanswered_by_broker();
        assert!(unanswered.is_empty(), "all was answered, but not {unanswered:?}: {:#?}", self.program.story);
    }

    /// The broker hangs up: what was asked is answered.
    fn end(&mut self) {
        self.scene.wire.room(None);
        self.scene.writable();
        self.turn();
        self.broker.listen();
        if self.broker.honest {
            self.answer_everything();
            let reason = self.scene.connection.close_reason();
            assert!(
                !matches!(reason, Some(Error::Protocol { .. })),
                "a good broker is accused: {reason:?}, after {:#?}",
                self.program.story
            );
        }
        self.scene.wire.hang_up();
        self.turn();
        // Timers of the program keep the loop until they have run.
        self.program.time += A_DAY;
        let result = self.scene.advance(A_DAY, &mut self.program);
        self.raised(result);
        self.turn();
        self.program.let_go();
        self.turn();
        assert!(self.over, "the loop goes on without a connection");
        let waiting = self.scene.connection.outbound_len();
        let unanswered = self.program.unanswered();
        assert_eq!(waiting, 0, "nothing waits to be written");
        assert!(unanswered.is_empty(), "never answered: {unanswered:?}, after {:#?}", self.program.story);
    }
}

/// Longer than any timer.
const A_DAY: Duration = Duration::from_secs(86_400);

fn parameters(settings: u8) -> ConnectionParameters {
    let mut builder = ConnectionParameters::builder().rpc_timeout(Some(Duration::from_secs(2)));
    if settings & 2 != 0 {
        builder = builder.outbound_high_water(4096).backpressure_detection(true);
    }
    if settings & 4 != 0 {
        builder = builder.outbound_high_water(4096).outbound_limit(Some(20_000));
    }
    if settings & 8 != 0 {
        builder = builder.max_message_size(500);
    }
    if settings & 16 != 0 {
        builder = builder.blocked_connection_timeout(Some(Duration::from_secs(3)));
    }
    if settings & 32 != 0 {
        builder = builder.heartbeat(Some(1));
    }
    builder.build().unwrap_or_default()
}
