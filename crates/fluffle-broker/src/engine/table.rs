//! Walks encoded values without building them: a bound on nesting before any recursive decoder runs.

/// How deep arrays and tables may lie in one another. Decoders recurse: without a bound, a frame of
/// nothing but nested arrays would end the process.
const DEEPEST: usize = 64;

/// Reads big-endian AMQP primitives from a slice; `None` when there is not enough, or it is malformed.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_| ())
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(crate) fn short_text(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        std::str::from_utf8(self.take(length.into())?).ok()
    }

    /// Passes a field table, if it is well formed and not nested too deeply.
    pub(crate) fn table(&mut self) -> Option<()> {
        let length = self.u32()?;
        let mut inner = Reader::new(self.take(length.try_into().ok()?)?);
        inner.fields(DEEPEST)
    }

    fn fields(&mut self, depth: usize) -> Option<()> {
        while !self.is_empty() {
            self.short_text()?;
            self.value(depth)?;
        }
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.u8()? {
            b't' | b'b' | b'B' => self.skip(1),
            b's' | b'U' | b'u' => self.skip(2),
            b'I' | b'i' | b'f' => self.skip(4),
            b'L' | b'l' | b'd' | b'T' => self.skip(8),
            b'D' => self.skip(5),
            b'V' => Some(()),
            b'S' | b'x' => {
                let length = self.u32()?;
                self.skip(length.try_into().ok()?)
            }
            kind @ (b'A' | b'F') => {
                let depth = depth.checked_sub(1)?;
                let length = self.u32()?;
                let mut inner = Reader::new(self.take(length.try_into().ok()?)?);
                match kind {
                    b'F' => inner.fields(depth),
                    _ => {
                        while !inner.is_empty() {
                            inner.value(depth)?;
                        }
                        Some(())
                    }
                }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Vec<u8> {
        let mut value = vec![b'V'];
        for _ in 0..levels {
            let mut outer = vec![b'A'];
            outer.extend((value.len() as u32).to_be_bytes());
            outer.extend(value);
            value = outer;
        }
        let mut table = (value.len() as u32 + 2).to_be_bytes().to_vec();
        table.extend([1, b'k']);
        table.extend(value);
        table
    }

    #[test]
    fn a_table_nested_too_deeply_is_malformed() {
        assert_eq!(Reader::new(&nested(DEEPEST)).table(), Some(()));
        assert_eq!(Reader::new(&nested(DEEPEST + 1)).table(), None);
    }

    #[test]
    fn a_table_cut_short_is_malformed() {
        let whole = nested(3);
        for end in 0..whole.len() {
            assert_eq!(Reader::new(&whole[..end]).table(), None, "{end}");
        }
    }
}
