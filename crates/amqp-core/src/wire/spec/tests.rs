//! The table against the specification: octets, flags, names and replies, as RabbitMQ has them.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::wire::codec::tests::{Choices, Choose};

/// Values that tell the arguments of a method apart.
trait Sample: Sized {
    /// A value for the argument `name`, the `place`th of its method.
    fn sample(name: &str, place: usize) -> Self;
}

macro_rules! sample {
    ($($Type:ty: $name:ident, $place:ident => $value:expr;)*) => { $(
        impl Sample for $Type {
            fn sample($name: &str, $place: usize) -> Self {
                $value
            }
        }
    )* };
}

sample! {
    u8: _name, place => 0x10 + place as Self;
    u16: _name, place => 0x1110 + place as Self;
    u32: _name, place => 0x1111_1110 + place as Self;
    u64: _name, place => 0x1111_1111_1111_1110 + place as Self;
    bool: _name, _place => true;
    ShortString: name, _place => name.into();
    LongString: name, _place => name.into();
    Secret: name, _place => name.into();
    Table: name, place => Self::new().with(name, place as i64);
}

macro_rules! test_methods {
    ($(
        $(#[$class_doc:meta])*
        $class:ident $Class:ident $class_number:literal { $(
            $(#[$doc:meta])*
            $name:literal $Name:ident = $number:literal $(-> $Reply:ident $(| $Empty:ident)?)? $($content:ident)? {
                $(_ : $reserved:ty,)?
                $(
                    $(#[$field_doc:meta])*
                    $field:ident : $Type:ident $(. $option:ident)? $(= $default:expr)?,
                )*
            } $(request { $($request:tt)* })?
        )* }
    )*) => {
        #[allow(unused_mut, unused_variables, unused_assignments)]
        fn one_of_each() -> Vec<Method> {
            vec![$($({
                let mut place = 0;
                $class::$Name { $($field: { place += 1; Sample::sample(stringify!($field), place) }),* }.into()
            }),*),*]
        }

        fn the_defaults() -> Vec<Method> {
            vec![$($($class::$Name::default().into()),*),*]
        }

        /// For each flag of each method its name, and the method with only that flag set.
        fn one_of_each_flag() -> Vec<(&'static str, Method)> {
            let mut methods = Vec::new();
            $($($({
                let mut arguments = $class::$Name::default();
                if raise(&mut arguments.$field) {
                    methods.push((stringify!($field), arguments.into()));
                }
            })*)*)*
            methods
        }

        #[allow(unused_variables)]
        fn chosen_method(choices: &mut Choices<'_>) -> Method {
            let ways: &[fn(&mut Choices<'_>) -> Method] =
                &[$($(|choices| $class::$Name { $($field: Choose::choose(choices)),* }.into()),*),*];
            ways.get(usize::from(choices.octet()) % ways.len()).unwrap()(choices)
        }

        /// Every method's name, with that of its reply.
        fn replies() -> Vec<(&'static str, Option<&'static str>)> {
            vec![$($(($class::$Name::NAME, None $(.or(Some($class::$Reply::NAME)))?)),*),*]
        }
    };
}

crate::every_method!([test_methods]);

fn raise(argument: &mut dyn std::any::Any) -> bool {
    argument.downcast_mut().map(|flag: &mut bool| *flag = true).is_some()
}

fn encoded(method: &Method) -> Vec<u8> {
    let mut octets = Vec::new();
    method.put(&mut octets).unwrap();
    octets
}

#[test]
fn every_method_survives_the_wire() {
    for method in one_of_each().into_iter().chain(the_defaults()) {
        assert_eq!(Method::get(&encoded(&method)), Ok(method));
    }
}

/// D-9
#[test]
fn every_method_is_what_rabbitmq_makes_of_it() {
    let mut expected = HashMap::<_, String>::new();
    let mut name = "";
    for word in AS_RABBITMQ_DOES.split_whitespace() {
        if word.contains('.') {
            name = word;
        }
        expected.entry(name).or_default().push_str(if word == name { "" } else { word });
    }
    assert_eq!(expected.len(), one_of_each().len());
    for method in one_of_each() {
        let hex: String = encoded(&method).iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(Some(&hex), expected.get(method.name()), "{}", method.name());
    }
}

#[test]
fn every_flag_has_its_bit() {
    let mut flags = one_of_each_flag().into_iter();
    for line in FLAGS.trim().lines() {
        let (name, expected) = line.trim().split_once(' ').unwrap();
        for (bit, flag) in expected.split(' ').enumerate() {
            let (raised, method) = flags.next().unwrap();
            assert_eq!((method.name(), raised), (name, flag));
            let default = the_defaults().into_iter().find(|default| default.id() == method.id()).unwrap();
            let difference: Vec<u8> = encoded(&method)
                .iter()
                .zip(encoded(&default))
                .map(|(a, b)| a ^ b)
                .filter(|&octet| octet != 0)
                .collect();
            assert_eq!(difference, [1 << bit], "{name} {flag}");
            assert_eq!(Method::get(&encoded(&method)), Ok(method));
        }
    }
    assert_eq!(flags.next(), None);
}

#[test]
fn a_method_cut_anywhere_is_an_error() {
    for method in one_of_each() {
        let octets = encoded(&method);
        for end in 0..octets.len() {
            let code = Method::get(octets.get(..end).unwrap()).map_err(|violation| violation.code);
            assert_eq!(code, Err(Some(reply_code::SYNTAX_ERROR)), "{} cut at {end}", method.name());
        }
    }
}

#[test]
fn octets_behind_the_arguments_are_an_error() {
    for method in one_of_each() {
        let octets = [encoded(&method), vec![0]].concat();
        let code = Method::get(&octets).map_err(|violation| violation.code);
        assert_eq!(code, Err(Some(reply_code::SYNTAX_ERROR)), "{}", method.name());
    }
}

#[test]
fn an_unknown_method_is_an_invalid_command() {
    for octets in [[0, 10, 0, 12], [0, 40, 0, 41], [0, 61, 0, 10], [0, 0, 0, 0], [0xff; 4]] {
        let code = Method::get(&octets).map_err(|violation| violation.code);
        assert_eq!(code, Err(Some(reply_code::COMMAND_INVALID)));
    }
}

/// D-9
#[test]
fn every_method_has_a_number_and_a_name_of_its_own() {
    let methods = one_of_each();
    assert_eq!(methods.iter().map(Method::id).collect::<HashSet<_>>().len(), methods.len());
    assert_eq!(methods.iter().map(Method::name).collect::<HashSet<_>>().len(), methods.len());
    assert!(methods.iter().all(|method| method.id().name() == Some(method.name())));
    let id = queue::DeclareOk::ID;
    assert_eq!((id.to_string().as_str(), id.name()), ("50.11", Some("queue.declare-ok")));
    assert_eq!(MethodId { class: 50, method: 12 }.name(), None);
    assert_eq!(basic::CLASS, 60);
}

#[test]
fn every_request_is_answered_with_its_ok() {
    for (name, reply) in replies() {
        let ok = format!("{name}-ok");
        let expected = replies().into_iter().map(|(name, _)| name).find(|&name| name == ok);
        assert_eq!(reply, expected);
    }
}

#[test]
fn a_method_turns_into_the_enum_and_back() {
    let declared = queue::DeclareOk { queue: "q".into(), message_count: 1, consumer_count: 2 };
    let method = Method::from(declared.clone());
    assert_eq!(queue::DeclareOk::try_from(method.clone()), Ok(declared));
    assert_eq!(queue::BindOk::try_from(method.clone()), Err(method));
    assert_eq!(Method::from(tx::Method::Select(tx::Select {})).id(), tx::Select::ID);
}

#[test]
fn nowait_is_set_where_amqp_has_it() {
    let mut declare = queue::Declare::default();
    assert!(declare.set_nowait() && declare.nowait);
    assert!(exchange::Bind::default().set_nowait() && basic::Consume::default().set_nowait());
    assert!(!queue::Unbind::default().set_nowait() && !tx::Commit::default().set_nowait());
}

#[test]
fn the_reserved_ticket_is_zero_and_is_not_read() {
    assert_eq!(encoded(&queue::Purge::default().into()), [0, 50, 0, 30, 0, 0, 0, 0]);
    assert_eq!(Method::get(&[0, 50, 0, 30, 0xff, 0xff, 0, 0]), Ok(queue::Purge::default().into()));
}

#[test]
fn four_methods_carry_content() {
    let names: Vec<_> = one_of_each().iter().filter(|method| method.has_content()).map(Method::name).collect();
    assert_eq!(names, ["basic.publish", "basic.return", "basic.deliver", "basic.get-ok"]);
}

#[test]
fn arguments_are_found_by_name() {
    let method = Method::from(basic::CancelOk { consumer_tag: "tag".into() });
    assert_eq!(method.argument("consumer_tag"), Some(Value::from("tag")));
    assert_eq!(method.argument("queue"), None);
    let secret = connection::SecureOk { response: "hunter2".into() };
    assert_eq!(Method::from(secret).argument("response"), None);
}

/// D-11
#[test]
fn a_method_is_shown_with_its_arguments_and_equals_what_has_the_same() {
    let deliver = basic::Deliver { consumer_tag: "c".into(), delivery_tag: 7, ..Default::default() };
    let shown = format!("{:?}", Method::from(deliver.clone()));
    assert!(shown.contains("Deliver {") && shown.contains("consumer_tag: \"c\"") && shown.contains("delivery_tag: 7"));
    assert_eq!(deliver, deliver.clone());
    assert_ne!(deliver, basic::Deliver { redelivered: true, ..deliver.clone() });
    for method in one_of_each() {
        assert!(!format!("{method:?}").is_empty());
    }
}

#[test]
fn a_login_is_never_shown() {
    for method in one_of_each() {
        let secret = match method.name() {
            "connection.start-ok" | "connection.secure-ok" => "\"response\"",
            "connection.update-secret" => "\"new_secret\"",
            _ => continue,
        };
        let shown = format!("{method:?}");
        assert!(shown.contains("[redacted]") && !shown.contains(secret), "{shown}");
    }
}

/// Faults 11, PR19.
#[test]
fn what_cannot_be_sent_leaves_nothing_behind() {
    let mut octets = vec![1, 2, 3];
    let declare = queue::Declare { queue: "q".repeat(256).into(), ..Default::default() };
    assert_eq!(Method::from(declare).put(&mut octets), Err(Invalid::NameTooLong(256)));
    let arguments = Table::new().with("x", f64::NAN);
    let consume = basic::Consume { arguments, ..Default::default() };
    assert_eq!(Method::from(consume).put(&mut octets), Err(Invalid::NotFinite));
    assert_eq!(octets, [1, 2, 3]);
}

#[test]
fn names_need_not_be_utf_8() {
    let publish = basic::Publish { routing_key: vec![0xff, 0, 0xfe].into(), ..Default::default() };
    let method = Method::from(publish);
    assert_eq!(Method::get(&encoded(&method)), Ok(method));
}

proptest! {
    #[test]
    fn any_method_survives_the_wire(octets: Vec<u8>) {
        let method = chosen_method(&mut Choices(&octets));
        prop_assert_eq!(Method::get(&encoded(&method)), Ok(method));
    }

    /// PR16: whether the number is that of a method or not.
    #[test]
    fn any_octets_are_a_method_or_an_error(class: prop::sample::Index, octets: Vec<u8>) {
        let _ = Method::get(&octets);
        let method = class.get(&one_of_each()).id();
        let number = [method.class.to_be_bytes(), method.method.to_be_bytes()].concat();
        let _ = Method::get(&[number, octets].concat());
    }

    /// Octets that resemble a method get further than octets that do not.
    #[test]
    fn a_method_with_one_octet_changed_is_a_method_or_an_error(
        method: prop::sample::Index, place: prop::sample::Index, octet: u8,
    ) {
        let mut octets = encoded(method.get(&one_of_each()));
        *place.get_mut(&mut octets) = octet;
        let _ = Method::get(&octets);
    }
}

/// The flags of every method, from the lowest bit up.
const FLAGS: &str = "
    connection.open insist
    channel.flow active
    channel.flow-ok active
    access.request exclusive passive active write read
    exchange.declare passive durable auto_delete internal nowait
    exchange.delete if_unused nowait
    exchange.bind nowait
    exchange.unbind nowait
    queue.declare passive durable exclusive auto_delete nowait
    queue.bind nowait
    queue.purge nowait
    queue.delete if_unused if_empty nowait
    basic.qos global
    basic.consume no_local no_ack exclusive nowait
    basic.cancel nowait
    basic.publish mandatory immediate
    basic.deliver redelivered
    basic.get no_ack
    basic.get-ok redelivered
    basic.ack multiple
    basic.reject requeue
    basic.recover-async requeue
    basic.recover requeue
    basic.nack multiple requeue
    confirm.select nowait
";

/// [`one_of_each`] in hexadecimal, as the codec of RabbitMQ 3.10.8 reads and writes it.
const AS_RABBITMQ_DOES: &str = "
    connection.start 000a000a 11120000001b117365727665725f70726f706572746965736c00000000000000030000000a6d656368
        616e69736d73000000076c6f63616c6573
    connection.start-ok 000a000b 0000001b11636c69656e745f70726f706572746965736c0000000000000001096d656368616e697
        36d00000008726573706f6e7365066c6f63616c65
    connection.secure 000a0014 000000096368616c6c656e6765
    connection.secure-ok 000a0015 00000008726573706f6e7365
    connection.tune 000a001e 1111111111121113
    connection.tune-ok 000a001f 1111111111121113
    connection.open 000a0028 0c7669727475616c5f686f73740c6361706162696c697469657301
    connection.open-ok 000a0029 0b6b6e6f776e5f686f737473
    connection.close 000a0032 11110a7265706c795f7465787411131114
    connection.close-ok 000a0033
    connection.blocked 000a003c 06726561736f6e
    connection.unblocked 000a003d
    connection.update-secret 000a0046 0000000a6e65775f73656372657406726561736f6e
    connection.update-secret-ok 000a0047
    channel.open 0014000a 0b6f75745f6f665f62616e64
    channel.open-ok 0014000b 0000000a6368616e6e656c5f6964
    channel.flow 00140014 01
    channel.flow-ok 00140015 01
    channel.close 00140028 11110a7265706c795f7465787411131114
    channel.close-ok 00140029
    access.request 001e000a 057265616c6d1f
    access.request-ok 001e000b 1111
    exchange.declare 0028000a 00000865786368616e67650d65786368616e67655f747970651f0000001309617267756d656e74736c
        0000000000000008
    exchange.declare-ok 0028000b
    exchange.delete 00280014 00000865786368616e676503
    exchange.delete-ok 00280015
    exchange.bind 0028001e 00000b64657374696e6174696f6e06736f757263650b726f7574696e675f6b65790100000013096172677
        56d656e74736c0000000000000005
    exchange.bind-ok 0028001f
    exchange.unbind 00280028 00000b64657374696e6174696f6e06736f757263650b726f7574696e675f6b657901000000130961726
        7756d656e74736c0000000000000005
    exchange.unbind-ok 00280033
    queue.declare 0032000a 00000571756575651f0000001309617267756d656e74736c0000000000000007
    queue.declare-ok 0032000b 0571756575651111111211111113
    queue.bind 00320014 00000571756575650865786368616e67650b726f7574696e675f6b6579010000001309617267756d656e7473
        6c0000000000000005
    queue.bind-ok 00320015
    queue.purge 0032001e 000005717565756501
    queue.purge-ok 0032001f 11111111
    queue.delete 00320028 000005717565756507
    queue.delete-ok 00320029 11111111
    queue.unbind 00320032 00000571756575650865786368616e67650b726f7574696e675f6b65790000001309617267756d656e7473
        6c0000000000000004
    queue.unbind-ok 00320033
    basic.qos 003c000a 11111111111201
    basic.qos-ok 003c000b
    basic.consume 003c0014 00000571756575650c636f6e73756d65725f7461670f0000001309617267756d656e74736c00000000000
        00007
    basic.consume-ok 003c0015 0c636f6e73756d65725f746167
    basic.cancel 003c001e 0c636f6e73756d65725f74616701
    basic.cancel-ok 003c001f 0c636f6e73756d65725f746167
    basic.publish 003c0028 00000865786368616e67650b726f7574696e675f6b657903
    basic.return 003c0032 11110a7265706c795f746578740865786368616e67650b726f7574696e675f6b6579
    basic.deliver 003c003c 0c636f6e73756d65725f7461671111111111111112010865786368616e67650b726f7574696e675f6b657
        9
    basic.get 003c0046 000005717565756501
    basic.get-ok 003c0047 1111111111111111010865786368616e67650b726f7574696e675f6b657911111115
    basic.get-empty 003c0048 0a636c75737465725f6964
    basic.ack 003c0050 111111111111111101
    basic.reject 003c005a 111111111111111101
    basic.recover-async 003c0064 01
    basic.recover 003c006e 01
    basic.recover-ok 003c006f
    basic.nack 003c0078 111111111111111103
    confirm.select 0055000a 01
    confirm.select-ok 0055000b
    tx.select 005a000a
    tx.select-ok 005a000b
    tx.commit 005a0014
    tx.commit-ok 005a0015
    tx.rollback 005a001e
    tx.rollback-ok 005a001f
";
