//! What a bundle holds, and what it says of itself.

use jiff::Timestamp;
use serde_json::Value;

/// A file of a bundle, or why it is not there.
pub struct Piece {
    pub name: &'static str,
    pub content: Result<Vec<u8>, String>,
}

impl Piece {
    pub fn missing(name: &'static str, why: &str) -> Self {
        Self { name, content: Err(why.to_owned()) }
    }

    pub fn json(name: &'static str, value: &Value) -> Self {
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| error.to_string());
        Self { name, content: bytes }
    }
}

/// No colons: they are no part of a file's name everywhere.
pub fn file_name(now: Timestamp) -> String {
    format!("hawser-bundle-{}.tar.gz", now.strftime("%Y%m%d-%H%M%S"))
}

/// A list without what nobody reads: who wrote which field, and events of others.
pub fn trimmed(mut list: Value) -> Value {
    if let Some(items) = list["items"].as_array_mut() {
        items.retain(is_ours);
        for item in items {
            if let Some(metadata) = item["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
        }
    }
    list
}

fn is_ours(item: &Value) -> bool {
    let of_ours = |field: &str| {
        let version = item[field]["apiVersion"].as_str();
        version.is_some_and(|version| version.starts_with(api::GROUP))
    };
    item["regarding"].is_null() || of_ours("regarding") || of_ours("related")
}

pub fn readme(pieces: &[Piece], now: Timestamp) -> Piece {
    let mut text = format!(
        "hawser {} wrote this at {now}.\n\n\
         No key and no join token is in here. Names, addresses and public keys are; of packets the\n\
         headers, and more only if the agent was started with --recent-payload.\n\n",
        env!("CARGO_PKG_VERSION")
    );
    for Piece { name, content } in pieces {
        let line = match content {
            Ok(bytes) => format!("{name}  {} bytes\n", bytes.len()),
            Err(why) => format!("{name}  left out: {why}\n"),
        };
        text.push_str(&line);
    }
    Piece { name: "README.txt", content: Ok(text.into_bytes()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_of_others_and_managed_fields_stay_out() {
        let ours = json!({"apiVersion": "hawser.dev/v1alpha1", "kind": "MeshNode"});
        let list = json!({"items": [
            {"metadata": {"name": "a", "managedFields": []}, "regarding": ours},
            {"metadata": {"name": "b"}, "regarding": {"apiVersion": "v1"}},
            {"metadata": {"name": "c"}, "regarding": {"apiVersion": "v1"}, "related": ours},
            {"metadata": {"name": "d", "managedFields": [1]}, "spec": {}},
        ]});

        let list = trimmed(list);

        let names = list["items"].as_array().unwrap().iter().map(|item| &item["metadata"]);
        let names: Vec<_> = names.cloned().collect();
        assert_eq!(names, ["a", "c", "d"].map(|name| json!({ "name": name })));
    }

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let pieces = [Piece::json("a.json", &json!({})), Piece::missing("b", "not permitted")];

        let readme = readme(&pieces, Timestamp::UNIX_EPOCH).content.unwrap();

        let text = String::from_utf8(readme).unwrap();
        assert!(text.contains("a.json  2 bytes") && text.contains("b  left out: not permitted"));
        assert_eq!(file_name(Timestamp::UNIX_EPOCH), "hawser-bundle-19700101-000000.tar.gz");
    }
}
