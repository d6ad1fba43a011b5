//! PR6: what comes back is what was published, octet for octet, through a network that cuts it to pieces.
#![allow(clippy::unwrap_used)]

use pooka::{BlockingConnection, ConnectionParameters};
use pooka_testkit::{Proxy, RabbitNode, broker_url};

/// Octets that can be told apart at every place.
fn body(length: usize) -> Vec<u8> {
    let mut state = length as u64 | 1;
    let next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Publishes and gets bodies of these sizes through a network that passes on so many octets together.
fn come_back(broker_url: &str, chop: usize, sizes: impl FnOnce(usize) -> Vec<usize>) {
    let direct: ConnectionParameters = broker_url.parse().unwrap();
    let proxy = Proxy::start(direct.host(), direct.port()).unwrap();
    let through = direct.into_builder().host("127.0.0.1").port(proxy.port()).build().unwrap();
    let connection = BlockingConnection::open(through).unwrap();
    let channel = connection.channel().call().unwrap();
    let queue = channel.queue_declare("").call().unwrap().queue;
    channel.confirm_select().call().unwrap();
    proxy.chop(chop);
    for size in sizes(connection.handle().frame_max()) {
        let body = body(size);
        channel.basic_publish("", &queue, &body[..]).call().unwrap();
        let got = channel.basic_get(&queue).no_ack(true).call().unwrap().unwrap();
        assert!(got.body == body, "{size} octets, {chop} at a time");
    }
    connection.close().call().unwrap();
}

/// Around the edges of a frame's payload, and far over them.
fn edges(frame_max: usize) -> Vec<usize> {
    let edges = [1, 2].into_iter().flat_map(|frames| (frames * (frame_max - 8) - 1)..=(frames * (frame_max - 8) + 1));
    [0, 1].into_iter().chain(edges).chain([1 << 20]).collect()
}

#[test]
fn bodies_come_back_whole_octet_by_octet() {
    come_back(&broker_url().unwrap(), 1, |_| vec![0, 1, 4096, 1 << 18]);
}

#[test]
fn bodies_come_back_whole_seven_octets_at_a_time() {
    come_back(&broker_url().unwrap(), 7, edges);
}

/// RabbitMQ 4 takes no more than 16 MiB, unless it is told to.
#[test]
fn sixty_four_mebibytes_come_back_whole() {
    let node = RabbitNode::start_with("max_message_size = 67108864\n").unwrap();
    come_back(&node.url(), 1400, |_| vec![64 << 20]);
}
