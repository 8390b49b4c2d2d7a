//! `hawser bundle`: one file with what somebody needs who was not there.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use hyper::http::Request;
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    agent,
    cluster::Cluster,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
    view::bundle::{self, Piece},
};

/// What is asked of the API, and the file that it becomes. Tokens are secrets in the making, so they
/// are not asked for.
const RESOURCES: [(&str, &str); 5] = [
    ("/apis/hawser.dev/v1alpha1/meshes", "resources/meshes.json"),
    ("/apis/hawser.dev/v1alpha1/meshnodes", "resources/meshnodes.json"),
    ("/apis/hawser.dev/v1alpha1/subnetclaims", "resources/subnetclaims.json"),
    ("/apis/hawser.dev/v1alpha1/meshpeers", "resources/meshpeers.json"),
    ("/apis/hawser.dev/v1alpha1/keyrotations", "resources/keyrotations.json"),
];
const EVENTS: (&str, &str) = ("/apis/events.k8s.io/v1/events", "events.json");
/// The same of the agent.
const AGENT: [(&str, &str); 3] = [
    ("/state", "agent/state.json"),
    ("/metrics", "agent/metrics.txt"),
    ("/packets", "agent/packets.pcapng"),
];

pub(super) async fn run(
    out: Option<PathBuf>,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let now = Timestamp::now();
    let path = out.unwrap_or_else(|| bundle::file_name(now).into());
    // Before anything is asked, so that a wrong name costs nothing.
    let file = create(&path)?;
    let mut pieces = of_the_api(settings).await;
    pieces.extend(of_the_agent(settings).await);
    let missing: Vec<&Piece> = pieces.iter().filter(|piece| piece.content.is_err()).collect();
    for piece in &missing {
        if let Err(why) = &piece.content {
            terminal.say(&format!("left out {}: {why}", piece.name));
        }
    }
    let nothing = missing.len() == pieces.len();
    pieces.insert(0, bundle::readme(&pieces, now));
    if let Err(error) = write(file, &pieces, now) {
        let what = format!("writing {}: {error}", path.display());
        return Err(Failure::new(Exit::Failed, what).check("is there room on that disk?"));
    }
    terminal.say(&format!("bundle/{} written", path.display()));
    Ok(if nothing { Exit::Unreachable } else { Exit::Ok })
}

fn create(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| {
        Failure::new(Exit::Failed, format!("creating {}: {error}", path.display()))
            .check("name another file with --out; none is overwritten")
    })
}

async fn of_the_api(settings: &Settings) -> Vec<Piece> {
    let all = RESOURCES.into_iter().chain([EVENTS]);
    let cluster = match Cluster::connect(settings).await {
        Ok(cluster) => cluster,
        Err(failure) => {
            let failed = |(_, name)| Piece::missing(name, &failure.to_string());
            return all.map(failed).collect();
        }
    };
    let mut pieces = Vec::new();
    for (path, name) in all {
        pieces.push(match get(&cluster, path).await {
            Ok(list) => Piece::json(name, &bundle::trimmed(list)),
            Err(failure) => Piece::missing(name, &failure.to_string()),
        });
    }
    pieces
}

async fn get(cluster: &Cluster, path: &str) -> Result<Value, Failure> {
    let request = Request::get(path).body(Vec::new());
    let request = request.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    cluster.ask(&format!("get {path}"), cluster.client.request::<Value>(request)).await
}

async fn of_the_agent(settings: &Settings) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (path, name) in AGENT {
        pieces.push(match agent::read(&settings.agent, path, settings.timeout).await {
            Ok(body) => Piece { name, content: Ok(body.to_vec()) },
            Err(error) => Piece::missing(name, &error.to_string()),
        });
    }
    pieces
}

fn write(file: File, pieces: &[Piece], now: Timestamp) -> io::Result<()> {
    let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for Piece { name, content } in pieces {
        let Ok(bytes) = content else { continue };
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now.as_second()).unwrap_or_default());
        tar.append_data(&mut header, Path::new("hawser-bundle").join(name), &bytes[..])?;
    }
    let mut file = tar.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}
