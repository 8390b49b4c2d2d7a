//! Cases and answers as data.

use super::compare::normalised;
use crate::common::raw::{Answer, Endpoint, Request};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What `~` stands for in a path.
const THINGS: &str = "/apis/test.hawser.dev/v1/things";

/// One file of cases, which run in order on the same server and clean up after themselves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(skip)]
    pub(crate) name: String,
    /// The real server that answers it: `crd` (1.36, CRDs alone) or `cp` (1.20, whole).
    pub(crate) server: String,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// `METHOD path`; without it, a dry-run create of a Thing with `spec`.
    send: Option<String>,
    spec: Option<Value>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Value>,
    /// A body that is not JSON.
    text: Option<String>,
    /// Name → pointer into the answer, for `{name}` in what is sent later.
    #[serde(default)]
    keep: BTreeMap<String, String>,
    /// Ask as somebody unknown.
    #[serde(default)]
    anonymous: bool,
}

/// Case → answer.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answers(pub(crate) BTreeMap<String, Value>);

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name)
}

impl File {
    pub(crate) fn all() -> Vec<File> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder("cases"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        let files: Vec<File> = paths.iter().map(|path| File::read(path)).collect();
        assert!(files.len() > 3, "the cases are where they should be");
        files
    }

    fn read(path: &std::path::Path) -> File {
        let text = std::fs::read_to_string(path).unwrap();
        let mut file: File = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut names: Vec<&str> = file.cases.iter().map(|case| case.name.as_str()).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before, "{}: a name stands twice", file.name);
        file
    }
}

impl Answers {
    fn path(file: &File) -> PathBuf {
        folder("answers").join(format!("{}.json", file.name))
    }

    pub(crate) fn recorded(file: &File) -> Answers {
        let path = Answers::path(file);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Answers(serde_json::from_str(&text).unwrap())
    }

    pub(crate) fn write(&self, file: &File) {
        let text = serde_json::to_string_pretty(&self.0).unwrap() + "\n";
        std::fs::write(Answers::path(file), text).unwrap();
    }
}

pub(crate) fn run(file: &File, endpoint: &Endpoint) -> Answers {
    let anonymous = endpoint.without_token();
    let mut kept = BTreeMap::new();
    let mut answers = Answers::default();
    for case in &file.cases {
        let asked = if case.anonymous { &anonymous } else { endpoint };
        let answer = case.ask(asked, &kept);
        for (name, pointer) in &case.keep {
            let found = serde_json::from_slice::<Value>(&answer.body).ok();
            let found = found.as_ref().and_then(|body| body.pointer(pointer)?.as_str());
            kept.insert(name.clone(), found.unwrap_or("nothing-was-kept").to_owned());
        }
        answers.0.insert(case.name.clone(), case.told(&answer));
    }
    answers
}

impl Case {
    fn ask(&self, endpoint: &Endpoint, kept: &BTreeMap<String, String>) -> Answer {
        let send = self.send.clone().unwrap_or_else(|| "POST ~?dryRun=All".to_owned());
        let send = filled(&send.replace('~', THINGS), kept);
        let (method, path) = send.split_once(' ').unwrap();
        let body = match (&self.text, &self.body, &self.spec) {
            (Some(text), ..) => Some(text.clone()),
            (None, Some(body), _) => Some(body.to_string()),
            (None, None, Some(spec)) => Some(thing(spec).to_string()),
            (None, None, None) => None,
        };
        let body = body.map(|body| filled(&body, kept).into_bytes());
        let mut headers: Vec<(String, String)> = self.headers.clone().into_iter().collect();
        if body.is_some() && !self.headers.contains_key("Content-Type") {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        endpoint.send(&Request { method, path, headers, body })
    }

    /// What is compared: nothing that differs from run to run.
    fn told(&self, answer: &Answer) -> Value {
        let is_watch = self.send.as_deref().is_some_and(|send| send.contains("watch="));
        let body = if is_watch && answer.code == 200 {
            let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.map(|line| serde_json::from_slice::<Value>(line).unwrap()).collect()
        } else {
            serde_json::from_slice(&answer.body)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&answer.body)))
        };
        let mut told = Map::new();
        told.insert("code".to_owned(), answer.code.into());
        told.insert("type".to_owned(), answer.headers_named("Content-Type").into());
        let warnings = answer.headers_named("Warning");
        if !warnings.is_empty() {
            told.insert("warnings".to_owned(), warnings.into());
        }
        told.insert("body".to_owned(), normalised(body));
        told.into()
    }
}

fn thing(spec: &Value) -> Value {
    json!({ "apiVersion": "test.hawser.dev/v1", "kind": "Thing", "metadata": { "name": "a" },
            "spec": spec })
}

fn filled(text: &str, kept: &BTreeMap<String, String>) -> String {
    kept.iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}
