//! No secret bytes where they do not belong: key files and tokens, raw, in hex, in base64.
//!
//! Every file of a lab is searched but the secrets' own: logs, the embedded API's database (so all
//! resources and events), the agents' views, reservations and node files.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::files_below;

/// Shorter strings would be found by chance.
const SHORTEST: usize = 16;
/// A database is searched for many secrets in one pass: by how each form begins.
const START: usize = 8;

/// The secrets of a lab, in every form in which they could leak.
#[derive(Default)]
pub struct Secrets {
    /// where it was found, and one form of it
    forms: Vec<(String, Vec<u8>)>,
}

impl Secrets {
    /// Collects from key files and kubeconfigs below `dir`.
    pub fn below(dir: &Path) -> Self {
        let mut secrets = Self::default();
        for path in files_below(dir) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).unwrap_or_default();
            if is_key_file(&name) {
                secrets.add_key_file(&name, &bytes);
            } else if is_kubeconfig(&name) {
                secrets.add_tokens(&name, &String::from_utf8_lossy(&bytes));
            }
        }
        secrets
    }

    /// Adds one secret by its bytes.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        if secret.len() < SHORTEST {
            return;
        }
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let forms = [
            secret.to_vec(),
            hex.to_uppercase().into_bytes(),
            hex.into_bytes(),
            STANDARD.encode(secret).trim_end_matches('=').as_bytes().to_vec(),
            URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        ];
        self.forms.extend(forms.into_iter().map(|form| (name.to_owned(), form)));
    }

    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// The names of the secrets that occur in `text`.
    pub fn found_in(&self, text: &[u8]) -> Vec<String> {
        let mut by_start: HashMap<&[u8], Vec<&(String, Vec<u8>)>> = HashMap::new();
        for form in &self.forms {
            by_start.entry(&form.1[..START]).or_default().push(form);
        }
        let starts = text.windows(START).enumerate();
        let candidates = starts.flat_map(|(at, start)| {
            by_start.get(start).into_iter().flatten().map(move |form| (at, *form))
        });
        let found = candidates.filter(|(at, (_, form))| text[*at..].starts_with(form));
        let names: BTreeSet<String> = found.map(|(_, (name, _))| name.clone()).collect();
        names.into_iter().collect()
    }

    /// The same for every file below `dir` that is not itself a key or a kubeconfig.
    pub fn found_in_files(&self, dir: &Path) -> Vec<String> {
        let own = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // one being written has a point in front
            let name = name.trim_start_matches('.');
            is_key_file(name) || is_kubeconfig(name)
        };
        let others = files_below(dir).into_iter().filter(|path| !own(path));
        others
            .flat_map(|path| {
                let text = std::fs::read(&path).unwrap_or_default();
                let found = self.found_in(&text);
                found
                    .into_iter()
                    .map(move |name| format!("the secret of {name} is in {}", path.display()))
            })
            .collect()
    }

    /// A key of 32 bytes, as such or in text; a PEM block is a secret line by line.
    fn add_key_file(&mut self, name: &str, bytes: &[u8]) {
        if bytes.len() == 32 {
            return self.add(name, bytes);
        }
        let text = String::from_utf8_lossy(bytes);
        let words = text.split(|c: char| c.is_whitespace() || "\"',:".contains(c));
        for word in words.filter(|word| word.len() > 2 * SHORTEST) {
            self.add(name, word.as_bytes());
            if let Ok(key) = STANDARD.decode(word) {
                self.add(name, &key);
            }
        }
    }

    fn add_tokens(&mut self, name: &str, text: &str) {
        let tokens = text.split_once("token:").map(|(_, rest)| rest);
        let json = text.split_once("\"token\":").map(|(_, rest)| rest);
        for rest in tokens.into_iter().chain(json) {
            let word = rest.trim_start_matches([' ', '"']).split(['"', '\n', ',', '}']).next();
            self.add(name, word.unwrap_or_default().trim().as_bytes());
        }
    }
}

fn is_key_file(name: &str) -> bool {
    let public = name.contains("public") || name.ends_with(".pub") || name.ends_with(".log");
    !public && (name.starts_with("key") || name.ends_with("key") || name.ends_with("key.pem"))
}

fn is_kubeconfig(name: &str) -> bool {
    name.contains("kubeconfig")
}
