//! How a consumer is told to read a format that it does not read.

/// The setting by which a consumer reads bodies of this media type, if there is one.
pub(crate) fn how_to_accept(media_type: &str) -> Option<&'static str> {
    let media_type = media_type.to_ascii_lowercase();
    let (_, how) = HOW.iter().find(|(known, _)| *known == media_type)?;
    Some(how)
}

const HOW: [(&str, &str); 1] =
    [("application/json", "a consumer of Protobuf reads JSON if its type was compiled with `compile_with_json`")];
