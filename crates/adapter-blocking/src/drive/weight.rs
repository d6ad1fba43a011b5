//! How much memory something takes while it waits for its callback, in octets: about, and rather too much than too little.

use amqp_core::{BasicProperties, Message, Returned, ShortString, Table, Value};

/// What the allocator needs for itself.
const ALLOCATION: usize = 16;

/// A field of a table, twice, because tables grow by doubling.
const FIELD: usize = 2 * size_of::<(ShortString, Value)>();

pub(crate) fn message(message: &Message) -> usize {
    let Message { exchange, routing_key, properties, body, .. } = message;
    size_of::<Message>() + name(exchange) + name(routing_key) + of_properties(properties) + octets(body)
}

pub(crate) fn returned(returned: &Returned) -> usize {
    let Returned { reply_text, exchange, routing_key, properties, body, .. } = returned;
    let names = name(reply_text) + name(exchange) + name(routing_key);
    size_of::<Returned>() + names + of_properties(properties) + octets(body)
}

pub(crate) fn name(name: &ShortString) -> usize {
    octets(name.as_bytes())
}

fn octets(octets: &[u8]) -> usize {
    octets.len() + ALLOCATION
}

fn of_properties(properties: &BasicProperties) -> usize {
    if properties.is_empty() {
        return 0;
    }
    let BasicProperties { content_type, content_encoding, correlation_id, reply_to, expiration, .. } = properties;
    let BasicProperties { headers, message_id, message_type, user_id, app_id, cluster_id, .. } = properties;
    let names = [content_type, content_encoding, correlation_id, reply_to, expiration];
    let more = [message_id, message_type, user_id, app_id, cluster_id];
    let names: usize = names.into_iter().chain(more).flatten().map(name).sum();
    names + headers.as_ref().map_or(0, table)
}

fn table(table: &Table) -> usize {
    table.iter().map(|(key, of)| FIELD + name(key) + value(of)).sum::<usize>() + ALLOCATION
}

/// Beside its place in the table.
fn value(of: &Value) -> usize {
    match of {
        Value::LongString(string) => octets(string.as_bytes()),
        Value::Bytes(bytes) => octets(bytes),
        Value::Array(values) => values.iter().map(|of| 2 * size_of::<Value>() + value(of)).sum::<usize>() + ALLOCATION,
        Value::Table(of) => table(of),
        _ => 0,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn headers_weigh_more_than_their_octets_on_the_wire() {
        let nested = Table::new().with("void", Value::Void).with("array", vec![Value::Void; 3]);
        let headers = Table::new().with("text", "x".repeat(100)).with("table", nested);
        let light = of_properties(&BasicProperties::new().content_type("text/plain"));
        let heavy = of_properties(&BasicProperties::new().headers(headers));
        assert_eq!(light, 10 + ALLOCATION);
        assert!(heavy > 4 * FIELD + 3 * size_of::<Value>() + 100, "{heavy}");
    }
}
