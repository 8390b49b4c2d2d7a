//! The operator's end: the result to stdout, everything else to stderr, and questions only where
//! somebody can answer.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    sync::Mutex,
    time::Duration,
};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use crate::{
    args::{Color, Format},
    exit::{Exit, Failure},
    output::{self, Output},
    settings::Settings,
};

pub struct Terminal {
    format: Format,
    color: ColorChoice,
    yes: bool,
    quiet: bool,
    /// What an interruption now would leave behind.
    half_done: Mutex<Option<String>>,
}

impl Terminal {
    pub fn new(settings: &Settings) -> Self {
        Self {
            format: settings.output,
            color: match settings.color {
                Color::Auto => ColorChoice::Auto,
                Color::Always => ColorChoice::Always,
                Color::Never => ColorChoice::Never,
            },
            yes: settings.yes,
            quiet: settings.quiet,
            half_done: Mutex::new(None),
        }
    }

    /// Prints a result.
    pub fn print(&self, output: &Output) -> Result<(), Failure> {
        let text = output.render(self.format);
        match self.format {
            Format::Table | Format::Wide => self.text(&text)?,
            Format::Json | Format::Yaml | Format::Name | Format::Jsonl => self.raw(&text)?,
        }
        if let Some(hint) = output.hint(self.format) {
            self.say(hint);
        }
        Ok(())
    }

    /// Prints text for people, with its words coloured where colour is wanted.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        let mut out = AutoStream::new(io::stdout(), self.color);
        output::write(&mut out, &emphasize(text))
    }

    /// Prints text as it is.
    pub fn raw(&self, text: &str) -> Result<(), Failure> {
        output::write(&mut io::stdout(), text)
    }

    /// True if the result is shown on a screen that can be drawn again.
    pub fn is_screen(&self) -> bool {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        io::stdout().is_terminal() && !dumb && matches!(self.format, Format::Table | Format::Wide)
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Progress and hints.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            // stderr gone: nobody listens.
            let _ = writeln!(AutoStream::new(io::stderr(), self.color), "{line}");
        }
    }

    /// Progress of long work: one line drawn again on a terminal, one line a change elsewhere.
    pub fn progress(&self, bar: &str, text: &str, elapsed: Duration, told: &mut String) {
        const AGAIN: &str = "\r\u{1b}[2K";
        if self.quiet {
            return;
        }
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        if io::stderr().is_terminal() && !dumb {
            let seconds = elapsed.as_secs();
            let clock = format!("{:02}:{:02}", seconds / 60, seconds % 60);
            let _ = write!(io::stderr(), "{AGAIN}{bar} {text}   {clock}");
            let _ = io::stderr().flush();
        } else if told != text {
            text.clone_into(told);
            self.say(text);
        }
    }

    /// Takes the progress line away; what follows stands alone.
    pub fn progress_ends(&self) {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        if !self.quiet && io::stderr().is_terminal() && !dumb {
            let _ = write!(io::stderr(), "\r\u{1b}[2K");
        }
    }

    /// From here on, an interruption leaves this behind.
    pub fn now_half_done(&self, what: Option<String>) {
        *self.half_done.lock().expect("nobody panics while holding it") = what;
    }

    pub fn interrupted(&self) -> Failure {
        let left = self.half_done.lock().expect("nobody panics while holding it").take();
        Failure::new(
            Exit::Interrupted,
            match left {
                Some(what) => format!("interrupted; {what}"),
                None => "interrupted; nothing is left half done".to_owned(),
            },
        )
    }

    /// Asks before something that cannot be taken back. No terminal and no `--yes`: refused.
    pub async fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let refused = |why: &str| Failure::new(Exit::Refused, format!("{question}: {why}"));
        if !io::stdin().is_terminal() {
            return Err(
                refused("refused, because stdin is no terminal").check("add --yes to do it")
            );
        }
        let _ = write!(io::stderr(), "{question}. Continue? [y/N] ");
        let _ = io::stderr().flush();
        let answer = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).map(|_| line)
        });
        match answer.await {
            Ok(Ok(line)) if matches!(line.trim(), "y" | "Y" | "yes") => Ok(()),
            _ => Err(refused("not done")),
        }
    }
}

/// Prints why a command stopped.
pub fn complain(failure: &Failure) {
    let mut err = AutoStream::auto(io::stderr());
    let red = AnsiColor::Red.on_default().bold();
    // stderr gone: the exit code still tells.
    let _ = writeln!(err, "{red}error{red:#}: {failure}");
}

/// Colours the words that mean good or bad. Colour repeats a word and never replaces one.
fn emphasize(text: &str) -> String {
    text.split_inclusive([' ', '\n', ','])
        .map(|part| {
            let word = part.trim_end_matches([' ', '\n', ',']);
            match style_of(word) {
                Some(style) => format!("{style}{word}{style:#}{}", &part[word.len()..]),
                None => part.to_owned(),
            }
        })
        .collect()
}

fn style_of(word: &str) -> Option<Style> {
    match word {
        "ok" | "Ready" | "guarded" => Some(AnsiColor::Green.on_default()),
        "FAIL" | "NotReady" | "UNGUARDED" | "MISSING" | "NOT" | "ENCRYPTED" | "Revoked" => {
            Some(AnsiColor::Red.on_default().bold())
        }
        "skip" => Some(AnsiColor::Yellow.on_default()),
        code if code.len() == 6 && code.starts_with("HW") => Some(AnsiColor::Yellow.on_default()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_changes_no_letter_and_no_space() {
        let text =
            "  ok    eth0, 3 packets\n  FAIL  control\n  HW2104  edge-1\nMesh  default  Ready\n";

        let colored = emphasize(text);

        assert_ne!(colored, text);
        assert_eq!(anstream::adapter::strip_str(&colored).to_string(), text);
    }
}
