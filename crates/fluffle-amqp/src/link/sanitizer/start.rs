//! What the broker says of itself when a connection begins (`server-properties` of `connection.start`). lapin 4.12.3
//! does not pass it on.

use crate::link::sanitizer::table;

/// The longest product or version that is kept, in bytes.
const LONGEST: usize = 64;

/// A broker's product and version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) product: Option<String>,
    pub(crate) version: Option<String>,
}

impl Peer {
    /// Reads the payload of a method. `None` if it is not `connection.start`.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let [0, 10, 0, 10, _major, _minor, s1, s2, s3, s4, rest @ ..] = payload else { return None };
        let content = rest.get(..u32::from_be_bytes([*s1, *s2, *s3, *s4]) as usize)?;
        let (entries, _) = table::entries(content);
        let text = |name: &[u8]| {
            let entry = entries.iter().find(|entry| entry.name == name)?;
            let [b'S', _, _, _, _, text @ ..] = entry.value else { return None };
            let text = std::str::from_utf8(text).ok()?;
            (text.len() <= LONGEST && !text.contains(char::is_control)).then(|| text.to_owned())
        };
        Some(Self { product: text(b"product"), version: text(b"version") })
    }

    /// Whether this is a RabbitMQ that is older than this version. False if the version is unknown, or if it is another
    /// product.
    pub(crate) fn is_rabbitmq_before(&self, major: u32, minor: u32) -> bool {
        if self.product.as_deref() != Some("RabbitMQ") {
            return false;
        }
        let Some(version) = &self.version else { return false };
        let mut numbers = version.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
        numbers.next().zip(numbers.next()).is_some_and(|own| own < (major, minor))
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unknown = || "of unknown version";
        write!(
            f,
            "{} {}",
            self.product.as_deref().unwrap_or("a broker"),
            self.version.as_deref().unwrap_or_else(unknown)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `connection.start` with these server properties.
    fn start(properties: &[(&str, &str)]) -> Vec<u8> {
        let mut content = Vec::new();
        for (name, value) in properties {
            content.push(name.len() as u8);
            content.extend_from_slice(name.as_bytes());
            content.push(b'S');
            content.extend_from_slice(&(value.len() as u32).to_be_bytes());
            content.extend_from_slice(value.as_bytes());
        }
        [&[0, 10, 0, 10, 0, 9][..], &(content.len() as u32).to_be_bytes(), &content, &[0; 8]].concat()
    }

    fn rabbitmq(version: &str) -> Peer {
        Peer::read(&start(&[("copyright", "…"), ("product", "RabbitMQ"), ("version", version)])).unwrap()
    }

    #[test]
    fn a_broker_says_what_it_is() {
        assert_eq!(rabbitmq("3.10.8").to_string(), "RabbitMQ 3.10.8");
        assert_eq!(Peer::read(&start(&[])).unwrap().to_string(), "a broker of unknown version");
        assert_eq!(Peer::read(&[0, 10, 0, 30]), None);
        assert_eq!(Peer::read(&start(&[("version", &"9".repeat(65))])).unwrap().version, None);
    }

    #[test]
    fn what_is_cut_short_or_nonsense_says_nothing() {
        let whole = start(&[("product", "RabbitMQ"), ("version", "4.1.0")]);
        for length in 0..whole.len() - 8 {
            assert_eq!(Peer::read(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, is_before) in [
            ("3.10.8", true),
            ("3.9.0", true),
            ("3.13.0", false),
            ("3.13.0-rc.1", false),
            ("4.0.2", false),
            ("?", false),
        ] {
            assert_eq!(rabbitmq(version).is_rabbitmq_before(3, 13), is_before, "{version}");
        }
        let other = Peer { product: Some("LavinMQ".to_owned()), version: Some("2.0.0".to_owned()) };
        assert!(!other.is_rabbitmq_before(3, 13));
    }
}
