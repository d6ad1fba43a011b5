//! What every adapter and poller has to do with a real RabbitMQ, in plain text and over TLS: written once, against the
//! `Connection` trait.
#![allow(clippy::unwrap_used)]

#[path = "support/forms.rs"]
mod forms;
/// The adapter that docs/writing-an-adapter.md walks through.
#[path = "../examples/own_adapter/adapter.rs"]
mod own_adapter;

use pooka::{
    BasicProperties, Channel, Connection, ConnectionHandle, ConnectionParameters, Delivery, Error, IoLoop, LoopHandle,
    MioConnection, PublishOutcome, Result, SelectConnection, SmolConnection, TlsOptions, TokioConnection,
    config::ParametersBuilder, request::Outcome, tls::TlsBackend,
};
use pooka_testkit::{RabbitNode, Watchdog, broker_url, tls_broker_url};
use std::{
    cell::Cell,
    collections::VecDeque,
    io::Read,
    net::{Shutdown, TcpListener},
    time::{Duration, Instant},
};

/// A row of the suite is an adapter, for some of them in one of several forms; each is there in plain text and over TLS.
macro_rules! rows {
    ($($module:ident: $Row:ty;)*) => { $(
        mod $module {
            cases!(in_plain_text, $Row, None);
            cases!(over_rustls, $Row, Some(TlsBackend::Rustls));
            cases!(over_native_tls, $Row, Some(TlsBackend::NativeTls));
        }
    )* };
}

macro_rules! cases {
    ($module:ident, $Row:ty, $tls:expr) => {
        cases!($module, $Row, $tls;
            a_connection_opens_and_closes
            messages_go_through_an_exchange_and_a_queue
            a_hundred_thousand_small_messages_arrive_in_order
            a_thousand_messages_of_random_sizes_arrive_intact
            more_than_a_turn_reads_arrives_before_the_silence
            a_hundred_channels_are_open_at_once
            a_connection_closes_with_unread_deliveries
            the_broker_closes_a_channel_and_the_connection_goes_on
            each_publish_has_its_outcome
            a_loop_is_stopped_and_started_again_and_posts_wake_it
            a_close_callback_connects_anew_on_the_same_loop
            a_wrong_login_or_vhost_is_told_as_such
            a_peer_that_is_no_broker_is_told_as_such
            a_node_that_fails_is_noticed
        );
    };
    ($module:ident, $Row:ty, $tls:expr; $($case:ident)*) => {
        mod $module {
            use crate::*;
            $(
                #[test]
                fn $case() {
                    TLS.set($tls);
                    crate::$case::<$Row>();
                }
            )*
        }
    };
}

// Who does this test's TLS, if it has any.
thread_local!(static TLS: Cell<Option<TlsBackend>> = const { Cell::new(None) });

// The blocking adapter is not here, because it lends no state to callbacks: its rows are those of tests/awaited.rs, and
// tests/blocking.rs is about its own calls.
rows! {
    by_select: forms::BySelect<App>;
    by_poll: forms::ByPoll<App>;
    by_epoll_or_kqueue: SelectConnection<App>;
    mio: MioConnection<App>;
    tokio_current_thread: TokioConnection<App>;
    tokio_multi_thread: forms::OnThreads<App>;
    smol: SmolConnection<App>;
    on_own_adapter: own_adapter::OwnConnection<App>;
}

/// What the callbacks have seen, and what they still have to do.
#[derive(Default)]
struct App {
    log: Vec<String>,
    bodies: VecDeque<Vec<u8>>,
    published: u64,
    consumed: u64,
}

fn parameters() -> ConnectionParameters {
    at(if TLS.get().is_some() { tls_broker_url() } else { broker_url() }.unwrap())
}

fn parameters_of(node: &RabbitNode) -> ConnectionParameters {
    at(if TLS.get().is_some() { node.tls_url() } else { node.url() })
}

fn at(url: String) -> ConnectionParameters {
    let parameters: ConnectionParameters = url.parse().unwrap();
    let tls = parameters.tls().cloned();
    let builder = parameters.into_builder();
    builder.tls(tls.and_then(|tls| Some(tls.backend(TLS.get()?)))).build().unwrap()
}

/// At a peer that is no broker.
fn elsewhere(host: &str) -> ParametersBuilder {
    ConnectionParameters::builder().host(host).port(5672).tls(TLS.get().map(|tls| TlsOptions::new().backend(tls)))
}

/// Opens a connection, runs it to its end, and gives what was seen. Nothing may hang.
fn run<C: Connection<App>, R: Outcome>(
    parameters: ConnectionParameters,
    app: App,
    on_open: impl FnOnce(&mut App, &ConnectionHandle<App>, Result<()>) -> R + Send + 'static,
) -> App {
    run_with::<C, R>(parameters, app, on_open, |_| ())
}

fn run_with<C: Connection<App>, R: Outcome>(
    parameters: ConnectionParameters,
    mut app: App,
    on_open: impl FnOnce(&mut App, &ConnectionHandle<App>, Result<()>) -> R + Send + 'static,
    prepare: impl FnOnce(&ConnectionHandle<App>),
) -> App {
    let mut connection = C::open(parameters, on_open).unwrap();
    connection.handle().add_on_close_callback(|app: &mut App, _, error| app.log.push(format!("closed: {error}")));
    prepare(connection.handle());
    let _watchdog = watch(connection.ioloop().handle());
    connection.ioloop().start(&mut app).unwrap();
    app
}

fn watch(ioloop: LoopHandle<App>) -> Watchdog {
    Watchdog::new(ioloop, Duration::from_secs(120), |app: &mut App| {
        format!("hangs after {} published, {} consumed: {:?}", app.published, app.consumed, app.log)
    })
}

/// F1, F18
fn a_connection_opens_and_closes<C: Connection<App>>() {
    let app = run::<C, _>(parameters(), App::default(), |app: &mut App, connection, opened| {
        opened.unwrap();
        assert!(connection.is_open() && connection.has_capability("basic.nack"));
        assert!(connection.frame_max() >= 4096 && connection.channel_max() > 0);
        app.log.push("open".into());
        connection.close().then(|app: &mut App, connection, closed| {
            assert!(connection.is_closed());
            app.log.push(format!("{closed:?}"));
        });
    });
    assert_eq!(app.log, ["open", "Ok(())", "closed: the connection was closed by this program: 200 Normal shutdown"]);
}

/// N1
fn messages_go_through_an_exchange_and_a_queue<C: Connection<App>>() {
    let app = run::<C, _>(parameters(), App::default(), |_, connection, opened| -> Result<()> {
        opened?;
        let channel = connection.channel().send()?;
        let exchange = format!("pooka.{:?}", std::thread::current().id());
        channel.exchange_declare(&exchange).exchange_type("topic").durable(false).auto_delete(true).send()?;
        channel.queue_declare("").then(move |_, channel, declared| -> Result<()> {
            let queue = declared?.queue;
            channel.queue_bind(&queue, &exchange).routing_key("a.*").then(|app: &mut App, _, bound| {
                app.log.push(format!("bound {}", bound.is_ok()));
            });
            let properties = BasicProperties::new().content_type("text/plain").header("n", 7).message_id("id");
            for key in ["a.b", "b.b", "a.c"] {
                channel.basic_publish(&exchange, key, key).properties(&properties).send()?;
            }
            let consumed = queue.clone();
            channel.basic_get(&queue).then(move |app: &mut App, channel, got| -> Result<()> {
                let message = got?.unwrap();
                assert_eq!(message.properties.message_id.unwrap(), "id");
                app.log.push(format!("got {} of {:?}", message.routing_key, message.message_count));
                channel.basic_nack(message.delivery_tag, false, true)?;
                channel.basic_qos(1).send()?;
                channel.basic_consume(consumed).on_message(App::on_keyed).send().map(drop)
            });
            Ok(())
        });
        Ok(())
    });
    assert_eq!(app.log[..4], ["bound true", "got a.b of Some(1)", "a.b again: true", "a.c again: false"]);
}

impl App {
    fn on_keyed(&mut self, channel: &Channel<Self>, delivery: Delivery<'_>) -> Result<()> {
        assert_eq!(delivery.body, delivery.routing_key.as_bytes());
        assert_eq!(delivery.properties.headers().unwrap().unwrap().get("n").unwrap().as_i64(), Some(7));
        self.log.push(format!("{} again: {}", delivery.routing_key, delivery.redelivered));
        channel.basic_ack(delivery.delivery_tag)?;
        if delivery.routing_key == "a.c" {
            channel.connection().close().send()?;
        }
        Ok(())
    }
}

fn a_hundred_thousand_small_messages_arrive_in_order<C: Connection<App>>() {
    const ALL: u64 = 100_000;
    fn more(app: &mut App, channel: &Channel<App>, queue: &str) -> Result<()> {
        // A few thousand ahead of the consumer, and no further.
        while app.published < ALL.min(app.consumed + 4000) {
            channel.basic_publish("", queue, &app.published.to_be_bytes()).send()?;
            app.published += 1;
        }
        Ok(())
    }
    let app = run::<C, _>(parameters(), App::default(), |_, connection, opened| -> Result<()> {
        opened?;
        connection.channel().send()?.queue_declare("").then(|app: &mut App, channel, declared| -> Result<()> {
            let queue = declared?.queue.to_string();
            more(app, channel, &queue)?;
            let name = queue.clone();
            let on_message = move |app: &mut App, channel: &Channel<App>, delivery: Delivery<'_>| {
                assert_eq!(delivery.body, app.consumed.to_be_bytes());
                app.consumed += 1;
                channel.basic_ack(delivery.delivery_tag)?;
                if app.consumed == ALL {
                    return channel.connection().close().send();
                }
                if app.consumed % 1000 == 0 { more(app, channel, &queue) } else { Ok(()) }
            };
            channel.basic_consume(name).on_message(on_message).send().map(drop)
        });
        Ok(())
    });
    assert_eq!((app.published, app.consumed), (ALL, ALL));
}

/// Octets that can be told apart at every place.
fn body(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Log-uniform from nothing to 4 MiB, and every size around the boundaries of frames.
fn sizes(frame_max: usize) -> Vec<usize> {
    let payload = frame_max - 8;
    let edges = (1..4).flat_map(|n| (n * payload - 2)..=(n * payload + 2));
    let random = (0..985_u64).map(|n| {
        let random = body(n, 2);
        let share = f64::from(u16::from_be_bytes([random[0], random[1]])) / 65_536.0;
        (f64::from(4 << 20).ln() * share).exp() as usize - 1
    });
    edges.chain(random).collect()
}

fn a_thousand_messages_of_random_sizes_arrive_intact<C: Connection<App>>() {
    fn more(app: &mut App, channel: &Channel<App>, queue: &str, sizes: &[usize]) -> Result<()> {
        while app.bodies.len() < 8 && (app.published as usize) < sizes.len() {
            let body = body(app.published, sizes[app.published as usize]);
            channel.basic_publish("", queue, body.clone()).send()?;
            app.bodies.push_back(body);
            app.published += 1;
        }
        Ok(())
    }
    let app = run::<C, _>(parameters(), App::default(), |_, connection, opened| -> Result<()> {
        opened?;
        let sizes = sizes(connection.frame_max());
        assert_eq!(sizes.len(), 1000);
        connection.channel().send()?.queue_declare("").then(move |app: &mut App, channel, declared| -> Result<()> {
            let queue = declared?.queue.to_string();
            more(app, channel, &queue, &sizes)?;
            let name = queue.clone();
            let on_message = move |app: &mut App, channel: &Channel<App>, delivery: Delivery<'_>| {
                let expected = app.bodies.pop_front().unwrap();
                assert!(delivery.body == expected, "message {} of {} octets", app.consumed, expected.len());
                app.consumed += 1;
                channel.basic_ack(delivery.delivery_tag)?;
                if app.consumed == 1000 {
                    return channel.connection().close().send();
                }
                more(app, channel, &queue, &sizes)
            };
            channel.basic_consume(name).on_message(on_message).send().map(drop)
        });
        Ok(())
    });
    assert_eq!((app.published, app.consumed), (1000, 1000));
}

/// S7: edge-triggered adapters are told once that there is something to read, and it is far more than one turn reads.
fn more_than_a_turn_reads_arrives_before_the_silence<C: Connection<App>>() {
    const ALL: u64 = 40;
    let app = run::<C, _>(parameters(), App::default(), |_, connection, opened| -> Result<()> {
        opened?;
        let channel = connection.channel().send()?;
        channel.confirm_delivery(|_, _, _| ()).send()?;
        channel.queue_declare("").then(|_, channel, declared| -> Result<()> {
            let queue = declared?.queue;
            for n in 0..ALL {
                let consumed = queue.clone();
                let last = n == ALL - 1;
                channel.basic_publish("", &queue, vec![n as u8; 256 * 1024]).then(move |_, channel, outcome| {
                    assert_eq!(outcome?, PublishOutcome::Acked);
                    if !last {
                        return Ok(());
                    }
                    // All of it is there when the broker begins, and nothing comes behind it.
                    let on_message = |app: &mut App, channel: &Channel<App>, delivery: Delivery<'_>| {
                        assert!(delivery.body.iter().all(|octet| u64::from(*octet) == app.consumed));
                        app.consumed += 1;
                        if app.consumed == ALL { channel.connection().close().send() } else { Ok(()) }
                    };
                    channel.basic_consume(consumed).no_ack(true).on_message(on_message).send().map(drop)
                });
            }
            Ok(())
        });
        Ok(())
    });
    assert_eq!(app.consumed, ALL);
}

fn a_hundred_channels_are_open_at_once<C: Connection<App>>() {
    let app = run::<C, _>(parameters(), App::default(), |_, connection, opened| -> Result<()> {
        opened?;
        for n in 1..=100 {
            let channel = connection.channel().send()?;
            assert_eq!(channel.channel_number(), n);
            channel.queue_declare("").then(move |app: &mut App, channel, declared| -> Result<()> {
                let queue = declared?.queue;
                channel.basic_publish("", &queue, &n.to_be_bytes()).send()?;
                let on_message = move |app: &mut App, channel: &Channel<App>, delivery: Delivery<'_>| {
                    assert_eq!((delivery.body, channel.channel_number()), (&n.to_be_bytes()[..], n));
                    app.consumed += 1;
                    if app.consumed == 100 { channel.connection().close().send() } else { Ok(()) }
                };
                app.published += 1;
                channel.basic_consume(queue).no_ack(true).on_message(on_message).send().map(drop)
            });
        }
        Ok(())
    });
    assert_eq!((app.published, app.consumed), (100, 100));
}

fn a_connection_closes_with_unread_deliveries<C: Connection<App>>() {
    let app = run::<C, _>(parameters(), App::default(), |_, connection, opened| -> Result<()> {
        opened?;
        connection.channel().send()?.queue_declare("").then(|_, channel, declared| -> Result<()> {
            let queue = declared?.queue;
            for _ in 0..5000 {
                channel.basic_publish("", &queue, &[7; 500]).send()?;
            }
            let on_message = |app: &mut App, channel: &Channel<App>, _: Delivery<'_>| {
                app.consumed += 1;
                channel.connection().close().send()
            };
            channel.basic_consume(queue).on_message(on_message).send().map(drop)
        });
        Ok(())
    });
    assert_eq!(app.consumed, 1, "nothing is delivered behind close()");
    assert_eq!(app.log.len(), 1);
}

/// C5
fn the_broker_closes_a_channel_and_the_connection_goes_on<C: Connection<App>>() {
    let app = run::<C, _>(parameters(), App::default(), |_, connection, opened| -> Result<()> {
        opened?;
        let bad = connection.channel().send()?;
        bad.add_on_close_callback(|app: &mut App, _, error| app.log.push(error.to_string()));
        bad.queue_declare("no.such.queue").passive(true).then(|app: &mut App, channel, declared| {
            assert_eq!(declared.unwrap_err().reply_code(), Some(404));
            let again = channel.queue_purge("x").send().unwrap_err().to_string();
            app.log.push(again);
        });
        connection.channel().send()?.queue_declare("").then(|app: &mut App, channel, declared| -> Result<()> {
            app.log.push(format!("good: {}", declared.is_ok()));
            channel.connection().close().send()
        });
        Ok(())
    });
    let text = "channel 1 was closed by the broker: 404 NOT_FOUND - no queue 'no.such.queue' in vhost '/'";
    assert_eq!(app.log[..3], [text, text, "good: true"]);
}

fn each_publish_has_its_outcome<C: Connection<App>>() {
    let app = run::<C, _>(parameters(), App::default(), |_, connection, opened| -> Result<()> {
        opened?;
        connection.channel().send()?.queue_declare("").then(|_, channel, declared| -> Result<()> {
            let queue = declared?.queue;
            channel.confirm_delivery(|_, _, _| ()).send()?;
            for n in 0..100 {
                let (key, is_routed) = if n % 3 == 0 { ("nowhere".into(), false) } else { (queue.clone(), true) };
                let told = move |app: &mut App, channel: &Channel<App>, outcome: Result<PublishOutcome>| {
                    match outcome? {
                        PublishOutcome::Acked => assert!(is_routed),
                        PublishOutcome::Returned(returned) => {
                            assert_eq!((returned.reply_code, &returned.body[..]), (312, &[n][..]));
                            assert!(!is_routed);
                        }
                        PublishOutcome::Nacked => panic!("nacked"),
                    }
                    app.published += 1;
                    if app.published == 100 { channel.connection().close().send() } else { Ok(()) }
                };
                channel.basic_publish("", &key, &[n]).mandatory(true).then(told);
            }
            Ok(())
        });
        Ok(())
    });
    assert_eq!(app.published, 100);
}

/// D14, S5, S11
fn a_loop_is_stopped_and_started_again_and_posts_wake_it<C: Connection<App>>() {
    let mut app = App::default();
    let mut connection = C::open(parameters(), |_: &mut App, connection, opened| {
        opened.unwrap();
        connection.ioloop().stop();
    })
    .unwrap();
    let ioloop = connection.ioloop().handle();
    let _watchdog = watch(ioloop.clone());
    connection.ioloop().start(&mut app).unwrap();
    assert!(connection.handle().is_open());
    let handle = connection.handle().clone();
    let other = std::thread::spawn(move || {
        let posted = Instant::now();
        ioloop.post(move |app: &mut App| {
            app.log.push(format!("{}", posted.elapsed() < Duration::from_secs(5)));
            handle.close().send()
        });
    });
    connection.ioloop().start(&mut app).unwrap();
    other.join().unwrap();
    assert_eq!(app.log, ["true"]);
}

/// Trial T22: a timer that is pending keeps the loop, as it keeps pika's.
fn a_close_callback_connects_anew_on_the_same_loop<C: Connection<App>>() {
    let app = run::<C, _>(parameters(), App::default(), App::on_connected);
    assert_eq!(app.log.iter().filter(|line| *line == "connected").count(), 3, "{:?}", app.log);
}

impl App {
    fn on_connected(&mut self, connection: &ConnectionHandle<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        self.log.push("connected".into());
        self.published += 1;
        connection.add_on_close_callback(|app: &mut Self, connection, _| {
            if app.published < 3 {
                let (ioloop, parameters) = (connection.ioloop(), connection.parameters().clone());
                connection.ioloop().add_timeout(Duration::from_millis(50), move |_: &mut Self| {
                    ioloop.connect(parameters).then(Self::on_connected);
                });
            }
        });
        connection.close().send()
    }
}

fn opening_fails<C: Connection<App>>(parameters: ConnectionParameters) -> String {
    let begun = Instant::now();
    let app = run::<C, _>(parameters, App::default(), |app: &mut App, _, opened| {
        app.log.push(opened.unwrap_err().to_string());
    });
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?} for {:?}", begun.elapsed(), app.log);
    assert_eq!(app.log.len(), 1, "{:?}", app.log);
    app.log.into_iter().next().unwrap()
}

/// F6
fn a_wrong_login_or_vhost_is_told_as_such<C: Connection<App>>() {
    let builder = || parameters().into_builder();
    let wrong = pooka::config::PlainCredentials::new("guest", "hunter2");
    let login = opening_fails::<C>(builder().credentials(wrong).build().unwrap());
    assert!(login.contains("login refused for user \"guest\" with PLAIN at") && login.contains("403"), "{login}");
    assert!(!login.contains("hunter2"));
    let vhost = opening_fails::<C>(builder().virtual_host("nope").build().unwrap());
    assert!(vhost.contains("vhost \"nope\"") && vhost.contains("530"), "{vhost}");
}

/// F7, F8
fn a_peer_that_is_no_broker_is_told_as_such<C: Connection<App>>() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let builder = || elsewhere("127.0.0.1").port(address.port());
    let (step, html, nothing) = match TLS.get() {
        None => ("the AMQP greeting of", "does not speak AMQP", "closed the connection before an AMQP greeting"),
        Some(_) => ("the TLS handshake with", "is not speaking TLS", "closed the connection in the handshake"),
    };

    let silent = opening_fails::<C>(builder().stack_timeout(Duration::from_millis(300)).build().unwrap());
    assert!(silent.contains(&format!("{step} {address} took longer than 0.3 s")), "{silent}");
    drop(listener.accept().unwrap());

    for (says, told) in [("<html>", html), ("", nothing)] {
        let listener = listener.try_clone().unwrap();
        let peer = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.read_exact(&mut [0; 8]).unwrap();
            std::io::Write::write_all(&mut socket, says.as_bytes()).unwrap();
            // Unread octets would make TCP take that back.
            socket.shutdown(Shutdown::Write).unwrap();
            let _ = socket.read_to_end(&mut vec![]);
        });
        let error = opening_fails::<C>(builder().build().unwrap());
        assert!(error.contains(told) && error.contains(&address.to_string()), "{error}");
        peer.join().unwrap();
    }
    drop(listener);
    let refused = opening_fails::<C>(builder().build().unwrap());
    assert!(refused.contains(&format!("cannot connect to {address} (1 address tried)")), "{refused}");
    assert!(refused.contains("is RabbitMQ running there?"), "{refused}");
    let unknown = opening_fails::<C>(elsewhere("no-such-host.invalid").build().unwrap());
    assert!(unknown.contains("cannot connect to no-such-host.invalid:5672"), "{unknown}");
}

/// T1: one node for all that it takes to lose a connection: it is commanded, stopped and killed.
fn a_node_that_fails_is_noticed<C: Connection<App>>() {
    let node = RabbitNode::start().unwrap();
    let url = parameters_of(&node);
    let port = url.port();
    let beating = url.clone().into_builder().heartbeat(Some(1)).build().unwrap();

    // Ten intervals of nothing but waiting; three over TLS, to which a heartbeat is like any other frame.
    let intervals = if TLS.get().is_some() { 3 } else { 10 };
    let app = run::<C, _>(beating.clone(), App::default(), move |_: &mut App, connection, opened| {
        opened.unwrap();
        assert_eq!(connection.heartbeat(), 1);
        let connection = connection.clone();
        connection.ioloop().add_timeout(Duration::from_secs(intervals), move |app: &mut App| {
            app.log.push(format!("open: {}", connection.is_open()));
            connection.close().send()
        });
    });
    assert_eq!(app.log[0], "open: true");

    // An operator closes the connection.
    let ctl = std::sync::Arc::new(node);
    let on_the_side = ctl.clone();
    let app = run_with::<C, _>(
        url.clone(),
        App::default(),
        |_: &mut App, _, opened| opened.unwrap(),
        move |connection| {
            connection.add_on_open_callback(move |_: &mut App, _| {
                let node = on_the_side.clone();
                std::thread::spawn(move || node.ctl(&["close_all_connections", "maintenance"]).unwrap());
            });
        },
    );
    assert!(app.log[0].contains("320 CONNECTION_FORCED - maintenance"), "{:?}", app.log);
    let mut node = loop_until_sole(ctl);

    // The node stops breathing.
    node.pause_after_open::<C>(beating);

    // The node is killed.
    let pid = node.pid().unwrap();
    let app = run::<C, _>(url, App::default(), move |_: &mut App, connection, opened| {
        opened.unwrap();
        let channel = connection.channel().send().unwrap();
        channel.queue_declare("").then(move |app: &mut App, _, declared| {
            app.log.push(format!("{}", declared.is_ok()));
            signal(pid, "KILL");
        });
    });
    assert_eq!(app.log[0], "true");
    assert!(app.log[1].contains(&format!("127.0.0.1:{port} ")), "{:?}", app.log);
    node.kill_9();
}

fn loop_until_sole(node: std::sync::Arc<RabbitNode>) -> RabbitNode {
    let mut node = node;
    loop {
        match std::sync::Arc::try_unwrap(node) {
            Ok(sole) => return sole,
            Err(shared) => node = shared,
        }
        std::thread::yield_now();
    }
}

fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

trait PauseAfterOpen {
    fn pause_after_open<C: Connection<App>>(&mut self, parameters: ConnectionParameters);
}

impl PauseAfterOpen for RabbitNode {
    fn pause_after_open<C: Connection<App>>(&mut self, parameters: ConnectionParameters) {
        let pid = self.pid().unwrap();
        let begun = Instant::now();
        let app = run::<C, _>(parameters, App::default(), move |app: &mut App, _, opened| {
            opened.unwrap();
            signal(pid, "STOP");
            app.log.push(format!("{}", begun.elapsed().as_millis()));
        });
        let stopped: u64 = app.log[0].parse().unwrap();
        let noticed = begun.elapsed() - Duration::from_millis(stopped);
        self.resume().unwrap();
        assert!(app.log[1].contains("nothing heard from"), "{:?}", app.log);
        // Two intervals and a second; the machine may be busy.
        assert!(noticed < Duration::from_secs(4), "{noticed:?}");
    }
}

#[test]
fn a_caller_mistake_is_an_error_of_the_line_that_makes_it() {
    let mut connection = SelectConnection::<App>::open(parameters(), |_, _, _| ()).unwrap();
    assert_eq!(connection.channel().send().unwrap_err(), Error::NotOpen);
    let mut app = App::default();
    connection.close().send().unwrap();
    connection.ioloop().start(&mut app).unwrap();
}
