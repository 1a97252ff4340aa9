//! Writes pictures of services that do not exist into a folder, for work on the status page without a server:
//! `cargo run -p fluffle-telemetry --example page_pictures -- FOLDER`.
//!
//! For each picture: `NAME.html` (the page), `NAME.history.json` and `NAME.events` (120 pictures, one a line). The
//! page's content security policy is in `policy.txt`.

#[path = "../tests/page/pictures.rs"]
mod pictures;

use std::{env, error::Error, fs, path::PathBuf};

use fluffle_telemetry::status::page;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args().nth(1).ok_or("name a folder to write to")?);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("policy.txt"), page::content_security_policy())?;
    for name in pictures::NAMES {
        let picture = pictures::of(name, 0);
        let json = serde_json::to_string(&picture)?;
        let history = serde_json::to_string(&pictures::history(&picture))?;
        let document = page::html(&json, &history, true);
        let sizes = [json.len(), history.len(), document.len()];
        println!("{name}: picture {}, history {}, document {} bytes", sizes[0], sizes[1], sizes[2]);
        fs::write(folder.join(format!("{name}.html")), document)?;
        fs::write(folder.join(format!("{name}.history.json")), history)?;
        let mut events = String::new();
        for tick in 0..120 {
            events += &serde_json::to_string(&pictures::of(name, tick))?;
            events.push('\n');
        }
        fs::write(folder.join(format!("{name}.events")), events)?;
    }
    Ok(())
}
