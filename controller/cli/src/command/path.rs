//! `hawser path SRC DST`: gathers what is known; the view answers.

use ipnet::IpNet;
use jiff::Timestamp;

use crate::{
    cluster::Cluster,
    exit::{Exit, Failure},
    member::Members,
    node_file::NodeFile,
    settings::Settings,
    terminal::Terminal,
    view::path::{Answer, Known},
};

pub(super) async fn run(
    source: &str,
    destination: &str,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let state = super::state_if_any(settings).await?;
    let answer = match (resources(settings).await, &state) {
        (Ok(known), state) => Answer::find(source, destination, &known.with(state.as_ref()))?,
        (Err(failure), Some(state)) => {
            // A node in file mode has no API; its own picture is the whole truth there.
            terminal.say(&format!("the agent alone answers: {}", failure.what));
            let file = NodeFile::beside(&settings.agent);
            let members = Members::from_agent(state, &file.subnets);
            let known =
                Known { members, pools: file.pools, state: Some(state), ..Known::default() };
            Answer::find(source, destination, &known)?
        }
        (Err(failure), None) => return Err(failure),
    };
    terminal.print(&answer.print(Timestamp::now()))?;
    Ok(if answer.is_whole() { Exit::Ok } else { Exit::Failed })
}

struct Resources {
    members: Members,
    mesh: Option<api::Mesh>,
    claims: Option<Vec<api::SubnetClaim>>,
}

impl Resources {
    fn pools(&self) -> Vec<IpNet> {
        let pools = self.mesh.iter().flat_map(|mesh| &mesh.spec.pools);
        pools.filter_map(|pool| pool.cidr.parse().ok()).collect()
    }

    fn with<'a>(&'a self, state: Option<&'a crate::state::State>) -> Known<'a> {
        Known {
            members: self.members.clone(),
            pools: self.pools(),
            mesh: self.mesh.as_ref(),
            claims: self.claims.as_deref(),
            state,
        }
    }
}

async fn resources(settings: &Settings) -> Result<Resources, Failure> {
    let cluster = Cluster::connect(settings).await?;
    let (mesh, nodes, peers, claims) =
        tokio::try_join!(cluster.mesh(), cluster.nodes(), cluster.peers(), cluster.claims())?;
    Ok(Resources { members: Members::from_resources(&nodes, &peers), mesh, claims })
}
