//! The application: readings of a sensor in an encoding of its own, and what happens when two
//! programs do not mean the same by it.
//!
//! Nothing here knows which runtime drives it.

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_lite::future::{or, zip};
use grinta_proto::{
    Builder, Codec, CodecError, CodecId, DialCause, Endpoint, Fabric, RefusalReason, StartError,
};

use super::common::{Failure, Nodes};

/// What a sensor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    /// In seconds since the Unix epoch.
    taken_at: u64,
    /// In hundredths of a kelvin.
    temperature: u32,
}

/// Encodes readings: twelve bytes each, the time first, both numbers big-endian.
#[derive(Debug, Clone, Copy)]
struct Compact {
    /// Both sides of a flow name it; if they differ the dial is refused before a message is sent.
    version: u32,
}

const COMPACT: CodecId = CodecId::from_static("compact");
const READING_LEN: usize = 12;

impl Codec<Reading> for Compact {
    fn id(&self) -> CodecId {
        COMPACT
    }

    fn message_type(&self) -> Cow<'static, str> {
        format!("reading/{}", self.version).into()
    }

    fn encode(&self, message: &Reading, buffer: &mut BytesMut) -> Result<(), CodecError> {
        buffer.put_u64(message.taken_at);
        buffer.put_u32(message.temperature);
        Ok(())
    }

    // Within a process readings are moved, not encoded; that they are measured costs nothing.
    fn encoded_len(&self, _: &Reading) -> Result<usize, CodecError> {
        Ok(READING_LEN)
    }

    // What comes from elsewhere may be anything: it is an error, never a panic.
    fn decode(&self, mut frame: Bytes) -> Result<Reading, CodecError> {
        if frame.len() != READING_LEN {
            let what = format_args!("{} bytes instead of {READING_LEN}", frame.len());
            return Err(CodecError::decode(COMPACT, what));
        }
        Ok(Reading {
            taken_at: frame.get_u64(),
            temperature: frame.get_u32(),
        })
    }
}

/// Starts a station and a sensor, sends readings from the one to the other, and ends both.
pub(crate) async fn run(
    start: impl AsyncFn(Builder) -> Result<Fabric, StartError>,
) -> Result<(), Failure> {
    let nodes = Nodes::new()?;
    let station = start(nodes.first("station")?).await?;
    let sensor = start(nodes.beside(&station, "sensor")?).await?;
    sensor.join().await?;
    let endpoint = station.endpoint("readings").await?;

    let (sent, collected) = zip(measure(&sensor), collect(&endpoint)).await;
    sent?;
    collected?;

    // A sensor of tomorrow, whose readings the station would misread.
    let refused = or(dial_as_of_tomorrow(&sensor), async {
        loop {
            // The sensor is told why; the station goes on.
            collect(&endpoint).await.ok();
        }
    });
    println!("the newer sensor was refused: {}", refused.await?);
    sensor.shutdown().await;
    station.shutdown().await;
    Ok(())
}

async fn measure(sensor: &Fabric) -> Result<(), Failure> {
    let dial = sensor.dial("readings").wait_for_name();
    let mut sender = dial.sender::<Reading, _>(Compact { version: 1 }).await?;
    for reading in READINGS {
        sender.send(reading).await?;
    }
    sender.finish().await?;
    println!("the sensor knows that all of its readings arrived");
    Ok(())
}

async fn collect(endpoint: &Endpoint) -> Result<(), Failure> {
    let incoming = endpoint.accept().await?;
    let mut receiver = incoming.receiver::<Reading, _>(Compact { version: 1 })?;
    let mut readings = Vec::new();
    while let Some(reading) = receiver.recv().await? {
        println!("the station has {reading:?}");
        readings.push(reading);
    }
    match readings == READINGS {
        true => Ok(()),
        false => Err("the readings are not those of the sensor".into()),
    }
}

/// The reason for which the dial is refused.
async fn dial_as_of_tomorrow(sensor: &Fabric) -> Result<String, Failure> {
    let dial = sensor.dial("readings");
    let Err(error) = dial.sender::<Reading, _>(Compact { version: 2 }).await else {
        return Err("readings of another version were taken".into());
    };
    let is_mismatch = matches!(
        error.cause,
        DialCause::Refused {
            reason: RefusalReason::Mismatch,
            ..
        }
    );
    match is_mismatch {
        true => Ok(error.to_string()),
        false => Err(error.into()),
    }
}

const READINGS: [Reading; 2] = [
    Reading {
        taken_at: 1_750_000_000,
        temperature: 29_315,
    },
    Reading {
        taken_at: 1_750_000_060,
        temperature: 29_320,
    },
];
