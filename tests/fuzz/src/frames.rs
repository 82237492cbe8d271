//! Streams of frames.

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
    let outcome = within_budget(stream.len(), || {
        let mut decoder = FrameDecoder::new(limit);
        decoder.push(Bytes::copy_from_slice(stream));
        drain(&mut decoder)
    });
    outcome.assert_is(&read_plainly(limit, stream));

    let mut encoded = BytesMut::new();
    for frame in &outcome.frames {
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
    let fitting: Vec<_> = fitting.map(|frame| Bytes::copy_from_slice(frame)).collect();

    let mut decoder = FrameDecoder::new(limit);
    decoder.push(stream.clone());
    let outcome = drain(&mut decoder);
    assert_eq!(outcome.frames, fitting);
    let end = match plan.frames.get(fitting.len()) {
        None => Ok(()),
        Some(frame) => Err(FrameError::TooLong {
            length: frame.len() as u64,
            limit,
        }),
    };
    assert_eq!(outcome.end, end);

    // Another decoder takes over after some frames, wherever the chunk ended.
    let cut = usize::from(plan.cut).min(stream.len());
    let handed_over = usize::from(plan.handed_over);
    let mut first = FrameDecoder::new(limit);
    first.push(stream.slice(..cut));
    let mut frames = Vec::new();
    while frames.len() < handed_over
        && let Ok(Some(frame)) = first.next_frame()
    {
        frames.push(frame);
    }
    let rest = first.take_rest();
    assert!(first.is_empty());
    let mut second = FrameDecoder::new(limit);
    second.push(rest);
    second.push(stream.slice(cut..));
    let outcome = drain(&mut second);
    frames.extend(outcome.frames);
    assert!(
        first.finish().is_err() || frames == fitting,
        "the rest does not go on where the first decoder stood"
    );
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
    let outcome = within_budget(plan.stream.len(), || {
        let mut decoder = FrameDecoder::new(limit);
        let mut frames = Vec::new();
        let mut rest = Bytes::copy_from_slice(plan.stream);
        let mut cuts = plan.chunk_lens.iter().cycle();
        while !rest.is_empty() {
            let len = cuts.next().map_or(rest.len(), |len| usize::from(*len));
            // An empty chunk changes nothing, and a plan of nothing else must end.
            decoder.push(rest.slice(..0));
            decoder.push(rest.split_to(len.clamp(1, rest.len())));
            frames.extend(drain(&mut decoder).frames);
            assert!(
                decoder.buffered() <= plan.stream.len(),
                "more is buffered than arrived"
            );
        }
        let end = drain(&mut decoder).end;
        Outcome { frames, end }
    });
    outcome.assert_is(&whole);
}

/// What became of a stream.
#[derive(Debug)]
struct Outcome<F = Bytes> {
    frames: Vec<F>,
    /// Whether it may end where it does.
    end: Result<(), FrameError>,
}

impl Outcome {
    /// The frames of a plain reading are slices: copies would be most of what a target costs.
    fn assert_is(&self, plain: &Outcome<&[u8]>) {
        assert_eq!(self.frames, plain.frames);
        assert_eq!(self.end, plain.end);
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

fn drain(decoder: &mut FrameDecoder) -> Outcome {
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = decoder.next_frame() {
        frames.push(frame);
    }
    let end = decoder.finish();
    let again = decoder.next_frame();
    match end {
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
    Outcome { frames, end }
}

/// The format as its specification reads, on the whole stream at once.
fn read_plainly(limit: usize, mut stream: &[u8]) -> Outcome<&[u8]> {
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
    Outcome { frames, end }
}

/// From nothing at all to more than any stream here brings.
const LIMITS: [usize; 5] = [0, 1, 100, 64 * 1024, usize::MAX];
