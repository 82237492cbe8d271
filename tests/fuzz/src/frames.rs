//! Streams of frames.

use std::slice;

use arbitrary::{Arbitrary, Unstructured};
use bytes::{Bytes, BytesMut};
use grinta_proto::FrameError;
use grinta_proto::wire::frame::{FrameDecoder, encode_length, length_len};

use crate::budget::within_budget;

/// Any bytes, after one that picks the limit: the frames are what a plain reading of the format
/// says, and memory follows what arrived.
///
/// # Panics
/// If a law is broken.
pub fn frame_bytes(data: &[u8]) {
    let Some((&limit, stream)) = data.split_first() else {
        return;
    };
    let limit = LIMITS[usize::from(limit) % LIMITS.len()];
    let plain = read_plainly(limit, stream);
    within_budget(stream.len(), || {
        let mut decoder = FrameDecoder::new(limit);
        decoder.push(Bytes::copy_from_slice(stream));
        plain.expected().end(&mut decoder);
    });

    let mut encoded = BytesMut::new();
    for frame in &plain.frames {
        encode_length(frame.len(), &mut encoded);
        encoded.extend_from_slice(frame);
    }
    assert!(stream.starts_with(&encoded), "a frame is not the stream's");
}

/// Frames of any lengths, and a limit that changes: what is encoded comes out again, exactly up to
/// the limit, and the rest of a stream goes on in another decoder.
///
/// # Panics
/// If a law is broken.
pub fn frame_structured(data: &[u8]) {
    let Ok(plan) = FramePlan::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let limit = usize::from(plan.limit);
    let mut stream = BytesMut::new();
    for frame in &plan.frames {
        let before = stream.len();
        encode_length(frame.len(), &mut stream);
        assert_eq!(stream.len() - before, length_len(frame.len()));
        stream.extend_from_slice(frame);
    }
    let stream = stream.freeze();
    let fitting = plan.frames.iter().take_while(|frame| frame.len() <= limit);
    let (fitting, rest) = plan.frames.split_at(fitting.count());
    let end = rest.first().map_or(Ok(()), |frame| {
        Err(FrameError::TooLong {
            length: frame.len() as u64,
            limit,
        })
    });
    let expected = Expected {
        frames: fitting.iter(),
        end,
    };

    let mut decoder = FrameDecoder::new(limit);
    decoder.push(stream.clone());
    expected.clone().end(&mut decoder);

    // Another decoder takes over after some frames, wherever the chunk ended.
    let cut = usize::from(plan.cut).min(stream.len());
    let mut expected = expected;
    let mut first = FrameDecoder::new(limit);
    first.push(stream.slice(..cut));
    for _ in 0..plan.handed_over {
        match first.next_frame() {
            Ok(Some(frame)) => expected.take(&frame),
            Ok(None) => break,
            Err(_) => return expected.end(&mut first),
        }
    }
    let rest = first.take_rest();
    assert!(first.is_empty());
    let mut second = FrameDecoder::new(limit);
    second.push(rest);
    second.push(stream.slice(cut..));
    expected.end(&mut second);
}

/// A stream cut into any chunks gives the frames, the error and the end of the whole.
///
/// # Panics
/// If a law is broken.
pub fn framing_chunks(data: &[u8]) {
    let Ok(plan) = ChunkPlan::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let limit = usize::from(plan.limit);
    let whole = read_plainly(limit, plan.stream);
    within_budget(plan.stream.len(), || {
        let mut decoder = FrameDecoder::new(limit);
        let mut expected = whole.expected();
        let mut rest = Bytes::copy_from_slice(plan.stream);
        let mut cuts = plan.chunk_lens.iter().cycle();
        while !rest.is_empty() {
            let len = cuts.next().map_or(rest.len(), |len| usize::from(*len));
            // An empty chunk changes nothing, and a plan of nothing else must end.
            decoder.push(rest.slice(..0));
            decoder.push(rest.split_to(len.clamp(1, rest.len())));
            expected.take_all(&mut decoder);
            assert!(
                decoder.buffered() <= plan.stream.len(),
                "more is buffered than arrived"
            );
        }
        expected.end(&mut decoder);
    });
}

/// What a stream comes to, as slices of it.
#[derive(Debug)]
struct Reading<'a> {
    frames: Vec<&'a [u8]>,
    /// Whether it may end where it does.
    end: Result<(), FrameError>,
}

impl<'a> Reading<'a> {
    fn expected(&self) -> Expected<'_, 'a> {
        Expected {
            frames: self.frames.iter(),
            end: self.end,
        }
    }
}

/// What a decoder has yet to say. What it said is not kept: memory is the decoder's alone.
#[derive(Debug, Clone)]
struct Expected<'r, 'a> {
    frames: slice::Iter<'r, &'a [u8]>,
    end: Result<(), FrameError>,
}

impl Expected<'_, '_> {
    fn take(&mut self, frame: &[u8]) {
        assert_eq!(self.frames.next().copied(), Some(frame));
    }

    /// Takes the frames that are there.
    fn take_all(&mut self, decoder: &mut FrameDecoder) {
        while let Ok(Some(frame)) = decoder.next_frame() {
            self.take(&frame);
        }
    }

    /// Takes what is there, after which nothing comes.
    fn end(mut self, decoder: &mut FrameDecoder) {
        self.take_all(decoder);
        assert_eq!(self.frames.next(), None, "a frame is missing");
        assert_eq!(decoder.finish(), self.end);
        let again = decoder.next_frame();
        match self.end {
            Ok(()) => {
                assert_eq!(again, Ok(None));
                assert!(decoder.is_empty());
            }
            Err(FrameError::Truncated { missing }) => {
                assert_eq!(again, Ok(None));
                assert!(missing > 0);
            }
            Err(error) => {
                assert_eq!(again, Err(error), "an error is not repeated");
                assert_eq!(decoder.buffered(), 0, "something is kept after an error");
            }
        }
    }
}

#[derive(Arbitrary)]
struct FramePlan<'a> {
    limit: u16,
    cut: u16,
    handed_over: u8,
    frames: Vec<&'a [u8]>,
}

#[derive(Arbitrary)]
struct ChunkPlan<'a> {
    limit: u16,
    chunk_lens: Vec<u8>,
    stream: &'a [u8],
}

/// The format as its specification reads, on the whole stream at once.
fn read_plainly(limit: usize, mut stream: &[u8]) -> Reading<'_> {
    let mut frames = Vec::new();
    let end = loop {
        if stream.is_empty() {
            break Ok(());
        }
        let len = stream.iter().position(|byte| byte & 0x80 == 0);
        let varint = &stream[..len.map_or(stream.len(), |last| last + 1)];
        let value = varint
            .iter()
            .enumerate()
            .fold(0_u128, |value, (index, byte)| {
                value | u128::from(byte & 0x7f) << (7 * index.min(17))
            });
        if varint.len() > 10 || value > u64::MAX.into() {
            break Err(FrameError::BadLength);
        }
        if len.is_none() {
            break Err(FrameError::Truncated { missing: 1 });
        }
        if varint.len() > 1 && varint.ends_with(&[0]) {
            break Err(FrameError::BadLength);
        }
        if value > limit as u128 {
            break Err(FrameError::TooLong {
                length: value as u64,
                limit,
            });
        }
        let length = value as usize;
        let body = &stream[varint.len()..];
        if body.len() < length {
            break Err(FrameError::Truncated {
                missing: length - body.len(),
            });
        }
        frames.push(&body[..length]);
        stream = &body[length..];
    };
    Reading { frames, end }
}

/// From nothing at all to more than any stream here brings.
const LIMITS: [usize; 5] = [0, 1, 100, 64 * 1024, usize::MAX];
