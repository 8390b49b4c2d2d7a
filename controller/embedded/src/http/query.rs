//! The parameters after `?`, read once and typed. Unknown ones are ignored.

use super::route::decode;
use crate::schema::FieldValidation;
use crate::status::Status;
use crate::table::IncludeObject;
use std::collections::BTreeMap;
use std::time::Duration;

/// Which version a list may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    NotOlderThan,
    Exact,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) limit: usize,
    pub(crate) continue_token: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) version_match: Option<Match>,
    pub(crate) watch: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) field_validation: FieldValidation,
    pub(crate) dry_run: bool,
    pub(crate) include: IncludeObject,
}

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Query, Status> {
        let parameters = parameters(text);
        let get = |name: &str| parameters.get(name).map(String::as_str).filter(|v| !v.is_empty());
        let version_match = match get("resourceVersionMatch") {
            None => None,
            Some("NotOlderThan") => Some(Match::NotOlderThan),
            Some("Exact") => Some(Match::Exact),
            Some(other) => return Err(invalid("resourceVersionMatch", other)),
        };
        let field_validation = match get("fieldValidation") {
            None => FieldValidation::Warn,
            Some(word) => {
                FieldValidation::parse(word).ok_or_else(|| invalid("fieldValidation", word))?
            }
        };
        let include = match get("includeObject") {
            None => IncludeObject::Metadata,
            Some(word) => IncludeObject::parse(word).ok_or_else(|| bad("includeObject", word))?,
        };
        if get("fieldManager").is_some_and(|manager| manager.chars().count() > 128) {
            return Err(Status::invalid("fieldManager: Too long: may not be more than 128 bytes"));
        }
        Ok(Query {
            limit: number(&parameters, "limit")?.unwrap_or(0) as usize,
            continue_token: get("continue").map(str::to_owned),
            resource_version: get("resourceVersion").map(str::to_owned),
            version_match,
            watch: flag(get("watch")),
            timeout: number(&parameters, "timeoutSeconds")?.map(Duration::from_secs),
            bookmarks: flag(get("allowWatchBookmarks")),
            send_initial_events: get("sendInitialEvents").map(|word| flag(Some(word))),
            label_selector: get("labelSelector").unwrap_or_default().to_owned(),
            field_selector: get("fieldSelector").unwrap_or_default().to_owned(),
            field_validation,
            dry_run: dry_run(get("dryRun"))?,
            include,
        })
    }

    /// The version as a number; `None` if unset or 0: any will do.
    pub(crate) fn version(&self) -> Result<Option<u64>, Status> {
        match self.resource_version.as_deref() {
            None | Some("0") => Ok(None),
            Some(text) => match text.parse() {
                Ok(version) => Ok(Some(version)),
                Err(_) => Err(bad("resourceVersion", text)),
            },
        }
    }
}

/// `All` or nothing.
pub(crate) fn dry_run(word: Option<&str>) -> Result<bool, Status> {
    match word {
        None => Ok(false),
        Some("All") => Ok(true),
        Some(other) => Err(invalid("dryRun", other)),
    }
}

fn parameters(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
    });
    pairs.collect()
}

fn flag(word: Option<&str>) -> bool {
    matches!(word, Some("true" | "1" | "t" | "T" | "True" | "TRUE"))
}

fn number(parameters: &BTreeMap<String, String>, name: &str) -> Result<Option<u64>, Status> {
    match parameters.get(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| bad(name, text)),
    }
}

fn invalid(name: &str, value: &str) -> Status {
    Status::invalid(format!("{name}: Unsupported value: {value:?}"))
}

fn bad(name: &str, value: &str) -> Status {
    Status::bad_request(format!("{name}: invalid value {value:?}"))
}
