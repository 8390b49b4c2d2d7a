//! The part of kubectl's JSONPath that printer columns use: `.a.b`, `[0]`, `[*]`, `['a.b']`,
//! `[?(@.type=="Ready")].status`, `\.` for a dot inside a name.

use serde_json::Value;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    /// From the end if negative.
    Item(i64),
    All,
    Where {
        path: JsonPath,
        equal: bool,
        literal: Value,
    },
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot read the path {path:?} at {at}")]
pub struct JsonPathError {
    pub path: String,
    pub at: usize,
}

impl JsonPath {
    pub fn parse(text: &str) -> Result<JsonPath, JsonPathError> {
        let mut reader = Reader { text, at: 0 };
        let steps = reader.steps();
        if reader.rest().is_empty() {
            return Ok(JsonPath { steps });
        }
        Err(JsonPathError { path: text.to_owned(), at: reader.at })
    }

    /// Everything that the path leads to, in order; what is missing leads nowhere.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.steps {
            found = found.into_iter().flat_map(|value| step.from(value)).collect();
        }
        found
    }
}

impl Step {
    fn from<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Step::Member(name), Value::Object(members)) => members.get(name).into_iter().collect(),
            (Step::Item(index), Value::Array(items)) => {
                let from_end = |back: u64| items.len().checked_sub(usize::try_from(back).ok()?);
                let index = match usize::try_from(*index) {
                    Ok(index) => Some(index),
                    Err(_) => from_end(index.unsigned_abs()),
                };
                let item = index.and_then(|index| items.get(index));
                item.into_iter().collect()
            }
            (Step::All, Value::Array(items)) => items.iter().collect(),
            (Step::All, Value::Object(members)) => members.values().collect(),
            (Step::Where { path, equal, literal }, Value::Array(items)) => {
                let holds = |item: &&Value| match path.find(item).first() {
                    Some(found) => (*found == literal) == *equal,
                    None => false,
                };
                items.iter().filter(holds).collect()
            }
            _ => Vec::new(),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// As many steps as can be read; the caller sees by what is left whether that was all.
    fn steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let before = self.at;
            match self.step() {
                Some(step) => steps.push(step),
                None => {
                    self.at = before;
                    return steps;
                }
            }
        }
    }

    fn step(&mut self) -> Option<Step> {
        if self.take("[") {
            let step = self.bracket()?;
            return self.take("]").then_some(step);
        }
        if !self.take(".") {
            return None;
        }
        if self.take("*") {
            return Some(Step::All);
        }
        let name = self.name();
        (!name.is_empty()).then_some(Step::Member(name))
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        let mut escaped = false;
        for c in self.rest().chars() {
            match c {
                '\\' if !escaped => escaped = true,
                '.' | '[' | ']' | '=' | '!' | ')' | ' ' if !escaped => break,
                _ => {
                    name.push(c);
                    escaped = false;
                }
            }
            self.at += c.len_utf8();
        }
        name
    }

    fn bracket(&mut self) -> Option<Step> {
        if self.take("*") {
            return Some(Step::All);
        }
        if self.take("?(@") {
            return self.condition();
        }
        if self.rest().starts_with(['\'', '"']) {
            return self.quoted().map(Step::Member);
        }
        let end = self.rest().find(']')?;
        let index = self.rest()[..end].parse().ok()?;
        self.at += end;
        Some(Step::Item(index))
    }

    fn condition(&mut self) -> Option<Step> {
        let path = JsonPath { steps: self.steps() };
        self.spaces();
        let equal = self.take("==");
        if !equal && !self.take("!=") {
            return None;
        }
        self.spaces();
        let literal = self.literal()?;
        self.spaces();
        self.take(")").then_some(Step::Where { path, equal, literal })
    }

    fn spaces(&mut self) {
        while self.take(" ") {}
    }

    fn literal(&mut self) -> Option<Value> {
        if self.rest().starts_with(['\'', '"']) {
            return self.quoted().map(Value::String);
        }
        let end = self.rest().find([')', ' '])?;
        let word = &self.rest()[..end];
        self.at += end;
        serde_json::from_str(word).ok()
    }

    fn quoted(&mut self) -> Option<String> {
        let quote = self.rest().chars().next()?;
        let end = self.rest()[1..].find(quote)? + 1;
        let text = self.rest()[1..end].to_owned();
        self.at += end + 1;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn find(path: &str, value: &Value) -> Vec<Value> {
        JsonPath::parse(path).unwrap().find(value).into_iter().cloned().collect()
    }

    #[test]
    fn a_path_leads_to_what_it_names() {
        let value = json!({
            "spec": {"n": 1, "a.b": "dot", "list": [{"c": "x"}, {"c": "y"}]},
            "status": {"conditions": [
                {"type": "Synced", "status": "False"},
                {"type": "Ready", "status": "True", "n": 3},
            ]},
        });

        assert_eq!(find(".spec.n", &value), [json!(1)]);
        assert_eq!(find(".spec.a\\.b", &value), [json!("dot")]);
        assert_eq!(find(".spec['a.b']", &value), [json!("dot")]);
        assert_eq!(find(".spec.list[1].c", &value), [json!("y")]);
        assert_eq!(find(".spec.list[-1].c", &value), [json!("y")]);
        assert_eq!(find(".spec.list[*].c", &value), [json!("x"), json!("y")]);
        let ready = r#".status.conditions[?(@.type=="Ready")].status"#;
        assert_eq!(find(ready, &value), [json!("True")]);
        let others = ".status.conditions[?(@.type != 'Ready')].status";
        assert_eq!(find(others, &value), [json!("False")]);
        assert_eq!(find(".status.conditions[?(@.n==3)].type", &value), [json!("Ready")]);
    }

    #[test]
    fn what_is_missing_or_of_another_kind_leads_nowhere() {
        let value = json!({"spec": {"n": 1, "list": []}});

        for path in [".status.x", ".spec.n.m", ".spec.n[0]", ".spec.list[0]", ".spec.list[-1]"] {
            assert_eq!(find(path, &value), Vec::<Value>::new(), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        for (path, at) in [("spec", 0), (".a[", 2), (".a..b", 2), (".a[?(@.b)]", 2), (".a[x]", 2)] {
            let error = JsonPathError { path: path.to_owned(), at };
            assert_eq!(JsonPath::parse(path), Err(error), "{path}");
        }
    }
}
