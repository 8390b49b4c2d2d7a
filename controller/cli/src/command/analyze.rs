//! `hawser analyze FILE…`: judges resources in files; asks nobody.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    exit::{Exit, Failure},
    terminal::Terminal,
    view::{
        analysis::{Document, judge},
        preflight::{self, Verdict},
    },
};

/// A fleet of ten thousand nodes, as kubectl prints it.
const LARGEST: u64 = 64 << 20;

pub(super) fn run(files: &[PathBuf], terminal: &Terminal) -> Result<Exit, Failure> {
    let mut documents = Vec::new();
    for file in files {
        documents.extend(read(file)?);
    }
    let findings = judge(&documents);
    if findings.is_empty() {
        let what = "there is no resource of hawser.dev in these files";
        return Err(Failure::usage(what).check("the resources have apiVersion hawser.dev/v1alpha1"));
    }
    terminal.print(&preflight::output_as(("Analysis", "analysis/files"), &findings))?;
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Failed);
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

fn read(file: &Path) -> Result<Vec<Document>, Failure> {
    let name = file.display().to_string();
    let refuse = |error: io::Error| Failure::usage(format!("reading {name}: {error}"));
    let mut text = String::new();
    let taken = if file == Path::new("-") {
        io::stdin().take(LARGEST + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).map_err(refuse)?.take(LARGEST + 1).read_to_string(&mut text)
    };
    let read = taken.map_err(refuse)?;
    if read as u64 > LARGEST {
        return Err(Failure::usage(format!("{name} is larger than {LARGEST} bytes")));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 100_000,
            max_nodes: 8_000_000,
            max_events: 16_000_000,
        },
    };
    let objects: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options)
        .map_err(|error| Failure::failed(format!("{name} is not YAML: {error}")))?;
    let objects = objects.into_iter().filter(|object| !object.is_null());
    Ok(objects.map(|object| Document { file: name.clone(), object }).collect())
}
