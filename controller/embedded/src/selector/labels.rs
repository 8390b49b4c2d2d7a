//! `a=b,c!=d,e in (f,g),h,!i`, read token by token as the API server does.

use super::SelectorError;
use serde_json::Value;

/// A conjunction of requirements on labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    wants: Wants,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wants {
    Present,
    Absent,
    OneOf(Vec<String>),
    /// Absent labels count as none of them.
    NoneOf(Vec<String>),
}

impl LabelSelector {
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let requirements = parser.requirements().map_err(SelectorError::Label)?;
        Ok(LabelSelector { requirements })
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Looks at `metadata.labels` of the object.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key).and_then(Value::as_str);
            match (&requirement.wants, value) {
                (Wants::Present, value) => value.is_some(),
                (Wants::Absent, value) => value.is_none(),
                (Wants::OneOf(values), Some(value)) => values.iter().any(|v| v == value),
                (Wants::OneOf(_), None) => false,
                (Wants::NoneOf(values), Some(value)) => values.iter().all(|v| v != value),
                (Wants::NoneOf(_), None) => true,
            }
        })
    }
}

/// Punctuation and words alike; the end is the empty token.
fn tokens(text: &str) -> Vec<&str> {
    let is_special = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '<' | '>');
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '=' if rest.starts_with("==") => 2,
            '!' if rest.starts_with("!=") => 2,
            special if is_special(special) => 1,
            _ => rest.find(|c| is_special(c) || c.is_whitespace()).unwrap_or(rest.len()),
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| !matches!(c, '=' | '!' | '(' | ')' | ',' | '<' | '>'))
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
}

const UNREADABLE: &str = "unable to parse requirement: ";

impl<'a> Parser<'a> {
    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).copied().unwrap_or("")
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut found = Vec::new();
        while !self.peek().is_empty() {
            if !is_word(self.peek()) && self.peek() != "!" {
                let got = self.peek();
                return Err(format!("found '{got}', expected: !, identifier, or 'end of string'"));
            }
            found.push(self.requirement()?);
            match self.next() {
                "" => break,
                "," if is_word(self.peek()) || self.peek() == "!" => {}
                "," => {
                    let got = self.peek();
                    return Err(format!("found '{got}', expected: identifier after ','"));
                }
                got => return Err(format!("found '{got}', expected: ',' or 'end of string'")),
            }
        }
        Ok(found)
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == "!";
        if negated {
            self.next();
        }
        let key = self.next();
        if !is_word(key) {
            return Err(format!("{UNREADABLE}found '{key}', expected: identifier"));
        }
        check_key(key)?;
        let wants = match self.peek() {
            _ if negated => Wants::Absent,
            "" | "," => Wants::Present,
            "=" | "==" => Wants::OneOf(self.exact()?),
            "!=" => Wants::NoneOf(self.exact()?),
            "in" => Wants::OneOf(self.list()?),
            "notin" => Wants::NoneOf(self.list()?),
            got => {
                let known = "in, notin, =, ==, !=, gt, lt";
                return Err(format!("{UNREADABLE}found '{got}', expected: {known}"));
            }
        };
        Ok(Requirement { key: key.to_owned(), wants })
    }

    /// The one value after `=`; nothing there is the empty value.
    fn exact(&mut self) -> Result<Vec<String>, String> {
        self.next();
        if self.peek().is_empty() || self.peek() == "," {
            return Ok(vec![String::new()]);
        }
        let value = self.next();
        if !is_word(value) {
            return Err(format!("{UNREADABLE}found '{value}', expected: identifier"));
        }
        check_value(value)?;
        Ok(vec![value.to_owned()])
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        self.next();
        let open = self.next();
        if open != "(" {
            return Err(format!("{UNREADABLE}found '{open}' expected: '('"));
        }
        let mut values = Vec::new();
        loop {
            if is_word(self.peek()) {
                let value = self.next();
                check_value(value)?;
                values.push(value.to_owned());
            } else {
                values.push(String::new());
            }
            match self.next() {
                "," => {}
                ")" => return Ok(values),
                got => return Err(format!("{UNREADABLE}found '{got}', expected: ',' or ')'")),
            }
        }
    }
}

fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.split_once('/').unwrap_or(("x", key));
    let is_prefix = !prefix.is_empty()
        && prefix.len() <= 253
        && prefix.split('.').all(|part| {
            is_name(part) && part.bytes().all(|b| b != b'_' && !b.is_ascii_uppercase())
        });
    if is_name(name) && is_prefix {
        return Ok(());
    }
    let rule = "a valid label key is a name of at most 63 letters, digits, '-', '_' and '.', that \
                starts and ends with a letter or digit, and may stand after a DNS name and '/'";
    Err(format!("{UNREADABLE}<nil>: Invalid value: {key:?}: {rule}"))
}

fn check_value(value: &str) -> Result<(), String> {
    if is_name(value) {
        return Ok(());
    }
    let rule = "a valid label is empty or at most 63 letters, digits, '-', '_' and '.', and starts \
                and ends with a letter or digit";
    Err(format!("{UNREADABLE}values[0]: Invalid value: {value:?}: {rule}"))
}

fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
