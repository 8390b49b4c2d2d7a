//! What is done on the machine itself: keys, and the agent as a program.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair};

use super::cni::Dirs;
use crate::{
    exit::Failure,
    kubeconfig::{self, Existing},
};

/// A program of ours: beside this one, else on PATH.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.map(|own| own.with_file_name(name)).filter(|path| path.is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut on_path = std::env::split_paths(&path).map(|dir| dir.join(name));
    beside.or_else(|| on_path.find(|path| path.is_file())).unwrap_or_else(|| PathBuf::from(name))
}

/// The agent's program.
pub fn agent_program() -> PathBuf {
    program("hawser-agent")
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
    let mut command = Command::new(agent_program());
    run(command.arg("keygen").arg("--state").arg(state), "making the node's key")
}

/// The agent's answer to a gateway's challenge: it alone reads private keys.
pub fn prove(state: &Path, challenge: &str, covered: &str) -> Result<String, Failure> {
    let mut command = Command::new(agent_program());
    command.arg("prove").arg("--state").arg(state);
    // In one word each: a challenge may begin with anything.
    command.arg(format!("--challenge={challenge}")).arg(format!("--context={covered}"));
    run(&mut command, "proving the node's key")
}

/// What a program of ours prints; `doing`: what for.
pub fn run(command: &mut Command, doing: &str) -> Result<String, Failure> {
    let output =
        command.output().map_err(|error| missing(Path::new(command.get_program()), &error));
    let output = output?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::failed(format!("{doing}: {said}")));
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
    /// What the program is given.
    pub fn arguments(&self) -> Vec<String> {
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
}

/// Device, routes, guard, keys: everything that the agent left, and the CNI plugin where this
/// machine's join put it.
pub fn uninstall(state: &Path, plugin: Option<&Dirs>) -> Result<(), Failure> {
    let mut command = Command::new(agent_program());
    command.arg("uninstall").arg("--purge").arg("--state").arg(state);
    if let Some(Dirs { bin, conf }) = plugin {
        command.arg("--bin-dir").arg(bin).arg("--conf-dir").arg(conf);
    }
    run(&mut command, "taking the machine out").map(drop).map_err(|failure| {
        failure.check("stop hawser-agent, or hawser join in the foreground, and run it again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
