//! Puts the CNI plugin and its configuration on the node: two files of ours, no other one touched.
//! Behind another plugin the configuration is the running agent's to write ([`crate::chained`]).
//!
//! The plugin first, so that the runtime never finds a configuration without it. Each file is
//! replaced whole, and left alone where it is right already.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::Context;
use serde_json::json;

use crate::{
    chained::{self, MAIN as CONFIGURATION, PLUGIN},
    options::{CniMode, InstallCni, PluginDirs},
};

/// The reference plugin that serves a pod's hostPort, used where the node has it.
const PORTMAP: &str = "portmap";

pub fn run(options: InstallCni) -> anyhow::Result<()> {
    let InstallCni { plugin, bin_dir, conf_dir, state, cni_mode } = options;
    let program = fs::read(&plugin).with_context(|| format!("reading {}", plugin.display()))?;
    place(&bin_dir, PLUGIN, &program, 0o755)?;
    if cni_mode == CniMode::Chained {
        return Ok(());
    }
    let mut plugins = vec![json!({"type": PLUGIN, "state": state.directory})];
    if bin_dir.join(PORTMAP).exists() {
        plugins.push(json!({"type": PORTMAP, "capabilities": {"portMappings": true}}));
    }
    let configuration = json!({"cniVersion": "1.0.0", "name": "hawser", "plugins": plugins});
    place(&conf_dir, CONFIGURATION, format!("{configuration:#}\n").as_bytes(), 0o644)?;
    take_away(&conf_dir, chained::CONFIGURATION)
}

/// Takes our files away again. The configuration first, for the same reason.
pub(crate) fn remove(PluginDirs { bin_dir, conf_dir }: &PluginDirs) -> anyhow::Result<()> {
    let ours = [(conf_dir, CONFIGURATION), (conf_dir, chained::CONFIGURATION), (bin_dir, PLUGIN)];
    for (dir, name) in ours {
        if let Some(dir) = dir {
            take_away(dir, name)?;
        }
    }
    Ok(())
}

pub(crate) fn take_away(dir: &Path, name: &str) -> anyhow::Result<()> {
    let path = dir.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(crate) fn place(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let path = dir.join(name);
    let right = fs::read(&path).is_ok_and(|now| now == bytes)
        && fs::metadata(&path).is_ok_and(|now| now.permissions().mode() & 0o7777 == mode);
    if right {
        return Ok(());
    }
    let temporary = dir.join(format!(".{name}.new"));
    let written = write(&temporary, bytes, mode)
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| File::open(dir)?.sync_all());
    if written.is_err() {
        // It may not exist; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("writing {}", path.display()))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::State;

    #[test]
    fn two_files_come_and_go_and_others_stay() {
        let node = tempfile::tempdir().unwrap();
        let (bin, conf) = (node.path().join("bin"), node.path().join("conf"));
        for dir in [&bin, &conf] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("10-other.conflist"), "theirs").unwrap();
        }
        let plugin = node.path().join("plugin");
        let names = |dir: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };

        for text in ["one", "two"] {
            fs::write(&plugin, text).unwrap();
            let state = State { directory: "/var/lib/hawser".into() };
            let (bin_dir, conf_dir) = (bin.clone(), conf.clone());
            fs::write(conf.join(chained::CONFIGURATION), "of the other mode").unwrap();
            let cni_mode = CniMode::Main;
            let plugin = plugin.clone();
            run(InstallCni { plugin, bin_dir, conf_dir, state, cni_mode }).unwrap();
            assert_eq!(fs::read_to_string(bin.join(PLUGIN)).unwrap(), text);
        }

        assert_eq!(names(&bin), ["10-other.conflist", PLUGIN]);
        let mode = fs::metadata(bin.join(PLUGIN)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        let text = fs::read_to_string(conf.join(CONFIGURATION)).unwrap();
        let configuration: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(configuration["plugins"][0]["state"], "/var/lib/hawser");
        assert_eq!(configuration["plugins"].as_array().unwrap().len(), 1);
        assert_eq!(names(&conf), [CONFIGURATION, "10-other.conflist"]);
        let both = PluginDirs { bin_dir: Some(bin.clone()), conf_dir: Some(conf.clone()) };
        remove(&both).unwrap();
        remove(&PluginDirs { conf_dir: None, ..both }).unwrap();
        for dir in [&bin, &conf] {
            assert_eq!(names(dir), ["10-other.conflist"]);
        }
    }

    #[test]
    fn behind_another_plugin_ours_is_put_down_without_a_configuration() {
        let node = tempfile::tempdir().unwrap();
        let dir = node.path().to_owned();
        let plugin = dir.join("new");
        fs::write(&plugin, "one").unwrap();
        fs::write(dir.join(CONFIGURATION), "in force until the agent has another").unwrap();
        let state = State { directory: "/var/lib/hawser".into() };
        let (bin_dir, conf_dir) = (dir.clone(), dir.clone());

        let cni_mode = CniMode::Chained;
        run(InstallCni { plugin, bin_dir, conf_dir, state, cni_mode }).unwrap();

        assert_eq!(fs::read_to_string(dir.join(PLUGIN)).unwrap(), "one");
        assert!(dir.join(CONFIGURATION).exists() && !dir.join(chained::CONFIGURATION).exists());
    }

    #[test]
    fn host_ports_are_left_to_the_reference_plugin_where_it_is() {
        let node = tempfile::tempdir().unwrap();
        let dir = node.path().to_owned();
        let plugin = dir.join("new");
        for file in ["new", PORTMAP] {
            fs::write(dir.join(file), "").unwrap();
        }
        let state = State { directory: "/var/lib/hawser".into() };

        let (bin_dir, conf_dir) = (dir.clone(), dir.clone());
        let cni_mode = CniMode::Main;
        run(InstallCni { plugin, bin_dir, conf_dir, state, cni_mode }).unwrap();

        let text = fs::read_to_string(dir.join(CONFIGURATION)).unwrap();
        let configuration: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(configuration["plugins"][1]["type"], PORTMAP);
    }
}
