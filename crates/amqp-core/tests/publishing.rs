//! What becomes of publishes, and how many may wait, against a scripted peer.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod stories;

use amqp_core::{
    BasicProperties, ConnectionParameters, Error, PublishOutcome, Table,
    spec::{basic, channel, queue},
};
use stories::{Log, logging, scene, with_channel};

stories! {
    what_cannot_be_sent_is_refused_before_its_first_octet
    a_publish_is_settled_by_what_the_broker_says_of_it
    a_confirm_that_the_broker_cannot_give_ends_the_connection
    what_waited_for_the_broker_to_want_content_can_be_confirmed_when_it_is_out
    what_comes_back_keeps_its_properties_and_is_told_to_everybody
    confirms_are_told_until_a_closing_channel_is_closed
    without_confirm_mode_an_outcome_cannot_be_waited_for
    back_pressure_is_told_when_it_begins_and_when_it_ends_and_has_a_limit
    the_outbound_buffer_may_hold_as_many_average_frames_as_the_program_says
    who_takes_back_a_backpressure_callback_hears_no_more_of_it
}

/// Faults 11, PR19, F23: and the channel is unharmed.
fn what_cannot_be_sent_is_refused_before_its_first_octet() {
    let (mut scene, mut log, channel) = with_channel();
    let long = "x".repeat(256);
    let publish = |properties: &BasicProperties| channel.basic_publish("", "q", "x").properties(properties).send();
    let deep = (0..33).fold(Table::new(), |inner, _| Table::new().with("k", inner));
    let refused = [
        channel.basic_publish(&long, "q", "x").send(),
        channel.basic_publish("", &long, "x").send(),
        channel.queue_declare(&long).send(),
        channel.queue_bind("q", &long).send(),
        channel.basic_consume(&long).on_message(logging).send().map(drop),
        channel.queue_declare("q").arguments(Table::new().with("k", f64::NAN)).send(),
        channel.queue_declare("q").arguments(Table::new().with("k", vec![0; 131_072])).send(),
        channel.queue_declare("q").arguments(deep.clone()).send(),
        publish(&BasicProperties::new().header("k", f64::INFINITY)),
        publish(&BasicProperties::new().header("k", vec![0; 131_072])),
        publish(&BasicProperties::new().header("k", deep)),
        publish(&BasicProperties::new().content_type(&long)),
    ];
    for (n, refused) in refused.into_iter().enumerate() {
        let error = refused.unwrap_err();
        assert!(
            matches!(error, Error::Invalid(_)) && error.to_string().ends_with("; nothing was sent"),
            "{n}: {error}"
        );
    }
    scene.run(&mut log).unwrap();
    assert_eq!((scene.wire.heard(), scene.connection.outbound_len()), (vec![], 0));
    channel.basic_publish("", "q", "x").send().unwrap();
    channel.queue_declare("q").then(|log: &mut Log, _, declared| log.push(declared.is_ok().to_string()));
    scene.wire.say(1, queue::DeclareOk::default());
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true"]);
}

fn a_publish_is_settled_by_what_the_broker_says_of_it() {
    let (mut scene, mut log, channel) = with_channel();
    channel.confirm_delivery(|log: &mut Log, _, confirmation| log.push(format!("{confirmation:?}"))).send().unwrap();
    for n in 1..=4 {
        channel.basic_publish("", "q", "x").mandatory(n == 2).then(move |log: &mut Log, _, outcome| {
            let outcome = match outcome {
                Ok(PublishOutcome::Returned(returned)) => format!("returned {}", returned.reply_code),
                Ok(outcome) => format!("{outcome:?}"),
                Err(_) => "unknown".into(),
            };
            log.push(format!("{n} {outcome}"));
        });
    }
    scene.run(&mut log).unwrap();
    // The mark is in the properties of the mandatory one; the broker gives them back.
    let octets = scene.wire.heard_octets();
    let name = b"x-pooka-publish";
    let at = octets.windows(name.len()).position(|window| window == name).unwrap();
    let mark = octets[at + name.len() + 1..][..8].try_into().map(i64::from_be_bytes).unwrap();
    scene.wire.say(1, basic::Return { reply_code: 312, ..Default::default() });
    scene.wire.content(1, &BasicProperties::new().header("x-pooka-publish", mark), b"x", 9);
    scene.wire.say(1, basic::Nack { delivery_tag: 3, ..Default::default() });
    scene.wire.say(1, basic::Ack { delivery_tag: 2, multiple: true });
    scene.run(&mut log).unwrap();
    log.retain(|line| !line.starts_with("Confirmation"));
    assert_eq!(log, ["3 Nacked", "1 Acked", "2 returned 312"]);
    scene.wire.hang_up();
    scene.run(&mut log).unwrap();
    assert_eq!(log[3], "4 unknown");
}

/// Trial T4: it was told as "acked" whatever the broker confirmed.
fn a_confirm_that_the_broker_cannot_give_ends_the_connection() {
    let outcome_of = |publishes: u64, confirm: basic::Ack, unwritten: bool, confirming: bool| {
        let (mut scene, mut log, channel) = with_channel();
        if confirming {
            channel.confirm_select().send().unwrap();
            scene.run(&mut log).unwrap();
        }
        for _ in 0..publishes {
            channel.basic_publish("", "q", "x").then(|log: &mut Log, _, outcome| match outcome {
                Ok(outcome) => log.push(format!("{outcome:?}")),
                Err(Error::Protocol { violation, .. }) => log.push(format!("{:?}", violation.code)),
                Err(error) => log.push(error.to_string()),
            });
        }
        if unwritten {
            scene.wire.room(Some(0));
        } else {
            scene.run(&mut log).unwrap();
        }
        log.clear();
        scene.wire.say(1, confirm);
        scene.run(&mut log).unwrap();
        assert_eq!(scene.connection.is_open(), log.first().is_none_or(|first| first == "Acked"), "{log:?}");
        log.retain(|line| !line.contains("closed"));
        log
    };
    let ack = |delivery_tag, multiple| basic::Ack { delivery_tag, multiple };
    let refused = ["Some(503)"; 10];
    for multiple in [false, true] {
        assert_eq!(outcome_of(10, ack(1000, multiple), false, true), refused, "never published");
        assert_eq!(outcome_of(10, ack(11, multiple), false, true), refused, "the next one");
        assert_eq!(outcome_of(10, ack(10, multiple), true, true), refused, "not written");
    }
    assert_eq!(outcome_of(10, ack(0, false), false, true), refused, "no publish has the number 0");
    assert_eq!(outcome_of(10, ack(0, true), false, true), ["Acked"; 10], "all that are outstanding");
    assert_eq!(outcome_of(10, ack(0, true), true, true), [""; 0], "none is outstanding there");
    assert_eq!(outcome_of(0, ack(1, false), false, false), [""; 0]);
}

/// Trial T4: channel.flow holds publishes back that are numbered already.
fn what_waited_for_the_broker_to_want_content_can_be_confirmed_when_it_is_out() {
    for active in [true, false] {
        let (mut scene, mut log, channel) = with_channel();
        channel.confirm_select().send().unwrap();
        scene.wire.say(1, channel::Flow { active: false });
        scene.run(&mut log).unwrap();
        channel.basic_publish("", "q", "x").then(|log: &mut Log, _, outcome| log.push(format!("{:?}", outcome.ok())));
        scene.run(&mut log).unwrap();
        scene.wire.say(1, channel::Flow { active });
        scene.run(&mut log).unwrap();
        scene.wire.say(1, basic::Ack { delivery_tag: 1, multiple: false });
        scene.run(&mut log).unwrap();
        assert_eq!(log[0], if active { "Some(Acked)" } else { "None" });
        assert_eq!(scene.connection.is_open(), active);
    }
}

/// C10, PR3: the header by which it is known again stands beside the program's own, and the callback of returns is told too.
fn what_comes_back_keeps_its_properties_and_is_told_to_everybody() {
    let (mut scene, mut log, channel) = with_channel();
    channel.confirm_select().send().unwrap();
    channel.add_on_return_callback(|log: &mut Log, _, returned| log.push(format!("back {:?}", returned.body)));
    let properties = BasicProperties::new().content_type("text/plain").header("mine", 7);
    for (body, mandatory) in [("a", true), ("b", false)] {
        let publish = channel.basic_publish("", "q", body).properties(&properties).mandatory(mandatory);
        publish.then(move |log: &mut Log, _, outcome| match outcome.unwrap() {
            PublishOutcome::Returned(returned) => log.push(format!("{body} returned {:?}", returned.body)),
            outcome => log.push(format!("{body} {outcome:?}")),
        });
    }
    channel.confirm_select().send().unwrap();
    scene.run(&mut log).unwrap();
    let octets = scene.wire.heard_octets();
    let headers = octets.windows(12).filter(|window| *window == b"\x0Atext/plain\0").count();
    let mine = octets.windows(5).filter(|window| *window == b"\x04mine").count();
    assert_eq!((headers, mine), (2, 2));
    let name = b"x-pooka-publish";
    let marks: Vec<_> = octets.windows(name.len()).enumerate().filter(|(_, window)| window == name).collect();
    let [(at, _)] = marks[..] else { panic!("only what may come back has a number: {marks:?}") };
    let mark = octets[at + name.len() + 1..][..8].try_into().map(i64::from_be_bytes).unwrap();
    scene.wire.say(1, basic::Return { reply_code: 312, ..Default::default() });
    scene.wire.content(1, &BasicProperties::new().header("x-pooka-publish", mark), b"a", 9);
    scene.wire.say(1, basic::Ack { delivery_tag: 2, multiple: true });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["back b\"a\"", "a returned b\"a\"", "b Acked"], "a second confirm.select changes nothing");
}

/// C4, PR2: whoever closes a channel behind a publish hears what became of it, in each way of asking.
fn confirms_are_told_until_a_closing_channel_is_closed() {
    let (mut scene, mut log, channel) = with_channel();
    channel
        .confirm_delivery(|log: &mut Log, _, confirmation| log.push(format!("{}", confirmation.ack)))
        .send()
        .unwrap();
    for n in 1..=3 {
        channel.basic_publish("", "q", "x").then(move |log: &mut Log, _, outcome| {
            log.push(format!("{n} {:?}", outcome.map_err(|error| error.reply_code())));
        });
    }
    channel.close().send().unwrap();
    scene.run(&mut log).unwrap();
    scene.wire.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    scene.wire.say(1, basic::Nack { delivery_tag: 2, multiple: false, requeue: false });
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    let unknown = log.pop().filter(|line| line.starts_with("channel closed")).and(log.pop());
    assert_eq!(unknown.as_deref(), Some("3 Err(Some(200))"));
    log.sort();
    assert_eq!(log, ["1 Ok(Acked)", "2 Ok(Nacked)", "false", "true"]);
}

fn without_confirm_mode_an_outcome_cannot_be_waited_for() {
    let (mut scene, mut log, channel) = with_channel();
    channel.basic_publish("", "q", "x").then(|log: &mut Log, _, outcome| log.push(outcome.unwrap_err().to_string()));
    scene.run(&mut log).unwrap();
    assert!(log[0].contains("confirm_delivery"), "{log:?}");
    assert_eq!(scene.wire.heard(), []);
}

/// PR17, X2, X3
fn back_pressure_is_told_when_it_begins_and_when_it_ends_and_has_a_limit() {
    let builder = ConnectionParameters::builder().outbound_high_water(1000).outbound_limit(Some(5000));
    let (mut scene, mut log) = scene(builder.build().unwrap());
    scene.connection.add_backpressure_callback(|log: &mut Log, _, octets| log.push((octets > 1000).to_string()));
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    scene.wire.room(Some(0));
    let mut sent = 0;
    let error = loop {
        match channel.basic_publish("", "q", &[0; 100]).send() {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::OutboundFull { limit: 5000, .. }) && sent > 20, "{error:?} behind {sent}");
    scene.run(&mut log).unwrap();
    scene.wire.room(None);
    scene.writable();
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true", "false"]);
    channel.basic_publish("", "q", "x").send().unwrap();
}

/// X1, D9, D10: pika's rule, told once.
fn the_outbound_buffer_may_hold_as_many_average_frames_as_the_program_says() {
    let publishes_until_told = |multiplier: Option<u32>, detection: bool, body: usize| {
        let body = vec![0; body];
        let parameters = ConnectionParameters::builder().backpressure_detection(detection).build().unwrap();
        let (mut scene, mut log) = scene(parameters);
        scene.connection.add_backpressure_callback(|log: &mut Log, _, octets| log.push(octets.to_string()));
        multiplier.into_iter().for_each(|value| scene.connection.set_backpressure_multiplier(value));
        let channel = scene.connection.channel().send().unwrap();
        scene.open_channel(1, &mut log).unwrap();
        for _ in 0..1000 {
            channel.basic_publish("", "q", &body).send().unwrap();
            scene.run(&mut log).unwrap();
        }
        assert_eq!(log, [""; 0], "they were written");
        scene.wire.room(Some(0));
        for n in 1..1000 {
            channel.basic_publish("", "q", &body).send().unwrap();
            scene.run(&mut log).unwrap();
            if !log.is_empty() {
                channel.basic_publish("", "q", &body).send().unwrap();
                scene.run(&mut log).unwrap();
                assert_eq!(log.len(), 1, "told again: {log:?}");
                return n;
            }
        }
        1000
    };
    // A publish is three frames, and those of the handshake are longer.
    assert_eq!(publishes_until_told(None, true, 1000), 4);
    assert_eq!(publishes_until_told(Some(10), true, 1000), 4);
    assert!((99..=101).contains(&publishes_until_told(Some(300), true, 1000)));
    assert_eq!(publishes_until_told(Some(1), false, 1000), 1000);
    // Without a body it is two frames, and what TLS adds to them counts.
    assert!((5..=6).contains(&publishes_until_told(None, true, 0)));
    assert!(!ConnectionParameters::default().backpressure_detection());
}

/// X2
fn who_takes_back_a_backpressure_callback_hears_no_more_of_it() {
    let (mut scene, mut log) = scene(ConnectionParameters::builder().outbound_high_water(10).build().unwrap());
    let told =
        scene.connection.add_backpressure_callback(|log: &mut Log, _, octets| log.push((octets > 0).to_string()));
    scene.wire.room(Some(0));
    scene.connection.channel().send().unwrap();
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true"]);
    assert!(scene.connection.remove_callback(told));
    scene.wire.room(None);
    scene.writable();
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true"]);
}
