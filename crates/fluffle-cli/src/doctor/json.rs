//! Reads the management API's JSON without assuming that a field is there: which ones are depends on the version, on
//! the settings of the broker, and on how old its statistics are.

use serde_json::Value;

/// One object of the management API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object(Value);

impl Object {
    pub(crate) fn new(value: Value) -> Self {
        Self(value)
    }

    fn at(&self, path: &str) -> Option<&Value> {
        path.split('/').try_fold(&self.0, |value, key| value.get(key)).filter(|value| !value.is_null())
    }

    /// Text, or empty. A path is `outer/inner`.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number, if the broker tells it.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        let value = self.at(path)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    /// A number with a fraction, if the broker tells it.
    pub(crate) fn decimal(&self, path: &str) -> Option<f64> {
        self.at(path)?.as_f64()
    }

    pub(crate) fn is(&self, path: &str) -> bool {
        self.flag(path) == Some(true)
    }

    pub(crate) fn flag(&self, path: &str) -> Option<bool> {
        self.at(path)?.as_bool()
    }

    pub(crate) fn list(&self, path: &str) -> Vec<Self> {
        let items = self.at(path).and_then(Value::as_array).cloned().unwrap_or_default();
        items.into_iter().map(Self).collect()
    }

    /// The length of a list, if there is one.
    pub(crate) fn length(&self, path: &str) -> Option<usize> {
        self.at(path)?.as_array().map(Vec::len)
    }

    /// The texts of a list.
    pub(crate) fn texts(&self, path: &str) -> Vec<String> {
        match self.at(path) {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            // Tags of a user, before RabbitMQ 3.9.
            Some(Value::String(text)) => text.split(',').map(|part| part.trim().to_owned()).collect(),
            _ => Vec::new(),
        }
    }

    /// The objects that this list holds.
    pub(crate) fn into_list(self) -> Vec<Self> {
        match self.0 {
            Value::Array(items) => items.into_iter().map(Self).collect(),
            _ => Vec::new(),
        }
    }

    /// An optional argument of a queue: that of its declaration (`x-…`), or else that of its policies.
    pub(crate) fn setting(&self, name: &str) -> Option<Self> {
        let own = self.at("arguments").and_then(|arguments| arguments.get(format!("x-{name}")));
        let policy = || self.at("effective_policy_definition").and_then(|policy| policy.get(name));
        own.or_else(policy).cloned().map(Self)
    }

    pub(crate) fn setting_text(&self, name: &str) -> Option<String> {
        self.setting(name)?.0.as_str().map(str::to_owned)
    }

    pub(crate) fn setting_number(&self, name: &str) -> Option<i64> {
        self.setting(name)?.0.as_i64()
    }
}
