//! What may go to other threads: everything but a state that may not.
#![allow(clippy::unwrap_used)]

use pooka::{
    Awaited, Channel, ConnectionHandle, ConnectionParameters, Consumer, LoopHandle, Message, PublishOutcome, Result,
    SmolConnection, SmolLoop, TokioConnection, TokioLoop,
};
use std::{future::Future, rc::Rc, time::Duration};

fn send<T: Send>(_: &T) {}
fn is_send<T: Send>() {}
fn is_shared<T: Send + Sync + Clone + 'static>() {}

/// A state that stays on its thread.
struct Local(#[expect(dead_code)] Rc<()>);

#[test]
fn handles_are_send_and_sync_whatever_the_state_is() {
    fn handles<S: 'static>() {
        is_shared::<LoopHandle<S>>();
        is_shared::<ConnectionHandle<S>>();
        is_shared::<Channel<S>>();
        is_send::<Consumer<S>>();
        is_send::<Awaited<ConnectionHandle<S>>>();
        is_send::<Message>();
    }
    handles::<Local>();
    handles::<()>();
}

#[test]
fn what_is_awaited_is_send() {
    async fn all<S: 'static>(channel: Channel<S>) -> Result<()> {
        channel.queue_declare("q").durable(true).await?;
        let mut consumer = channel.basic_consume("q").await?;
        let _: PublishOutcome = channel.basic_publish("", "q", "body").mandatory(true).await?;
        consumer.next().await.transpose()?;
        channel.basic_get("q").await?;
        channel.connection().writable().await?;
        channel.connection().channel().await?;
        channel.connection().ioloop().connect(ConnectionParameters::default()).await?;
        channel.close().await?;
        channel.connection().close().await
    }
    fn check<S: 'static>(channel: Channel<S>) {
        send(&all(channel));
    }
    let _: fn(Channel<Local>) = check;
}

/// T2
#[test]
fn a_loop_on_a_runtime_is_a_future_that_is_send_if_the_state_is() {
    fn tokio<S: Send>(ioloop: &mut TokioLoop<S>, connection: &mut TokioConnection<S>, state: &mut S) {
        send(&ioloop.run(state));
        send(&connection.run(state));
    }
    fn smol<S: Send>(ioloop: &mut SmolLoop<S>, connection: &mut SmolConnection<S>, state: &mut S) {
        send(&ioloop.run(state));
        send(&connection.run(state));
    }
    tokio::<u8>(&mut TokioLoop::new(), &mut open(), &mut 0);
    smol::<u8>(&mut SmolLoop::new(), &mut open(), &mut 0);
    send(&TokioConnection::connect(ConnectionParameters::default()));
    let both = (TokioConnection::pair(ConnectionParameters::default()), SmolConnection::pair(Default::default()));
    send(&both);
}

fn open<C: pooka::Connection<u8>>() -> C {
    C::open(ConnectionParameters::default(), |_: &mut u8, _, _| ()).unwrap()
}

/// A connection is opened and its loop dropped before anything was served: nobody waits for ever.
#[test]
fn a_loop_that_nobody_polls_answers_when_it_is_dropped() {
    fn answered(
        (connecting, driver): (impl Future<Output = Result<ConnectionHandle>>, impl Future<Output = Result<()>>),
    ) {
        drop(driver);
        let late = async {
            smol::Timer::after(Duration::from_secs(20)).await;
            panic!("it hangs");
        };
        let error = smol::block_on(smol::future::or(connecting, late)).unwrap_err();
        assert_eq!(error, pooka::Error::LoopGone);
    }
    answered(TokioConnection::pair(ConnectionParameters::default()));
    answered(SmolConnection::pair(ConnectionParameters::default()));
}
