//! The command, end to end, against a real RabbitMQ.
#![allow(clippy::unwrap_used)]

mod broker;
mod support;

use broker::{ADAPTERS, Queue, broker, broker_with, running};
use pooka::BlockingConnection;
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::Command,
};
use support::pooka;

/// What the broker says of itself: "RabbitMQ 4.0.5".
fn broker_says() -> String {
    let connection = BlockingConnection::open(pooka_testkit::broker_url().unwrap().parse().unwrap()).unwrap();
    let properties = connection.handle().server_properties().unwrap();
    let text = |key| properties.get(key).unwrap().as_str().unwrap().to_owned();
    let said = format!("{} {}", text("product"), text("version"));
    connection.close().call().unwrap();
    said
}

#[test]
fn ping_says_which_broker_it_is_by_every_adapter() {
    let said = broker_says();
    for adapter in ADAPTERS {
        broker(&["--adapter", adapter, "ping"]).is(0, &said);
    }
    for poller in ["select", "poll", "auto"] {
        broker(&["--poller", poller, "ping"]).is(0, "answered in");
    }
}

#[test]
fn ping_goes_over_tls_by_every_adapter() {
    let url = pooka_testkit::tls_broker_url().unwrap();
    let (bare, file) = url.split_once("?cacertfile=").unwrap();
    let said = broker_says();
    for adapter in ADAPTERS {
        for (backend, is_built_in) in
            [("rustls", cfg!(feature = "rustls")), ("native-tls", cfg!(feature = "native-tls"))]
        {
            let ping = |url| pooka(&["--adapter", adapter, "--tls", backend, "--cacert", file, "--url", url, "ping"]);
            let (code, words) =
                if is_built_in { (0, said.as_str()) } else { (2, "lacks the cargo feature native-tls") };
            ping(bare).is(code, words);
        }
    }
    pooka(&["--url", bare, "ping"]).is(3, "the issuer of the peer's certificate is not trusted");
}

#[test]
fn what_is_published_is_got_octet_for_octet_and_then_the_queue_is_empty() {
    let queue = Queue::new();
    let body: Vec<u8> = (0..=255).chain(*b"\n\0\r\n").collect();
    let published = broker_with(&["publish", "-r", queue.name(), "--persistent"], &body);
    published.is(0, "published 1 message to exchange \"\"").is(0, "all confirmed");
    let got = broker(&["get", "-q", queue.name()]);
    got.is(0, "got a message of queue");
    assert_eq!(got.stdout, body);
    let empty = broker(&["get", "-q", queue.name()]);
    empty.is(1, "is empty");
    assert_eq!(empty.stdout, b"");
}

#[test]
fn lines_go_in_and_come_out() {
    let queue = Queue::new();
    let lines: String = (0..5000).map(|n| format!("line {n}\n")).collect();
    for adapter in ADAPTERS {
        let published =
            broker_with(&["--adapter", adapter, "publish", "-r", queue.name(), "--lines"], lines.as_bytes());
        published.is(0, "published 5000 messages");
        let consumed = broker(&["--adapter", adapter, "consume", "-q", queue.name(), "-c", "5000", "--lines"]);
        consumed.is(0, "consumed 5000 messages");
        assert_eq!(String::from_utf8(consumed.stdout).unwrap(), lines, "{adapter}");
    }
    broker(&["get", "-q", queue.name()]).is(1, "is empty");
}

#[test]
fn a_message_as_json_has_all_that_is_known_of_it() {
    let queue = Queue::new();
    let headers = ["-H", "n=7", "-H", "flag=true", "-H", "text=a=b"];
    broker(&[&["publish", "-r", queue.name(), "-b", "hé", "--persistent"], &headers[..]].concat()).is(0, "confirmed");
    broker_with(&["publish", "-r", queue.name()], b"\xFF\xFE").is(0, "confirmed");
    let consumed = broker(&["consume", "-q", queue.name(), "-c", "2", "--json"]);
    consumed.is(0, "consumed 2 messages");
    let lines: Vec<serde_json::Value> =
        consumed.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["body"], "hé");
    assert_eq!(lines[0]["properties"]["delivery_mode"], 2);
    assert_eq!(lines[0]["properties"]["headers"]["n"], 7);
    assert_eq!(lines[0]["properties"]["headers"]["flag"], true);
    assert_eq!(lines[0]["properties"]["headers"]["text"], "a=b");
    assert_eq!((&lines[0]["exchange"], &lines[0]["routing_key"]), (&"".into(), &queue.name().into()));
    assert_eq!((&lines[0]["delivery_tag"], &lines[0]["redelivered"]), (&1.into(), &false.into()));
    assert_eq!((&lines[1]["body_base64"], lines[1].get("body")), (&"//4=".into(), None));
}

#[test]
fn a_message_is_published_so_many_times() {
    let queue = Queue::new();
    broker(&["publish", "-r", queue.name(), "-b", "x", "--count", "2500"]).is(0, "published 2500 messages");
    broker(&["publish", "-r", queue.name(), "-b", "x", "--count", "2500", "--no-confirm"]).is(0, "unconfirmed");
    broker(&["purge", "-q", queue.name()]).is(0, "dropped 5000 messages");
}

#[test]
fn what_the_broker_refuses_is_told() {
    let unroutable = broker(&["publish", "-r", "pooka.no.such.queue", "-b", "x", "--mandatory"]);
    unroutable.is(4, "312 NO_ROUTE").is(4, "declare the queue");
    broker(&["publish", "-r", "pooka.no.such.queue", "-b", "x", "--mandatory", "--no-confirm"]).is(4, "312 NO_ROUTE");
    let missing = ["publish", "-e", "pooka.no.such.exchange", "-b", "x"];
    broker(&missing).is(4, "404 NOT_FOUND - no exchange 'pooka.no.such.exchange'");
    broker(&[&missing[..], &["--no-confirm"]].concat()).is(4, "404 NOT_FOUND");
    broker(&["consume", "-q", "pooka.no.such.queue"]).is(4, "404 NOT_FOUND - no queue");
    broker(&["get", "-q", "pooka.no.such.queue"]).is(4, "404 NOT_FOUND - no queue");
    broker(&["declare", "-q", "pooka.no.such.queue", "--passive"]).is(4, "404 NOT_FOUND - no queue");
}

#[test]
fn a_topology_is_declared_used_and_deleted() {
    let queue = Queue::new();
    let exchange = format!("{}.x", queue.name());
    broker(&["declare", "-e", &exchange, "-t", "topic", "--auto-delete"]).is(0, "declared topic exchange");
    broker(&["bind", "-q", queue.name(), "-e", &exchange, "-r", "a.*"]).is(0, "with key \"a.*\"");
    broker(&["publish", "-e", &exchange, "-r", "a.b", "-b", "routed", "--mandatory"]).is(0, "confirmed");
    broker(&["declare", "-q", queue.name(), "--passive"]).is(0, "(1 messages, 0 consumers)");
    broker(&["delete", "-e", &exchange]).is(0, "deleted exchange");
    broker(&["delete", "-q", queue.name(), "--if-empty"]).is(4, "406 PRECONDITION_FAILED");
    assert_eq!(broker(&["get", "-q", queue.name()]).stdout, b"routed");
    broker(&["delete", "-q", queue.name(), "--if-empty"]).is(0, "deleted queue");
    let limited = ["declare", "-q", queue.name(), "--arg", "x-max-length=1"];
    broker(&limited).is(0, "declared queue");
    broker(&["publish", "-r", queue.name(), "-b", "x", "--count", "3"]).is(0, "confirmed");
    broker(&["purge", "-q", queue.name()]).is(0, "dropped 1 messages");
    broker(&["declare", "-q", ""]).is(0, "declared queue \"amq.gen-");
}

#[test]
fn a_consumer_ends_when_nothing_comes() {
    let queue = Queue::new();
    broker(&["publish", "-r", queue.name(), "-b", "x", "--count", "3"]).is(0, "confirmed");
    let idle = broker(&["consume", "-q", queue.name(), "--idle-timeout", "0.5"]);
    idle.is(0, "consumed 3 messages").is(0, "none for 0.5 s");
    assert_eq!(idle.stdout, b"xxx");
}

#[test]
fn a_wrong_login_is_no_connection() {
    let url = pooka_testkit::broker_url().unwrap().replacen("guest:guest@", "guest:hunter2@", 1);
    assert!(url.contains("hunter2"));
    let refused = pooka(&["--url", &url, "ping"]);
    refused.is(3, "login refused for user \"guest\"");
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("hunter2"));
}

#[test]
fn ctrl_c_closes_and_what_was_not_written_stays() {
    let queue = Queue::new();
    broker(&["publish", "-r", queue.name(), "-b", "first"]).is(0, "confirmed");
    for adapter in ADAPTERS {
        let mut child = running(&["--adapter", adapter, "consume", "-q", queue.name(), "--lines"]);
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "first\n", "{adapter}");
        let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{adapter}: {told}");
        assert!(told.contains("interrupted"), "{told}");
        broker(&["publish", "-r", queue.name(), "-b", "first"]).is(0, "confirmed");
    }
}

#[test]
fn bench_gives_one_line_of_json() {
    let queue = Queue::new();
    let publishes = ["publish", "publish-confirm", "publish-confirm-1", "pingpong"];
    for adapter in ADAPTERS {
        for workload in publishes {
            measured(adapter, workload, &queue);
        }
        for workload in ["consume-ack", "consume-autoack", "get"] {
            broker(&["publish", "-r", queue.name(), "-b", "x", "--count", "300"]).is(0, "confirmed");
            measured(adapter, workload, &queue);
        }
    }
    let idle = measured("select", "idle", &queue);
    assert!(idle["rss_kb_per_conn"].is_number() && idle["cpu_s_per_s"].is_number(), "{idle}");
}

fn measured(adapter: &str, workload: &str, queue: &Queue) -> serde_json::Value {
    let messages = if workload == "idle" { "5" } else { "300" };
    let ended = broker(&[
        "bench",
        "--adapter",
        adapter,
        "--workload",
        workload,
        "--messages",
        messages,
        "--size",
        "16",
        "--window",
        "10",
        "--prefetch",
        "20",
        "--queue",
        queue.name(),
        "--hold",
        "0.2",
    ]);
    assert_eq!(ended.code, 0, "{adapter} {workload}: {}", String::from_utf8_lossy(&ended.stderr));
    let line: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&line["peer"], &line["workload"]), (&format!("pooka-{adapter}").into(), &workload.into()));
    assert_eq!((line["messages"].to_string(), &line["size"]), (messages.to_string(), &16.into()));
    for key in ["wall_s", "user_s", "sys_s", "max_rss_kb", "msgs_per_s", "cpu_ns_per_msg"] {
        assert!(line[key].is_number(), "{key} of {line}");
    }
    for key in ["p50_us", "p99_us"] {
        let is_round_trip = ["publish-confirm-1", "get", "pingpong"].contains(&workload);
        assert_eq!(line[key].is_number(), is_round_trip, "{key} of {line}");
    }
    assert_eq!(line["server_count"].is_number(), workload == "publish", "{line}");
    line
}

#[test]
fn a_pipeline_gives_lines_while_they_come() {
    let queue = Queue::new();
    let mut publish = running(&["publish", "-r", queue.name(), "--lines"]);
    let mut stdin = publish.stdin.take().unwrap();
    stdin.write_all(b"early\n").unwrap();
    // It is there although the other side has not finished.
    assert_eq!(broker(&["consume", "-q", queue.name(), "-c", "1"]).stdout, b"early");
    stdin.write_all(b"late").unwrap();
    drop(stdin);
    assert_eq!(publish.wait().unwrap().code(), Some(0));
    assert_eq!(broker(&["get", "-q", queue.name()]).stdout, b"late");
}
