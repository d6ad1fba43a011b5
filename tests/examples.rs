//! The examples do what they say, on a real RabbitMQ.
#![allow(clippy::unwrap_used)]

#[path = "support/programs.rs"]
mod programs;

use futures_lite::StreamExt;
use pooka::{ConnectionHandle, Message, SmolConnection};
use pooka_testkit::broker_url;
use programs::{Running, output};
use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    process::Command,
    time::Duration,
};

impl Running {
    fn interrupt(&self) {
        let kill = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }
}

/// A connection of the test's own.
async fn connect() -> ConnectionHandle {
    let (connecting, driver) = SmolConnection::pair(broker_url().unwrap().parse().unwrap());
    smol::spawn(driver).detach();
    connecting.await.unwrap()
}

#[test]
fn the_quickstart_publishes_and_consumes_with_each_poller() {
    for poller in pooka::PollerKind::available() {
        let said = output("quickstart", &["--poller", &poller.to_string()]);
        assert!(said.starts_with(&format!("waiting with {poller}\nconnected to RabbitMQ")), "{said}");
        let messages: Vec<_> = said.lines().filter(|line| line.starts_with("got ")).collect();
        let expected: Vec<_> = (1..=10).map(|n| format!("got \"message {n}\"")).collect();
        assert_eq!(messages, expected);
        assert!(said.ends_with("10 published and confirmed, 10 consumed and acknowledged\n"), "{said}");
    }
}

#[test]
fn an_adapter_of_ones_own_publishes_and_consumes() {
    assert!(output("own_adapter", &[]).ends_with("got Hello, poll\n"));
}

#[test]
fn two_connections_share_a_loop() {
    assert_eq!(output("two_connections_one_loop", &[]), "5 messages went from one connection to the other\n");
}

/// A test for each adapter that the example knows.
macro_rules! every_adapter {
    ($($test:ident: $adapter:literal;)*) => { $(
        #[test]
        fn $test() {
            let said = output("every_adapter", &["--adapter", $adapter]);
            let messages: String = (1..=10).map(|n| format!("got \"message {n}\"\n")).collect();
            let end = "10 published and confirmed, 10 consumed and acknowledged\n";
            assert_eq!(said, format!("connected\n{messages}{end}"));
        }
    )* };
}

every_adapter! {
    one_program_runs_on_select: "select";
    one_program_runs_on_mio: "mio";
    one_program_runs_on_tokio: "tokio";
    one_program_runs_on_smol: "smol";
    one_program_runs_on_blocking: "blocking";
}

#[test]
fn threads_that_wait_call_each_other() {
    let answers = "fibonacci(1) = 1\nfibonacci(10) = 55\nfibonacci(30) = 832040\nfibonacci(90) = 2880067194370816120\n";
    assert_eq!(output("blocking_rpc", &[]), format!("{answers}4 calls answered\n"));
}

#[test]
fn tokio_tasks_publish_over_one_connection_what_a_stream_gives() {
    let said = output("tokio_stream", &[]);
    for publisher in 1..=4 {
        let suffix = format!(" of publisher {publisher}\"");
        let got: Vec<_> = said.lines().filter_map(|line| line.strip_suffix(&suffix)).collect();
        assert_eq!(got, (1..=25).map(|n| format!("got \"message {n}")).collect::<Vec<_>>());
    }
    assert_eq!(said.lines().filter(|line| *line == "25 messages confirmed").count(), 4);
    assert!(said.ends_with("100 messages consumed\n"), "{said}");
    assert_eq!(said.lines().count(), 100 + 4 + 1);
}

/// T2
#[test]
fn datagrams_and_amqp_share_a_programs_own_mio_loop() {
    let running = Running::start("mio_embedded", &["3"]);
    let address = running.line().unwrap();
    let address = address.strip_prefix("listening on ").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for body in ["one", "two", "three"] {
        socket.send_to(body.as_bytes(), address).unwrap();
        assert_eq!(running.line().unwrap(), format!("got {body:?}"));
    }
    assert_eq!(running.end(), ["3 datagrams went through the broker"]);
}

#[test]
fn smol_tasks_ask_and_answer_over_one_connection() {
    let answers: String = (1..=20).map(|n| format!("{n} squared is {}\n", n * n)).collect();
    assert_eq!(output("smol_tasks", &[]), format!("{answers}20 clients were answered\n"));
}

/// An HTTP server's whole answer.
fn http(address: &str, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let form = format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}", body.len());
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{form}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_is_posted_on_the_web_page_is_published_and_consumed_and_shown() {
    let running = Running::start("axum_publisher", &["127.0.0.1:0"]);
    let line = running.line().unwrap();
    let address = line.strip_prefix("serving http://").unwrap();

    let page = http(address, "GET /", "");
    assert!(page.starts_with("HTTP/1.1 200 ") && !page.contains("<li>"), "{page}");
    let (action, _) = page.split_once("<form action='").unwrap().1.split_once('\'').unwrap();
    for (number, body) in ["message=hello", "message=%3Cb%3E+%26+%22it%27s%22"].into_iter().enumerate() {
        let posted = http(address, &format!("POST {action}"), body);
        assert!(posted.starts_with("HTTP/1.1 303 ") && posted.contains("location: /\r\n"), "{posted}");
        let consumed = http(address, &format!("GET /messages/{}", number + 1), "");
        assert!(consumed.starts_with("HTTP/1.1 204 "), "{consumed}");
    }
    let page = http(address, "GET /", "");
    assert!(page.contains("<li>hello</li>\n<li>&lt;b&gt; &amp; &quot;it&#39;s&quot;</li>\n</ul>"), "{page}");

    let lost = http(address, "POST /publish/no-such-queue", "message=lost");
    assert!(lost.starts_with("HTTP/1.1 404 ") && lost.ends_with("\r\n\r\nNO_ROUTE"), "{lost}");
    let long = http(address, &format!("POST /publish/{}", "x".repeat(256)), "message=lost");
    assert!(long.starts_with("HTTP/1.1 400 "), "{long}");

    // A page that waits for the next message does not keep the server from ending.
    let mut waiting = TcpStream::connect(address).unwrap();
    waiting.write_all(b"GET /messages/3 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    running.interrupt();
    assert_eq!(running.end(), ["2 messages consumed"]);
}

#[test]
fn at_ctrl_c_the_consumer_closes_and_what_it_did_not_acknowledge_is_back() {
    smol::block_on(async {
        let connection = connect().await;
        let channel = connection.channel().await.unwrap();
        let queue = format!("ctrl-c-{}", std::process::id());
        channel.queue_declare(&queue).await.unwrap();
        let bodies: Vec<_> = (1..=25).map(|n| format!("message {n}")).collect();
        bodies.iter().for_each(|body| channel.basic_publish("", &queue, body).send().unwrap());

        let running = Running::start("ctrl_c", &[&queue]);
        let mut said = running.lines(26);
        said.retain(|line| line != &format!("consuming from {queue}, until Ctrl-C"));
        assert_eq!(said, bodies.iter().map(|body| format!("got {body:?}")).collect::<Vec<_>>());
        running.interrupt();
        let closed = "closed: the connection was closed by this program: 200 Normal shutdown";
        assert_eq!(running.end(), ["cancelled", closed, "25 consumed, 20 acknowledged"]);

        let consumer = channel.basic_consume(&queue).await.unwrap();
        let left: Vec<Message> = consumer.take(5).map(Result::unwrap).collect().await;
        assert!(left.iter().all(|message| message.redelivered));
        assert_eq!(left.iter().map(|message| message.body.clone()).collect::<Vec<_>>(), bodies[20..]);
        channel.basic_ack_multiple(left[4].delivery_tag).unwrap();
        assert_eq!(channel.queue_delete(&queue).await.unwrap().message_count, 0);
        connection.close().await.unwrap();
    });
}
