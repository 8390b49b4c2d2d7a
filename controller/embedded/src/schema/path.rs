//! Where in an object we are: a list of steps on the stack, written out only when something is
//! wrong there.

use std::fmt;

#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root,
    Member(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
    /// A key of a map, which rules and lists write as `labels[a.b]` and everything else as
    /// `labels.a.b`.
    Key(&'a Path<'a>, &'a str),
}

impl Path<'_> {
    /// `spec.labels.a`, and the empty string for the root.
    pub(super) fn dotted(&self) -> String {
        self.write(false)
    }

    /// `spec.labels[a]`, and `<nil>` for the root.
    pub(super) fn bracketed(&self) -> String {
        let text = self.write(true);
        if text.is_empty() { "<nil>".to_owned() } else { text }
    }

    fn write(&self, bracketed: bool) -> String {
        let mut text = String::new();
        self.append(&mut text, bracketed).expect("writing to a String does not fail");
        text
    }

    fn append(&self, text: &mut String, bracketed: bool) -> fmt::Result {
        use fmt::Write;
        let (parent, name) = match self {
            Path::Root => return Ok(()),
            Path::Item(parent, index) => {
                parent.append(text, bracketed)?;
                return write!(text, "[{index}]");
            }
            Path::Key(parent, key) if bracketed => {
                parent.append(text, bracketed)?;
                return write!(text, "[{key}]");
            }
            Path::Key(parent, name) | Path::Member(parent, name) => (parent, name),
        };
        parent.append(text, bracketed)?;
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(name);
        Ok(())
    }
}
