//! Programs inside a namespace: run to the end, or started with a log file and killed on drop.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::{Namespace, program, until};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A program that will run inside a namespace; no shell is involved.
pub struct Command {
    namespace: Namespace,
    name: String,
    dir: PathBuf,
    found: anyhow::Result<std::process::Command>,
    input: Vec<u8>,
}

impl Command {
    pub(super) fn new(namespace: &Namespace, name: &str, dir: &Path) -> Self {
        let found = program(name).map(std::process::Command::new);
        Self {
            namespace: namespace.clone(),
            name: name.to_owned(),
            dir: dir.to_owned(),
            found,
            input: Vec::new(),
        }
    }

    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        if let Ok(command) = &mut self.found {
            command.args(args);
        }
        self
    }

    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        if let Ok(command) = &mut self.found {
            command.env(key, value);
        }
        self
    }

    /// What the program reads from its standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Runs the program to its end, whatever that end is.
    pub fn output(mut self) -> anyhow::Result<Output> {
        let input = std::mem::take(&mut self.input);
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let name = self.name.clone();
        let mut child = self.start(stdin, Stdio::piped(), Stdio::piped())?;
        let writer = child.stdin.take().map(|mut pipe| {
            std::thread::spawn(move || {
                let _ = pipe.write_all(&input);
            })
        });
        let output = child.wait_with_output().with_context(|| format!("waiting for {name}"))?;
        if let Some(writer) = writer {
            let _ = writer.join();
        }
        Ok(output)
    }

    /// Runs the program and returns its standard output; any other end than 0 is an error.
    pub fn stdout(self) -> anyhow::Result<String> {
        let name = self.name.clone();
        let output = self.output()?;
        anyhow::ensure!(
            output.status.success(),
            "{name} ended with {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout),
        );
        String::from_utf8(output.stdout).with_context(|| format!("reading what {name} printed"))
    }

    /// Starts the program with both outputs in one log file.
    pub fn spawn(self) -> anyhow::Result<Process> {
        let (name, namespace) = (self.name.clone(), self.namespace.clone());
        let short = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = self.dir.join(format!("{short}-{number}.log"));
        let file = std::fs::File::create_new(&log)
            .with_context(|| format!("creating {}", log.display()))?;
        let again = file.try_clone().context("sharing the log file")?;
        let child = self.start(Stdio::null(), file.into(), again.into())?;
        Ok(Process { name: short, child, log, _namespace: namespace })
    }

    fn start(self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> anyhow::Result<Child> {
        let mut command = self.found?;
        command
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .env("RUST_BACKTRACE", "1")
            .env("RUST_LIB_BACKTRACE", "0");
        super::orphan::die_with_parent(&mut command);
        let spawned = self.namespace.run(move || command.spawn());
        spawned.with_context(|| format!("starting {}", self.name))
    }
}

/// A running program; dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    // its thread is the program's parent
    _namespace: Namespace,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything the program has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// SIGTERM, and how it ended; an error if it does not end within five seconds.
    pub fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(Duration::from_secs(5))
    }

    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let ended = until(limit, || self.child.try_wait().ok().flatten());
        let (status, _) = ended.with_context(|| format!("{} runs after {limit:?}", self.name))?;
        Ok(status)
    }

    /// Waits for `text` in the log; a program that ends first is an error with its last words.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) -> anyhow::Result<Duration> {
        let found = until(limit, || {
            let said = self.log().contains(text);
            (said || !self.is_running()).then_some(said)
        });
        match found {
            Some((true, took)) => Ok(took),
            _ => anyhow::bail!("{} never said `{text}`:\n{}", self.name, self.last_words()),
        }
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let figure = line.and_then(|rest| rest.trim().split(' ').next()?.parse().ok());
        figure.with_context(|| format!("no VmRSS in {path}"))
    }

    /// Seconds of CPU used so far, user and system.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        super::cpu::process_seconds(self.pid())
    }

    /// The number of open file descriptors.
    pub fn open_files(&self) -> anyhow::Result<usize> {
        let path = format!("/proc/{}/fd", self.pid());
        Ok(std::fs::read_dir(&path).with_context(|| format!("reading {path}"))?.count())
    }

    /// The end of the log, for error messages.
    pub fn last_words(&self) -> String {
        tail(&self.log(), 25)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Prints the end of every log of a lab that ends in a panic.
pub(super) fn print_logs(lab: &Path) {
    for path in log_files(lab) {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
        eprintln!("--- {}\n{}", path.display(), tail(&text, 40));
    }
}

/// Every log file below a lab's directory.
pub(super) fn log_files(lab: &Path) -> Vec<PathBuf> {
    let machines = std::fs::read_dir(lab).into_iter().flatten().flatten();
    let inside = machines.filter_map(|machine| std::fs::read_dir(machine.path()).ok());
    let files = inside.flat_map(|files| files.flatten().map(|file| file.path()));
    let mut logs: Vec<PathBuf> =
        files.filter(|path| path.extension() == Some(OsStr::new("log"))).collect();
    logs.sort();
    logs
}
