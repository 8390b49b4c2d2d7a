//! From a token to an answer, over as many attempts as it takes: a gateway that is away or busy is
//! asked again, one that refuses is not.
//!
//! Every attempt asks with the same keys, so a token is used once however often the answer is lost.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use api::join::{JoinAnswer, JoinRequest, Token};
use jiff::Timestamp;
use tokio::time::sleep;

use super::{
    gateway::{Denial, Entered, Gateway, Url},
    key_file, machine,
    patience::Patience,
    preflight,
};
use crate::{exit::Failure, terminal::Terminal, text};

/// A machine that waits for an approval asks again after this, and ever more seldom up to that.
const ASKED_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Who wants in where, with what.
#[derive(Clone, Copy)]
pub struct Entrance<'a> {
    pub url: &'a Url,
    pub token: &'a Token,
    /// The name that it wants.
    pub name: &'a str,
    /// Prefixes behind it that the mesh is to reach.
    pub announce: &'a [String],
    pub state: &'a Path,
    /// The longest wait for one answer.
    pub answer: Duration,
    /// The longest wait for a gateway that is away or busy.
    pub gateway: Duration,
}

impl Entrance<'_> {
    /// Until the machine is in, or has been refused.
    pub async fn enter(&self, terminal: &Terminal) -> Result<JoinAnswer, Failure> {
        let mut greeted = false;
        let asked = persist(
            async || {
                let mut gateway = self.connect().await?;
                if !greeted {
                    preflight::clocks(Timestamp::now(), gateway.greet().await?.clock)?;
                    let url = self.url.to_text();
                    terminal.say(&format!("ok    gateway {url} is the one of this token"));
                    greeted = true;
                }
                self.ask(&mut gateway).await
            },
            Patience::until(Instant::now() + self.gateway, seed()),
            async |line: Option<String>, pause| {
                if let Some(line) = line {
                    terminal.say(&line);
                }
                sleep(pause).await;
            },
        );
        let asked = asked.await?;
        self.until_approved(asked, terminal).await
    }

    async fn connect(&self) -> Result<Gateway, Denial> {
        Gateway::connect(self.url, self.token.authority, self.answer).await
    }

    async fn ask(&self, gateway: &mut Gateway) -> Result<Entered, Denial> {
        let public_key = machine::identity(self.state)?;
        let key = machine::certificate_key(&key_file(self.state))?;
        let mut request = JoinRequest {
            token: self.token.to_text(),
            name: self.name.to_owned(),
            csr: machine::request(&key)?,
            public_key,
            proof: String::new(),
            prefixes: self.announce.to_vec(),
        };
        let challenge = gateway.challenge().await?;
        request.proof = machine::prove(self.state, &challenge, &request.covered())?;
        gateway.join(&request).await
    }

    /// Asks again until somebody has decided; a gateway that is away meanwhile is asked later.
    async fn until_approved(
        &self,
        mut asked: Entered,
        terminal: &Terminal,
    ) -> Result<JoinAnswer, Failure> {
        let mut pause = ASKED_AGAIN.0;
        let mut told = false;
        loop {
            let waits = match asked {
                Entered::In(answer) => return Ok(answer),
                Entered::Waits(waits) => waits,
            };
            if !told {
                let (node, key) =
                    (text::printable(&waits.node), text::printable(&waits.fingerprint));
                terminal.say(&format!(
                    "...   waiting for an approval of {node} with the key {key}\n      \
                     where the mesh is run: hawser token approve {node}"
                ));
                told = true;
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(ASKED_AGAIN.1);
            let again = async || self.ask(&mut self.connect().await?).await;
            asked = match again().await {
                Err(Denial { again: Some(after), .. }) => {
                    pause = pause.max(after.min(ASKED_AGAIN.1));
                    Entered::Waits(waits)
                }
                other => other.map_err(Failure::from)?,
            };
        }
    }
}

/// Attempts until one is answered for good, or patience ends with the last reason. `wait` is given
/// each pause, and a line for the screen where there is another reason than before.
pub async fn persist<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, Denial>,
    mut patience: Patience,
    mut wait: impl AsyncFnMut(Option<String>, Duration),
) -> Result<T, Failure> {
    let mut said = String::new();
    loop {
        let Denial { failure, again } = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(denial) => denial,
        };
        let now = Instant::now();
        let Some(pause) = again.and_then(|asked| patience.next(asked, now)) else {
            return Err(failure);
        };
        let left = text::duration(patience.left(now));
        let line = (said != failure.what)
            .then(|| format!("...   {}; asked again for {left}", text::printable(&failure.what)));
        said = failure.what;
        wait(line, pause).await;
    }
}

/// Without randomness machines come back together, which costs time and nothing else.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn denial(what: &str, again: Option<Duration>) -> Denial {
        Denial { failure: Failure::new(Exit::Unreachable, what), again }
    }

    /// What became of these answers in turn, what was said, and how many were asked for.
    async fn of(
        answers: Vec<Result<u8, Denial>>,
        limit: Duration,
    ) -> (Result<u8, String>, Vec<String>, usize) {
        let (mut said, mut asked) = (Vec::new(), 0);
        let mut answers = answers.into_iter();
        let end = persist(
            async || {
                asked += 1;
                answers.next().unwrap()
            },
            Patience::until(Instant::now() + limit, 1),
            async |line: Option<String>, _| said.extend(line),
        );
        let end = end.await.map_err(|failure| failure.what);
        (end, said, asked)
    }

    #[tokio::test]
    async fn who_is_away_or_busy_is_asked_again_and_each_reason_is_said_once() {
        let busy = || Err(denial("busy", Some(Duration::from_millis(1))));
        let away = || Err(denial("away\x1b[2J", Some(Duration::ZERO)));

        let (end, said, _) = of(vec![away(), busy(), busy(), Ok(7)], Duration::from_secs(60)).await;

        assert_eq!(end, Ok(7));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("...   away") && said[0].contains("again for"), "{said:?}");
        assert!(!said[0].contains('\x1b'), "{said:?}");
    }

    #[tokio::test]
    async fn who_refuses_is_asked_once_and_patience_ends_with_the_last_reason() {
        let refused = vec![Err(denial("refused", None)), Ok(7)];
        let away = || Err(denial("away", Some(Duration::ZERO)));

        assert_eq!(of(refused, Duration::from_secs(60)).await, (Err("refused".into()), vec![], 1));
        let (end, _, asked) = of(vec![away(), Ok(7)], Duration::ZERO).await;
        assert_eq!((end, asked), (Err("away".to_owned()), 1));
    }
}
