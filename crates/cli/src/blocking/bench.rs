//! The workloads, each as a program of calls that wait.

use crate::{
    commands::bench::{
        DROP, KEY, SYNC,
        report::{self, Latencies, Usage, status_kb},
    },
    end::End,
    options::{Bench, Workload},
};
use pooka::{BlockingChannel, BlockingConnection, ConnectionParameters, Error, PublishOutcome, Result};
use std::{collections::VecDeque, future::IntoFuture, pin::Pin, task::Poll};

const PEER: &str = "pooka-blocking";

/// Deliveries that may wait here where the broker knows no limit.
const CAPACITY: usize = 10_000;

pub(super) fn run(parameters: &ConnectionParameters, options: &Bench) -> End {
    let parameters = parameters.clone();
    super::with(parameters, |connection| {
        let channel = connection.channel().call()?;
        let mut extra = vec![];
        let (from, to) = match options.workload {
            Workload::Publish => publish(&channel, options, &mut extra)?,
            Workload::PublishConfirm => confirmed(connection, options)?,
            Workload::PublishConfirm1 => confirms(&channel, options, &mut extra)?,
            Workload::ConsumeAck | Workload::ConsumeAutoack => consume(&channel, options)?,
            Workload::Get => gets(&channel, options, &mut extra)?,
            Workload::Pingpong => pings(&channel, options, &mut extra)?,
            Workload::Idle => idle(connection, options, &mut extra)?,
        };
        Ok(report::print(PEER, options, &from, &to, &extra))
    })
}

type Span = (Usage, Usage);
type Extra = Vec<(&'static str, f64)>;

fn body(options: &Bench) -> Vec<u8> {
    vec![b'x'; options.size]
}

fn queue(options: &Bench) -> String {
    options.queue.clone().unwrap_or_else(|| format!("flood-{}-{}", options.messages, options.size))
}

fn declare_drop(channel: &BlockingChannel) -> Result<()> {
    channel.exchange_declare(DROP).exchange_type("fanout").durable(false).call().map(drop)
}

fn sync(channel: &BlockingChannel) -> Result<u32> {
    Ok(channel.queue_declare(SYNC).call()?.message_count)
}

fn publish(channel: &BlockingChannel, options: &Bench, extra: &mut Extra) -> Result<Span> {
    declare_drop(channel)?;
    sync(channel)?;
    let body = body(options);
    let from = Usage::now();
    for _ in 0..options.messages {
        channel.basic_publish(DROP, KEY, &body).send()?;
    }
    extra.push(("server_count", f64::from(sync(channel)?)));
    Ok((from, Usage::now()))
}

/// A window of confirms is a queue of futures.
fn confirmed(connection: &BlockingConnection, options: &Bench) -> Result<Span> {
    let handle = connection.handle().clone();
    let body = body(options);
    let window = usize::try_from(options.window).unwrap_or(usize::MAX);
    connection.block_on(async {
        let channel = handle.channel().await?;
        channel.exchange_declare(DROP).exchange_type("fanout").durable(false).await?;
        channel.confirm_select().await?;
        let from = Usage::now();
        let mut waiting = VecDeque::with_capacity(window);
        for _ in 0..options.messages {
            if waiting.len() == window {
                acked(waiting.pop_front()).await?;
            }
            let mut publish = channel.basic_publish(DROP, KEY, &body).into_future();
            let sent = std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut publish).poll(context))).await;
            match sent {
                Poll::Pending => waiting.push_back(publish),
                Poll::Ready(outcome) => acked(Some(std::future::ready(outcome))).await?,
            }
        }
        while !waiting.is_empty() {
            acked(waiting.pop_front()).await?;
        }
        Ok((from, Usage::now()))
    })?
}

async fn acked(publish: Option<impl Future<Output = Result<PublishOutcome>>>) -> Result<()> {
    let Some(publish) = publish else { return Ok(()) };
    if publish.await? == PublishOutcome::Acked { Ok(()) } else { Err(Error::Nacked { channel: 1 }) }
}

fn confirms(channel: &BlockingChannel, options: &Bench, extra: &mut Extra) -> Result<Span> {
    declare_drop(channel)?;
    channel.confirm_select().call()?;
    let body = body(options);
    each(options, extra, || channel.basic_publish(DROP, KEY, &body).call())
}

fn gets(channel: &BlockingChannel, options: &Bench, extra: &mut Extra) -> Result<Span> {
    let queue = queue(options);
    each(options, extra, || match channel.basic_get(queue.as_str()).no_ack(true).call()? {
        Some(_) => Ok(()),
        None => Err(Error::from_callback(format!("queue \"{queue}\" ran empty").into())),
    })
}

fn pings(channel: &BlockingChannel, options: &Bench, extra: &mut Extra) -> Result<Span> {
    let queue = channel.queue_declare("").call()?.queue;
    let mut pongs = channel.consume(&queue).no_ack(true).capacity(CAPACITY).call()?;
    let body = body(options);
    each(options, extra, || {
        channel.basic_publish("", &queue, &body).send()?;
        pongs.next().unwrap_or(Err(Error::LoopGone)).map(drop)
    })
}

/// One at a time.
fn each(options: &Bench, extra: &mut Extra, mut one: impl FnMut() -> Result<()>) -> Result<Span> {
    let mut latencies = Latencies::default();
    let from = Usage::now();
    for _ in 0..options.messages {
        latencies.begin();
        one()?;
        latencies.end();
    }
    let to = Usage::now();
    extra.extend(latencies.quantiles());
    Ok((from, to))
}

fn consume(channel: &BlockingChannel, options: &Bench) -> Result<Span> {
    let acks = options.workload == Workload::ConsumeAck;
    let from = Usage::now();
    let messages = channel.consume(queue(options)).no_ack(!acks).capacity(CAPACITY);
    let messages = if acks { messages.prefetch(options.prefetch) } else { messages };
    let mut left = options.messages;
    for message in messages.call()? {
        let message = message?;
        if acks {
            channel.basic_ack(message.delivery_tag)?;
        }
        left -= 1;
        if left == 0 {
            break;
        }
    }
    Ok((from, Usage::now()))
}

fn idle(connection: &BlockingConnection, options: &Bench, extra: &mut Extra) -> Result<Span> {
    let before = status_kb("VmRSS:");
    let parameters = connection.handle().parameters();
    let mut opened = vec![];
    for _ in 0..options.messages {
        let another = BlockingConnection::open(parameters.clone())?;
        another.channel().call()?;
        opened.push(another);
    }
    let from = Usage::now();
    connection.sleep(options.hold)?;
    let to = Usage::now();
    let each = status_kb("VmRSS:").saturating_sub(before) as f64 / opened.len().max(1) as f64;
    extra.push(("rss_kb_per_conn", each));
    extra.push(("cpu_s_per_s", (to.cpu() - from.cpu()) / options.hold.as_secs_f64()));
    match opened.iter().find_map(BlockingConnection::close_reason) {
        Some(reason) => Err(reason),
        None => Ok((from, to)),
    }
}
