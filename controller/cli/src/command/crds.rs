//! `hawser crds`: the definitions, ready for `kubectl apply -f -`.

use serde::Serialize;

use crate::{
    args::Format,
    exit::{Exit, Failure},
    output::{Item, Output, Table},
    terminal::Terminal,
};

pub(super) fn run(terminal: &Terminal) -> Result<Exit, Failure> {
    match terminal.format() {
        // What kubectl reads is the result here, not a table about it.
        Format::Table | Format::Wide | Format::Yaml => terminal.raw(&api::crds_yaml())?,
        Format::Json | Format::Jsonl | Format::Name => terminal.print(&listed())?,
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Definition<'a> {
    name: &'a str,
    definition: &'a serde_json::Value,
}

fn listed() -> Output {
    let items = api::crds()
        .iter()
        .map(|crd| {
            let name = crd.metadata.name.clone().unwrap_or_default();
            let definition = serde_json::to_value(crd).expect("a definition is plain data");
            Item::new(
                format!("customresourcedefinition/{name}"),
                &Definition { name: &name, definition: &definition },
            )
        })
        .collect();
    Output::list("CustomResourceDefinition", Table::new(&["NAME"], 1, ""), items)
}
