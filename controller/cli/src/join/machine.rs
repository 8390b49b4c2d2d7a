//! What is done on the machine itself: keys, the agent as a program, its systemd unit.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair};

use crate::{
    exit::Failure,
    kubeconfig::{self, Existing},
};

/// The unit that `--install-service` writes.
pub const UNIT: &str = "hawser-agent.service";
const UNIT_FILE: &str = "/etc/systemd/system/hawser-agent.service";

/// `hawser-agent` beside this program, else on PATH.
pub fn agent_program() -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.map(|own| own.with_file_name("hawser-agent")).filter(|path| path.is_file());
    beside.unwrap_or_else(|| PathBuf::from("hawser-agent"))
}

/// Makes the state directory for root alone, and the node's key in it; the public half.
pub fn identity(state: &Path) -> Result<String, Failure> {
    if !state.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state)
            .map_err(|error| Failure::failed(format!("making {}: {error}", state.display())))?;
    }
    let program = agent_program();
    let output = Command::new(&program).arg("keygen").arg("--state").arg(state).output();
    let output = output.map_err(|error| missing(&program, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::failed(format!("making the node's key: {said}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The agent's answer to a gateway's challenge: it alone reads private keys.
pub fn prove(state: &Path, challenge: &str, covered: &str) -> Result<String, Failure> {
    let program = agent_program();
    let mut command = Command::new(&program);
    command.arg("prove").arg("--state").arg(state);
    // In one word each: a challenge may begin with anything.
    command.arg(format!("--challenge={challenge}")).arg(format!("--context={covered}"));
    let output = command.output().map_err(|error| missing(&program, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::failed(format!("proving the node's key: {said}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn missing(program: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("starting {}: {error}", program.display()))
        .check("hawser-agent belongs beside hawser, or on PATH")
}

/// The key that the certificate will be for: kept until the machine is in, so that it may ask again.
pub fn certificate_key(file: &Path) -> Result<KeyPair, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("the key in {}: {error}", file.display()))
            .check("remove the file to begin anew")
    };
    if file.exists() {
        let text = fs::read_to_string(file).map_err(|error| failed(&error))?;
        return KeyPair::from_pem(&text).map_err(|error| failed(&error));
    }
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    kubeconfig::write_secret(file, &key.serialize_pem(), Existing::Keep)?;
    Ok(key)
}

/// PKCS #10, base64: proof that this machine holds the key.
pub fn request(key: &KeyPair) -> Result<String, Failure> {
    let request = CertificateParams::new(Vec::new()).and_then(|p| p.serialize_request(key));
    let request =
        request.map_err(|error| Failure::failed(format!("the certificate request: {error}")))?;
    Ok(STANDARD.encode(request.der()))
}

/// How the agent is run.
#[derive(Clone, Debug)]
pub struct Agent {
    pub program: PathBuf,
    pub node: String,
    pub state: PathBuf,
    pub access: PathBuf,
    /// More of its flags, as the operator gave them.
    pub flags: Vec<String>,
}

impl Agent {
    fn arguments(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let source = format!("kube:{}", path(&self.access));
        let fixed = ["run", "--node", &self.node, "--state", &path(&self.state)];
        let mut all: Vec<String> = fixed.map(str::to_owned).to_vec();
        all.extend(["--source".to_owned(), source]);
        all.extend(self.flags.iter().cloned());
        all
    }

    /// In the foreground, its log on ours.
    pub fn start(&self) -> Result<Child, Failure> {
        let mut command = Command::new(&self.program);
        command.args(self.arguments()).stdin(Stdio::null());
        command.spawn().map_err(|error| missing(&self.program, &error))
    }

    /// The unit's text. Pure.
    pub fn unit(&self) -> String {
        let words: Vec<String> = std::iter::once(self.program.display().to_string())
            .chain(self.arguments())
            .map(|word| quoted(&word))
            .collect();
        format!(
            "[Unit]\nDescription=Hawser: this machine's part in the mesh\n\
             After=network-online.target\nWants=network-online.target\n\n\
             [Service]\nExecStart={}\nRestart=always\nRestartSec=1\n\n\
             [Install]\nWantedBy=multi-user.target\n",
            words.join(" ")
        )
    }

    /// Writes the unit and starts it.
    pub fn install(&self) -> Result<(), Failure> {
        fs::write(UNIT_FILE, self.unit())
            .map_err(|error| Failure::failed(format!("writing {UNIT_FILE}: {error}")))?;
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", "--now", UNIT])
    }
}

/// Stops and removes the unit, if there is one. True if there was.
pub fn remove_unit() -> Result<bool, Failure> {
    if !Path::new(UNIT_FILE).exists() {
        return Ok(false);
    }
    systemctl(&["disable", "--now", UNIT])?;
    fs::remove_file(UNIT_FILE)
        .map_err(|error| Failure::failed(format!("removing {UNIT_FILE}: {error}")))?;
    systemctl(&["daemon-reload"])?;
    Ok(true)
}

fn systemctl(arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new("systemctl").args(arguments).output();
    let output = output.map_err(|error| {
        Failure::failed(format!("starting systemctl: {error}"))
            .check("without systemd, run hawser join in the foreground, under your own supervisor")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::failed(format!("systemctl {}: {said}", arguments.join(" "))))
}

/// Device, routes, guard, keys: everything that the agent left.
pub fn uninstall(state: &Path) -> Result<(), Failure> {
    let program = agent_program();
    let output =
        Command::new(&program).arg("uninstall").arg("--state").arg(state).arg("--purge").output();
    let output = output.map_err(|error| missing(&program, &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::failed(format!("taking the machine out: {said}"))
        .check("stop hawser-agent, or hawser join in the foreground, and run it again"))
}

/// As systemd reads a word: in quotes, with its own signs doubled.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let escaped =
        word.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_runs_the_agent_as_it_was_asked_for() {
        let agent = Agent {
            program: "/usr/bin/hawser-agent".into(),
            node: "edge-1".to_owned(),
            state: "/var/lib/my hawser".into(),
            access: "/var/lib/my hawser/gateway.kubeconfig".into(),
            flags: vec!["--listen-port".to_owned(), "7".to_owned()],
        };

        let unit = agent.unit();

        let line = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert_eq!(
            line,
            "ExecStart=/usr/bin/hawser-agent run --node edge-1 --state \"/var/lib/my hawser\" \
             --source \"kube:/var/lib/my hawser/gateway.kubeconfig\" --listen-port 7"
        );
        assert_eq!(quoted("a%h$b\"c"), r#""a%%h$$b\"c""#);
    }

    #[test]
    fn the_key_stays_the_same_until_the_machine_is_in() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("joining.key");

        let first = certificate_key(&file).unwrap().serialize_pem();
        let again = certificate_key(&file).unwrap().serialize_pem();

        assert_eq!(first, again);
        fs::write(&file, "nonsense").unwrap();
        assert!(certificate_key(&file).unwrap_err().to_string().contains("begin anew"));
    }
}
