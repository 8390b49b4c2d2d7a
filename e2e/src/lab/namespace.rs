//! A network namespace with a thread that lives in it.
//!
//! `ip netns exec` remounts /sys and hides the cgroups; here instead one thread unshares its
//! network and stays, and whatever must happen inside is sent to it: opening a socket, netlink,
//! starting a program. Sockets keep their namespace, so they are used from anywhere afterwards.
//! The thread is also the parent of the programs started here: when it ends, they are killed.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use anyhow::Context as _;
use nix::sched::{CloneFlags, unshare};

use super::{Command, link, mounts, sweep};

type Job = Box<dyn FnOnce() + Send>;

/// A named network namespace. Cloning shares it; the last clone removes it.
#[derive(Clone)]
pub struct Namespace {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    pub(super) fn new(name: &str) -> anyhow::Result<Self> {
        let (jobs, work) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::channel();
        let owned = name.to_owned();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _ = ready.send(enter(&owned));
                for job in work {
                    job();
                }
            })
            .context("starting the namespace's thread")?;
        let inner = Inner { name: name.to_owned(), jobs: Some(jobs), thread: Some(thread) };
        let namespace = Self { inner: Arc::new(inner) };
        made.recv().context("waiting for the namespace's thread")??;
        namespace.sysctls(&[
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv4/ping_group_range", "0 0"),
        ])?;
        namespace.netlink(async |net| net.up("lo").await)?;
        Ok(namespace)
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where the namespace is mounted: what `ip netns`, `nsenter` and CNI_NETNS take.
    pub fn path(&self) -> PathBuf {
        mounts::path(self.name())
    }

    /// Runs `work` inside and hands back what it returns; a panic inside is a panic here.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        let job = move || {
            let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
        };
        let jobs = self.inner.jobs.as_ref().expect("the sender is only taken on drop");
        jobs.send(Box::new(job)).expect("the thread lives as long as the namespace");
        match answered.recv().expect("a job always answers") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// A program to run inside; its log will be in `dir`.
    pub fn command(&self, program: &str, dir: &Path) -> Command {
        Command::new(self, program, dir)
    }

    /// Runs a future inside, on a runtime of its own.
    pub fn block_on<T, F>(&self, work: F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce() -> anyhow::Result<T> + Send + 'static,
    {
        self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.context("starting a runtime")?.block_on(work())
        })
    }

    /// Speaks netlink inside.
    pub fn netlink<T, F>(&self, work: F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&link::Net) -> anyhow::Result<T> + Send + 'static,
    {
        self.block_on(async move || {
            let net = link::Net::open()?;
            work(&net).await
        })
    }

    /// Writes a sysctl of this namespace, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> anyhow::Result<()> {
        self.sysctls(&[(key, value)])
    }

    fn sysctls(&self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let owned: Vec<(String, String)> =
            settings.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        self.run(move || {
            for (key, value) in owned {
                std::fs::write(format!("/proc/sys/{key}"), value)
                    .with_context(|| format!("writing the sysctl {key}"))?;
            }
            Ok(())
        })
    }

    /// Reads a file as seen from inside, such as /proc/net/dev (through `thread-self`).
    pub fn read(&self, path: &str) -> anyhow::Result<String> {
        let owned = path.replace("/proc/net/", "/proc/thread-self/net/");
        self.run(move || {
            std::fs::read_to_string(&owned).with_context(|| format!("reading {owned}"))
        })
    }

    pub(super) fn file(&self) -> anyhow::Result<File> {
        let path = self.path();
        File::open(&path).with_context(|| format!("opening {}", path.display()))
    }
}

fn enter(name: &str) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
    mounts::pin(name)
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        sweep::end(&self.name);
    }
}
