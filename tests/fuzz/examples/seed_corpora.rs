//! Writes the seeds of every target into its corpus.

use std::path::Path;
use std::{fs, io};

use grinta_fuzz::TARGETS;
use grinta_fuzz::seeds::seeds;

fn main() -> io::Result<()> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for target in TARGETS {
        let corpus = corpora.join(target.name);
        fs::create_dir_all(&corpus)?;
        for (number, seed) in seeds(target).iter().enumerate() {
            fs::write(corpus.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
