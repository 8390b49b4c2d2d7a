//! The checks that were made, for people, for programs and for JUnit readers.

use std::time::Duration;

use serde::Serialize;

use crate::{
    output::{Item, Output},
    text,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// Stable, for programs.
    pub(super) name: String,
    pub(super) outcome: Outcome,
    /// What was seen, for people.
    pub(super) detail: String,
}

impl Check {
    pub(super) fn new(name: impl Into<String>, passed: bool, detail: impl Into<String>) -> Self {
        let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
        Self { name: name.into(), outcome, detail: detail.into() }
    }

    pub(super) fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Skipped, detail: why.into() }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    suite: &'static str,
    checks: Vec<Check>,
    passed: usize,
    failed: usize,
    skipped: usize,
    seconds: f64,
}

impl Report {
    pub(super) fn new(suite: &'static str, checks: Vec<Check>, took: Duration) -> Self {
        let count = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
        Self {
            suite,
            passed: count(Outcome::Passed),
            failed: count(Outcome::Failed),
            skipped: count(Outcome::Skipped),
            seconds: took.as_secs_f64(),
            checks,
        }
    }

    /// Nothing failed, and something was proven.
    pub(super) fn passes(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    pub(super) fn print(&self) -> Output {
        let mut screen = String::new();
        for check in &self.checks {
            let word = match check.outcome {
                Outcome::Passed => "ok  ",
                Outcome::Failed => "FAIL",
                Outcome::Skipped => "skip",
            };
            screen.push_str(&format!("  {word}  {}\n", text::printable(&check.detail)));
        }
        let failed: Vec<&str> = self.failures().map(|check| check.name.as_str()).collect();
        if !failed.is_empty() {
            screen.push_str(&format!("failed: {}\n", failed.join(" ")));
        }
        screen.push_str(&format!(
            "{} checks passed, {} failed, {} skipped in {:.1}s\n",
            self.passed, self.failed, self.skipped, self.seconds
        ));
        Output::screen(
            "Verification",
            screen,
            Item::new(format!("verification/{}", self.suite), self),
        )
    }

    fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.outcome == Outcome::Failed)
    }

    pub(super) fn junit(&self) -> String {
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuite name=\"hawser verify {}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.3}\">\n",
            self.suite,
            self.checks.len(),
            self.failed,
            self.skipped,
            self.seconds
        );
        for check in &self.checks {
            let (name, detail) = (escape(&check.name), escape(&check.detail));
            let inside = match check.outcome {
                Outcome::Passed => format!("<system-out>{detail}</system-out>"),
                Outcome::Failed => format!("<failure message=\"{detail}\"/>"),
                Outcome::Skipped => format!("<skipped message=\"{detail}\"/>"),
            };
            xml.push_str(&format!(
                "  <testcase classname=\"hawser.verify.{}\" name=\"{name}\">{inside}</testcase>\n",
                self.suite
            ));
        }
        xml.push_str("</testsuite>\n");
        xml
    }
}

fn escape(text: &str) -> String {
    text::printable(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;

    fn report() -> Report {
        let checks = vec![
            Check::new("underlay/eth0", true, "eth0  212 packets udp/51820"),
            Check::new("control", false, "control: 0 of 20 <seen>"),
            Check::skipped("canary", "no pool is known"),
        ];
        Report::new("wire", checks, Duration::from_millis(4100))
    }

    #[test]
    fn the_screen_ends_with_the_count() {
        insta::assert_snapshot!(report().print().render(Format::Table), @r"
          ok    eth0  212 packets udp/51820
          FAIL  control: 0 of 20 <seen>
          skip  no pool is known
        failed: control
        1 checks passed, 1 failed, 1 skipped in 4.1s
        ");
        assert!(!report().passes());
    }

    #[test]
    fn only_skipped_checks_prove_nothing() {
        let checks = vec![Check::skipped("canary", "no pool")];

        assert!(!Report::new("wire", checks, Duration::ZERO).passes());
    }

    #[test]
    fn junit_is_well_formed() {
        let xml = report().junit();

        assert!(xml.contains("tests=\"3\" failures=\"1\" skipped=\"1\" time=\"4.100\""));
        assert!(xml.contains("<failure message=\"control: 0 of 20 &lt;seen&gt;\"/>"));
    }
}
