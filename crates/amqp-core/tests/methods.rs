//! What each call puts on the wire, with pika's defaults or ours, and what consumers are given; against a scripted peer.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod stories;

use amqp_core::{
    BasicProperties, Channel, ConnectionParameters, Delivery, Error, Message, Result, Table,
    spec::{Method, basic, channel, confirm, connection, exchange, queue, tx},
};
use pooka_testkit::scripted_peer::{Frame, Scene, start};
use std::sync::mpsc;
use stories::{Log, consuming, deliver, logging, with_channel};

stories! {
    exchanges_are_declared_deleted_and_bound
    queues_are_declared_and_bound_by_their_names
    what_was_purged_or_deleted_is_counted
    limits_transactions_and_what_rabbitmq_has_not
    a_consumer_has_its_tag_at_once
    a_cancel_is_answered_for_its_own_consumer
    a_cancel_that_crosses_the_broker_s_is_told_once
    a_cancel_that_wants_an_answer_has_one
    a_consumer_tag_is_free_again_behind_a_cancel_without_an_answer
    what_comes_late_for_a_consumer_without_acknowledgements_is_not_rejected
    several_gets_are_answered_in_their_order
    a_publish_says_what_it_was_told_and_nothing_else
    deliveries_are_settled_by_their_tags
    what_is_recovered_is_requeued
    confirm_mode_needs_a_broker_that_knows_it
    nobody_waits_for_what_is_only_sent
    a_consumer_is_given_all_that_is_known_of_a_message
    deliveries_in_front_of_consume_ok_come_in_order
    a_consumer_is_not_entered_again_whatever_it_does
    each_consumer_has_its_own_messages
    a_delivery_that_nobody_consumes_goes_back
}

/// What these calls have sent on channel 1.
fn sent(scene: &mut Scene<Log>, log: &mut Log) -> Vec<Method> {
    scene.run(log).unwrap();
    scene.wire.heard_methods().into_iter().map(|(_, method)| method).collect()
}

fn arguments() -> Table {
    Table::new().with("x", 1)
}

/// M1, M2, M3
fn exchanges_are_declared_deleted_and_bound() {
    let (mut scene, mut log, channel) = with_channel();
    channel.exchange_declare("e").then(|_: &mut Log, _, _| ());
    let declare = channel.exchange_declare("e").exchange_type("topic").passive(true).durable(false).auto_delete(true);
    declare.internal(true).arguments(arguments()).then(|_: &mut Log, _, _| ());
    channel.exchange_delete("e").then(|_: &mut Log, _, _| ());
    channel.exchange_delete("e").if_unused(true).then(|_: &mut Log, _, _| ());
    channel.exchange_bind("to", "from").then(|_: &mut Log, _, _| ());
    let unbind = channel.exchange_unbind("to", "from").routing_key("k").arguments(arguments());
    unbind.then(|log: &mut Log, _, unbound| log.push(unbound.is_ok().to_string()));
    let declare =
        exchange::Declare { exchange: "e".into(), exchange_type: "direct".into(), durable: true, ..Default::default() };
    let other = exchange::Declare {
        exchange_type: "topic".into(),
        passive: true,
        durable: false,
        auto_delete: true,
        internal: true,
        arguments: arguments(),
        ..declare.clone()
    };
    let delete = exchange::Delete { exchange: "e".into(), ..Default::default() };
    let bind = exchange::Bind { destination: "to".into(), source: "from".into(), ..Default::default() };
    let unbind = exchange::Unbind {
        destination: "to".into(),
        source: "from".into(),
        routing_key: "k".into(),
        arguments: arguments(),
        ..Default::default()
    };
    let expected: [Method; 6] = [
        declare.into(),
        other.into(),
        delete.clone().into(),
        exchange::Delete { if_unused: true, ..delete }.into(),
        bind.into(),
        unbind.into(),
    ];
    assert_eq!(sent(&mut scene, &mut log), expected);
    for ok in [exchange::DeclareOk {}, exchange::DeclareOk {}] {
        scene.wire.say(1, ok);
    }
    for ok in [exchange::DeleteOk {}, exchange::DeleteOk {}] {
        scene.wire.say(1, ok);
    }
    scene.wire.say(1, exchange::BindOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log, [""; 0]);
    // exchange.unbind-ok is (40, 51), and not the 41 that it would be if methods were numbered in order.
    scene.wire.frame(1, 1, &[0, 40, 0, 51]);
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true"]);
}

/// M4, M5, M6: the routing key is the queue's name unless another is given.
fn queues_are_declared_and_bound_by_their_names() {
    let (mut scene, mut log, channel) = with_channel();
    channel.queue_declare("q").then(|_: &mut Log, _, _| ());
    channel.queue_declare("").then(|_: &mut Log, _, _| ());
    let declare = channel.queue_declare("q").passive(true).durable(false).exclusive(true).auto_delete(true);
    declare.arguments(arguments()).then(|_: &mut Log, _, _| ());
    channel.queue_bind("q", "e").then(|_: &mut Log, _, _| ());
    channel.queue_bind("q", "e").routing_key("").arguments(arguments()).then(|_: &mut Log, _, _| ());
    channel.queue_unbind("q", "e").then(|_: &mut Log, _, _| ());
    channel.queue_unbind("q", "e").routing_key("k").arguments(arguments()).then(|_: &mut Log, _, _| ());
    let named = queue::Declare { queue: "q".into(), durable: true, ..Default::default() };
    let unnamed = queue::Declare { exclusive: true, ..Default::default() };
    let other = queue::Declare {
        queue: "q".into(),
        passive: true,
        exclusive: true,
        auto_delete: true,
        arguments: arguments(),
        ..Default::default()
    };
    let (q, e) = ("q", "e");
    let bind = queue::Bind { queue: q.into(), exchange: e.into(), routing_key: q.into(), ..Default::default() };
    let unbind = queue::Unbind { queue: q.into(), exchange: e.into(), routing_key: q.into(), ..Default::default() };
    let expected: [Method; 7] = [
        named.into(),
        unnamed.into(),
        other.into(),
        bind.clone().into(),
        queue::Bind { routing_key: "".into(), arguments: arguments(), ..bind }.into(),
        unbind.clone().into(),
        queue::Unbind { routing_key: "k".into(), arguments: arguments(), ..unbind }.into(),
    ];
    assert_eq!(sent(&mut scene, &mut log), expected);
    let nameless = channel.queue_declare("").send().unwrap_err();
    assert!(matches!(nameless, Error::Invalid(_)), "nobody would know its name: {nameless}");
}

/// M7, M8
fn what_was_purged_or_deleted_is_counted() {
    let (mut scene, mut log, channel) = with_channel();
    channel.queue_purge("q").then(|log: &mut Log, _, ok| log.push(ok.unwrap().message_count.to_string()));
    channel.queue_delete("q").then(|log: &mut Log, _, ok| log.push(ok.unwrap().message_count.to_string()));
    channel.queue_delete("q").if_unused(true).if_empty(true).then(|_: &mut Log, _, _| ());
    let delete = queue::Delete { queue: "q".into(), ..Default::default() };
    let expected: [Method; 3] = [
        queue::Purge { queue: "q".into(), ..Default::default() }.into(),
        delete.clone().into(),
        queue::Delete { if_unused: true, if_empty: true, ..delete }.into(),
    ];
    assert_eq!(sent(&mut scene, &mut log), expected);
    scene.wire.say(1, queue::PurgeOk { message_count: 3 });
    scene.wire.say(1, queue::DeleteOk { message_count: 4 });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["3", "4"]);
}

/// M9, M17, M18: there is no way to ask for what would end the connection.
fn limits_transactions_and_what_rabbitmq_has_not() {
    let (mut scene, mut log, channel) = with_channel();
    channel.basic_qos(7).then(|log: &mut Log, _, ok| log.push(format!("{}", ok.is_ok())));
    channel.basic_qos(9).global(true).then(|_: &mut Log, _, _| ());
    channel.tx_select().then(|_: &mut Log, _, _| ());
    channel.tx_commit().then(|_: &mut Log, _, _| ());
    channel.tx_rollback().then(|log: &mut Log, _, ok| log.push(format!("rolled back {}", ok.is_ok())));
    channel.flow(true).then(|log: &mut Log, _, ok| log.push(format!("flow {}", ok.unwrap().active)));
    let expected: [Method; 6] = [
        basic::Qos { prefetch_size: 0, prefetch_count: 7, global: false }.into(),
        basic::Qos { prefetch_size: 0, prefetch_count: 9, global: true }.into(),
        tx::Select {}.into(),
        tx::Commit {}.into(),
        tx::Rollback {}.into(),
        channel::Flow { active: true }.into(),
    ];
    assert_eq!(sent(&mut scene, &mut log), expected);
    let oks: [Method; 6] = [
        basic::QosOk {}.into(),
        basic::QosOk {}.into(),
        tx::SelectOk {}.into(),
        tx::CommitOk {}.into(),
        tx::RollbackOk {}.into(),
        channel::FlowOk { active: true }.into(),
    ];
    oks.into_iter().for_each(|ok| scene.wire.say(1, ok));
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true", "rolled back true", "flow true"]);
    channel.flow(false).then(|log: &mut Log, _, ok| log.push(ok.unwrap_err().to_string()));
    assert_eq!(sent(&mut scene, &mut log), []);
    let refused = "RabbitMQ does not implement channel.flow with active=false and would close the connection";
    assert_eq!(log[3], format!("{refused}; nothing was sent"));
}

/// M10, N11: as pika makes them, and never twice.
fn a_consumer_has_its_tag_at_once() {
    let (mut scene, mut log, channel) = with_channel();
    let tags = [1, 2].map(|_| channel.basic_consume("q").on_message(logging).send().unwrap());
    assert_eq!(tags, ["ctag1.1", "ctag1.2"]);
    let consume = channel.basic_consume("q").consumer_tag("mine").no_ack(true).no_local(true).exclusive(true);
    assert_eq!(consume.arguments(arguments()).on_message(logging).then(|_: &mut Log, _, _| ()), "mine");
    let again = channel.basic_consume("q").consumer_tag("mine").on_message(logging).send();
    assert!(matches!(again, Err(Error::Invalid(_))), "{again:?}");
    let first =
        basic::Consume { queue: "q".into(), consumer_tag: "ctag1.1".into(), nowait: true, ..Default::default() };
    let second = basic::Consume { consumer_tag: "ctag1.2".into(), ..first.clone() };
    let mine = basic::Consume {
        consumer_tag: "mine".into(),
        no_ack: true,
        no_local: true,
        exclusive: true,
        nowait: false,
        arguments: arguments(),
        ..first.clone()
    };
    assert_eq!(sent(&mut scene, &mut log), [first.into(), second.into(), mine.into()]);
    // It is in use until its cancel is answered.
    scene.wire.say(1, basic::ConsumeOk { consumer_tag: "mine".into() });
    scene.run(&mut log).unwrap();
    channel.basic_cancel("mine").then(|_: &mut Log, _, _| ());
    assert!(channel.basic_consume("q").consumer_tag("mine").on_message(logging).send().is_err());
    scene.wire.say(1, basic::CancelOk { consumer_tag: "mine".into() });
    scene.run(&mut log).unwrap();
    assert!(channel.basic_consume("q").consumer_tag("mine").on_message(logging).send().is_ok());
}

/// M11: pika called everybody for every cancel-ok.
fn a_cancel_is_answered_for_its_own_consumer() {
    let (mut scene, mut log, channel) = consuming();
    channel.basic_consume("q").consumer_tag("d").on_message(logging).send().unwrap();
    for tag in ["c", "d"] {
        channel.basic_cancel(tag).then(move |log: &mut Log, _, ok| {
            log.push(format!("{tag}: {}", ok.unwrap().consumer_tag));
        });
    }
    channel.basic_consume("q").consumer_tag("e").on_message(logging).send().unwrap();
    channel.basic_cancel("nobody").send().unwrap();
    assert_eq!(channel.consumer_tags(), ["e"]);
    scene.run(&mut log).unwrap();
    scene.wire.say(1, basic::CancelOk { consumer_tag: "d".into() });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["d: d"]);
    scene.wire.say(1, basic::CancelOk { consumer_tag: "c".into() });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["d: d", "c: c"]);
    deliver(&scene, 1, "e", 1, b"x", 9);
    scene.run(&mut log).unwrap();
    assert_eq!(log[2..], [format!("e 1 {:?}", b"x")]);
}

/// N6: by its own answer.
fn a_cancel_that_crosses_the_broker_s_is_told_once() {
    let (mut scene, mut log, channel) = consuming();
    channel.add_on_cancel_callback(|log: &mut Log, _, tag| log.push(format!("the broker cancelled {tag}")));
    channel.basic_cancel("c").then(|log: &mut Log, _, ok| log.push(format!("cancelled {}", ok.is_ok())));
    scene.run(&mut log).unwrap();
    scene.wire.say(1, basic::Cancel { consumer_tag: "c".into(), nowait: true });
    scene.wire.say(1, basic::CancelOk { consumer_tag: "c".into() });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["cancelled true"]);
    assert!(channel.is_open() && !channel.is_consuming());
}

/// N6: RabbitMQ wants none.
fn a_cancel_that_wants_an_answer_has_one() {
    let (mut scene, mut log, channel) = consuming();
    channel.add_on_cancel_callback(|_: &mut Log, _, _| ());
    scene.wire.say(1, basic::Cancel { consumer_tag: "c".into(), nowait: false });
    assert_eq!(sent(&mut scene, &mut log), [basic::CancelOk { consumer_tag: "c".into() }.into()]);
}

/// M10, M11: whoever has it now is given the messages.
fn a_consumer_tag_is_free_again_behind_a_cancel_without_an_answer() {
    let (mut scene, mut log, channel) = consuming();
    for n in 1..=2 {
        channel.basic_cancel("c").send().unwrap();
        let on_message = move |log: &mut Log, _: &Channel<Log>, _: Delivery<'_>| log.push(n.to_string());
        channel.basic_consume("q").consumer_tag("c").on_message(on_message).send().unwrap();
        deliver(&scene, 1, "c", n, b"x", 9);
        scene.run(&mut log).unwrap();
    }
    assert_eq!(log, ["1", "2"]);
    assert_eq!(channel.consumer_tags(), ["c"]);
}

/// N5, N10: the broker does not know its tags, and would close the channel.
fn what_comes_late_for_a_consumer_without_acknowledgements_is_not_rejected() {
    type End = fn(&Scene<Log>, &Channel<Log>);
    let ends: [(&str, End); 3] = [
        ("answered", |scene, channel| {
            channel.basic_cancel("n").then(|_: &mut Log, _, _| ());
            deliver(scene, 1, "n", 9, b"x", 9);
            scene.wire.say(1, basic::CancelOk { consumer_tag: "n".into() });
        }),
        ("not to be answered", |_, channel| channel.basic_cancel("n").send().unwrap()),
        ("the broker's", |scene, _| scene.wire.say(1, basic::Cancel { consumer_tag: "n".into(), nowait: true })),
    ];
    for (name, end) in ends {
        let (mut scene, mut log, channel) = consuming();
        channel.add_on_cancel_callback(|_: &mut Log, _, _| ());
        for _ in 0..2 {
            let consume = channel.basic_consume("q").consumer_tag("n").no_ack(true).on_message(logging);
            consume.send().unwrap();
            scene.run(&mut log).unwrap();
            deliver(&scene, 1, "n", 1, b"x", 9);
            scene.run(&mut log).unwrap();
            end(&scene, &channel);
            deliver(&scene, 1, "n", 2, b"x", 9);
            scene.run(&mut log).unwrap();
            deliver(&scene, 1, "n", 3, b"x", 9);
            scene.run(&mut log).unwrap();
        }
        assert_eq!(log, [1, 1].map(|tag| format!("n {tag} {:?}", b"x")), "{name}");
        let said = scene.wire.heard_methods();
        assert!(said.iter().all(|(_, method)| method.name() != "basic.reject"), "{name}: {said:?}");
    }
}

/// M12: a second one does not replace the first.
fn several_gets_are_answered_in_their_order() {
    let (mut scene, mut log, channel) = with_channel();
    for (n, no_ack) in [(1, false), (2, true), (3, false)] {
        channel.basic_get("q").no_ack(no_ack).then(move |log: &mut Log, _, got: Result<Option<Message>>| {
            log.push(format!("{n} {:?}", got.unwrap().map(|message| message.body)));
        });
    }
    let get = basic::Get { queue: "q".into(), ..Default::default() };
    let no_ack = basic::Get { no_ack: true, ..get.clone() };
    assert_eq!(sent(&mut scene, &mut log), [get.clone().into(), no_ack.into(), get.into()]);
    scene.wire.say(1, basic::GetEmpty::default());
    for (tag, body) in [(1, b"a"), (2, b"b")] {
        scene.wire.say(1, basic::GetOk { delivery_tag: tag, ..Default::default() });
        scene.wire.content(1, &BasicProperties::new(), body, 9);
    }
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["1 None", "2 Some(b\"a\")", "3 Some(b\"b\")"]);
}

/// M13: text is UTF-8, and basic.publish's `immediate`, which ends the connection, cannot be set.
fn a_publish_says_what_it_was_told_and_nothing_else() {
    let (mut scene, mut log, channel) = with_channel();
    channel.basic_publish("", "q", "é").send().unwrap();
    channel.basic_publish("e", "k", &[0xFF; 3]).mandatory(true).send().unwrap();
    scene.run(&mut log).unwrap();
    let plain = basic::Publish { routing_key: "q".into(), ..Default::default() };
    let mandatory =
        basic::Publish { exchange: "e".into(), routing_key: "k".into(), mandatory: true, ..Default::default() };
    let expected = [
        Frame::Method(1, plain.into()),
        Frame::Content(1, 2),
        Frame::Body(1, vec![0xC3, 0xA9]),
        Frame::Method(1, mandatory.into()),
        Frame::Content(1, 3),
        Frame::Body(1, vec![0xFF; 3]),
    ];
    assert_eq!(scene.wire.heard(), expected);
}

/// M14: at once, and never behind requests that wait.
fn deliveries_are_settled_by_their_tags() {
    let (mut scene, mut log, channel) = with_channel();
    let (told, hear) = mpsc::channel();
    let on_message = move |_: &mut Log, _: &Channel<Log>, delivery: Delivery<'_>| {
        told.send(delivery.delivery_tag).unwrap();
    };
    channel.basic_consume("q").consumer_tag("c").on_message(on_message).send().unwrap();
    scene.run(&mut log).unwrap();
    (1..=6).for_each(|tag| deliver(&scene, 1, "c", tag, b"x", 9));
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    let tags: Vec<_> = hear.try_iter().collect();
    channel.queue_declare("q").then(|_: &mut Log, _, _| ());
    channel.basic_ack(tags[0]).unwrap();
    channel.basic_ack_multiple(tags[1]).unwrap();
    channel.basic_nack(tags[2], false, true).unwrap();
    channel.basic_nack(tags[3], true, false).unwrap();
    channel.basic_reject(tags[4], true).unwrap();
    channel.basic_reject(tags[5], false).unwrap();
    let expected: [Method; 6] = [
        basic::Ack { delivery_tag: 1, multiple: false }.into(),
        basic::Ack { delivery_tag: 2, multiple: true }.into(),
        basic::Nack { delivery_tag: 3, multiple: false, requeue: true }.into(),
        basic::Nack { delivery_tag: 4, multiple: true, requeue: false }.into(),
        basic::Reject { delivery_tag: 5, requeue: true }.into(),
        basic::Reject { delivery_tag: 6, requeue: false }.into(),
    ];
    assert_eq!(sent(&mut scene, &mut log)[1..], expected);
}

/// M15, D13: RabbitMQ ends the connection of who asks for anything else.
fn what_is_recovered_is_requeued() {
    let (mut scene, mut log, channel) = with_channel();
    channel.basic_recover().then(|log: &mut Log, _, recovered| log.push(recovered.is_ok().to_string()));
    assert_eq!(sent(&mut scene, &mut log), [basic::Recover { requeue: true }.into()]);
    scene.wire.say(1, basic::RecoverOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true"]);
}

/// M16: and the last callback is the one that is told.
fn confirm_mode_needs_a_broker_that_knows_it() {
    let (mut scene, mut log, channel) = with_channel();
    channel.confirm_delivery(|log: &mut Log, _, _| log.push("first".into())).send().unwrap();
    channel.confirm_delivery(|log: &mut Log, _, _| log.push("second".into())).then(|_: &mut Log, _, _| ());
    let select = |nowait| Method::from(confirm::Select { nowait });
    assert_eq!(sent(&mut scene, &mut log), [select(true), select(false)]);
    channel.basic_publish("", "q", "a message to be confirmed").send().unwrap();
    scene.run(&mut log).unwrap();
    scene.wire.say(1, confirm::SelectOk {});
    channel.basic_publish("", "q", "x").send().unwrap();
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    scene.wire.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["second"]);

    for offered in [vec![], vec!["publisher_confirms"], vec!["basic.nack"]] {
        let capabilities: Table = offered.into_iter().map(|name| (name, true)).collect();
        let server_properties = Table::new().with("capabilities", capabilities);
        let mut log = Log::new();
        let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut Log, _, _| ());
        scene.run(&mut log).unwrap();
        scene.wire.say(0, connection::Start { server_properties, ..start() });
        scene.wire.say(0, connection::Tune { channel_max: 9, frame_max: 4096, heartbeat: 0 });
        scene.wire.say(0, connection::OpenOk::default());
        scene.run(&mut log).unwrap();
        let channel = scene.connection.channel().send().unwrap();
        scene.open_channel(1, &mut log).unwrap();
        scene.wire.heard();
        let refused = "the broker does not offer publisher confirms; nothing was sent";
        assert_eq!(channel.confirm_select().send().unwrap_err().to_string(), refused);
        let confirm = channel.confirm_delivery(|_: &mut Log, _, _| ());
        confirm.then(|log: &mut Log, _, selected| log.push(selected.unwrap_err().to_string()));
        assert_eq!(sent(&mut scene, &mut log), []);
        assert_eq!(log, [refused]);
        assert!(channel.is_open() && !channel.is_confirming());
    }
}

/// M19
fn nobody_waits_for_what_is_only_sent() {
    let (mut scene, mut log, channel) = with_channel();
    channel.queue_declare("q").send().unwrap();
    channel.queue_bind("q", "e").send().unwrap();
    channel.queue_purge("q").send().unwrap();
    channel.queue_delete("q").send().unwrap();
    channel.exchange_declare("e").send().unwrap();
    channel.exchange_delete("e").send().unwrap();
    channel.exchange_bind("e", "f").send().unwrap();
    channel.exchange_unbind("e", "f").send().unwrap();
    channel.basic_cancel("nobody").send().unwrap();
    channel.confirm_select().send().unwrap();
    let nowait = |method: &Method| match method {
        Method::Queue(queue::Method::Declare(m)) => m.nowait,
        Method::Queue(queue::Method::Bind(m)) => m.nowait,
        Method::Queue(queue::Method::Purge(m)) => m.nowait,
        Method::Queue(queue::Method::Delete(m)) => m.nowait,
        Method::Exchange(exchange::Method::Declare(m)) => m.nowait,
        Method::Exchange(exchange::Method::Delete(m)) => m.nowait,
        Method::Exchange(exchange::Method::Bind(m)) => m.nowait,
        Method::Exchange(exchange::Method::Unbind(m)) => m.nowait,
        Method::Basic(basic::Method::Cancel(m)) => m.nowait,
        Method::Confirm(confirm::Method::Select(m)) => m.nowait,
        other => panic!("{other:?}"),
    };
    let methods = sent(&mut scene, &mut log);
    assert_eq!((methods.len(), methods.iter().all(nowait)), (10, true), "{methods:?}");
    // The next reply is for the next who waits. What has no nowait is answered, and nobody is told.
    channel.basic_qos(1).send().unwrap();
    channel.queue_declare("r").then(|log: &mut Log, _, ok| log.push(ok.unwrap().queue.to_string()));
    scene.wire.say(1, basic::QosOk {});
    scene.wire.say(1, queue::DeclareOk { queue: "r".into(), ..Default::default() });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["r"]);
}

/// N1, D15: and the body is octets, whatever they may mean.
fn a_consumer_is_given_all_that_is_known_of_a_message() {
    let (mut scene, mut log, channel) = with_channel();
    let on_message = |log: &mut Log, channel: &Channel<Log>, delivery: Delivery<'_>| {
        let owned = delivery.to_owned();
        assert_eq!((channel.channel_number(), &owned.body[..]), (1, delivery.body));
        assert_eq!(owned.properties.content_type.unwrap(), "text/plain");
        assert_eq!(*owned.consumer_tag, "c");
        log.push(format!(
            "{} {} {} {} {} {:?}",
            delivery.consumer_tag,
            delivery.delivery_tag,
            delivery.redelivered,
            delivery.exchange,
            delivery.routing_key,
            delivery.body
        ));
    };
    channel.basic_consume("q").consumer_tag("c").on_message(on_message).send().unwrap();
    scene.run(&mut log).unwrap();
    for (redelivered, body) in [(false, &[0xC3, 0xA9][..]), (true, &[0xFF])] {
        scene.wire.say(
            1,
            basic::Deliver {
                consumer_tag: "c".into(),
                delivery_tag: 7,
                redelivered,
                exchange: "e".into(),
                routing_key: "k".into(),
            },
        );
        scene.wire.content(1, &BasicProperties::new().content_type("text/plain"), body, 9);
    }
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["c 7 false e k [195, 169]", "c 7 true e k [255]"]);
}

/// N2
fn deliveries_in_front_of_consume_ok_come_in_order() {
    let (mut scene, mut log, channel) = with_channel();
    let consume = channel.basic_consume("q").consumer_tag("c").on_message(logging);
    consume.then(|log: &mut Log, _, ok| log.push(ok.unwrap().consumer_tag.to_string()));
    scene.run(&mut log).unwrap();
    deliver(&scene, 1, "c", 1, b"x", 9);
    deliver(&scene, 1, "c", 2, b"x", 9);
    scene.wire.say(1, basic::ConsumeOk { consumer_tag: "c".into() });
    deliver(&scene, 1, "c", 3, b"x", 9);
    scene.run(&mut log).unwrap();
    log.retain(|line| line != "c");
    assert_eq!(log, [1, 2, 3].map(|tag| format!("c {tag} {:?}", b"x")));
}

/// N3: neither by what it asks for nor by what has come meanwhile.
fn a_consumer_is_not_entered_again_whatever_it_does() {
    let (mut scene, mut log, channel) = with_channel();
    let on_message = |log: &mut Log, channel: &Channel<Log>, delivery: Delivery<'_>| -> Result<()> {
        log.push(format!("begin {}", delivery.delivery_tag));
        channel.queue_declare("q").then(|log: &mut Log, _, _| log.push("declared".into()));
        channel.basic_publish("", "q", "x").send()?;
        channel.basic_ack(delivery.delivery_tag)?;
        channel.connection().ioloop().post(|log: &mut Log| log.push("posted".into()));
        log.push("end".into());
        Ok(())
    };
    channel.basic_consume("q").consumer_tag("c").on_message(on_message).send().unwrap();
    scene.run(&mut log).unwrap();
    for tag in 1..=2 {
        deliver(&scene, 1, "c", tag, b"x", 9);
    }
    scene.run(&mut log).unwrap();
    (1..=2).for_each(|_| scene.wire.say(1, queue::DeclareOk::default()));
    scene.run(&mut log).unwrap();
    let at = |line: &str| log.iter().position(|other| other == line).unwrap();
    for begin in ["begin 1", "begin 2"] {
        assert_eq!(log[at(begin) + 1], "end", "{log:?}");
    }
    assert!(at("begin 1") < at("begin 2"), "{log:?}");
    assert_eq!(log.len(), 8, "{log:?}");
}

/// N4
fn each_consumer_has_its_own_messages() {
    let (mut scene, mut log, channel) = with_channel();
    for tag in ["a", "b", "c"] {
        let on_message = move |log: &mut Log, _: &Channel<Log>, delivery: Delivery<'_>| {
            assert_eq!(delivery.consumer_tag.to_string(), tag);
            log.push(format!("{tag} {}", delivery.delivery_tag));
        };
        channel.basic_consume("q").consumer_tag(tag).on_message(on_message).send().unwrap();
    }
    scene.run(&mut log).unwrap();
    for (n, tag) in [(1, "c"), (2, "a"), (3, "b"), (4, "c"), (5, "c"), (6, "a")] {
        deliver(&scene, 1, tag, n, b"x", 9);
    }
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["c 1", "a 2", "b 3", "c 4", "c 5", "a 6"]);
}

/// N10, D6
fn a_delivery_that_nobody_consumes_goes_back() {
    let (mut scene, mut log, channel) = consuming();
    deliver(&scene, 1, "nobody", 1, b"x", 9);
    deliver(&scene, 1, "c", 2, b"x", 9);
    let expected = basic::Reject { delivery_tag: 1, requeue: true };
    assert_eq!(sent(&mut scene, &mut log), [expected.into()]);
    assert_eq!(log, [format!("c 2 {:?}", b"x")]);
    assert!(channel.is_open());
}
