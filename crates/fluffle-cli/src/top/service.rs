//! The status page of a service: its health, its queues' verdicts and its tree.

use std::{fs, path::Path, time::Duration};

use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{common::failure::Failure, top::lost::Lost};

/// How long the page may take. It is made in memory.
const LIMIT: Duration = Duration::from_secs(10);
/// The most bytes of a picture; one of 1,000 queues has about 4 MB.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The deepest tree that is shown. Fluffle's own have 5 levels.
const DEEPEST: usize = 32;

/// A service, as its status page tells.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Service {
    /// The page's address, without user and password.
    pub(crate) url: String,
    /// Set while the page gives no answer; all below is then empty.
    pub(crate) lost: Option<Lost>,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) state: String,
    /// Why it is not alive.
    pub(crate) live: Vec<String>,
    /// Why it is not ready.
    pub(crate) ready: Vec<String>,
    /// What is no fault of the process.
    pub(crate) notes: Vec<String>,
    pub(crate) queues: Vec<Verdict>,
    /// The tree, each node behind its supervisor.
    pub(crate) tree: Vec<Node>,
}

/// Why a queue of the service is as fast as it is.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Verdict {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) verdict: String,
    pub(crate) words: String,
    pub(crate) advice: Option<String>,
}

/// A node of the supervision tree.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Node {
    pub(crate) path: String,
    pub(crate) depth: usize,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) restarts: u64,
    pub(crate) rate: Option<f64>,
    pub(crate) last_exit: Option<String>,
    pub(crate) note: Option<String>,
}

/// A status page.
pub(crate) struct StatusPage {
    client: reqwest::Client,
    picture: url::Url,
    token: Option<String>,
    pub(crate) url: String,
}

impl StatusPage {
    /// The page of `--status`, with the token in a file.
    pub(crate) fn new(text: &str, token_file: Option<&Path>) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::new(format!("--status: {why}; write http://host:9464"));
        let mut picture = url::Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(picture.scheme(), "http" | "https") {
            return Err(wrong("the URL does not begin with http"));
        }
        if !picture.username().is_empty() || picture.password().is_some() {
            return Err(Failure::new("--status: the page knows no users; give its token with --status-token-file"));
        }
        picture.set_query(None);
        picture.set_fragment(None);
        let url = picture.as_str().trim_end_matches('/').to_owned();
        picture.set_path(&format!("{}/picture.json", picture.path().trim_end_matches('/')));
        let token = token_file.map(|file| {
            let read = fs::read_to_string(file).map(|token| token.trim().to_owned());
            read.map_err(|error| Failure::new(format!("--status-token-file {}: {error}", file.display())))
        });
        // Without redirects, which would take the token elsewhere.
        let builder = reqwest::Client::builder().timeout(LIMIT).redirect(reqwest::redirect::Policy::none());
        Ok(Self { client: builder.build()?, picture, token: token.transpose()?, url })
    }

    pub(crate) async fn look(&self) -> Result<Service, Failure> {
        let mut request = self.client.get(self.picture.clone());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut answer = request.send().await.map_err(|error| Failure::new(chain(&error)))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                return Err(Failure::new("the page asks for its token: give it with --status-token-file"));
            }
            StatusCode::MISDIRECTED_REQUEST => {
                return Err(Failure::new(
                    "the page does not go by this name: use its address, or `Status::allow_host`",
                ));
            }
            status => return Err(Failure::new(format!("{status}: is this a status page of Fluffle?"))),
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| Failure::new(chain(&error)))? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err(Failure::new(format!("the answer has more than {MOST_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let picture = serde_json::from_slice::<Option<Picture>>(&body);
        let picture = picture.map_err(|error| Failure::new(format!("not a status page of Fluffle: {error}")))?;
        let picture = picture.ok_or_else(|| Failure::new("the service is not started yet"))?;
        Ok(picture.service(&self.url))
    }
}

/// An error of the HTTP client with its causes, which alone say what happened.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What is used of `/picture.json`, which `fluffle_telemetry::status::picture` describes.
#[derive(Deserialize)]
struct Picture {
    process: Process,
    #[serde(default)]
    health: Health,
    tree: TreeNode,
    #[serde(default)]
    queues: Vec<Queue>,
}

#[derive(Deserialize)]
struct Process {
    name: String,
    #[serde(default)]
    version: String,
    state: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Health {
    live: Vec<String>,
    ready: Vec<String>,
    notes: Vec<String>,
}

#[derive(Deserialize)]
struct Queue {
    name: String,
    #[serde(default)]
    state: String,
    verdict: Kind,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
    #[serde(default)]
    words: String,
    advice: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TreeNode {
    id: String,
    path: String,
    kind: String,
    state: String,
    restarts: u64,
    rate: Option<f64>,
    last_exit: Option<String>,
    note: Option<String>,
    children: Vec<TreeNode>,
}

impl Picture {
    fn service(self, url: &str) -> Service {
        let queues = self.queues.into_iter().map(|queue| Verdict {
            name: queue.name,
            state: queue.state,
            verdict: queue.verdict.kind,
            words: queue.verdict.words,
            advice: queue.verdict.advice,
        });
        let mut tree = Vec::new();
        flatten(self.tree, 0, &mut tree);
        Service {
            url: url.to_owned(),
            lost: None,
            name: self.process.name,
            version: self.process.version,
            state: self.process.state,
            live: self.health.live,
            ready: self.health.ready,
            notes: self.health.notes,
            queues: queues.collect(),
            tree,
        }
    }
}

fn flatten(node: TreeNode, depth: usize, into: &mut Vec<Node>) {
    let TreeNode { id, path, kind, state, restarts, rate, last_exit, note, children } = node;
    into.push(Node { path, depth, id, kind, state, restarts, rate, last_exit, note });
    if depth < DEEPEST {
        for child in children {
            flatten(child, depth + 1, into);
        }
    }
}
