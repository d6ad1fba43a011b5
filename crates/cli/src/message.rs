//! Messages on stdout: bare, as lines, or as JSON.

use crate::options::Format;
use base64::{Engine, engine::general_purpose::STANDARD};
use pooka::{BasicProperties, Message, Table, Value, message::ShortStr};
use serde_json::{Map, Value as Json, json};
use std::io::{self, Write};

/// A message to be shown: one of a consumer, or one that was asked for.
pub(crate) struct Shown<'a> {
    pub(crate) exchange: ShortStr<'a>,
    pub(crate) routing_key: ShortStr<'a>,
    pub(crate) delivery_tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) properties: &'a BasicProperties,
    pub(crate) body: &'a [u8],
}

impl<'a> From<&'a Message> for Shown<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            exchange: message.exchange.as_short_str(),
            routing_key: message.routing_key.as_short_str(),
            delivery_tag: message.delivery_tag.number(),
            redelivered: message.redelivered,
            properties: &message.properties,
            body: &message.body,
        }
    }
}

/// Writes a message and flushes it.
pub(crate) fn write(out: &mut impl Write, format: Format, message: &Shown<'_>) -> io::Result<()> {
    if format.json {
        writeln!(out, "{}", object(message))?;
    } else {
        out.write_all(message.body)?;
        if format.lines {
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

fn object(message: &Shown<'_>) -> Json {
    let mut object = json!({
        "exchange": message.exchange.to_string_lossy(),
        "routing_key": message.routing_key.to_string_lossy(),
        "delivery_tag": message.delivery_tag,
        "redelivered": message.redelivered,
        "properties": properties(message.properties),
    });
    let (name, body) = match std::str::from_utf8(message.body) {
        Ok(text) => ("body", text.into()),
        Err(_) => ("body_base64", STANDARD.encode(message.body)),
    };
    object[name] = Json::String(body);
    object
}

fn properties(properties: &BasicProperties) -> Json {
    let mut object = Map::new();
    macro_rules! texts {
        ($($name:ident)*) => { $(
            if let Some(text) = &properties.$name {
                object.insert(stringify!($name).into(), text.to_string_lossy().into());
            }
        )* };
    }
    macro_rules! numbers {
        ($($name:ident)*) => { $(
            if let Some(number) = properties.$name {
                object.insert(stringify!($name).into(), number.into());
            }
        )* };
    }
    texts!(content_type content_encoding correlation_id reply_to expiration message_id message_type user_id app_id cluster_id);
    numbers!(delivery_mode priority timestamp);
    if let Some(headers) = &properties.headers {
        object.insert("headers".into(), table(headers));
    }
    object.into()
}

fn table(table: &Table) -> Json {
    table
        .iter()
        .map(|(key, value)| (key.to_string_lossy().into_owned(), json_value(value)))
        .collect::<Map<_, _>>()
        .into()
}

fn json_value(value: &Value) -> Json {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::F32(value) => (*value).into(),
        Value::F64(value) => (*value).into(),
        Value::Decimal { scale, value } => decimal(*scale, *value).into(),
        Value::Timestamp(seconds) => (*seconds).into(),
        Value::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => text.into(),
            Err(_) => json!({ "base64": STANDARD.encode(text.as_bytes()) }),
        },
        Value::Bytes(octets) => json!({ "base64": STANDARD.encode(octets) }),
        Value::Array(values) => values.iter().map(json_value).collect(),
        Value::Table(inner) => table(inner),
        Value::Void => Json::Null,
        number => number.as_i64().map_or(Json::Null, Json::from),
    }
}

/// Returns the decimal as text, because many readers of JSON make its numbers binary and so round them.
fn decimal(scale: u8, value: i32) -> String {
    let digits = format!("{:0width$}", value.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if value < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (scale, value, text) in [(2, 12345, "123.45"), (0, -7, "-7"), (3, -5, "-0.005"), (2, 0, "0.00")] {
            assert_eq!(decimal(scale, value), text);
        }
    }

    #[test]
    fn a_message_is_an_object_on_one_line() {
        let headers = Table::default().with("n", 7).with("inner", Table::default().with("t", true));
        let properties = BasicProperties::new().content_type("text/plain").persistent();
        let properties = BasicProperties { headers: Some(headers), ..properties };
        let exchange = pooka::ShortString::from("e");
        let shown = Shown {
            exchange: exchange.as_short_str(),
            routing_key: exchange.as_short_str(),
            delivery_tag: 3,
            redelivered: true,
            properties: &properties,
            body: b"\xFFline\n",
        };
        let mut out = vec![];
        write(&mut out, Format { lines: false, json: true }, &shown).unwrap();
        assert_eq!(out.iter().filter(|octet| **octet == b'\n').count(), 1);
        let object: Json = serde_json::from_slice(&out).unwrap();
        assert_eq!(object["body_base64"], "/2xpbmUK");
        assert_eq!(object["properties"]["headers"]["inner"]["t"], true);
        assert_eq!(object["properties"]["delivery_mode"], 2);
        assert_eq!((&object["delivery_tag"], &object["redelivered"]), (&json!(3), &json!(true)));
    }
}
