//! The code of the guide. `cargo test --doc` compiles and runs each Rust block of each chapter.
//!
//! A block that must not run says `no_run`; one that shows another library says `ignore`. Blocks of "First service" are
//! what `fluffle new` writes, which a test of this crate compares.

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}

/// The messages of the chapters.
pub use generated::orders::v1 as messages;

macro_rules! chapters {
    ($($name:ident: $file:literal,)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!(concat!("../chapters/", $file))]
            mod $name {}
        )*

        /// The chapters whose code is tested.
        pub const CHAPTERS: &[&str] = &[$($file),*];
    };
}

chapters! {
    why: "why.md",
    first_service: "first-service.md",
    concepts: "concepts/index.md",
    tree: "concepts/tree.md",
    delivery: "concepts/delivery.md",
    settlement: "concepts/settlement.md",
    confirm: "concepts/confirm.md",
    publishing: "publishing.md",
    consuming: "consuming.md",
    retry: "retry.md",
    order: "order.md",
    batches: "batches.md",
    promises: "promises.md",
    outbox: "outbox.md",
    runtimes: "runtimes.md",
    settings: "settings.md",
    testing: "testing.md",
    observability: "observability.md",
    operating: "operating.md",
    scaling: "scaling.md",
    security: "security.md",
    coming_from: "coming-from/index.md",
    lapin: "coming-from/lapin.md",
    spring_amqp: "coming-from/spring-amqp.md",
    masstransit: "coming-from/masstransit.md",
    broadway: "coming-from/broadway.md",
    watermill: "coming-from/watermill.md",
    celery: "coming-from/celery.md",
    recipes: "recipes.md",
    glossary: "glossary.md",
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use config::{Config, Environment, File, FileFormat};
    use fluffle::prelude::{Broker, BrokerSettings, ConsumeSettings, RouteSettings};

    use super::CHAPTERS;

    fn read(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    }

    /// The Rust blocks of a chapter that say `ignore`.
    fn ignored(chapter: &str) -> Vec<&str> {
        let blocks = chapter.split("```rust,ignore\n").skip(1);
        blocks.map(|block| block.split("```").next().unwrap_or_default()).collect()
    }

    /// The lines without what stands before and behind them.
    fn lines(text: &str) -> String {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).fold(String::new(), |all, line| all + line + "\n")
    }

    #[test]
    fn the_first_service_is_what_fluffle_new_makes() {
        let made = lines(&read("../crates/fluffle-cli/src/new/template/lib.rs.in"));
        let chapter = read("chapters/first-service.md");
        let shown = ignored(&chapter);
        assert!(shown.len() >= 2, "the chapter shows {} pieces", shown.len());
        for piece in shown {
            assert!(made.contains(&lines(piece)), "`fluffle new` does not write this:\n{piece}");
        }
        let main = lines(&read("../crates/fluffle-cli/src/new/template/main.rs.in"));
        assert!(main.contains("app.run_until_signal().await"), "the chapter changes this line");
    }

    #[test]
    fn the_settings_file_of_the_chapter_is_read() {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Settings {
            broker: BrokerSettings,
            #[expect(dead_code, reason = "reading it is the test")]
            consume: ConsumeSettings,
            #[expect(dead_code, reason = "reading it is the test")]
            publish: RouteSettings,
        }
        let chapter = read("chapters/settings.md");
        let file = chapter.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let read = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
            let environment = Environment::with_prefix("BILLING").separator("__").source(Some(variables.collect()));
            let sources = Config::builder().add_source(File::from_str(file, FileFormat::Toml)).add_source(environment);
            sources.build().unwrap().try_deserialize::<Settings>()
        };
        let settings = read(&[("BILLING__BROKER__PASSWORD", "x")]).unwrap();
        assert_eq!(Broker::from_settings(&settings.broker).unwrap().endpoints().len(), 2);
        let error = read(&[("BILLING__CONSUME__RETRY__ATTEMPTS", "0")]).err().unwrap();
        assert!(error.to_string().contains("attempts = 0, must be 1 to 100"), "{error}");
    }

    #[test]
    fn the_code_of_each_chapter_is_tested() {
        let summary = read("chapters/SUMMARY.md");
        let listed = summary.split("](").skip(1).filter_map(|link| link.split_once(')')).map(|(page, _)| page);
        let mut listed: Vec<&str> = listed.collect();
        let mut tested = CHAPTERS.to_vec();
        listed.sort_unstable();
        tested.sort_unstable();
        assert_eq!(tested, listed, "the chapters in src/lib.rs, and in chapters/SUMMARY.md");
        // What is ignored is not compiled: only code of other libraries, and what the test above compares.
        for page in listed.iter().filter(|page| !matches!(**page, "first-service.md" | "coming-from/lapin.md")) {
            let text = read(&format!("chapters/{page}"));
            assert!(ignored(&text).is_empty(), "{page} has Rust that is not compiled");
        }
    }
}
