//! A browser that looks at a page.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use fantoccini::{Client, ClientBuilder, Locator, key::Key, wd::WebDriverCompatibleCommand};
use fluffle_harness::Browser;
use fluffle_telemetry::status::hyper::http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use url::{ParseError, Url};

/// The longest that a test waits for anything.
pub const SOON: Duration = Duration::from_secs(30);

/// A headless Chromium with one window. It ends when this is dropped.
pub struct View {
    pub client: Client,
    _browser: Browser,
}

/// A command of chromedriver beyond WebDriver.
#[derive(Debug)]
struct Extra(&'static str, Value);

impl WebDriverCompatibleCommand for Extra {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.1.to_string()))
    }
}

impl View {
    /// A window of a desktop's width.
    pub async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// With more arguments for Chromium.
    pub async fn open_with(arguments: &[&str]) -> Self {
        let browser = Browser::start().unwrap();
        let mut wanted = browser.capabilities().as_object().unwrap().clone();
        let args = wanted["goog:chromeOptions"]["args"].as_array_mut().unwrap();
        args.extend(arguments.iter().map(|argument| json!(argument)));
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(wanted).connect(&browser.url()).await.unwrap();
        let view = Self { client, _browser: browser };
        view.resize(1280, 900).await;
        view
    }

    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// `light` or `dark`, as the reader's system asks for.
    pub async fn colours(&self, scheme: &str) {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.client.issue_cmd(Extra("goog/cdp/execute", body)).await.unwrap()
    }

    /// Opens an address, and the page's own first picture if it is a status page.
    pub async fn goto(&self, address: &str) {
        self.client.goto(address).await.unwrap();
    }

    /// The value of a JavaScript expression.
    pub async fn eval(&self, expression: &str) -> Value {
        self.client.execute(&format!("return ({expression})"), Vec::new()).await.unwrap()
    }

    pub async fn text(&self, css: &str) -> String {
        let found = self.eval(&format!("document.querySelector({})?.innerText ?? null", json!(css))).await;
        found.as_str().unwrap_or_else(|| panic!("there is no {css}")).to_owned()
    }

    /// Waits until a JavaScript expression is true.
    #[track_caller]
    pub fn until(&self, expression: impl Into<String>) -> impl Future<Output = ()> {
        let (at, expression) = (std::panic::Location::caller(), expression.into());
        async move {
            let deadline = Instant::now() + SOON;
            while self.eval(&format!("Boolean({expression})")).await != true {
                if Instant::now() > deadline {
                    let page = self.eval("document.body.innerText").await;
                    panic!("{at}: not within {SOON:?}: {expression}\n{}", page.as_str().unwrap_or_default());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Waits until an element has this text in it.
    #[track_caller]
    pub fn shows(&self, css: &str, words: &str) -> impl Future<Output = ()> {
        let all = format!("[...document.querySelectorAll({})]", json!(css));
        self.until(format!("{all}.some((one) => one.innerText.includes({}))", json!(words)))
    }

    /// Clicks on the first element of this selector, as a person does: it must be visible.
    pub async fn click(&self, css: &str) {
        let element = self.client.wait().at_most(SOON).for_element(Locator::Css(css)).await.unwrap();
        self.client.execute("arguments[0].scrollIntoView({block: 'center'})", vec![json!(element)]).await.unwrap();
        element.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Brings an element into sight. What is far from it is not drawn.
    pub async fn see(&self, css: &str) {
        self.eval(&format!("document.querySelector({})?.scrollIntoView()", json!(css))).await;
    }

    /// Types into the element that has the focus.
    pub async fn keys(&self, keys: &str) {
        self.client.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    pub async fn key(&self, key: Key) {
        self.keys(&String::from(char::from(key))).await;
    }

    /// What the browser's console has said since the last call, of these levels: `SEVERE`, `WARNING`.
    pub async fn console(&self) -> Vec<String> {
        let log = self.client.issue_cmd(Extra("se/log", json!({"type": "browser"}))).await.unwrap();
        let lines = log.as_array().unwrap().iter().filter(|line| line["level"] != "INFO" && line["level"] != "DEBUG");
        lines
            .map(|line| format!("{}: {}", line["level"].as_str().unwrap(), line["message"].as_str().unwrap()))
            .collect()
    }

    /// Fails if the console has said anything of importance.
    #[track_caller]
    pub fn assert_quiet(&self) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            let said = self.console().await;
            assert!(said.is_empty(), "{at}: {said:#?}");
        }
    }

    /// Writes what is in the window to the folder of `FLUFFLE_SHOTS`, if there is one.
    pub async fn shot(&self, name: &str) {
        let Ok(folder) = std::env::var("FLUFFLE_SHOTS") else { return };
        std::fs::create_dir_all(&folder).unwrap();
        let png = self.client.screenshot().await.unwrap();
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), png).unwrap();
    }

    /// Whether the page is wider than the window.
    pub async fn overflows(&self) -> bool {
        self.eval("document.documentElement.scrollWidth > document.documentElement.clientWidth").await == true
    }
}
