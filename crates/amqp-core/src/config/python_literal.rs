//! Python's literals, which pika's URLs have as the values of options: `{'keyfile': '/k.pem', 'verify': True}`.

/// A value as `ast.literal_eval` reads it; what no option can be is left out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Dict(Vec<(String, Self)>),
}

/// Reads all of `text`; `None` if that is no literal.
pub(crate) fn literal(text: &str) -> Option<Literal> {
    let mut rest = Rest(text);
    let value = rest.value(DEEPEST)?;
    rest.skip_spaces();
    rest.0.is_empty().then_some(value)
}

/// Dictionaries in dictionaries.
const DEEPEST: usize = 8;

struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn value(&mut self, depth: usize) -> Option<Literal> {
        self.skip_spaces();
        match self.0.chars().next()? {
            '{' => self.dict(depth.checked_sub(1)?),
            '\'' | '"' => self.text().map(Literal::Text),
            _ => self.word(),
        }
    }

    fn dict(&mut self, depth: usize) -> Option<Literal> {
        self.take('{')?;
        let mut entries = vec![];
        loop {
            self.skip_spaces();
            if self.take('}').is_some() {
                return Some(Literal::Dict(entries));
            }
            let key = self.text()?;
            self.skip_spaces();
            self.take(':')?;
            entries.push((key, self.value(depth)?));
            self.skip_spaces();
            if self.take(',').is_none() && !self.0.starts_with('}') {
                return None;
            }
        }
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.0.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        self.take(quote)?;
        let mut text = String::new();
        loop {
            match self.next()? {
                c if c == quote => return Some(text),
                '\\' => text.push(match self.next()? {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    c @ ('\\' | '\'' | '"') => c,
                    _ => return None,
                }),
                c => text.push(c),
            }
        }
    }

    fn word(&mut self) -> Option<Literal> {
        let end = self.0.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        match word {
            "None" => Some(Literal::None),
            "True" => Some(Literal::Bool(true)),
            "False" => Some(Literal::Bool(false)),
            _ if !word.ends_with(|c: char| c.is_ascii_digit() || c == '.') => None,
            _ => word
                .parse()
                .map(Literal::Int)
                .ok()
                .or_else(|| word.parse().ok().filter(|float: &f64| float.is_finite()).map(Literal::Float)),
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut rest = self.0.chars();
        let next = rest.next();
        self.0 = rest.as_str();
        next
    }

    fn take(&mut self, c: char) -> Option<()> {
        self.0 = self.0.strip_prefix(c)?;
        Some(())
    }

    fn skip_spaces(&mut self) {
        self.0 = self.0.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// U8.
    #[test]
    fn what_python_reads_is_read() {
        let entry = |key: &str, value| (key.to_owned(), value);
        for (text, value) in [
            (" None ", Literal::None),
            ("{}", Literal::Dict(vec![])),
            ("-7", Literal::Int(-7)),
            ("1.5", Literal::Float(1.5)),
            (r#"'it\'s'"#, Literal::Text("it's".into())),
            (
                r#"{'a': "b", 'c' : True,'d':{"e":False},}"#,
                Literal::Dict(vec![
                    entry("a", Literal::Text("b".into())),
                    entry("c", Literal::Bool(true)),
                    entry("d", Literal::Dict(vec![entry("e", Literal::Bool(false))])),
                ]),
            ),
        ] {
            assert_eq!(literal(text), Some(value), "{text}");
        }
        let deep = format!("{}{}", "{'a':".repeat(100_000), "}".repeat(100_000));
        for text in ["", "{", "{'a'}", "{'a':1", "{'a':1 'b':2}", "{,}", "'a", "nan", "inf", "1 2", "{1:2}", "x", &deep]
        {
            assert_eq!(literal(text), None);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[{}'\":,\\\\a-zé0-9 .+-]{0,40}") {
            let _ = literal(&text);
        }
    }
}
