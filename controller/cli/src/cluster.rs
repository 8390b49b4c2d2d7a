//! The API that the kubeconfig names: connecting, reading, and saying what went wrong.

use std::{future::Future, path::Path, time::Duration};

use api::{JoinToken, KeyRotation, Mesh, MeshNode, MeshPeer, SubnetClaim};
use kube::{
    Api, Client, Config, Resource,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
    core::Status,
};
use serde::de::DeserializeOwned;

use crate::{
    exit::{Exit, Failure},
    settings::Settings,
};

/// A connection to the API server, and what a node's kubeconfig needs to know of it.
pub struct Cluster {
    pub client: Client,
    /// The server as the kubeconfig writes it.
    pub url: String,
    /// The authorities that the server's certificate is checked against, DER.
    pub authorities: Vec<Vec<u8>>,
    pub server_name: Option<String>,
    pub timeout: Duration,
}

impl Cluster {
    /// Reads the kubeconfig. Nothing is sent yet.
    pub async fn connect(settings: &Settings) -> Result<Self, Failure> {
        let mut config = config(settings).await?;
        config.connect_timeout = Some(settings.timeout);
        config.read_timeout = None;
        if let Some(user) = &settings.impersonate {
            config.auth_info.impersonate = Some(user.clone());
        }
        // A person waits: the first answer counts, also if it is "refused".
        config.default_retry = false;
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let authorities = config.root_cert.clone().unwrap_or_default();
        let server_name = config.tls_server_name.clone();
        let client = Client::try_from(config).map_err(|error| {
            Failure::new(Exit::Unreachable, format!("preparing the connection to {url}: {error}"))
                .check("the certificates and credentials in the kubeconfig")
        })?;
        Ok(Self { client, url, authorities, server_name, timeout: settings.timeout })
    }

    pub async fn mesh(&self) -> Result<Option<Mesh>, Failure> {
        let meshes = Api::<Mesh>::all(self.client.clone());
        self.ask("get meshes", meshes.get_opt(api::MESH)).await
    }

    pub async fn nodes(&self) -> Result<Vec<MeshNode>, Failure> {
        self.list("list meshnodes").await
    }

    pub async fn node(&self, name: &str) -> Result<Option<MeshNode>, Failure> {
        let nodes = Api::<MeshNode>::all(self.client.clone());
        self.ask("get meshnodes", nodes.get_opt(name)).await
    }

    pub async fn peers(&self) -> Result<Vec<MeshPeer>, Failure> {
        self.list("list meshpeers").await
    }

    pub async fn rotations(&self) -> Result<Vec<KeyRotation>, Failure> {
        self.list("list keyrotations").await
    }

    pub async fn tokens(&self) -> Result<Vec<JoinToken>, Failure> {
        self.list("list jointokens").await
    }

    /// None where the credentials may not see claims; a node's may not.
    pub async fn claims(&self) -> Result<Option<Vec<SubnetClaim>>, Failure> {
        match self.list("list subnetclaims").await {
            Ok(claims) => Ok(Some(claims)),
            Err(failure) if failure.exit == Exit::Forbidden => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub async fn version(&self) -> Result<String, Failure> {
        Ok(self.ask("get /version", self.client.apiserver_version()).await?.git_version)
    }

    async fn list<K>(&self, verb: &str) -> Result<Vec<K>, Failure>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let all = Api::<K>::all(self.client.clone());
        Ok(self.ask(verb, all.list(&ListParams::default())).await?.items)
    }

    /// Waits for one answer, and turns a failure into one that names what was asked.
    pub async fn ask<T>(
        &self,
        verb: &str,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        tracing::info!(verb, server = %self.url, "asking the API");
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(explain(verb, &self.url, &error)),
            Err(_) => Err(self.silent()),
        }
    }

    /// The same for a conditional write. False if it came too late: the name is taken, the version
    /// is another, or it is gone.
    pub async fn settle<T>(
        &self,
        verb: &str,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<bool, Failure> {
        let settled = async {
            match answer.await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.ask(verb, settled).await
    }

    /// It was asked, and time ran out.
    pub fn silent(&self) -> Failure {
        unreachable(&self.url, &format!("no answer within {:?}", self.timeout))
    }
}

async fn config(settings: &Settings) -> Result<Config, Failure> {
    let options = KubeConfigOptions { context: settings.context.clone(), ..Default::default() };
    let file = match &settings.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let in_cluster = settings.kubeconfig.is_none() && std::env::var_os("KUBECONFIG").is_none();
    match file {
        Ok(file) => Config::from_custom_kubeconfig(file, &options).await.map_err(|error| {
            no_config(&one_line(&error))
                .check("the contexts that `kubectl config get-contexts` lists")
        }),
        Err(_) if in_cluster && Path::new("/var/run/secrets/kubernetes.io").exists() => {
            Config::incluster().map_err(|error| no_config(&one_line(&error)))
        }
        Err(error) => Err(no_config(&unreadable(&error))
            .check("name one with --kubeconfig FILE, HAWSER_KUBECONFIG or KUBECONFIG")),
    }
}

fn unreadable(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(why, path) => format!("{}: {why}", path.display()),
        other => one_line(other),
    }
}

fn no_config(why: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("cannot reach the API: no usable kubeconfig: {why}"))
}

fn unreachable(url: &str, why: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("cannot reach the API at {url}: {why}"))
        .check("is the API server or hawser-controller running, and is this its address?")
}

/// The failure behind a client error.
pub fn explain(verb: &str, url: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => refused(verb, url, status),
        kube::Error::SerdeError(error) => Failure::new(
            Exit::Failed,
            format!("{verb}: the answer of {url} makes no sense: {error}"),
        )
        .check("does the server speak this program's version? hawser version"),
        other => unreachable(url, &root_cause(other)),
    }
}

fn refused(verb: &str, url: &str, status: &Status) -> Failure {
    let said = if status.message.is_empty() { &status.reason } else { &status.message };
    let said = crate::text::printable(said);
    match status.code {
        401 => Failure::new(
            Exit::Forbidden,
            format!("not permitted: {verb}: {url} does not know these credentials"),
        )
        .check("has the token in the kubeconfig expired, or is it another server's?"),
        403 => Failure::new(Exit::Forbidden, format!("not permitted: {verb}: {said}"))
            .check(format!("these credentials lack the right to {verb}.{}", api::GROUP)),
        404 if verb.starts_with("list") => Failure::new(
            Exit::Failed,
            format!("{url} does not serve {}.{}", resource(verb), api::GROUP),
        )
        .check("are the resources installed? hawser crds | kubectl apply -f -"),
        code @ 500.. => {
            Failure::new(Exit::Unreachable, format!("{verb}: {url} answered {code}: {said}"))
                .check("the API server's log")
        }
        code => Failure::new(Exit::Failed, format!("{verb}: {url} answered {code}: {said}")),
    }
}

fn resource(verb: &str) -> &str {
    verb.rsplit(' ').next().unwrap_or(verb)
}

/// The innermost cause: "connection refused" and not the five layers around it.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    one_line(cause)
}

fn one_line(error: &dyn std::error::Error) -> String {
    error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api_error(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, message: message.into(), ..Status::default() }))
    }

    #[test]
    fn a_missing_right_names_the_verb() {
        let failure = explain("list meshnodes", "https://c", &api_error(403, "no"));

        assert_eq!(failure.exit, Exit::Forbidden);
        assert!(failure.to_string().contains("list meshnodes"));
    }

    #[test]
    fn missing_definitions_say_how_to_install_them() {
        let failure = explain("list meshnodes", "https://c", &api_error(404, "page not found"));

        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.to_string().contains("hawser crds | kubectl apply -f -"));
    }

    #[test]
    fn an_error_page_is_an_unreachable_api() {
        assert_eq!(explain("get meshes", "u", &api_error(503, "")).exit, Exit::Unreachable);
    }
}
