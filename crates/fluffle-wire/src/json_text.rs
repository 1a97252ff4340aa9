//! Bytes that should be JSON.

/// The text without its byte order mark. Which bytes are UTF-8 is left to the parser.
///
/// RFC 8259, section 8.1: JSON is UTF-8, and a reader may skip a byte order mark, which .NET's writers like to send.
pub(crate) fn utf8(body: &[u8]) -> Result<&[u8], &'static str> {
    match body {
        [0xEF, 0xBB, 0xBF, text @ ..] => Ok(text),
        // A byte order mark of UTF-16, or one of the two bytes of an ASCII character is zero.
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, _, ..] | [_, 0, ..] => {
            Err("its text is UTF-16 or UTF-32; JSON is read as UTF-8 only")
        }
        text => Ok(text),
    }
}
