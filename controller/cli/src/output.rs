//! What a command found, and the six ways to print it.
//!
//! A command makes one [`Output`]; the format is chosen here and nowhere else, so `-o json` cannot
//! know less than the table does.
//!
//! ```text
//! resources + live state → Output { table or screen, objects } → render(format) → stdout
//! ```

use comfy_table::Table as Grid;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{args::Format, exit::Failure, text};

/// The version of everything that `-o json`, `yaml` and `jsonl` print.
pub const API_VERSION: &str = "cli.hawser.dev/v1alpha1";

/// A command's result.
#[derive(Debug)]
pub struct Output {
    /// The objects' kind in JSON, such as `Node`; a list adds `List`.
    kind: &'static str,
    body: Body,
}

#[derive(Debug)]
enum Body {
    List { table: Table, items: Vec<Item> },
    Screen { text: String, item: Item },
}

/// One object of the result: how `-o name` calls it, and all that is known of it.
#[derive(Debug)]
pub struct Item {
    pub name: String,
    pub object: Value,
}

impl Item {
    pub fn new(name: impl Into<String>, object: &impl Serialize) -> Self {
        let object = serde_json::to_value(object).expect("our own structs are JSON objects");
        Self { name: name.into(), object }
    }
}

/// Rows for people. The columns from `narrow` on are shown by `-o wide` only.
#[derive(Debug)]
pub struct Table {
    columns: &'static [&'static str],
    narrow: usize,
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    /// `empty` is the line that stderr gets where there is no row.
    pub fn new(columns: &'static [&'static str], narrow: usize, empty: &'static str) -> Self {
        Self { columns, narrow, rows: Vec::new(), empty }
    }

    pub fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(row.len(), self.columns.len(), "a row has a value for each column");
        self.rows.push(row.iter().map(|value| text::cell(value)).collect());
    }

    fn print(&self, wide: bool) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let shown = if wide { self.columns.len() } else { self.narrow };
        let mut grid = grid();
        grid.set_header(self.columns[..shown].to_vec());
        for row in &self.rows {
            grid.add_row(row[..shown].to_vec());
        }
        lines(&mut grid)
    }
}

/// Lines up rows of free text, two spaces between the columns.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let mut grid = grid();
    for row in rows {
        grid.add_row(row.clone());
    }
    lines(&mut grid)
}

fn grid() -> Grid {
    let mut grid = Grid::new();
    grid.load_style(comfy_table::presets::NOTHING);
    grid
}

fn lines(grid: &mut Grid) -> String {
    for column in grid.column_iter_mut() {
        column.set_padding((0, 2));
    }
    grid.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

impl Output {
    pub fn list(kind: &'static str, table: Table, items: Vec<Item>) -> Self {
        Self { kind, body: Body::List { table, items } }
    }

    /// One object as a screen of text.
    pub fn screen(kind: &'static str, text: String, item: Item) -> Self {
        Self { kind, body: Body::Screen { text, item } }
    }

    /// The text for stdout.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Table => self.text(false),
            Format::Wide => self.text(true),
            Format::Json => pretty(&self.document()),
            Format::Yaml => yaml(&self.document()),
            Format::Name => self.items().iter().map(|item| format!("{}\n", item.name)).collect(),
            Format::Jsonl => {
                self.items().iter().map(|item| format!("{}\n", self.stamped(item))).collect()
            }
        }
    }

    /// What to tell a person on stderr where a table would be empty.
    pub fn hint(&self, format: Format) -> Option<&'static str> {
        match (&self.body, format) {
            (Body::List { table, items }, Format::Table | Format::Wide) if items.is_empty() => {
                Some(table.empty)
            }
            _ => None,
        }
    }

    fn items(&self) -> &[Item] {
        match &self.body {
            Body::List { items, .. } => items,
            Body::Screen { item, .. } => std::slice::from_ref(item),
        }
    }

    fn text(&self, wide: bool) -> String {
        match &self.body {
            Body::List { table, .. } => table.print(wide),
            Body::Screen { text, .. } => text.clone(),
        }
    }

    fn document(&self) -> Value {
        match &self.body {
            Body::List { items, .. } => json!({
                "apiVersion": API_VERSION,
                "kind": format!("{}List", self.kind),
                "items": items.iter().map(|item| &item.object).collect::<Vec<_>>(),
            }),
            Body::Screen { item, .. } => self.stamped(item),
        }
    }

    fn stamped(&self, item: &Item) -> Value {
        let mut object = Map::new();
        object.insert("apiVersion".into(), API_VERSION.into());
        object.insert("kind".into(), self.kind.into());
        if let Value::Object(fields) = &item.object {
            object.extend(fields.clone());
        }
        Value::Object(object)
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn yaml(value: &Value) -> String {
    let mut text = serde_saphyr::to_string(value).expect("a JSON value is YAML too");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Writes the result. A reader that went away (`| head`) is no error.
pub fn write(out: &mut impl std::io::Write, text: &str) -> Result<(), Failure> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("writing the result: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Output {
        let mut table = Table::new(&["NAME", "READY", "REASON"], 2, "no nodes");
        table.push(vec!["a".into(), "True".into(), "AllUp".into()]);
        table.push(vec!["node-1".into(), String::new(), "x y".into()]);
        let items = ["a", "node-1"]
            .map(|name| Item::new(format!("meshnode/{name}"), &json!({"name": name})));
        Output::list("Node", table, items.into())
    }

    #[test]
    fn a_table_lines_up_without_trailing_spaces() {
        assert_eq!(two().render(Format::Table), "NAME    READY\na       True\nnode-1  <none>\n");
    }

    #[test]
    fn wide_shows_the_rest() {
        assert_eq!(
            two().render(Format::Wide),
            "NAME    READY   REASON\na       True    AllUp\nnode-1  <none>  x_y\n"
        );
    }

    #[test]
    fn json_is_one_versioned_document() {
        let document: Value = serde_json::from_str(&two().render(Format::Json)).unwrap();

        assert_eq!(document["apiVersion"], "cli.hawser.dev/v1alpha1");
        assert_eq!(document["kind"], "NodeList");
        assert_eq!(document["items"][1]["name"], "node-1");
    }

    #[test]
    fn yaml_says_the_same_as_json() {
        let by_json: Value = serde_json::from_str(&two().render(Format::Json)).unwrap();
        let by_yaml: Value = serde_saphyr::from_str(&two().render(Format::Yaml)).unwrap();

        assert_eq!(by_json, by_yaml);
    }

    #[test]
    fn jsonl_stamps_each_line() {
        let text = two().render(Format::Jsonl);

        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|l| l["apiVersion"] == API_VERSION && l["kind"] == "Node"));
    }

    #[test]
    fn names_can_be_given_to_xargs() {
        assert_eq!(two().render(Format::Name), "meshnode/a\nmeshnode/node-1\n");
    }

    #[test]
    fn an_empty_list_is_silent_on_stdout_and_explained_on_stderr() {
        let none = Output::list("Node", Table::new(&["NAME"], 1, "no nodes"), Vec::new());

        assert_eq!(none.render(Format::Table), "");
        assert_eq!(none.hint(Format::Table), Some("no nodes"));
        assert_eq!(none.hint(Format::Json), None);
        assert_eq!(
            serde_json::from_str::<Value>(&none.render(Format::Json)).unwrap()["items"],
            json!([])
        );
    }
}
