//! What a `RabbitNode` promises, on real ones.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "all of it is test")]

mod processes;

use pooka_testkit::{RabbitNode, answers};
use processes::{assert_nothing_left_of, mentioning};
use std::{io, net::TcpStream};

#[test]
fn a_dropped_node_leaves_no_process_and_no_folder() {
    let node = RabbitNode::start().unwrap();
    let folder = node.folder().to_owned();
    let running = mentioning(&folder);
    let pid =
        |name| running.iter().find(|process| process.name == name).map(|process| process.pid.as_raw_nonzero().get());
    assert_eq!(pid("beam.smp").map(i32::unsigned_abs), node.pid());
    assert!(pid("epmd").is_some(), "{running:?}");
    assert!(folder.join("rabbitmq.conf").exists());
    drop(node);
    assert_nothing_left_of(&folder);
    assert!(!folder.exists());
}

#[test]
fn two_nodes_live_side_by_side_and_know_nothing_of_each_other() {
    let (one, two) = (RabbitNode::start().unwrap(), RabbitNode::start().unwrap());
    one.ctl(&["add_vhost", "mine"]).unwrap();
    let vhosts = |node: &RabbitNode| node.ctl(&["list_vhosts", "name"]).unwrap();
    assert!(vhosts(&one).lines().any(|vhost| vhost == "mine"));
    assert_eq!(vhosts(&two).trim(), "/");
}

#[test]
fn a_killed_node_comes_back_on_the_same_port_with_its_data() {
    let mut node = RabbitNode::start().unwrap();
    let (url, pid) = (node.url(), node.pid());
    node.ctl(&["add_vhost", "kept"]).unwrap();

    node.kill_9();
    assert_eq!(node.pid(), None);
    let refused = TcpStream::connect(("127.0.0.1", node.port())).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    node.restart().unwrap();
    assert_eq!(node.url(), url);
    assert_ne!(node.pid(), pid);
    assert!(node.ctl(&["list_vhosts", "name"]).unwrap().lines().any(|vhost| vhost == "kept"));
}

#[test]
fn a_paused_node_is_silent_until_it_goes_on_and_can_be_stopped() {
    let mut node = RabbitNode::start().unwrap();
    node.pause().unwrap();
    let silence = answers(node.port(), "").unwrap_err();
    assert!(matches!(silence.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{silence}");
    node.resume().unwrap();
    answers(node.port(), "").unwrap();

    node.pause().unwrap();
    node.stop().unwrap();
    assert_eq!(node.pid(), None);
    assert!(answers(node.port(), "").is_err());
    assert!(node.pause().is_err());
}

#[test]
fn a_refused_command_is_an_error_with_its_reason() {
    let node = RabbitNode::start().unwrap();
    let error = node.ctl(&["delete_vhost", "never-there"]).unwrap_err();
    assert!(error.to_string().contains("never-there"), "{error}");
    assert!(answers(node.port(), "somebody-else").is_err());
}
