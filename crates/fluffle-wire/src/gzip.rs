use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::{CompressionLvl, Compressor};

use crate::{DecodeError, DecodeErrorKind, Limits};

/// When bodies are compressed with gzip (RFC 1952).
///
/// This policy concerns sending only. A received body labelled `gzip` is always unpacked, within [`Limits`].
///
/// Off by default. On one machine or a fast network, compressing costs more than it saves, and small messages grow. If
/// bandwidth or the broker's disk is scarce, start with [`Gzip::auto`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gzip {
    /// Never.
    #[default]
    Off,
    /// Every body, at this level. The exception: a body that would unpack to more than the receiver's [`Limits::ratio`]
    /// allows is sent uncompressed.
    On(Level),
    /// Bodies of at least `min_size` bytes, if gzip makes them at least a tenth smaller.
    ///
    /// The policy adapts: after four bodies in a row that did not become a tenth smaller, it skips the next 16 bodies.
    /// If the body after those does not become smaller either, it skips the next 32, and so on up to 1,024. The first
    /// body that does become smaller resets this. Clones of a [`Wire`](crate::Wire) share the count.
    Auto {
        /// Bodies below this many bytes are sent uncompressed.
        min_size: usize,
        /// The compression level.
        level: Level,
    },
}

impl Gzip {
    /// The smallest body that [`Gzip::auto`] tries to compress: 1 KiB.
    pub const AUTO_MIN_SIZE: usize = 1024;

    /// Every body, at the fastest level.
    pub fn on() -> Self {
        Self::On(Level::FASTEST)
    }

    /// Bodies of at least [`Gzip::AUTO_MIN_SIZE`] bytes, at the fastest level, if gzip makes them a tenth smaller.
    pub fn auto() -> Self {
        Self::Auto { min_size: Self::AUTO_MIN_SIZE, level: Level::FASTEST }
    }
}

/// The gzip level: 1 (fastest, the default) to 9 (smallest).
///
/// Level 1 gives most of the possible gain, at the least cost. For example, a week of earthquakes as Protobuf, in
/// batches of 64 KiB, on one core:
///
/// | level | size after / before | input per second |
/// |---|---|---|
/// | 1 | 0.36 | 240 MB |
/// | 2 | 0.35 | 180 MB |
/// | 5 | 0.33 | 120 MB |
/// | 6 | 0.33 | 95 MB |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// Level 1.
    pub const FASTEST: Self = Self(1);
    /// Level 6, gzip's own default.
    pub const BALANCED: Self = Self(6);
    /// Level 9.
    pub const SMALLEST: Self = Self(9);

    /// A level from 1 to 9.
    ///
    /// # Errors
    ///
    /// [`InvalidLevel`] if `level` is outside 1 to 9.
    pub fn new(level: u32) -> Result<Self, InvalidLevel> {
        match u8::try_from(level) {
            Ok(level @ 1..=9) => Ok(Self(level)),
            _ => Err(InvalidLevel(level)),
        }
    }

    /// The level as a number, 1 to 9.
    pub fn get(self) -> u32 {
        self.0.into()
    }

    fn of_compressor(self) -> CompressionLvl {
        // Never falls back to the default: libdeflate has all levels from 1 to 9.
        CompressionLvl::new(self.0.into()).unwrap_or_default()
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::FASTEST
    }
}

/// A gzip level outside 1 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gzip has levels 1 (fastest) to 9 (smallest), not {0}; to send uncompressed use Gzip::Off")]
pub struct InvalidLevel(pub u32);

/// How many bodies in a row must fail to become a tenth smaller before the next ones are skipped.
const PATIENCE: u32 = 4;
/// The length of the first pause and of the longest one, in bodies that are skipped.
const FIRST_PAUSE: u32 = 16;
const LONGEST_PAUSE: u32 = 1024;

/// The state of [`Gzip::Auto`]. It counts bodies and measures no time, so that the same bodies in the same order are
/// always sent the same way.
#[derive(Debug, Default)]
pub(crate) struct Trend {
    /// Tries in a row that did not make the body a tenth smaller.
    misses: AtomicU32,
    /// How many bodies are still to be skipped.
    pause: AtomicU32,
}

impl Trend {
    /// Whether to try to compress this body. If not, counts it as skipped.
    pub(crate) fn tries(&self) -> bool {
        self.pause.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err()
    }

    /// Records the result of a try. Threads that share a trend may both try or both skip; that is harmless, because the
    /// trend is only a guess.
    pub(crate) fn learn(&self, paid: bool) {
        if paid {
            self.misses.store(0, Relaxed);
            return;
        }
        let misses = self.misses.load(Relaxed).saturating_add(1);
        self.misses.store(misses, Relaxed);
        if let Some(doublings) = misses.checked_sub(PATIENCE) {
            let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings));
            self.pause.store(pause.min(LONGEST_PAUSE), Relaxed);
        }
    }
}

thread_local! {
    /// The last compressor of this thread. It is kept because its state is 200 KB (700 KB above level 1), and making it
    /// costs more than compressing a small message.
    static COMPRESSOR: Cell<Option<(Level, Compressor)>> = const { Cell::new(None) };
}

/// Compresses `raw`. `None` if the result has more than `most` bytes.
pub(crate) fn compress(raw: &[u8], level: Level, most: usize) -> Option<Vec<u8>> {
    let mut compressor = match COMPRESSOR.take() {
        Some((last, compressor)) if last == level => compressor,
        _ => Compressor::new(level.of_compressor()),
    };
    let mut packed = vec![0; compressor.gzip_compress_bound(raw.len()).min(most)];
    let len = compressor.gzip_compress(raw, &mut packed);
    COMPRESSOR.set(Some((level, compressor)));
    packed.truncate(len.ok()?);
    // The body stays in memory for as long as the message waits for its confirm.
    packed.shrink_to_fit();
    Some(packed)
}

/// The first two bytes of every gzip member (RFC 1952 section 2.3.1).
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The most gzip members that one body may have. A body with more is treated as an attack on the receiver's CPU time.
const MOST_MEMBERS: usize = 1024;

/// Unpacks a gzip body, one member or several in a row, within the limits.
pub(crate) fn decompress(packed: &[u8], limits: &Limits) -> Result<Vec<u8>, DecodeError> {
    let most = limits.decompressed_from(packed.len());
    // One byte more than announced, so that the loop can end without growing the buffer, and notices if more follows.
    let mut raw = Vec::with_capacity(announced_len(packed).min(most).saturating_add(1));
    let mut rest = packed;
    for _ in 0..MOST_MEMBERS {
        if !rest.starts_with(&MAGIC) {
            return Err(damaged(&not_gzip(packed, rest)));
        }
        rest = decompress_member(rest, &mut raw, most)?.ok_or_else(|| expands(packed.len(), most, limits))?;
        if rest.is_empty() {
            return Ok(raw);
        }
    }
    Err(damaged(&format!("it has more than {MOST_MEMBERS} members")))
}

/// The size in the last four bytes. It is right for an honest body of one member, and is only used as a hint.
fn announced_len(packed: &[u8]) -> usize {
    packed.last_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize)
}

/// Appends the content of the first member of `packed` to `raw`, and returns the bytes after that member. `None` as
/// soon as `raw` exceeds `most` bytes.
fn decompress_member<'a>(packed: &'a [u8], raw: &mut Vec<u8>, most: usize) -> Result<Option<&'a [u8]>, DecodeError> {
    let mut decompressor = Decompress::new_gzip(15);
    let mut rest = packed;
    loop {
        if raw.len() == raw.capacity() {
            let room = raw.len().max(512).min(most.saturating_add(1) - raw.len());
            raw.reserve_exact(room);
        }
        let before = (decompressor.total_in(), raw.len());
        let status =
            decompressor.decompress_vec(rest, raw, FlushDecompress::None).map_err(|e| damaged(&e.to_string()))?;
        if raw.len() > most {
            return Ok(None);
        }
        let consumed = usize::try_from(decompressor.total_in() - before.0).unwrap_or(rest.len());
        rest = rest.get(consumed..).unwrap_or_default();
        if status == Status::StreamEnd {
            return Ok(Some(rest));
        }
        if consumed == 0 && raw.len() == before.1 {
            return Err(damaged("it is cut short"));
        }
    }
}

fn expands(body: usize, most: usize, limits: &Limits) -> DecodeError {
    if most < limits.decompressed {
        return DecodeError::new(
            DecodeErrorKind::Ratio,
            format!(
                "{body} bytes of gzip unpack to more than {most} bytes, the limit at a ratio of {}:1; this is a \
                 gzip bomb, or Limits::ratio is too low",
                limits.ratio
            ),
        );
    }
    DecodeError::new(
        DecodeErrorKind::TooLarge,
        format!("{body} bytes of gzip unpack to more than the limit of {most} bytes (Limits::decompressed)"),
    )
}

fn not_gzip(packed: &[u8], rest: &[u8]) -> String {
    if rest.len() < packed.len() {
        return format!("{} bytes follow it that are not gzip", rest.len());
    }
    match packed {
        [0x1f] | [] => "it is cut short".to_owned(),
        // RFC 1950: compression method 8 and a check on the first two bytes.
        [first, second, ..] if first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0 => {
            "it looks like zlib (RFC 1950), which is another format than gzip (RFC 1952)".to_owned()
        }
        _ => "it does not start like gzip".to_owned(),
    }
}

fn damaged(how: &str) -> DecodeError {
    DecodeError::new(DecodeErrorKind::Gzip, format!("the body is labelled gzip, but {how}"))
}
