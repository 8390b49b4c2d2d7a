//! Asks whether the API is there: once before the view of the last run is acted on, once after each
//! resume from suspend, and again and again where the mesh bounds how old a view may become.

use std::{path::PathBuf, time::Duration};

use api::Mesh;
use kube::{Api, Client};
use tokio::time::{sleep, timeout};

use super::{connect, status::jitter};
use crate::source::{
    Views,
    contact::{Contact, pause},
};

/// An API that is there answers within this; else the view of the last run must do.
const PATIENCE: Duration = Duration::from_secs(1);
/// One that is there may take so long to tell of everybody.
const LISTING: Duration = Duration::from_secs(10);

/// For ever.
pub async fn listen(contact: Contact, views: Views, kubeconfig: Option<PathBuf>) {
    let mut resumes = contact.resumes();
    let client = match timeout(PATIENCE, connect(kubeconfig.clone())).await {
        Ok(Ok((client, _))) => client,
        Ok(Err(_)) | Err(_) => patiently(&contact, kubeconfig).await,
    };
    loop {
        let number = *resumes.borrow_and_update();
        tokio::select! {
            () = ask(&contact, number, &views, &client) => return,
            // The contact is ours too, so there is always somebody to tell.
            _ = resumes.changed() => {}
        }
    }
}

/// For ever: first whether it says who is in the mesh, then whether it is still there.
async fn ask(contact: &Contact, resumes: u64, views: &Views, client: &Client) {
    if answers(client).await {
        sleep(LISTING).await;
    }
    contact.not_there(resumes);
    loop {
        let most = views.borrow().as_ref().and_then(|view| view.max_age);
        sleep(jitter(pause(most) * 2 / 3)).await;
        if most.is_some() && answers(client).await {
            contact.answered();
            let contact = contact.clone();
            tokio::task::spawn_blocking(move || contact.keep());
        }
    }
}

async fn patiently(contact: &Contact, kubeconfig: Option<PathBuf>) -> Client {
    loop {
        contact.not_there(*contact.resumes().borrow());
        sleep(LISTING).await;
        if let Ok((client, _)) = connect(kubeconfig.clone()).await {
            return client;
        }
    }
}

async fn answers(client: &Client) -> bool {
    let meshes: Api<Mesh> = Api::all(client.clone());
    matches!(timeout(PATIENCE, meshes.get_opt(api::MESH)).await, Ok(Ok(Some(_))))
}
