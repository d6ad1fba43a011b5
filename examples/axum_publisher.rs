//! A web page on which one posts messages, and which shows those that were consumed: pika's Tornado demo, on axum.
//!
//!     cargo run --example axum_publisher --features tokio -- 127.0.0.1:8080
//!
//! Ctrl-C ends the consumer, answers the pages that wait, and closes the connection.

use axum::{
    Form, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{Html, Redirect},
    routing::{get, post},
};
use pooka::{Channel, Consumer, Error, Message, PublishOutcome, ShortString, TokioConnection};
use std::{collections::VecDeque, env, pin::pin};
use tokio::{net::TcpListener, select, signal::ctrl_c, sync::watch};

/// What the handlers share: one channel, and the messages that were consumed last.
#[derive(Clone)]
struct App {
    channel: Channel,
    queue: ShortString,
    consumed: watch::Receiver<VecDeque<Message>>,
}

#[derive(serde::Deserialize)]
struct Post {
    message: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let connection = TokioConnection::connect(url.parse()?).await?;
    let channel = connection.channel().await?;
    channel.confirm_select().await?;
    let queue = channel.queue_declare("").await?.queue;
    let consumer = channel.basic_consume(&queue).await?;
    let (sender, consumed) = watch::channel(VecDeque::new());
    let consuming = tokio::spawn(consume(consumer, sender));

    let listener = TcpListener::bind(env::args().nth(1).unwrap_or("127.0.0.1:8080".into())).await?;
    println!("serving http://{}", listener.local_addr()?);
    let mut until = consumed.clone();
    let router = Router::new()
        .route("/", get(page))
        .route("/messages/{number}", get(wait))
        .route("/publish/{routing_key}", post(publish))
        .with_state(App { channel, queue, consumed });
    axum::serve(listener, router).with_graceful_shutdown(async move { while until.changed().await.is_ok() {} }).await?;

    println!("{} messages consumed", consuming.await??);
    connection.close().await?;
    Ok(())
}

/// Consumes until Ctrl-C, or until the consumer fails; dropped, the sender tells everybody.
async fn consume(mut consumer: Consumer, consumed: watch::Sender<VecDeque<Message>>) -> pooka::Result<u64> {
    let mut interrupted = pin!(ctrl_c());
    let mut count = 0;
    loop {
        let message = select! {
            biased;
            _ = &mut interrupted => return Ok(count),
            message = consumer.next() => message,
        };
        let Some(message) = message.transpose()? else { return Ok(count) };
        consumer.channel().basic_ack(message.delivery_tag)?;
        count += 1;
        consumed.send_modify(|latest| {
            latest.push_back(message);
            if latest.len() > 20 {
                latest.pop_front();
            }
        });
    }
}

/// Publishes, and says what the broker said.
async fn publish(
    State(app): State<App>,
    Path(routing_key): Path<String>,
    Form(Post { message }): Form<Post>,
) -> Result<Redirect, (StatusCode, String)> {
    match app.channel.basic_publish("", &routing_key, message).mandatory(true).await {
        Ok(PublishOutcome::Acked) => Ok(Redirect::to("/")),
        Ok(PublishOutcome::Returned(returned)) => Err((StatusCode::NOT_FOUND, returned.reply_text.to_string())),
        Ok(PublishOutcome::Nacked) => Err((StatusCode::SERVICE_UNAVAILABLE, "the broker did not take it".into())),
        Err(error @ Error::Invalid(_)) => Err((StatusCode::BAD_REQUEST, error.to_string())),
        Err(error) => Err((StatusCode::BAD_GATEWAY, error.to_string())),
    }
}

/// Answers when that message, or a later one, has been consumed.
async fn wait(State(mut app): State<App>, Path(number): Path<u64>) -> StatusCode {
    match app.consumed.wait_for(|latest| last(latest) >= number).await {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn page(State(app): State<App>) -> Html<String> {
    let latest = app.consumed.borrow();
    let item = |message: &Message| format!("<li>{}</li>\n", escape(&String::from_utf8_lossy(&message.body)));
    let items: String = latest.iter().map(item).collect();
    let next = last(&latest) + 1;
    Html(format!(
        "<!DOCTYPE html>
<title>pooka</title>
<form action='/publish/{}' method='post'><input name='message' autofocus> <button>Publish</button></form>
<ul>\n{items}</ul>
<script>fetch('/messages/{next}').then(answer => answer.ok && location.reload())</script>\n",
        escape(&app.queue.to_string())
    ))
}

fn last(latest: &VecDeque<Message>) -> u64 {
    latest.back().map_or(0, |message| message.delivery_tag.number())
}

/// The text as HTML.
fn escape(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;").replace('\'', "&#39;")
}
