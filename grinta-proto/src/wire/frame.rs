//! Frames: a length as a protobuf varint in its shortest form, then that many bytes.
//!
//! [`FrameDecoder`] cuts a stream of chunks into frames without input or output of its own. It
//! keeps to three rules, whatever the peer sends:
//!
//! * a frame that is longer than the limit is refused before a byte of it is kept;
//! * memory follows the bytes that arrived, never the length that was announced;
//! * a frame that lies within one chunk is a slice of that chunk; one that spans chunks is
//!   gathered into its own buffer, so that it does not keep alive the datagrams it came in.
//!
//! What the frames hold is none of its business: see [`super::stream`] and the codecs.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes};

/// Why a stream cannot be cut into frames. All of them are the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame is longer than the limit. Nothing of it was kept.
    #[error("a frame of {length} bytes is longer than the limit of {limit} bytes")]
    TooLong {
        /// The announced length, in bytes.
        length: u64,
        /// The limit at that time, in bytes.
        limit: usize,
    },
    /// A length is not a varint of 64 bits in its shortest form.
    #[error("a frame's length is not a varint of 64 bits in its shortest form")]
    BadLength,
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, at least {missing} bytes before its end")]
    Truncated {
        /// How many bytes are missing; 1 if not even the length is complete.
        missing: usize,
    },
}

/// Cuts a stream of chunks into frames.
///
/// Feed it with [`push`](Self::push), then call [`next_frame`](Self::next_frame) until it returns `None`. When
/// the stream has ended, [`finish`](Self::finish) tells whether it ended between two frames. A
/// decoder that met an error keeps nothing, takes nothing more, and repeats that error.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    chunks: VecDeque<Bytes>,
    queued: usize,
    partial: Option<Partial>,
    failed: Option<FrameError>,
}

impl FrameDecoder {
    /// A decoder that refuses frames longer than `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            chunks: VecDeque::new(),
            queued: 0,
            partial: None,
            failed: None,
        }
    }

    /// Takes the next piece of the stream. Pieces may be cut anywhere.
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() || self.failed.is_some() {
            return;
        }
        self.queued += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Takes the next whole frame, without its length; `None` until more bytes arrive.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] and [`FrameError::BadLength`], now and at every later call.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let partial = match self.partial.take() {
            Some(partial) => partial,
            None => match self.begin() {
                Ok(Some(partial)) => partial,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.fail(error)),
            },
        };
        Ok(self.advance(partial))
    }

    /// Changes the limit, in bytes, for frames whose length has not been read yet.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Bytes that arrived and are not part of a frame handed out, lengths that were read aside.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.queued
            + self
                .partial
                .as_ref()
                .map_or(0, |partial| partial.gathered.len())
    }

    /// Whether the stream stands between two frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.partial.is_none()
    }

    /// Says whether the stream may end here. Meant for after [`next_frame`](Self::next_frame) returned `None`.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] inside a frame, or the error that the decoder met before.
    pub fn finish(&self) -> Result<(), FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match &self.partial {
            Some(partial) => Err(FrameError::Truncated {
                missing: partial.missing(),
            }),
            None if self.chunks.is_empty() => Ok(()),
            None => Err(FrameError::Truncated { missing: 1 }),
        }
    }

    /// Takes everything that is not part of a frame handed out, byte for byte as it arrived, for
    /// another decoder to go on with: a slice if it is one chunk, else one copy. This decoder is as
    /// new afterwards, unless it has failed.
    #[must_use]
    pub fn take_rest(&mut self) -> Bytes {
        let buffered = self.buffered();
        self.queued = 0;
        let mut chunks = std::mem::take(&mut self.chunks);
        let partial = self.partial.take();
        if partial.is_none() && chunks.len() <= 1 {
            return chunks.pop_front().unwrap_or_default();
        }
        let mut rest = Vec::with_capacity(VARINT_LEN_MAX + buffered);
        if let Some(partial) = partial {
            encode_length(partial.length, &mut rest);
            rest.extend_from_slice(&partial.gathered);
        }
        chunks
            .iter()
            .for_each(|chunk| rest.extend_from_slice(chunk));
        rest.into()
    }

    /// Reads the length of the next frame, if all of it has arrived.
    fn begin(&mut self) -> Result<Option<Partial>, FrameError> {
        let arrived = self.chunks.iter().flat_map(|chunk| chunk.iter().copied());
        let Some((length, length_len)) = decode_varint(arrived)? else {
            return Ok(None);
        };
        match usize::try_from(length) {
            Ok(length) if length <= self.limit => {
                self.skip(length_len);
                Ok(Some(Partial {
                    length,
                    gathered: Vec::new(),
                }))
            }
            Ok(_) | Err(_) => Err(FrameError::TooLong {
                length,
                limit: self.limit,
            }),
        }
    }

    /// Completes the frame with what has arrived, or keeps it for the next call.
    fn advance(&mut self, mut partial: Partial) -> Option<Bytes> {
        if partial.gathered.is_empty() {
            if partial.length == 0 {
                return Some(Bytes::new());
            }
            if self
                .chunks
                .front()
                .is_some_and(|first| first.len() >= partial.length)
            {
                return self.take(partial.length);
            }
        }
        partial.reserve(self.queued);
        while partial.missing() > 0 {
            let Some(piece) = self.take(partial.missing()) else {
                self.partial = Some(partial);
                return None;
            };
            partial.gathered.extend_from_slice(&piece);
        }
        Some(partial.gathered.into())
    }

    /// Takes up to `len_max` bytes off the first chunk.
    fn take(&mut self, len_max: usize) -> Option<Bytes> {
        let first = self.chunks.front_mut()?;
        let piece = if first.len() > len_max {
            first.split_to(len_max)
        } else {
            self.chunks.pop_front()?
        };
        self.queued -= piece.len();
        Some(piece)
    }

    fn skip(&mut self, mut len: usize) {
        while let Some(first) = self.chunks.front_mut().filter(|_| len > 0) {
            let step = len.min(first.len());
            first.advance(step);
            if first.is_empty() {
                self.chunks.pop_front();
            }
            self.queued -= step;
            len -= step;
        }
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.chunks = VecDeque::new();
        self.queued = 0;
        self.failed = Some(error);
        error
    }
}

/// A frame whose length is known and whose bytes have not all arrived.
#[derive(Debug)]
struct Partial {
    length: usize,
    gathered: Vec<u8>,
}

impl Partial {
    const fn missing(&self) -> usize {
        self.length - self.gathered.len()
    }

    /// Makes room for `arrived` more bytes: at most for twice what the frame has then, and never
    /// for more than the frame needs. Exact if all the rest has arrived.
    fn reserve(&mut self, arrived: usize) {
        let held = self.gathered.len() + arrived.min(self.missing());
        if held > self.gathered.capacity() {
            let wanted = held.max(self.length.min(self.gathered.len() * 2));
            self.gathered.reserve_exact(wanted - self.gathered.len());
        }
    }
}

/// Appends the length prefix of a frame of `len` bytes.
///
/// # Panics
/// If `buffer` is full; a `BytesMut` or a `Vec` grows.
pub fn encode_length(len: usize, buffer: &mut impl BufMut) {
    encode_varint(len as u64, buffer);
}

/// Appends a varint in its shortest form.
pub(crate) fn encode_varint(value: u64, buffer: &mut impl BufMut) {
    let mut rest = value;
    while rest >= CONTINUES as u64 {
        buffer.put_u8(rest as u8 | CONTINUES);
        rest >>= VARINT_BITS;
    }
    buffer.put_u8(rest as u8);
}

/// How many bytes [`encode_length`] appends.
#[must_use]
pub const fn length_len(len: usize) -> usize {
    let bits = usize::BITS - (len | 1).leading_zeros();
    bits.div_ceil(VARINT_BITS) as usize
}

/// Reads a varint and how many bytes it has; `None` if it is not complete.
pub(crate) fn decode_varint(
    bytes: impl Iterator<Item = u8>,
) -> Result<Option<(u64, usize)>, FrameError> {
    let mut value = 0;
    for (index, byte) in bytes.enumerate() {
        let bits = u64::from(byte & !CONTINUES);
        let shift = index as u32 * VARINT_BITS;
        if shift >= u64::BITS || bits << shift >> shift != bits {
            return Err(FrameError::BadLength);
        }
        value |= bits << shift;
        if byte & CONTINUES == 0 {
            let shortest = byte != 0 || index == 0;
            return if shortest {
                Ok(Some((value, index + 1)))
            } else {
                Err(FrameError::BadLength)
            };
        }
    }
    Ok(None)
}

const VARINT_BITS: u32 = 7;
const VARINT_LEN_MAX: usize = 10;
const CONTINUES: u8 = 0x80;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_out_alike_wherever_the_stream_is_cut() {
        let frames: [&[u8]; 5] = [b"a", b"", &[7; 127], &[8; 128], b"last"];
        let stream = stream_of(&frames);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let cuts = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(decode(1024, &cuts), Ok(frames.map(Vec::from).to_vec()));
            }
        }
    }

    #[test]
    fn a_frame_within_a_chunk_is_a_slice_of_it() {
        let stream = stream_of(&[&b"first"[..], b"second"]);
        let within = stream.as_ptr_range();
        let mut decoder = FrameDecoder::new(16);
        decoder.push(stream);
        for expected in ["first", "second"] {
            let frame = decoder.next_frame().unwrap().unwrap();
            assert_eq!(frame, expected);
            assert!(within.contains(&frame.as_ptr()));
        }
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.is_empty());
    }

    #[test]
    fn a_frame_that_spans_chunks_lets_go_of_them() {
        let stream = stream_of(&[&[1; 100]]);
        let mut decoder = FrameDecoder::new(100);
        decoder.push(stream.slice(..50));
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.buffered(), 49);
        decoder.push(stream.slice(50..));
        assert_eq!(decoder.next_frame().unwrap().unwrap(), vec![1; 100]);
        assert!(decoder.is_empty());
        assert!(stream.is_unique());
    }

    #[test]
    fn the_limit_is_exact_and_looked_at_when_a_length_is_read() {
        assert_eq!(decode(3, &[b"\x03abc"]), Ok(vec![b"abc".to_vec()]));
        assert_eq!(
            decode(2, &[b"\x03abc"]),
            Err(FrameError::TooLong {
                length: 3,
                limit: 2
            })
        );
        assert_eq!(decode(0, &[b"\x00"]), Ok(vec![vec![]]));
        assert_eq!(
            decode(0, &[b"\x01"]),
            Err(FrameError::TooLong {
                length: 1,
                limit: 0
            })
        );

        let mut decoder = FrameDecoder::new(3);
        decoder.push(Bytes::from_static(b"\x03ab"));
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.set_limit(1);
        decoder.push(Bytes::from_static(b"c\x02de"));
        assert_eq!(decoder.next_frame().unwrap().unwrap(), "abc");
        assert_eq!(
            decoder.next_frame(),
            Err(FrameError::TooLong {
                length: 2,
                limit: 1
            })
        );
    }

    #[test]
    fn hostile_lengths_are_refused_and_nothing_is_kept() {
        let eight_gib = [0x80, 0x80, 0x80, 0x80, 0x20];
        let greatest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let eleven = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ];
        let sixty_five_bits = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        let too_long = |length| FrameError::TooLong {
            length,
            limit: 1024,
        };
        let hostile: [(&[u8], FrameError); 7] = [
            (&eight_gib, too_long(8 << 30)),
            (&greatest, too_long(u64::MAX)),
            (&eleven, FrameError::BadLength),
            (&eleven[..10], FrameError::BadLength),
            (&sixty_five_bits, FrameError::BadLength),
            (&[0x80, 0x00], FrameError::BadLength),
            (&[0x81, 0x80, 0x00], FrameError::BadLength),
        ];
        for (prefix, error) in hostile {
            let mut decoder = FrameDecoder::new(1024);
            decoder.push(Bytes::copy_from_slice(prefix));
            decoder.push(Bytes::from_static(&[0; 4096]));
            assert_eq!(decoder.next_frame(), Err(error), "{prefix:x?}");
            decoder.push(Bytes::from_static(&[0; 4096]));
            assert_eq!(decoder.next_frame(), Err(error));
            assert_eq!(decoder.finish(), Err(error));
            assert_eq!(decoder.buffered(), 0);
            assert!(decoder.take_rest().is_empty());
        }
    }

    #[test]
    fn memory_follows_what_arrived_and_not_what_was_announced() {
        let limit = 64 << 20;
        let mut decoder = FrameDecoder::new(limit);
        let mut prefix = Vec::new();
        encode_length(limit, &mut prefix);
        decoder.push(prefix.into());
        for arrived in 1..=5000 {
            decoder.push(Bytes::from_static(b"x"));
            assert_eq!(decoder.next_frame(), Ok(None));
            assert!(decoder.partial.as_ref().unwrap().gathered.capacity() <= 2 * arrived);
            assert!(decoder.chunks.is_empty());
            assert_eq!(decoder.buffered(), arrived);
        }
    }

    #[test]
    fn an_end_inside_a_frame_is_told_from_an_end_between_two() {
        let mut decoder = FrameDecoder::new(1024);
        assert_eq!(decoder.finish(), Ok(()));
        decoder.push(Bytes::from_static(b"\x80"));
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.finish(), Err(FrameError::Truncated { missing: 1 }));
        decoder.push(Bytes::from_static(b"\x01"));
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(!decoder.is_empty());
        assert_eq!(
            decoder.finish(),
            Err(FrameError::Truncated { missing: 128 })
        );
        decoder.push(Bytes::from_static(&[0; 128]));
        assert_eq!(decoder.next_frame().unwrap().unwrap().len(), 128);
        assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn the_rest_goes_on_in_another_decoder_wherever_the_first_one_stood() {
        let stream = stream_of(&[&b"open"[..], &[9; 300], b"then"]);
        for cut in 5..=stream.len() {
            let mut first = FrameDecoder::new(4);
            first.push(stream.slice(..cut));
            assert_eq!(first.next_frame().unwrap().unwrap(), "open");
            first.set_limit(300);
            let seen = first.next_frame().unwrap();

            let mut second = FrameDecoder::new(300);
            second.push(first.take_rest());
            assert!(first.is_empty());
            second.push(stream.slice(cut..));
            let frames: Vec<_> = seen
                .into_iter()
                .chain(drain(&mut second).unwrap())
                .collect();
            assert_eq!(
                frames,
                [Bytes::from(vec![9; 300]), Bytes::from_static(b"then")]
            );
            assert_eq!(second.finish(), Ok(()));
        }
    }

    #[test]
    fn the_rest_is_a_slice_of_one_chunk_and_a_copy_of_several() {
        let stream = stream_of(&[&b"first"[..], b"second"]);
        let mut decoder = FrameDecoder::new(16);
        assert_eq!(decoder.take_rest(), Bytes::new());
        decoder.push(stream.clone());
        assert_eq!(decoder.take_rest().as_ptr(), stream.as_ptr());
        decoder.push(stream.slice(..3));
        decoder.push(stream.slice(3..));
        assert_eq!(decoder.take_rest(), stream);
        assert!(decoder.is_empty());
    }

    #[test]
    fn the_longest_length_fills_a_varint() {
        let mut buffer = Vec::new();
        encode_length(usize::MAX, &mut buffer);
        assert_eq!(buffer.len(), length_len(usize::MAX));
        assert!(buffer.len() <= VARINT_LEN_MAX);
    }

    proptest! {
        #[test]
        fn any_split_of_a_stream_gives_the_same_frames(
            frames in vec(vec(any::<u8>(), 0..300), 0..20),
            cuts in vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let stream = stream_of(&frames);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
            prop_assert_eq!(decode(300, &pieces), Ok(frames));
        }

        #[test]
        fn any_bytes_are_cut_or_refused_alike_however_they_arrive(
            bytes in vec(any::<u8>(), 0..64),
        ) {
            let singly: Vec<_> = bytes.chunks(1).collect();
            prop_assert_eq!(decode(16, &[&bytes]), decode(16, &singly));
        }

        #[test]
        fn lengths_round_trip_in_the_form_protobuf_uses(len: usize) {
            let mut buffer = BytesMut::new();
            encode_length(len, &mut buffer);
            prop_assert_eq!(buffer.len(), length_len(len));
            let decoded = decode_varint(buffer.iter().copied());
            prop_assert_eq!(decoded, Ok(Some((len as u64, buffer.len()))));
            prop_assert_eq!(prost::decode_length_delimiter(&buffer[..]), Ok(len));
        }
    }

    fn stream_of(frames: &[impl AsRef<[u8]>]) -> Bytes {
        let mut stream = BytesMut::new();
        for frame in frames {
            encode_length(frame.as_ref().len(), &mut stream);
            stream.extend_from_slice(frame.as_ref());
        }
        stream.freeze()
    }

    /// Decodes a whole stream that arrives in `pieces`.
    fn decode(limit: usize, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut decoder = FrameDecoder::new(limit);
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.push(Bytes::copy_from_slice(piece));
            frames.extend(drain(&mut decoder)?.iter().map(|frame| frame.to_vec()));
        }
        decoder.finish()?;
        Ok(frames)
    }

    fn drain(decoder: &mut FrameDecoder) -> Result<Vec<Bytes>, FrameError> {
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
        Ok(frames)
    }
}
