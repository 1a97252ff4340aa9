//! The framing of batches: each item behind its length.

use crate::{DecodeError, DecodeErrorKind};

/// The frames of a delimited body. Ends after the first damaged length.
pub(crate) struct Frames<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) index: usize,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<&'a [u8], DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        self.index += 1;
        let frame = self.split();
        if frame.is_err() {
            self.rest = &[];
        }
        Some(frame)
    }
}

impl<'a> Frames<'a> {
    pub(crate) fn split(&mut self) -> Result<&'a [u8], DecodeError> {
        let (len, rest) = match self.rest {
            // Most lengths fit into one byte and are read without a loop.
            [short @ ..0x80, rest @ ..] => (u64::from(*short), rest),
            mut rest => {
                let len = prost::encoding::decode_varint(&mut rest);
                (len.map_err(|_| broken("its length is not a varint".to_owned()))?, rest)
            }
        };
        let (frame, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| rest.split_at_checked(len))
            .ok_or_else(|| broken(format!("its length says {len} bytes, {} are left", rest.len())))?;
        self.rest = rest;
        Ok(frame)
    }
}

fn broken(how: String) -> DecodeError {
    DecodeError::new(DecodeErrorKind::Framing, format!("{how}; this item and everything after it is lost"))
}
