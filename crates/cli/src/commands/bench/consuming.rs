//! Deliveries as fast as possible, acknowledged one by one or not at all.

use super::{BenchConnection, Run, finish};
use crate::{
    app::{App, channel},
    options::Workload,
};
use pooka::{Channel, Delivery, Result};

pub(super) fn consume(app: &mut App<Run>, connection: &BenchConnection) -> Result<()> {
    let channel = channel(connection)?;
    let acks = app.work.options.workload == Workload::ConsumeAck;
    if acks {
        channel.basic_qos(app.work.options.prefetch).send()?;
    }
    app.work.begin();
    let consumer = channel.basic_consume(app.work.queue.clone()).no_ack(!acks);
    let on_message = move |app: &mut App<Run>, channel: &Channel<App<Run>>, delivery: Delivery<'_>| -> Result<()> {
        if acks {
            channel.basic_ack(delivery.delivery_tag)?;
        }
        let run = &mut app.work;
        run.done += 1;
        if run.done == run.options.messages {
            finish(app, &channel.connection(), &[]);
        }
        Ok(())
    };
    consumer.on_message(on_message).send().map(drop)
}
