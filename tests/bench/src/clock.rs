//! Two pieces of work, timed in turn.

use std::time::{Duration, Instant};

const SAMPLES: usize = 21;
/// Shorter samples would measure the clock.
const SAMPLE: Duration = Duration::from_millis(5);

/// The medians of one run of each.
pub struct Pair {
    /// Of the first.
    pub one: Duration,
    /// Of the second.
    pub other: Duration,
}

impl Pair {
    /// How many times as long the first takes.
    pub fn ratio(&self) -> String {
        format!("{:.2}", self.one.as_secs_f64() / self.other.as_secs_f64())
    }
}

/// Times two short pieces of work; each sample repeats one of them.
pub fn repeated(mut one: impl FnMut(), mut other: impl FnMut()) -> Pair {
    let (ones, others) = (repeats(&mut one), repeats(&mut other));
    let (mut first, mut second) = (Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES));
    for _ in 0..SAMPLES {
        first.push(each(ones, &mut one));
        second.push(each(others, &mut other));
    }
    medians(&first, &second)
}

/// Of samples that were taken in turn.
pub fn medians(one: &[Duration], other: &[Duration]) -> Pair {
    Pair { one: median(one), other: median(other) }
}

fn repeats(work: &mut impl FnMut()) -> u32 {
    let start = Instant::now();
    let mut repeats = 0;
    while start.elapsed() < SAMPLE {
        work();
        repeats += 1;
    }
    repeats
}

fn each(repeats: u32, work: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..repeats {
        work();
    }
    start.elapsed() / repeats
}

fn median(samples: &[Duration]) -> Duration {
    let mut samples = samples.to_vec();
    samples.sort();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

/// Milliseconds with as many digits as mean something.
pub fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    if milliseconds < 10.0 { format!("{milliseconds:.3} ms") } else { format!("{milliseconds:.0} ms") }
}

/// Megabytes a second.
pub fn throughput(bytes: usize, time: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "texts are far below 2^52 bytes")]
    let bytes = bytes as f64;
    format!("{:.1} MB/s", bytes / time.as_secs_f64() / 1e6)
}
